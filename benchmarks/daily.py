"""What a day costs `homefeed watch`, and what it loses: Online Retail's last days one by one, beside a training anew.

    python -m benchmarks.daily --archive online-retail.zip --days 60

The days before are trained on from scratch; then each day arrives, and is run as the watcher runs it. At the end all
days are trained on from scratch once more, in a workspace of its own. Cost is the median day's time beside the full
run's; quality is the last day's model beside the one from scratch, both by the Evaluator, on the same held-out users.
With `--folder` what was done is kept, and a benchmark that was ended goes on there.
"""

import datetime as dt
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
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

METRICS = ("recall_at_20", "ndcg_at_20")


class Run(NamedTuple):
    """What a run took.

    Attributes:
      state: that of the day, or of the run anew.
      seconds: NaN where the run went on after the benchmark was ended in it, which says nothing of its cost.
      steps: as `Outcome` has them.
      why: no model was pushed; empty where one was.
    """

    state: str
    seconds: float
    steps: dict[str, tuple[str, float]]
    why: str = ""


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
            done = make()
            done = done if is_whole else done._replace(seconds=math.nan)
            self._write(name, done)
        return done

    def _write(self, name: str, run: Run | None) -> None:
        self._runs[name] = run
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self._runs))
        partial.replace(self._path)


def arrive(config: Config, folders: dict[str, str], workspace: Path) -> Run:
    """Has the watcher run what is due, which is one day, or all days at first."""
    watch(
        config,
        folders,
        str(workspace),
        poll=1,
        settle=0,
        tries=1,
        fresh_every=0,
        is_once=True,
        told=lambda *_: None,
        stopped=lambda _: False,
    )
    # Not from what the watcher tells: a day that was done when the benchmark was ended is not due again.
    state = read_state(workspace)
    day = state[max(state)]
    return Run(day.state, day.seconds, read_outcome(metadata_of(workspace)).steps, day.why)


def train_anew(config: Config, folders: dict[str, str], workspace: Path) -> Run:
    """Trains on all days from scratch."""
    begun = time.monotonic()
    outcome = run_locally(config, folders, str(workspace))
    return Run(PUSHED if outcome.pushed else NOT_PUSHED, time.monotonic() - begun, outcome.steps)


def quality(workspace: Path) -> list[float]:
    """The metrics of all held-out users by the newest run's Evaluator."""
    metrics = read_outcome(metadata_of(workspace)).evaluation.metrics[ALL]
    return [metrics[metric] for metric in METRICS]


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
@click.option("--folder", type=click.Path(path_type=Path), help="Keeps what is done, and goes on with it.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Changes one key.")
def main(days: int, archive: str, start: dt.datetime | None, folder: Path | None, assignments: tuple[str, ...]) -> None:
    """Prints the tables."""
    config = load_config(None, assignments)
    with tempfile.TemporaryDirectory() as place:
        run_all(config, archive, days, start.date() if start else None, folder or Path(place), Console(width=110))


def run_all(config: Config, archive: str, days: int, start: dt.date | None, place: Path, console: Console) -> None:
    """Runs all days in a folder, or goes on with them, and prints the tables."""
    shop, away, workspace, anew = (place / name for name in ("retail", "away", "w", "anew"))
    away.mkdir(parents=True, exist_ok=True)
    if not (shop / names.BEHAVIORS).exists():
        write_online_retail(str(shop), archive, start)
    folders = {table: str(shop / table) for table in (names.BEHAVIORS, names.CATALOG)}
    behaviors, ledger = Path(folders[names.BEHAVIORS]), Ledger(place / "runs.json")
    later = sorted(day.name for day in (*behaviors.iterdir(), *away.iterdir()))[-days:]
    if not workspace.exists():
        for name in later:
            if (behaviors / name).exists():
                (behaviors / name).rename(away / name)
    first = ledger.run("first", lambda: arrive(config, folders, workspace))
    ran = []
    for name in later:
        if (away / name).exists():
            (away / name).rename(behaviors / name)
            os.utime(behaviors / name)
        ran.append(ledger.run(name, lambda: arrive(config, folders, workspace)))
        console.print(f"{name}: {ran[-1].state} in {ran[-1].seconds:.0f} s {ran[-1].why}", soft_wrap=True)
    # Texts are embedded already, as they were for the days.
    shutil.copytree(workspace / "cache", anew / "cache", ignore=shutil.ignore_patterns("training"), dirs_exist_ok=True)
    whole = ledger.run("anew", lambda: train_anew(config, folders, anew))
    told_steps({"full": first, "last day": ran[-1], "anew": whole}, console)
    pushed = sum(run.state == PUSHED for run in ran)
    table = Table("", "a day, median", "full run", "share", title=f"{days} days one by one, {pushed} pushed")
    median = float(np.nanmedian([run.seconds for run in ran]))
    # The run anew is spared what the cache holds of the days, as the days are.
    table.add_row("seconds", f"{median:.0f}", f"{first.seconds:.0f}", f"1/{first.seconds / median:.1f}")
    table.add_row("beside a run anew", "", f"{whole.seconds:.0f}", f"1/{whole.seconds / median:.1f}")
    for metric, mine, scratch in zip(METRICS, quality(workspace), quality(anew), strict=True):
        table.add_row(metric, f"{mine:.4f}", f"{scratch:.4f}", f"{mine / scratch:.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
