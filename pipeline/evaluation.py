"""The Evaluator's configuration for TFMA: metrics, slices, thresholds."""

import json

import tensorflow_model_analysis as tfma

from pipeline.config import Evaluation
from schema import names

_METRICS = (("RecallAtK", "recall_at"), ("NDCGAtK", "ndcg_at"))


def eval_config(evaluation: Evaluation) -> tfma.EvalConfig:
    """Full-catalogue Recall and NDCG at each k, over all held-out users and by activity.

    The largest k carries the thresholds: absolute floors, a floor in each activity slice where one is asked for, and
    the largest relative drop of Recall against the last pushed model.
    """
    largest = max(evaluation.ks)
    floors = {"RecallAtK": evaluation.min_recall, "NDCGAtK": evaluation.min_ndcg}
    metrics = []
    for class_name, prefix in _METRICS:
        for k in evaluation.ks:
            metric = tfma.MetricConfig(
                class_name=class_name,
                module="trainer.metrics",
                config=json.dumps({"k": k, "name": f"{prefix}_{k}"}),
            )
            if k == largest:
                # A threshold that names no slice would count in every slice.
                overall = metric.per_slice_thresholds.add(slicing_specs=[tfma.SlicingSpec()]).threshold
                overall.value_threshold.lower_bound.value = floors[class_name]
                if class_name == "RecallAtK":
                    overall.change_threshold.direction = tfma.MetricDirection.HIGHER_IS_BETTER
                    overall.change_threshold.relative.value = -evaluation.max_relative_drop
                    if evaluation.min_slice_recall > 0:
                        activity = tfma.SlicingSpec(feature_keys=[names.ACTIVITY])
                        by_slice = metric.per_slice_thresholds.add(slicing_specs=[activity]).threshold
                        by_slice.value_threshold.lower_bound.value = evaluation.min_slice_recall
            metrics.append(metric)
    metrics.append(tfma.MetricConfig(class_name="ExampleCount"))
    return tfma.EvalConfig(
        # Not a Keras export: TFMA asks the signature and computes nothing by itself.
        model_specs=[tfma.ModelSpec(signature_name=names.EVALUATE, model_type=tfma.TF_GENERIC)],
        slicing_specs=[tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=[names.ACTIVITY])],
        metrics_specs=[tfma.MetricsSpec(metrics=metrics)],
        options=tfma.Options(include_default_metrics={"value": False}),
    )
