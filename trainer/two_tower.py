"""The two-tower retrieval model: sampled softmax over in-batch negatives, with time-aware popularity as a prior."""

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from schema import names
from trainer.data import Catalog
from trainer.towers import CandidateTower, QueryTower


class TwoTower(tfrs.Model):
    """Scores an item for a user at a moment:

        score = cos(query tower, candidate tower) / temperature + w * popularity(item, moment)

    `popularity` is log(1 + recent popularity) at the last snapshot before the moment, so it never looks ahead, and `w`
    is learned. Both terms are one dot product: the query is extended by the one-hot snapshot times `w`, the item by its
    popularity at every snapshot. Anything that retrieves by dot products retrieves by this score.

    Training minimises the sampled softmax over in-batch negatives with the logQ correction (Bengio and Senecal 2008;
    Yi et al. 2019, doi 10.1145/3298689.3346996) and accidental hits removed.

    Args:
      catalog: the items.
      users, events: sizes of the vocabularies.
      history_length: latest items that the query tower reads.
      dimensions: size of the towers' embeddings.
      temperature: of the softmax.
      dropout: see the towers.
    """

    def __init__(
        self,
        catalog: Catalog,
        users: int,
        events: int,
        history_length: int,
        dimensions: int,
        temperature: float,
        dropout: float,
    ):
        super().__init__(name="two_tower")
        self.candidate_tower = CandidateTower(catalog, dimensions, dropout)
        self.query_tower = QueryTower(users, events, history_length, dimensions, dropout)
        self.snapshots = tf.Variable(catalog.snapshots, trainable=False, name="snapshots")
        self.popularity = tf.Variable(catalog.popularity, trainable=False, name="popularity")
        probability = np.maximum(catalog.train_counts, 1) / max(catalog.train_counts.sum(), 1)
        self._probability = tf.Variable(probability.astype(np.float32), trainable=False, name="sampling_probability")
        self._temperature = temperature
        self._popularity_weight = self.add_weight("popularity_weight", [], initializer="ones")
        self._task = tfrs.tasks.Retrieval(remove_accidental_hits=True)

    def embed_queries(
        self,
        users: tf.Tensor,
        history: tf.Tensor,
        present: tf.Tensor,
        events: tf.Tensor,
        timestamps: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        """Queries to [batch, dimensions + snapshots] float32. See `QueryTower.call`; `timestamps` is [batch] int64,
        seconds since 1970 UTC, and a moment after the last snapshot is now."""
        query = self.query_tower(users, history, present, events, training=training) / self._temperature
        slot = tf.searchsorted(self.snapshots, timestamps, side="right") - 1
        moment = tf.one_hot(tf.maximum(slot, 0), tf.shape(self.snapshots)[0])
        return tf.concat([query, self._popularity_weight * moment], axis=1)

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The batch's loss; `inputs` as `training_dataset` yields them."""
        history, targets = inputs[names.HISTORY_ITEMS], inputs[names.TARGET_ITEMS]
        present = history >= 0
        # Each distinct item of the batch goes through the candidate tower once, whether it is a target or a memory.
        distinct, positions = tf.unique(tf.concat([targets, tf.reshape(tf.maximum(history, 0), [-1])], axis=0))
        embedded = self.candidate_tower(distinct, training=training)
        target_positions = positions[: tf.shape(targets)[0]]
        history_positions = tf.reshape(positions[tf.shape(targets)[0] :], tf.shape(history))
        queries = self.embed_queries(
            inputs[names.USER_INDEX],
            tf.gather(embedded, history_positions),
            present,
            inputs[names.HISTORY_EVENT_INDICES],
            inputs[names.TIMESTAMP],
            training=training,
        )
        candidates = tf.concat([tf.gather(embedded, target_positions), tf.gather(self.popularity, targets)], axis=1)
        loss = self._task(
            queries,
            candidates,
            sample_weight=inputs[names.WEIGHT],
            candidate_sampling_probability=tf.gather(self._probability, targets),
            candidate_ids=targets,
            compute_metrics=False,
        )
        return loss / tf.maximum(tf.reduce_sum(inputs[names.WEIGHT]), 1e-6)
