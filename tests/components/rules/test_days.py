import datetime as dt
import math

import numpy as np
import pytest

from components.rules import RULES, Limits
from components.rules.days import hours_between, merge_profiles, profile_of
from schema import names
from tests.components.rules.test_rows import table

START = dt.date(2025, 1, 6)
USUAL_HOURS = [2, 1, 1, 1, 1, 2, 4, 9, 15, 22, 30, 34, 36, 34, 30, 28, 27, 29, 34, 40, 38, 26, 14, 6]


def day(number, rows=500, **changes):
    span = str(START + dt.timedelta(days=number))
    usual = {
        "span": span,
        "rows": rows,
        "kept": rows,
        "present": {names.USER_ID: rows, names.VALUE: rows // 2},
        "shapes": {names.USER_ID: {"A9": rows}},
        "hours": {"": USUAL_HOURS},
        "values": {"rating": scale(4.0), "purchase": scale(2.0)},
    }
    return {**usual, **changes}


def scale(value, count=100, most=None):
    octave = math.floor(4 * math.log2(value))
    return {"count": count, "sum": value * count, "max": most or 1.25 * value, "bins": {str(octave): count}}


def found(rule, days, limits=None):
    return [finding.span for finding in RULES[rule].breaks(days, limits or Limits())]


DAY_RULES = [name for name, rule in RULES.items() if rule.kind.value == "day"]


@pytest.mark.parametrize("rule", DAY_RULES)
def test_usual_days_and_the_first_ones_break_nothing(rule):
    assert found(rule, [day(n, rows=500 + 20 * (n % 5)) for n in range(30)]) == []
    assert found(rule, [day(0), day(1, rows=5)]) == []


def test_a_day_is_compared_with_its_weekday():
    days = [day(n, rows=20 if n % 7 == 6 else 500) for n in range(28)]  # Sundays are quiet
    assert found("few_rows", days) == []
    days[24] = day(24, rows=100)
    assert found("few_rows", days) == [days[24]["span"]]


def test_a_small_shop_s_day_may_be_small_by_chance():
    days = [day(n, rows=6) for n in range(28)]
    days[24] = day(24, rows=1)
    assert found("few_rows", days) == []


def test_a_day_that_is_missing_is_told_unless_its_weekday_usually_is():
    days = [day(n) for n in range(35) if n % 7 != 5]  # closed on Saturdays
    assert found("missing_day", days) == []
    lost = days.pop(25)
    assert found("missing_day", days) == [days[25]["span"]]
    assert lost["span"] in next(iter(RULES["missing_day"].breaks(days, Limits()))).detail


@pytest.mark.parametrize("shift", [-8, -3, 3, 5, 12])
def test_a_day_s_hours_that_are_moved_are_told(shift):
    moved = USUAL_HOURS[-shift:] + USUAL_HOURS[:-shift]
    days = [*(day(n) for n in range(7)), day(7, hours={"": moved}), day(8)]
    (finding,) = RULES["clock_shift"].breaks(days, Limits())
    assert finding.span == days[7]["span"] and f"{shift:+d} hours" in finding.detail


def test_a_weekday_with_hours_of_its_own_is_usual():
    late = USUAL_HOURS[-5:] + USUAL_HOURS[:-5]
    days = [day(n, hours={"": late if n % 7 == 6 else USUAL_HOURS}) for n in range(35)]
    assert found("clock_shift", days)[3:] == []


def test_flat_or_few_hours_say_nothing():
    assert hours_between([10] * 24, np.array(USUAL_HOURS, float)) == 0
    assert hours_between([0] * 23 + [9], np.array(USUAL_HOURS, float)) == 0


def test_one_source_s_clock_beside_the_others():
    moved = USUAL_HOURS[-4:] + USUAL_HOURS[:-4]
    both = {"web": [3 * h for h in USUAL_HOURS], "app": USUAL_HOURS}
    days = [*(day(n, hours=both) for n in range(7)), day(7, hours={**both, "app": moved})]
    assert found("clock_skew", days) == [days[7]["span"]]
    always = [day(n, hours={**both, "app": moved}) for n in range(8)]
    # People may use the app at other times: with a past of its own, a source is compared with that too.
    assert found("clock_skew", always)[3:] == []


@pytest.mark.parametrize(
    ("values", "is_told"),
    [
        ({"rating": scale(4.4)}, False),
        ({"rating": scale(8.0)}, True),
        ({"rating": scale(0.8)}, True),
        ({"rating": scale(4.0, most=10)}, True),
        ({"purchase": scale(5.0)}, False),
        ({"purchase": scale(2.0, most=80_995)}, False),
        ({"purchase": scale(2_000.0)}, True),
        ({"purchase": scale(2_000.0, count=10)}, False),
    ],
)
def test_another_scale_is_told_and_one_large_order_is_not(values, is_told):
    days = [*(day(n) for n in range(5)), day(5, values=values)]
    assert bool(found("scale_changed", days)) == is_told


def test_a_column_that_loses_its_values_is_told():
    days = [*(day(n) for n in range(5)), day(5, present={names.USER_ID: 500, names.VALUE: 0})]
    assert found("column_emptied", days) == [days[5]["span"]]


def test_ids_in_another_form_are_told():
    days = [*(day(n) for n in range(5)), day(5, shapes={names.USER_ID: {"9": 400, "A9": 100}})]
    assert found("id_format_changed", days) == [days[5]["span"]]
    some = [*(day(n) for n in range(5)), day(5, shapes={names.USER_ID: {"A-9": 50, "A9": 450}})]
    assert found("id_format_changed", some) == []


def profile(rows):
    part = table(rows)
    return profile_of(part, "1970-01-02", np.ones(len(part), bool))


def test_a_profile_is_the_same_in_one_piece_and_in_several():
    rows = [
        {names.USER_ID: b"u%d" % n, names.VALUE: float(n), names.TIMESTAMP: 86_400 + 600 * n, names.EVENT: b"rating"}
        for n in range(1, 60)
    ]
    parts = [profile(rows[a:b]) for a, b in ((0, 10), (10, 11), (11, 59))]
    whole = profile(rows)
    assert merge_profiles(parts) == whole
    assert whole["shapes"][names.USER_ID] == {"A9": 59}
    assert sum(whole["hours"]["web"]) == 59 and whole["hours"]["web"][0] == 5
    assert (whole["values"]["rating"]["count"], whole["values"]["rating"]["max"]) == (59, 59.0)
