"""Rules of a day beside the days before it.

A rule takes the days' profiles in order (`profile_of`, merged by `merge_profiles`) and the limits, and returns what it
found. It compares a day with earlier ones only, so that a day's verdict does not change when later days come in.
"""

import datetime as dt
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from components.rules.registry import DAY, Finding, Kind, Limits, Rows, rule
from schema import names
from schema.days import day_of

_B, _C, _U = names.BEHAVIORS, names.CATALOG, names.USERS
_MIN_ROWS = 50  # a day or group with fewer says nothing about shares
_MEMORY = 28  # days before a day that it is compared with
Profile = dict[str, Any]


def profile_of(rows: Rows, span: str, kept: np.ndarray) -> Profile:
    """What the rules below need to know of a part of a span's rows; a JSON object.

    Args:
      kept: [rows] bool, the rows that no rule takes out. All but `rows` and `shapes` is of them: a bot moves no clock.
    """
    profile: Profile = {
        "span": span,
        "rows": len(rows),
        "kept": int(kept.sum()),
        "present": {c: int((rows.has(c) & kept).sum()) for c in rows.columns if c not in names.ROW_COLUMNS},
        "shapes": {c: _shapes(rows, c) for c in (names.USER_ID, names.ITEM_ID) if c in rows},
        "hours": {},
        "values": {},
    }
    if rows.table == _B:
        profile["hours"] = _hours(rows, kept)
        profile["values"] = {
            event: _scale(rows.numbers(names.VALUE)[kept & rows.where(pc.equal(rows[names.EVENT], event.encode()))])
            for event in _event_names(rows)
        }
    elif names.PRICE in rows:
        profile["values"] = {names.PRICE: _scale(rows.numbers(names.PRICE))}
    return profile


def _event_names(rows: Rows) -> list[str]:
    events = [e for e in rows[names.EVENT].unique().to_pylist() if e is not None]
    return sorted(e.decode("utf-8", "replace") for e in events)[:50]


def _scale(values: np.ndarray) -> dict[str, Any]:
    """Count, sum, largest, and a histogram of quarter octaves, whose median no single value can move."""
    finite = values[np.isfinite(values) & (values > 0)]
    octaves, counts = np.unique(np.floor(4 * np.log2(finite)).astype(int), return_counts=True)
    return {
        "count": len(finite),
        "sum": float(finite.sum()),
        "max": float(finite.max(initial=0.0)),
        "bins": {str(octave): count for octave, count in zip(octaves.tolist(), counts.tolist(), strict=True)},
    }


def _median(scale: dict[str, Any]) -> float:
    bins = sorted((int(octave), count) for octave, count in scale["bins"].items())
    places = np.cumsum([count for _, count in bins])
    return float(2 ** ((bins[int(np.searchsorted(places, scale["count"] / 2))][0] + 0.5) / 4))


def _hours(rows: Rows, kept: np.ndarray) -> dict[str, list[int]]:
    """Source -> rows in each hour of the (UTC) day; the source of rows without one is ""."""
    moments, present = rows.numbers(names.TIMESTAMP, 0), rows.has(names.TIMESTAMP) & kept
    hours = np.where(moments >= 0, moments % DAY // 3600, 0)
    sources = rows[names.SOURCE].fill_null(b"") if names.SOURCE in rows else None
    found = sources.unique().to_pylist()[:20] if sources is not None else [b""]
    return {
        source.decode("utf-8", "replace"): np.bincount(
            hours[present & (rows.where(pc.equal(sources, source)) if sources is not None else True)].astype(int),
            minlength=24,
        ).tolist()
        for source in found
    }


def _shapes(rows: Rows, column: str) -> dict[str, int]:
    """How ids look: `P000123` is `A9`. Shape -> rows, the ten most frequent."""
    counts: Counter[str] = Counter()
    for found in rows[column].value_counts().to_pylist():
        if found["values"] is not None:
            counts[_shape(found["values"].decode("utf-8", "replace"))] += found["counts"]
    return dict(counts.most_common(10))


def _shape(value: str) -> str:
    return re.sub(r"\d+", "9", re.sub(r"[^\W\d_]+", "A", value))[:20]


def merge_profiles(parts: Sequence[Profile]) -> Profile:
    """The profile of a span from those of its parts."""
    merged: Profile = {"span": parts[0]["span"], "rows": 0, "kept": 0}
    merged |= {"present": {}, "shapes": {}, "hours": {}, "values": {}}
    for part in parts:
        merged["rows"] += part["rows"]
        merged["kept"] += part["kept"]
        for column, count in part["present"].items():
            merged["present"][column] = merged["present"].get(column, 0) + count
        for column, shapes in part["shapes"].items():
            merged["shapes"][column] = dict(Counter(merged["shapes"].get(column, {})) + Counter(shapes))
        for source, hours in part["hours"].items():
            before = merged["hours"].get(source, [0] * 24)
            merged["hours"][source] = [a + b for a, b in zip(before, hours, strict=True)]
        for event, scale in part["values"].items():
            merged["values"][event] = _merge_scales(merged["values"].get(event), scale)
    return merged


def _merge_scales(a: dict[str, Any] | None, b: dict[str, Any]) -> dict[str, Any]:
    if a is None:
        return b
    return {
        "count": a["count"] + b["count"],
        "sum": a["sum"] + b["sum"],
        "max": max(a["max"], b["max"]),
        "bins": dict(Counter(a["bins"]) + Counter(b["bins"])),
    }


def _with_earlier(days: Sequence[Profile]) -> Iterator[tuple[Profile, Sequence[Profile]]]:
    for i, day in enumerate(days):
        yield day, days[max(0, i - _MEMORY) : i]


@rule(
    Kind.DAY,
    (_B,),
    "",
    "is a day with far fewer rows than its weekday usually has",
    "look for files that are missing or cut off",
    severity="warning",
    rows="keep",
)
def few_rows(days: Sequence[Profile], limits: Limits) -> Iterator[Finding]:
    for day, earlier in _with_earlier(days):
        weekday = _weekday(day)
        usual = [d["rows"] for d in earlier if weekday is not None and _weekday(d) == weekday]
        if len(usual) >= 3:
            middle = statistics.median(usual)
            # A small shop's days differ by chance: three standard deviations of a Poisson count are allowed for.
            if day["rows"] < min(limits.min_day_share * middle, middle - 3 * middle**0.5):
                yield Finding(day["span"], f"has {day['rows']} rows, such weekdays before it {middle:.0f}")


def _weekday(day: Profile) -> int | None:
    date = day_of(day["span"])
    return date.weekday() if date else None


@rule(
    Kind.DAY,
    (_B,),
    "",
    "is a day that follows a gap which its weekdays do not usually have",
    "look for the folder of the missing day",
    severity="warning",
    rows="keep",
)
def missing_day(days: Sequence[Profile], limits: Limits) -> Iterator[Finding]:
    dates = [day_of(day["span"]) for day in days]
    for i in range(1, len(days)):
        before, after = dates[i - 1], dates[i]
        if before is None or after is None:
            continue
        known = set(dates[:i])
        gap = [before + dt.timedelta(days=step) for step in range(1, (after - before).days)]
        lost = [day for day in gap if all(day - dt.timedelta(days=7 * week) in known for week in (1, 2, 3))]
        if lost:
            yield Finding(days[i]["span"], f"comes after {', '.join(map(str, lost[:3]))}, which are not there")


@rule(
    Kind.DAY,
    (_B,),
    names.TIMESTAMP,
    "is a day whose hours are those of earlier days, moved",
    "look at the time zone of the log's clock",
    severity="error",
    rows="keep",
)
def clock_shift(days: Sequence[Profile], limits: Limits) -> Iterator[Finding]:
    for day, earlier in _with_earlier(days):
        if len(earlier) >= 3:
            weekday = [d for d in earlier if _weekday(d) == _weekday(day)]  # people get up later on Sundays
            like = weekday if len(weekday) >= 3 else earlier
            usual = _sum_hours([h for d in like for h in d["hours"].values()])
            shift = hours_between(_sum_hours(list(day["hours"].values())), usual)
            if abs(shift) >= limits.max_clock_shift_hours:
                yield Finding(day["span"], f"looks like the days before it moved by {shift:+d} hours")


@rule(
    Kind.DAY,
    (_B,),
    names.SOURCE,
    "is a day on which the clock of one source runs apart from the others'",
    "set the clock of that source, or its time zone",
    severity="error",
    rows="keep",
)
def clock_skew(days: Sequence[Profile], limits: Limits) -> Iterator[Finding]:
    for day, earlier in _with_earlier(days):
        for source, hours in sorted(day["hours"].items()):
            others = [h for other, h in day["hours"].items() if other != source]
            usual = [d["hours"][source] for d in earlier if source in d["hours"]]
            if not others or sum(hours) * 2 > sum(map(sum, others)) + sum(hours):
                continue  # the one with most rows is what the others are compared with
            shift = hours_between(hours, _sum_hours(others))
            if abs(shift) >= limits.max_clock_shift_hours and (
                len(usual) < 3 or abs(hours_between(hours, _sum_hours(usual))) >= limits.max_clock_shift_hours
            ):
                yield Finding(day["span"], f"has rows of {source or 'no source'} {shift:+d} hours beside the others")


def _sum_hours(hours: list[list[int]]) -> np.ndarray:
    return np.sum(np.array(hours or [[0] * 24], float), axis=0)


def hours_between(hours: Sequence[int] | np.ndarray, usual: np.ndarray) -> int:
    """By how many hours one daily profile is the other, moved; 0 where neither is sure.

    The rotation that correlates best counts when it explains clearly more than none does, in profiles of enough rows.
    """
    mine = np.asarray(hours, float)
    if mine.sum() < 2 * _MIN_ROWS or usual.sum() < 2 * _MIN_ROWS or mine.std() == 0 or usual.std() == 0:
        return 0
    shifts = range(-11, 13)
    fits = [float(np.corrcoef(np.roll(usual, shift), mine)[0, 1]) for shift in shifts]
    best, still = max(fits), fits[11]
    return shifts[fits.index(best)] if best > 0.8 and best - still > 0.2 else 0


@rule(
    Kind.DAY,
    (_B, _C),
    names.VALUE,
    "is a day on which the scale of a number changed",
    "look for another rating scale, currency or unit",
    severity="error",
    rows="keep",
)
def scale_changed(days: Sequence[Profile], limits: Limits) -> Iterator[Finding]:
    """The median leaves the range of earlier days' medians by far; of ratings, so does the mean or the best grade."""
    for day, earlier in _with_earlier(days):
        for event, scale in sorted(day["values"].items()):
            before = [d["values"][event] for d in earlier if d["values"].get(event, {}).get("count", 0) >= _MIN_ROWS]
            if scale["count"] < _MIN_ROWS or len(before) < 3:
                continue
            is_rating = event == "rating"
            middle = (lambda s: s["sum"] / s["count"]) if is_rating else _median
            now, usual, best = middle(scale), [middle(b) for b in before], max(b["max"] for b in before)
            factor = limits.max_scale_change if is_rating else 4 * limits.max_scale_change
            moved = now > factor * max(usual) or now * factor < min(usual)
            if moved or (is_rating and scale["max"] > 1.2 * best):
                yield Finding(
                    day["span"],
                    f"has a {event} of {now:.3g} in the middle and {scale['max']:.4g} at most; days before it, "
                    f"{min(usual):.3g} to {max(usual):.3g} and {best:.4g}",
                )


@rule(
    Kind.DAY,
    (_B, _C, _U),
    "",
    "is a day on which a column has lost its values",
    "look for a column that was renamed or dropped",
    severity="error",
    rows="keep",
)
def column_emptied(days: Sequence[Profile], limits: Limits) -> Iterator[Finding]:
    for day, earlier in _with_earlier(days):
        for column in day["present"]:
            shares = [d["present"].get(column, 0) / d["kept"] for d in earlier if d["kept"] >= _MIN_ROWS]
            if len(shares) < 3 or day["kept"] < _MIN_ROWS:
                continue
            usual, now = statistics.median(shares), day["present"][column] / day["kept"]
            if now < 0.25 * usual and usual * day["kept"] >= 20:
                yield Finding(day["span"], f"has a {column} in {now:.1%} of its rows, days before it in {usual:.1%}")


@rule(
    Kind.DAY,
    (_B, _C, _U),
    "",
    "is a day whose ids look different from those of the days before",
    "look for an id that is written in another form, such as without its leading letters or zeros",
    severity="error",
    rows="keep",
)
def id_format_changed(days: Sequence[Profile], limits: Limits) -> Iterator[Finding]:
    for day, earlier in _with_earlier(days):
        for column, shapes in sorted(day["shapes"].items()):
            known = {shape for d in earlier for shape in d["shapes"].get(column, {})}
            total = sum(shapes.values())
            new = {shape: count for shape, count in shapes.items() if shape not in known}
            if known and total >= _MIN_ROWS and sum(new.values()) > 0.2 * total:
                most = max(new, key=lambda shape: new[shape])
                yield Finding(day["span"], f"has {column}s like {most!r}, days before it like {sorted(known)[0]!r}")
