"""What speaks for an item: the towers, collaborative filtering by items, by users and by factors, text, popularity. TF
core ops only, since this graph is served."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer.collaborative import Filters, Neighbours, solve_factors
from trainer.data import Catalog
from trainer.towers import DAY, log_days
from trainer.two_tower import TwoTower

TOWERS, ITEMS, USERS, TEXT, POPULARITY, AGE = "towers", "items", "users", "text", "popularity", "age"
FACTORS, COMMENTS = "factors", "comments"
CONTEXT = "context"  # of the user, the same for every item
_PLACE_DECAY = 0.8  # an item counts so much less for each newer one in the history
_ITEM_HALF_LIFE = 60.0  # days
_USER_HALF_LIVES = (7.0, 30.0)  # days
_SHARPNESS = 10.0  # of the softmax over the cosines of neighbouring users
_CATALOG_PART = 65_536  # items that go through the candidate tower at once
_STRONGEST = 100  # a user's scores in a channel are measured by the mean of so many of the best


class Query(NamedTuple):
    """A batch of users at a moment each.

    Attributes:
      vectors: [batch, dimensions + snapshots] float32; the dot product with an item's vector is the towers' score.
      users: [batch] int64 user indices.
      history: [batch, length] int64 item indices, newest first, -1 where padded.
      ages: [batch, length] float32, seconds.
      moments: [batch] int64, seconds since 1970 UTC.
    """

    vectors: tf.Tensor
    users: tf.Tensor
    history: tf.Tensor
    ages: tf.Tensor
    moments: tf.Tensor


class Crowd(NamedTuple):
    """Users to be compared with, as of one moment.

    Attributes:
      users: [crowd] int64 user indices.
      vectors: [crowd, dimensions] float32, of unit length.
      histories: [crowd, length] int32, -1 where padded.
      times: [crowd, length] int64, seconds since 1970 UTC.
    """

    users: np.ndarray
    vectors: np.ndarray
    histories: np.ndarray
    times: np.ndarray


class Channels(tf.Module):
    """Features of every item of the catalogue for a query.

    Args:
      model: the towers.
      catalog: the items.
      first_times: [items] int64, when each had its first event; far ahead where it had none.
      filters: collaborative filtering by items and by factors.
      crowd: user-based collaborative filtering.
      nearest: users of the crowd that are asked.
      enabled: the channels that are on.
    """

    def __init__(
        self,
        model: TwoTower,
        catalog: Catalog,
        first_times: np.ndarray,
        filters: Filters,
        crowd: Crowd,
        nearest: int,
        enabled: tuple[str, ...],
    ):
        super().__init__(name="channels")
        self.model = model
        items = len(catalog)
        self.item_vectors = tf.Variable(embed_catalog(model, items), trainable=False)
        # [items, dimensions + snapshots], see `Query.vectors`; side by side once, and not in every request.
        self.vectors = tf.Variable(tf.concat([self.item_vectors, model.popularity], axis=1), trainable=False)
        self.texts = tf.Variable(catalog.text_embeddings, trainable=False)
        half_lives = np.log(np.expm1(catalog.popularity) + 1e-3).transpose(2, 1, 0)  # [snapshots, half-lives, items]
        self._popularity = tf.Variable(half_lives.astype(np.float32), trainable=False)
        self._sentiment = tf.Variable(catalog.sentiment.T, trainable=False)
        self._first_times = tf.Variable(first_times, trainable=False)
        self._filters: Filters = tf.nest.map_structure(lambda value: tf.Variable(value, trainable=False), filters)
        self._crowd = Crowd(*(tf.Variable(value, trainable=False) for value in crowd))
        self._items, self._nearest, self._enabled = items, min(nearest, len(crowd.users)), enabled

    def query(
        self,
        users: tf.Tensor,
        traits: tf.Tensor,
        history: tf.Tensor,
        events: tf.Tensor,
        times: tf.Tensor,
        moments: tf.Tensor,
    ) -> Query:
        """A query of indices; shapes as in `Query` and `QueryTower.call`; `times` ([batch, length] int64) are the
        history's."""
        vectors = self.model.embed_queries(self.item_vectors, users, traits, history, events, times, moments)
        ages = tf.maximum(tf.cast(moments[:, tf.newaxis] - times, tf.float32), 0.0)
        return Query(vectors, users, history, ages, moments)

    def tower_scores(self, query: Query) -> tf.Tensor:
        """[batch, items] float32: the retrieval model's own."""
        return tf.matmul(query.vectors, self.vectors, transpose_b=True)

    def is_new(self, query: Query) -> tf.Tensor:
        """[batch, items] bool: what nobody has had yet."""
        return query.moments[:, tf.newaxis] < self._first_times

    def popularity_shares(self, query: Query) -> tf.Tensor:
        """[batch, items] float32: each item's share of recent popularity, by the first half-life; sums to 1."""
        return tf.nn.softmax(tf.gather(self._popularity[:, 0], self.model.slots(query.moments)))

    def __call__(self, query: Query) -> tf.Tensor:
        """[batch, items, features] float32, see `names_of`."""
        features: list[tf.Tensor] = []
        per_item = [1, self._items]
        if TOWERS in self._enabled:
            dimensions = tf.shape(self.item_vectors)[1]
            cosine = tf.matmul(query.vectors[:, :dimensions], self.item_vectors, transpose_b=True)
            features += [_from_top(self.tower_scores(query)), _from_top(cosine)]
        if ITEMS in self._enabled:
            for table in (self._filters.ease, self._filters.alike):
                features += [_measured(scores) for scores in self._by_items(query, table)]
        if FACTORS in self._enabled:
            features += [_measured(scores) for scores in self._by_factors(query)]
        if USERS in self._enabled:
            features += [_measured(scores) for scores in self._by_users(query)]
        if TEXT in self._enabled:
            memories = tf.gather(self.texts, tf.maximum(query.history, 0))
            mine = tf.einsum("bl,bld->bd", _decay(query, _ITEM_HALF_LIFE), memories)
            features.append(tf.matmul(tf.math.l2_normalize(mine, axis=1), self.texts, transpose_b=True))
        if POPULARITY in self._enabled:
            popularity = tf.gather(self._popularity, self.model.slots(query.moments))
            features += [_from_top(popularity[:, i]) for i in range(self._popularity.shape[1])]
        if AGE in self._enabled:
            since = tf.cast(query.moments[:, tf.newaxis] - self._first_times, tf.float32)
            features.append(tf.where(since >= 0, log_days(since), -1.0))
        if COMMENTS in self._enabled:
            features.append(tf.gather(self._sentiment, self.model.slots(query.moments)))
        present = tf.cast(query.history >= 0, tf.float32)
        count = tf.math.log1p(tf.reduce_sum(present, axis=1, keepdims=True))
        newest = tf.where(query.history[:, :1] >= 0, log_days(query.ages[:, :1]), -1.0)
        features += [tf.tile(value, per_item) for value in (count, newest)]
        return tf.stack(features, axis=2)

    def names_of(self) -> list[str]:
        """The features' names."""
        return [name for _, name in self._named()]

    def channel_of(self) -> list[str]:
        """The features' channels."""
        return [channel for channel, _ in self._named()]

    def _named(self) -> list[tuple[str, str]]:
        names = {
            TOWERS: ["towers", "towers_cosine"],
            ITEMS: [f"{table}{by}" for table in ("ease", "alike") for by in ("", "_by_place", "_by_time")],
            FACTORS: ["factors", "factors_by_time"],
            USERS: [f"users_{days:g}_days" for days in _USER_HALF_LIVES],
            TEXT: ["text"],
            POPULARITY: [f"popularity_{i}" for i in range(self._popularity.shape[1])],
            AGE: ["age"],
            COMMENTS: ["comments"],
        }
        own = [(channel, name) for channel in names if channel in self._enabled for name in names[channel]]
        return [*own, (CONTEXT, "history_items"), (CONTEXT, "days_since")]

    def _by_items(self, query: Query, table: Neighbours) -> list[tf.Tensor]:
        """What the history's items say of all, each counting the same, by its place and by its age."""
        present = tf.cast(query.history >= 0, tf.float32)
        place = tf.cumsum(present, axis=1, exclusive=True)
        weights = tf.stack([present, present * _PLACE_DECAY**place, _decay(query, _ITEM_HALF_LIFE)], axis=2)
        history = tf.maximum(query.history, 0)
        said = tf.gather(table.weights, history)[:, :, :, tf.newaxis] * weights[:, :, tf.newaxis, :]
        return self._spread(tf.gather(table.items, history), said)

    def _by_factors(self, query: Query) -> list[tf.Tensor]:
        """The scores of users who had what the history holds, each item counting the same, and by its age."""
        factors = self._filters.factors
        theirs = tf.gather(factors.items, tf.maximum(query.history, 0))
        shares = (tf.cast(query.history >= 0, tf.float32), _decay(query, _ITEM_HALF_LIFE))
        users = (solve_factors(factors, theirs, share) for share in shares)
        return [tf.matmul(user, factors.items, transpose_b=True) for user in users]

    def _by_users(self, query: Query) -> list[tf.Tensor]:
        """What the nearest users of the query's embedding had lately, by cosine and age; a user is no neighbour of
        themself."""
        dimensions = tf.shape(self.item_vectors)[1]
        mine = tf.math.l2_normalize(query.vectors[:, :dimensions], axis=1)
        cosines = tf.matmul(mine, self._crowd.vectors, transpose_b=True)
        cosines = tf.where(query.users[:, tf.newaxis] == self._crowd.users, -1.0, cosines)
        top = tf.math.top_k(cosines, self._nearest)
        near = tf.exp(_SHARPNESS * (top.values - top.values[:, :1]))[:, :, tf.newaxis]
        histories = tf.gather(self._crowd.histories, top.indices)
        times = tf.gather(self._crowd.times, top.indices)
        ages = tf.cast(query.moments[:, tf.newaxis, tf.newaxis] - times, tf.float32) / DAY
        near *= tf.cast((histories >= 0) & (ages >= 0), tf.float32)
        said = tf.stack([near * 0.5 ** (tf.maximum(ages, 0.0) / days) for days in _USER_HALF_LIVES], axis=3)
        return self._spread(tf.maximum(histories, 0), said)

    def _spread(self, items: tf.Tensor, said: tf.Tensor) -> list[tf.Tensor]:
        """Sums what is said ([batch, a, b, n]) of items ([batch, a, b] int32) to n times [batch, items]."""
        batch, kinds = tf.shape(items)[0], said.shape[3]
        rows = tf.range(batch)[:, tf.newaxis, tf.newaxis] * self._items
        cells = tf.reshape(rows + items, [-1])
        sums = tf.math.unsorted_segment_sum(tf.reshape(said, [-1, kinds]), cells, batch * self._items)
        return tf.unstack(tf.reshape(sums, [batch, self._items, kinds]), num=kinds, axis=2)


def embed_catalog(model: TwoTower, items: int) -> tf.Tensor:
    """[items, dimensions] float32: the candidate tower's vectors of all items."""
    parts = [
        model.candidate_tower(tf.range(start, min(start + _CATALOG_PART, items), dtype=tf.int64))
        for start in range(0, items, _CATALOG_PART)
    ]
    return tf.concat(parts, axis=0)


def _decay(query: Query, half_life: float) -> tf.Tensor:
    """[batch, length] float32: weights of the history's items, halved every `half_life` days."""
    return tf.cast(query.history >= 0, tf.float32) * 0.5 ** (query.ages / DAY / half_life)


def _strongest(scores: tf.Tensor) -> tf.Tensor:
    """[batch, 1]: the mean of each row's best scores."""
    count = tf.minimum(_STRONGEST, tf.shape(scores)[1])
    return tf.reduce_mean(tf.math.top_k(scores, count, sorted=False).values, axis=1, keepdims=True)


def _measured(scores: tf.Tensor) -> tf.Tensor:
    """log(1 + 10 * score / the user's strong scores): users with a long history have larger sums, not other tastes."""
    return tf.math.log1p(10.0 * tf.maximum(scores, 0.0) / tf.maximum(_strongest(scores), 1e-9))


def _from_top(scores: tf.Tensor) -> tf.Tensor:
    return scores - _strongest(scores)
