"""The two towers. Both end on the unit sphere, so that a score is a cosine and a temperature sets its sharpness."""

import numpy as np
import tensorflow as tf

from trainer.data import Catalog


class CandidateTower(tf.keras.Model):
    """Embeds items by what they are: their BERT text, categories and price, and their id where training has met it.

    The item's features are constants of the model, looked up by index. The id's embedding is left out for an item that
    is no target in training, and dropped at random in training: such an item is placed by its content.

    Args:
      catalog: the items.
      dimensions: size of the embedding.
      dropout: share of training rows in which the id's embedding is dropped.
    """

    def __init__(self, catalog: Catalog, dimensions: int, dropout: float):
        super().__init__(name="candidate_tower")
        items = len(catalog)
        self._dropout = dropout
        self._text = tf.Variable(catalog.text_embeddings, trainable=False, name="text_embeddings")
        self._prices = tf.Variable(catalog.prices[:, np.newaxis], trainable=False, name="prices")
        self._categories = tf.Variable(catalog.categories, trainable=False, name="categories")
        self._met = tf.Variable(
            (catalog.train_counts > 0).astype(np.float32)[:, np.newaxis], trainable=False, name="met"
        )
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
            met *= tf.cast(tf.random.uniform(tf.shape(met)) >= self._dropout, tf.float32)
        return tf.math.l2_normalize(content + met * self._ids(items), axis=1)


class QueryTower(tf.keras.Model):
    """Embeds a user: who they are, where training knows them, and the items of their history.

    History items come in as candidate embeddings and are pooled by attention: an item's weight depends on itself, on
    its event and on how many newer items there are. A user without a history is embedded by the user's id alone, one
    without either as the average newcomer.

    Args:
      users: number of users that training knows; the index `users` is everybody else.
      events: number of kinds of events.
      history_length: latest items that are read.
      dimensions: size of the embedding.
      dropout: share of training rows in which the user's embedding is dropped, and of history items that are.
    """

    def __init__(self, users: int, events: int, history_length: int, dimensions: int, dropout: float):
        super().__init__(name="query_tower")
        self._known_users = users
        self._dropout = dropout
        self._users = tf.keras.layers.Embedding(users + 1, dimensions, name="user_id", embeddings_initializer="zeros")
        self._event = tf.keras.layers.Embedding(events + 1, 1, embeddings_initializer="zeros", name="event")
        self._position = self.add_weight("position", [history_length], initializer="zeros")
        self._salience = tf.keras.layers.Dense(1, name="salience")
        self._mix = tf.keras.Sequential(
            [tf.keras.layers.Dense(2 * dimensions, activation="gelu"), tf.keras.layers.Dense(dimensions)], name="mix"
        )

    def call(
        self, users: tf.Tensor, history: tf.Tensor, present: tf.Tensor, events: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Embeds users.

        Args:
          users: [batch] int64 user indices.
          history: [batch, length, dimensions] float32 candidate embeddings, newest first.
          present: [batch, length] bool, False where the history is padded.
          events: [batch, length] int64 event indices.

        Returns:
          [batch, dimensions] float32, of unit length.
        """
        weights = self.attention(history, present, events, training)
        pooled = tf.einsum("bl,bld->bd", weights, history)
        user = self._users(users) * tf.cast(users < self._known_users, tf.float32)[:, tf.newaxis]
        if training:
            user *= tf.cast(tf.random.uniform([tf.shape(user)[0], 1]) >= self._dropout, tf.float32)
        return tf.math.l2_normalize(pooled + user + self._mix(tf.concat([pooled, user], axis=1)), axis=1)

    def attention(self, history: tf.Tensor, present: tf.Tensor, events: tf.Tensor, training: bool = False) -> tf.Tensor:
        """How much each history item counts: [batch, length] float32, sums to 1, or is all 0 without a history."""
        length = tf.shape(history)[1]
        logits = self._salience(history)[:, :, 0] + self._event(events)[:, :, 0] + self._position[:length]
        if training:
            present &= tf.random.uniform(tf.shape(present)) >= self._dropout
        weights = tf.nn.softmax(tf.where(present, logits, logits.dtype.min), axis=1)
        return tf.where(present, weights, 0.0)
