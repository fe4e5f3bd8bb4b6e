"""What the Evaluator found, read from its artifact: metrics by slice, and every threshold with what came of it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_specs
from tensorflow_model_analysis.proto import metrics_for_slice_pb2, validation_result_pb2
from tensorflow_model_analysis.slicer import slicer_lib
from tensorflow_model_analysis.writers.eval_config_writer import load_eval_run

from schema import names

ALL = "all users"


@dataclass(frozen=True)
class Check:
    """A threshold in one slice.

    Attributes:
      metric: whose value it is, without the end of the interval that was asked.
      slice: `all users`, or `activity=heavy`.
      value: of the metric; of a change the relative one; None where the evaluation has none.
      lower, upper: ends of the interval; infinite where it has too few users, NaN where the metric has none.
      asked: what for, such as `at least 0.01`.
      passed: whether it holds.
    """

    metric: str
    slice: str
    value: float | None
    lower: float
    upper: float
    asked: str
    passed: bool

    @property
    def found(self) -> str:
        """The value, with its interval where it has one."""
        found = "not there" if self.value is None else f"{self.value:.4f}"
        if math.isfinite(self.lower) and math.isfinite(self.upper):
            found += f" [{self.lower:.4f}, {self.upper:.4f}]"
        return found

    def __str__(self) -> str:
        return f"{self.metric} of {self.slice} is {self.found}, asked for is {self.asked}"


@dataclass
class Evaluation:
    """Of one model.

    Attributes:
      metrics: slice -> metric -> value; `METRIC_change` is against the baseline, relative.
      checks: of all thresholds in all slices that they count in.
      passed: TFMA's own verdict.
      has_baseline: whether the model was compared with another.
    """

    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    passed: bool = False
    has_baseline: bool = False

    @property
    def refusals(self) -> list[str]:
        """One sentence for each threshold that is missed."""
        missed = [f"{check}." for check in self.checks if not check.passed]
        return missed if missed or self.passed else ["there is no held-out data in a slice that has a threshold."]


def read_evaluation(uri: str) -> Evaluation:
    """Reads a ModelEvaluation artifact."""
    validation, *_ = _records(uri, "validations", validation_result_pb2.ValidationResult)
    result = Evaluation(passed=validation.validation_ok)
    records = _records(uri, "metrics", metrics_for_slice_pb2.MetricsForSlice)
    for record in records:
        values = dict(_values(record))
        # TFMA's own differences are absolute; what a threshold reads is the change that the metrics compute.
        own = {name: value for (name, is_diff, is_baseline), value in values.items() if not (is_diff or is_baseline)}
        changes = {name: value for (name, is_diff, _), value in values.items() if is_diff and "_change" in name}
        result.has_baseline |= any(is_baseline for _, _, is_baseline in values)
        result.metrics[slice_name(record)] = own | changes
    checks = _checks(load_eval_run(uri)[0], records, result.metrics)
    # TFMA keeps thresholds in a map without an order.
    result.checks = sorted(checks, key=lambda check: (check.slice != ALL, check.slice, check.metric, check.asked))
    return result


def _records(uri: str, name: str, kind: Any) -> list[Any]:
    """Messages of TFMA's files; its own readers warn of themselves."""
    files = sorted(tf.io.gfile.glob(f"{uri}/{name}*"))
    return [kind.FromString(record) for record in tf.data.TFRecordDataset(files).as_numpy_iterator()]


def slice_name(record: metrics_for_slice_pb2.MetricsForSlice) -> str:
    """`all users`, or the slice's features with their values."""
    keys = record.slice_key.single_slice_keys
    return ", ".join(f"{key.column}={key.bytes_value.decode('utf-8', 'replace')}" for key in keys) or ALL


def _values(record: metrics_for_slice_pb2.MetricsForSlice) -> Iterator[tuple[tuple[str, bool, bool], float]]:
    """((metric, whether it is a difference, whether it is the baseline's), value)."""
    for pair in record.metric_keys_and_values:
        if pair.value.HasField("double_value"):
            is_baseline = pair.key.model_name == tfma.BASELINE_KEY
            yield (pair.key.name, pair.key.is_diff, is_baseline), pair.value.double_value.value


def _checks(
    config: tfma.EvalConfig,
    records: list[metrics_for_slice_pb2.MetricsForSlice],
    metrics: dict[str, dict[str, float]],
) -> Iterator[Check]:
    """Every threshold in every slice that it counts in, as TFMA's validator goes through them."""
    thresholds = metric_specs.metric_thresholds_from_metrics_specs(config.metrics_specs, eval_config=config)
    for key, of_slices in thresholds.items():
        if key.model_name == tfma.BASELINE_KEY:
            continue
        for spec, threshold in of_slices:
            applies = slicer_lib.SingleSliceSpec(spec=spec).is_slice_applicable
            for record in records:
                if applies(slicer_lib.deserialize_slice_key(record.slice_key)):
                    name = slice_name(record)
                    yield _check(key.name, name, metrics[name], threshold)


def _check(
    key: str,
    where: str,
    values: dict[str, float],
    threshold: "tfma.GenericValueThreshold | tfma.GenericChangeThreshold",
) -> Check:
    asked_of = values.get(key, math.nan)
    metric = key.removesuffix(names.UPPER.format(metric="")).removesuffix(names.LOWER.format(metric=""))
    lower, upper = (values.get(end.format(metric=metric), math.nan) for end in (names.LOWER, names.UPPER))
    if isinstance(threshold, tfma.GenericChangeThreshold):
        least, asked = threshold.absolute.value, f"a drop of at most {-threshold.absolute.value:.0%}"
        passed = asked_of >= least
    elif threshold.HasField("upper_bound"):
        passed, asked = asked_of <= threshold.upper_bound.value, f"at most {threshold.upper_bound.value:g}"
    else:
        passed, asked = asked_of >= threshold.lower_bound.value, f"at least {threshold.lower_bound.value:g}"
    return Check(metric, where, values.get(metric), lower, upper, asked, passed)
