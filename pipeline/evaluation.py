"""The Evaluator's configuration for TFMA: metrics, slices, thresholds."""

import json
from collections.abc import Iterator

import tensorflow_model_analysis as tfma

from pipeline.sections.judging import Evaluation, Threshold
from schema import names

_MODULE = "trainer.metrics"


def eval_config(evaluation: Evaluation) -> tfma.EvalConfig:
    """All metrics of `trainer/metrics/` over all held-out users and in every slice, and the thresholds.

    Of a mean over users, a bound is missed where the far end of its interval misses it. Its change against the last
    pushed model is a metric of its own, computed user by user; TFX leaves out change thresholds where there is no such
    model.
    """
    users = {
        "ks": evaluation.ks,
        **{key: getattr(evaluation, key) for key in ("confidence", "replicates", "min_users")},
    }
    metrics = [
        tfma.MetricConfig(class_name="UserMetrics", module=_MODULE, config=json.dumps(users)),
        tfma.MetricConfig(class_name="ExposureMetrics", module=_MODULE, config=json.dumps({"ks": evaluation.ks})),
        tfma.MetricConfig(class_name="ProbabilityMetrics", module=_MODULE),
        tfma.MetricConfig(class_name="IndexMetrics", module=_MODULE),
        tfma.MetricConfig(class_name="ExampleCount"),
    ]
    spec = tfma.MetricsSpec(metrics=metrics)
    for threshold in evaluation.thresholds.values():
        # A threshold that names no slice would count in every slice.
        slices = [tfma.SlicingSpec(feature_keys=features) for features in threshold.slices]
        for key, bound in _bounds(evaluation, threshold):
            spec.per_slice_thresholds[key].thresholds.add(slicing_specs=slices, threshold=bound)
    return tfma.EvalConfig(
        # Not a Keras export: TFMA asks the signature and computes nothing by itself.
        model_specs=[tfma.ModelSpec(signature_name=names.EVALUATE, model_type=tfma.TF_GENERIC)],
        slicing_specs=[tfma.SlicingSpec(), *(tfma.SlicingSpec(feature_keys=keys) for keys in evaluation.slices)],
        metrics_specs=[spec],
        options=tfma.Options(include_default_metrics={"value": False}),
    )


def _bounds(evaluation: Evaluation, threshold: Threshold) -> Iterator[tuple[str, tfma.MetricThreshold]]:
    """(metric, what is asked of it) for each bound."""
    metric, has_interval = evaluation.metric_key(threshold), evaluation.has_interval(threshold)
    upper, lower = (end.format(metric=metric) if has_interval else metric for end in (names.UPPER, names.LOWER))
    if threshold.at_least is not None:
        yield upper, tfma.MetricThreshold(value_threshold={"lower_bound": {"value": threshold.at_least}})
    if threshold.at_most is not None:
        yield lower, tfma.MetricThreshold(value_threshold={"upper_bound": {"value": threshold.at_most}})
    if threshold.max_drop is not None:
        change = tfma.GenericChangeThreshold(
            direction=tfma.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -threshold.max_drop}
        )
        change_upper = names.UPPER.format(metric=names.CHANGE.format(metric=metric))
        yield change_upper, tfma.MetricThreshold(change_threshold=change)
