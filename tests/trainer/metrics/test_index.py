import numpy as np
import pytest

from tests.trainer.metrics.bundles import extracted
from trainer.metrics.index import IndexRecall

NAN = float("nan")


def computed(bundles):
    def outputs(recall):
        yield {"index_recall": np.array([recall], np.float32)}

    (value,) = extracted(IndexRecall(""), bundles, outputs).values()
    return value


@pytest.mark.parametrize(
    ("bundles", "mean"),
    [
        ([[1.0, 0.5]], 0.75),
        ([[1.0], [0.5, NAN], []], 0.75),
        ([[NAN], [NAN]], 1.0),
        ([[0.25] * 300, [0.75] * 100], 0.375),
    ],
)
def test_the_mean_of_those_who_have_one_whatever_the_bundles(bundles, mean):
    assert computed(bundles) == pytest.approx(mean)
