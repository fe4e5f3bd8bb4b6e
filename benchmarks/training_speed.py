"""Examples per second of training on this machine: homefeed's towers beside the plain TFRS model with the same sizes.

    python -m benchmarks.training_speed --archive online-retail.zip

Both read the same training examples. The plain model is that of TFRS's tutorials (a user embedding, in-batch softmax)
with an item tower that reads titles as the deep-retrieval tutorial's does, through the same BERT, whose weights stay as
they are in both. homefeed's reads each text once before training, and its softmax is over the whole catalogue.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
from rich.console import Console
from rich.table import Table

from benchmarks.splits import DATASETS
from benchmarks.workspace import run_homefeed, settings_of, transformed
from pipeline.config import load_config
from schema import names
from trainer.encoder_files import resolve_encoder
from trainer.text_encoder import TextEncoder, open_encoder
from trainer.two_tower import TwoTower


class PlainTowers(tfrs.Model):
    """User ids and titles, each to an embedding.

    Args:
      users: number of user ids.
      dimensions: of the embeddings.
      titles: [items] titles.
      encoder: reads them.
    """

    def __init__(self, users: int, dimensions: int, titles: list[str], encoder: TextEncoder):
        super().__init__()
        self.users = tf.keras.layers.Embedding(users + 1, dimensions)
        self.titles = tf.constant(titles)
        self.encode = lambda texts: encoder(texts)  # as an attribute Keras would train it
        self.items = tf.keras.Sequential(
            [tf.keras.layers.Dense(2 * dimensions, activation="gelu"), tf.keras.layers.Dense(dimensions)]
        )
        self.task = tfrs.tasks.Retrieval()

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        texts = self.encode(tf.gather(self.titles, inputs[names.TARGET_ITEMS]))
        return self.task(self.users(inputs[names.USER_INDEX]), self.items(texts), compute_metrics=False)


def rate(model: tfrs.Model, batches: Iterator[dict[str, tf.Tensor]], seconds: float) -> float:
    """Median over steps of the examples a second, of so many seconds of training; the first step is no measure."""
    model.compile(optimizer=tf.keras.optimizers.Adam(0.001))
    step: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]] = tf.function(model.train_step, reduce_retracing=True)
    step(next(batches))
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rates) < 3:
        batch = next(batches)
        start = time.perf_counter()
        float(step(batch)["loss"])
        rates.append(len(batch[names.TARGET_ITEMS]) / (time.perf_counter() - start))
    return statistics.median(rates)


@click.command()
@click.option("--archive", required=True, type=click.Path(exists=True, path_type=Path), help="The Online Retail zip.")
@click.option("--seconds", default=30.0, show_default=True, help="Of training, for each model in each round.")
@click.option("--rounds", default=3, show_default=True)
def main(archive: Path, seconds: float, rounds: int) -> None:
    """Prints the table."""
    config = load_config()
    read, protocol, _ = DATASETS["online-retail"]
    log, catalog_rows = read(archive)
    with tempfile.TemporaryDirectory() as folder:
        workspace = run_homefeed(protocol.part(log).before, catalog_rows, (), Path(folder), "--until", "Transform")
        settings = settings_of(config)
        data = transformed(workspace, settings)
        catalog, hyper, users = data.catalog, config.model, len(data.vocabulary.users)
        epoch = data.batches(config.split.windows + 2, 0)
        titles = [catalog_rows[item.decode()]["title"] for item in catalog.item_ids]
        encoder = open_encoder(resolve_encoder(config.encoder.path), config.encoder.max_tokens)
        models = {
            "plain TFRS with BERT": lambda: PlainTowers(users, hyper.dimensions, titles, encoder),
            "homefeed, frozen": lambda: TwoTower(
                catalog,
                np.bincount(data.pairs.items, minlength=len(catalog)),
                users,
                len(data.vocabulary.events),
                config.split.history_length,
                hyper.dimensions,
                hyper.temperature,
                hyper.dropout,
                hyper.negatives,
                hyper.seed,
            ),
        }
        rates: dict[str, list[float]] = {name: [] for name in models}
        for n in range(rounds):
            for name, make in models.items():
                rates[name].append(rate(make(), iter(epoch(n).repeat()), seconds))
    plain = statistics.median(rates["plain TFRS with BERT"])
    table = Table("model", "examples/s", "ratio", title=f"{len(catalog)} items, batches of {hyper.batch_size}")
    for name, values in rates.items():
        table.add_row(name, f"{statistics.median(values):,.0f}", f"{statistics.median(values) / plain:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
