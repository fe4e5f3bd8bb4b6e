"""What the home-feed page shows beside the model's answers, read from the shop's own files."""

from collections import defaultdict
from itertools import islice

from pipeline.tables import read_items, read_rows
from schema import names
from serving.ui import Shown

_USERS, _HISTORY = 200, 50  # that the page offers, and events of each
_ROWS = 200_000  # of the log that are read, from its end


def read_shown(model: str, catalog: str | None, behaviors: str | None) -> Shown:
    """Reads titles, and the users who did most of late with what they did.

    Args:
      model: its name in the REST API.
      catalog, behaviors: folders; without one, ids stand for themselves, or no user is offered.

    Raises:
      InputError: a folder cannot be read.
    """
    items = read_items(catalog, (names.TITLE, names.CATEGORY, names.PRICE)) if catalog else {}
    columns = (names.USER_ID, names.ITEM_ID, names.EVENT, names.TIMESTAMP)
    events: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
    rows = read_rows(behaviors, names.BEHAVIORS, columns, newest_first=True) if behaviors else iter(())
    for row in islice(rows, _ROWS):
        if len(row) == len(columns):
            events[row[names.USER_ID]].append((row[names.TIMESTAMP], row[names.ITEM_ID], row[names.EVENT]))
    most = sorted(events, key=lambda user: (-len(events[user]), user))[:_USERS]
    users = [
        {
            "id": user,
            "history": [[item, event, moment] for moment, item, event in sorted(events[user], reverse=True)[:_HISTORY]],
        }
        for user in most
    ]
    return Shown(model, items, users)
