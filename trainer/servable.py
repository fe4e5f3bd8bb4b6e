"""The exported model: raw strings in, item ids and scores out. The signatures are named in `schema/names.py`.

Every input is batch-first. An optional input has a default with one row, which stands for all rows of the request.
"""

import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from schema import names
from trainer.data import Catalog, Users
from trainer.reranking import LOWEST, diversify, exclude, gumbel, propensities, ranks
from trainer.text_encoder import TextEncoder
from trainer.two_tower import TwoTower

_NOTHING = "\0"  # stands for padding in Transform's graph: no id and no event is called so
_SHORT_LIST = 4  # diversity chooses among this many times k
_PERSONAL = 0.05  # the cosine that one standard deviation of personal score is worth in a search
_PART = 65_536  # items that go through the candidate tower at once


class Query(NamedTuple):
    """A batch of users.

    Attributes:
      vectors: [batch, dimensions] float32; its dot product with an item's vector is the item's score.
      history: [batch, length] int64 item indices, newest first, -1 where padded.
      attention: [batch, length] float32, how much each counts.
    """

    vectors: tf.Tensor
    history: tf.Tensor
    attention: tf.Tensor


class Servable(tf.Module):
    """What is exported.

    Args:
      model: the trained towers.
      encoder: the text encoder that embedded the catalogue.
      transform: Transform's graph, the only feature code.
      catalog, users: the tables.
      asset_folder: an existing folder; the list of user ids is written there and copied into the export.
    """

    def __init__(
        self,
        model: TwoTower,
        encoder: TextEncoder,
        transform: tft.TFTransformOutput,
        catalog: Catalog,
        users: Users,
        asset_folder: str,
    ):
        super().__init__(name=names.MODEL_NAME)
        self._model, self._encoder = model, encoder
        # Attached, since only tables of tracked objects are initialised when the model is loaded.
        self._transform = transform.transform_features_layer()
        self._raw_spec = {
            name: transform.raw_feature_spec()[name]
            for name in (
                names.USER_ID,
                names.HISTORY_ITEM_IDS,
                names.HISTORY_EVENTS,
                names.SEEN_ITEM_IDS,
                names.TARGET_ITEM_IDS,
                names.TIMESTAMP,
            )
        }
        parts = [
            model.candidate_tower(tf.range(start, min(start + _PART, len(catalog)), dtype=tf.int64))
            for start in range(0, len(catalog), _PART)
        ]
        self._tower_vectors = tf.Variable(tf.concat(parts, axis=0), trainable=False)
        self._vectors = tf.Variable(tf.concat([self._tower_vectors, model.popularity], axis=1), trainable=False)
        self._item_ids = tf.Variable(catalog.item_ids.tolist(), dtype=tf.string, trainable=False)
        self._texts = tf.Variable(catalog.text_embeddings, trainable=False)
        # The last row of the users' tables is nobody's: unknown users are looked up there.
        nobody = len(users.user_ids)
        self._histories = tf.Variable(np.pad(users.histories, ((0, 1), (0, 0)), constant_values=-1), trainable=False)
        self._history_events = tf.Variable(np.pad(users.history_events, ((0, 1), (0, 0))), trainable=False)
        self._seen = tf.Variable(users.seen, trainable=False)
        self._seen_splits = tf.Variable(np.append(users.seen_splits, users.seen_splits[-1]), trainable=False)
        self.user_ids = tf.saved_model.Asset(_write_lines(users.user_ids.tolist(), asset_folder))
        lines = tf.lookup.TextFileInitializer(
            self.user_ids.asset_path,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        self._user_rows = tf.lookup.StaticHashTable(lines, default_value=nobody)

    # --- from raw values to queries ----------------------------------------------------------------------------------

    def _index(self, strings: tf.Tensor, raw: str, indexed: str) -> tf.Tensor:
        """Runs strings of any shape through Transform's graph as the feature `raw`; int64 of the same shape."""
        flat = tf.reshape(strings, [-1, 1])
        filled = tf.where(flat == names.PADDING, _NOTHING, flat)
        transformed = self._transform({raw: tf.sparse.from_dense(filled)})
        return tf.reshape(transformed[indexed].values, tf.shape(strings))

    def item_index(self, item_ids: tf.Tensor) -> tf.Tensor:
        """Item ids to indices; -1 for what is no item of the catalogue."""
        return self._index(item_ids, names.ITEM_ID, names.ITEM_INDEX)

    def _embed(self, user_id: tf.Tensor, history: tf.Tensor, events: tf.Tensor, timestamps: tf.Tensor) -> Query:
        """Queries of users ([batch] string) with histories ([batch, length] int64 indices) at moments ([batch] int64;
        0 is now)."""
        memories, present = tf.gather(self._tower_vectors, tf.maximum(history, 0)), history >= 0
        vectors = self._model.embed_queries(
            self._index(user_id, names.USER_ID, names.USER_INDEX),
            memories,
            present,
            events,
            tf.where(timestamps == 0, self._model.snapshots[-1], timestamps),
        )
        return Query(vectors, history, self._model.query_tower.attention(memories, present, events))

    def query(
        self, user_id: tf.Tensor, history_item_ids: tf.Tensor, history_events: tf.Tensor, timestamp: tf.Tensor
    ) -> tuple[Query, tf.RaggedTensor]:
        """A request's queries, and the items ([batch, None] int64 indices) that each user has had.

        A user whose request brings no history has the stored one.
        """
        batch, width = tf.shape(user_id)[0], self._histories.shape[1]
        ids = _rows(history_item_ids, batch)[:, :width]
        events = tf.broadcast_to(history_events[:, :width], tf.shape(ids))
        padding = [[0, 0], [0, width - tf.shape(ids)[1]]]
        given = tf.pad(self.item_index(ids), padding, constant_values=-1)
        given_events = tf.pad(self._index(events, names.HISTORY_EVENTS, names.HISTORY_EVENT_INDICES), padding)
        rows = self._user_rows.lookup(user_id)
        is_given = tf.reduce_any(ids != names.PADDING, axis=1, keepdims=True)
        history = tf.where(is_given, given, tf.cast(tf.gather(self._histories, rows), tf.int64))
        history_event = tf.where(is_given, given_events, tf.cast(tf.gather(self._history_events, rows), tf.int64))
        stored = tf.gather(tf.RaggedTensor.from_row_splits(self._seen, self._seen_splits, validate=False), rows)
        query = self._embed(user_id, history, history_event, _rows(timestamp, batch))
        return query, tf.concat([tf.cast(stored, tf.int64), tf.RaggedTensor.from_tensor(given)], axis=1)

    # --- from scores to answers --------------------------------------------------------------------------------------

    def _scores(self, query: Query) -> tf.Tensor:
        return tf.matmul(query.vectors, self._vectors, transpose_b=True)

    def _top(self, scores: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """The k best of each row as item ids and scores."""
        top = tf.math.top_k(scores, tf.minimum(tf.reduce_max(k), tf.shape(scores)[1]))
        return self._answer(scores, top.indices, k)

    def _answer(self, scores: tf.Tensor, chosen: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """Item ids and scores of chosen indices ([batch, k]); places past a row's k, or without an item, are empty."""
        theirs = tf.gather(scores, chosen, batch_dims=1)
        filled = (theirs > LOWEST) & (tf.range(tf.shape(chosen)[1]) < k[:, tf.newaxis])
        return {
            names.ITEM_IDS: tf.where(filled, tf.gather(self._item_ids, chosen), names.PADDING),
            names.SCORES: tf.where(filled, theirs, 0.0),
        }

    def _reasons(self, query: Query, chosen: tf.Tensor) -> tf.Tensor:
        """`history:ITEM` with the memory that speaks most for the choice; `popular` where there is none that does."""
        memories = tf.gather(self._tower_vectors, tf.maximum(query.history, 0))
        similar = tf.einsum("bld,bkd->bkl", memories, tf.gather(self._tower_vectors, chosen))
        shares = similar * query.attention[:, tf.newaxis, :]
        best = tf.argmax(shares, axis=2, output_type=tf.int32)
        because = tf.gather(self._item_ids, tf.maximum(tf.gather(query.history, best, batch_dims=1), 0))
        return tf.where(tf.reduce_max(shares, axis=2) > 0, tf.strings.join(["history:", because]), "popular")

    # --- the signatures ----------------------------------------------------------------------------------------------

    def recommend(
        self,
        user_id: tf.Tensor,
        history_item_ids: tf.Tensor,
        history_events: tf.Tensor,
        timestamp: tf.Tensor,
        k: tf.Tensor,
        exclude_item_ids: tf.Tensor,
        exclude_seen: tf.Tensor,
        diversity: tf.Tensor,
        exploration: tf.Tensor,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The feed: item ids, scores, reasons and propensities, each [batch, largest k].

        `exploration` is the temperature at which items are drawn instead of taken from the top (1 is the model's own
        distribution); a row that explores is not diversified, since its propensities would no longer hold.
        """
        batch = tf.shape(user_id)[0]
        k, exploration = _rows(k, batch), _rows(exploration, batch)
        query, seen = self.query(user_id, history_item_ids, history_events, timestamp)
        kept = tf.ragged.boolean_mask(seen, _like(_rows(exclude_seen, batch), seen))
        unwanted = tf.RaggedTensor.from_tensor(self.item_index(_rows(exclude_item_ids, batch)))
        scores = exclude(self._scores(query), tf.concat([kept, unwanted], axis=1))
        drawn = tf.cond(
            tf.reduce_any(exploration > 0),
            lambda: gumbel(scores, exploration, _rows(seed, batch)),
            lambda: scores,
        )
        items = tf.shape(scores)[1]
        places = tf.minimum(tf.reduce_max(k), items)
        diversity = tf.where(exploration > 0, 0.0, _rows(diversity, batch))
        short = tf.math.top_k(drawn, tf.minimum(_SHORT_LIST * places, items))
        chosen = tf.cond(
            tf.reduce_any(diversity > 0),
            lambda: tf.gather(
                short.indices,
                diversify(short.values, short.indices, self._tower_vectors, diversity, places),
                batch_dims=1,
            ),
            lambda: short.indices[:, :places],
        )
        answer = self._answer(scores, chosen, k)
        filled = answer[names.ITEM_IDS] != names.PADDING
        return {
            **answer,
            names.REASONS: tf.where(filled, self._reasons(query, chosen), names.PADDING),
            names.PROPENSITIES: tf.where(filled, propensities(scores, chosen, exploration), 0.0),
        }

    def similar_items(self, item_id: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """Items by the cosine of their candidate embeddings; none for an item that is not in the catalogue."""
        index = self.item_index(item_id)
        scores = tf.matmul(tf.gather(self._tower_vectors, tf.maximum(index, 0)), self._tower_vectors, transpose_b=True)
        scores = exclude(scores, tf.RaggedTensor.from_tensor(index[:, tf.newaxis]))
        scores = tf.where(index[:, tf.newaxis] >= 0, scores, LOWEST)
        return self._top(scores, _rows(k, tf.shape(item_id)[0]))

    def search(self, query: tf.Tensor, user_id: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """Items by the cosine of their text with the query's; among close ones, what suits a known user comes first."""
        batch = tf.shape(query)[0]
        scores = tf.matmul(self._encoder(query), self._texts, transpose_b=True)
        users = _rows(user_id, batch)
        nothing = tf.fill([batch, 1], names.PADDING)
        personal = self._scores(self.query(users, nothing, nothing, tf.zeros([batch], tf.int64))[0])
        mean, variance = tf.nn.moments(personal, axes=[1], keepdims=True)
        known = tf.cast(users != names.PADDING, tf.float32)[:, tf.newaxis]
        scores += known * _PERSONAL * (personal - mean) / tf.sqrt(tf.maximum(variance, 1e-12))
        return self._top(scores, _rows(k, batch))

    def score(
        self, user_id: tf.Tensor, history_item_ids: tf.Tensor, item_ids: tf.Tensor, timestamp: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Scores of given items ([batch, n] string); NaN for what is no item of the catalogue."""
        nothing = tf.fill(tf.shape(history_item_ids), names.PADDING)
        query, _ = self.query(user_id, history_item_ids, nothing, timestamp)
        index = self.item_index(item_ids)
        vectors = tf.gather(self._vectors, tf.maximum(index, 0))
        return {names.SCORES: tf.where(index >= 0, tf.einsum("bd,bnd->bn", query.vectors, vectors), np.nan)}

    def embed_query(
        self, user_id: tf.Tensor, history_item_ids: tf.Tensor, timestamp: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """[batch, dimensions]: the dot product with `embed_item` is the score."""
        nothing = tf.fill(tf.shape(history_item_ids), names.PADDING)
        return {names.EMBEDDING: self.query(user_id, history_item_ids, nothing, timestamp)[0].vectors}

    def embed_item(self, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """[batch, dimensions]; zeros for what is no item of the catalogue."""
        index = self.item_index(item_id)
        vectors = tf.gather(self._vectors, tf.maximum(index, 0))
        return {names.EMBEDDING: tf.where(index[:, tf.newaxis] >= 0, vectors, 0.0)}

    def evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """What TFMA's metrics need of serialized interaction examples ([batch] string).

        Returns:
          `ranks` [batch, most] int64: the full-catalogue rank of each target, items that the user had left out;
          0 is padding. `relevant` [batch] int64: the number of targets, those outside the catalogue included.
        """
        raw = tf.io.parse_example(examples, self._raw_spec)
        dense = {name: tf.sparse.to_dense(value) for name, value in raw.items()}
        query = self._embed(
            dense[names.USER_ID][:, 0],
            self.item_index(dense[names.HISTORY_ITEM_IDS]),
            self._index(dense[names.HISTORY_EVENTS], names.HISTORY_EVENTS, names.HISTORY_EVENT_INDICES),
            dense[names.TIMESTAMP][:, 0],
        )
        seen = tf.RaggedTensor.from_tensor(self.item_index(dense[names.SEEN_ITEM_IDS]))
        targets = dense[names.TARGET_ITEM_IDS]
        return {
            names.RANKS: ranks(exclude(self._scores(query), seen), self.item_index(targets)),
            names.RELEVANT: tf.reduce_sum(tf.cast(targets != names.PADDING, tf.int64), axis=1),
        }


def _rows(value: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
    """A default, which has one row, for every row of the request."""
    return tf.broadcast_to(value, tf.concat([[batch], tf.shape(value)[1:]], axis=0))


def _like(flags: tf.Tensor, ragged: tf.RaggedTensor) -> tf.RaggedTensor:
    """A row's flag for each of the row's values."""
    return ragged.with_values(tf.gather(flags, ragged.value_rowids()))


def _write_lines(lines: list[bytes], folder: str) -> str:
    path = os.path.join(folder, "user_ids.txt")
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(b"\n".join(lines) + b"\n")
    return path
