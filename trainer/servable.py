"""The exported model: raw strings in, item ids and scores out. The signatures are named in `schema/names.py`.

Every input is batch-first. An optional input has a default with one row, which stands for all rows of the request.
"""

import inspect
import os

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from schema import names
from schema.signatures import input_specs
from trainer.channels import CONTEXT, ITEMS, TEXT, TOWERS, USERS, Query
from trainer.data import Catalog, States, with_a_column
from trainer.evaluated_lists import list_facts
from trainer.feature_graph import FeatureGraph
from trainer.feed import Feed
from trainer.pools import Among
from trainer.preprocessing import EVENT_VOCABULARY
from trainer.reranking import LOWEST, diversify, gumbel, keep_places, ranks
from trainer.retrieval import RECALLED
from trainer.text_encoder import TextEncoder

_NOTHING = "\0"  # stands for padding in Transform's graph: no id and no event is called so
# Features of strings that are looked up, and what Transform calls what is found.
_INDEXED = {
    names.ITEM_ID: names.ITEM_INDEX,
    names.USER_ID: names.USER_INDEX,
    names.HISTORY_EVENTS: names.HISTORY_EVENT_INDICES,
    names.TRAITS: names.TRAIT_INDICES,
}
_SHORT_LIST = 4  # diversity chooses among this many times k
_PERSONAL = 0.05  # the cosine that one standard deviation of personal score is worth in a search
_SEARCHED = 500  # items whose text is closest, among which a search looks for what suits a user


class Servable(tf.Module):
    """What is exported.

    Args:
      then: the feed as of the cut, which the Evaluator asks.
      now: the feed as of the log's end, which everybody else asks.
      encoder: the text encoder that embedded the catalogue.
      transform: Transform's graph, the only feature code.
      catalog: the items.
      users: what is known of each user now.
      asset_folder: an existing folder; the list of user ids is written there and copied into the export.
    """

    def __init__(
        self,
        then: Feed,
        now: Feed,
        encoder: TextEncoder,
        transform: tft.TFTransformOutput,
        catalog: Catalog,
        users: States,
        asset_folder: str,
    ):
        super().__init__(name=names.MODEL_NAME)
        self._then, self._now, self._encoder = then, now, encoder
        features = FeatureGraph(transform)
        self._indexers = {raw: features.of_values(raw, indexed) for raw, indexed in _INDEXED.items()}
        self._tables = features.tables
        self._raw_spec = {
            name: transform.raw_feature_spec()[name]
            for name in (
                names.USER_ID,
                names.TRAITS,
                names.HISTORY_ITEM_IDS,
                names.HISTORY_EVENTS,
                names.HISTORY_TIMESTAMPS,
                names.SEEN_ITEM_IDS,
                names.TARGET_ITEM_IDS,
                names.TARGET_EVENT_SETS,
                names.TIMESTAMP,
            )
        }
        events = transform.vocabulary_by_name(EVENT_VOCABULARY)
        self._events = [event.decode() for event in events]
        self._item_ids = tf.Variable(catalog.item_ids.tolist(), dtype=tf.string, trainable=False)
        # Of all items' personal scores, mean and variance follow from those of the vectors.
        vectors = now.channels.vectors.numpy()
        self._mean_vector = tf.Variable(vectors.mean(axis=0), trainable=False)
        self._covariance = tf.Variable(np.cov(vectors, rowvar=False, bias=True).astype(np.float32), trainable=False)
        # The last row of the users' tables is nobody's: unknown users are looked up there.
        nobody = len(users)
        one_more = ((0, 1), (0, 0))
        self._traits = tf.Variable(np.pad(users.traits, one_more, constant_values=-1), trainable=False)
        self._histories = tf.Variable(np.pad(users.histories, one_more, constant_values=-1), trainable=False)
        self._history_events = tf.Variable(np.pad(users.history_events, one_more), trainable=False)
        self._history_times = tf.Variable(np.pad(users.history_times, one_more), trainable=False)
        self._seen = tf.Variable(users.seen.values, trainable=False)
        self._seen_splits = tf.Variable(np.append(users.seen.splits, users.seen.splits[-1]), trainable=False)
        self.user_ids = tf.saved_model.Asset(_write_lines(users.user_ids.tolist(), asset_folder))
        lines = tf.lookup.TextFileInitializer(
            self.user_ids.asset_path,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        self._user_rows = tf.lookup.StaticHashTable(lines, default_value=nobody)
        # A function of its own, so that it is traced and exported once, and not for each signature.
        specs = input_specs(inspect.signature(self._query).parameters)
        self.query = tf.function(self._query, input_signature=specs, autograph=False)

    # --- from raw values to queries ----------------------------------------------------------------------------------

    def _index(self, strings: tf.Tensor, raw: str) -> tf.Tensor:
        """Runs strings of any shape through Transform's graph as the feature `raw`; int64 of the same shape."""
        filled = tf.where(strings == names.PADDING, _NOTHING, strings)
        return tf.reshape(self._indexers[raw](tf.reshape(filled, [-1])), tf.shape(strings))

    def _trait_index(self, traits: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        """[batch, most] strings to trait indices, -1 where padded."""
        traits = _rows(traits, batch)
        return tf.where(traits == names.PADDING, np.int64(-1), self._index(traits, names.TRAITS))

    def item_index(self, item_ids: tf.Tensor) -> tf.Tensor:
        """Item ids to indices; -1 for what is no item of the catalogue."""
        return self._index(item_ids, names.ITEM_ID)

    def _query(
        self,
        user_id: tf.Tensor,
        traits: tf.Tensor,
        history_item_ids: tf.Tensor,
        history_events: tf.Tensor,
        history_timestamps: tf.Tensor,
        timestamp: tf.Tensor,
    ) -> tuple[Query, tf.RaggedTensor]:
        """A request's queries, and the items ([batch, None] int64 indices) that each user has had.

        A user whose request brings no history has the stored one, and so it is with traits: a request that brings any
        brings the profile too. A moment of 0 is now, and so is the time of a
        history's item without one.
        """
        batch, width = tf.shape(user_id)[0], self._histories.shape[1]
        ids = _rows(history_item_ids, batch)[:, :width]
        padding = [[0, 0], [0, width - tf.shape(ids)[1]]]
        events = tf.broadcast_to(history_events[:, :width], tf.shape(ids))
        times = tf.broadcast_to(history_timestamps[:, :width], tf.shape(ids))
        given = tf.pad(self.item_index(ids), padding, constant_values=-1)
        given_events = tf.pad(self._index(events, names.HISTORY_EVENTS), padding)
        rows = self._user_rows.lookup(user_id)
        is_given = tf.reduce_any(ids != names.PADDING, axis=1, keepdims=True)
        moments = _rows(timestamp, batch)
        moments = tf.where(moments == 0, self._now.channels.model.snapshots[-1], moments)
        known = [tf.gather(table, rows) for table in (self._histories, self._history_events, self._history_times)]
        history, history_event, history_times = (
            tf.where(is_given, theirs, tf.cast(stored, tf.int64))
            for theirs, stored in zip((given, given_events, tf.pad(times, padding)), known, strict=True)
        )
        history_times = tf.where(history_times == 0, moments[:, tf.newaxis], history_times)
        users = self._index(user_id, names.USER_ID)
        told = self._trait_index(traits, batch)
        known_traits = _wide(tf.cast(tf.gather(self._traits, rows), tf.int64), tf.shape(told)[1])
        has_traits = tf.reduce_any(told >= 0, axis=1, keepdims=True)
        told = tf.where(has_traits, _wide(told, tf.shape(known_traits)[1]), known_traits)
        query = self._now.channels.query(users, told, history, history_event, history_times, moments)
        stored = tf.gather(tf.RaggedTensor.from_row_splits(self._seen, self._seen_splits, validate=False), rows)
        return query, tf.concat([tf.cast(stored, tf.int64), tf.RaggedTensor.from_tensor(given)], axis=1)

    # --- from scores to answers --------------------------------------------------------------------------------------

    def _top(self, scores: tf.Tensor, items: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """The k best of each row's items ([batch, n], as `scores`) as item ids and scores."""
        most = tf.minimum(tf.reduce_max(k), self._item_ids.shape[0])
        top = tf.math.top_k(scores, tf.minimum(most, tf.shape(scores)[1]))
        filled = (top.values > LOWEST) & (tf.range(tf.shape(top.indices)[1]) < k[:, tf.newaxis])
        return self._answer(top.values, tf.maximum(tf.gather(items, top.indices, batch_dims=1), 0), filled)

    def _answer(self, scores: tf.Tensor, chosen: tf.Tensor, filled: tf.Tensor) -> dict[str, tf.Tensor]:
        """Item ids and scores of chosen items ([batch, k], as `scores`); places that are not filled are empty."""
        return {
            names.ITEM_IDS: tf.where(filled, tf.gather(self._item_ids, chosen), names.PADDING),
            names.SCORES: tf.where(filled, scores, 0.0),
        }

    def _reasons(self, query: Query, chosen: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
        """The channel that speaks most for each chosen item ([batch, k]; `features` [batch, k, features]), beyond what
        it says of the list's other items: `history:ITEM` with the memory that is closest, `text:ITEM` with the one that
        reads most alike, `users` for what similar users had, or `popular`; `recommend` adds `new`."""
        memories, present = tf.maximum(query.history, 0), query.history[:, tf.newaxis, :] >= 0

        def closest(vectors: tf.Tensor, prefix: str) -> tf.Tensor:
            similar = tf.einsum("bld,bkd->bkl", tf.gather(vectors, memories), tf.gather(vectors, chosen))
            best = tf.argmax(tf.where(present, similar, LOWEST), axis=2, output_type=tf.int32)
            because = tf.gather(self._item_ids, tf.gather(memories, best, batch_dims=1))
            return tf.strings.join([prefix, because])

        texts = closest(self._now.channels.texts, "text:")
        history = closest(self._now.channels.item_vectors, "history:")
        shares = {name: share for name, share in self._now.shares(features).items() if name != CONTEXT}
        told = {TOWERS: history, ITEMS: history, TEXT: texts, USERS: tf.fill(tf.shape(chosen), "users")}
        popular = tf.fill(tf.shape(chosen), "popular")
        words = tf.stack([told.get(name, popular) for name in shares], axis=2)
        over_mean = [share - tf.reduce_mean(share, axis=1, keepdims=True) for share in shares.values()]
        most = tf.argmax(tf.stack(over_mean, axis=2), axis=2)
        reasons = tf.gather(words, most, batch_dims=2)
        return tf.where(tf.reduce_any(present, axis=2), reasons, "popular")

    # --- the signatures ----------------------------------------------------------------------------------------------

    def recommend(
        self,
        user_id: tf.Tensor,
        traits: tf.Tensor,
        history_item_ids: tf.Tensor,
        history_events: tf.Tensor,
        history_timestamps: tf.Tensor,
        timestamp: tf.Tensor,
        k: tf.Tensor,
        exclude_item_ids: tf.Tensor,
        exclude_seen: tf.Tensor,
        diversity: tf.Tensor,
        exploration: tf.Tensor,
        seed: tf.Tensor,
        new_items_every: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The feed: item ids, scores, reasons and propensities, each [batch, largest k].

        `exploration` is the temperature at which items are drawn instead of taken from the top (1 is the model's own
        distribution); a row that explores is not diversified, since its propensities would no longer hold. Of
        `new_items_every` places one is kept for an item without an event, see `keep_places`.
        """
        batch = tf.shape(user_id)[0]
        k, exploration = _rows(k, batch), _rows(exploration, batch)
        query, seen = self.query(user_id, traits, history_item_ids, history_events, history_timestamps, timestamp)
        kept = tf.ragged.boolean_mask(seen, _like(_rows(exclude_seen, batch), seen))
        unwanted = tf.RaggedTensor.from_tensor(self.item_index(_rows(exclude_item_ids, batch)))
        left_out = tf.concat([kept, unwanted], axis=1)
        among = self._now.channels.among(query)
        is_out = among.left_out(left_out)
        scores, features = self._now.scores_and_features(query, among, is_out)
        scores = tf.where(is_out, LOWEST, scores)
        every, seeds = _rows(new_items_every, batch), _rows(seed, batch)
        drawn = gumbel(scores, exploration, seeds)
        items = tf.shape(scores)[1]
        most = tf.minimum(tf.reduce_max(k), items)
        diversity = tf.where(exploration > 0, 0.0, _rows(diversity, batch))
        short = tf.math.top_k(drawn, tf.minimum(_SHORT_LIST * most, items))
        chosen = tf.cond(
            tf.reduce_any(diversity > 0),
            lambda: tf.gather(
                short.indices,
                diversify(short.values, among.items(short.indices), self._now.channels.item_vectors, diversity, most),
                batch_dims=1,
            ),
            lambda: short.indices[:, :most],
        )
        is_new = self._now.channels.is_new(query, among)
        newcomers = tf.where(is_new, self._now.newcomer_scores(query, among, features), LOWEST)
        places = keep_places(scores, drawn, chosen, newcomers, k, every, exploration, seeds)
        filled, chosen = places.items >= 0, tf.maximum(places.items, 0)
        items = among.items(chosen)
        reasons = self._reasons(query, items, tf.gather(features, chosen, batch_dims=1))
        reasons = tf.where(places.is_new, "new", reasons)
        return {
            **self._answer(tf.gather(scores, chosen, batch_dims=1), items, filled),
            names.REASONS: tf.where(filled, reasons, names.PADDING),
            names.PROPENSITIES: tf.where(filled, places.propensities, 0.0),
        }

    def similar_items(self, item_id: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """Items by the cosine of their candidate embeddings; none for an item that is not in the catalogue."""
        index = tf.cast(self.item_index(item_id), tf.int32)
        mine = tf.gather(self._now.channels.item_vectors, tf.maximum(index, 0))
        scores, items = self._now.channels.alike.best(mine, tf.reduce_max(k) + 1)
        is_out = (items == index[:, tf.newaxis]) | (index[:, tf.newaxis] < 0)
        return self._top(tf.where(is_out, LOWEST, scores), items, _rows(k, tf.shape(item_id)[0]))

    def search(self, query: tf.Tensor, user_id: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """Items by the cosine of their text with the query's; among close ones, what suits a known user comes first."""
        batch = tf.shape(query)[0]
        scores, items = self._now.channels.by_text.best(
            self._encoder(query), tf.maximum(_SEARCHED, _SHORT_LIST * tf.reduce_max(k))
        )
        users = _rows(user_id, batch)
        nothing = tf.fill([batch, 1], names.PADDING)
        zero = tf.zeros([batch], tf.int64)
        searcher, _ = self.query(users, nothing, nothing, nothing, zero[:, tf.newaxis], zero)
        theirs, mine = tf.gather(self._now.channels.vectors, tf.maximum(items, 0)), searcher.vectors
        from_mean = tf.einsum("bid,bd->bi", theirs - self._mean_vector, mine)
        variance = tf.reduce_sum(tf.matmul(mine, self._covariance) * mine, axis=1, keepdims=True)
        known = tf.cast(users != names.PADDING, tf.float32)[:, tf.newaxis]
        personal = known * _PERSONAL * from_mean / tf.sqrt(tf.maximum(variance, 1e-12))
        return self._top(tf.where(items >= 0, scores + personal, LOWEST), items, _rows(k, batch))

    def score(
        self,
        user_id: tf.Tensor,
        traits: tf.Tensor,
        history_item_ids: tf.Tensor,
        history_events: tf.Tensor,
        history_timestamps: tf.Tensor,
        item_ids: tf.Tensor,
        timestamp: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Of given items ([batch, n] string): their scores, and for each event `EVENT_probability`, that the user turns
        to the item by it within a window; NaN for what is no item of the catalogue."""
        query, _ = self.query(user_id, traits, history_item_ids, history_events, history_timestamps, timestamp)
        index = self.item_index(_rows(item_ids, tf.shape(user_id)[0]))
        among = self._now.channels.among(query, index)
        scores, features = self._now.scores_and_features(query, among)
        theirs = tf.maximum(among.places(index), 0)
        probabilities = self._now.probabilities(tf.gather(features, theirs, batch_dims=1))
        answer = {names.SCORES: tf.gather(scores, theirs, batch_dims=1)}
        for i, event in enumerate(self._events):
            answer[names.PROBABILITY.format(event=event)] = probabilities[:, :, i]
        return {name: tf.where(index >= 0, values, np.float32("nan")) for name, values in answer.items()}

    def embed_query(
        self,
        user_id: tf.Tensor,
        traits: tf.Tensor,
        history_item_ids: tf.Tensor,
        history_events: tf.Tensor,
        history_timestamps: tf.Tensor,
        timestamp: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """[batch, dimensions]: the dot product with `embed_item` is the retrieval score of the towers."""
        query, _ = self.query(user_id, traits, history_item_ids, history_events, history_timestamps, timestamp)
        return {names.EMBEDDING: query.vectors}

    def embed_item(self, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """[batch, dimensions]; zeros for what is no item of the catalogue."""
        index = self.item_index(item_id)
        vectors = tf.gather(self._now.channels.vectors, tf.maximum(index, 0))
        return {names.EMBEDDING: tf.where(index[:, tf.newaxis] >= 0, vectors, 0.0)}

    def evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """What TFMA's metrics need of serialized interaction examples ([batch] string), of the feed as of the cut.

        Returns:
          `ranks` [batch, most] int64: the full-catalogue rank of each target, items that the user had left out;
          0 is padding. `relevant` [batch] int64: the number of targets, those outside the catalogue included. And what
          `list_facts` tells.
        """
        raw = tf.io.parse_example(examples, self._raw_spec)
        dense = {name: tf.sparse.to_dense(value) for name, value in raw.items()}
        query = self._then.channels.query(
            self._index(dense[names.USER_ID][:, 0], names.USER_ID),
            self._trait_index(with_a_column(dense[names.TRAITS], names.PADDING), tf.shape(dense[names.USER_ID])[0]),
            self.item_index(with_a_column(dense[names.HISTORY_ITEM_IDS], names.PADDING)),
            self._index(with_a_column(dense[names.HISTORY_EVENTS], names.PADDING), names.HISTORY_EVENTS),
            with_a_column(dense[names.HISTORY_TIMESTAMPS], 0),
            dense[names.TIMESTAMP][:, 0],
        )
        seen = tf.RaggedTensor.from_tensor(self.item_index(dense[names.SEEN_ITEM_IDS]))
        targets = dense[names.TARGET_ITEM_IDS]
        among = self._then.channels.among(query)
        is_out = among.left_out(seen)
        scores, features = self._then.scores_and_features(query, among, is_out)
        scores, items = tf.where(is_out, LOWEST, scores), self.item_index(targets)
        event_sets = with_a_column(dense[names.TARGET_EVENT_SETS], names.PADDING)[:, : tf.shape(items)[1]]
        return {
            names.RANKS: self._ranks(scores, items, among),
            names.RELEVANT: tf.reduce_sum(tf.cast(targets != names.PADDING, tf.int64), axis=1),
            names.INDEX_RECALL: self._index_recall(query.history[:, 0]),
            **list_facts(self._then, query, among, scores, features, items, event_sets, self._events),
        }

    def _ranks(self, scores: tf.Tensor, items: tf.Tensor, among: Among) -> tf.Tensor:
        """Ranks ([batch, most] int64) of items in the whole catalogue: what nothing proposed comes last."""
        found = ranks(scores, among.places(items))
        return tf.where((found == 0) & (items >= 0), tf.cast(among.count, tf.int64), found)

    def _index_recall(self, items: tf.Tensor) -> tf.Tensor:
        """[batch] float32: of the items that are most alike to one, by embedding and by text, the share that an index
        finds; NaN without an item (negative)."""
        shares = [
            retriever.recall(tf.gather(vectors, tf.maximum(items, 0)), RECALLED)
            for retriever, vectors in (
                (self._now.channels.alike, self._now.channels.item_vectors),
                (self._now.channels.by_text, self._now.channels.texts),
            )
        ]
        return tf.where(items >= 0, (shares[0] + shares[1]) / 2, np.float32("nan"))


def _rows(value: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
    """A default, which has one row, for every row of the request."""
    return tf.broadcast_to(value, tf.concat([[batch], tf.shape(value)[1:]], axis=0))


def _wide(rows: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """[batch, n] padded with -1 to at least a width."""
    return tf.pad(rows, [[0, 0], [0, tf.maximum(width - tf.shape(rows)[1], 0)]], constant_values=-1)


def _like(flags: tf.Tensor, ragged: tf.RaggedTensor) -> tf.RaggedTensor:
    """A row's flag for each of the row's values."""
    return ragged.with_values(tf.gather(flags, ragged.value_rowids()))


def _write_lines(lines: list[bytes], folder: str) -> str:
    path = os.path.join(folder, "user_ids.txt")
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(b"\n".join(lines) + b"\n")
    return path
