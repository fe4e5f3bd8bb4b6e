"""Which items the lists show, over all users: metrics of the catalogue's side.

- `coverage_at_k`: share of the catalogue that stands in at least one list.
- `gini_at_k`: Gini coefficient of the items' numbers of lists, 0 where all are shown alike, towards 1 where one takes
  all (Fleder and Hosanagar 2009, doi 10.1287/mnsc.1080.0974).
- `popularity_lift_at_k`: by how much the shown items are more popular than those that the users had before, relative
  (Abdollahpouri et al. 2020, arXiv 2007.12230); users without a history are left out.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types

from schema import names
from trainer.metrics.combiners import SumsAtOnce
from trainer.metrics.outputs import for_each_model, key_of, outputs_of

State = tuple[np.ndarray, np.ndarray]  # [ks, items] lists that show an item; [ks + 1] sums of popularity shown and had


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of non-negative numbers; NaN where all are 0."""
    total, n = counts.sum(), len(counts)
    if not total:
        return float("nan")
    return float(((2 * np.arange(1, n + 1) - n - 1) * np.sort(counts)).sum() / (n * total))


class _Shown(metric_types.Preprocessor):
    """An example to (items of the list, size of the catalogue, popularity [ks + 1]: the mean of the first k places, and
    of the history), once for all slices that it is in."""

    def __init__(self, model: str, ks: list[int]):
        super().__init__(name=f"shown_{model}_{ks}")
        self._model, self._ks = model, np.array(ks, int)

    def process(self, extracts: tfma.types.Extracts) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
        outputs = outputs_of(extracts, self._model)
        shown, had = np.ravel(outputs[names.TOP_POPULARITY]), np.ravel(outputs[names.HISTORY_POPULARITY])
        means = np.cumsum(shown)[np.minimum(self._ks, len(shown)) - 1] / np.minimum(self._ks, len(shown))
        popularity = np.append(means, had) if had == had else np.zeros(len(self._ks) + 1)
        yield np.ravel(outputs[names.TOP_ITEMS]), int(np.ravel(outputs[names.CATALOG_SIZE])[0]), popularity


class Exposure(SumsAtOnce):
    """Counts of the items that are shown.

    Args:
      model: its name in TFMA's keys.
      ks: lengths of the list, ascending.
    """

    def __init__(self, model: str, ks: list[int]):
        self._model, self._ks = model, ks

    def summed(self, elements: list[tuple[np.ndarray, int, np.ndarray]]) -> State:
        items = np.stack([items for items, _, _ in elements])
        size = elements[0][1]
        between = [items[:, start:k] for start, k in zip([0, *self._ks], self._ks, strict=False)]
        counts = np.stack([np.bincount(part[part >= 0], minlength=size) for part in between])
        return np.cumsum(counts, axis=0), np.sum([popularity for _, _, popularity in elements], axis=0)

    def merged(self, states: list[State]) -> State:
        counts, popularity = zip(*states, strict=True)
        return np.sum(counts, axis=0), np.sum(popularity, axis=0)

    def metrics(self, state: State) -> dict[metric_types.MetricKey, float]:
        counts, popularity = state
        *shown, had = popularity
        found = {}
        for i, k in enumerate(self._ks):
            lift = float(shown[i] / had - 1) if had else float("nan")
            values = (float((counts[i] > 0).mean()), gini(counts[i]), lift)
            for metric, value in zip(names.EXPOSURE_METRICS, values, strict=True):
                found[names.AT_K.format(metric=metric, k=k)] = value
        return {key_of(name, self._model): value for name, value in found.items()}


class ExposureMetrics(metric_types.Metric):
    """All metrics of this file, at each k that is no longer than the lists that `evaluate` tells."""

    def __init__(self, ks: list[int], name: str = "exposure_metrics"):
        super().__init__(_computations, ks=ks, name=name)


def _computations(
    ks: list[int], name: str, eval_config: tfma.EvalConfig | None = None
) -> list[metric_types.MetricComputation]:
    own = sorted(k for k in ks if k <= names.EVALUATED_PLACES)
    return for_each_model(name, eval_config, lambda model: _Shown(model, own), lambda model: Exposure(model, own))


metric_types.register_metric(ExposureMetrics)
