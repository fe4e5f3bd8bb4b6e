"""What a day costs `homefeed watch`, and what it loses: Online Retail's last days one by one, beside a training anew.

    python -m benchmarks.daily --archive online-retail.zip --days 60

The days before are trained on from scratch; then each day arrives, and is run as the watcher runs it. At the end all
days are trained on from scratch once more, in a workspace of its own. Cost is the median day's time beside the full
run's; quality is the last day's model beside the one from scratch, both by the Evaluator, on the same held-out users.
"""

import os
import shutil
import tempfile
import threading
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
from pipeline.local_runner import run_locally
from pipeline.outcome import Outcome, read_outcome
from pipeline.watch import Day, watch
from schema import names

METRICS = ("recall_at_20", "ndcg_at_20")


def arrive(config: Config, folders: dict[str, str], workspace: Path) -> list[tuple[str, Day]]:
    """Has the watcher run what is due."""
    told: list[tuple[str, Day]] = []
    watch(config, folders, str(workspace), 1, 0, 1, True, lambda name, day: told.append((name, day)), _never().wait)
    return told


def _never() -> threading.Event:
    return threading.Event()


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
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Changes one key.")
def main(days: int, archive: str, assignments: tuple[str, ...]) -> None:
    """Prints the tables."""
    from pipeline.local_runner import metadata_of

    config, console = load_config(None, assignments), Console(width=110)
    with tempfile.TemporaryDirectory() as place:
        shop, workspace, anew = Path(place, "retail"), Path(place, "w"), Path(place, "anew")
        write_online_retail(str(shop), archive)
        folders = {table: str(shop / table) for table in (names.BEHAVIORS, names.CATALOG)}
        later = sorted((shop / names.BEHAVIORS).iterdir())[-days:]
        away = Path(place, "away")
        away.mkdir()
        for day in later:
            day.rename(away / day.name)
        ((_, first),) = arrive(config, folders, workspace)
        outcomes = {"full": read_outcome(metadata_of(workspace))}
        seconds, states = [], []
        for day in later:
            (away / day.name).rename(day)
            os.utime(day)
            ((_, ran),) = arrive(config, folders, workspace)
            seconds.append(ran.seconds)
            states.append(ran.state)
            console.print(f"{day.name}: {ran.state} in {ran.seconds:.0f} s {ran.why}", soft_wrap=True)
        outcomes["last day"] = read_outcome(metadata_of(workspace))
        # Texts are embedded already, as they were for the days.
        shutil.copytree(workspace / "cache", anew / "cache", ignore=shutil.ignore_patterns("training"))
        start = time.monotonic()
        outcomes["anew"] = run_locally(config, folders, str(anew))
        whole = time.monotonic() - start
    told_steps(outcomes, console)
    ours, fresh = quality(outcomes["last day"]), quality(outcomes["anew"])
    table = Table(
        "", "a day, median", "full run", "share", title=f"{days} days one by one, {states.count('pushed')} pushed"
    )
    median = float(np.median(seconds))
    table.add_row("seconds", f"{median:.0f}", f"{max(first.seconds, whole):.0f}", f"1/{first.seconds / median:.1f}")
    for metric, mine, scratch in zip(METRICS, ours, fresh, strict=True):
        table.add_row(metric, f"{mine:.4f}", f"{scratch:.4f}", f"{mine / scratch:.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
