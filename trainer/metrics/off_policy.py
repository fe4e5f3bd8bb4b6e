"""What another policy would have earned where propensities were logged: self-normalised inverse propensity scoring.

`snips` = sum(w * reward) / sum(w), where w = min(the judged policy's propensity / the logged one, clip)
(Swaminathan and Joachims 2015, "The self-normalized estimator for counterfactual learning"). With its standard error
by the delta method, and the effective number of samples (sum w)^2 / sum w^2: where that is small, the log says little.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types

from trainer.metrics.combiners import SumsAtOnce
from trainer.metrics.outputs import for_each_model, key_of, outputs_of

CLIP = 100.0


def sums_of(rewards: np.ndarray, propensities: np.ndarray, logged: np.ndarray, clip: float = CLIP) -> np.ndarray:
    """[6] sums, which add up over parts of a log.

    Args:
      rewards: [n] what followed on what was shown.
      propensities: [n] probability that the judged policy shows it there.
      logged: [n] probability with which it was shown, above 0.
      clip: largest weight of a sample.

    Raises:
      ValueError: a logged propensity is not above 0 and at most 1.
    """
    if not ((logged > 0) & (logged <= 1)).all():
        raise ValueError("a logged propensity is not above 0 and at most 1; log what `recommend` returned.")
    w = np.minimum(propensities / logged, clip)
    return np.array([part.sum() for part in (w, w * rewards, w**2, w**2 * rewards, (w * rewards) ** 2)] + [len(w)])


def snips(sums: np.ndarray) -> tuple[float, float, float]:
    """(estimate, its standard error, effective number of samples) of `sums_of`; NaN where no weight is above 0."""
    w, wr, ww, wwr, wwrr, _ = sums
    if not w:
        return float("nan"), float("nan"), 0.0
    value = wr / w
    variance = max(wwrr - 2 * value * wwr + value**2 * ww, 0.0) / w**2
    return float(value), float(np.sqrt(variance)), float(w**2 / ww)


class OffPolicy(SumsAtOnce):
    """Sums over logged samples. `model` is its name in TFMA's keys."""

    def __init__(self, model: str, clip: float):
        self._model, self._clip = model, clip

    def summed(self, elements: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
        rewards, propensities, logged = (np.concatenate(column) for column in zip(*elements, strict=True))
        return sums_of(rewards, propensities, logged, self._clip)

    def merged(self, states: list[np.ndarray]) -> np.ndarray:
        return np.sum(states, axis=0)

    def metrics(self, state: np.ndarray) -> dict[metric_types.MetricKey, float]:
        found = dict(zip(("snips", "snips_error", "snips_samples"), snips(state), strict=True))
        return {key_of(name, self._model): value for name, value in found.items()}


class _Samples(metric_types.Preprocessor):
    def __init__(self, model: str, propensity: str, reward: str, logged: str):
        super().__init__(name=f"samples_{model}_{propensity}_{reward}_{logged}")
        self._model, self._propensity, self._reward, self._logged = model, propensity, reward, logged

    def process(self, extracts: tfma.types.Extracts) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        features, outputs = extracts[tfma.FEATURES_KEY], outputs_of(extracts, self._model)
        columns = (features[self._reward], outputs[self._propensity], features[self._logged])
        rewards, propensities, logged = (np.ravel(column).astype(np.float64) for column in columns)
        yield rewards, propensities, logged


class OffPolicyMetrics(metric_types.Metric):
    """`snips`, `snips_error` and `snips_samples` of examples that are logged impressions.

    Args:
      propensity: the model's output: how likely it shows what was shown.
      reward, logged: features of the examples: what followed, and the propensity that was logged.
      clip: largest weight of a sample.
    """

    def __init__(
        self,
        propensity: str = "propensity",
        reward: str = "reward",
        logged: str = "logged_propensity",
        clip: float = CLIP,
        name: str = "off_policy_metrics",
    ):
        super().__init__(_computations, propensity=propensity, reward=reward, logged=logged, clip=clip, name=name)


def _computations(
    propensity: str, reward: str, logged: str, clip: float, name: str, eval_config: tfma.EvalConfig | None = None
) -> list[metric_types.MetricComputation]:
    return for_each_model(
        name,
        eval_config,
        lambda model: _Samples(model, propensity, reward, logged),
        lambda model: OffPolicy(model, clip),
    )


metric_types.register_metric(OffPolicyMetrics)
