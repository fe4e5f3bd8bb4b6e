"""Rules of single rows: which of them break it? The first that is not to keep a row takes it out."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.rules.registry import DAY, Kind, Limits, Rows, rule
from schema import names

_B, _C, _U = names.BEHAVIORS, names.CATALOG, names.USERS
_NULL_WORDS = ("null", "none", "nan", "n/a", "na", "undefined", "unknown", "(null)", "nil")


@rule(Kind.ROW, (_B, _C, _U), "", "is not CSV of its file's header", "write the file again", keepable=False)
def broken_row(rows: Rows, limits: Limits) -> np.ndarray:
    return rows.has(names.BROKEN_ROW)


@rule(Kind.ROW, (_B, _C, _U), "", "holds bytes that are not UTF-8", "convert the file to UTF-8", keepable=False)
def invalid_utf8(rows: Rows, limits: Limits) -> np.ndarray:
    broken = np.zeros(len(rows), bool)
    for column in rows.texts:
        try:
            rows[column].cast(pa.string())
        except pa.ArrowInvalid:
            broken |= np.array([value is not None and not _is_utf8(value) for value in rows[column].to_pylist()])
    return broken


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
        return True
    except UnicodeDecodeError:
        return False


@rule(Kind.ROW, (_B, _U), names.USER_ID, "has no user_id", "log a user or a session id", max_share=0.3, keepable=False)
def missing_user(rows: Rows, limits: Limits) -> np.ndarray:
    return ~rows.has(names.USER_ID)


@rule(Kind.ROW, (_B, _C), names.ITEM_ID, "has no item_id", "mend the log", max_share=0.01, keepable=False)
def missing_item(rows: Rows, limits: Limits) -> np.ndarray:
    return ~rows.has(names.ITEM_ID)


@rule(Kind.ROW, (_B,), names.EVENT, "has no event", "mend the log", max_share=0.01, keepable=False)
def missing_event(rows: Rows, limits: Limits) -> np.ndarray:
    return ~rows.has(names.EVENT)


@rule(
    Kind.ROW, (_B,), names.TIMESTAMP, "has no timestamp in whole seconds since 1970 UTC", "mend the log", keepable=False
)
def bad_timestamp(rows: Rows, limits: Limits) -> np.ndarray:
    return ~rows.has(names.TIMESTAMP)


@rule(
    Kind.ROW,
    (_B, _C, _U),
    "",
    "has a user_id or item_id with spaces around it or a line break",
    "mend the ids",
    keepable=False,
)
def bad_id(rows: Rows, limits: Limits) -> np.ndarray:
    """Ids go into vocabularies, one a line."""
    broken = np.zeros(len(rows), bool)
    for column in (names.USER_ID, names.ITEM_ID):
        if column in rows:
            odd = pc.match_substring_regex(rows[column], r"^\s|\s$|[\r\n\x00]")
            broken |= rows.where(odd)
    return broken


@rule(
    Kind.ROW,
    (_B, _C, _U),
    "",
    "has a word for nothing (null, none, nan, undefined …) as its user_id or item_id",
    "leave the id empty where there is none",
    max_share=0.01,
)
def null_word(rows: Rows, limits: Limits) -> np.ndarray:
    broken = np.zeros(len(rows), bool)
    for column in (names.USER_ID, names.ITEM_ID):
        if column in rows:
            pattern = "(?i)^(" + "|".join(word.replace("(", r"\(").replace(")", r"\)") for word in _NULL_WORDS) + ")$"
            broken |= rows.where(pc.match_substring_regex(rows[column], pattern))
    return broken


@rule(
    Kind.ROW,
    (_B,),
    names.ITEM_ID,
    "has an item_id that is not of gate.item_id_pattern",
    "leave out what is no product, or mend the pattern",
    severity="warning",
    max_share=0.02,
)
def odd_item_id(rows: Rows, limits: Limits) -> np.ndarray:
    if not limits.item_id_pattern:
        return np.zeros(len(rows), bool)
    fits = pc.match_substring_regex(rows[names.ITEM_ID], f"^(?:{limits.item_id_pattern})$")
    return rows.has(names.ITEM_ID) & ~rows.where(fits)


@rule(
    Kind.ROW,
    (_B,),
    names.EVENT,
    "has an event that the configuration does not weigh",
    "add it under `events`, or mend the log",
    max_share=0.01,
    keepable=False,
)
def unknown_event(rows: Rows, limits: Limits) -> np.ndarray:
    known = pc.is_in(rows[names.EVENT], pa.array([event.encode() for event in limits.events], pa.binary()))
    return rows.has(names.EVENT) & ~rows.where(known)


@rule(
    Kind.ROW,
    (_B,),
    names.TIMESTAMP,
    "is from before 1970",
    "write timestamps as seconds since 1970 UTC",
)
def negative_timestamp(rows: Rows, limits: Limits) -> np.ndarray:
    return rows.where(pc.less(rows[names.TIMESTAMP], 0))


@rule(
    Kind.ROW,
    (_B,),
    names.TIMESTAMP,
    "is from the future",
    "mend the clock, or write seconds instead of milliseconds",
)
def future_timestamp(rows: Rows, limits: Limits) -> np.ndarray:
    return rows.where(pc.greater(rows[names.TIMESTAMP], limits.latest_timestamp))


@rule(
    Kind.ROW,
    (_B,),
    names.TIMESTAMP,
    "is not of its folder's day (UTC)",
    "put each row into the folder of its day, look for a copied day or a time zone, or set gate.day_tolerance_hours",
    max_share=0.01,
)
def wrong_day(rows: Rows, limits: Limits) -> np.ndarray:
    if rows.day is None:
        return np.zeros(len(rows), bool)
    slack = limits.day_tolerance_hours * 3600
    moments = rows.numbers(names.TIMESTAMP, rows.day)
    return (moments < rows.day - slack) | (moments >= rows.day + DAY + slack)


@rule(
    Kind.ROW,
    (_B,),
    names.EVENT,
    "has an event of weight 0, such as a return",
    "nothing, if these are no signs of interest",
    severity="info",
    max_share=1.0,
    keepable=False,
)
def weightless_event(rows: Rows, limits: Limits) -> np.ndarray:
    weightless = pa.array([event.encode() for event, weight in limits.events.items() if not weight], pa.binary())
    return rows.where(pc.is_in(rows[names.EVENT], weightless))


@rule(
    Kind.ROW,
    (_B, _C, _U),
    "",
    "has text where a number belongs",
    "write plain numbers, with a point",
    max_share=0.01,
    rows="keep",
)
def unreadable_value(rows: Rows, limits: Limits) -> np.ndarray:
    """A timestamp that cannot be read is `bad_timestamp`."""
    first = rows[names.UNREADABLE]
    return rows.has(names.UNREADABLE) & ~rows.where(pc.equal(first, names.TIMESTAMP.encode()))


@rule(
    Kind.ROW,
    (_B,),
    names.VALUE,
    "has a value that is negative, infinite or not a number",
    "mend the value, or give such rows an event of their own",
    max_share=0.01,
)
def bad_value(rows: Rows, limits: Limits) -> np.ndarray:
    values = rows.numbers(names.VALUE, np.nan)
    return rows.has(names.VALUE) & ~((values >= 0) & (values < np.inf))


@rule(
    Kind.ROW,
    (_B, _C, _U),
    "",
    "has no value in a column that gate.expected names",
    "fill the column",
    severity="warning",
    max_share=0.05,
    rows="keep",
)
def missing_value(rows: Rows, limits: Limits) -> np.ndarray:
    missing = np.zeros(len(rows), bool)
    for column in limits.expected.get(rows.table, ()):
        missing |= ~rows.has(column)
    return missing


@rule(
    Kind.ROW,
    (_B, _C, _U),
    "",
    "has a text longer than the schema's max_bytes",
    "mend the text, or raise the bound in the schema",
)
def long_text(rows: Rows, limits: Limits) -> np.ndarray:
    too_long = np.zeros(len(rows), bool)
    for column, most in limits.max_bytes.get(rows.table, {}).items():
        if column in rows:
            too_long |= rows.where(pc.greater(pc.binary_length(rows[column]), most))
    return too_long


@rule(
    Kind.ROW,
    (_C,),
    names.TITLE,
    "has no title",
    "add titles to the catalog",
    max_share=0.05,
    rows="keep",
)
def missing_title(rows: Rows, limits: Limits) -> np.ndarray:
    return ~rows.has(names.TITLE)


@rule(
    Kind.ROW,
    (_C,),
    names.PRICE,
    "has a price that is negative, infinite or not a number",
    "mend the price",
    rows="keep",
)
def bad_price(rows: Rows, limits: Limits) -> np.ndarray:
    prices = rows.numbers(names.PRICE, np.nan)
    return rows.has(names.PRICE) & ~((prices >= 0) & (prices < np.inf))


@rule(
    Kind.ROW,
    (_B, _C, _U),
    "",
    "holds text that was decoded wrongly and encoded again (`Ã©` for `é`, or the replacement character)",
    "read the source as UTF-8",
    severity="warning",
    max_share=0.01,
    rows="keep",
)
def garbled_text(rows: Rows, limits: Limits) -> np.ndarray:
    garbled = np.zeros(len(rows), bool)
    for column in rows.texts:
        for sign in (b"\xc3\x83\xc2", b"\xc3\x82\xc2", b"\xc3\x83\xc5", b"\xef\xbf\xbd"):
            garbled |= rows.where(pc.match_substring(rows[column], sign))
    return garbled
