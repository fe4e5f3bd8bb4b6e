import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import reranking
from trainer.reranking import LOWEST, diversify, exclude, propensities, ranks

# As they are served: one draw for each of thousands of rows would take its time otherwise.
gumbel, keep_places = (
    tf.function(made, autograph=False, reduce_retracing=True) for made in (reranking.gumbel, reranking.keep_places)
)

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


def listed(scores, is_new, k, every, new=None, temperature=0.0, seeds=(0,)):
    """`keep_places` of one row of scores, drawn once for each seed; `None` is excluded."""
    scores = tf.constant([[LOWEST if s is None else s for s in scores]] * len(seeds), tf.float32)
    new = tf.where(is_new, scores if new is None else tf.constant([new], tf.float32), LOWEST)
    temperatures, seeds = tf.fill([len(seeds)], np.float32(temperature)), tf.constant(seeds, tf.int64)
    drawn = gumbel(scores, temperatures, seeds)
    chosen = tf.math.top_k(drawn, min(k, scores.shape[1])).indices
    rows = tf.fill([len(seeds)], k), tf.fill([len(seeds)], every)
    return keep_places(scores, drawn, chosen, new, *rows, temperatures, seeds)


@given(st.lists(st.tuples(st.none() | st.integers(-5, 5), st.booleans()), min_size=1, max_size=12), st.data())
@settings(max_examples=100, deadline=None)
def test_every_so_manieth_place_goes_to_the_best_new_item(items, data):
    k, every = data.draw(st.integers(1, 12)), data.draw(st.integers(0, 4))
    scores, is_new = zip(*items, strict=True)
    places = listed(scores, is_new, k, every)
    shown = [i for i in places.items.numpy()[0].tolist() if i >= 0]
    kept = places.is_new.numpy()[0]

    allowed = sorted((i for i, s in enumerate(scores) if s is not None), key=lambda i: (-scores[i], i))
    count = min(k, len(allowed))
    most = min(count // every, sum(is_new[i] for i in allowed)) if every else 0
    merit = allowed[: count - most]
    rest = [i for i in allowed if i not in merit]
    theirs = [i for i in rest if is_new[i]] + [i for i in rest if not is_new[i]]
    expected = []
    for place in range(count):
        is_kept = every and (place + 1) % every == 0 and (place + 1) // every <= most
        expected.append((theirs if is_kept else merit).pop(0))
    assert shown == expected
    assert all(is_new[i] for i, flag in zip(shown, kept, strict=False) if flag)
    assert (places.propensities.numpy()[0, :count] == 1).all()


def test_the_kept_places_are_drawn_with_the_propensities_that_they_state():
    scores = np.log([0.4, 0.2, 0.2, 0.1, 0.1]).tolist()
    is_new = [False, False, True, True, False]
    new = np.log([1, 1, 0.9, 0.1, 1]).tolist()
    places = listed(scores, is_new, 2, 2, new, temperature=1.0, seeds=range(6_000))
    lists, stated = places.items.numpy(), places.propensities.numpy()
    assert places.is_new.numpy()[:, 1].all()
    # Every list comes as often as the product of what its places state.
    for first in range(5):
        for second in (2, 3):
            if first == second:
                continue
            among = (lists == [first, second]).all(axis=1)
            probability = stated[among].prod(axis=1)
            assert np.ptp(probability) < 1e-5
            assert among.mean() == pytest.approx(probability[0], abs=0.02)


def test_where_merit_leaves_too_few_new_items_what_is_next_fills_up():
    drawn = listed(np.zeros(4), [True, False, False, False], 4, 2, temperature=1.0, seeds=range(500))
    lists = np.sort(drawn.items.numpy(), axis=1)
    assert (lists == np.arange(4)).all()
    # One place is kept: four items fill three places by merit, and the last is what these leave.
    by_merit, last = drawn.propensities.numpy()[:, [0, 2, 3]], drawn.propensities.numpy()[:, 1]
    assert by_merit == pytest.approx(np.tile([1 / 4, 1 / 3, 1 / 2], (500, 1)), abs=1e-5)
    assert last == pytest.approx(np.ones(500))


def test_rows_are_told_apart():
    scores = tf.constant([[3.0, 2.0, 1.0, 0.0]] * 3)
    new = tf.where([False, False, False, True], scores, LOWEST)
    chosen = tf.math.top_k(scores, 3).indices
    rows = tf.constant([3, 2, 3]), tf.constant([2, 2, 0])
    found = keep_places(scores, scores, chosen, new, *rows, tf.zeros(3), tf.zeros(3, tf.int64))
    assert found.items.numpy().tolist() == [[0, 3, 1], [0, 3, -1], [0, 1, 2]]
    assert found.is_new.numpy().tolist() == [[False, True, False], [False, True, False], [False] * 3]


def test_ranks_of_many_items_are_those_of_few():
    random = np.random.default_rng(1)
    scores = tf.constant(random.integers(0, 40, (3, 200)), tf.float32)  # with ties
    items = tf.constant(random.integers(-1, 200, (3, 150)))
    parts = [ranks(scores, items[:, start : start + 10]) for start in range(0, 150, 10)]
    assert (ranks(scores, items) == tf.concat(parts, axis=1)).numpy().all()
