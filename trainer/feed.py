"""The whole score: channels, the weights that choose candidates from them, and the ranking stage that orders these."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer.channels import Channels, Query
from trainer.pools import Among, Everything
from trainer.ranker import Ranker

_BEHIND = 1e4  # what is no candidate stays behind all that are, in the order of the first stage


class Order(NamedTuple):
    """What was learned from the ranking windows.

    Attributes:
      weights: [features] float32: the first stage's score is their dot product with the channels' features.
      ranker: orders the first stage's best.
    """

    weights: np.ndarray
    ranker: Ranker


class Feed(tf.Module):
    """Scores of items for queries.

    Args:
      channels: the features.
      order: how they are weighed; None where no window could be learned from: the towers' score stands alone.
      candidates: how many of the first stage's best the ranking stage orders.
      events: size of the vocabulary of events.
    """

    def __init__(self, channels: Channels, order: Order | None, candidates: int, events: int):
        super().__init__(name="feed")
        self._events = events
        self.channels = channels
        self._candidates = min(candidates, channels.item_vectors.shape[0])
        self._weights = None if order is None else tf.Variable(order.weights, trainable=False)
        self.ranker = None if order is None else order.ranker

    def scores(self, query: Query) -> tf.Tensor:
        """[batch, items] float32, of the whole catalogue. See `scores_and_features`."""
        return self.scores_and_features(query, Everything(self.channels.item_vectors.shape[0]))[0]

    def scores_and_features(
        self, query: Query, among: Among, unwanted: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """[batch, width] float32, and the channels' [batch, width, features].

        Args:
          query: the users.
          among: what is scored for them.
          unwanted: [batch, width] bool: what may take no candidate's place.
        """
        features = self.channels(query, among)
        if self.ranker is None:
            return self.channels.tower_scores(query, among), features
        if among.is_whole and self._candidates == among.count:
            return self.ranker(features)[0], features
        first = self.first_stage(features)
        # What a place holds a second time takes no candidate's place either.
        chosen = among.present(first if unwanted is None else tf.where(unwanted, first - _BEHIND, first))
        count = self._candidates if among.is_whole else tf.minimum(self._candidates, among.width())
        top = tf.math.top_k(chosen, count, sorted=False).indices
        ranked = self.ranker(tf.gather(features, top, batch_dims=1))[0]
        rows = tf.broadcast_to(tf.range(tf.shape(top)[0])[:, tf.newaxis], tf.shape(top))
        scores = tf.tensor_scatter_nd_update(first - _BEHIND, tf.stack([rows, top], axis=2), ranked)
        return scores, features

    def first_stage(self, features: tf.Tensor) -> tf.Tensor:
        """[..., features] to the weighted sums that candidates are chosen by, [...] float32; the same for all where no
        window could be learned from."""
        return tf.zeros(tf.shape(features)[:-1]) if self._weights is None else tf.linalg.matvec(features, self._weights)

    def newcomer_scores(self, query: Query, among: Among, features: tf.Tensor) -> tf.Tensor:
        """[batch, width] float32: what new items are compared with each other by: the first stage's score, in which
        what only others can have counts for all of them the same; the towers' where no window could be learned
        from."""
        return self.channels.tower_scores(query, among) if self._weights is None else self.first_stage(features)

    def probabilities(self, features: tf.Tensor) -> tf.Tensor:
        """[..., features] to [..., events] float32: that a user turns to an item by an event within a window; NaN
        where no window could be learned from."""
        if self.ranker is None:
            return tf.fill(tf.concat([tf.shape(features)[:-1], [self._events]], axis=0), np.float32("nan"))
        return tf.sigmoid(self.ranker(features)[1])

    def shares(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        """What each channel adds to the first stage's score of items ([..., features]), float32 [...]."""
        named = self.channels.names_of()
        weights = tf.ones([len(named)]) if self._weights is None else self._weights
        parts = tf.unstack(features * weights, num=len(named), axis=-1)
        totals: dict[str, tf.Tensor] = {}
        for channel, part in zip(self.channels.channel_of(), parts, strict=True):
            totals[channel] = totals.get(channel, 0.0) + part
        return totals
