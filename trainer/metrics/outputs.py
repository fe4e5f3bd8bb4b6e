"""What all metrics share: which models are judged, and a model's outputs for one example."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types


def models_of(eval_config: tfma.EvalConfig | None) -> tuple[str, str | None]:
    """(name of the candidate in TFMA's keys, name of the baseline or None where there is none)."""
    specs = list(eval_config.model_specs) if eval_config else []
    baseline = next((spec.name for spec in specs if spec.is_baseline), None)
    candidate = next((spec.name for spec in specs if not spec.is_baseline), "")
    return (candidate, baseline) if baseline is not None else ("", None)


def outputs_of(extracts: tfma.types.Extracts, model: str) -> Mapping[str, np.ndarray]:
    """A model's outputs for one example, by name."""
    outputs = extracts[tfma.PREDICTIONS_KEY]
    return outputs.get(model, outputs)


class OutputsPreprocessor(metric_types.Preprocessor):
    """Hands a combiner one model's outputs.

    Args:
      model: its name in TFMA's keys.
    """

    def __init__(self, model: str):
        super().__init__(name=f"outputs_of_{model}")
        self._model = model

    def process(self, extracts: tfma.types.Extracts) -> Iterator[Mapping[str, Any]]:
        """Yields the outputs, as NumPy arrays without a batch."""
        yield {name: np.asarray(value) for name, value in outputs_of(extracts, self._model).items()}


def for_each_model(
    name: str,
    eval_config: tfma.EvalConfig | None,
    preprocessor: Callable[[str], metric_types.Preprocessor],
    combiner: Callable[[str], beam.CombineFn],
) -> list[metric_types.MetricComputation]:
    """A computation for the candidate and, where there is one, for the baseline; both are made of the model's name."""
    return [
        metric_types.MetricComputation(
            keys=[key_of(name, model)], preprocessors=[preprocessor(model)], combiner=combiner(model)
        )
        for model in models_of(eval_config)
        if model is not None
    ]


def key_of(metric: str, model: str, is_diff: bool = False) -> metric_types.MetricKey:
    """TFMA's key. Neither weighted nor unweighted: only such keys are what thresholds that go by name look for."""
    return metric_types.MetricKey(name=metric, model_name=model, example_weighted=None, is_diff=is_diff)
