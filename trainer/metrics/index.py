"""The recall of the index that finds similar items: the share of the exact best that it finds, a mean over examples.

`index_recall` is 1 for a model without an index, and where no example has an item to ask about.
"""

import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types

from schema import names
from trainer.metrics.combiners import SumsAtOnce
from trainer.metrics.outputs import OutputsPreprocessor, for_each_model, key_of

State = tuple[int, float]  # examples that have a recall, and their sum


class IndexRecall(SumsAtOnce):
    """Sums recalls.

    Args:
      model: its name in TFMA's keys.
    """

    def __init__(self, model: str):
        self._model = model

    def summed(self, elements: list[dict[str, np.ndarray]]) -> State:
        recalls = np.concatenate([np.ravel(element[names.INDEX_RECALL]) for element in elements])
        there = recalls[~np.isnan(recalls)]
        return len(there), float(there.sum(dtype=np.float64))

    def merged(self, states: list[State]) -> State:
        counts, sums = zip(*states, strict=True)
        return sum(counts), sum(sums)

    def metrics(self, state: State) -> dict[metric_types.MetricKey, float]:
        count, total = state
        return {key_of(names.INDEX_RECALL, self._model): total / count if count else 1.0}


class IndexMetrics(metric_types.Metric):
    """The metric of this file."""

    def __init__(self, name: str = "index_metrics"):
        super().__init__(_computations, name=name)


def _computations(name: str, eval_config: tfma.EvalConfig | None = None) -> list[metric_types.MetricComputation]:
    return for_each_model(name, eval_config, OutputsPreprocessor, IndexRecall)


metric_types.register_metric(IndexMetrics)
