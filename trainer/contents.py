"""What the candidate tower reads of an item beside categories and price: vectors, fixed or made along the way."""

import numpy as np
import tensorflow as tf

_PART = 256  # items that are embedded at once when a table is refreshed


class Content(tf.Module):
    """Fixed vectors of the items.

    Args:
      vectors: [items, n] float32.
    """

    def __init__(self, vectors: np.ndarray | tf.Tensor):
        super().__init__(name="content")
        self.table = tf.Variable(vectors, trainable=False, name="table")

    @property
    def slow(self) -> list[tf.Variable]:
        """Weights that are trained at the text encoder's rate."""
        return []

    def read(self, items: tf.Tensor, fresh: tf.Tensor | None) -> tf.Tensor:
        """[batch, n] float32 of items ([batch] int64); `fresh` ([some] int64) are places in `items` that are read anew,
        where vectors are made along the way."""
        return tf.gather(self.table, items)

    def refresh(self) -> None:
        """To be called after an epoch."""


class MadeContent(Content):
    """Vectors that a network makes, which is trained along with the towers.

    A step makes those of its targets anew, and it is through them that the network learns; all other items of the
    step, negatives and memories, are read from a table that is refreshed after each epoch. So a step costs what its
    batch has, not what the catalogue has. A subclass says how vectors are made in `fresh`, and calls `__init__` when it
    can.

    Args:
      order: [items] int64, an order in which items that are made together cost least.
    """

    def __init__(self, order: np.ndarray):
        self._order = order
        self._make = tf.function(self.fresh, input_signature=[tf.TensorSpec([None], tf.int64)], autograph=False)
        super().__init__(self._made())

    def fresh(self, items: tf.Tensor) -> tf.Tensor:
        """[batch, n] float32 of items ([batch] int64), by the weights as they are."""
        raise NotImplementedError

    def read(self, items: tf.Tensor, fresh: tf.Tensor | None) -> tf.Tensor:
        known = super().read(items, fresh)
        if fresh is None:
            return known
        return tf.tensor_scatter_nd_update(known, fresh[:, tf.newaxis], self.fresh(tf.gather(items, fresh)))

    def refresh(self) -> None:
        """Makes all vectors again."""
        self.table.assign(self._made())

    def _made(self) -> tf.Tensor:
        parts = [self._order[start : start + _PART] for start in range(0, len(self._order), _PART)]
        made = tf.concat([self._make(tf.constant(part)) for part in parts], axis=0)
        return tf.gather(made, np.argsort(self._order))


class TrainedImages(MadeContent):
    """Images through a small convolutional network that is trained with the towers.

    Args:
      images: [items, side, side, 3] uint8.
      dimensions: of the vectors.
    """

    def __init__(self, images: np.ndarray, dimensions: int):
        tf.Module.__init__(self, name="images")
        self._images = tf.Variable(images, trainable=False)
        layers = [
            tf.keras.layers.Conv2D(filters, 3, strides=2, padding="same", activation="gelu") for filters in (16, 32, 64)
        ]
        self._network = tf.keras.Sequential(
            [*layers, tf.keras.layers.GlobalAveragePooling2D(), tf.keras.layers.Dense(dimensions)]
        )
        super().__init__(np.arange(len(images)))

    def fresh(self, items: tf.Tensor) -> tf.Tensor:
        return self._network(tf.cast(tf.gather(self._images, items), tf.float32) / 127.5 - 1.0)
