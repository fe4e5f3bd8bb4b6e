"""The two-tower model of TFRS's retrieval tutorial: embeddings of ids, in-batch softmax, Adagrad."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from benchmarks.splits import Log

_BATCH = 4096


class PlainTwoTower(tfrs.Model):
    """tensorflow.org/recommenders/examples/basic_retrieval, without its metrics.

    Args:
      users, items: numbers of ids.
      dimensions: of the embeddings.
    """

    def __init__(self, users: int, items: int, dimensions: int):
        super().__init__()
        self.users = tf.keras.layers.Embedding(users, dimensions)
        self.items = tf.keras.layers.Embedding(items, dimensions)
        self.task = tfrs.tasks.Retrieval()

    def compute_loss(self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool = False) -> tf.Tensor:
        users, items = inputs
        return self.task(self.users(users), self.items(items), compute_metrics=False)


def train(log: Log, dimensions: int, learning_rate: float, epochs: int) -> Callable[[np.ndarray], np.ndarray]:
    """Trains on all events; users to scores of all items."""
    tf.keras.utils.set_random_seed(1)
    model = PlainTwoTower(len(log.user_names), len(log.item_names), dimensions)
    model.compile(optimizer=tf.keras.optimizers.Adagrad(learning_rate))
    dataset = tf.data.Dataset.from_tensor_slices((log.users, log.items)).shuffle(100_000, seed=1).batch(_BATCH)
    model.fit(dataset, epochs=epochs, verbose=0)
    items = model.items(np.arange(len(log.item_names))).numpy()
    return lambda users: model.users(users).numpy() @ items.T
