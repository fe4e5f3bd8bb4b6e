"""What each part of the model is worth: everything, and everything but one.

    python -m benchmarks.ablation --data online-retail --archive online-retail.zip

Runs the data steps once with the data set's protocol, so that the pipeline's own held-out time is the benchmark's, and
fits the feed for each line as Trainer does, up to the cut. Parts of the ranking stage share their towers. What is held
out is measured for each line and chooses nothing. A mean over seeds where more than one is asked for; two lines that
differ by less than the seeds do are equal.

With --mode, the encoder's modes instead: the towers alone, each trained for the same epochs on what is before the cut.
"""

import hashlib
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from benchmarks.splits import DATASETS, measure
from benchmarks.workspace import run_homefeed, settings_of, transformed
from pipeline.config import load_config
from pipeline.sections.model import Channels
from schema import names
from trainer.channels import embed_catalog
from trainer.data import States, inputs_of
from trainer.feed import Feed
from trainer.fitting import fit
from trainer.reading import TrainingData
from trainer.tower_maker import TowerMaker

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
MODES = ("frozen", "last_n", "lora", "full")
_NEW_PLACES = 4  # that a feed's first hundred keeps for items that nobody has had


def relevant_of(states: States) -> dict[int, set[int]]:
    """Row -> what the user turned to, of rows that have anything."""
    rows = np.flatnonzero(np.diff(states.targets.splits)).tolist()
    return {row: set(states.targets.row(row).tolist()) for row in rows}


def lists_by(scores: Callable[..., tf.Tensor], states: States, k: int) -> dict[int, np.ndarray]:
    """Row -> the best k items that the user has not had; `scores` takes what `inputs_of` gives."""
    rows, lists = np.array(list(relevant_of(states))), {}
    for part in (rows[start : start + _PART] for start in range(0, len(rows), _PART)):
        for row, theirs in zip(part, scores(*inputs_of(states, part)).numpy(), strict=True):
            theirs[states.seen.row(row)] = -np.inf
            lists[int(row)] = np.argsort(-theirs, kind="stable")[:k]
    return lists


def measured(feed: Feed, data: TrainingData, k: int, stage: str = "feed") -> tuple[float, float]:
    """Recall@k and NDCG@k of what is held out, by the whole feed, its first stage or its towers alone."""

    @tf.function(autograph=False, reduce_retracing=True)
    def scores(*inputs: tf.Tensor) -> tf.Tensor:
        query = feed.channels.query(*inputs)
        if stage == "towers":
            return feed.channels.tower_scores(query)
        return feed.scores(query) if stage == "feed" else feed.first_stage(feed.channels(query))

    states = data.window(data.cut)
    return measure(lists_by(scores, states, k), relevant_of(states), k)


def mode_figures(data: TrainingData, settings: dict[str, Any], folder: str, k: int) -> tuple[float, ...]:
    """Of towers that are trained on what is before the cut: Recall@k and NDCG@k of all items; and of the items that
    nobody had had, ranked among themselves as the places that are kept for them are filled, the Recall."""
    states = data.window(data.cut)
    towers = TowerMaker(data, settings, folder)(data.cut, states, names.CUT_TOWERS)
    item_vectors = embed_catalog(towers, len(data.catalog))
    vectors = tf.concat([item_vectors, towers.popularity], axis=1)

    @tf.function(autograph=False, reduce_retracing=True)
    def scores(*inputs: tf.Tensor) -> tf.Tensor:
        return tf.matmul(towers.embed_queries(item_vectors, *inputs), vectors, transpose_b=True)

    relevant, is_new = relevant_of(states), np.ones(len(data.catalog), bool)
    known = data.pairs.before(data.cut).items
    is_new[known[known >= 0]] = False
    new = set(np.flatnonzero(is_new).tolist())
    lists = lists_by(scores, states, k)
    new_lists = lists_by(lambda *inputs: tf.where(is_new, scores(*inputs), -np.inf), states, _NEW_PLACES)
    theirs_new = {row: theirs & new for row, theirs in relevant.items() if theirs & new}
    return (*measure(lists, relevant, k), measure(new_lists, theirs_new, _NEW_PLACES)[0])


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


Prepared = Callable[..., tuple[TrainingData, dict[str, Any]]]  # (changed keys) -> data and settings


def line_tables(lines: Sequence[str], seeds: int, k: int, prepared: Prepared, folder: Path, title: str) -> list[Table]:
    """The figures of each of `LINES` that is named, and, of everything, the calibration."""
    tables = [Table("", f"Recall@{k}", f"NDCG@{k}", title=title)]
    for line in lines:
        changes, found = LINES[line], defaultdict[str, list[tuple[float, ...]]](list)
        for seed in range(1, seeds + 1):
            data, settings = prepared(*changes, "model.refit=false", f"model.seed={seed}")
            towers = json.dumps([settings["model"], settings["encoder"]], sort_keys=True)
            # The same towers are found there trained.
            feed = fit(data, settings, f"{folder}/{hashlib.sha256(towers.encode()).hexdigest()}").then
            found[line].append(measured(feed, data, k))
            if not changes:
                for stage in ("towers", "first stage"):
                    found[f"the {stage} alone"].append(measured(feed, data, k, stage))
                if seed == 1:
                    tables.append(calibration(feed, data))
        for part, figures in found.items():
            add_means(tables[0], part, figures)
    return tables


def mode_table(modes: Sequence[str], seeds: int, k: int, prepared: Prepared, folder: Path, title: str) -> Table:
    """What training the encoder along is worth to the towers."""
    table = Table("encoder.mode", f"Recall@{k}", f"NDCG@{k}", f"new items: Recall@{_NEW_PLACES}", title=title)
    for mode in modes:
        figures = []
        for seed in range(1, seeds + 1):
            data, settings = prepared(f"encoder.mode={mode}", f"model.seed={seed}")
            figures.append(mode_figures(data, settings, f"{folder}/{mode}-{seed}", k))
        add_means(table, mode, figures)
    return table


def add_means(table: Table, label: str, figures: Sequence[tuple[float, ...]]) -> None:
    """A row with the means over seeds, which stderr gets at once."""
    row = [f"{value:.4f}" for value in np.mean(figures, axis=0)]
    print(label, *row, file=sys.stderr)
    table.add_row(label, *row)


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
    title = f"{name}, {seeds} seeds"
    with tempfile.TemporaryDirectory() as folder:
        workspace = run_homefeed(log, catalog, (*own, *assignments), Path(folder), "--until", "Transform")

        def prepared(*changes: str) -> tuple[TrainingData, dict[str, Any]]:
            settings = settings_of(load_config(None, (*own, *assignments, *changes)))
            return transformed(workspace, settings), settings

        if modes:
            tables = [mode_table(modes, seeds, protocol.k, prepared, Path(folder), title)]
        else:
            tables = line_tables(
                [line for line in LINES if not only or line in only], seeds, protocol.k, prepared, Path(folder), title
            )
    for each in tables:
        Console(width=140).print(each)


if __name__ == "__main__":
    main()
