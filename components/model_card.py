"""ModelCard: what a release manager, or an auditor, wants to know of a model, written by the run that made it.

As proposed by Mitchell et al. 2019 (arXiv 1810.03993): what it was trained on, how it was evaluated and on whom, what
was asked of it, and where all that lies. `model_card.json` for programs, `model_card.md` for people.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model, ModelBlessing, ModelEvaluation, PushedModel

from components.artifacts import DataBlessing, ModelCards
from components.data_gate import explain, read_verdict, taken_out
from components.evaluation_results import ALL, Evaluation, read_evaluation
from components.examples import read_split
from components.serving_checks import CHECKS
from components.serving_validator import read_serving_verdict
from schema import names
from schema.plain import plain

_THRESHOLD = ("metric", "slice", "found", "asked")
JSON_FILE, MARKDOWN_FILE = "model_card.json", "model_card.md"


def card_of(
    data: dict[str, Any],
    spans: dict[str, list[str]],
    moments: Sequence[int],
    cut: int,
    evaluation: Evaluation,
    serving: dict[str, Any],
    verdicts: dict[str, bool],
    version: str,
    lineage: dict[str, str],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """The card as plain values.

    Args:
      data: DataGate's verdict.
      spans: table -> the days that were read.
      moments: (first, last) of the log, seconds since 1970 UTC.
      cut: the moment from which events were held out; 0 where that is another for each user.
      evaluation: of the model.
      serving: ServingValidator's verdict.
      verdicts: gate -> whether it let the model pass.
      version: that it was pushed as; empty where it was not.
      lineage: what -> where it lies, and the code's version.
      settings: the configuration.
    """
    return {
        "model": names.MODEL_NAME,
        "version": version,
        "written": _moment(datetime.now(timezone.utc).timestamp()),
        "data": {
            "from": _moment(moments[0]),
            "until": _moment(moments[1]),
            "held_out_from": _moment(cut) if cut else "each user's own moment",
            "spans": spans,
            "rows": data["rows"],
            "told": [explain(found) for found in data["findings"] if found["severity"] != "info"],
        },
        "verdicts": verdicts,
        "metrics": evaluation.metrics,
        "compared": evaluation.has_baseline,
        "thresholds": [
            {"metric": c.metric, "slice": c.slice, "found": c.found, "asked": c.asked, "passed": c.passed}
            for c in evaluation.checks
        ],
        "serving": [
            {"check": check, "asked": CHECKS[check], "measured": serving["measured"].get(check, ""), "faults": faults}
            for check, faults in serving["faults"].items()
        ],
        "lineage": lineage,
        "configuration": settings,
    }


def markdown_of(card: dict[str, Any]) -> str:
    """The card for people."""
    data, metrics = card["data"], {ALL: {}, **card["metrics"]}  # nobody is held out: no metric
    k = max(card["configuration"]["evaluation"]["ks"])
    shown = [names.AT_K.format(metric=m, k=k) for m in (*names.USER_METRICS, *names.EXPOSURE_METRICS)]
    of_events = sorted(metric for metric in metrics[ALL] if metric.startswith(names.PROBABILITY_METRICS))
    recall = names.AT_K.format(metric="recall", k=k)
    slices = sorted(where for where in metrics if where != ALL)
    verdicts = [(gate, "passed" if passed else "refused") for gate, passed in card["verdicts"].items()]
    rows = [
        (table, f"{counts['rows']:,}", f"{counts['kept']:,}", taken_out(counts))
        for table, counts in data["rows"].items()
    ]
    asked = [("" if t["passed"] else "missed", *(t[key] for key in _THRESHOLD)) for t in card["thresholds"]]
    spans = [(table, str(len(days)), days[0], days[-1]) for table, days in data["spans"].items()]
    parts = [
        f"# Model card: {card['model']} {card['version'] or '(not pushed)'}",
        f"Written {card['written']} by the run that made the model.",
        "## What it is for\n\nRanking a catalogue for one user of the shop or site whose log it was trained on: feeds, "
        "similar items and search. It was not made to judge people, and knows nothing of items that are not in the "
        "catalogue below.",
        "## Verdicts\n\n" + _table(("gate", "verdict"), verdicts),
        f"## Data\n\nEvents from {data['from']} until {data['until']}; held out from: {data['held_out_from']}.\n\n"
        + _table(("table", "rows", "kept", "taken out by"), rows)
        + "\n\n"
        + _table(("table", "spans", "first", "last"), spans)
        + "".join(f"\n- {told}" for told in data["told"]),
        "## Evaluation\n\nFull catalogue, what a user already had left out; intervals have the ends of a bootstrap "
        "over users.\n\n"
        + _table(
            ("metric", "all users", "interval", "against the last pushed"),
            [_metric_row(metric, metrics[ALL]) for metric in (*shown, *of_events) if metric in metrics[ALL]],
        ),
        "### By slice\n\n"
        + _table(
            ("slice", "users", recall, "interval", "against the last pushed"),
            [(where, _users(metrics[where]), *_metric_row(recall, metrics[where])[1:]) for where in slices],
        ),
        "## Thresholds\n\n" + _table(("", "metric", "slice", "found", "asked for"), asked),
        "## Serving\n\n"
        + _table(
            ("check", "asked for", "measured", "faults"),
            [(s["check"], s["asked"], s["measured"], " ".join(s["faults"][:1])) for s in card["serving"]],
        ),
        "## Lineage\n\n" + _table(("what", "where"), list(card["lineage"].items())),
    ]
    return "\n\n".join(parts) + "\n"


def _users(values: dict[str, float]) -> str:
    return f"{values.get('example_count', 0):,.0f}"


def _metric_row(metric: str, values: dict[str, float]) -> tuple[str, ...]:
    lower, upper = (values.get(end.format(metric=metric), math.nan) for end in (names.LOWER, names.UPPER))
    interval = f"{lower:.4f} … {upper:.4f}" if math.isfinite(lower) and math.isfinite(upper) else ""
    change = values.get(names.CHANGE.format(metric=metric))
    return metric, f"{values.get(metric, math.nan):.4f}", interval, "" if change is None else f"{change:+.1%}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _log_of(examples: Examples) -> tuple[tuple[int, int], int]:
    """((first, last) moment of the log, the cut; 0 where users have cuts of their own)."""
    (timeline,) = read_split(examples, names.TIMELINE_SPLIT)
    snapshots = timeline[names.SNAPSHOT_TIMESTAMPS]
    moments = {row[names.TIMESTAMP][0] for row in read_split(examples, names.EVAL_SPLIT)}
    return (snapshots[0], snapshots[-1]), moments.pop() if len(moments) == 1 else 0


@component
def ModelCard(
    model: InputArtifact[Model],
    behaviors: InputArtifact[Examples],
    catalog: InputArtifact[Examples],
    examples: InputArtifact[Examples],
    data_blessing: InputArtifact[DataBlessing],
    evaluation: InputArtifact[ModelEvaluation],
    model_blessing: InputArtifact[ModelBlessing],
    infra_blessing: InputArtifact[InfraBlessing],
    pushed_model: InputArtifact[PushedModel],
    card: OutputArtifact[ModelCards],
    settings: Parameter[str],
    code_version: Parameter[str],
) -> None:
    """Writes the card. `settings` is JSON of the configuration."""
    moments, cut = _log_of(examples)
    spans = {
        table: artifact_utils.decode_split_names(rows.split_names)
        for table, rows in ((names.BEHAVIORS, behaviors), (names.CATALOG, catalog))
    }
    data = read_verdict(data_blessing)
    serving = read_serving_verdict(infra_blessing.uri)
    verdicts = {
        "DataGate": bool(data["blessed"]),
        "Evaluator": model_blessing.get_int_custom_property("blessed") == 1,
        "ServingValidator": infra_blessing.get_int_custom_property("blessed") == 1,
    }
    artifacts = (model, examples, data_blessing, evaluation, infra_blessing, pushed_model)
    tables = {names.BEHAVIORS: behaviors.uri, names.CATALOG: catalog.uri}
    lineage = {**tables, **{artifact.type_name: artifact.uri for artifact in artifacts}, "code": code_version}
    version = pushed_model.get_string_custom_property("pushed_version")
    found = read_evaluation(evaluation.uri)
    written = card_of(data, spans, moments, cut, found, serving, verdicts, version, lineage, json.loads(settings))
    for name, text in ((JSON_FILE, json.dumps(plain(written), indent=1)), (MARKDOWN_FILE, markdown_of(written))):
        with tf.io.gfile.GFile(os.path.join(card.uri, name), "w") as file:
            file.write(text)
