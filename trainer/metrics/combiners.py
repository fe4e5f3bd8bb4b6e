"""A Beam combiner that sums many elements at once: NumPy over hundreds of examples costs what it costs over one."""

from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from tensorflow_model_analysis.metrics import metric_types

_AT_ONCE = 256

# [state of what was summed, or None; elements that were not yet]
Accumulator = list[Any]


class SumsAtOnce(beam.CombineFn):
    """Elements to states, states to one state, and that to metrics; exact whatever the bundles.

    Who extends it says how: `summed`, `merged` and `metrics`.
    """

    def summed(self, elements: list[Any]) -> Any:
        """The state of some elements, at least one."""
        raise NotImplementedError

    def merged(self, states: list[Any]) -> Any:
        """The state of all elements of some states, at least one."""
        raise NotImplementedError

    def metrics(self, state: Any) -> dict[metric_types.MetricKey, float]:
        """What the state says."""
        raise NotImplementedError

    def create_accumulator(self) -> Accumulator:
        return [None, []]

    def add_input(self, accumulator: Accumulator, element: Any) -> Accumulator:
        accumulator[1].append(element)
        return self.compact(accumulator) if len(accumulator[1]) == _AT_ONCE else accumulator

    def compact(self, accumulator: Accumulator) -> Accumulator:
        state, waiting = accumulator
        states = [*([] if state is None else [state]), *([self.summed(waiting)] if waiting else [])]
        return [self._merged(states), []]

    def merge_accumulators(self, accumulators: Iterable[Accumulator]) -> Accumulator:
        states = [state for state, _ in map(self.compact, accumulators) if state is not None]
        return [self._merged(states), []]

    def extract_output(self, accumulator: Accumulator) -> dict[metric_types.MetricKey, float]:
        state, _ = self.compact(accumulator)
        return {} if state is None else self.metrics(state)

    def _merged(self, states: list[Any]) -> Any:
        return self.merged(states) if len(states) > 1 else next(iter(states), None)
