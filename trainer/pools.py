"""Among which items a query is answered: the whole catalogue where it is small, else what the channels propose. TF core
ops only, since this graph is served.

Both kinds have the same functions, in which `width` stands for how many places there are: an item's place is its index
in the catalogue, or where it stands in the row's pool.
"""

from collections.abc import Sequence

import tensorflow as tf

from trainer.reranking import LOWEST, exclude


class Everything:
    """The whole catalogue.

    Args:
      count: its items.
    """

    is_whole = True

    def __init__(self, count: int):
        self.count = count

    def width(self) -> int | tf.Tensor:
        """How many places there are."""
        return self.count

    def items(self, places: tf.Tensor) -> tf.Tensor:
        """The items at places, [batch, n] int32."""
        return places

    def places(self, items: tf.Tensor) -> tf.Tensor:
        """The places of items, [batch, n] integers; negative for what is nowhere."""
        return items

    def listed(self, batch: tf.Tensor) -> tf.Tensor:
        """[batch, width] int32: the item at every place, ascending; -1 where there is none."""
        return tf.tile(tf.range(self.count)[tf.newaxis], [batch, 1])

    def of(self, values: tf.Tensor) -> tf.Tensor:
        """What [items] values are at each place: [width] or [batch, width]."""
        return values

    def rows(self, table: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """[batch, width] of a table [n, items], of which each query has a row ([batch] int32)."""
        return tf.gather(tf.convert_to_tensor(table), rows)

    def products(self, queries: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
        """[batch, width] inner products of [batch, dimensions] and [items, dimensions]."""
        return tf.matmul(queries, vectors, transpose_b=True)

    def sums(self, items: tf.Tensor, said: tf.Tensor) -> list[tf.Tensor]:
        """Sums what is said ([batch, a, b, n] float32) of items ([batch, a, b] int32): n times [batch, width]."""
        return _sums(items, said, self.count)

    def present(self, scores: tf.Tensor) -> tf.Tensor:
        """Scores ([batch, width], or [batch, n, width]), with `LOWEST` where a place holds nothing."""
        return scores

    def left_out(self, items: tf.RaggedTensor) -> tf.Tensor:
        """[batch, width] bool: places of some items ([batch, None] int64, negative ones ignored), and empty ones."""
        return exclude(tf.zeros([items.nrows(), self.count]), items) == LOWEST


class Pool:
    """Some items for each query.

    Args:
      proposed: [batch, n] int32 each, in any order, more than once or negative for none.
      count: items of the catalogue.
    """

    is_whole = False

    def __init__(self, proposed: Sequence[tf.Tensor], count: int):
        both = tf.concat(proposed, axis=1)
        # In order, so that an item is looked up by bisection; the first of equal ones stands for all of them.
        self._items = tf.sort(tf.where(both >= 0, both, count), axis=1)
        before = tf.pad(self._items[:, :-1], [[0, 0], [1, 0]], constant_values=-1)
        self._is_there = (self._items != before) & (self._items < count)
        self.count = count

    def width(self) -> int | tf.Tensor:
        """See `Everything`, as for all that follow."""
        return tf.shape(self._items)[1]

    def items(self, places: tf.Tensor) -> tf.Tensor:
        return tf.minimum(tf.gather(self._items, places, batch_dims=1), self.count - 1)

    def places(self, items: tf.Tensor) -> tf.Tensor:
        wanted = tf.cast(items, tf.int32)
        place = tf.minimum(tf.searchsorted(self._items, wanted), self.width() - 1)
        is_found = (tf.gather(self._items, place, batch_dims=1) == wanted) & (wanted >= 0) & (wanted < self.count)
        return tf.cast(tf.where(is_found, place, -1), items.dtype)

    def listed(self, batch: tf.Tensor) -> tf.Tensor:
        return tf.where(self._is_there, self._items, -1)

    def of(self, values: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.convert_to_tensor(values), self._filled())

    def rows(self, table: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        cells = tf.cast(rows[:, tf.newaxis], tf.int64) * self.count + tf.cast(self._filled(), tf.int64)
        return tf.gather(tf.reshape(table, [-1]), cells)

    def products(self, queries: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(tf.gather(vectors, self._filled()), queries)

    def sums(self, items: tf.Tensor, said: tf.Tensor) -> list[tf.Tensor]:
        shape = tf.shape(items)
        places = tf.reshape(self.places(tf.reshape(items, [shape[0], -1])), shape)
        return _sums(places, said, self.width())

    def present(self, scores: tf.Tensor) -> tf.Tensor:
        is_there = self._is_there if len(scores.shape) == 2 else self._is_there[:, tf.newaxis]
        return tf.where(is_there, scores, LOWEST)

    def left_out(self, items: tf.RaggedTensor) -> tf.Tensor:
        places = self.places(items.to_tensor(-1))
        unwanted = exclude(tf.zeros(tf.shape(self._items)), tf.RaggedTensor.from_tensor(places)) == LOWEST
        return unwanted | ~self._is_there

    def _filled(self) -> tf.Tensor:
        """[batch, width] int32 items; any where a place is empty."""
        return tf.minimum(self._items, self.count - 1)


Among = Everything | Pool


def best_said(items: tf.Tensor, said: tf.Tensor, keep: int, count: int) -> tf.Tensor:
    """Of the items that something is said of, those with the largest sums above 0: [batch, keep or fewer] int32, -1
    where there are no more.

    Args:
      items: [batch, a, b] int32.
      said: [batch, a, b] float32.
      keep: how many.
      count: items of the catalogue.
    """
    pool = Pool([tf.reshape(items, [tf.shape(items)[0], -1])], count)
    (total,) = pool.sums(items, said[..., tf.newaxis])
    top = tf.math.top_k(pool.present(total), tf.minimum(keep, pool.width()), sorted=False)
    return tf.where(top.values > 0, pool.items(top.indices), -1)


def _sums(places: tf.Tensor, said: tf.Tensor, width: int | tf.Tensor) -> list[tf.Tensor]:
    batch, kinds = tf.shape(places)[0], said.shape[3]
    rows = tf.range(batch)[:, tf.newaxis, tf.newaxis] * width
    cells = tf.reshape(tf.where(places >= 0, rows + places, -1), [-1])  # what is negative is left out
    sums = tf.math.unsorted_segment_sum(tf.reshape(said, [-1, kinds]), cells, batch * width)
    return tf.unstack(tf.reshape(sums, [batch, width, kinds]), num=kinds, axis=2)
