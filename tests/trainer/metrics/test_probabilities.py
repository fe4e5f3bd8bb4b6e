import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from tests.trainer.metrics.bundles import extracted
from trainer.metrics.probabilities import Probabilities, auc, cells_of, merge_cells

PLACES = st.lists(st.tuples(st.integers(1, 63).map(lambda n: n / 64), st.booleans()), min_size=1, max_size=60)


def computed(bundles):
    def outputs(example):
        promised, happened = example
        yield {"buy_probability": np.array(promised), "buy_happened": np.array(happened)}

    return {key.name: value for key, value in extracted(Probabilities(""), bundles, outputs).items()}


def test_values_worked_out_by_hand():
    found = computed([[([0.5, 0.25], [1.0, 0.0])], [([0.25, math.nan], [1.0, math.nan])]])
    assert found == pytest.approx(
        {
            "auc_buy": (1 + 0.5) / 2,
            "log_loss_buy": -(math.log(0.5) + math.log(0.75) + math.log(0.25)) / 3,
            "calibration_buy": 1.0 / 2,
        }
    )


@given(PLACES)
def test_values_equal_scikit_learn_whatever_the_parts(places):
    p, y = (np.array(side, float) for side in zip(*places, strict=True))
    parts = [cells_of(p[i::3], y[i::3]) for i in range(3)]
    _, counts, (promised, loss) = merge_cells(parts)
    assert promised == pytest.approx(p.sum())
    assert loss / len(p) == pytest.approx(log_loss(y, p, labels=[0, 1]))
    if 0 < y.sum() < len(y):
        assert auc(counts) == pytest.approx(roc_auc_score(y, p))
    else:
        assert math.isnan(auc(counts))


def test_many_users_are_merged_on_the_way():
    combiner, random = Probabilities(""), np.random.default_rng(1)
    accumulator = combiner.create_accumulator()
    p, y = random.random((1000, 20)).astype(np.float16).astype(float), random.random((1000, 20)) < 0.1
    for promised, happened in zip(p, y, strict=True):
        element = {"buy_probability": promised, "buy_happened": happened}
        accumulator = combiner.add_input(accumulator, element)
    assert len(accumulator[1]) < 256
    found = {key.name: value for key, value in combiner.extract_output(accumulator).items()}
    assert found["auc_buy"] == pytest.approx(roc_auc_score(y.ravel(), p.ravel()))
