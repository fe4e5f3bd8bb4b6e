import numpy as np
import pytest
import tensorflow as tf

from schema import names
from tests.trainer.shapes import DAY, catalog_of
from trainer.towers import Looks
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
        names.TRAIT_INDICES: tf.constant([[3, -1], [-1, -1]], tf.int64),
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
    queries = model.query_tower(
        tf.constant(vectors),
        inputs[names.USER_INDEX],
        inputs[names.TRAIT_INDICES],
        tf.constant(history),
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
    vectors = model.query_tower(
        tf.constant(np.random.default_rng(0).normal(size=(ITEMS, 8)), tf.float32),
        inputs[names.USER_INDEX],
        inputs[names.TRAIT_INDICES],
        inputs[names.HISTORY_ITEMS],
        inputs[names.HISTORY_EVENT_INDICES],
        tf.zeros([2, 2]),
        inputs[names.TIMESTAMP],
    )
    assert np.linalg.norm(vectors, axis=1)[0] == pytest.approx(1)  # of the other nothing is known yet


def test_looks_are_multi_head_attention():
    """Against Keras's layer, over memories with everything added to them."""
    random = np.random.default_rng(0)
    looks, query = Looks(events=2, length=5, dimensions=8), random.normal(size=(3, 8)).astype(np.float32)
    memories = random.normal(size=(3, 4, 8)).astype(np.float32)
    events, ages = tf.constant(random.integers(0, 3, (3, 4))), tf.constant(random.uniform(0, 1e6, (3, 4)), tf.float32)
    mask = tf.constant([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1]], tf.float32)
    looks(query, memories, mask, events, ages)
    for variable in looks.trainable_variables:
        variable.assign(random.normal(size=variable.shape))
    plain = tf.keras.layers.MultiHeadAttention(2, 4)
    whole = memories + tf.matmul(looks._facts(events, ages), looks._side) + looks._position[:4]
    plain(query[:, np.newaxis], whole)
    zeros = np.zeros((2, 4), np.float32)
    kernels = (looks._query, zeros, looks._key, zeros, looks._value, zeros, looks._out, looks._bias)
    plain.set_weights([np.array(kernel) for kernel in kernels])
    expected = plain(query[:, np.newaxis], whole, attention_mask=mask[:, tf.newaxis] > 0)[:, 0].numpy()
    assert looks(query, memories, mask, events, ages).numpy() == pytest.approx(expected, abs=1e-4)
    assert looks.side(events[:, :1], ages[:, :1]).numpy() == pytest.approx((whole - memories)[:, 0].numpy(), abs=1e-5)


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
