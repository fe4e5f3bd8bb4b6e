import numpy as np
import pytest
import tensorflow as tf

from schema import names
from tests.trainer.shapes import DAY, catalog_of
from trainer.two_tower import TwoTower

ITEMS = 12


def towers(negatives=ITEMS, **changes):
    tf.keras.utils.set_random_seed(1)
    counts = np.arange(ITEMS)
    settings = {"users": 3, "events": 2, "history_length": 4, "dimensions": 8, "temperature": 0.1, "dropout": 0.3}
    return TwoTower(catalog_of(ITEMS), counts, negatives=negatives, seed=1, **{**settings, **changes})


def batch():
    return {
        names.USER_INDEX: tf.constant([0, 3], tf.int64),
        names.HISTORY_ITEMS: tf.constant([[4, 5], [-1, -1]], tf.int64),
        names.HISTORY_EVENT_INDICES: tf.constant([[1, 0], [0, 0]], tf.int64),
        names.HISTORY_TIMESTAMPS: tf.constant([[59 * DAY, 55 * DAY], [0, 0]], tf.int64),
        names.TARGET_ITEMS: tf.constant([7, 9], tf.int64),
        names.TIMESTAMP: tf.constant([60 * DAY, 10 * DAY], tf.int64),
        names.WEIGHT: tf.constant([1.0, 3.0]),
    }


def scores_of(model):
    """[2, items]: the definition in the class's docstring, by NumPy."""
    inputs = batch()
    vectors = model.candidate_tower(tf.range(ITEMS, dtype=tf.int64)).numpy()
    history = inputs[names.HISTORY_ITEMS].numpy()
    moments = inputs[names.TIMESTAMP]
    queries, _ = model.query_tower(
        inputs[names.USER_INDEX],
        tf.constant(vectors[np.maximum(history, 0)]),
        tf.constant(history >= 0),
        inputs[names.HISTORY_EVENT_INDICES],
        tf.cast(moments[:, tf.newaxis] - inputs[names.HISTORY_TIMESTAMPS], tf.float32),
        moments,
    )
    popularity = catalog_of(ITEMS).popularity[:, 0][:, [1, 0]].T  # the last snapshots before day 60 and day 10
    return queries.numpy() @ vectors.T / 0.1 + popularity


def test_with_as_many_draws_as_items_the_loss_is_the_exact_softmax_without_what_the_user_had():
    model = towers()
    scores = scores_of(model)
    scores[0, [4, 5]] = -np.inf
    log_shares = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    expected = -(1 * log_shares[0, 7] + 3 * log_shares[1, 9]) / 4
    assert float(model.compute_loss(batch())) == pytest.approx(expected, rel=1e-5)


def test_both_towers_end_on_the_unit_sphere():
    model = towers()
    assert np.linalg.norm(model.candidate_tower(tf.range(ITEMS, dtype=tf.int64)), axis=1) == pytest.approx(1)
    inputs = batch()
    history = tf.constant(np.random.default_rng(0).normal(size=(2, 2, 8)), tf.float32)
    vectors, attention = model.query_tower(
        inputs[names.USER_INDEX], history, inputs[names.HISTORY_ITEMS] >= 0, inputs[names.HISTORY_EVENT_INDICES],
        tf.zeros([2, 2]), inputs[names.TIMESTAMP],
    )  # fmt: skip
    assert np.linalg.norm(vectors, axis=1)[0] == pytest.approx(1)
    assert attention.numpy().sum(axis=1) == pytest.approx([1, 0])


def test_an_item_that_training_never_met_is_placed_by_its_content_alone():
    model = towers()
    before = model.candidate_tower(tf.range(ITEMS, dtype=tf.int64)).numpy()
    model.candidate_tower._ids.embeddings.assign(model.candidate_tower._ids.embeddings + 1.0)
    after = model.candidate_tower(tf.range(ITEMS, dtype=tf.int64)).numpy()
    assert (before[0] == after[0]).all()  # item 0 is no target
    assert not (before[1:] == after[1:]).all(axis=1).any()


def test_drawn_candidates_are_corrected_for_how_often_they_are_drawn():
    """logQ against counting how often each item is among a step's candidates."""
    model = towers(negatives=3)
    random = np.random.default_rng(0)
    probability = np.maximum(np.arange(ITEMS), 1) / np.arange(ITEMS).sum()
    probability /= probability.sum()
    rounds, times = 4000, np.zeros(ITEMS)
    for _ in range(rounds):
        drawn = {*random.choice(ITEMS, 5, p=probability), *random.integers(0, ITEMS, 3)}
        times[list(drawn)] += 1
    log_q = model._log_q(tf.range(ITEMS, dtype=tf.int64), tf.constant(5)).numpy()
    assert np.exp(log_q) == pytest.approx(times / rounds, abs=0.04)


def test_dropout_is_a_function_of_the_seed_and_the_step():
    def losses():
        model = towers()  # with the same weights each time
        return [float(model.compute_loss(batch(), training=True)) for _ in range(3)]

    first = losses()
    assert first == losses()
    assert len(set(first)) == 3
