"""The two towers. Both end on the unit sphere, so that a score is a cosine and a temperature sets its sharpness."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from trainer.contents import Content
from trainer.data import Catalog
from trainer.preprocessing import TRAIT_BUCKETS

DAY = 86_400.0
_HEADS = 2
_AGES = 16  # functions of an event's age that are learned


class Coins(tf.Module):
    """Random numbers for dropout that are a function of the training step alone: a resumed training draws the same.

    Args:
      seed: of the model.
    """

    def __init__(self, seed: int):
        super().__init__(name="coins")
        self._seed = seed
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step", aggregation=first)

    def seed(self, place: int) -> tf.Tensor:
        """The step's seed, [2] int64; `place` tells apart what is thrown in one step, and devices are told apart."""
        replica = tf.distribute.get_replica_context()
        device = 0 if replica is None else replica.replica_id_in_sync_group
        whose = tf.cast(device, tf.int64) * 1_000_003 + self._seed * 1009 + place
        return tf.stack([whose, self.step])

    def heads(self, shape: tf.Tensor, probability: float, place: int) -> tf.Tensor:
        """`shape` bools, True with a probability."""
        return tf.random.stateless_uniform(shape, self.seed(place)) < probability


class CandidateTower(tf.keras.Model):
    """Embeds items by what they are: texts, images, categories and price, and their id where training has met it.

    The item's features are constants of the model, looked up by index. A gate, a function of both, says how much of the
    id's embedding is added to the content's, dimension by dimension. The id is left out for an item that is no target
    in training, and dropped at random in training: such an item is placed by its content.

    Args:
      catalog: the items.
      met: [items] bool, whether training has the item as a target.
      dimensions: size of the embedding.
      dropout: share of items whose id's embedding is dropped in a training step.
      coins: for dropout.
      contents: what is read of an item beside categories and price.
    """

    def __init__(
        self,
        catalog: Catalog,
        met: np.ndarray,
        dimensions: int,
        dropout: float,
        coins: Coins,
        contents: Sequence[Content],
    ):
        super().__init__(name="candidate_tower")
        items = len(catalog)
        self._dropout, self._coins = dropout, coins
        self.contents = list(contents)
        self._prices = tf.Variable(catalog.prices[:, np.newaxis], trainable=False, name="prices")
        self._categories = tf.Variable(catalog.categories, trainable=False, name="categories")
        self.met = tf.Variable(met.astype(np.float32)[:, np.newaxis], trainable=False, name="met")
        self._ids = tf.keras.layers.Embedding(items, dimensions, name="item_id")
        self._category = tf.keras.layers.Embedding(
            int(catalog.categories.max(initial=0)) + 2, dimensions, name="category"
        )
        self._content = tf.keras.Sequential(
            [tf.keras.layers.Dense(2 * dimensions, activation="gelu"), tf.keras.layers.Dense(dimensions)],
            name="content",
        )
        self._gate = tf.keras.layers.Dense(dimensions, activation="sigmoid", name="gate")

    @property
    def item_table(self) -> tf.Variable:
        """[items, dimensions]"""
        return self._ids.embeddings

    @property
    def category_table(self) -> tf.Variable:
        """[categories + 1, dimensions]"""
        return self._category.embeddings

    def call(self, items: tf.Tensor, training: bool = False, fresh: tf.Tensor | None = None) -> tf.Tensor:
        """Embeds items.

        Args:
          items: [batch] int64 item indices, none negative.
          fresh: [n] int64, distinct places in `items` whose contents are made anew, see `MadeContent`.

        Returns:
          [batch, dimensions] float32, of unit length.
        """
        categories = tf.gather(self._categories, items)
        present = tf.cast(categories >= 0, tf.float32)[:, :, tf.newaxis]
        category = tf.reduce_sum(self._category(tf.maximum(categories, 0)) * present, axis=1)
        category /= tf.maximum(tf.reduce_sum(present, axis=1), 1.0)
        read = [content.read(items, fresh) for content in self.contents]
        content = self._content(tf.concat([*read, category, tf.gather(self._prices, items)], axis=1))
        met = tf.gather(self.met, items)
        if training:
            met *= 1.0 - tf.cast(self._coins.heads(tf.shape(met), self._dropout, 0), tf.float32)
        ids = met * self._ids(items)
        return tf.math.l2_normalize(content + self._gate(tf.concat([content, ids], axis=1)) * ids, axis=1)


class Norm(tf.keras.layers.LayerNormalization):
    """Without Keras's fused kernel, which takes more of one user's answer on a CPU than any other op."""

    def _fused_can_be_used(self, ndims: int) -> bool:
        return False


class QueryTower(tf.keras.Model):
    """Embeds a user: who they are, where training knows them, profile, the items of their history, and the moment.

    History items come in as candidate embeddings, with their place, age and event added. The newest of them looks at
    all (multi-head attention, as the last position of a SASRec layer does, Kang and McAuley 2018, arXiv 1808.09781) and
    their mean is added. A user without a history is embedded by the user's id and the moment, one whom training does
    not know by the rest.

    Args:
      users: number of users that training knows; the index `users` is everybody else.
      events: number of kinds of events.
      history_length: latest items that are read.
      dimensions: size of the embedding.
      dropout: share of training rows in which the user's embedding is dropped, and of history items that are.
      coins: for dropout.
    """

    def __init__(
        self,
        users: int,
        events: int,
        history_length: int,
        dimensions: int,
        dropout: float,
        coins: Coins,
    ):
        super().__init__(name="query_tower")
        self._known_users = users
        self._dropout, self._coins = dropout, coins
        dense, embedding = tf.keras.layers.Dense, tf.keras.layers.Embedding
        self._users = embedding(users + 1, dimensions, name="user_id", embeddings_initializer="zeros")
        self._traits = embedding(TRAIT_BUCKETS, dimensions, embeddings_initializer="zeros", name="trait")
        self._hour = embedding(24, dimensions, embeddings_initializer="zeros", name="hour")
        self._weekday = embedding(7, dimensions, embeddings_initializer="zeros", name="weekday")
        self._nothing = self.add_weight("nothing", [dimensions], initializer="zeros")
        self._norms = [Norm(name=f"norm_{i}") for i in range(3)]
        self._looks = Looks(events, history_length, dimensions)
        self._think = tf.keras.Sequential([dense(2 * dimensions, activation="gelu"), dense(dimensions)], name="think")
        self._mix = tf.keras.Sequential([dense(2 * dimensions, activation="gelu"), dense(dimensions)], name="mix")

    @property
    def user_table(self) -> tf.Variable:
        """[users + 1, dimensions]"""
        return self._users.embeddings

    def call(
        self,
        item_vectors: tf.Tensor,
        users: tf.Tensor,
        traits: tf.Tensor,
        history: tf.Tensor,
        events: tf.Tensor,
        ages: tf.Tensor,
        moments: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        """Embeds users.

        Args:
          item_vectors: [n, dimensions] float32 candidate embeddings.
          users: [batch] int64 user indices.
          traits: [batch, most] int64 trait indices, of the profile and of the moment's context; -1 where padded.
          history: [batch, length] int64 rows of `item_vectors`, newest first, -1 where padded.
          events: [batch, length] int64 event indices.
          ages: [batch, length] float32, seconds from each event to the moment.
          moments: [batch] int64, seconds since 1970 UTC.

        Returns:
          [batch, dimensions] float32 of unit length.
        """
        present = history >= 0
        if training:
            present &= ~self._coins.heads(tf.shape(present), self._dropout, 1)
        rows, mask = tf.maximum(history, 0), tf.cast(present, tf.float32)
        some = tf.cast(tf.reduce_any(present, axis=1), tf.float32)[:, tf.newaxis]
        # A training batch holds every item many times, one query few of a catalogue: each normed no more than needed.
        norm = self._norms[0]
        if training:
            memories = tf.gather(norm(item_vectors), rows)
        else:
            flat = norm(tf.gather(item_vectors, tf.reshape(rows, [-1])))
            memories = tf.reshape(flat, tf.concat([tf.shape(rows), [item_vectors.shape[1]]], axis=0))
        newest = some * (memories[:, 0] + self._looks.side(events[:, :1], ages[:, :1])) + (1 - some) * self._nothing
        looked = self._looks(newest, memories, mask, events, ages)
        newest = self._norms[1](newest + some * looked)
        thought = self._norms[2](newest + self._think(newest))
        mean = tf.einsum("bl,bld->bd", mask, memories) / tf.maximum(tf.reduce_sum(mask, axis=1, keepdims=True), 1.0)
        some_traits = tf.cast(traits >= 0, tf.float32)[:, :, tf.newaxis]
        trait = tf.reduce_sum(self._traits(tf.maximum(traits, 0)) * some_traits, axis=1)
        user = self._users(users) * tf.cast(users < self._known_users, tf.float32)[:, tf.newaxis]
        if training:
            user *= 1.0 - tf.cast(self._coins.heads([tf.shape(user)[0], 1], self._dropout, 2), tf.float32)
            trait *= 1.0 - tf.cast(self._coins.heads([tf.shape(user)[0], 1], self._dropout, 4), tf.float32)
        context = self._hour(moments // 3600 % 24) + self._weekday((moments // 86_400 + 3) % 7)  # 1970 began a Thursday
        return tf.math.l2_normalize(thought + user + trait + context + self._mix(mean), axis=1)


class Looks(tf.keras.layers.Layer):
    """How one query looks at memories: multi-head attention (Vaswani et al. 2017, arXiv 1706.03762) over item vectors
    with their event, age and place added.

    One query for each row lets all of it be computed without a key or a value of any memory: scores are linear in the
    memories, so the query goes through the key's kernel; their weighted sum goes through the value's. What is added to
    the item never grows beyond the few numbers that it is made from either.

    Args:
      events: number of kinds of events.
      length: most memories.
      dimensions: of the vectors.
    """

    def __init__(self, events: int, length: int, dimensions: int):
        super().__init__(name="looks")
        size = max(dimensions // _HEADS, 1)
        self._events, self._scale = events, size**-0.5
        self._query = self.add_weight("query", [dimensions, _HEADS, size], initializer="glorot_uniform")
        self._key = self.add_weight("key", [dimensions, _HEADS, size], initializer="glorot_uniform")
        self._value = self.add_weight("value", [dimensions, _HEADS, size], initializer="glorot_uniform")
        self._out = self.add_weight("out", [_HEADS, size, dimensions], initializer="glorot_uniform")
        self._bias = self.add_weight("bias", [dimensions], initializer="zeros")
        self._position = self.add_weight("position", [length, dimensions], initializer="zeros")
        self._side = self.add_weight(
            "side", [_AGES + events + 1, dimensions], initializer=_side_initializer(dimensions)
        )
        self._age = tf.keras.layers.Dense(_AGES, activation="tanh", name="age")

    def side(self, events: tf.Tensor, ages: tf.Tensor) -> tf.Tensor:
        """What is added to the newest item: [batch, dimensions] of [batch, 1] events and ages."""
        return tf.matmul(self._facts(events, ages)[:, 0], self._side) + self._position[0]

    def call(
        self, query: tf.Tensor, memories: tf.Tensor, mask: tf.Tensor, events: tf.Tensor, ages: tf.Tensor
    ) -> tf.Tensor:
        """[batch, dimensions] of `query` [batch, dimensions], `memories` [batch, length, dimensions], and `mask`
        (float32), `events` and `ages` [batch, length]; see `QueryTower.call`."""
        position, facts = self._position[: tf.shape(events)[1]], self._facts(events, ages)
        asked = tf.einsum("bhe,dhe->bhd", tf.einsum("bd,dhe->bhe", query, self._query) * self._scale, self._key)
        scores = tf.matmul(asked, memories, transpose_b=True) + tf.einsum("bhd,ld->bhl", asked, position)
        scores += tf.matmul(tf.einsum("bhd,fd->bhf", asked, self._side), facts, transpose_b=True)
        weights = tf.nn.softmax(scores + (mask[:, tf.newaxis] - 1.0) * 1e9)
        seen = tf.matmul(weights, memories) + tf.einsum("bhl,ld->bhd", weights, position)
        seen += tf.einsum("bhf,fd->bhd", tf.matmul(weights, facts), self._side)
        return tf.einsum("bhe,hed->bd", tf.einsum("bhd,dhe->bhe", seen, self._value), self._out) + self._bias

    def _facts(self, events: tf.Tensor, ages: tf.Tensor) -> tf.Tensor:
        """[batch, length, facts] float32: a few functions of the age, and which event."""
        return tf.concat([self._age(log_days(ages)[:, :, tf.newaxis]), tf.one_hot(events, self._events + 1)], axis=2)


def _side_initializer(dimensions: int) -> Callable[..., tf.Tensor]:
    """Glorot's for the functions of the age, zeros for the events."""

    def initialize(shape: tf.TensorShape, dtype: tf.DType = tf.float32, **_: object) -> tf.Tensor:
        ages = tf.keras.initializers.GlorotUniform()([_AGES, dimensions], dtype)
        return tf.concat([ages, tf.zeros([shape[0] - _AGES, dimensions], dtype)], axis=0)

    return initialize


def log_days(seconds: tf.Tensor) -> tf.Tensor:
    """log(1 + days), float32; what lies ahead is now."""
    return tf.math.log1p(tf.maximum(tf.cast(seconds, tf.float32), 0.0) / DAY)
