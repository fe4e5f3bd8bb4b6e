"""The ranking stage: channels to one order and to probabilities, learned from windows the channels had not seen."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer.tracing import of_any_rows

_EPS = 1e-6
_MEASURED = 500  # lists whose mean and deviation the features are measured by


@dataclass(frozen=True)
class Lists:
    """Candidates of states, as the ranking stage learns them.

    Attributes:
      features: [states, candidates, features] float16, since there are many.
      allowed: [states, candidates] bool, False where the user has had the item.
      relevant: [states, candidates] bool, whether the user turned to it.
      events: [states, candidates, events] bool, by which events.
      windows: [states] int64.
    """

    features: np.ndarray
    allowed: np.ndarray
    relevant: np.ndarray
    events: np.ndarray
    windows: np.ndarray

    def __len__(self) -> int:
        return len(self.windows)

    def take(self, rows: np.ndarray) -> "Lists":
        """The lists of some rows."""
        return Lists(*(value[rows] for value in vars(self).values()))


class Ranker(tf.keras.Model):
    """Scores and probabilities of candidates: a DCN-v2 (Wang et al. 2021, doi 10.1145/3442381.3450078; TFRS's cross
    layer beside a deep part) over standardised channel features, with a head for the order and one for each event.

    Args:
      mean, deviation: [features] float32 of the training lists.
      events: number of heads for events.
      hidden: sizes of the deep part's layers.
    """

    def __init__(self, mean: np.ndarray, deviation: np.ndarray, events: int, hidden: list[int]):
        super().__init__(name="ranker")
        self._mean = tf.Variable(mean.astype(np.float32), trainable=False, name="mean")
        self._deviation = tf.Variable(deviation.astype(np.float32), trainable=False, name="deviation")
        self._cross = tfrs.layers.dcn.Cross(name="cross")
        regularizer = tf.keras.regularizers.L2(1e-4)
        self._deep = tf.keras.Sequential(
            [tf.keras.layers.Dense(size, activation="gelu", kernel_regularizer=regularizer) for size in hidden],
            name="deep",
        )
        self._order = tf.keras.layers.Dense(1, use_bias=False, name="order")
        self._events = tf.keras.layers.Dense(events, name="events", bias_initializer=tf.constant_initializer(-4.0))

    def call(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Features ([..., features]) to scores ([...]) and logits of events ([..., events]), float32."""
        standard = (features - self._mean) / self._deviation
        flat = tf.reshape(standard, [-1, self._mean.shape[0]])
        both = tf.concat([self._cross(flat), self._deep(flat)], axis=1)
        shape = tf.shape(features)[:-1]
        scores = tf.reshape(self._order(both), shape)
        return scores, tf.reshape(self._events(both), tf.concat([shape, [self._events.units]], axis=0))


def train_ranker(lists: Lists, hyper: dict[str, Any], epochs: int, seed: int, earlier: Ranker | None = None) -> Ranker:
    """Minimises the listwise softmax over each state's candidates plus the cross-entropy of each event's head.

    A state counts by the root of its relevant items, a list of one relevant item by 1. The events' cross-entropy is
    over all candidates, so that the heads give the shares that are seen in the windows: they are calibrated by what
    they minimise.

    Args:
      lists: of all windows.
      hyper: the configuration's `ranking` section.
      epochs: passes over them.
      seed: of weights and order.
      earlier: is trained on; its weights change. None for one from nothing.
    """
    tf.keras.utils.set_random_seed(seed)
    ranker = _fresh(lists, hyper, seed) if earlier is None else earlier
    steps = epochs * -(-len(lists) // hyper["batch_size"])
    optimizer = tf.keras.optimizers.Adam(
        tf.keras.optimizers.schedules.CosineDecay(hyper["learning_rate"], max(steps, 1))
    )
    ranker(lists.features[:1].astype(np.float32))
    optimizer.build(ranker.trainable_variables)

    @tf.function(autograph=False, input_signature=of_any_rows(_learned_from(lists)))
    def step(features: tf.Tensor, allowed: tf.Tensor, relevant: tf.Tensor, events: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            scores, logits = ranker(tf.cast(features, tf.float32))
            order_loss = listwise_loss(scores, allowed, tf.cast(relevant, tf.float32))
            event_loss = _event_loss(logits, allowed, tf.cast(events, tf.float32))
            total = order_loss + hyper["event_weight"] * event_loss + tf.add_n(ranker.losses)
        gradients = tape.gradient(total, ranker.trainable_variables)
        optimizer.apply_gradients(zip(gradients, ranker.trainable_variables, strict=True))

    for rows in _batches(len(lists), hyper["batch_size"], epochs, seed):
        step(*_learned_from(lists.take(rows)))
    return ranker


def _learned_from(lists: Lists) -> tuple[np.ndarray, ...]:
    return lists.features, lists.allowed, lists.relevant, lists.events


def _fresh(lists: Lists, hyper: dict[str, Any], seed: int) -> Ranker:
    some = lists.take(np.random.default_rng(seed).permutation(len(lists))[:_MEASURED])
    return Ranker(*moments_of(some.features[some.allowed].astype(np.float32)), lists.events.shape[2], hyper["hidden"])


def moments_of(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n, features] to their means and deviations, float32; what never differs is measured by 1, so that it is no more
    than itself on the day that it does."""
    deviation = features.std(axis=0)
    return features.mean(axis=0), np.where(deviation > _EPS, deviation, 1.0).astype(np.float32)


def listwise_loss(scores: tf.Tensor, allowed: tf.Tensor, relevant: tf.Tensor) -> tf.Tensor:
    """Softmax cross-entropy (ListNet with one item a draw, Cao et al. 2007, doi 10.1145/1273496.1273513), a mean over
    states; all [states, candidates], `relevant` float32."""
    shares = tf.nn.log_softmax(tf.where(allowed, scores, -1e9))
    relevant = tf.where(allowed, relevant, 0.0)
    count = tf.reduce_sum(relevant, axis=1)
    losses = -tf.reduce_sum(shares * relevant, axis=1) / tf.sqrt(tf.maximum(count, 1.0))
    return tf.reduce_sum(losses) / tf.maximum(tf.reduce_sum(tf.cast(count > 0, tf.float32)), 1.0)


def _event_loss(logits: tf.Tensor, allowed: tf.Tensor, events: tf.Tensor) -> tf.Tensor:
    """Sum over a state's candidates and events, mean over states."""
    losses = tf.nn.sigmoid_cross_entropy_with_logits(events, logits) * tf.cast(allowed, tf.float32)[:, :, tf.newaxis]
    return tf.reduce_mean(tf.reduce_sum(losses, axis=[1, 2]))


def _batches(count: int, size: int, epochs: int, seed: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        order = random.permutation(count)
        yield from (order[start : start + size] for start in range(0, count, size))
