"""From scores over the catalogue to a list: top-k, diversity, exploration, places for new items. Batch-first, TF core
ops only."""

from typing import NamedTuple

import tensorflow as tf

_COUNTED = 48  # items of a row whose ranks are counted
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
    # The rank is how many scores are at least theirs. Few items are counted for; many are looked up in sorted rows.
    rank = tf.cond(
        tf.shape(items)[1] <= _COUNTED,
        lambda: _counted_ranks(scores, theirs),
        lambda: _sorted_ranks(scores, theirs),
    )
    return tf.where(items >= 0, rank, 0)


def _counted_ranks(scores: tf.Tensor, theirs: tf.Tensor) -> tf.Tensor:
    def count(column: tf.Tensor) -> tf.Tensor:
        return tf.math.count_nonzero(scores >= column[:, tf.newaxis], axis=1, dtype=tf.int64)

    return tf.transpose(tf.map_fn(count, tf.transpose(theirs), fn_output_signature=tf.int64))


def _sorted_ranks(scores: tf.Tensor, theirs: tf.Tensor) -> tf.Tensor:
    below = tf.searchsorted(tf.sort(scores, axis=1), theirs, side="left", out_type=tf.int64)
    return tf.cast(tf.shape(scores)[1], tf.int64) - below


def gumbel(scores: tf.Tensor, temperatures: tf.Tensor, seeds: tf.Tensor, stream: int = 0) -> tf.Tensor:
    """Perturbs scores so that their top-k is a sample without replacement from softmax(scores / temperature).

    Gumbel top-k: Kool et al. 2019, arXiv 1903.06059. Equal seeds give equal samples.

    Args:
      scores: [batch, catalogue] float32.
      temperatures: [batch] float32; 0 leaves a row as it is.
      seeds: [batch] int64.
      stream: one seed's draws in different streams have nothing to do with each other.
    """

    def noise(seed: tf.Tensor) -> tf.Tensor:
        uniform = tf.random.stateless_uniform([tf.shape(scores)[1]], tf.stack([seed, stream]), minval=1e-20, maxval=1.0)
        return -tf.math.log(-tf.math.log(uniform))

    def draw() -> tf.Tensor:
        drawn = tf.map_fn(noise, seeds, fn_output_signature=tf.TensorSpec([None], tf.float32))
        return tf.where(scores > LOWEST, scores + temperatures[:, tf.newaxis] * drawn, LOWEST)

    # Most requests do not explore, and numbers for the whole catalogue take their time.
    return tf.cond(tf.reduce_any(temperatures > 0), draw, lambda: scores)


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


class Places(NamedTuple):
    """A list in which some places are kept for new items; all [batch, places].

    Attributes:
      items: int32 item indices, in the order to show; -1 after the last.
      is_new: bool, whether the place was kept for what is new, and holds such an item.
      propensities: float32, of each place's item, given the items drawn before it: those of the kept places are drawn
        after all others.
    """

    items: tf.Tensor
    is_new: tf.Tensor
    propensities: tf.Tensor


def keep_places(
    scores: tf.Tensor,
    drawn: tf.Tensor,
    chosen: tf.Tensor,
    new: tf.Tensor,
    k: tf.Tensor,
    every: tf.Tensor,
    temperatures: tf.Tensor,
    seeds: tf.Tensor,
) -> Places:
    """Gives every so manieth place to a new item: by merit alone nobody would meet what nobody has met.

    The other places take the first of `chosen`; a new item that is among them is there by merit and takes no kept
    place. The kept ones take new items by their scores, at most as many as there are; where merit leaves fewer than
    that, what is next by merit fills up. At a temperature above 0, both are drawn without replacement from the softmax
    of their scores, one after the other, so the propensities are exact.

    Args:
      scores: [batch, catalogue] float32, `LOWEST` where excluded.
      drawn: the same shape: what `chosen` was taken by, see `gumbel`.
      chosen: [batch, places] int32 item indices, by merit; what is excluded comes last.
      new: [batch, catalogue] float32: new items' scores, `LOWEST` for all others.
      k: [batch] int32: places of each row, at most so many as `chosen` has.
      every: [batch] int32: 25 keeps the 25th, the 50th and so on; 0 keeps none.
      temperatures: [batch] float32. seeds: [batch] int64.
    """
    allowed = scores > LOWEST
    new = tf.where(allowed, new, LOWEST)
    shown = tf.minimum(k, _count(allowed))
    kept = tf.where(every > 0, tf.minimum(shown // tf.maximum(every, 1), _count(new > LOWEST)), 0)
    place = tf.range(tf.shape(chosen)[1])
    by_merit = tf.where(place < (shown - kept)[:, tf.newaxis], chosen, -1)
    taken = tf.RaggedTensor.from_tensor(by_merit)
    new, others = exclude(new, taken), exclude(scores, taken)
    others = tf.where(new > LOWEST, LOWEST, others)
    width = tf.reduce_max(kept)
    newest = tf.math.top_k(gumbel(new, temperatures, seeds, stream=1), width).indices
    filling = tf.math.top_k(tf.where(others > LOWEST, drawn, LOWEST), width).indices
    # Each place takes what is next in one of the three lists.
    step = tf.maximum(every, 1)[:, tf.newaxis]
    turn, most = (place + 1) // step, kept[:, tf.newaxis]
    is_kept = ((place + 1) % step == 0) & (turn <= most)
    passed = tf.minimum(turn, most)
    found = tf.minimum(_count(new > LOWEST)[:, tf.newaxis], most)
    is_new = is_kept & (passed <= found)
    of_kept = tf.where(is_new, passed - 1, width + passed - 1 - found)
    source = tf.where(is_kept, tf.shape(chosen)[1] + of_kept, place - passed)

    def together(*lists: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.concat(lists, axis=1), source, batch_dims=1)

    stated = ((scores, chosen), (new, newest), (others, filling))
    return Places(
        tf.where(place < shown[:, tf.newaxis], together(chosen, newest, filling), -1),
        is_new,
        together(*(propensities(pool, items, temperatures) for pool, items in stated)),
    )


def _count(flags: tf.Tensor) -> tf.Tensor:
    """[batch, n] bool to [batch] int32."""
    return tf.reduce_sum(tf.cast(flags, tf.int32), axis=1)
