"""The nearest vectors of a catalogue: by comparing with all of them, or through an index where there are many."""

from typing import Any

import tensorflow as tf

from trainer.partitioned_top_k import PartitionedIndex, padded_top_k
from trainer.partitions import partition


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
        self._index = PartitionedIndex(parts, settings["probes"], vectors) if parts else None

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

    def _exact(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return padded_top_k(tf.matmul(queries, self.vectors, transpose_b=True), k)
