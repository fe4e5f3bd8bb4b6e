"""How fast the encoder's modes train on this machine's devices, and how much of them they use.

    python -m benchmarks.gpu --modes frozen --modes full --peak-tflops 989

Trains the towers on a made-up catalogue and log of stated size, so that nothing has to be fetched. Examples a second
are the median over steps after the first. The share of the peak counts the encoder's and the towers' multiplications (6
operations for each weight and word piece that is trained, 4 for one that gradients only pass, 2 for one that is only
read; Kaplan et al. 2020, arXiv 2001.08361) over what the chip could have done in that time; --peak-tflops is its data
sheet's dense bfloat16 figure.
Utilisation is what nvidia-smi says, sampled while steps run. Without a GPU the table has no such columns.
"""

import dataclasses
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from pipeline.config import Config, load_config
from schema import names
from trainer import devices
from trainer.data import Catalog
from trainer.encoder_files import resolve_encoder
from trainer.text_encoder import open_encoder
from trainer.text_tuning import FROZEN, TunedTexts
from trainer.tower_training import _optimizers, _step
from trainer.two_tower import TwoTower

_WORDS = ("red", "blue", "lamp", "mug", "wooden", "garden", "vintage", "set", "of", "christmas", "holder", "glass")
_SAMPLED_EVERY = 0.2  # seconds


def made_up_catalog(items: int, words: int, dimensions: int) -> Catalog:
    """Items with random titles of so many words."""
    random = np.random.default_rng(1)
    vectors = random.normal(size=(items, dimensions)).astype(np.float32)
    return Catalog(
        item_ids=np.array([b"%d" % n for n in range(items)], object),
        categories=random.integers(0, 50, (items, 1)),
        prices=random.normal(size=items).astype(np.float32),
        popularity=random.random((items, 1, 2)).astype(np.float32),
        text_embeddings=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        texts=np.array([" ".join(random.choice(_WORDS, words)).encode() for _ in range(items)], object),
        sentiment=np.zeros((items, 2), np.float32),
        snapshots=np.array([0, 1_000]),
    )


def made_up_batches(items: int, users: int, length: int, size: int) -> tf.data.Dataset:
    """Endless training batches, as `trainer.data.training_batches` makes them; parsed ahead, since what is measured is
    the device."""
    random = np.random.default_rng(2)
    count = size * 16
    rows = {
        names.USER_INDEX: random.integers(0, users, count),
        names.TRAIT_INDICES: np.full((count, 1), -1),
        names.HISTORY_ITEMS: random.integers(0, items, (count, length)),
        names.HISTORY_EVENT_INDICES: np.zeros((count, length), np.int64),
        names.HISTORY_TIMESTAMPS: np.full((count, length), 500),
        names.TARGET_ITEMS: (items * random.random(count) ** 3).astype(np.int64),
        names.TIMESTAMP: np.full(count, 900),
        names.WEIGHT: np.ones(count, np.float32),
    }
    return tf.data.Dataset.from_tensor_slices(rows).repeat().batch(size, drop_remainder=True).prefetch(4)


def operations(model: TwoTower, batch: dict[str, tf.Tensor], items: int) -> float:
    """Floating point operations of a step, forward and backward, of the matrices that weigh."""
    size, length = batch[names.HISTORY_ITEMS].shape
    candidate = sum(int(np.prod(v.shape)) for v in model.candidate_tower._content.trainable_variables)
    dimensions = model.candidate_tower.item_table.shape[1]
    query = sum(int(np.prod(v.shape)) for v in model.query_tower.trainable_variables if "embeddings" not in v.name)
    total = 6.0 * (items * candidate + size * query + size * items * dimensions + 2 * size * length * dimensions)
    (tuned,) = model.candidate_tower.contents
    if not isinstance(tuned, TunedTexts):
        return total
    targets = np.unique(batch[names.TARGET_ITEMS])
    pieces = len(targets) * int(tuned._lengths.numpy()[targets].max())
    moving = {variable.ref() for variable in tuned.slow}
    weights, is_passed = 0, False  # by gradients, which end at the first layer that is trained
    for layer in tuned.encoder.bert.transformer_layers:
        is_passed |= any(variable.ref() in moving for variable in layer.variables)
        for variable in (v for v in layer.variables if len(v.shape) > 1):
            each = 6 if variable.ref() in moving else 4 if is_passed else 2
            weights += each * int(np.prod(variable.shape))
    return total + pieces * weights


@contextmanager
def utilisation() -> Iterator[list[float]]:
    """Fills a list with what nvidia-smi says of the GPUs' use (per cent, mean over GPUs) while the block runs."""
    found: list[float] = []
    done = threading.Event()

    def sample() -> None:
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not done.wait(_SAMPLED_EVERY):
            lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            found.append(statistics.mean(map(float, lines)))

    thread = threading.Thread(target=sample)
    if shutil.which("nvidia-smi"):
        thread.start()
    try:
        yield found
    finally:
        done.set()
        if thread.is_alive():
            thread.join()


@dataclasses.dataclass(frozen=True)
class Result:
    """Of one mode: examples a second, utilisation in per cent (NaN without a GPU), operations a second."""

    examples: float
    used: float
    operations: float


def measure(config: Config, mode: str, catalog: Catalog, users: int, seconds: float) -> Result:
    """Trains for a while."""
    folder, hyper, encoder = resolve_encoder(config.encoder.path), config.model, config.encoder
    with devices.strategy().scope():
        contents = None
        if mode != FROZEN:
            settings: dict[str, Any] = {**encoder.model_dump(), "mode": mode}
            bert = open_encoder(folder, encoder.max_tokens, devices.precision(encoder.precision))
            contents = [TunedTexts(bert, catalog.texts, settings)]
        counts = np.ones(len(catalog), np.int64)
        model = TwoTower(
            catalog,
            counts,
            users=users,
            events=2,
            history_length=config.split.history_length,
            dimensions=hyper.dimensions,
            temperature=hyper.temperature,
            dropout=hyper.dropout,
            negatives=hyper.negatives,
            seed=hyper.seed,
            contents=contents,
        )
    dataset = made_up_batches(len(catalog), users, config.split.history_length, hyper.batch_size)
    distributed = model.distribute_strategy.experimental_distribute_dataset(dataset)
    step = _step(
        model, _optimizers(model, hyper.learning_rate, encoder.learning_rate, 10_000), distributed.element_spec
    )
    batches = iter(distributed)
    step(next(batches))
    times: list[float] = []
    with utilisation() as found:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 3:
            start = time.perf_counter()
            float(step(next(batches)))  # waits for the device
            times.append(time.perf_counter() - start)
    middle = statistics.median(times)
    work = operations(model, next(iter(dataset)), min(len(catalog), hyper.negatives + hyper.batch_size))
    return Result(hyper.batch_size / middle, statistics.mean(found) if found else float("nan"), work / middle)


@click.command()
@click.option("--modes", multiple=True, default=("frozen", "full"), show_default=True)
@click.option("--items", default=20_000, show_default=True)
@click.option("--words", default=12, show_default=True, help="Of a title.")
@click.option("--users", default=50_000, show_default=True)
@click.option("--seconds", default=30.0, show_default=True, help="Of training, for each mode.")
@click.option("--peak-tflops", type=float, help="Of the chip, dense bfloat16: adds the share of it that was used.")
@click.option("--set", "assignments", multiple=True, help="Changes one key of the configuration.")
def main(
    modes: tuple[str, ...],
    items: int,
    words: int,
    users: int,
    seconds: float,
    peak_tflops: float | None,
    assignments: tuple[str, ...],
) -> None:
    """Prints the table."""
    config = load_config(None, assignments)
    gpus = tf.config.list_physical_devices("GPU")
    names_of = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]
    title = f"{', '.join(names_of) or 'processors'}: {items} items, batches of {config.model.batch_size}"
    table = Table("mode", "examples/s", "GPU used, %", "Tflop/s", "share of the peak", title=title)
    encoder = open_encoder(resolve_encoder(config.encoder.path), config.encoder.max_tokens)
    catalog = made_up_catalog(items, words, encoder.dimensions)
    for mode in modes:
        result = measure(config, mode, catalog, users, seconds)
        tera = result.operations / 1e12
        share = f"{tera / peak_tflops / max(len(gpus), 1):.1%}" if peak_tflops else ""
        used = "" if np.isnan(result.used) else f"{result.used:.0f}"
        table.add_row(mode, f"{result.examples:,.0f}", used, f"{tera:.2f}", share)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
