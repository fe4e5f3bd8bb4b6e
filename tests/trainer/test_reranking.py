import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.reranking import LOWEST, diversify, exclude, gumbel, propensities, ranks

rows = st.lists(st.integers(-5, 5), min_size=1, max_size=12)


@given(rows, st.data())
@settings(max_examples=50)
def test_ranks_equal_a_plain_count_with_ties_against_the_item(scores, data):
    items = data.draw(st.lists(st.integers(-1, len(scores) - 1), min_size=1, max_size=5))
    found = ranks(tf.constant([scores], tf.float32), tf.constant([items], tf.int64)).numpy()[0]
    assert found.tolist() == [0 if i < 0 else sum(s >= scores[i] for s in scores) for i in items]


def test_nan_scores_rank_last():
    scores = tf.constant([[np.nan, 2.0, 1.0]])
    assert ranks(scores, tf.constant([[0, 1, 2]], tf.int64)).numpy().tolist() == [[3, 1, 2]]


def test_excluded_items_go_to_the_bottom_and_unknown_ones_are_ignored():
    scores = exclude(tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.ragged.constant([[1, -1], []], tf.int64))
    assert scores.numpy().tolist() == [[1.0, LOWEST], [3.0, 4.0]]


def test_gumbel_samples_in_proportion_and_its_propensities_say_so():
    scores = tf.math.log(tf.constant([[0.6, 0.3, 0.1]]))
    draws = 4_000
    many = tf.repeat(scores, draws, axis=0)
    drawn = gumbel(many, tf.ones(draws), tf.range(draws, dtype=tf.int64))
    order = tf.argsort(drawn, axis=1, direction="DESCENDING")
    first = np.bincount(order[:, 0].numpy(), minlength=3) / draws
    assert first == pytest.approx([0.6, 0.3, 0.1], abs=0.03)
    stated = propensities(many, order, tf.ones(draws)).numpy()
    by_first = {int(i): stated[order[:, 0].numpy() == i, 0].mean() for i in range(3)}
    assert by_first == pytest.approx({0: 0.6, 1: 0.3, 2: 0.1}, abs=1e-5)
    # Given that item 0 came first, item 1 comes second with 0.3 / (0.3 + 0.1).
    second = stated[(order[:, 0].numpy() == 0) & (order[:, 1].numpy() == 1), 1]
    assert second.mean() == pytest.approx(0.75, abs=1e-5)


def test_no_temperature_is_no_chance():
    scores = tf.constant([[1.0, 2.0, LOWEST]])
    assert gumbel(scores, tf.zeros(1), tf.zeros(1, tf.int64)).numpy().tolist() == scores.numpy().tolist()
    assert propensities(scores, tf.constant([[1, 0]]), tf.zeros(1)).numpy().tolist() == [[1.0, 1.0]]


def test_excluded_items_are_never_drawn():
    scores = tf.repeat(tf.constant([[0.0, 0.0, LOWEST]]), 200, axis=0)
    drawn = gumbel(scores, tf.fill([200], 50.0), tf.range(200, dtype=tf.int64))
    assert 2 not in tf.argmax(drawn, axis=1).numpy()


def test_equal_seeds_draw_equal_samples_and_others_do_not():
    scores = tf.zeros([3, 50])
    drawn = gumbel(scores, tf.ones(3), tf.constant([7, 7, 8], tf.int64)).numpy()
    assert (drawn[0] == drawn[1]).all() and not (drawn[0] == drawn[2]).all()


def mmr(scores, vectors, diversity, k):
    """Maximal marginal relevance, written down from the paper for one row."""
    relevance = (scores - scores.min()) / max(scores.max() - scores.min(), 1e-6)
    chosen: list[int] = []
    while len(chosen) < k:
        left = [i for i in range(len(scores)) if i not in chosen]
        closest = [max((vectors[i] @ vectors[j] for j in chosen), default=0.0) for i in left]
        values = [(1 - diversity) * relevance[i] - diversity * c for i, c in zip(left, closest, strict=True)]
        chosen.append(left[int(np.argmax(values))])
    return chosen


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.7, 1.0])
def test_diversify_is_maximal_marginal_relevance(diversity):
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(12, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = np.sort(rng.normal(size=12).astype(np.float32))[::-1].copy()
    order = diversify(
        tf.constant(scores[None]), tf.range(12)[None], tf.constant(vectors), tf.constant([diversity]), tf.constant(6)
    )
    assert order.numpy()[0].tolist() == mmr(scores, vectors, np.float32(diversity), 6)
