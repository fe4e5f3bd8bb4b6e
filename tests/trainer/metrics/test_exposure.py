import math

import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from hypothesis import given
from hypothesis import strategies as st

from schema import names
from tests.trainer.metrics.bundles import extracted
from trainer.metrics.exposure import ExposureMetrics, gini


def extracts(items, popularity, had):
    outputs = {
        names.TOP_ITEMS: np.array(items),
        names.TOP_POPULARITY: np.array(popularity),
        names.HISTORY_POPULARITY: np.array(had),
        names.CATALOG_SIZE: np.array(4),
    }
    return {tfma.PREDICTIONS_KEY: outputs}


LISTS = [extracts([0, 1], [0.4, 0.2], 0.1), extracts([0, 2], [0.4, 0.1], 0.2), extracts([0, -1], [0.4, 0.0], math.nan)]


def computed(bundles):
    (computation,) = ExposureMetrics(ks=[2, 1, 99]).computations(eval_config=None, model_names=[""])
    found = extracted(computation.combiner, bundles, computation.preprocessors[0].process)
    return {key.name: value for key, value in found.items()}


def test_values_worked_out_by_hand_whatever_the_bundles():
    found = computed([LISTS[:1], [], LISTS[1:]])
    assert found == pytest.approx(
        {
            "coverage_at_1": 1 / 4,
            "coverage_at_2": 3 / 4,
            "gini_at_1": 3 / 4,  # one item of four takes all
            "gini_at_2": (-3 * 0 - 1 * 1 + 1 * 1 + 3 * 3) / (4 * 5),
            "popularity_lift_at_1": (0.4 + 0.4) / (0.1 + 0.2) - 1,
            "popularity_lift_at_2": (0.3 + 0.25) / (0.1 + 0.2) - 1,
        }
    )
    assert found == pytest.approx(computed([LISTS[::-1]]))
    assert computed([[]]) == {}


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any))
def test_gini_is_half_the_mean_difference_over_the_mean(counts):
    x = np.array(counts, float)
    assert gini(x) == pytest.approx(np.abs(x[:, None] - x).mean() / (2 * x.mean()))
