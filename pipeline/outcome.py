"""What a run did, read from ML Metadata: steps, metrics against thresholds, blessings, the pushed version."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_metadata as mlmd
import tensorflow_model_analysis as tfma
from ml_metadata.proto import metadata_store_pb2
from rich.console import Console
from rich.table import Table

from components.data_gate import INFO, read_verdict
from components.serving_validator import VERDICT

_STATES = {mlmd.proto.Execution.CACHED: "cached", mlmd.proto.Execution.COMPLETE: "ran"}


@dataclass
class Outcome:
    """Of one run.

    Attributes:
      steps: name -> (`ran` or `cached`, seconds), in order.
      metrics: slice -> metric -> value; the slice of everybody is `all`.
      refusals: one sentence for each gate that said no; empty where the model was pushed.
      pushed: the version's folder; None where nothing was pushed.
      blessed: whether DataGate blessed the data.
      findings: what DataGate judged, see `components.data_gate`.
      rows: table -> how its rows were parted.
    """

    steps: dict[str, tuple[str, float]] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    pushed: Path | None = None
    blessed: bool = False
    findings: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, dict[str, int]] = field(default_factory=dict)


def read_outcome(connection: metadata_store_pb2.ConnectionConfig) -> Outcome:
    """Reads the newest run of a metadata store."""
    store = mlmd.MetadataStore(connection)
    run = max(store.get_contexts_by_type("pipeline_run"), key=lambda context: context.id)
    types = {t.id: t.name for t in store.get_artifact_types()}
    outcome, outputs = Outcome(), {}
    for execution in sorted(store.get_executions_by_context(run.id), key=lambda e: e.id):
        step = _node_of(store, execution.id)
        seconds = (execution.last_update_time_since_epoch - execution.create_time_since_epoch) / 1000
        outcome.steps[step] = (_STATES.get(execution.last_known_state, "failed"), seconds)
        events = store.get_events_by_execution_ids([execution.id])
        made = [e.artifact_id for e in events if e.type == mlmd.proto.Event.OUTPUT]
        for artifact in store.get_artifacts_by_id(made):
            outputs[types[artifact.type_id]] = artifact
    if "DataBlessing" not in outputs:  # a run that ended before the gate
        return outcome
    verdict = read_verdict(outputs["DataBlessing"])
    outcome.blessed, outcome.findings, outcome.rows = verdict["blessed"], verdict["findings"], verdict["rows"]
    if "PushedModel" not in outputs:  # the data half alone, or refused data
        return outcome
    _read_evaluation(outcome, outputs["ModelEvaluation"])
    _read_serving_check(outcome, outputs["InfraBlessing"])
    pushed = outputs["PushedModel"].custom_properties
    if pushed["pushed"].int_value == 1:
        outcome.pushed = Path(pushed["pushed_destination"].string_value)
    return outcome


def _node_of(store: mlmd.MetadataStore, execution_id: int) -> str:
    contexts = {c.type: c.name for c in store.get_contexts_by_execution(execution_id)}
    return contexts["node"].rsplit(".", 1)[-1]


def _read_evaluation(outcome: Outcome, evaluation: Any) -> None:
    for key, metrics in tfma.load_eval_result(evaluation.uri).slicing_metrics:
        name = ", ".join(str(value) for _, value in key) or "all"
        values = metrics[""][""]
        outcome.metrics[name] = {
            metric: value["doubleValue"] for metric, value in values.items() if "doubleValue" in value
        }
    result = tfma.load_validation_result(evaluation.uri)
    for by_slice in result.metric_validations_per_slice:
        for failure in by_slice.failures:
            where = ", ".join(f"{k.column} {k.bytes_value.decode()}" for k in by_slice.slice_key.single_slice_keys)
            what = f"{failure.metric_key.name} of {where or 'all users'} {_missed(failure)}"
            outcome.refusals.append(f"the evaluation refused the model: {what}.")
    if not result.validation_ok and not outcome.refusals:
        missing = [str(s).replace("\n", " ") for s in result.missing_slices]
        outcome.refusals.append(f"the evaluation refused the model: no held-out data in {missing or 'any slice'}.")


def _missed(failure: Any) -> str:
    value, threshold = failure.metric_value.double_value.value, failure.metric_threshold
    if threshold.HasField("value_threshold"):
        return f"is {value:.4f}, at least {threshold.value_threshold.lower_bound.value:g} is asked for"
    allowed = -threshold.change_threshold.relative.value
    return f"changed by {value:+.4f}, it may fall by {allowed:.0%} against the last pushed model"


def _read_serving_check(outcome: Outcome, blessing: Any) -> None:
    verdict = json.loads((Path(blessing.uri) / VERDICT).read_text())
    outcome.refusals += [f"the serving check refused the model: {fault}" for fault in verdict["faults"]]


def print_findings(outcome: Outcome, console: Console, with_info: bool) -> None:
    """Shows what is wrong with the data, worst first, and how the rows were parted.

    Args:
      with_info: also what is within its bounds.
    """
    table = Table(
        "severity", "column", "rule", "share of rows", "examples", "what to do", title="Data", show_lines=True
    )
    colours = {"error": "red", "warning": "yellow"}
    for found in outcome.findings:
        if with_info or found["severity"] != INFO:
            severity = found["severity"]
            what = f"{found['what']}; {found['do']}" + (f" ({found['detail']})" if found["detail"] else "")
            column = f"{found['table']}\n{found['column']}".strip()
            share = f"{found['share']:.2%}\n{found['count']:,} rows"
            examples = "\n".join(found["examples"])
            table.add_row(severity, column, found["rule"], share, examples, what, style=colours.get(severity))
    if table.row_count:
        console.print(table)
    parted = Table("table", "rows", "kept", "taken out by", title="Rows")
    for name, counts in outcome.rows.items():
        taken = [f"{rule} {count:,}" for rule, count in counts.items() if rule not in ("rows", "kept")]
        parted.add_row(name, f"{counts['rows']:,}", f"{counts['kept']:,}", ", ".join(taken))
    console.print(parted)


def wide_console() -> Console:
    """Standard output; where it is no terminal, wide enough for the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def print_outcome(outcome: Outcome, console: Console) -> None:
    """Shows the steps, the metrics and the verdict."""
    print_findings(outcome, console, with_info=False)
    steps = Table("step", "", "seconds", title="Steps")
    for step, (state, seconds) in outcome.steps.items():
        steps.add_row(step, state, "" if state == "cached" else f"{seconds:.1f}")
    console.print(steps)
    if not outcome.metrics:
        return
    slices = sorted(outcome.metrics, key=_slice_order)
    rows = sorted({metric for values in outcome.metrics.values() for metric in values}, key=_metric_order)
    metrics = Table("held-out users", *slices, title="Evaluation: full catalogue, what a user already had left out")
    for row in rows:
        values = [outcome.metrics[name].get(row, float("nan")) for name in slices]
        metrics.add_row(row, *(f"{value:.0f}" if row == "example_count" else f"{value:.4f}" for value in values))
    console.print(metrics)


def _slice_order(name: str) -> tuple[int, str]:
    known = ("all", "new", "light", "regular", "heavy")
    return (known.index(name) if name in known else len(known), name)


def _metric_order(name: str) -> tuple[str, int]:
    stem, _, k = name.rpartition("_")
    return (stem, int(k)) if k.isdecimal() else ("", 0)
