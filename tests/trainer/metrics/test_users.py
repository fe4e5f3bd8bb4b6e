import math

import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, ndcg_score, precision_score, recall_score

from schema import names
from tests.trainer.metrics.bundles import extracted
from trainer.metrics import UserMetrics
from trainer.metrics.outputs import key_of
from trainer.metrics.users import Intervals, UserMeans, draws_of, rank_values, relative_change, shown_values


def values_at(ranks, relevant, k):
    return dict(zip(names.RANKED_METRICS, rank_values(np.array(ranks), relevant, np.array([k]))[:, 0], strict=True))


def test_values_worked_out_by_hand():
    five = values_at([1, 4, 30, 0, 0], 3, 5)
    assert five == pytest.approx(
        {
            "recall": 2 / 3,
            "ndcg": (1 + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / 2),
            "mrr": 1.0,
            "hit_rate": 1.0,
            "precision": 2 / 5,
            "f1": 4 / 8,
            "map": (1 + 2 / 4) / 3,
        }
    )
    assert values_at([1, 4, 30], 3, 1)["recall"] == 1.0
    assert set(values_at([0, 0], 2, 5).values()) == {0.0}
    assert values_at([3], 1, 2)["mrr"] == 0.0 and values_at([3], 1, 3)["mrr"] == pytest.approx(1 / 3)
    # A relevant item outside the catalogue has no rank, and counts against the model.
    assert values_at([1, 0], 2, 5)["recall"] == 0.5


@given(st.integers(2, 30), st.data())
def test_values_equal_scikit_learn(items, data):
    relevant = sorted(data.draw(st.sets(st.integers(1, items), min_size=1)))
    k = data.draw(st.integers(1, items))
    truth, scores = np.isin(np.arange(1, items + 1), relevant), -np.arange(items, dtype=float)
    inside, found = np.arange(items) < k, values_at(relevant, len(relevant), k)
    assert found["ndcg"] == pytest.approx(ndcg_score([truth], [scores], k=k))
    assert found["precision"] == pytest.approx(precision_score(truth, inside))
    assert found["recall"] == pytest.approx(recall_score(truth, inside) * len(relevant) / min(k, len(relevant)))
    assert found["f1"] == pytest.approx(f1_score(truth, inside))
    assert values_at(relevant, len(relevant), items)["map"] == pytest.approx(average_precision_score(truth, scores))


def test_novelty_and_diversity_worked_out_by_hand():
    popularity, diversity = np.array([0.5, 0.25, 0.125]), np.array([0.0, 0.4, 0.6])
    found = shown_values(popularity, diversity, np.array([1, 2, 20]))
    np.testing.assert_allclose(found, [[1, 1.5, 2], [0, 0.4, 0.6]])


def outputs(ranks, relevant):
    shown = {names.TOP_POPULARITY: np.array([0.5]), names.TOP_DIVERSITY: np.array([0.0])}
    return {names.RANKS: np.array(ranks), names.RELEVANT: np.array(relevant), **shown}


def extracts(user, candidate, baseline=None):
    predictions = candidate if baseline is None else {"candidate": candidate, "baseline": baseline}
    return {tfma.PREDICTIONS_KEY: predictions, tfma.FEATURES_KEY: {names.USER_ID: np.array([user], object)}}


def config(with_baseline):
    specs = [tfma.ModelSpec(name="candidate"), tfma.ModelSpec(name="baseline", is_baseline=True)]
    return tfma.EvalConfig(model_specs=specs if with_baseline else [tfma.ModelSpec()])


def computed(bundles, with_baseline=False, **settings):
    """The metric's values where TFMA has parted examples into bundles."""
    (computation,) = UserMetrics(**{"ks": [2], "min_users": 1, **settings}).computations(
        eval_config=config(with_baseline), model_names=[""]
    )
    return extracted(computation.combiner, bundles, computation.preprocessors[0].process)


USERS = [extracts(b"a", outputs([1, 2], 2)), extracts(b"b", outputs([3], 1)), extracts(b"c", outputs([1], 1))]


def test_the_combiner_merges_to_the_mean_over_users():
    parted, whole = computed([USERS[:2], USERS[2:], []]), computed([USERS[::-1]])
    assert parted[key_of("recall_at_2", "")] == pytest.approx(2 / 3)
    assert parted.keys() == whole.keys()
    assert all(parted[key] == pytest.approx(whole[key]) for key in parted)
    assert computed([[]]) == {}


def test_fewer_users_than_asked_for_have_no_interval():
    found = computed([USERS], min_users=4)
    assert found[key_of("recall_at_2", "")] == pytest.approx(2 / 3)
    assert found[key_of("recall_at_2_upper", "")] == math.inf
    assert found[key_of("recall_at_2_lower", "")] == -math.inf


def test_intervals_hold_the_truth_as_often_as_they_promise():
    """400 samples of 100 users who are hit with probability 0.3: the upper end at 95 % is below it in about 20."""
    random, below = np.random.default_rng(1), 0
    draws = np.stack([draws_of(str(i).encode(), 200) for i in range(40_000)])
    means = UserMeans("", None, [2], Intervals(min_users=1))
    at = means.names.index("recall_at_2")
    for sample in range(400):
        hits = random.random(100) < 0.3
        mine = draws[100 * sample : 100 * sample + 100]
        values = np.zeros((201, len(means.names)))
        values[:, at] = hits @ mine
        found = means.metrics((100, mine.sum(axis=0), values))
        below += found[key_of("recall_at_2_upper", "")] < 0.3
    assert 8 <= below <= 40


def test_changes_are_compared_user_by_user():
    """All users lose a tenth of what they had: however different they are, the change is sure."""
    random = np.random.default_rng(1)
    means = UserMeans("candidate", "baseline", [2], Intervals())
    accumulator = means.create_accumulator()
    for user in range(200):
        before = np.full((1, len(means.names)), random.random())
        element = draws_of(str(user).encode(), 200), np.concatenate([0.9 * before, before])
        accumulator = means.add_input(accumulator, element)
    found = means.extract_output(accumulator)
    change = {end: found[key_of(f"recall_at_2_change{end}", "candidate", is_diff=True)] for end in ENDS}
    assert change == pytest.approx(dict.fromkeys(ENDS, -0.1))
    candidate = [found[key_of(f"recall_at_2{end}", "candidate")] for end in ("_lower", "", "_upper")]
    assert candidate[0] < candidate[1] < candidate[2]


ENDS = ("", "_lower", "_upper")


def test_a_baseline_is_read_beside_the_candidate():
    users = [extracts(b"a", outputs([1], 1), outputs([9], 1)), extracts(b"b", outputs([1], 1), outputs([1], 1))]
    found = computed([users], with_baseline=True)
    assert found[key_of("recall_at_2", "candidate")] == 1.0
    assert found[key_of("recall_at_2", "baseline")] == 0.5
    assert found[key_of("recall_at_2_change", "candidate", is_diff=True)] == 1.0


def test_changes_from_nothing():
    now, before = np.array([0.0, 0.2, 0.1]), np.array([0.0, 0.0, 0.2])
    np.testing.assert_array_equal(relative_change(now, before), [0.0, math.inf, -0.5])


def test_draws_are_the_user_s_own_and_poisson():
    assert (draws_of(b"u", 50) == draws_of(b"u", 50)).all()
    assert (draws_of(b"u", 50) != draws_of(b"v", 50)).any()
    draws = np.concatenate([draws_of(str(i).encode(), 100)[1:] for i in range(300)])
    assert draws.mean() == pytest.approx(1, abs=0.02) and draws.var() == pytest.approx(1, abs=0.03)
