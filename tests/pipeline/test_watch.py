"""Continuous training: which day is due, what becomes of it, and what a kill leaves."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import filelock
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from components.spans import Span
from pipeline import watch as module
from pipeline.cli import homefeed
from pipeline.config import load_config
from pipeline.data.online_retail import write_online_retail
from pipeline.watch import (
    FAILED,
    LOCK,
    NOT_PUSHED,
    PUSHED,
    QUARANTINED,
    STATE,
    Day,
    due,
    is_to_be_fresh,
    read_state,
    watch,
    work_off,
    write_state,
)
from schema import names
from schema.errors import GateRefused, HomefeedError, InputError
from serving.versions import versions_in
from tests.comparing import newest, records
from tests.conftest import ONLINE_RETAIL, needs_online_retail

DAYS = [Span(f"2025-01-{n:02d}", f"f{n}") for n in range(1, 5)]


def done(*states):
    return {span.name: Day(span.fingerprint, state) for span, state in zip(DAYS, states, strict=False)}


def raising(error):
    def run(left_out, until, is_fresh):
        raise error

    return run


def test_the_oldest_day_that_is_new_is_due():
    assert due({}, DAYS, 0) == DAYS[0]
    assert due(done(PUSHED, QUARANTINED, NOT_PUSHED), DAYS, 0) == DAYS[3]
    assert due(done(PUSHED, PUSHED, PUSHED, PUSHED), DAYS, 0) is None


def test_a_day_that_has_changed_is_due_again():
    changed = [*DAYS[:1], Span(DAYS[1].name, "other"), *DAYS[2:]]
    assert due(done(*[PUSHED] * 4), changed, 0) == changed[1]


def test_a_day_that_failed_holds_up_the_next_until_it_is_tried_again():
    state = {**done(PUSHED), DAYS[1].name: Day("f2", FAILED, tries=1, after=100.0)}
    assert due(state, DAYS, 99.0) is None and due(state, DAYS, 100.0) == DAYS[1]


@given(st.integers(1, 8))
def test_waits_grow_and_end(tries):
    state, now, waits = {}, 0.0, []
    for n in range(tries):
        day = work_off(state, DAYS[0], raising(HomefeedError("no disk")), tries, lambda: now)
        assert day.tries == n + 1
        state[DAYS[0].name] = day
        waits.append(day.after - now)
    assert day.state == QUARANTINED and "failed" in day.why and "no disk" in day.why
    assert waits[:-1] == sorted(waits[:-1]) and all(60 <= wait <= 3600 for wait in waits[:-1])


def test_bad_days_are_left_out_of_what_follows():
    asked = []

    def run(left_out, until, is_fresh):
        asked.append((set(left_out), until))
        return ""

    state = done(PUSHED, QUARANTINED)
    assert work_off(state, DAYS[2], run, 3, time.time).state == PUSHED
    assert work_off(state, Span(DAYS[1].name, "mended"), run, 3, time.time).state == PUSHED
    assert asked == [({DAYS[1].name}, DAYS[2].name), (set(), DAYS[1].name)]


def test_what_a_gate_says_decides_on_the_day_or_on_the_model():
    refused = work_off({}, DAYS[0], raising(GateRefused("half of it is robots")), 3, time.time)
    assert (refused.state, refused.why) == (QUARANTINED, "half of it is robots")
    worse = work_off({}, DAYS[0], lambda left_out, until, is_fresh: "Recall fell.", 3, time.time)
    assert (worse.state, worse.why) == (NOT_PUSHED, "Recall fell.")


def test_a_day_waits_for_a_catalogue_that_is_refused():
    refusal = GateRefused("half of the catalogue is gone", {names.CATALOG, names.BEHAVIORS})
    state = done(PUSHED)
    for now in (0.0, 1_000.0, 2_000.0):
        state[DAYS[1].name] = work_off(state, DAYS[1], raising(refusal), 1, lambda now=now: now)
        day = state[DAYS[1].name]
        assert (day.state, day.tries, day.why) == (FAILED, 0, "half of the catalogue is gone")
        assert due(state, DAYS, day.after - 1) is None and due(state, DAYS, day.after) == DAYS[1]
    assert work_off(state, DAYS[1], lambda *_: "", 1, time.time).state == PUSHED
    of_the_log = GateRefused("robots", {names.BEHAVIORS})
    assert work_off(state, DAYS[1], raising(of_the_log), 1, time.time).state == QUARANTINED


def test_the_state_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    before = done(PUSHED, FAILED)
    write_state(tmp_path, before)
    assert read_state(tmp_path) == before

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_state(tmp_path, {})
    assert read_state(tmp_path) == before
    (tmp_path / STATE).write_text("[1]")
    with pytest.raises(InputError, match="remove it"):
        read_state(tmp_path)


@pytest.fixture
def log(tmp_path):
    for day in ("2025-01-01", "2025-01-02", "2025-01-03"):
        write_day(tmp_path, day)
    (tmp_path / "catalog").mkdir()
    return tmp_path


def write_day(folder, day, age=1000, rows=1):
    path = folder / "behaviors" / day / "rows.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("user_id,item_id,event,timestamp\n" + f"u,i,view,{day[-2:]}\n" * rows)
    os.utime(path, (time.time() - age,) * 2)


def watched(folder, monkeypatch, outcomes, fresh=None, **options):
    """Runs what is due with a pipeline that only notes down what it was asked; returns that, and what was told. `fresh`
    gets the days that were to be trained on from nothing."""
    fresh = [] if fresh is None else fresh
    asked, told = [], []

    def runner(config, folders, workspace):
        def run(left_out, until, is_fresh):
            asked.append((until, sorted(left_out)))
            fresh.extend([until] * is_fresh)
            outcome = outcomes.get(until, "")
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        return run

    monkeypatch.setattr(module, "_runner", runner)
    folders = {names.BEHAVIORS: str(folder / "behaviors"), names.CATALOG: str(folder / "catalog")}
    settings = {"poll": 1, "settle": 60, "tries": 2, "fresh_every": 30, "keep": 0, "is_once": True, **options}
    note = lambda name, day: told.append((name, day.state))  # noqa: E731
    watch(load_config(), folders, str(folder / "w"), told=note, stopped=lambda seconds: False, **settings)
    return asked, told


def test_the_first_run_takes_all_days_and_each_later_one_its_own(log, monkeypatch):
    assert watched(log, monkeypatch, {})[0] == [("2025-01-03", [])]
    assert watched(log, monkeypatch, {})[0] == []
    for day in ("2025-01-04", "2025-01-05", "2025-01-06"):
        write_day(log, day)
    asked, told = watched(log, monkeypatch, {"2025-01-05": GateRefused("robots")})
    assert asked == [("2025-01-04", []), ("2025-01-05", []), ("2025-01-06", ["2025-01-05"])]
    assert [state for _, state in told] == [PUSHED, QUARANTINED, PUSHED]


def test_now_and_then_a_day_trains_from_nothing(log, monkeypatch):
    fresh, days = [], [f"2025-01-{n:02d}" for n in range(4, 13)]
    watched(log, monkeypatch, {}, fresh, fresh_every=3)
    assert not fresh  # the first run takes what is there
    refused = {"2025-01-06": GateRefused("robots"), "2025-01-10": "Recall fell."}
    for day in days:
        write_day(log, day)
        watched(log, monkeypatch, refused, fresh, fresh_every=3)
    # The 3rd was the first run's; what is refused as data is no training; what is not pushed is one.
    assert fresh == ["2025-01-06", "2025-01-07", "2025-01-10"]
    asked = []
    for mended in ("2025-01-05", "2025-01-10"):  # none of them trains from nothing, and days are counted on
        write_day(log, mended, rows=2)
        asked += watched(log, monkeypatch, {}, fresh, fresh_every=3)[0]
    write_day(log, "2025-01-10", rows=3)
    asked += watched(log, monkeypatch, {"2025-01-10": GateRefused("robots")}, fresh, fresh_every=3)[0]
    write_day(log, "2025-01-12", rows=2)
    for day in ("2025-01-13", "2025-01-14"):
        write_day(log, day)
    asked += watched(log, monkeypatch, {}, fresh, fresh_every=3)[0]
    assert [day[-2:] for day, _ in asked] == ["05", "10", "10", "12", "13", "14"]
    assert fresh[3:] == ["2025-01-13"]


@pytest.mark.parametrize(
    ("configured", "has_model", "is_fresh", "start"),
    [
        ("fresh", False, False, "fresh"),
        ("fresh", True, False, "warm"),
        ("fresh", True, True, "fresh"),
        ("warm", True, True, "fresh"),
        ("warm", True, False, "warm"),
        ("reindex", True, True, "reindex"),
    ],
)
def test_a_day_goes_on_from_the_pushed_model(tmp_path, monkeypatch, configured, has_model, is_fresh, start):
    if has_model:
        version = tmp_path / "serving" / names.MODEL_NAME / "1"
        version.mkdir(parents=True)
        (version / "saved_model.pb").touch()
    asked = []

    def run(config, folders, workspace, keeps):
        kept = [day for day in ("2025-01-02", "2025-01-03", "2025-01-04", "2025-01-05") if keeps(names.BEHAVIORS, day)]
        asked.append((config.model.start, kept))
        return SimpleNamespace(pushed="1", refusals=[])

    monkeypatch.setattr(module, "run_locally", run)
    monkeypatch.setattr(module, "apart", lambda function, *arguments: function(*arguments))
    config = load_config(None, (f"model.start={configured}",))
    assert module._runner(config, {}, str(tmp_path))(["2025-01-03"], "2025-01-04", is_fresh) == ""
    assert asked == [(start, ["2025-01-02", "2025-01-04"])]


def test_days_never_train_from_nothing_where_that_is_not_wanted():
    long_ago = {"2024-01-01": Day("f", PUSHED, is_fresh=True)}
    assert is_to_be_fresh(long_ago, DAYS[0].name, 366) and not is_to_be_fresh(long_ago, DAYS[0].name, 367)
    assert not is_to_be_fresh(long_ago, DAYS[0].name, 0) and not is_to_be_fresh({}, DAYS[0].name, 1)
    assert is_to_be_fresh(done(PUSHED), DAYS[1].name, 30)  # nobody knows when


@pytest.mark.parametrize("error", [GateRefused("robots"), HomefeedError("no disk")])
def test_a_first_run_that_ends_badly_ends_the_watch(log, monkeypatch, error):
    with pytest.raises(HomefeedError, match=str(error)):
        watched(log, monkeypatch, {"2025-01-03": error})
    assert not (log / "w" / STATE).exists()


def test_a_watcher_that_was_killed_begins_the_day_again(log, monkeypatch):
    watched(log, monkeypatch, {})
    write_day(log, "2025-01-04")
    with pytest.raises(KeyboardInterrupt):
        watched(log, monkeypatch, {"2025-01-04": KeyboardInterrupt()})
    assert "2025-01-04" not in read_state(log / "w")
    assert watched(log, monkeypatch, {})[0] == [("2025-01-04", [])]


def test_a_day_that_is_still_being_written_is_not_here(log, monkeypatch):
    watched(log, monkeypatch, {})
    write_day(log, "2025-01-04", age=5)
    assert watched(log, monkeypatch, {})[0] == []


def test_only_one_watches(log, monkeypatch):
    (log / "w").mkdir()
    with filelock.FileLock(log / "w" / LOCK), pytest.raises(InputError, match="another watcher"):
        watched(log, monkeypatch, {})


def test_what_is_old_is_removed_after_each_day_and_a_removal_that_fails_ends_nothing(log, monkeypatch, caplog):
    removed = []

    def prune(root, keep):
        removed.append((root.name, keep))
        raise OSError("read-only")

    monkeypatch.setattr(module, "prune", prune)
    watched(log, monkeypatch, {}, keep=3)
    for day in ("2025-01-04", "2025-01-05"):
        write_day(log, day)
    assert [state for _, state in watched(log, monkeypatch, {}, keep=3)[1]] == [PUSHED, PUSHED]
    assert removed == [("w", 3)] * 3 and "was not removed: read-only" in caplog.text
    write_day(log, "2025-01-06")
    watched(log, monkeypatch, {}, keep=0)
    assert len(removed) == 3


def test_a_log_without_days_cannot_be_watched(tmp_path, monkeypatch):
    (tmp_path / "catalog").mkdir()
    (tmp_path / "behaviors").mkdir()
    (tmp_path / "behaviors" / "rows.csv").write_text("user_id,item_id,event,timestamp\nu,i,view,1\n")
    with pytest.raises(InputError, match="no folders a day"):
        watched(tmp_path, monkeypatch, {})


@pytest.mark.slow
@needs_online_retail
def test_a_year_of_real_days_comes_one_by_one(tmp_path, monkeypatch):
    """All 305, with a kill on the 100th, robots on the 200th and a correction of the 150th in the end."""
    write_online_retail(str(tmp_path / "all"), str(ONLINE_RETAIL))
    days = sorted(path.name for path in (tmp_path / "all" / "behaviors").iterdir())
    assert len(days) == 305
    (tmp_path / "behaviors").mkdir()
    (tmp_path / "all" / "catalog").rename(tmp_path / "catalog")
    asked, told, bad, killed = [], [], days[199], days[99]
    for day in days:
        (tmp_path / "all" / "behaviors" / day).rename(tmp_path / "behaviors" / day)
        if day == killed:
            with pytest.raises(KeyboardInterrupt):
                watched(tmp_path, monkeypatch, {day: KeyboardInterrupt()}, settle=0)
        new, states = watched(tmp_path, monkeypatch, {bad: GateRefused("robots")}, settle=0)
        asked, told = asked + new, told + states
    assert [day for day, _ in asked] == days  # each once, in order
    assert [left_out for _, left_out in asked] == [[]] * 200 + [[bad]] * 105
    assert [day for day, state in told if state == QUARANTINED] == [bad]
    rows = tmp_path / "behaviors" / days[149]
    for file in rows.iterdir():
        file.write_text(file.read_text(encoding="utf-8").replace("purchase", "return", 1), encoding="utf-8")
    assert watched(tmp_path, monkeypatch, {}, settle=0)[0] == [(days[149], [bad])]


@pytest.mark.slow
def test_real_days_come_one_by_one_and_a_bad_one_is_left_out(shop_data, config, tmp_path):
    """The small shop's last two days arrive late, the first of them full of robots."""
    import shutil

    behaviors, late = tmp_path / "behaviors", sorted(p.name for p in (shop_data / names.BEHAVIORS).iterdir())[-2:]
    shutil.copytree(shop_data / names.BEHAVIORS, behaviors, ignore=shutil.ignore_patterns(*late))
    folders = {names.BEHAVIORS: str(behaviors), names.CATALOG: str(shop_data / names.CATALOG)}
    told = []

    def look():
        watch(
            config,
            folders,
            str(tmp_path / "w"),
            poll=1,
            settle=0,
            tries=1,
            fresh_every=0,
            keep=1,
            is_once=True,
            told=lambda name, day: told.append((name, day.state, day.why)),
            stopped=lambda seconds: False,
        )

    def train_moments():
        folder = newest(tmp_path / "w", "InteractionGen", "examples") / f"Split-{names.TRAIN_SPLIT}"
        return [dict(record)[names.TIMESTAMP][0] for record in records(folder)]

    look()
    (first,) = versions_in(tmp_path / "w" / "serving" / names.MODEL_NAME)
    whole = train_moments()
    shutil.copytree(shop_data / names.BEHAVIORS / late[0], behaviors / late[0])
    (file,) = (behaviors / late[0]).iterdir()
    header, *rows = file.read_text().splitlines()
    columns = header.split(",")
    broken = [[*row.split(",")] for row in rows]
    for row in broken:
        row[columns.index("timestamp")] = "soon"
    file.write_text("\n".join([header, *map(",".join, broken)]) + "\n")
    look()
    shutil.copytree(shop_data / names.BEHAVIORS / late[1], behaviors / late[1])
    look()
    # What the first run has learned is learned no more, but for some days.
    recent = max(whole) - (config.model.warm_days + 3) * 86_400  # some days are held out
    assert min(whole) < recent <= min(train_moments())
    assert [state for _, state, _ in told] == [PUSHED, QUARANTINED, PUSHED], told
    assert [name for name, *_ in told][1:] == late
    # One version is kept, and of what is gone the evidence: the first run can still be set beside the last.
    (last,) = versions_in(tmp_path / "w" / "serving" / names.MODEL_NAME)
    assert last > first
    compared = ["report", "--workspace", str(tmp_path / "w"), "--compare", str(first), str(last)]
    assert CliRunner().invoke(homefeed, compared, catch_exceptions=False).exit_code == 0
    assert len(list((tmp_path / "w" / "artifacts" / "Pusher" / "pushed_model").iterdir())) == 1
