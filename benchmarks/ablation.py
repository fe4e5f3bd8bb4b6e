"""What each part of the model is worth: everything, and everything but one.

    python -m benchmarks.ablation --data online-retail --archive online-retail.zip

Runs the data steps once with the data set's protocol, so that the pipeline's own held-out time is the benchmark's, and
fits the feed for each line as Trainer does, up to the cut. Parts of the ranking stage share their towers. What is held
out is measured for each line and chooses nothing. A mean over seeds where more than one is asked for; two lines that
differ by less than the seeds do are equal.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from benchmarks.splits import DATASETS, measure
from benchmarks.workspace import run_homefeed, settings_of, transformed
from pipeline.config import Channels, load_config
from trainer.data import States, inputs_of
from trainer.feed import Feed
from trainer.fitting import fit
from trainer.reading import TrainingData

_PART = 32  # users that are asked at once
IDLE = ("comments",)  # channels that none of the data sets has anything for
# Line -> settings.
LINES: dict[str, tuple[str, ...]] = {
    "everything": (),
    **{
        f"without the channel {name}": (f"ranking.channels.{name}=false",)
        for name in Channels.model_fields
        if name not in IDLE
    },
    "events' probabilities not learned along": ("ranking.event_weight=0",),
    "towers without text": ("model.text=false",),
    "towers without dropout of ids and history": ("model.dropout=0",),
    "negatives of the batch only": ("model.negatives=0",),
}
MODES = ("last_n", "lora", "full")
ENCODER = "encoder "  # begins the lines of the modes


def lists_of(feed: Feed, states: States, k: int, stage: str) -> dict[int, np.ndarray]:
    """Row -> the best k items that the user has not had, by the whole feed, its first stage or its towers alone."""

    @tf.function(autograph=False, reduce_retracing=True)
    def scores(*inputs: tf.Tensor) -> tf.Tensor:
        query = feed.channels.query(*inputs)
        if stage == "towers":
            return feed.channels.tower_scores(query)
        return feed.scores(query) if stage == "feed" else feed.first_stage(feed.channels(query))

    rows = np.flatnonzero(np.diff(states.targets.splits))
    lists = {}
    for part in (rows[start : start + _PART] for start in range(0, len(rows), _PART)):
        for row, theirs in zip(part, scores(*inputs_of(states, part)).numpy(), strict=True):
            theirs[states.seen.row(row)] = -np.inf
            lists[int(row)] = np.argsort(-theirs, kind="stable")[:k]
    return lists


def measured(feed: Feed, data: TrainingData, k: int, stage: str = "feed") -> tuple[float, float]:
    """Recall@k and NDCG@k of what is held out."""
    states = data.window(data.cut)
    relevant = {int(row): set(states.targets.row(row).tolist()) for row in range(len(states))}
    return measure(lists_of(feed, states, k, stage), {row: items for row, items in relevant.items() if items}, k)


def calibration(feed: Feed, data: TrainingData) -> Table:
    """What the probabilities of events promise beside what happened, over all items that users had not had."""
    states, events = data.window(data.cut), [event.decode() for event in data.vocabulary.events]
    promised: list[np.ndarray] = []
    happened: list[np.ndarray] = []

    @tf.function(autograph=False, reduce_retracing=True)
    def probabilities(*inputs: tf.Tensor) -> tf.Tensor:
        return feed.probabilities(feed.channels(feed.channels.query(*inputs)))

    rows = np.flatnonzero(np.diff(states.targets.splits))[:512]
    for part in (rows[start : start + _PART] for start in range(0, len(rows), _PART)):
        for row, theirs in zip(part, probabilities(*inputs_of(states, part)).numpy(), strict=True):
            truth = np.zeros(theirs.shape)
            truth[states.targets.row(row), states.target_events.row(row)] = 1
            free = np.setdiff1d(np.arange(len(theirs)), states.seen.row(row))
            promised.append(theirs[free])
            happened.append(truth[free])
    expected, seen = np.concatenate(promised), np.concatenate(happened)
    table = Table("event", "promised", "happened", "in ten bands: promised → happened", title="Calibration")
    for i in np.flatnonzero(seen.sum(axis=0)):
        order = np.array_split(np.argsort(expected[:, i]), 10)
        bands = ", ".join(f"{expected[part, i].mean():.4f} → {seen[part, i].mean():.4f}" for part in order[-4:])
        table.add_row(events[i], f"{expected[:, i].mean():.5f}", f"{seen[:, i].mean():.5f}", f"the last four: {bands}")
    return table


@click.command()
@click.option("--data", "name", required=True, type=click.Choice(list(DATASETS)))
@click.option("--archive", required=True, type=click.Path(exists=True, path_type=Path), help="The publisher's zip.")
@click.option("--seeds", default=1, show_default=True)
@click.option("--mode", "modes", multiple=True, type=click.Choice(MODES), help="Encoder modes; hours without a GPU.")
@click.option("--only", multiple=True, help="Lines; all where none is named.")
@click.option("--set", "assignments", multiple=True, help="Changes one key of the configuration in every line.")
def main(
    name: str, archive: Path, seeds: int, modes: tuple[str, ...], only: tuple[str, ...], assignments: tuple[str, ...]
) -> None:
    """Prints the tables."""
    read, protocol, own = DATASETS[name]
    log, catalog = read(archive)
    lines = {**LINES, **{f"{ENCODER}{mode}": (f"encoder.mode={mode}",) for mode in modes}}
    table = Table("", f"Recall@{protocol.k}", f"NDCG@{protocol.k}", title=f"{name}, {seeds} seeds")
    tables = [table]
    with tempfile.TemporaryDirectory() as folder:
        workspace = run_homefeed(log, catalog, (*own, *assignments), Path(folder), "--until", "Transform")
        for line, changes in lines.items():
            if only and line not in only:
                continue
            found: dict[str, list[tuple[float, float]]] = {}
            for seed in range(1, seeds + 1):
                keys = (*own, *assignments, *changes, "model.refit=false", f"model.seed={seed}")
                settings = settings_of(load_config(None, keys))
                data = transformed(workspace, settings)
                towers = json.dumps([settings["model"], settings["encoder"]], sort_keys=True)
                # The same towers are found there trained.
                feed = fit(data, settings, f"{folder}/{hashlib.sha256(towers.encode()).hexdigest()}").then
                found.setdefault(line, []).append(measured(feed, data, protocol.k))
                if not changes or line.startswith(ENCODER):
                    for stage in ("towers", "first stage"):
                        part = f"{line}: the {stage} alone" if changes else f"the {stage} alone"
                        found.setdefault(part, []).append(measured(feed, data, protocol.k, stage))
                if not changes and seed == 1:
                    tables.append(calibration(feed, data))
            for part, figures in found.items():
                recall, ndcg = np.mean(figures, axis=0)
                print(f"{part}: {recall:.4f} {ndcg:.4f}", file=sys.stderr)
                table.add_row(part, f"{recall:.4f}", f"{ndcg:.4f}")
    for each in tables:
        Console(width=140).print(each)


if __name__ == "__main__":
    main()
