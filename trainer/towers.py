"""The two towers. Both end on the unit sphere, so that a score is a cosine and a temperature sets its sharpness."""

import numpy as np
import tensorflow as tf

from trainer.data import Catalog

DAY = 86_400.0
_HEADS = 2


class Coins(tf.Module):
    """Random numbers for dropout that are a function of the training step alone: a resumed training draws the same.

    Args:
      seed: of the model.
    """

    def __init__(self, seed: int):
        super().__init__(name="coins")
        self._seed = seed
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")

    def seed(self, place: int) -> tf.Tensor:
        """The step's seed, [2] int64; `place` tells apart what is thrown in one step."""
        return tf.stack([tf.constant(self._seed * 1009 + place, tf.int64), self.step])

    def heads(self, shape: tf.Tensor, probability: float, place: int) -> tf.Tensor:
        """`shape` bools, True with a probability."""
        return tf.random.stateless_uniform(shape, self.seed(place)) < probability


class CandidateTower(tf.keras.Model):
    """Embeds items by what they are: their BERT text, categories and price, and their id where training has met it.

    The item's features are constants of the model, looked up by index. The id's embedding is left out for an item that
    is no target in training, and dropped at random in training: such an item is placed by its content.

    Args:
      catalog: the items.
      met: [items] bool, whether training has the item as a target.
      dimensions: size of the embedding.
      dropout: share of items whose id's embedding is dropped in a training step.
      coins: for dropout.
      text: whether the text is read.
    """

    def __init__(
        self, catalog: Catalog, met: np.ndarray, dimensions: int, dropout: float, coins: Coins, text: bool = True
    ):
        super().__init__(name="candidate_tower")
        items = len(catalog)
        self._dropout, self._coins = dropout, coins
        self._text = tf.Variable(catalog.text_embeddings * float(text), trainable=False, name="text_embeddings")
        self._prices = tf.Variable(catalog.prices[:, np.newaxis], trainable=False, name="prices")
        self._categories = tf.Variable(catalog.categories, trainable=False, name="categories")
        self._met = tf.Variable(met.astype(np.float32)[:, np.newaxis], trainable=False, name="met")
        self._ids = tf.keras.layers.Embedding(items, dimensions, name="item_id")
        self._category = tf.keras.layers.Embedding(
            int(catalog.categories.max(initial=0)) + 2, dimensions, name="category"
        )
        self._content = tf.keras.Sequential(
            [tf.keras.layers.Dense(2 * dimensions, activation="gelu"), tf.keras.layers.Dense(dimensions)],
            name="content",
        )

    def call(self, items: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Embeds items.

        Args:
          items: [batch] int64 item indices, none negative.

        Returns:
          [batch, dimensions] float32, of unit length.
        """
        categories = tf.gather(self._categories, items)
        present = tf.cast(categories >= 0, tf.float32)[:, :, tf.newaxis]
        category = tf.reduce_sum(self._category(tf.maximum(categories, 0)) * present, axis=1)
        category /= tf.maximum(tf.reduce_sum(present, axis=1), 1.0)
        content = self._content(
            tf.concat([tf.gather(self._text, items), category, tf.gather(self._prices, items)], axis=1)
        )
        met = tf.gather(self._met, items)
        if training:
            met *= 1.0 - tf.cast(self._coins.heads(tf.shape(met), self._dropout, 0), tf.float32)
        return tf.math.l2_normalize(content + met * self._ids(items), axis=1)


class QueryTower(tf.keras.Model):
    """Embeds a user: who they are, where training knows them, the items of their history, and the moment.

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

    def __init__(self, users: int, events: int, history_length: int, dimensions: int, dropout: float, coins: Coins):
        super().__init__(name="query_tower")
        self._known_users = users
        self._dropout, self._coins = dropout, coins
        dense, embedding = tf.keras.layers.Dense, tf.keras.layers.Embedding
        self._users = embedding(users + 1, dimensions, name="user_id", embeddings_initializer="zeros")
        self._event = embedding(events + 1, dimensions, embeddings_initializer="zeros", name="event")
        self._hour = embedding(24, dimensions, embeddings_initializer="zeros", name="hour")
        self._weekday = embedding(7, dimensions, embeddings_initializer="zeros", name="weekday")
        self._position = self.add_weight("position", [history_length, dimensions], initializer="zeros")
        self._age = tf.keras.Sequential([dense(16, activation="tanh"), dense(dimensions)], name="age")
        self._nothing = self.add_weight("nothing", [dimensions], initializer="zeros")
        self._norms = [tf.keras.layers.LayerNormalization(name=f"norm_{i}") for i in range(3)]
        self._attend = tf.keras.layers.MultiHeadAttention(_HEADS, max(dimensions // _HEADS, 1), name="attention")
        self._think = tf.keras.Sequential([dense(2 * dimensions, activation="gelu"), dense(dimensions)], name="think")
        self._mix = tf.keras.Sequential([dense(2 * dimensions, activation="gelu"), dense(dimensions)], name="mix")

    def call(
        self,
        users: tf.Tensor,
        history: tf.Tensor,
        present: tf.Tensor,
        events: tf.Tensor,
        ages: tf.Tensor,
        moments: tf.Tensor,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Embeds users.

        Args:
          users: [batch] int64 user indices.
          history: [batch, length, dimensions] float32 candidate embeddings, newest first.
          present: [batch, length] bool, False where the history is padded.
          events: [batch, length] int64 event indices.
          ages: [batch, length] float32, seconds from each event to the moment.
          moments: [batch] int64, seconds since 1970 UTC.

        Returns:
          [batch, dimensions] float32 of unit length, and [batch, length] float32: how much the newest item looks at
          each; sums to 1, or is all 0 without a history.
        """
        if training:
            present &= ~self._coins.heads(tf.shape(present), self._dropout, 1)
        length = tf.shape(history)[1]
        memories = self._norms[0](history) + self._position[:length] + self._event(events)
        memories += self._age(log_days(ages)[:, :, tf.newaxis])
        some = tf.cast(tf.reduce_any(present, axis=1), tf.float32)[:, tf.newaxis]
        newest = some * memories[:, 0] + (1 - some) * self._nothing
        looked, weights = self._attend(
            newest[:, tf.newaxis], memories, attention_mask=present[:, tf.newaxis], return_attention_scores=True
        )
        newest = self._norms[1](newest + some * looked[:, 0])
        thought = self._norms[2](newest + self._think(newest))
        mask = tf.cast(present, tf.float32)
        mean = tf.einsum("bl,bld->bd", mask, history) / tf.maximum(tf.reduce_sum(mask, axis=1, keepdims=True), 1.0)
        user = self._users(users) * tf.cast(users < self._known_users, tf.float32)[:, tf.newaxis]
        if training:
            user *= 1.0 - tf.cast(self._coins.heads([tf.shape(user)[0], 1], self._dropout, 2), tf.float32)
        context = self._hour(moments // 3600 % 24) + self._weekday((moments // 86_400 + 3) % 7)  # 1970 began a Thursday
        vectors = tf.math.l2_normalize(thought + user + context + self._mix(mean), axis=1)
        return vectors, tf.reduce_mean(weights, axis=1)[:, 0] * mask


def log_days(seconds: tf.Tensor) -> tf.Tensor:
    """log(1 + days), float32; what lies ahead is now."""
    return tf.math.log1p(tf.maximum(tf.cast(seconds, tf.float32), 0.0) / DAY)
