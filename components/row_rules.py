"""Rules about single rows that a TFDV schema cannot say. Each is one small function; adding one is adding one entry.

A rule takes a decoded row (feature -> list of values) and says whether the row breaks it. InteractionGen leaves out
rows that break one; how many may do so before the run stops is the configuration's `gate.max_share`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from schema import names

MAX_ID_BYTES = 256


@dataclass(frozen=True)
class Limits:
    """What rules compare with.

    Attributes:
      events: the events that the configuration knows.
      latest_timestamp: seconds since 1970 UTC after which a row is in the future.
      max_title_bytes: length above which a title is taken for a broken row.
    """

    events: frozenset[str]
    latest_timestamp: int
    max_title_bytes: int


Row = dict[str, list[Any]]
Rule = Callable[[Row, Limits], bool]


def _missing(name: str) -> Rule:
    return lambda row, limits: name not in row and names.BROKEN_ROW not in row


def _broken_row(row: Row, limits: Limits) -> bool:
    return names.BROKEN_ROW in row


def _unknown_event(row: Row, limits: Limits) -> bool:
    return names.EVENT in row and row[names.EVENT][0].decode("utf-8", "replace") not in limits.events


def _negative_timestamp(row: Row, limits: Limits) -> bool:
    return names.TIMESTAMP in row and row[names.TIMESTAMP][0] < 0


def _future_timestamp(row: Row, limits: Limits) -> bool:
    return names.TIMESTAMP in row and row[names.TIMESTAMP][0] > limits.latest_timestamp


def _invalid_utf8(row: Row, limits: Limits) -> bool:
    return any(isinstance(v, bytes) and not _is_utf8(v) for values in row.values() for v in values)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
        return True
    except UnicodeDecodeError:
        return False


def _bad_id(row: Row, limits: Limits) -> bool:
    """Ids go into vocabularies, one a line: no line breaks, no spaces around, no more than `MAX_ID_BYTES`."""
    ids = [row[name][0] for name in (names.USER_ID, names.ITEM_ID) if name in row]
    return any(len(i) > MAX_ID_BYTES or i.strip() != i or any(c in i for c in (b"\n", b"\r", b"\0")) for i in ids)


def _long_title(row: Row, limits: Limits) -> bool:
    return names.TITLE in row and len(row[names.TITLE][0]) > limits.max_title_bytes


def _bad_price(row: Row, limits: Limits) -> bool:
    """Negative, infinite or not a number."""
    return names.PRICE in row and not 0 <= row[names.PRICE][0] < float("inf")


# Rule -> does the row break it. The first that a row breaks is the one that is counted.
RULES: dict[str, dict[str, Rule]] = {
    names.BEHAVIORS: {
        "broken_row": _broken_row,
        "invalid_utf8": _invalid_utf8,
        "missing_user": _missing(names.USER_ID),
        "missing_item": _missing(names.ITEM_ID),
        "missing_event": _missing(names.EVENT),
        "bad_timestamp": _missing(names.TIMESTAMP),
        "bad_id": _bad_id,
        "unknown_event": _unknown_event,
        "negative_timestamp": _negative_timestamp,
        "future_timestamp": _future_timestamp,
    },
    names.CATALOG: {
        "broken_row": _broken_row,
        "invalid_utf8": _invalid_utf8,
        "missing_item": _missing(names.ITEM_ID),
        "bad_id": _bad_id,
        "long_title": _long_title,
        "missing_title": _missing(names.TITLE),
        "bad_price": _bad_price,
    },
}

# Rows of these rules are used all the same: the item is placed by what it has.
KEPT = frozenset({"missing_title", "bad_price"})

# Rule -> (what is wrong with the row, what to do). The last three compare rows, so RowValidator itself counts them.
WORDS: dict[str, tuple[str, str]] = {
    "broken_row": ("is not CSV of its file's header", "write the file again"),
    "invalid_utf8": ("holds bytes that are not UTF-8", "convert the file to UTF-8"),
    "missing_user": ("has no user_id", "log a user or a session id"),
    "missing_item": ("has no item_id", "mend the log"),
    "missing_event": ("has no event", "mend the log"),
    "bad_timestamp": ("has no timestamp in whole seconds since 1970 UTC", "mend the log"),
    "bad_id": ("has an id with spaces around it, a line break, or over 256 bytes", "mend the ids"),
    "unknown_event": ("has an event that the configuration does not weigh", "add it under `events`, or mend the log"),
    "negative_timestamp": ("is from before 1970", "write timestamps as seconds since 1970 UTC"),
    "future_timestamp": ("is from the future", "mend the clock, or write seconds instead of milliseconds"),
    "long_title": ("has a title longer than gate.max_title_bytes", "mend the title, or raise the limit"),
    "missing_title": ("has no title", "add titles to the catalog"),
    "bad_price": ("has a price that is negative or no number", "mend the price"),
    "unknown_item": ("is about an item that is not in the catalog", "add the item to the catalog"),
    "duplicate_event": ("is there twice", "write each event once"),
    "duplicate_item": ("has an item_id that another catalog row has too", "keep one row for each item"),
}


def first_broken(row: Row, table: str, limits: Limits) -> str | None:
    """The name of the first rule of `table` that the row breaks, or None."""
    for name, breaks in RULES[table].items():
        if breaks(row, limits):
            return name
    return None


def is_usable(row: Row, table: str, limits: Limits) -> bool:
    """Whether InteractionGen takes the row."""
    broken = first_broken(row, table, limits)
    return broken is None or broken in KEPT
