"""Is what the ranking stage promises of the items that it shows what happens? For each event:

- `auc_EVENT`: the probability that an item on which the event followed had the higher one promised, ties counting half.
- `log_loss_EVENT`: mean of -log of the probability that was promised to what happened, in nats.
- `calibration_EVENT`: events promised / events that happened; 1 is right.

Probabilities count in half precision (11 bits), so that an accumulator has at most 65,536 cells and merges exactly.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types

from schema import names
from trainer.metrics.combiners import SumsAtOnce
from trainer.metrics.outputs import OutputsPreprocessor, for_each_model, key_of

_LEAST = 1e-7
# Event -> (bits of the half-precision probability, ascending and distinct; [n, 2] numbers of places where the event did
# not follow and where it did; [promised, log loss]).
Cells = tuple[np.ndarray, np.ndarray, np.ndarray]
State = dict[str, Cells]


def cells_of(probabilities: np.ndarray, happened: np.ndarray) -> Cells:
    """Cells of flat arrays of the same length; places without a probability (NaN) are left out."""
    known = ~np.isnan(probabilities)
    p, y = probabilities[known].astype(np.float64), happened[known] > 0
    # The bits of non-negative halves are in the numbers' order.
    bits, places = np.unique(p.astype(np.float16).view(np.uint16), return_inverse=True)
    counts = np.stack([np.bincount(places, weights=side, minlength=len(bits)) for side in (~y, y)], axis=1)
    likely = np.clip(np.where(y, p, 1 - p), _LEAST, 1)
    return bits, counts.astype(np.int64), np.array([p.sum(), -np.log(likely).sum()])


def merge_cells(parts: Iterable[Cells]) -> Cells:
    """The cells of all parts' places together."""
    bits, counts, sums = zip(*parts, strict=True)
    distinct, places = np.unique(np.concatenate(bits), return_inverse=True)
    merged = np.zeros((len(distinct), 2), np.int64)
    np.add.at(merged, places, np.concatenate(counts))
    return distinct, merged, np.sum(sums, axis=0)


def auc(counts: np.ndarray) -> float:
    """Area under the ROC curve of cells in ascending order; NaN where one side is empty."""
    negatives, positives = counts[:, 0], counts[:, 1]
    pairs = int(negatives.sum()) * int(positives.sum())
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / pairs) if pairs else float("nan")


class Probabilities(SumsAtOnce):
    """Cells for each event. `model` is its name in TFMA's keys."""

    def __init__(self, model: str):
        self._model = model

    def summed(self, elements: list[Mapping[str, np.ndarray]]) -> State:
        state = {}
        for name in elements[0]:
            if name.endswith(_PROBABILITY):
                event = name[: -len(_PROBABILITY)]
                sides = ([np.ravel(e[side]) for e in elements] for side in (name, names.HAPPENED.format(event=event)))
                state[event] = cells_of(*(np.concatenate(side) for side in sides))
        return state

    def merged(self, states: list[State]) -> State:
        return {event: merge_cells(state[event] for state in states) for event in states[0]}

    def metrics(self, state: State) -> dict[metric_types.MetricKey, float]:
        found = {}
        for event, (_, counts, (promised, loss)) in state.items():
            places, happened = int(counts.sum()), int(counts[:, 1].sum())
            found[f"auc_{event}"] = auc(counts)
            found[f"log_loss_{event}"] = float(loss / places) if places else float("nan")
            found[f"calibration_{event}"] = float(promised / happened) if happened else float("nan")
        return {key_of(name, self._model): value for name, value in found.items()}


_PROBABILITY = names.PROBABILITY.format(event="")


class ProbabilityMetrics(metric_types.Metric):
    """All metrics of this file, for each event that the model knows."""

    def __init__(self, name: str = "probability_metrics"):
        super().__init__(_computations, name=name)


def _computations(name: str, eval_config: tfma.EvalConfig | None = None) -> list[metric_types.MetricComputation]:
    return for_each_model(name, eval_config, OutputsPreprocessor, Probabilities)


metric_types.register_metric(ProbabilityMetrics)
