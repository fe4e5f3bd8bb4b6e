"""The two-tower retrieval model: sampled softmax over mixed negatives, with time-aware popularity as a prior."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from schema import names
from trainer.contents import Content
from trainer.data import Catalog
from trainer.reranking import exclude
from trainer.towers import CandidateTower, Coins, QueryTower


class TwoTower(tfrs.Model):
    """Scores an item for a user at a moment:

        score = cos(query tower, candidate tower) / temperature + w * popularity(item, moment)

    `popularity` is log(1 + recent popularity) at the last snapshot before the moment, so it never looks ahead, and `w`
    is learned. Both terms are one dot product: the query is extended by the one-hot snapshot times `w`, the item by its
    popularity at every snapshot. Anything that retrieves by dot products retrieves by this score.

    Training minimises the sampled softmax over the batch's own targets mixed with uniform draws from the catalogue
    (Yang et al. 2020, doi 10.1145/3366424.3386195), corrected by the probability of being drawn (logQ: Bengio and
    Senecal 2008; Yi et al. 2019, doi 10.1145/3298689.3346996). A candidate is there once, however often it was drawn,
    so there are no accidental hits; what a user has had is no negative. As many draws as items: the exact softmax.

    Args:
      catalog: the items.
      train_counts: [items] int64, how often each is a target in training.
      users, events: sizes of the vocabularies.
      history_length: latest items that the query tower reads.
      dimensions: size of the towers' embeddings.
      temperature: of the softmax.
      dropout: see the towers.
      negatives: items drawn in a step.
      seed: of dropout and draws; that of the weights is Keras's.
      contents: see `CandidateTower`; None for the catalogue's text embeddings.
    """

    def __init__(
        self,
        catalog: Catalog,
        train_counts: np.ndarray,
        users: int,
        events: int,
        history_length: int,
        dimensions: int,
        temperature: float,
        dropout: float,
        negatives: int,
        seed: int,
        contents: Sequence[Content] | None = None,
    ):
        super().__init__(name="two_tower")
        self._coins = Coins(seed)
        self._items, self._negatives = len(catalog), negatives
        contents = [Content(catalog.text_embeddings)] if contents is None else contents
        met = train_counts > 0
        self.candidate_tower = CandidateTower(catalog, met, dimensions, dropout, self._coins, contents)
        self.query_tower = QueryTower(users, events, history_length, dimensions, dropout, self._coins)
        self.snapshots = tf.Variable(catalog.snapshots, trainable=False, name="snapshots")
        self.popularity = tf.Variable(catalog.popularity[:, 0], trainable=False, name="popularity")
        probability = np.maximum(train_counts, 1) / max(train_counts.sum(), 1)
        self._probability = tf.Variable(probability.astype(np.float32), trainable=False, name="sampling_probability")
        self._temperature = temperature
        self._popularity_weight = self.add_weight("popularity_weight", [], initializer="ones")
        # Makes every variable, so that a checkpoint or another model's weights can be put in.
        some = tf.zeros([1, 1], tf.int64)
        self.embed_queries(self.candidate_tower(some[0]), some[0], some, some, some, some, some[0])

    @property
    def met(self) -> tf.Variable:
        """[items, 1] float32: 1 where the item is a target in training, and so has an embedding of its id."""
        return self.candidate_tower.met

    def learned(self) -> dict[str, tf.Variable]:
        """Everything that training changes, by a name that does not depend on the process, and what it has met."""
        towers = {f"towers_{n}": variable for n, variable in enumerate(self.tower_variables())}
        tuned = {f"encoder_{n}": variable for n, variable in enumerate(self.encoder_variables())}
        return {"met": self.met, **towers, **tuned}

    def tables(self) -> dict[str, str]:
        """Of `learned`, what has a row for each user, item or category -> which of these."""
        rows = {
            self.met.ref(): "items",
            self.candidate_tower.item_table.ref(): "items",
            self.candidate_tower.category_table.ref(): "categories",
            self.query_tower.user_table.ref(): "users",
        }
        return {name: rows[variable.ref()] for name, variable in self.learned().items() if variable.ref() in rows}

    def tower_variables(self) -> list[tf.Variable]:
        """The towers' own weights that are trained; Keras counts the text encoder's among them, trained or not."""
        encoders = [content for content in self.candidate_tower.contents if content.slow]
        others = {variable.ref() for encoder in encoders for variable in encoder.variables}
        return [variable for variable in self.trainable_variables if variable.ref() not in others]

    def encoder_variables(self) -> list[tf.Variable]:
        """The text encoder's weights that are trained along."""
        return [variable for content in self.candidate_tower.contents for variable in content.slow]

    def forget_catalog(self) -> None:
        """Leaves out the candidate tower and popularity: an exported model's channels hold the items' vectors."""
        del self.candidate_tower, self.popularity

    def refresh(self) -> None:
        """To be called after an epoch: makes the catalogue's contents by the networks as they are."""
        for content in self.candidate_tower.contents:
            content.refresh()

    def embed_queries(
        self,
        item_vectors: tf.Tensor,
        users: tf.Tensor,
        traits: tf.Tensor,
        history: tf.Tensor,
        events: tf.Tensor,
        times: tf.Tensor,
        moments: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        """Queries to [batch, dimensions + snapshots] float32. See `QueryTower.call`; `history` is [batch, length] int64
        rows of `item_vectors`, newest first, -1 where padded; `times` is [batch, length] int64 and `moments` [batch]
        int64, seconds since 1970 UTC; a moment after the last snapshot is now."""
        ages = tf.cast(moments[:, tf.newaxis] - times, tf.float32)
        query = self.query_tower(item_vectors, users, traits, history, events, ages, moments, training=training)
        moment = tf.one_hot(self.slots(moments), tf.shape(self.snapshots)[0])
        return tf.concat([query / self._temperature, self._popularity_weight * moment], axis=1)

    def slots(self, moments: tf.Tensor) -> tf.Tensor:
        """The last snapshot at or before each moment, [batch] int32; the first where there is none."""
        return tf.maximum(tf.searchsorted(self.snapshots, moments, side="right") - 1, 0)

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The batch's loss; `inputs` as a batch of `training_batches`."""
        history, targets, weights = inputs[names.HISTORY_ITEMS], inputs[names.TARGET_ITEMS], inputs[names.WEIGHT]
        candidates, embedded, places = self._candidates(targets, history, training)
        known = tf.where(history >= 0, tf.gather(places, tf.maximum(history, 0)), tf.constant(-1, tf.int64))
        queries = self.embed_queries(
            embedded,
            inputs[names.USER_INDEX],
            inputs[names.TRAIT_INDICES],
            known,
            inputs[names.HISTORY_EVENT_INDICES],
            inputs[names.HISTORY_TIMESTAMPS],
            inputs[names.TIMESTAMP],
            training=training,
        )
        count = tf.shape(candidates)[0]
        vectors = tf.concat([embedded[:count], tf.gather(self.popularity, candidates)], axis=1)
        logits = tf.matmul(queries, vectors, transpose_b=True) - self._log_q(candidates, tf.shape(targets)[0])
        labels = tf.gather(places, targets)
        # What the user has had is no negative, but for the target itself; what is only a memory is no candidate.
        stays = (known == labels[:, tf.newaxis]) | (known >= tf.cast(count, tf.int64))
        logits = exclude(logits, tf.RaggedTensor.from_tensor(tf.where(stays, tf.constant(-1, tf.int64), known)))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        if training:
            self._coins.step.assign_add(1)
        return tf.reduce_sum(weights * losses) / tf.maximum(tf.reduce_sum(weights), 1e-6)

    def _candidates(self, targets: tf.Tensor, history: tf.Tensor, training: bool) -> tuple[tf.Tensor, ...]:
        """(candidates [n], embeddings that begin with theirs, item -> row of its embedding). Each distinct item of the
        batch goes through the candidate tower once, whether it is a target, a draw or a memory."""
        everything, read = tf.range(self._items, dtype=tf.int64), tf.unique(targets)[0]
        if self._negatives >= self._items:
            return everything, self.candidate_tower(everything, training=training, fresh=read), everything
        seed = self._coins.seed(3)
        drawn = tf.random.stateless_uniform([self._negatives], seed, maxval=self._items, dtype=tf.int64)
        candidates, _ = tf.unique(tf.concat([targets, drawn], axis=0))
        distinct, _ = tf.unique(tf.concat([candidates, tf.reshape(tf.maximum(history, 0), [-1])], axis=0))
        rows = tf.range(tf.size(distinct), dtype=tf.int64)
        places = tf.tensor_scatter_nd_update(tf.fill([self._items], tf.int64.max), distinct[:, tf.newaxis], rows)
        return candidates, self.candidate_tower(distinct, training=training, fresh=tf.gather(places, read)), places

    def _log_q(self, candidates: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        """log of the probability that a candidate is among a step's candidates."""
        if self._negatives >= self._items:
            return tf.zeros_like(candidates, tf.float32)
        no_target = tf.math.log1p(-tf.minimum(tf.gather(self._probability, candidates), 0.99)) * tf.cast(
            batch, tf.float32
        )
        no_draw = self._negatives * np.log1p(-1 / self._items)
        return tf.math.log(-tf.math.expm1(no_target + no_draw))
