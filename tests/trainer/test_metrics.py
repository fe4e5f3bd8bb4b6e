import math

import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score
from tensorflow_model_analysis.metrics import metric_types

from schema import names
from trainer.metrics import MeanOverUsers, NDCGAtK, RecallAtK, ndcg_at_k, recall_at_k


def test_values_worked_out_by_hand():
    ranks = np.array([1, 4, 30, 0, 0])
    assert recall_at_k(ranks, 3, 5) == pytest.approx(2 / 3)
    assert recall_at_k(ranks, 3, 1) == 1.0
    assert ndcg_at_k(ranks, 3, 5) == pytest.approx((1 + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / 2))
    assert recall_at_k(np.array([0, 0]), 2, 5) == 0.0
    # A relevant item outside the catalogue has no rank, and counts against the model.
    assert recall_at_k(np.array([1, 0]), 2, 5) == 0.5


@given(st.integers(2, 30), st.data())
def test_ndcg_equals_scikit_learn(items, data):
    relevant = data.draw(st.sets(st.integers(1, items), min_size=1))
    k = data.draw(st.integers(1, items))
    truth = np.array([[float(rank in relevant) for rank in range(1, items + 1)]])
    scores = -np.arange(items, dtype=float)[None]
    assert ndcg_at_k(np.array(sorted(relevant)), len(relevant), k) == pytest.approx(ndcg_score(truth, scores, k=k))


def element(ranks, relevant, model=""):
    outputs = {names.RANKS: np.array(ranks), names.RELEVANT: np.array([relevant])}
    return metric_types.StandardMetricInputs(prediction={model: outputs} if model else outputs)


def test_the_combiner_merges_to_the_mean_over_users():
    key = metric_types.MetricKey(name="recall_at_2")
    combiner = MeanOverUsers(key, recall_at_k, 2)
    parts = []
    for users in ([([1, 2], 2), ([3], 1)], [([1], 1)], []):
        accumulator = combiner.create_accumulator()
        for ranks, relevant in users:
            accumulator = combiner.add_input(accumulator, element(ranks, relevant))
        parts.append(accumulator)
    assert combiner.extract_output(combiner.merge_accumulators(parts)) == {key: pytest.approx(2 / 3)}
    assert math.isnan(combiner.extract_output(combiner.create_accumulator())[key])


def test_the_combiner_reads_its_own_model_beside_a_baseline():
    combiner = MeanOverUsers(metric_types.MetricKey(name="r", model_name="candidate"), recall_at_k, 1)
    accumulator = combiner.add_input(combiner.create_accumulator(), element([1], 1, "candidate"))
    assert accumulator == (1.0, 1)


def test_metrics_are_known_to_tfma_under_their_names():
    for cls, name in ((RecallAtK, "recall_at_7"), (NDCGAtK, "ndcg_at_7")):
        (computation,) = cls(k=7).computations(model_names=[""])
        assert computation.keys == [metric_types.MetricKey(name=name)]
    assert tfma.PREDICTIONS_KEY == "predictions"
