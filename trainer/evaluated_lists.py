"""What the `evaluate` signature tells of a user's list beside the ranks: what is shown, and what was promised of it."""

import tensorflow as tf

from schema import names
from trainer.channels import Query
from trainer.feed import Feed
from trainer.pools import Among
from trainer.reranking import LOWEST


def list_facts(
    feed: Feed,
    query: Query,
    among: Among,
    scores: tf.Tensor,
    features: tf.Tensor,
    targets: tf.Tensor,
    event_sets: tf.Tensor,
    events: list[str],
) -> dict[str, tf.Tensor]:
    """Facts of the first `names.EVALUATED_PLACES` places of each list.

    Args:
      feed: whose scores they are.
      query: the users.
      among: what is scored.
      scores: [batch, width] float32; what may not be shown is `LOWEST`.
      features: [batch, width, features] float32, the channels'.
      targets: [batch, most] int64 items that the users turned to; negative ones are none.
      event_sets: [batch, most] string: with separators, by which events.
      events: names of the vocabulary of events.

    Returns:
      `top_items` [batch, places] int64, -1 where there is no item to show; `top_popularity` [batch, places] float32
      shares of recent popularity; `top_diversity` [batch, places] float32, the mean of 1 - cosine over the pairs of
      texts of so many first places; `history_popularity` [batch] float32, the mean share of the history's items, NaN
      without a history; `catalog_size` [batch] int64; for each event `EVENT_probability` and `EVENT_happened`
      [batch, places] float32, NaN where there is no item or no ranking stage.
    """
    # NaN would be the best of all to top_k.
    scores = tf.where(tf.math.is_nan(scores), LOWEST, scores)
    top = tf.math.top_k(scores, min(names.EVALUATED_PLACES, among.count))
    chosen, shown = among.items(top.indices), top.values > LOWEST
    shares = feed.channels.popularity_shares(query)
    present = query.history >= 0
    count = tf.reduce_sum(tf.cast(present, tf.float32), axis=1)
    theirs = tf.gather(shares, tf.maximum(query.history, 0), batch_dims=1) * tf.cast(present, tf.float32)
    facts = {
        names.TOP_ITEMS: tf.where(shown, tf.cast(chosen, tf.int64), -1),
        names.TOP_POPULARITY: tf.gather(shares, chosen, batch_dims=1),
        names.TOP_DIVERSITY: mean_distances(tf.gather(feed.channels.texts, chosen)),
        names.HISTORY_POPULARITY: tf.reduce_sum(theirs, axis=1) / count,
        names.CATALOG_SIZE: tf.fill([tf.shape(scores)[0]], tf.cast(among.count, tf.int64)),
    }
    promised = feed.probabilities(tf.gather(features, top.indices, batch_dims=1))
    hits = tf.cast(chosen, tf.int64)[:, :, tf.newaxis] == targets[:, tf.newaxis, :]
    sets = tf.strings.split(event_sets, names.EVENT_SEPARATOR).to_tensor("")
    for i, event in enumerate(events):
        by_event = tf.reduce_any(sets == event, axis=2)[:, tf.newaxis, :]
        happened = tf.cast(tf.reduce_any(hits & by_event, axis=2), tf.float32)
        for name, values in ((names.PROBABILITY, promised[:, :, i]), (names.HAPPENED, happened)):
            facts[name.format(event=event)] = tf.where(shown, values, float("nan"))
    return facts


def mean_distances(vectors: tf.Tensor) -> tf.Tensor:
    """[batch, places, dimensions] of unit length to [batch, places]: entry n is the mean of 1 - cosine over the pairs
    of the first n + 1 vectors; 0 for a single one."""
    places = tf.shape(vectors)[1]
    cosines = tf.matmul(vectors, vectors, transpose_b=True)
    before = tf.range(places)[:, tf.newaxis] > tf.range(places)
    with_earlier = tf.reduce_sum(tf.where(before, 1 - cosines, 0.0), axis=2)
    n = tf.cast(tf.range(places), tf.float32)
    return tf.math.divide_no_nan(tf.cumsum(with_earlier, axis=1), n * (n + 1) / 2)
