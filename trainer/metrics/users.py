"""Metrics that are a mean over users, each with the ends of its confidence interval and its change against a baseline.

Of one user's list, with `hits` relevant items among the first k and `relevant` ones in all:

- `recall_at_k`: hits / min(k, relevant), so that a perfect list scores 1 (Liang et al. 2018, arXiv 1802.05814).
- `ndcg_at_k`: binary gains over the ideal list's (Jarvelin and Kekalainen 2002, doi 10.1145/582415.582418).
- `mrr_at_k`: 1 / the rank of the first hit, 0 without one.
- `hit_rate_at_k`: whether there is a hit. `precision_at_k`: hits / k. `f1_at_k`: 2 hits / (k + relevant).
- `map_at_k`: precision at each hit, summed, / min(k, relevant).
- `novelty_at_k`: mean of -log2 of the items' shares of recent popularity, in bits (Zhou et al. 2010,
  doi 10.1073/pnas.1000488107).
- `diversity_at_k`: mean of 1 - cosine over the pairs of the list's texts (Ziegler et al. 2005,
  doi 10.1145/1060745.1060754); 0 for a list of one.

Intervals are of a Poisson bootstrap over users (Chamandy et al. 2012, "Estimating uncertainty for massive data
streams"): in each replicate a user counts as often as a Poisson(1) draw says that only the user's id decides. So
accumulators of any bundles merge to the same numbers, and candidate and baseline are compared user by user.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types

from schema import names
from trainer.metrics.combiners import SumsAtOnce
from trainer.metrics.outputs import key_of, models_of, outputs_of


@dataclass(frozen=True)
class Intervals:
    """How sure one wants to be.

    Attributes:
      confidence: of each end, one-sided: 0.95 means that the truth lies beyond it in one case of twenty.
      replicates: of the bootstrap.
      min_users: of fewer users nothing can be said, so that the ends are infinite.
    """

    confidence: float = 0.95
    replicates: int = 200
    min_users: int = 30


def rank_values(ranks: np.ndarray, relevant: int, ks: np.ndarray) -> np.ndarray:
    """One user's `names.RANKED_METRICS`.

    Args:
      ranks: [n] rank of each relevant item, from 1; 0 is padding.
      relevant: number of relevant items, at least 1; those outside the catalogue have no rank and count.
      ks: [ks] lengths of the list.

    Returns:
      [metrics, ks] float64.
    """
    found = np.sort(ranks[ranks > 0])
    inside = found <= ks[:, np.newaxis]
    hits, best = inside.sum(axis=1), np.minimum(ks, relevant)
    ideal = np.cumsum(1 / np.log2(np.arange(2, best.max() + 2)))[best - 1]
    first = 1 / found[0] if len(found) else 0.0
    return np.stack(
        [
            hits / best,
            (inside / np.log2(found + 1)).sum(axis=1) / ideal,
            np.where(hits > 0, first, 0.0),
            hits > 0,
            hits / ks,
            2 * hits / (ks + relevant),
            (inside * np.arange(1, len(found) + 1) / found).sum(axis=1) / best,
        ]
    )


def shown_values(popularity: np.ndarray, diversity: np.ndarray, ks: np.ndarray) -> np.ndarray:
    """One user's `names.SHOWN_METRICS`, of as much of the list as `evaluate` tells.

    Args:
      popularity: [places] share of recent popularity of the list's items.
      diversity: [places] mean of 1 - cosine over the pairs of so many first items.
      ks: [ks] lengths of the list.

    Returns:
      [metrics, ks] float64.
    """
    last = np.minimum(ks, len(popularity)) - 1
    novelty = np.cumsum(-np.log2(popularity)) / np.arange(1, len(popularity) + 1)
    return np.stack([novelty[last], diversity[last]])


def draws_of(user_id: bytes, replicates: int) -> np.ndarray:
    """[1 + replicates] float32: once, and how often a user counts in each replicate; the same everywhere."""
    seed = int.from_bytes(hashlib.blake2b(user_id, digest_size=8).digest(), "big")
    draws = np.random.Generator(np.random.Philox(key=seed)).poisson(1.0, replicates)
    return np.concatenate([[1], draws]).astype(np.float32)


class _UserValues(metric_types.Preprocessor):
    """An example to (draws [1 + replicates], values [models, metrics, ks]), once for all slices that it is in."""

    def __init__(self, models: list[str], ks: list[int], replicates: int):
        super().__init__(name=f"user_values_{models}_{ks}_{replicates}")
        self._models, self._ks, self._replicates = models, np.array(ks), replicates

    def process(self, extracts: tfma.types.Extracts) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        values = []
        for model in self._models:
            outputs = outputs_of(extracts, model)
            ranks, relevant = np.ravel(outputs[names.RANKS]), int(np.ravel(outputs[names.RELEVANT])[0])
            popularity, diversity = (np.ravel(outputs[o]) for o in (names.TOP_POPULARITY, names.TOP_DIVERSITY))
            ranked = rank_values(ranks, relevant, self._ks)
            values.append(np.concatenate([ranked, shown_values(popularity, diversity, self._ks)]))
        user_id = np.ravel(extracts[tfma.FEATURES_KEY][names.USER_ID])[0]
        yield draws_of(user_id, self._replicates), np.stack(values)


State = tuple[int, np.ndarray, np.ndarray]  # users, [replicates + 1] weights, [replicates + 1, values] sums


class UserMeans(SumsAtOnce):
    """Sums over users, for each replicate of the bootstrap.

    Args:
      candidate, baseline: names in TFMA's keys; None where there is no baseline.
      ks: lengths of the list.
      intervals: see there.
    """

    def __init__(self, candidate: str, baseline: str | None, ks: list[int], intervals: Intervals):
        self._models = [candidate] if baseline is None else [candidate, baseline]
        self._ks, self._intervals = ks, intervals
        self.names = [names.AT_K.format(metric=metric, k=k) for metric in names.USER_METRICS for k in ks]

    def summed(self, elements: list[tuple[np.ndarray, np.ndarray]]) -> State:
        draws = np.stack([draws for draws, _ in elements]).astype(np.float64)
        values = np.stack([values.ravel() for _, values in elements])
        return len(elements), draws.sum(axis=0), draws.T @ values

    def merged(self, states: list[State]) -> State:
        users, weights, sums = zip(*states, strict=True)
        return sum(users), np.sum(weights, axis=0), np.sum(sums, axis=0)

    def metrics(self, state: State) -> dict[metric_types.MetricKey, float]:
        users, weights, sums = state
        # A replicate that drew nobody says nothing.
        drawn = weights > 0
        means = (sums[drawn] / weights[drawn, np.newaxis]).reshape(-1, len(self._models), len(self.names))
        found: dict[metric_types.MetricKey, float] = {}
        for i, model in enumerate(self._models):
            for j, name in enumerate(self.names):
                found |= self._with_ends(name, means[:, i, j], users, model)
        if len(self._models) > 1:
            for j, name in enumerate(self.names):
                change = relative_change(means[:, 0, j], means[:, 1, j])
                changed = names.CHANGE.format(metric=name)
                found |= self._with_ends(changed, change, users, self._models[0], is_diff=True)
        return found

    def _with_ends(
        self, name: str, values: np.ndarray, users: int, model: str, is_diff: bool = False
    ) -> dict[metric_types.MetricKey, float]:
        """The value, which comes first, and the ends of its interval, by key."""
        lower, upper = -np.inf, np.inf
        if users >= self._intervals.min_users:
            tail = 1 - self._intervals.confidence
            # Of replicates that are infinite (a baseline of nothing) no interpolation can be made.
            lower, upper = np.quantile(values[1:], [tail, 1 - tail], method="inverted_cdf")
        ends = {name: values[0], names.LOWER.format(metric=name): lower, names.UPPER.format(metric=name): upper}
        return {key_of(key, model, is_diff): float(value) for key, value in ends.items()}


def relative_change(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """(now - before) / before; of nothing to something is infinite, of nothing to nothing is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(now == before, 0.0, (now - before) / before)


class UserMetrics(metric_types.Metric):
    """All metrics of this file, at each k: `NAME_at_K`, with `_lower` and `_upper`; against a baseline also
    `NAME_at_K_change`, relative, with its own ends.

    Args:
      ks: lengths of the list.
      confidence, replicates, min_users: see `Intervals`.
    """

    def __init__(
        self,
        ks: list[int],
        confidence: float = Intervals.confidence,
        replicates: int = Intervals.replicates,
        min_users: int = Intervals.min_users,
        name: str = "user_metrics",
    ):
        super().__init__(
            _computations, ks=ks, confidence=confidence, replicates=replicates, min_users=min_users, name=name
        )


def _computations(
    ks: list[int],
    confidence: float,
    replicates: int,
    min_users: int,
    name: str,
    eval_config: tfma.EvalConfig | None = None,
) -> list[metric_types.MetricComputation]:
    candidate, baseline = models_of(eval_config)
    models = [candidate] if baseline is None else [candidate, baseline]
    means = UserMeans(candidate, baseline, ks, Intervals(confidence, replicates, min_users))
    keys = [key_of(each, model) for model in models for each in means.names]
    preprocessor = _UserValues(models, ks, replicates)
    return [metric_types.MetricComputation(keys=keys, preprocessors=[preprocessor], combiner=means)]


metric_types.register_metric(UserMetrics)
