"""From scores over the catalogue to a list: top-k, diversity, exploration. Batch-first, TF core ops only."""

import tensorflow as tf

LOWEST = tf.float32.min  # of an item that may not be shown


def exclude(scores: tf.Tensor, items: tf.RaggedTensor) -> tf.Tensor:
    """Scores ([batch, catalogue]) with each row's `items` ([batch, None] int64, negative ones ignored) at `LOWEST`."""
    rows, columns = tf.cast(items.value_rowids(), tf.int64), tf.cast(items.values, tf.int64)
    known = columns >= 0
    cells = tf.stack([tf.boolean_mask(rows, known), tf.boolean_mask(columns, known)], axis=1)
    return tf.tensor_scatter_nd_update(scores, cells, tf.fill([tf.shape(cells)[0]], LOWEST))


def ranks(scores: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Ranks of items in their row, best first, from 1; ties count against the item, and so does an excluded place.

    Args:
      scores: [batch, catalogue] float32.
      items: [batch, n] int64 item indices; negative ones are no items.

    Returns:
      [batch, n] int64; 0 for no item. NaN scores rank last.
    """
    scores = tf.where(tf.math.is_nan(scores), LOWEST, scores)
    theirs = tf.gather(scores, tf.maximum(items, 0), batch_dims=1)
    # Sorting each row once serves any number of items: the rank is how many scores are at least theirs.
    ascending = tf.sort(scores, axis=1)
    below = tf.searchsorted(ascending, theirs, side="left", out_type=tf.int64)
    rank = tf.cast(tf.shape(scores)[1], tf.int64) - below
    return tf.where(items >= 0, rank, 0)


def gumbel(scores: tf.Tensor, temperatures: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Perturbs scores so that their top-k is a sample without replacement from softmax(scores / temperature).

    Gumbel top-k: Kool et al. 2019, arXiv 1903.06059. Equal seeds give equal samples.

    Args:
      scores: [batch, catalogue] float32.
      temperatures: [batch] float32; 0 leaves a row as it is.
      seeds: [batch] int64.
    """

    def noise(seed: tf.Tensor) -> tf.Tensor:
        uniform = tf.random.stateless_uniform([tf.shape(scores)[1]], tf.stack([seed, 0]), minval=1e-20, maxval=1.0)
        return -tf.math.log(-tf.math.log(uniform))

    drawn = tf.map_fn(noise, seeds, fn_output_signature=tf.TensorSpec([None], tf.float32))
    allowed = scores > LOWEST
    return tf.where(allowed, scores + temperatures[:, tf.newaxis] * drawn, LOWEST)


def propensities(scores: tf.Tensor, chosen: tf.Tensor, temperatures: tf.Tensor) -> tf.Tensor:
    """Probability of each place's item, given the places before it (Plackett-Luce).

    Args:
      scores: [batch, catalogue] float32, `LOWEST` where excluded.
      chosen: [batch, k] int32 item indices in the order shown.
      temperatures: [batch] float32; a row with 0 is shown without chance, so its propensities are 1.

    Returns:
      [batch, k] float32.
    """
    logits = scores / tf.maximum(temperatures, 1e-6)[:, tf.newaxis]
    picked = tf.gather(logits, chosen, batch_dims=1)
    top = tf.reduce_max(logits, axis=1, keepdims=True)
    total = tf.reduce_sum(tf.exp(logits - top), axis=1, keepdims=True)
    before = tf.cumsum(tf.exp(picked - top), axis=1, exclusive=True)
    probability = tf.exp(picked - top) / tf.maximum(total - before, 1e-20)
    return tf.where(temperatures[:, tf.newaxis] > 0, tf.minimum(probability, 1.0), 1.0)


def diversify(
    scores: tf.Tensor, candidates: tf.Tensor, vectors: tf.Tensor, diversity: tf.Tensor, k: tf.Tensor
) -> tf.Tensor:
    """Maximal marginal relevance (Carbonell and Goldstein 1998, doi 10.1145/290941.291025) over a short list.

    Each place goes to the candidate with the largest (1 - diversity) * relevance - diversity * (largest cosine to what
    is chosen already); relevance is the score, scaled to 0..1 within the short list.

    Args:
      scores: [batch, m] float32 of the candidates, best first, `LOWEST` where excluded.
      candidates: [batch, m] int32 item indices.
      vectors: [catalogue, dimensions] float32, of unit length.
      diversity: [batch] float32 between 0 and 1.
      k: places, at most m.

    Returns:
      [batch, k] int32: positions in `candidates`, in the order to show.
    """
    allowed = scores > LOWEST
    high = tf.reduce_max(scores, axis=1, keepdims=True)
    low = tf.reduce_min(tf.where(allowed, scores, high), axis=1, keepdims=True)
    relevance = (scores - low) / tf.maximum(high - low, 1e-6)
    relevance = tf.where(allowed, relevance, -10.0)
    embedded = tf.gather(vectors, candidates)
    weight = diversity[:, tf.newaxis]

    def place(i: tf.Tensor, taken: tf.Tensor, closest: tf.Tensor, order: tf.TensorArray) -> tuple[tf.Tensor, ...]:
        marginal = (1 - weight) * relevance - weight * tf.where(i > 0, closest, 0.0)
        choice = tf.argmax(tf.where(taken, LOWEST, marginal), axis=1, output_type=tf.int32)
        vector = tf.gather(embedded, choice, batch_dims=1)
        closest = tf.maximum(closest, tf.einsum("bmd,bd->bm", embedded, vector))
        taken |= tf.one_hot(choice, tf.shape(scores)[1], on_value=True, off_value=False, dtype=tf.bool)
        return i + 1, taken, closest, order.write(i, choice)

    state = (
        tf.constant(0),
        tf.zeros_like(scores, tf.bool),
        tf.fill(tf.shape(scores), -1.0),
        tf.TensorArray(tf.int32, size=k, element_shape=[None]),
    )
    *_, order = tf.while_loop(lambda i, *_: i < k, place, state)
    return tf.transpose(order.stack())
