"""What a day costs `homefeed watch`, and what it loses: Online Retail's last days one by one, beside a training anew.

    python -m benchmarks.daily --archive online-retail.zip --days 60

The days before are trained on from scratch; then each day arrives, and is run as the watcher runs it. After every
`--anew-every` of them, and after the last, all days so far are trained on from scratch, in a workspace of its own. Cost
is the median day's time beside the full run's; quality is the newest day's model beside the one from scratch, both by
the Evaluator, on the same held-out users. With `--folder` what was done is kept, and a benchmark that was ended goes on
there. `--copies` makes a larger log of it.
"""

import csv
import datetime as dt
import json
import math
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from rich.console import Console
from rich.table import Table

import pipeline.quiet  # noqa: F401  (before anything imports TensorFlow)
from components.evaluation_results import ALL
from pipeline.config import Config, load_config
from pipeline.data.online_retail import write_online_retail
from pipeline.local_runner import metadata_of, run_locally
from pipeline.outcome import read_outcome
from pipeline.watch import NOT_PUSHED, PUSHED, read_state, watch
from schema import names
from schema.files import replace_text

METRICS = ("recall_at_20", "ndcg_at_20")
_KEPT = 0.8  # of a customer's events, those that another one like them has too


class Run(NamedTuple):
    """What a run took.

    Attributes:
      state: that of the day, or of the run anew.
      seconds: NaN where the run went on after the benchmark was ended in it, which says nothing of its cost.
      steps: as `Outcome` has them.
      why: no model was pushed; empty where one was.
      processor_seconds: of all cores, this process's and those that it started and saw end; NaN as `seconds`.
      metrics: METRICS of all held-out users by the run's Evaluator.
    """

    state: str
    seconds: float
    steps: dict[str, tuple[str, float]]
    why: str = ""
    processor_seconds: float = math.nan
    metrics: Sequence[float] = ()


class Ledger:
    """The runs that are done, in a file, for a benchmark that goes on."""

    def __init__(self, path: Path):
        self._path = path
        found = json.loads(path.read_text()) if path.exists() else {}
        self._runs: dict[str, Run | None] = {name: run and Run(*run) for name, run in found.items()}

    def run(self, name: str, make: Callable[[], Run]) -> Run:
        """What a run took that is made now, unless it was made before."""
        done = self._runs.get(name)
        if done is None:
            is_whole = name not in self._runs
            self._write(name, None)
            before = processor_seconds()
            done = make()
            done = done._replace(processor_seconds=processor_seconds() - before)
            done = done if is_whole else done._replace(seconds=math.nan, processor_seconds=math.nan)
            self._write(name, done)
        return done

    def _write(self, name: str, run: Run | None) -> None:
        self._runs[name] = run
        replace_text(self._path, json.dumps(self._runs))


def processor_seconds() -> float:
    """Of this process and those that it started and saw end."""
    taken = os.times()
    return taken.user + taken.system + taken.children_user + taken.children_system


def multiply(behaviors: Path, copies: int) -> None:
    """Gives a log so many customers for each of its own: every further one has a random part of the first's events."""
    drawn = random.Random(1)
    for file in sorted(behaviors.glob("*/*.csv")):
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        with file.open("w", encoding="utf-8", newline="") as lines:
            writer = csv.DictWriter(lines, list(rows[0]))
            writer.writeheader()
            for row in rows:
                writer.writerow(row)
                others = (f"{row[names.USER_ID]}-{n}" for n in range(1, copies) if drawn.random() < _KEPT)
                writer.writerows({**row, names.USER_ID: other} for other in others)


def arrive(config: Config, folders: dict[str, str], workspace: Path, fresh_every: int) -> Run:
    """Has the watcher run what is due, which is one day, or all days at first."""
    watch(
        config,
        folders,
        str(workspace),
        poll=1,
        settle=0,
        tries=1,
        fresh_every=fresh_every,
        keep=10,
        is_once=True,
        told=lambda *_: None,
        stopped=lambda _: False,
    )
    # Not from what the watcher tells: a day that was done when the benchmark was ended is not due again.
    state = read_state(workspace)
    day = state[max(state)]
    return Run(day.state, day.seconds, read_outcome(metadata_of(workspace)).steps, day.why, metrics=quality(workspace))


def train_anew(config: Config, folders: dict[str, str], workspace: Path) -> Run:
    """Trains on all days from scratch."""
    begun = time.monotonic()
    outcome = run_locally(config, folders, str(workspace))
    seconds = time.monotonic() - begun
    return Run(PUSHED if outcome.pushed else NOT_PUSHED, seconds, outcome.steps, metrics=quality(workspace))


def quality(workspace: Path) -> list[float]:
    """The metrics of all held-out users by the newest run's Evaluator; NaN where a gate before it ended the run."""
    metrics = read_outcome(metadata_of(workspace)).evaluation.metrics.get(ALL, {})
    return [metrics.get(metric, math.nan) for metric in METRICS]


def told_steps(runs: dict[str, Run], console: Console) -> None:
    """Prints where the time goes."""
    table = Table("step", *runs, title="Seconds")
    steps = list(dict.fromkeys(step for run in runs.values() for step in run.steps))
    for step in steps:
        cells = [run.steps.get(step, ("", 0.0)) for run in runs.values()]
        table.add_row(step, *(f"{seconds:.1f}" if state == "ran" else state for state, seconds in cells))
    console.print(table)


@click.command()
@click.option("--archive", required=True)
@click.option("--days", default=60, show_default=True, help="That arrive one by one.")
@click.option("--from", "start", type=click.DateTime(["%Y-%m-%d"]), help="First day of the log; without it, all.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="First day that is not in it any more.")
@click.option("--copies", default=1, type=click.IntRange(min=1), help="Customers for each of the log's.")
@click.option("--anew-every", type=click.IntRange(min=1), help="Days; without it, only after the last.")
@click.option("--fresh-every", default=0, show_default=True, help="As of `homefeed watch`.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keeps what is done, and goes on with it.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Changes one key.")
def main(
    archive: str,
    days: int,
    start: dt.datetime | None,
    until: dt.datetime | None,
    copies: int,
    anew_every: int | None,
    fresh_every: int,
    folder: Path | None,
    assignments: tuple[str, ...],
) -> None:
    """Prints the tables."""
    config = load_config(None, assignments)
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        shop = place / "retail"
        if not (shop / names.BEHAVIORS).exists():
            write_online_retail(str(shop), archive, start and start.date(), until and until.date())
            if copies > 1:
                multiply(shop / names.BEHAVIORS, copies)
        run_all(config, shop, days, anew_every or days, fresh_every, place, Console(width=110))


def run_all(
    config: Config, shop: Path, days: int, anew_every: int, fresh_every: int, place: Path, console: Console
) -> None:
    """Runs all days of a shop's log in a folder, or goes on with them, and prints the tables."""
    away, workspace, ledger = place / "away", place / "w", Ledger(place / "runs.json")
    away.mkdir(exist_ok=True)
    folders = {table: str(shop / table) for table in (names.BEHAVIORS, names.CATALOG)}
    behaviors = Path(folders[names.BEHAVIORS])
    later = sorted(day.name for day in (*behaviors.iterdir(), *away.iterdir()))[-days:]
    if not workspace.exists():
        for name in later:
            if (behaviors / name).exists():
                (behaviors / name).rename(away / name)
    first = ledger.run("first", lambda: arrive(config, folders, workspace, fresh_every))
    console.print(f"first: {_told(first)}", soft_wrap=True)
    ran: dict[str, Run] = {}
    anew: dict[str, Run] = {}
    for at, name in enumerate(later, 1):
        if (away / name).exists():
            (away / name).rename(behaviors / name)
            os.utime(behaviors / name)
        ran[name] = ledger.run(name, lambda: arrive(config, folders, workspace, fresh_every))
        console.print(f"{name}: {_told(ran[name])}", soft_wrap=True)
        if at % anew_every == 0 or at == len(later):
            own = place / f"anew-{name}"
            _with_cache_of(workspace, own)
            anew[name] = ledger.run(own.name, lambda own=own: train_anew(config, folders, own))
            console.print(f"{name} anew: {_told(anew[name])}", soft_wrap=True)
    told_steps({"full": first, "last day": ran[later[-1]], "anew": anew[later[-1]]}, console)
    console.print(cost_table(first, list(ran.values()), list(anew.values())))
    console.print(quality_table(ran, anew))


def _told(run: Run) -> str:
    metrics = ", ".join(f"{metric} {value:.4f}" for metric, value in zip(METRICS, run.metrics, strict=True))
    return f"{run.state} in {run.seconds:.0f} s ({run.processor_seconds:.0f} of processors), {metrics} {run.why}"


def _with_cache_of(workspace: Path, own: Path) -> None:
    """Texts are embedded already, as they were for the days."""
    shutil.copytree(workspace / "cache", own / "cache", ignore=shutil.ignore_patterns("training"), dirs_exist_ok=True)


def cost_table(first: Run, days: Sequence[Run], anew: Sequence[Run]) -> Table:
    """The median day beside the full run, and beside the runs anew, which are spared what the cache holds."""
    pushed = sum(run.state == PUSHED for run in days)
    table = Table("", "a day, median", "full run", "share", title=f"{len(days)} days one by one, {pushed} pushed")
    for label, whole in (("", [first]), (", beside a run anew", anew)):
        for kind in ("seconds", "processor_seconds"):
            day, full = (np.nanmedian([getattr(run, kind) for run in runs]) for runs in (days, whole))
            table.add_row(kind.replace("_", " ") + label, f"{day:.0f}", f"{full:.0f}", f"1/{full / day:.1f}")
    return table


def quality_table(days: dict[str, Run], anew: dict[str, Run]) -> Table:
    """The day's model beside one from scratch on the same log."""
    table = Table("after", "", "one by one", "from scratch", "share")
    for name, scratch in anew.items():
        after = list(days).index(name) + 1
        for metric, mine, other in zip(METRICS, days[name].metrics, scratch.metrics, strict=True):
            table.add_row(f"{after} days", metric, f"{mine:.4f}", f"{other:.4f}", f"{mine / other:.3f}")
    return table


if __name__ == "__main__":
    main()
