"""Continuous training: each new day of the log is run through the whole pipeline, in order, one at a time.

What became of each day is kept in the workspace (`watch.json`, replaced in one step), so that a watcher that was killed
goes on where it was: a day that was being worked on is begun again, and the pipeline works only on what is missing of
it. A day that the data gate refuses is left out of every later run, and so is one whose run fails again and again; the
next day goes on. Where it is the catalogue that is refused, the day waits until that is mended. Where a day's files
change later, it is a new day. Days go on from the last pushed model, but for one now and then that is trained on from
nothing: what is lost little by little, no gate sees that looks one day back.
"""

import json
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from components.input_folders import Table, inspect_table, window_of
from components.spans import Span
from pipeline.apart import apart
from pipeline.config import Config
from pipeline.local_runner import locked, run_locally
from pipeline.retention import prune
from schema import names
from schema.days import day_of
from schema.errors import GateRefused, HomefeedError, InputError
from schema.files import replace_text
from serving.versions import versions_in

log = logging.getLogger("homefeed.watch")

STATE, LOCK = "watch.json", ".watch.lock"
PUSHED, NOT_PUSHED, QUARANTINED, FAILED = "pushed", "not pushed", "quarantined", "failed"
_FIRST_WAIT, _LONGEST_WAIT = 60.0, 3_600.0  # seconds before a day that failed is tried again
_WAIT_FOR_TABLE = 900.0  # seconds before a day is tried again whose catalogue, or users, are refused


@dataclass(frozen=True)
class Day:
    """What became of a day.

    Attributes:
      fingerprint: of the files that it had.
      state: `pushed`, `not pushed` (a gate refused the model), `quarantined` or `failed` (to be tried again).
      why: of what was refused or failed.
      tries: that failed.
      after: Unix time before which it is not tried again.
      seconds: that its last run took.
      is_fresh: whether the model was trained from nothing; of the first run too, from which on days are counted.
    """

    fingerprint: str
    state: str
    why: str = ""
    tries: int = 0
    after: float = 0.0
    seconds: float = 0.0
    is_fresh: bool = False


# (what to leave out: days of the log; up to which day; whether to train from nothing) -> why no model was pushed, empty
# where one was.
Run = Callable[[Collection[str], str, bool], str]


def read_state(workspace: Path) -> dict[str, Day]:
    """Day's name -> what became of it. Raises InputError where the file is not one of ours."""
    path = workspace / STATE
    if not path.exists():
        return {}
    try:
        return {name: Day(**told) for name, told in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); remove it to have every day run again.") from error


def write_state(workspace: Path, state: Mapping[str, Day]) -> None:
    """Replaces the file in one step."""
    told = {name: asdict(day) for name, day in sorted(state.items())}
    replace_text(workspace / STATE, json.dumps(told, indent=1))


def due(state: Mapping[str, Day], spans: Iterable[Span], now: float) -> Span | None:
    """The oldest day that is new, has changed, or is to be tried again. A day that waits for its next try holds up
    those after it."""
    for span in spans:
        before = state.get(span.name)
        if before is None or before.fingerprint != span.fingerprint:
            return span
        if before.state == FAILED:
            return span if before.after <= now else None
    return None


def is_to_be_fresh(state: Mapping[str, Day], name: str, every: int) -> bool:
    """Whether a day is `every` days, or more, after the last that was trained on from nothing; never where that is 0,
    nor in the first run, which goes on from a model where there is one."""
    day = day_of(name)
    if not (every and state and day):
        return False
    fresh = [day_of(other) for other, told in state.items() if told.is_fresh]
    return all((day - last).days >= every for last in fresh if last)


def work_off(
    state: dict[str, Day], span: Span, run: Run, tries: int, now: Callable[[], float], fresh_every: int = 0
) -> Day:
    """Runs one day. Returns what became of it; `state` is not changed.

    Args:
      state: of the days before.
      span: the day.
      run: the pipeline.
      tries: after so many failures the day is quarantined.
      now: Unix time.
      fresh_every: see `is_to_be_fresh`.
    """
    known = state.get(span.name)
    failed = known.tries if known is not None and known.fingerprint == span.fingerprint else 0
    was_fresh = known is not None and known.is_fresh  # a day that is mended goes on, and days are counted from it still
    left_out = {name for name, day in state.items() if day.state == QUARANTINED and name != span.name}
    start, is_fresh = now(), is_to_be_fresh(state, span.name, fresh_every)

    def ended(what: str, why: str, tries: int = 0, after: float = 0.0, is_fresh: bool = was_fresh) -> Day:
        return Day(span.fingerprint, what, why, tries, after, now() - start, is_fresh)

    try:
        why = run(left_out, span.name, is_fresh)
    except GateRefused as refusal:
        if state and refusal.tables - {names.BEHAVIORS}:  # the day may be as good as any
            return ended(FAILED, str(refusal), failed, now() + _WAIT_FOR_TABLE)
        return ended(QUARANTINED, str(refusal))
    except HomefeedError as error:
        failed += 1
        if failed >= tries:
            return ended(QUARANTINED, f"failed {failed} times: {error}", failed)
        wait = min(_FIRST_WAIT * 2 ** (failed - 1), _LONGEST_WAIT)
        return ended(FAILED, str(error), failed, now() + wait)
    return ended(NOT_PUSHED if why else PUSHED, why, is_fresh=is_fresh or was_fresh or not state)


def settled(table: Table, span: str, seconds: float, now: float) -> bool:
    """Whether a day's files were last written so many seconds ago: what is still being written is no day yet."""
    return all(now - file.modified >= seconds for file in table.spans[span])


def watch(
    config: Config,
    folders: Mapping[str, str],
    workspace: str,
    poll: float,
    settle: float,
    tries: int,
    fresh_every: int,
    keep: int,
    is_once: bool,
    told: Callable[[str, Day], None],
    stopped: Callable[[float], bool],
) -> None:
    """Runs what is due, then looks again every `poll` seconds.

    Args:
      config: checked configuration.
      folders: table -> input folder; the log has a folder for each day.
      workspace: of the runs.
      poll: seconds between two looks at the folders.
      settle: a day counts as here when its files were last written so many seconds ago.
      tries: after so many failures a day is quarantined.
      fresh_every: days after which one is trained on from nothing again; 0 for never.
      keep: after each day, what is older than so many pushed versions is removed, see `retention`; 0 for nothing.
      is_once: whether to end when nothing is due.
      told: is told what became of each day.
      stopped: waits so many seconds, less where it is time to stop; True then.

    Raises:
      InputError: the folders cannot be used, have no days, or another watcher has the workspace.
      GateRefused, HomefeedError: the first run, which sees all days, was refused or failed.
    """
    root = Path(workspace).resolve()
    with locked(root, LOCK, "another watcher has this workspace"):
        while not stopped(0):
            state = read_state(root)
            table = inspect_table(folders[names.BEHAVIORS], names.BEHAVIORS)
            if list(table.spans) == [names.ALL_SPLIT]:
                raise InputError(f"{table.base}: has no folders a day, such as 2010-12-01, that could be watched.")
            now = time.time()
            ready = [s for s in _spans(table, root) if settled(table, s.name, settle, now)]
            span = due(state, _first(ready, state), now)
            if span is None:
                if is_once or stopped(poll):
                    return
                continue
            day = work_off(state, span, _runner(config, folders, workspace), tries, time.time, fresh_every)
            if not state:  # the first run has seen all that was there, and there is no next day to go on with
                if day.state == QUARANTINED:
                    raise GateRefused(day.why)
                if day.state == FAILED:
                    raise HomefeedError(day.why)
                state = {s.name: Day(s.fingerprint, day.state) for s in ready}
            write_state(root, {**state, span.name: day})
            told(span.name, day)
            if keep:
                _tidy_up(root, keep)


def _tidy_up(root: Path, keep: int) -> None:
    """Removes what is old. Where that cannot be, the next day will."""
    try:
        prune(root, keep)
    except (HomefeedError, OSError) as error:
        log.warning("What is old was not removed: %s", error)


def _spans(table: Table, root: Path) -> list[Span]:
    return window_of(table, None, f"{root}/cache/fingerprints.json")


def _first(spans: list[Span], state: Mapping[str, Day]) -> list[Span]:
    """All days; of a log that was never run, the last alone, whose run sees all of them."""
    return spans if state else spans[-1:]


def _runner(config: Config, folders: Mapping[str, str], workspace: str) -> Run:
    pushed = Path(workspace, "serving", names.MODEL_NAME)

    def run(left_out: Collection[str], until: str, is_fresh: bool) -> str:
        going_on = names.WARM if versions_in(pushed) and not is_fresh else names.FRESH
        start = names.REINDEX if config.model.start == names.REINDEX else going_on
        ours = config.model_copy(update={"model": config.model.model_copy(update={"start": start})})
        return apart(run_day, ours, folders, workspace, left_out, until)

    return run


def run_day(config: Config, folders: Mapping[str, str], workspace: str, left_out: Collection[str], until: str) -> str:
    """Runs the pipeline on the log up to a day, some days left out. Returns why no model was pushed; empty where one
    was. Raises as `run_locally`."""
    last = day_of(until)

    def keeps(table: str, folder: str) -> bool:
        day = day_of(folder)
        is_out = table == names.BEHAVIORS and folder in left_out
        return day is None or last is None or (day <= last and not is_out)

    outcome = run_locally(config, folders, workspace, keeps=keeps)
    return "" if outcome.pushed else " ".join(outcome.refusals) or "a gate refused the model."
