"""Approximate retrieval of ops that every TensorFlow Serving binary has, where ScaNN's do not exist.

A query is compared with each block's direction; the vectors of the best blocks are scored from their bytes, and the
best of these again from their own numbers, where the index holds them.
"""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer.partitions import Partitions, partition
from trainer.reranking import LOWEST

_SPARE = 2  # the short list that is scored again has so many times k


def padded_top_k(scores: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The k best of each row ([batch, n]) and their places, each [batch, k]; `LOWEST` and -1 beyond the n-th."""
    found = tf.minimum(k, tf.shape(scores)[1])
    top, missing = tf.math.top_k(scores, found), [[0, 0], [0, k - found]]
    return tf.pad(top.values, missing, constant_values=LOWEST), tf.pad(top.indices, missing, constant_values=-1)


class PartitionedIndex(tf.Module):
    """The index in a graph.

    Args:
      partitions: the blocks.
      probes: blocks that are looked at.
      vectors: [items, dimensions] float32, to score the best again exactly; None answers from bytes alone.
    """

    def __init__(self, partitions: Partitions, probes: int, vectors: tf.Tensor | tf.Variable | None = None):
        super().__init__(name="partitioned_index")
        kept = (tf.Variable(array, trainable=False) for array in partitions)
        self._probes, self._means, self._codes, self._scales, self._rows = kept
        self._count = min(probes, len(partitions.rows))
        self._vectors = vectors

    def bytes(self) -> int:
        """What the index takes in memory."""
        own = (self._probes, self._means, self._codes, self._scales, self._rows)
        kept = () if self._vectors is None else (self._vectors,)
        return sum(array.dtype.size * array.shape.num_elements() for array in (*own, *kept))

    def probe(self, count: int) -> None:
        """Looks at so many blocks from now on; graphs that were traced before do not follow."""
        self._count = min(count, self._rows.shape[0])

    def search(
        self, queries: tf.Tensor, k: int | tf.Tensor, allowed: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The best of each query by inner product.

        Args:
          queries: [batch, dimensions] float32.
          k: how many.
          allowed: [items] bool: only these may be found. Blocks without any of them are not looked at, so that a
            narrow filter does not starve the answer.

        Returns:
          Scores and rows of the vectors, each [batch, k], the best first; where fewer are found the score is
          `LOWEST` and the row -1.
        """
        batch, blocks = tf.shape(queries)[0], tf.shape(self._rows)[0]
        size, dimensions = self._rows.shape[1], self._codes.shape[2]
        wanted = tf.cast(k, tf.int32)
        likeness = tf.matmul(queries, self._probes, transpose_b=True)
        is_allowed = None if allowed is None else (self._rows >= 0) & tf.gather(allowed, tf.maximum(self._rows, 0))
        if is_allowed is not None:
            likeness = tf.where(tf.reduce_any(is_allowed, axis=1), likeness, LOWEST)
        # At least as many blocks as hold two times k, were they full.
        count = tf.minimum(tf.maximum(self._count, _SPARE * wanted // size + 1), blocks)
        chosen = tf.math.top_k(likeness, count, sorted=False).indices
        bytes_ = tf.reshape(tf.gather(self._codes, chosen), [batch, -1, dimensions])
        parts = tf.linalg.matvec(tf.cast(bytes_, tf.float32), queries)
        base = tf.linalg.matvec(tf.gather(self._means, chosen), queries)
        scores = tf.reshape(parts, [batch, -1, size]) * tf.gather(self._scales, chosen) + base[:, :, tf.newaxis]
        rows = tf.gather(self._rows, chosen)
        is_there = rows >= 0 if is_allowed is None else tf.gather(is_allowed, chosen)
        scores = tf.reshape(tf.where(is_there, scores, LOWEST), [batch, -1])
        rows = tf.reshape(rows, [batch, -1])
        if self._vectors is None:
            return self._best(scores, rows, wanted)
        short = tf.math.top_k(scores, tf.minimum(_SPARE * wanted, tf.shape(scores)[1]), sorted=False)
        rows = tf.gather(rows, short.indices, batch_dims=1)
        exact = tf.linalg.matvec(tf.gather(tf.convert_to_tensor(self._vectors), tf.maximum(rows, 0)), queries)
        return self._best(tf.where(short.values > LOWEST, exact, LOWEST), rows, wanted)

    @staticmethod
    def _best(scores: tf.Tensor, rows: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        values, places = padded_top_k(scores, k)
        found = tf.gather(rows, tf.maximum(places, 0), batch_dims=1)
        return values, tf.where(values > LOWEST, found, -1)


class PartitionedTopK(tfrs.layers.factorized_top_k.TopK):
    """A drop-in for TFRS's `factorized_top_k` layers, such as `BruteForce` and `ScaNN`.

    Args:
      query_model: makes embeddings of queries; without it, queries are embeddings.
      k: how many are retrieved where a call does not say.
      probes: blocks that are looked at: more find more, and take longer.
      block: candidates of a block.
      is_reranked: keep the candidates' own numbers, and order the best by them.
      seed: of the parting.
    """

    def __init__(
        self,
        query_model: tf.keras.Model | None = None,
        k: int = 10,
        probes: int = 32,
        block: int = 128,
        is_reranked: bool = True,
        seed: int = 1,
        name: str | None = None,
    ):
        super().__init__(k=k, name=name)
        self.query_model = query_model
        self._settings = (probes, block, is_reranked, seed)
        self._index: PartitionedIndex | None = None
        self._identifiers: tf.Variable | None = None

    def index(self, candidates: tf.Tensor, identifiers: tf.Tensor | None = None) -> "PartitionedTopK":
        """Builds the index; see TFRS's `TopK.index`. Raises ValueError where numbers of both differ."""
        vectors = np.asarray(candidates, np.float32)
        if identifiers is not None and len(identifiers) != len(vectors):
            raise ValueError(f"{len(vectors)} candidates and {len(identifiers)} identifiers: both are to be as many.")
        probes, block, is_reranked, seed = self._settings
        kept = tf.Variable(vectors, trainable=False) if is_reranked else None
        self._index = PartitionedIndex(partition(vectors, block, seed), probes, kept)
        names = tf.range(len(vectors)) if identifiers is None else tf.convert_to_tensor(identifiers)
        self._identifiers = tf.Variable(names, trainable=False)
        self._reset_tf_function_cache()
        return self

    def call(self, queries: Any, k: int | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores and identifiers, [batch, k]; see TFRS's `TopK.call`. Raises ValueError before `index` was called."""
        index = self._built()
        if self.query_model is not None:
            queries = self.query_model(queries)
        scores, rows = index.search(queries, k if k is not None else self._k)
        return scores, tf.gather(self._identifiers, tf.maximum(rows, 0))

    def probe(self, count: int) -> None:
        """Looks at so many blocks from now on."""
        self._built().probe(count)
        self._reset_tf_function_cache()

    def bytes(self) -> int:
        """What the index takes in memory."""
        return self._built().bytes()

    def _built(self) -> PartitionedIndex:
        if self._index is None:
            raise ValueError("The `index` method must be called first to create the retrieval index.")
        return self._index

    def is_exact(self) -> bool:
        """No: blocks that are not looked at may hold what was wanted."""
        return False
