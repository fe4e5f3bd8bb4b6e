"""TFMA metrics over full-catalogue ranks, as the `evaluate` signature returns them.

A user's Recall@k is the share of relevant items among the first k, divided by min(k, relevant), so that a perfect list
scores 1 (as in Liang et al. 2018, arXiv 1802.05814). NDCG@k has binary gains and the ideal list of min(k, relevant)
items (Jarvelin and Kekalainen 2002, doi 10.1145/582415.582418). A metric is the mean over users.
"""

from collections.abc import Callable, Iterable

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
import tensorflow_text  # noqa: F401  (TFMA loads the exported model, which holds text ops)
from tensorflow_model_analysis.metrics import metric_types

from schema import names

Accumulator = tuple[float, int]


def recall_at_k(ranks: np.ndarray, relevant: int, k: int) -> float:
    """One user's Recall@k.

    Args:
      ranks: rank of each relevant item, from 1; 0 is padding.
      relevant: number of relevant items, at least 1.
      k: length of the list.
    """
    return float(np.sum((ranks > 0) & (ranks <= k)) / min(k, relevant))


def ndcg_at_k(ranks: np.ndarray, relevant: int, k: int) -> float:
    """One user's NDCG@k; arguments as in `recall_at_k`."""
    hits = ranks[(ranks > 0) & (ranks <= k)]
    ideal = np.sum(1 / np.log2(np.arange(2, min(k, relevant) + 2)))
    return float(np.sum(1 / np.log2(hits + 1)) / ideal)


class MeanOverUsers(beam.CombineFn):
    """Mean over examples of a function of their ranks; exact whatever the bundles.

    Args:
      key: of the metric; its model's predictions are read.
      value: (ranks, relevant, k) -> one user's value.
      k: length of the list.
    """

    def __init__(self, key: metric_types.MetricKey, value: Callable[[np.ndarray, int, int], float], k: int):
        self._key, self._value, self._k = key, value, k

    def create_accumulator(self) -> Accumulator:
        return 0.0, 0

    def add_input(self, accumulator: Accumulator, element: metric_types.StandardMetricInputs) -> Accumulator:
        outputs = element.prediction
        if self._key.model_name in outputs:  # a baseline is evaluated beside the candidate
            outputs = outputs[self._key.model_name]
        ranks, relevant = np.ravel(outputs[names.RANKS]), int(np.ravel(outputs[names.RELEVANT])[0])
        total, count = accumulator
        return total + self._value(ranks, relevant, self._k), count + 1

    def merge_accumulators(self, accumulators: Iterable[Accumulator]) -> Accumulator:
        totals, counts = zip(*accumulators, strict=True)
        return sum(totals), sum(counts)

    def extract_output(self, accumulator: Accumulator) -> dict[metric_types.MetricKey, float]:
        total, count = accumulator
        return {self._key: total / count if count else float("nan")}


def _computations(
    name: str, value: Callable[[np.ndarray, int, int], float], k: int, model_names: list[str] | None
) -> list[metric_types.MetricComputation]:
    keys = [metric_types.MetricKey(name=name, model_name=model_name) for model_name in model_names or [""]]
    inputs = metric_types.StandardMetricInputsPreprocessor(
        include_filter={tfma.PREDICTIONS_KEY: {}}, include_default_inputs=False
    )
    return [
        metric_types.MetricComputation(keys=[key], preprocessors=[inputs], combiner=MeanOverUsers(key, value, k))
        for key in keys
    ]


class RecallAtK(metric_types.Metric):
    """TFMA's Recall@k over the full catalogue: `recall_at_<k>`."""

    def __init__(self, k: int, name: str | None = None):
        super().__init__(_recall_computations, k=k, name=name or f"recall_at_{k}")


class NDCGAtK(metric_types.Metric):
    """TFMA's NDCG@k over the full catalogue: `ndcg_at_<k>`."""

    def __init__(self, k: int, name: str | None = None):
        super().__init__(_ndcg_computations, k=k, name=name or f"ndcg_at_{k}")


def _recall_computations(
    name: str, k: int, model_names: list[str] | None = None
) -> list[metric_types.MetricComputation]:
    return _computations(name, recall_at_k, k, model_names)


def _ndcg_computations(name: str, k: int, model_names: list[str] | None = None) -> list[metric_types.MetricComputation]:
    return _computations(name, ndcg_at_k, k, model_names)


metric_types.register_metric(RecallAtK)
metric_types.register_metric(NDCGAtK)
