"""Rules of rows beside those of the same user, or of the same item: which of them break it?

The rows are in the order of their files, and all rows of a span with the same user (in the catalogue: item) are there.
"""

import numpy as np
import pyarrow.compute as pc

from components.rules.registry import Kind, Limits, Rows, rule
from schema import names

_B, _C, _U = names.BEHAVIORS, names.CATALOG, names.USERS


def repeated(codes: np.ndarray) -> np.ndarray:
    """[rows] bool: every row but the first of those with the same code."""
    _, first = np.unique(codes, return_index=True)
    result = np.ones(len(codes), bool)
    result[first] = False
    return result


@rule(
    Kind.GROUP,
    (_B,),
    "",
    "is there twice (same user, item, event, timestamp and value)",
    "write each event once",
    max_share=0.1,
)
def duplicate_event(rows: Rows, limits: Limits) -> np.ndarray:
    return repeated(rows.codes(names.USER_ID, names.ITEM_ID, names.EVENT, names.TIMESTAMP, names.VALUE))


@rule(
    Kind.GROUP,
    (_C,),
    names.ITEM_ID,
    "has an item_id that another row of the same day has too",
    "keep one row for each item",
)
def duplicate_item(rows: Rows, limits: Limits) -> np.ndarray:
    return repeated(rows.codes(names.ITEM_ID))


@rule(
    Kind.GROUP,
    (_U,),
    names.USER_ID,
    "has a user_id that another row of the same day has too",
    "keep one row for each user",
)
def duplicate_user(rows: Rows, limits: Limits) -> np.ndarray:
    return repeated(rows.codes(names.USER_ID))


@rule(
    Kind.GROUP,
    (_B,),
    names.USER_ID,
    "is of a user with more than gate.max_events_per_hour events in an hour: a bot, or many people under one id",
    "filter the crawler at its source, or raise the limit",
    severity="warning",
    rows="quarantine",
)
def bot(rows: Rows, limits: Limits) -> np.ndarray:
    """All rows of a user of whom any clock hour holds more events than a person makes."""
    users = rows.codes(names.USER_ID)
    hours = rows.numbers(names.TIMESTAMP, 0) // 3600
    _, hour = np.unique(hours, return_inverse=True)
    _, cell, counts = np.unique(users * (hour.max(initial=0) + 1) + hour, return_inverse=True, return_counts=True)
    return np.isin(users, users[(counts > limits.max_events_per_hour)[cell] & rows.has(names.USER_ID)])


@rule(
    Kind.GROUP,
    (_B,),
    names.EVENT,
    "is a purchase of an item that its user did not look at that day, though views are logged",
    "look for views that were lost, or a source that does not log them",
    severity="warning",
    max_share=0.01,  # of all rows, of which few are purchases
    rows="keep",
)
def purchase_without_view(rows: Rows, limits: Limits) -> np.ndarray:
    looks = rows.where(pc.is_in(rows[names.EVENT], _LOOKS))
    purchases = rows.where(pc.equal(rows[names.EVENT], b"purchase"))
    if not looks.any():
        return np.zeros(len(rows), bool)
    pairs = rows.codes(names.USER_ID, names.ITEM_ID)
    return purchases & ~np.isin(pairs, pairs[looks])


_LOOKS = pc.cast(["view", "click"], "binary")
