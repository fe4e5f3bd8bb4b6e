"""The Evaluator's time and memory beside TFRS's own FactorizedTopK, on the same vectors.

    python -m benchmarks.evaluation_speed --examples 100000 --items 20000

Ours is TFMA as TFX's Evaluator runs it, with homefeed's defaults: exact full-catalogue ranks, the metrics of
`trainer/metrics/` over all users and in every slice, bootstrap intervals, thresholds. TFRS's gives top-k accuracy of
one target for each example, and no more: as its tutorials build it (candidates in batches of 128, the default ks), with
batches of 4,096, and with BruteForce. All get the same random query and item vectors, and nothing is left out of the
lists. Each method runs in a process of its own, imports included, so that its peak memory is its own.
"""

import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from schema import names

_DIMENSIONS = 64
_BATCH = 512
_TARGETS = 3  # of each example, on average
_SEED = 1


def vectors(examples: int, items: int) -> tuple[np.ndarray, np.ndarray]:
    """([examples, dimensions] queries, [items, dimensions] items), of unit length."""
    random = np.random.default_rng(_SEED)
    both = (random.normal(size=(n, _DIMENSIONS)).astype(np.float32) for n in (examples, items))
    queries, catalog = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in both)
    return queries, catalog


def write_examples(folder: Path, examples: int, items: int) -> None:
    """The examples as TFRecords, with the features that slices go by."""
    import tensorflow as tf

    from components.examples import Row, encode_example

    random = np.random.default_rng(_SEED)
    bands = {
        names.ACTIVITY: ("new", "light", "regular", "heavy"),
        names.WEEKDAY: ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
    }
    several = {
        names.TARGET_CATEGORY: tuple(f"c{n}" for n in range(20)),
        names.TARGET_PRICE: ("low", "middle", "high"),
        names.TARGET_AGE: ("known", "new"),
    }
    with tf.io.TFRecordWriter(str(folder / "eval.gz"), "GZIP") as writer:
        for number in range(examples):
            targets = random.choice(items, random.integers(1, 2 * _TARGETS), replace=False)
            row: Row = {
                names.USER_ID: [f"u{number}".encode()],
                names.TIMESTAMP: [number],
                names.TARGET_ITEM_IDS: [str(target).encode() for target in targets],
                **{name: [random.choice(values).encode()] for name, values in bands.items()},
                **{name: sorted({random.choice(values).encode() for _ in targets}) for name, values in several.items()},
            }
            writer.write(encode_example(row))


def export(folder: Path, examples: int, items: int) -> None:
    """A SavedModel whose `evaluate` ranks the items by dot products and tells what homefeed's tells."""
    import tensorflow as tf

    from trainer.evaluated_lists import mean_distances
    from trainer.reranking import ranks

    queries, catalog = vectors(examples, items)
    module = tf.Module()
    module.queries, module.items = (tf.Variable(rows, trainable=False) for rows in (queries, catalog))
    module.shares = tf.Variable(np.random.default_rng(_SEED).dirichlet(np.ones(items)).astype(np.float32))
    features = {
        names.TIMESTAMP: tf.io.FixedLenFeature([1], tf.int64),
        names.TARGET_ITEM_IDS: tf.io.RaggedFeature(tf.string),
    }

    def evaluate(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        row = tf.io.parse_example(examples, features)
        targets = tf.strings.to_number(row[names.TARGET_ITEM_IDS], tf.int64)
        scores = tf.matmul(tf.gather(module.queries, row[names.TIMESTAMP][:, 0]), module.items, transpose_b=True)
        top = tf.math.top_k(scores, names.EVALUATED_PLACES).indices
        return {
            names.RANKS: ranks(scores, targets.to_tensor(-1)),
            names.RELEVANT: targets.row_lengths(),
            names.TOP_ITEMS: tf.cast(top, tf.int64),
            names.TOP_POPULARITY: tf.gather(module.shares, top),
            names.TOP_DIVERSITY: mean_distances(tf.gather(module.items, top)),
            names.HISTORY_POPULARITY: tf.fill([tf.shape(scores)[0]], 1 / items),
            names.CATALOG_SIZE: tf.fill([tf.shape(scores)[0]], np.int64(items)),
            names.INDEX_RECALL: tf.ones([tf.shape(scores)[0]]),
        }

    specs = [tf.TensorSpec([None], tf.string, name=names.EXAMPLES)]
    module.evaluate = tf.function(evaluate, input_signature=specs, autograph=False)
    tf.saved_model.save(module, str(folder), signatures={names.EVALUATE: module.evaluate})


def ours(folder: str, examples: int, items: int) -> float:
    """Recall@20 by TFMA."""
    import tensorflow_model_analysis as tfma

    from components.evaluation_results import ALL, read_evaluation
    from pipeline.evaluation import eval_config
    from pipeline.sections.judging import Evaluation

    config = tfma.utils.update_eval_config_with_defaults(eval_config(Evaluation()), rubber_stamp=True)
    model = tfma.default_eval_shared_model(f"{folder}/model", eval_config=config)
    tfma.run_model_analysis(
        eval_shared_model=model, eval_config=config, data_location=f"{folder}/eval.gz", output_path=f"{folder}/out"
    )
    return read_evaluation(f"{folder}/out").metrics[ALL]["recall_at_20"]


def factorized_top_k(form: str, examples: int, items: int) -> float:
    """Accuracy at the largest k by TFRS, of one target for each example; `form`: tutorial, Streaming or BruteForce."""
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    queries, catalog = vectors(examples, items)
    targets = catalog[np.random.default_rng(_SEED).integers(0, items, examples)]
    parts = tf.data.Dataset.from_tensor_slices(catalog)
    if form == "tutorial":
        metric = tfrs.metrics.FactorizedTopK(candidates=parts.batch(128))
    elif form == "Streaming":
        layer = tfrs.layers.factorized_top_k.Streaming(k=20).index_from_dataset(parts.batch(4096))
        metric = tfrs.metrics.FactorizedTopK(candidates=layer, ks=(5, 10, 20))
    else:
        layer = tfrs.layers.factorized_top_k.BruteForce(k=20).index(catalog)
        metric = tfrs.metrics.FactorizedTopK(candidates=layer, ks=(5, 10, 20))

    @tf.function
    def update(some: tf.Tensor, theirs: tf.Tensor) -> None:
        metric.update_state(some, theirs)

    for start in range(0, examples - _BATCH + 1, _BATCH):
        update(queries[start : start + _BATCH], targets[start : start + _BATCH])
    return float(metric.result()[-1])


def _measured(
    method: Callable[..., float], arguments: tuple, queue: "multiprocessing.Queue[tuple[float, int]]"
) -> None:
    start = time.perf_counter()
    method(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    queue.put((time.perf_counter() - start, peak))


def measured(method: Callable[..., float], *arguments: object) -> tuple[float, int]:
    """(seconds, peak KiB) of a call in a process of its own, imports included."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measured, args=(method, arguments, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{method.__name__} ended with {process.exitcode}.")
    return queue.get()


@click.command()
@click.option("--examples", default=100_000, show_default=True)
@click.option("--items", default=20_000, show_default=True)
def main(examples: int, items: int) -> None:
    """Prints the table."""
    table = Table("method", "seconds", "peak GiB", "gives", title=f"{examples:,} examples, {items:,} items")
    with tempfile.TemporaryDirectory() as folder:
        write_examples(Path(folder), examples, items)
        export(Path(folder) / "model", examples, items)
        rows = [
            ("TFMA with homefeed's metrics", ours, (folder, examples, items), "ranks, 14 metrics, slices, intervals"),
            ("TFRS FactorizedTopK, tutorial", factorized_top_k, ("tutorial", examples, items), "top-k accuracy"),
            ("TFRS FactorizedTopK, BruteForce", factorized_top_k, ("BruteForce", examples, items), "top-k accuracy"),
            ("TFRS FactorizedTopK, Streaming", factorized_top_k, ("Streaming", examples, items), "top-k accuracy"),
        ]
        for name, method, arguments, gives in rows:
            seconds, peak = measured(method, *arguments)
            print(json.dumps({"method": name, "seconds": seconds, "peak_kib": peak}), flush=True)
            table.add_row(name, f"{seconds:.0f}", f"{peak / 2**20:.1f}", gives)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
