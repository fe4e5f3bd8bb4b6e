import math
from collections import defaultdict

import pytest

from benchmarks.daily import Ledger, Run, cost_table, multiply, quality_table


def test_what_is_done_is_not_made_again(tmp_path):
    run = Run("pushed", 3.0, {"Trainer": ("ran", 2.0)})
    made = Ledger(tmp_path / "runs.json").run("first", lambda: run)
    assert made == run._replace(processor_seconds=made.processor_seconds) and made.processor_seconds >= 0
    again = Ledger(tmp_path / "runs.json").run("first", lambda: pytest.fail("made again"))
    assert again.state == "pushed" and again.seconds == 3.0 and again.processor_seconds == made.processor_seconds
    assert again.steps["Trainer"][1] == 2.0


def test_a_run_that_was_ended_is_made_again_and_its_time_says_nothing(tmp_path):
    def ended():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Ledger(tmp_path / "runs.json").run("day", ended)
    ledger = Ledger(tmp_path / "runs.json")
    gone_on = ledger.run("day", lambda: Run("pushed", 1.0, {}))
    assert math.isnan(gone_on.seconds) and math.isnan(gone_on.processor_seconds)
    assert ledger.run("next", lambda: Run("pushed", 1.0, {})).seconds == 1.0
    assert math.isnan(Ledger(tmp_path / "runs.json").run("day", ended).seconds)


def _cells(table):
    return [list(column.cells) for column in table.columns]


def test_cost_is_that_of_the_median_day():
    days = [Run("pushed", seconds, {}, "", seconds / 2) for seconds in (9.0, 10.0, 50.0, math.nan)]
    table = cost_table(Run("pushed", 200.0, {}, "", 150.0), days, [Run("pushed", 100.0, {}, "", 100.0)])
    assert table.title == "4 days one by one, 4 pushed"
    assert _cells(table)[1:] == [
        ["10", "5", "10", "5"],
        ["200", "150", "100", "100"],
        ["1/20.0", "1/30.0", "1/10.0", "1/20.0"],
    ]


def test_quality_is_that_of_the_same_day():
    days = {"a": Run("pushed", 1.0, {}, metrics=[0.1, 0.2]), "b": Run("pushed", 1.0, {}, metrics=[0.3, 0.4])}
    table = quality_table(days, {"b": Run("pushed", 1.0, {}, metrics=[0.4, 0.5])})
    after, _, mine, scratch, share = _cells(table)
    assert (after, mine, scratch) == (["2 days"] * 2, ["0.3000", "0.4000"], ["0.4000", "0.5000"])
    assert share == ["0.750", "0.800"]


def test_further_customers_have_a_part_of_what_the_first_had(tmp_path):
    file = tmp_path / "2011-01-01" / "behaviors.csv"
    file.parent.mkdir()
    rows = [f"u{n % 2},i{n}" for n in range(200)]
    file.write_text("\n".join(["user_id,item_id", *rows]))
    multiply(tmp_path, 1)
    assert file.read_text().split() == ["user_id,item_id", *rows]
    multiply(tmp_path, 3)
    had = defaultdict(set)
    for line in file.read_text().split()[1:]:
        user, item = line.split(",")
        had[user].add(item)
    assert set(had) == {"u0", "u1", "u0-1", "u1-1", "u0-2", "u1-2"}
    assert {f"u{n % 2},i{n}" for n in range(200)} == {f"{user},{item}" for user in ("u0", "u1") for item in had[user]}
    for user in ("u0-1", "u0-2", "u1-1", "u1-2"):
        assert had[user] < had[user[:2]] and 60 < len(had[user]) < 100
