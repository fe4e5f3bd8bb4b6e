"""What a day costs `homefeed watch`, and what it loses: Online Retail's last days one by one, beside a training anew.

    python -m benchmarks.daily --archive online-retail.zip --days 60

The days before are trained on from scratch; then each day arrives, and is run as the watcher runs it. At the end all
days are trained on from scratch once more, in a workspace of its own. Cost is the median day's time beside the full
run's; quality is the last day's model beside the one from scratch, both by the Evaluator, on the same held-out users.
"""

import datetime as dt
import os
import shutil
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

import pipeline.quiet  # noqa: F401  (before anything imports TensorFlow)
from components.evaluation_results import ALL
from pipeline.config import Config, load_config
from pipeline.data.online_retail import write_online_retail
from pipeline.local_runner import metadata_of, run_locally
from pipeline.outcome import Outcome, read_outcome
from pipeline.watch import Day, watch
from schema import names

METRICS = ("recall_at_20", "ndcg_at_20")


def arrive(config: Config, folders: dict[str, str], workspace: Path) -> Day:
    """Has the watcher run the one day that is due."""
    told: list[Day] = []
    watch(
        config,
        folders,
        str(workspace),
        poll=1,
        settle=0,
        tries=1,
        fresh_every=0,
        is_once=True,
        told=lambda _, day: told.append(day),
        stopped=lambda _: False,
    )
    (day,) = told
    return day


def quality(outcome: Outcome) -> list[float]:
    """The metrics of all held-out users."""
    return [outcome.evaluation.metrics[ALL][metric] for metric in METRICS]


def told_steps(outcomes: dict[str, Outcome], console: Console) -> None:
    """Prints where the time goes."""
    table = Table("step", *outcomes, title="Seconds")
    steps = list(dict.fromkeys(step for outcome in outcomes.values() for step in outcome.steps))
    for step in steps:
        cells = [outcome.steps.get(step, ("", 0.0)) for outcome in outcomes.values()]
        table.add_row(step, *(f"{seconds:.1f}" if state == "ran" else state for state, seconds in cells))
    console.print(table)


@click.command()
@click.option("--archive", required=True)
@click.option("--days", default=60, show_default=True, help="That arrive one by one.")
@click.option("--from", "start", type=click.DateTime(["%Y-%m-%d"]), help="First day of the log; without it, all.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Changes one key.")
def main(days: int, archive: str, start: dt.datetime | None, assignments: tuple[str, ...]) -> None:
    """Prints the tables."""
    config, console = load_config(None, assignments), Console(width=110)
    with tempfile.TemporaryDirectory() as place:
        shop, workspace, anew = Path(place, "retail"), Path(place, "w"), Path(place, "anew")
        write_online_retail(str(shop), archive, start.date() if start else None)
        folders = {table: str(shop / table) for table in (names.BEHAVIORS, names.CATALOG)}
        later = sorted((shop / names.BEHAVIORS).iterdir())[-days:]
        away = Path(place, "away")
        away.mkdir()
        for day in later:
            day.rename(away / day.name)
        first = arrive(config, folders, workspace)
        outcomes = {"full": read_outcome(metadata_of(workspace))}
        seconds, states = [], []
        for day in later:
            (away / day.name).rename(day)
            os.utime(day)
            ran = arrive(config, folders, workspace)
            seconds.append(ran.seconds)
            states.append(ran.state)
            console.print(f"{day.name}: {ran.state} in {ran.seconds:.0f} s {ran.why}", soft_wrap=True)
        outcomes["last day"] = read_outcome(metadata_of(workspace))
        # Texts are embedded already, as they were for the days.
        shutil.copytree(workspace / "cache", anew / "cache", ignore=shutil.ignore_patterns("training"))
        begun = time.monotonic()
        outcomes["anew"] = run_locally(config, folders, str(anew))
        whole = time.monotonic() - begun
    told_steps(outcomes, console)
    ours, fresh = quality(outcomes["last day"]), quality(outcomes["anew"])
    table = Table(
        "", "a day, median", "full run", "share", title=f"{days} days one by one, {states.count('pushed')} pushed"
    )
    median = float(np.median(seconds))
    # The run anew is spared what the cache holds of the days, as the days are.
    table.add_row("seconds", f"{median:.0f}", f"{first.seconds:.0f}", f"1/{first.seconds / median:.1f}")
    table.add_row("beside a run anew", "", f"{whole:.0f}", f"1/{whole / median:.1f}")
    for metric, mine, scratch in zip(METRICS, ours, fresh, strict=True):
        table.add_row(metric, f"{mine:.4f}", f"{scratch:.4f}", f"{mine / scratch:.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
