"""What a run did, read from ML Metadata: steps, metrics against thresholds, blessings, the pushed version."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from rich.console import Console
from rich.table import Table

from components.artifacts import DataBlessing, ModelCards
from components.data_gate import INFO, read_verdict, taken_out
from components.evaluation_results import ALL, Evaluation, read_evaluation
from components.interactions import ACTIVITY_BANDS
from components.serving_validator import read_serving_verdict
from pipeline.lineage import Store
from schema import names


@dataclass
class Outcome:
    """Of one run.

    Attributes:
      steps: name -> (`ran` or `cached`, seconds), in order.
      evaluation: what the Evaluator found; empty where it did not run.
      refusals: one sentence for each gate that said no; empty where the model was pushed.
      pushed: the version's folder; None where nothing was pushed.
      card: the model card's folder; None where the run ended before.
      blessed: whether DataGate blessed the data.
      findings: what DataGate judged, see `components.data_gate`.
      rows: table -> how its rows were parted.
    """

    steps: dict[str, tuple[str, float]] = field(default_factory=dict)
    evaluation: Evaluation = field(default_factory=Evaluation)
    refusals: list[str] = field(default_factory=list)
    pushed: Path | None = None
    card: Path | None = None
    blessed: bool = False
    findings: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, dict[str, int]] = field(default_factory=dict)


def read_outcome(connection: metadata_store_pb2.ConnectionConfig) -> Outcome:
    """Reads the newest run of a metadata store."""
    store, outcome = Store(connection), Outcome()
    outputs: dict[str, Any] = {}
    for step in store.steps():
        outcome.steps[step.name] = (step.state, step.seconds)
        outputs |= {store.kind_of(artifact): artifact for made in step.outputs.values() for artifact in made}
    if DataBlessing.TYPE_NAME not in outputs:  # a run that ended before the gate
        return outcome
    verdict = read_verdict(outputs[DataBlessing.TYPE_NAME])
    outcome.blessed, outcome.findings, outcome.rows = verdict["blessed"], verdict["findings"], verdict["rows"]
    if "PushedModel" not in outputs:  # the data half alone, or refused data
        return outcome
    outcome.evaluation = read_evaluation(outputs["ModelEvaluation"].uri)
    outcome.refusals += [f"the evaluation refused the model: {missed}" for missed in outcome.evaluation.refusals]
    _read_serving_check(outcome, outputs["InfraBlessing"])
    pushed = outputs["PushedModel"].custom_properties
    if pushed["pushed"].int_value == 1:
        outcome.pushed = Path(pushed["pushed_destination"].string_value)
    outcome.card = Path(outputs[ModelCards.TYPE_NAME].uri) if ModelCards.TYPE_NAME in outputs else None
    return outcome


def _read_serving_check(outcome: Outcome, blessing: Any) -> None:
    verdict = read_serving_verdict(blessing.uri)
    faults = [(check, fault) for check, found in verdict["faults"].items() for fault in found]
    outcome.refusals += [f"the serving check refused the model: {check}: {fault}" for check, fault in faults]


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
        parted.add_row(name, f"{counts['rows']:,}", f"{counts['kept']:,}", taken_out(counts))
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
    if outcome.evaluation.metrics:
        console.print(evaluation_table(outcome.evaluation))


def evaluation_table(evaluation: Evaluation) -> Table:
    """The metrics of all held-out users, with intervals, and of the bands of activity."""
    everybody = evaluation.metrics[ALL]
    bands = {f"{names.ACTIVITY}={band}": band for band in ACTIVITY_BANDS}
    shown = [where for where in bands if where in evaluation.metrics]
    title = "Evaluation: full catalogue, what a user already had left out"
    against = ["against the last pushed"] if evaluation.has_baseline else []
    table = Table("held-out users", "all", "interval", *against, *(bands[where] for where in shown), title=title)
    for metric in shown_metrics(everybody):
        ends = [everybody.get(end.format(metric=metric)) for end in (names.LOWER, names.UPPER)]
        interval = "" if None in ends else f"{ends[0]:.4f} … {ends[1]:.4f}"
        change = everybody.get(names.CHANGE.format(metric=metric))
        changed = ["" if change is None else f"{change:+.1%}"] if against else []
        values = [evaluation.metrics[where].get(metric, float("nan")) for where in (ALL, *shown)]
        figures = [f"{value:,.0f}" if metric == "example_count" else f"{value:.4f}" for value in values]
        table.add_row(metric, figures[0], interval, *changed, *figures[1:])
    return table


def shown_metrics(values: Mapping[str, float]) -> list[str]:
    """Of metrics with their values those that say something, in order. Ends of intervals have a place of their own;
    recall and NDCG are told at each k, the others at the largest; of an event that nobody did, nothing is."""
    _, log_loss, calibration = names.PROBABILITY_METRICS
    idle = {
        name.replace(calibration, log_loss, 1)
        for name, value in values.items()
        if name.startswith(calibration) and math.isnan(value)
    }
    own = [n for n, value in values.items() if math.isfinite(value) and n not in idle and not n.endswith(_DERIVED)]
    largest = max(k for _, _, k in map(_metric_order, own))
    everywhere = names.USER_METRICS[:2]
    shown = [m for m in own if _metric_order(m)[2] in (0, largest) or m.startswith(everywhere)]
    return sorted(shown, key=_metric_order)


_DERIVED = tuple(end.format(metric="") for end in (names.LOWER, names.UPPER, names.CHANGE))


def _metric_order(name: str) -> tuple[int, str, int]:
    stem, _, k = name.rpartition("_")
    metric = stem.removesuffix("_at")
    order = (*names.USER_METRICS, *names.EXPOSURE_METRICS)
    return (order.index(metric), "", int(k)) if metric in order else (-1 if name == "example_count" else 99, name, 0)
