"""The nearest vectors of a catalogue: by comparing with all of them, or through an index where there are many."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.partitioned_top_k import PartitionedIndex, padded_top_k
from trainer.partitions import partition

CURVE_FILE = "index.json"  # of Trainer's model run: what `Retriever.curve` measured
RECALLED = 20  # items that an index is to find, for its recall
_ASKED = 200  # queries of a curve


class Retriever(tf.Module):
    """Finds the best by inner product.

    Args:
      vectors: [items, dimensions] float32.
      settings: the configuration's `retrieval` section.
    """

    def __init__(self, vectors: tf.Variable, settings: dict[str, Any]):
        super().__init__(name="retriever")
        self._vectors = vectors
        is_indexed = vectors.shape[0] >= settings["exact_below"]
        parts = partition(vectors.numpy(), settings["block"]) if is_indexed else None
        self._probes = settings["probes"]
        self._index = PartitionedIndex(parts, self._probes, vectors) if parts else None

    @property
    def vectors(self) -> tf.Tensor:
        """[items, dimensions] float32, read as a whole, which copies nothing. A variable that was once gathered from is
        copied by TensorFlow whenever it is read (its copy-on-read mode), so that rows are to be gathered from this."""
        return tf.convert_to_tensor(self._vectors)

    def best(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores [batch, k] float32, the best first, and rows [batch, k] int32; `LOWEST` and -1 where there are no
        more.

        Args:
          queries: [batch, dimensions] float32.
          k: int32.
        """
        return self._exact(queries, k) if self._index is None else self._index.search(queries, k)

    def recall(self, queries: tf.Tensor, k: int) -> tf.Tensor:
        """[batch] float32: the share of the k best that is found; 1 without an index."""
        if self._index is None:
            return tf.ones([tf.shape(queries)[0]])
        truth, found = self._exact(queries, tf.constant(k))[1], self.best(queries, tf.constant(k))[1]
        is_found = tf.reduce_any(truth[:, :, tf.newaxis] == found[:, tf.newaxis, :], axis=2) & (truth >= 0)
        return tf.reduce_sum(tf.cast(is_found, tf.float32), axis=1) / tf.reduce_sum(tf.cast(truth >= 0, tf.float32), 1)

    def curve(self, k: int) -> list[dict[str, float]]:
        """What more blocks cost and find: a point for a comparison with all items, `probes` 0, and where there is an
        index one for each of several numbers of blocks. Each has `probes`, `recall` (the mean share of the k nearest of
        some items that is found) and `milliseconds` (the median of one query)."""
        items = np.random.default_rng(1).choice(len(self.vectors), min(_ASKED, len(self.vectors)), replace=False)
        queries = tf.gather(self.vectors, items)
        points = [{"probes": 0.0, "recall": 1.0, "milliseconds": _median_ms(self._exact, queries, k)}]
        if self._index is not None:
            try:
                for probes in sorted({max(int(self._probes * factor), 1) for factor in (0.25, 0.5, 1, 2, 4)}):
                    self._index.probe(probes)
                    recall = float(tf.reduce_mean(self.recall(queries, k)))
                    milliseconds = _median_ms(self._index.search, queries, k)
                    points.append({"probes": float(probes), "recall": recall, "milliseconds": milliseconds})
            finally:
                self._index.probe(self._probes)
        return points

    def _exact(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return padded_top_k(tf.matmul(queries, self.vectors, transpose_b=True), k)


def _median_ms(search: Callable[..., Any], queries: tf.Tensor, k: int) -> float:
    ask = tf.function(lambda query: search(query, tf.constant(k))[1], autograph=False)
    ask(queries[:1])
    times = []
    for number in range(len(queries)):
        start = time.perf_counter()
        ask(queries[number : number + 1])
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))
