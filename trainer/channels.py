"""What speaks for an item: the towers, collaborative filtering by items, by users and by factors, text, popularity. TF
core ops only, since this graph is served."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trainer.collaborative import Factors, Filters, Neighbours, solve_factors
from trainer.data import Catalog
from trainer.pools import Among, Everything, Pool, best_said
from trainer.reranking import LOWEST
from trainer.retrieval import Retriever
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
NEVER = np.iinfo(np.int64).max // 2  # when an item had its first event that has had none
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
      first_times: [items] int64, when each had its first event; `NEVER` where it had none.
      filters: collaborative filtering by items and by factors.
      crowd: user-based collaborative filtering.
      nearest: users of the crowd that are asked.
      enabled: the channels that are on.
      by_text: finds items by the embeddings of their texts.
      retrieval: the configuration's section: from which size of the catalogue on channels propose items, and how many.

    Attributes:
      alike, by_text: find the nearest of `item_vectors` and of `texts`.
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
        by_text: Retriever,
        retrieval: dict[str, Any],
    ):
        super().__init__(name="channels")
        self.model = model
        items = len(catalog)
        self.alike, self.by_text = (
            Retriever(tf.Variable(embed_catalog(model, items), trainable=False), retrieval),
            by_text,
        )
        # Side by side once, and not in every request.
        self._vectors = tf.Variable(tf.concat([self.item_vectors, model.popularity], axis=1), trainable=False)
        half_lives = np.log(np.expm1(catalog.popularity) + 1e-3).transpose(2, 1, 0)  # [snapshots, half-lives, items]
        self._half_lives = half_lives.shape[1]
        # A row for each half-life of each snapshot.
        self._popularity = tf.Variable(half_lives.reshape(-1, items).astype(np.float32), trainable=False)
        self._sentiment = tf.Variable(catalog.sentiment.T, trainable=False)
        self._first_times = tf.Variable(first_times, trainable=False)
        self._filters: Filters = tf.nest.map_structure(lambda value: tf.Variable(value, trainable=False), filters)
        self._crowd = Crowd(*(tf.Variable(value, trainable=False) for value in crowd))
        self._items, self._nearest, self._enabled = items, min(nearest, len(crowd.users)), enabled
        is_large = items >= retrieval["exact_below"]
        new = np.flatnonzero(first_times >= NEVER) if is_large else np.zeros(0, int)
        self._new = tf.Variable(new.astype(np.int32), trainable=False)
        new_vectors = tf.Variable(tf.gather(self.item_vectors, new), trainable=False)
        self._among_new = Retriever(new_vectors, retrieval) if len(new) else None
        self._proposed = 0
        if is_large:
            self.propose(retrieval["proposed"])

    @property
    def item_vectors(self) -> tf.Tensor:
        """[items, dimensions] float32 of unit length."""
        return self.alike.vectors

    @property
    def vectors(self) -> tf.Tensor:
        """[items, dimensions + snapshots] float32, see `Query.vectors`."""
        return tf.convert_to_tensor(self._vectors)

    @property
    def texts(self) -> tf.Tensor:
        """[items, text dimensions] float32."""
        return self.by_text.vectors

    @property
    def item_factors(self) -> np.ndarray:
        """[items, factors] float32 of the matrix factorisation."""
        return self._filters.factors.items.numpy()

    def propose(self, count: int) -> None:
        """Has each channel propose so many items from now on, see `among`."""
        self._proposed = min(count, self._items)
        share = -(-self._proposed // self._half_lives)
        popularity = tf.reshape(self._popularity, [-1, self._half_lives, self._items])
        popular = tf.math.top_k(popularity, share, sorted=False).indices
        # For everybody alike, so it is not looked for in each request.
        self._popular = tf.Variable(tf.reshape(popular, [len(popularity), -1]), trainable=False)

    def among(self, query: Query, more: tf.Tensor | None = None) -> Among:
        """What is ranked for queries: everything, or in a large catalogue what the channels propose.

        Each proposes the same number: the nearest to the query, what reads most like the history, what the history's
        items, and what similar users, say most for, what is popular, and the nearest of what is new.

        Args:
          query: the users.
          more: [batch, n] integers, items that are to be there too; negative for none.
        """
        if not self._proposed:
            return Everything(self._items)
        mine, keep = query.vectors[:, : self.item_vectors.shape[1]], tf.constant(self._proposed)
        proposed = [
            self.alike.best(mine, keep)[1],
            self.by_text.best(self._text_of(query), keep)[1],
            tf.gather(self._popular, self.model.slots(query.moments)),
        ]
        for items, said in (
            self._said_by_items(query, self._filters.ease),
            self._said_by_items(query, self._filters.alike),
            self._said_by_users(query),
        ):
            proposed.append(best_said(items, said[..., -1], self._proposed, self._items))
        if self._among_new is not None:
            nearest = self._among_new.best(mine, keep)[1]
            proposed.append(tf.where(nearest >= 0, tf.gather(self._new, tf.maximum(nearest, 0)), -1))
        if more is not None:
            proposed.append(tf.cast(more, tf.int32))
        return Pool(proposed, self._items)

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

    def tower_scores(self, query: Query, among: Among | None = None) -> tf.Tensor:
        """[batch, width] float32: the retrieval model's own; of everything where nothing is said."""
        return (among or Everything(self._items)).products(query.vectors, self.vectors)

    def is_new(self, query: Query, among: Among | None = None) -> tf.Tensor:
        """[batch, width] bool: what nobody has had yet."""
        return query.moments[:, tf.newaxis] < (among or Everything(self._items)).of(self._first_times)

    def popularity_shares(self, query: Query) -> tf.Tensor:
        """[batch, items] float32: each item's share of recent popularity, by the first half-life; sums to 1."""
        return tf.nn.softmax(
            Everything(self._items).rows(self._popularity, self.model.slots(query.moments) * self._half_lives)
        )

    def __call__(self, query: Query, among: Among | None = None) -> tf.Tensor:
        """[batch, width, features] float32, see `names_of`; of everything where nothing is said."""
        among = among or Everything(self._items)
        slots = self.model.slots(query.moments)
        features: dict[str, list[tf.Tensor]] = {}
        if TOWERS in self._enabled:
            cosine = among.products(query.vectors[:, : self.item_vectors.shape[1]], self.item_vectors)
            features[TOWERS] = [self.tower_scores(query, among), cosine]
        if ITEMS in self._enabled:
            said = (self._said_by_items(query, table) for table in (self._filters.ease, self._filters.alike))
            features[ITEMS] = [sums for items, theirs in said for sums in among.sums(items, theirs)]
        if FACTORS in self._enabled:
            features[FACTORS] = self._by_factors(query, among)
        if USERS in self._enabled:
            features[USERS] = among.sums(*self._said_by_users(query))
        if TEXT in self._enabled:
            features[TEXT] = [among.products(self._text_of(query), self.texts)]
        if POPULARITY in self._enabled:
            rows = (slots * self._half_lives + i for i in range(self._half_lives))
            features[POPULARITY] = [among.rows(self._popularity, row) for row in rows]
        if AGE in self._enabled:
            since = tf.cast(query.moments[:, tf.newaxis] - among.of(self._first_times), tf.float32)
            features[AGE] = [tf.where(since >= 0, log_days(since), -1.0)]
        if COMMENTS in self._enabled:
            features[COMMENTS] = [among.rows(self._sentiment, slots)]
        count = tf.math.log1p(tf.reduce_sum(tf.cast(query.history >= 0, tf.float32), axis=1, keepdims=True))
        newest = tf.where(query.history[:, :1] >= 0, log_days(query.ages[:, :1]), -1.0)
        features[CONTEXT] = [tf.tile(value, [1, among.width()]) for value in (count, newest)]
        _scale(features, among)
        return tf.stack([value for values in features.values() for value in values], axis=2)

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
            POPULARITY: [f"popularity_{i}" for i in range(self._half_lives)],
            AGE: ["age"],
            COMMENTS: ["comments"],
        }
        own = [(channel, name) for channel in names if channel in self._enabled for name in names[channel]]
        return [*own, (CONTEXT, "history_items"), (CONTEXT, "days_since")]

    def _said_by_items(self, query: Query, table: Neighbours) -> tuple[tf.Tensor, tf.Tensor]:
        """What the history's items say of others ([batch, length, n] int32): each counting the same, by its place and
        by its age ([batch, length, n, 3] float32)."""
        present = tf.cast(query.history >= 0, tf.float32)
        place = tf.cumsum(present, axis=1, exclusive=True)
        weights = tf.stack([present, present * _PLACE_DECAY**place, _decay(query, _ITEM_HALF_LIFE)], axis=2)
        history = tf.maximum(query.history, 0)
        said = tf.gather(table.weights, history)[:, :, :, tf.newaxis] * weights[:, :, tf.newaxis, :]
        return tf.gather(table.items, history), said

    def _by_factors(self, query: Query, among: Among) -> list[tf.Tensor]:
        """The scores of users who had what the history holds, each item counting the same, and by its age."""
        factors = Factors(*(tf.convert_to_tensor(value) for value in self._filters.factors))
        theirs = tf.gather(factors.items, tf.maximum(query.history, 0))
        shares = (tf.cast(query.history >= 0, tf.float32), _decay(query, _ITEM_HALF_LIFE))
        users = (solve_factors(factors, theirs, share) for share in shares)
        return [among.products(user, factors.items) for user in users]

    def _said_by_users(self, query: Query) -> tuple[tf.Tensor, tf.Tensor]:
        """What the nearest users of the query's embedding had ([batch, users, length] int32), by cosine and age
        ([batch, users, length, half-lives] float32); a user is no neighbour of themself."""
        mine = tf.math.l2_normalize(query.vectors[:, : self.item_vectors.shape[1]], axis=1)
        cosines = tf.matmul(mine, self._crowd.vectors, transpose_b=True)
        cosines = tf.where(query.users[:, tf.newaxis] == self._crowd.users, -1.0, cosines)
        top = tf.math.top_k(cosines, self._nearest)
        near = tf.exp(_SHARPNESS * (top.values - top.values[:, :1]))[:, :, tf.newaxis]
        histories = tf.gather(self._crowd.histories, top.indices)
        times = tf.gather(self._crowd.times, top.indices)
        ages = tf.cast(query.moments[:, tf.newaxis, tf.newaxis] - times, tf.float32) / DAY
        near *= tf.cast((histories >= 0) & (ages >= 0), tf.float32)
        said = tf.stack([near * _halved(tf.maximum(ages, 0.0) / days) for days in _USER_HALF_LIVES], axis=3)
        return tf.maximum(histories, 0), said

    def _text_of(self, query: Query) -> tf.Tensor:
        """[batch, text dimensions] float32 of unit length: what the history reads like."""
        memories = tf.gather(self.texts, tf.maximum(query.history, 0))
        return tf.math.l2_normalize(tf.einsum("bl,bld->bd", _decay(query, _ITEM_HALF_LIFE), memories), axis=1)


def embed_catalog(model: TwoTower, items: int) -> tf.Tensor:
    """[items, dimensions] float32: the candidate tower's vectors of all items."""
    parts = [
        model.candidate_tower(tf.range(start, min(start + _CATALOG_PART, items), dtype=tf.int64))
        for start in range(0, items, _CATALOG_PART)
    ]
    return tf.concat(parts, axis=0)


def _decay(query: Query, half_life: float) -> tf.Tensor:
    """[batch, length] float32: weights of the history's items, halved every `half_life` days."""
    return tf.cast(query.history >= 0, tf.float32) * _halved(query.ages / DAY / half_life)


def _halved(half_lives: tf.Tensor) -> tf.Tensor:
    """What is left of 1 after so many half-lives; TensorFlow's power takes ten times as long as its exponential."""
    return tf.exp(-np.log(2.0) * half_lives)


def _scale(features: dict[str, list[tf.Tensor]], among: Among) -> None:
    """Measures channels' scores by each user's strong ones, all at once."""
    for channels, scaled in (((TOWERS, POPULARITY), _from_top), ((ITEMS, FACTORS, USERS), _measured)):
        there = [channel for channel in channels if channel in features]
        if there:
            together = tf.stack([scores for channel in there for scores in features[channel]], axis=1)
            values = tf.unstack(scaled(together, _strongest(together, among)), axis=1)
            for channel in there:
                features[channel] = [values.pop(0) for _ in features[channel]]


def _strongest(scores: tf.Tensor, among: Among) -> tf.Tensor:
    """[batch, n, 1]: the mean of each row's best scores ([batch, n, width])."""
    best = tf.math.top_k(among.present(scores), tf.minimum(_STRONGEST, among.width()), sorted=False).values
    if among.is_whole:
        return tf.reduce_mean(best, axis=2, keepdims=True)
    is_there = best > LOWEST
    count = tf.reduce_sum(tf.cast(is_there, tf.float32), axis=2, keepdims=True)
    return tf.reduce_sum(tf.where(is_there, best, 0.0), axis=2, keepdims=True) / tf.maximum(count, 1.0)


def _measured(scores: tf.Tensor, strongest: tf.Tensor) -> tf.Tensor:
    """log(1 + 10 * score / the user's strong scores): users with a long history have larger sums, not other tastes."""
    return tf.math.log1p(10.0 * tf.maximum(scores, 0.0) / tf.maximum(strongest, 1e-9))


def _from_top(scores: tf.Tensor, strongest: tf.Tensor) -> tf.Tensor:
    return scores - strongest
