"""Approximate retrieval in stock ops beside TFRS's BruteForce, Faiss and ScaNN: recall, latency, memory.

    python -m benchmarks.retrieval --peer-python .venv-peers/bin/python

A million unit vectors of 64 dimensions around 5,000 centres (a fifth of a vector's square is noise); queries are drawn
alike. One query at a time, one thread, all in one run on the same vectors.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import matplotlib as mpl
import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
from rich.console import Console
from rich.table import Table

from trainer.partitioned_top_k import PartitionedTopK

mpl.use("Agg")
import matplotlib.pyplot as plt

PROBES = (1, 2, 4, 8, 16, 32, 64)
_MEMBERS = 200  # vectors around a centre
Curve = list[tuple[int, float, float]]  # (setting, recall, milliseconds)


def draw(count: int, centres: np.ndarray, noise: float, random: np.random.Generator) -> np.ndarray:
    """[count, dimensions] float32 unit vectors around centres."""
    shape = (count, centres.shape[1])
    points = centres[random.integers(len(centres), size=count)] + noise * random.standard_normal(shape, np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def measured(layer: tf.keras.Model, queries: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """(recall, milliseconds a query) of a TFRS layer, called as a server's graph calls it."""
    k = truth.shape[1]
    search = tf.function(lambda q: layer(q, k=k)[1], input_signature=[tf.TensorSpec([None, queries.shape[1]])])
    search(tf.constant(queries[:1]))
    seconds, hits = [], 0
    for query, right in zip(queries, truth, strict=True):
        asked = tf.constant(query[np.newaxis])
        start = time.perf_counter()
        found = search(asked)
        seconds.append(time.perf_counter() - start)
        hits += len(set(found.numpy().ravel().tolist()) & set(right.tolist()))
    return hits / truth.size, 1000 * float(np.median(seconds))


def ours(vectors: np.ndarray, queries: np.ndarray, truth: np.ndarray, is_reranked: bool) -> tuple[Curve, float, int]:
    """Curve, seconds to build, bytes."""
    start = time.monotonic()
    layer = PartitionedTopK(is_reranked=is_reranked).index(tf.constant(vectors))
    seconds = time.monotonic() - start
    curve = []
    for probes in PROBES:
        layer.probe(probes)
        curve.append((probes, *measured(layer, queries, truth)))
    return curve, seconds, layer.bytes()


def draw_plot(curves: dict[str, Curve], exact: float, path: str, title: str) -> None:
    """Recall over latency, as a PNG."""
    figure, axes = plt.subplots(figsize=(8, 5), constrained_layout=True)
    for (name, curve), marker in zip(curves.items(), "os^D", strict=False):
        axes.plot(
            [ms for _, _, ms in curve], [recall for _, recall, _ in curve], f"{marker}-", label=name, markersize=5
        )
    axes.axvline(exact, color="0.4", linestyle="--", label="TFRS BruteForce")
    axes.set(xscale="log", xlabel="milliseconds a query (one thread, median)", ylabel="recall", title=title)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=120)


def _row(table: Table, name: str, exact: float, size: int, base: int, build: float, curve: Curve) -> None:
    for setting, recall, ms in curve:
        told = (name, f"{build:.0f} s", f"{size / base:.2f} x") if setting == curve[0][0] else ("", "", "")
        table.add_row(*told, str(setting), f"{recall:.4f}", f"{ms:.3f} ms", f"{ms / exact:.3f} x")
    table.add_section()


@click.command()
@click.option("--items", default=1_000_000, show_default=True)
@click.option("--dimensions", default=64, show_default=True)
@click.option("--queries", "asked", default=200, show_default=True)
@click.option("--k", default=100, show_default=True)
@click.option("--peer-python", help="A Python that has ScaNN and Faiss.")
@click.option("--plot", help="A PNG.")
def main(items: int, dimensions: int, asked: int, k: int, peer_python: str | None, plot: str | None) -> None:
    """Prints the curves."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    random = np.random.default_rng(1)
    centres = draw(max(items // _MEMBERS, 1), np.zeros((1, dimensions), np.float32), 1.0, random)
    noise = 0.6 / dimensions**0.5
    vectors, queries = (draw(count, centres, noise, random).astype(np.float32) for count in (items, asked))
    brute = tfrs.layers.factorized_top_k.BruteForce(k=k).index(tf.constant(vectors))
    truth = np.concatenate([brute(tf.constant(query[np.newaxis]))[1].numpy() for query in queries])
    _, exact = measured(brute, queries, truth)
    title = f"{items:,} vectors of {dimensions}, recall@{k}, {asked} queries"
    table = Table("", "built in", "memory", "probes", "recall", "a query", "of BruteForce", title=title)
    table.add_row("TFRS BruteForce", "", "1.00 x", "", "1.0000", f"{exact:.3f} ms", "1.000 x")
    table.add_section()
    curves: dict[str, Curve] = {}
    makers: dict[str, Callable[[], tuple[Curve, float, int]]] = {
        "homefeed": lambda: ours(vectors, queries, truth, False),
        "homefeed, re-ranked": lambda: ours(vectors, queries, truth, True),
    }
    with tempfile.TemporaryDirectory() as folder:
        if peer_python:
            paths = [Path(folder, f"{name}.npy") for name in ("vectors", "queries", "truth")]
            for path, array in zip(paths, (vectors, queries, truth), strict=True):
                np.save(path, array)
            makers |= {
                name: lambda method=method: _peer(peer_python, method, paths, k)
                for name, method in (("Faiss IVF, 8 bits", "faiss"), ("ScaNN", "scann"))
            }
        for name, make in makers.items():
            curve, build, size = make()
            curves[name] = curve
            _row(table, name, exact, size, vectors.nbytes, build, curve)
    Console(width=120).print(table)
    if plot:
        draw_plot(curves, exact, plot, title)


def _peer(python: str, method: str, paths: list[Path], k: int) -> tuple[Curve, float, int]:
    script = Path(__file__).with_name("retrieval_peer.py")
    command = [python, str(script), method, *map(str, paths), str(k)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode:
        raise SystemExit(result.stderr[-2000:])
    found = json.loads(result.stdout.splitlines()[-1])
    return [(int(s), r, ms) for s, r, ms in found["curve"]], found["build"], found["bytes"]


if __name__ == "__main__":
    main()
