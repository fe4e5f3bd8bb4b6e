"""DataGate: TFX only reports anomalies; this stops the run on those that the configuration calls blocking."""

import json
from typing import Any

import tfx.v1 as tfx
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import ExampleAnomalies
from tfx.v1.dsl.components import InputArtifact, OutputArtifact, Parameter

from components.artifacts import DataBlessing, RowAnomalies
from components.row_rules import WORDS, Limits
from components.row_validator import FILE, load_limits
from schema import names
from schema.errors import GateRefused

VERDICT = "verdict.json"


def row_reasons(report: dict[str, Any], max_share: dict[str, float]) -> list[str]:
    """Why rows block the run: one sentence for each rule that more rows break than `max_share` allows."""
    reasons = []
    for table, findings in report.items():
        for rule, found in findings["rules"].items():
            share = found["count"] / findings["rows"]
            if share > max_share[rule]:
                what, do = WORDS[rule]
                reasons.append(
                    f"{table}: {found['count']} of {findings['rows']} rows ({share:.2%}, allowed "
                    f"{max_share[rule]:.2%}) break {rule}: {found['first_rows'][0]} {what}; {do} "
                    f"(or allow more with gate.max_share.{rule}). First rows: {', '.join(found['first_rows'])}."
                )
        if not findings["rows"]:
            reasons.append(f"{table}: no rows at all; give a folder that holds some.")
    return reasons


def schema_reasons(table: str, anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """Why the schema blocks the run: one sentence for each anomaly of severity ERROR."""
    return [
        f"{table}: column {name}: {info.short_description or 'anomaly'}: {info.description} "
        f"Mend the data, or change schema/{table}.pbtxt if this is how it is meant to be."
        for name, info in sorted(anomalies.anomaly_info.items())
        if info.severity == anomalies_pb2.AnomalyInfo.ERROR
    ]


def blessed_limits(blessing: DataBlessing) -> Limits:
    """The limits by which the blessed rows were judged, for steps that leave out the rows that break a rule."""
    with fileio.open(f"{blessing.uri}/{VERDICT}", "r") as file:
        return load_limits(json.loads(file.read())["limits"])


def _read_anomalies(artifact: ExampleAnomalies) -> anomalies_pb2.Anomalies:
    with fileio.open(f"{artifact.uri}/Split-{names.ALL_SPLIT}/SchemaDiff.pb", "rb") as file:
        return anomalies_pb2.Anomalies.FromString(file.read())


@tfx.dsl.components.component
def DataGate(
    row_anomalies: InputArtifact[RowAnomalies],
    behavior_anomalies: InputArtifact[ExampleAnomalies],
    catalog_anomalies: InputArtifact[ExampleAnomalies],
    blessing: OutputArtifact[DataBlessing],
    max_share: Parameter[str],
    code_version: Parameter[str],
) -> None:
    """Blesses the data, or raises GateRefused with every reason. `max_share` is JSON: rule -> share of rows."""
    with fileio.open(f"{row_anomalies.uri}/{FILE}", "r") as file:
        report = json.loads(file.read())
    reasons = [
        *row_reasons(report["tables"], json.loads(max_share)),
        *schema_reasons(names.BEHAVIORS, _read_anomalies(behavior_anomalies)),
        *schema_reasons(names.CATALOG, _read_anomalies(catalog_anomalies)),
    ]
    if reasons:
        raise GateRefused("the data gate refused the data. " + " ".join(reasons))
    with fileio.open(f"{blessing.uri}/{VERDICT}", "w") as file:
        file.write(json.dumps(report, indent=1))
