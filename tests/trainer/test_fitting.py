"""What is learned from what, on a tiny log: three windows, the last of which is held out."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from schema import names
from tests.trainer.shapes import DAY, catalog_of, states_of, vocabulary_of
from trainer.data import Pairs, States, inputs_of, ragged
from trainer.fitting import fit, offered_in
from trainer.pools import Everything
from trainer.reading import TrainingData

ITEMS, USERS = 14, 12
CUT = 3
SETTINGS = {
    "history_length": 4,
    "model": {
        "dimensions": 8,
        "epochs": 2,
        "learning_rate": 0.01,
        "temperature": 0.1,
        "dropout": 0.1,
        "negatives": ITEMS,
        "seed": 1,
        "refit": True,
        "text": True,
        "start": "fresh",
        "warm_epochs": 1,
        "warm_rate": 0.5,
        "warm_days": 100,
    },
    "encoder": {"mode": "frozen", "learning_rate": 1e-4},
    "ranking": {
        "channels": dict.fromkeys(
            ("towers", "items", "factors", "users", "text", "popularity", "age", "comments"), True
        ),
        "regularisation": 1.0,
        "shrinkage": 1.0,
        "nearest_items": 3,
        "neighbours": 5,
        "exact_items": 100,
        "factors": 4,
        "factor_weight": 1.0,
        "factor_regularisation": 1.0,
        "factor_rounds": 3,
        "nearest_users": 3,
        "crowd": 100,
        "candidates": 10,
        "states": 100,
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 0.01,
        "hidden": [8],
        "event_weight": 0.1,
    },
    "retrieval": {"exact_below": 100, "proposed": 2, "block": 8, "probes": 2},
}


def joined(parts: list[States]) -> States:
    columns = {}
    for field in dataclasses.fields(States):
        values = [getattr(part, field.name) for part in parts]
        columns[field.name] = (
            np.concatenate(values)
            if isinstance(values[0], np.ndarray)
            else ragged([value.row(i) for value in values for i in range(len(value.splits) - 1)])
        )
    return States(**columns)


def data_of(held_out: int = 0) -> TrainingData:
    """`held_out` changes what happened from the cut on, and nothing else."""
    windows = [states_of(USERS, ITEMS, window=n, seed=1 if n < CUT else 50 + held_out) for n in range(1, CUT + 1)]
    # What a user had before the cut is no matter of what came after it.
    windows[-1] = dataclasses.replace(
        states_of(USERS, ITEMS, window=CUT, seed=9),
        targets=windows[-1].targets,
        target_events=windows[-1].target_events,
    )
    random = np.random.default_rng(5)
    count = 120
    begun = np.sort(random.integers(0, CUT + 1, count))
    items = random.integers(0, ITEMS, count)
    items[begun == CUT] = np.random.default_rng(held_out).integers(0, ITEMS, (begun == CUT).sum())
    pairs = Pairs(random.integers(0, USERS, count), items, 70 * DAY + begun * DAY, begun)

    def batches(window, since):
        kept = pairs.before(window)
        kept = Pairs(*(values[kept.timestamps >= since] for values in vars(kept).values()))
        assert len(kept.items)
        rows = {
            names.USER_INDEX: kept.users,
            names.TRAIT_INDICES: np.full((len(kept.items), 1), 3),
            names.HISTORY_ITEMS: np.stack([np.roll(kept.items, 1), np.roll(kept.items, 2)], axis=1),
            names.HISTORY_EVENT_INDICES: np.zeros((len(kept.items), 2), np.int64),
            names.HISTORY_TIMESTAMPS: np.full((len(kept.items), 2), 60 * DAY),
            names.TARGET_ITEMS: kept.items,
            names.TIMESTAMP: kept.timestamps,
            names.WEIGHT: np.ones(len(kept.items), np.float32),
        }
        return lambda epoch: tf.data.Dataset.from_tensor_slices(rows).shuffle(500, seed=epoch).batch(16)

    users = states_of(USERS, ITEMS, seed=30 + held_out)
    catalog = catalog_of(ITEMS)
    return TrainingData(catalog, pairs, joined(windows), users, batches, vocabulary_of(USERS, catalog))


def scores(feed, states):
    return feed.scores(feed.channels.query(*inputs_of(states, slice(None)))).numpy()


@pytest.fixture(scope="module")
def asked():
    return states_of(5, ITEMS, seed=99)


@pytest.fixture(scope="module")
def feeds(tmp_path_factory):
    return fit(data_of(), SETTINGS, str(tmp_path_factory.mktemp("one")))


def test_what_is_held_out_does_not_touch_the_feed_that_is_judged(feeds, asked, tmp_path):
    then, now, _ = fit(data_of(held_out=7), SETTINGS, str(tmp_path))
    assert (scores(then, asked) == scores(feeds[0], asked)).all()
    assert not np.allclose(scores(now, asked), scores(feeds[1], asked))


def test_only_candidates_are_ranked_and_the_rest_keep_the_first_stage_s_order(feeds, asked):
    then, *_ = feeds
    query = then.channels.query(*inputs_of(asked, slice(None)))
    found, features = (value.numpy() for value in then.scores_and_features(query, Everything(ITEMS)))
    first = features @ then._weights.numpy()
    for row, theirs in zip(found, first, strict=True):
        order = np.argsort(-theirs)
        candidates, rest = order[:10], order[10:]
        assert row[candidates].min() > row[rest].max()
        assert np.argsort(-row[rest]).tolist() == [0, 1, 2, 3]
        ranked = then.ranker(features[:, candidates])[0].numpy()
        assert np.isfinite(ranked).all()
    ranked = then.ranker(features)[0].numpy()
    assert found[0][np.argsort(-first[0])[:10]] == pytest.approx(ranked[0][np.argsort(-first[0])[:10]], abs=1e-4)


def test_what_is_unwanted_takes_no_candidate_s_place(feeds, asked):
    then, *_ = feeds
    query = then.channels.query(*inputs_of(asked, slice(None)))
    unwanted = np.zeros((5, ITEMS), bool)
    unwanted[:, :4] = True
    found = then.scores_and_features(query, Everything(ITEMS), tf.constant(unwanted))[0].numpy()
    assert (found[:, 4:] > found[:, :4].max(axis=1, keepdims=True)).all()


def test_without_a_refit_the_judged_feed_is_served(tmp_path):
    settings = {**SETTINGS, "model": {**SETTINGS["model"], "refit": False}}
    then, now, _ = fit(data_of(), settings, str(tmp_path))
    assert then is now


def test_without_windows_the_towers_stand_alone(tmp_path, asked):
    data = data_of()
    data = dataclasses.replace(data, windows=data.window(CUT))
    then, *_ = fit(data, SETTINGS, str(tmp_path))
    query = then.channels.query(*inputs_of(asked, slice(None)))
    assert (then.scores(query).numpy() == then.channels.tower_scores(query).numpy()).all()
    assert np.isnan(then.probabilities(then.channels(query)).numpy()).all()


def test_a_large_catalogue_is_learned_from_through_its_pools(tmp_path, asked):
    settings = {**SETTINGS, "retrieval": {**SETTINGS["retrieval"], "exact_below": 5}}
    then, *_ = fit(data_of(), settings, str(tmp_path))
    query = then.channels.query(*inputs_of(asked, slice(None)))
    among = then.channels.among(query)
    assert not among.is_whole
    scores, _ = (value.numpy() for value in then.scores_and_features(query, among))
    assert np.isfinite(scores[among.listed(tf.constant(5)).numpy() >= 0]).all()


def test_what_came_after_a_window_was_not_offered_in_it():
    """Items 0 to 3 have their first event before window 1, 4 in it, 5 in window 2, 6 in the time that is held out."""
    windows = np.array([0, 0, 0, 0, 1, 2, 3, 3])
    pairs = Pairs(np.zeros(8, int), np.array([0, 1, 2, 3, 4, 5, 6, -1]), windows, windows)
    data = dataclasses.replace(data_of(), pairs=pairs)
    nobody_had = set(range(6, ITEMS))
    missing = [set(range(ITEMS)) - set(np.flatnonzero(offered_in(data, window)).tolist()) for window in (1, 2, 3)]
    assert missing == [{5}, set(), set()]
    assert all(offered_in(data, CUT)[item] for item in nobody_had)
