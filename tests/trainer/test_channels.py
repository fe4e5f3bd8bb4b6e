"""Each channel against its definition in plain NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.shapes import DAY, EVENTS, catalog_of, pairs_of, states_of
from trainer.channels import NEVER, Channels, Crowd
from trainer.collaborative import Filters, als_factors, cosine_neighbours, ease_neighbours, interaction_matrix
from trainer.data import inputs_of
from trainer.fitting import embed_states
from trainer.pools import Pool
from trainer.retrieval import Retriever
from trainer.two_tower import TwoTower

ITEMS, USERS = 15, 6
ALL = ("towers", "items", "factors", "users", "text", "popularity", "age", "comments")


def factors_of(matrix):
    return als_factors(matrix, n=3, weight=2.0, regularisation=0.5, iterations=4, seed=1)


@pytest.fixture(scope="module")
def states():
    return states_of(USERS, ITEMS)


def channels_of(states, enabled=ALL, **retrieval):
    settings = {"exact_below": 100, "proposed": 2, "block": 8, "probes": 2, **retrieval}
    tf.keras.utils.set_random_seed(1)
    catalog = catalog_of(ITEMS)
    model = TwoTower(catalog, np.ones(ITEMS, int), USERS, EVENTS, 4, 8, 0.1, 0.0, ITEMS, 1)
    matrix = interaction_matrix(pairs_of(states), USERS, ITEMS)
    filters = Filters(
        ease_neighbours(matrix, 1.0, ITEMS, 100), cosine_neighbours(matrix, 1.0, 2, ITEMS), factors_of(matrix)
    )
    crowd = Crowd(states.users, embed_states(model, states, ITEMS), states.histories, states.history_times)
    first = np.arange(ITEMS) * 10 * DAY
    texts = Retriever(tf.Variable(catalog.text_embeddings, trainable=False), settings)
    return Channels(model, catalog, first, filters, crowd, 2, enabled, texts, settings)


def features_of(channels, states):
    query = channels.query(*inputs_of(states, slice(None)))
    features = channels(query).numpy()
    assert features.shape == (USERS, ITEMS, len(channels.names_of()))
    return {name: features[:, :, i] for i, name in enumerate(channels.names_of())}


@pytest.fixture(scope="module")
def channels(states):
    return channels_of(states)


@pytest.fixture(scope="module")
def features(channels, states):
    return features_of(channels, states)


def measured(scores):
    """Divided by the mean of the strongest (here: of all), negative ones at 0, by log(1 + 10 x)."""
    strongest = np.maximum(scores.mean(axis=1, keepdims=True), 1e-9)
    return np.log1p(10 * np.maximum(scores, 0) / strongest)


def test_item_based_filtering_sums_the_neighbours_of_the_history(features, states):
    matrix = interaction_matrix(pairs_of(states), USERS, ITEMS)
    gram = (matrix.T @ matrix).toarray() + np.eye(ITEMS)
    met = np.flatnonzero(matrix.getnnz(axis=0))
    inverse = np.linalg.inv(gram[np.ix_(met, met)])
    weights = np.zeros((ITEMS, ITEMS))
    weights[np.ix_(met, met)] = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    plain, by_time = np.zeros((2, USERS, ITEMS))
    for user in range(USERS):
        for item, then in zip(states.histories[user], states.history_times[user], strict=True):
            if item >= 0:
                plain[user] += weights[item]
                by_time[user] += weights[item] * 0.5 ** ((90 * DAY - then) / DAY / 60)
    assert features["ease"] == pytest.approx(measured(plain), abs=1e-3)
    assert features["ease_by_time"] == pytest.approx(measured(by_time), abs=1e-3)


def test_cosine_neighbours_are_summed_over_the_history_by_place(features, states):
    alike = cosine_neighbours(interaction_matrix(pairs_of(states), USERS, ITEMS), 1.0, 2, ITEMS)
    expected = np.zeros((USERS, ITEMS))
    for user in range(USERS):
        for place, item in enumerate(states.histories[user]):
            if item >= 0:
                np.add.at(expected[user], alike.items[item], alike.weights[item] * 0.8**place)
    assert features["alike_by_place"] == pytest.approx(measured(expected), abs=1e-3)


def test_factors_are_solved_for_by_the_history_and_its_age(features, states):
    items, gram, weight = factors_of(interaction_matrix(pairs_of(states), USERS, ITEMS))
    for name, half_life in (("factors", np.inf), ("factors_by_time", 60)):
        expected = np.zeros((USERS, ITEMS))
        for user in range(USERS):
            had = states.histories[user] >= 0
            theirs = items[states.histories[user][had]]
            shares = 0.5 ** ((90 * DAY - states.history_times[user][had]) / DAY / half_life)
            left = gram + weight * (theirs.T * shares) @ theirs
            expected[user] = items @ np.linalg.solve(left, (1 + weight) * shares @ theirs)
        assert features[name] == pytest.approx(measured(expected), abs=1e-3)


def test_user_based_filtering_asks_the_nearest_others(channels, features, states):
    vectors = channels._crowd.vectors.numpy()
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    expected = np.zeros((USERS, ITEMS))
    for user in range(USERS):
        nearest = np.argsort(-cosines[user])[:2]
        for other in nearest:
            weight = np.exp(10 * (cosines[user, other] - cosines[user, nearest[0]]))
            for item, then in zip(states.histories[other], states.history_times[other], strict=True):
                if item >= 0:
                    expected[user, item] += weight * 0.5 ** ((90 * DAY - then) / DAY / 7)
    assert features["users_7_days"] == pytest.approx(measured(expected), abs=1e-3)


def test_popularity_and_comments_are_of_the_last_snapshot_and_age_of_the_moment(features):
    logs = np.log(np.expm1(catalog_of(ITEMS).popularity[:, 1, 1]) + 1e-3)  # day 50 is the last before day 90
    assert features["popularity_1"] == pytest.approx(np.tile(logs - logs.mean(), (USERS, 1)), abs=1e-4)
    assert features["comments"] == pytest.approx(np.tile(catalog_of(ITEMS).sentiment[:, 1], (USERS, 1)))
    since = 90 - 10 * np.arange(ITEMS)
    assert features["age"] == pytest.approx(
        np.tile(np.where(since >= 0, np.log1p(np.maximum(since, 0)), -1), (USERS, 1)), abs=1e-5
    )


def test_an_item_is_new_until_its_first_event(channels, states):
    new = channels.is_new(channels.query(*inputs_of(states, slice(None)))).numpy()
    assert (new == (np.arange(ITEMS) > 9)).all()  # item n has its first event on day 10 n, and now is day 90


def test_text_is_the_cosine_with_the_history_s_mean(features, states):
    texts = catalog_of(ITEMS).text_embeddings
    for user in range(USERS):
        had = states.histories[user] >= 0
        weights = 0.5 ** ((90 * DAY - states.history_times[user][had]) / DAY / 60)
        mean = weights @ texts[states.histories[user][had]] if had.any() else np.zeros(6)
        expected = texts @ (mean / max(np.linalg.norm(mean), 1e-6))
        assert features["text"][user] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("off", ALL)
def test_a_channel_that_is_off_is_gone(states, off):
    left = tuple(channel for channel in ALL if channel != off)
    channels = channels_of(states, left)
    assert set(channels.channel_of()) == {*left, "context"}
    assert set(features_of(channels, states)) < set(channels_of(states).names_of())


@pytest.mark.parametrize("items", [range(ITEMS), [3, 1, 1, -1, 7, 14, 3]])
def test_features_of_a_pool_are_those_of_its_items(channels, states, items, monkeypatch):
    """But for the strong scores that they are measured by, which are the pool's own."""
    monkeypatch.setattr("trainer.channels._strongest", lambda scores, among: tf.ones([USERS, 1, 1]))
    query = channels.query(*inputs_of(states, slice(None)))
    pool = Pool([tf.tile([list(items)], [USERS, 1])], ITEMS)
    listed, found, whole = pool.listed(USERS).numpy(), channels(query, pool).numpy(), channels(query).numpy()
    for user in range(USERS):
        there = listed[user] >= 0
        assert sorted(set(items) - {-1}) == listed[user][there].tolist()
        assert found[user][there] == pytest.approx(whole[user][listed[user][there]], abs=1e-4)


def test_a_small_catalogue_is_ranked_whole_and_a_large_one_by_what_channels_propose(states):
    query_of = lambda channels: channels.query(*inputs_of(states, slice(None)))  # noqa: E731
    small = channels_of(states)
    assert small.among(query_of(small)).is_whole
    large = channels_of(states, exact_below=10, probes=100)
    query = query_of(large)
    wanted = tf.fill([USERS, 1], 9)
    listed = large.among(query, wanted).listed(USERS).numpy()
    features = features_of(large, states)
    for user in range(USERS):
        proposed = set(listed[user][listed[user] >= 0].tolist())
        for channel in ("towers_cosine", "text", "ease_by_time", "alike_by_time", "users_7_days", "popularity_0"):
            # An item that nothing speaks for is not proposed, and the towers and texts, of equals, propose either.
            theirs = features[channel][user]
            best = np.argsort(-theirs)[: 1 if channel == "popularity_0" else 2]
            certain = [i for i in best if theirs[i] > np.sort(theirs)[-3] + 1e-5 and (theirs[i] != 0)]
            assert set(certain) <= proposed, channel
        assert 9 in proposed
        assert len(proposed) < ITEMS
    assert not large._among_new


def test_what_is_new_is_proposed(states):
    channels = channels_of(states, exact_below=10, proposed=3)
    first = np.where(np.arange(ITEMS) == 4, NEVER, 0)
    texts = channels.by_text
    crowd, filters = channels._crowd, channels._filters
    plain = lambda value: value.numpy()  # noqa: E731
    made = Channels(
        channels.model,
        catalog_of(ITEMS),
        first,
        tf.nest.map_structure(plain, filters),
        Crowd(*map(plain, crowd)),
        2,
        ALL,
        texts,
        {"exact_below": 10, "proposed": 1, "block": 8, "probes": 2},
    )
    query = made.query(*inputs_of(states, slice(None)))
    assert (made.among(query).listed(USERS).numpy() == 4).any(axis=1).all()
