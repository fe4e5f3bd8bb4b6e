"""DataGate: TFX only reports anomalies; this judges them by the configuration, and only blessed data goes on."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import ExampleAnomalies

from components import refused_days
from components.artifacts import DataBlessing, RowAnomalies
from components.row_validator import FILE, treatments
from components.rules import RULES, Kind
from components.span_validator import FILE as ANOMALIES_FILE
from components.spans import spans_of
from schema import names

VERDICT = "verdict.json"
BLESSED = "blessed"
ERROR, WARNING, INFO = "error", "warning", "info"
SEVERITIES = (ERROR, WARNING, INFO)
# A single day may have this many times the share of rows that the whole log may have, and three standard deviations.
_DAY_FACTOR = 3
DRIFT = frozenset(
    f"COMPARATOR_{distance}_HIGH"
    for distance in ("L_INFTY", "JENSEN_SHANNON_DIVERGENCE", "NORMALIZED_ABSOLUTE_DIFFERENCE")
)
Found = dict[str, Any]


def row_findings(report: Mapping[str, Any], rules: Mapping[str, Mapping[str, Any]]) -> Iterator[Found]:
    """What RowValidator found in a table, each rule that any row breaks once, with the severity that it comes to.

    Args:
      report: `rows.json`.
      rules: rule -> {"severity", "max_share", "rows"}. Rows up to `max_share` of the log are tolerated, which makes
        them `info`; a single day may have three times that share and three standard deviations of chance.
    """
    table, spans = report["table"], report["spans"]
    total = sum(span["rows"] for span in spans.values())
    if not sum(span["kept"] for span in spans.values()):
        what, do = "holds no usable rows at all", "give a folder that holds some"
        yield _finding(table, "no_rows", "", ERROR, 0, total, [], what, do)
    for name, rule in RULES.items():
        by_span = {span: found["rules"][name] for span, found in spans.items() if name in found["rules"]}
        if rule.kind is Kind.DAY or not by_span:
            continue
        count, bound = sum(found["count"] for found in by_span.values()), rules[name]["max_share"]
        beyond = [span for span, found in by_span.items() if _is_beyond(found["count"], spans[span]["rows"], bound)]
        detail = ""
        if count > bound * total:
            detail = f"{bound:.2%} allowed"
        elif beyond:
            share = by_span[beyond[0]]["count"] / spans[beyond[0]]["rows"]
            more = f" and {len(beyond) - 1} more days" if len(beyond) > 1 else ""
            detail = f"{share:.2%} of the rows of {beyond[0]}{more}, {bound:.2%} of the log allowed"
        first = [row for span in (beyond or by_span) for row in by_span[span]["first_rows"]][:3]
        severity = rules[name]["severity"] if detail else INFO
        yield _finding(table, name, rule.column, severity, count, total, first, rule.what, rule.do, detail, beyond)
    yield from _day_findings(report, rules)


def _is_beyond(count: int, rows: int, bound: float) -> bool:
    expected = _DAY_FACTOR * bound * rows
    return bound > 0 and _DAY_FACTOR * bound < 1 and count > expected + 3 * expected**0.5


def _day_findings(report: Mapping[str, Any], rules: Mapping[str, Mapping[str, Any]]) -> Iterator[Found]:
    by_rule = defaultdict(list)
    for found in report["days"]:
        by_rule[found["rule"]].append(found)
    total = sum(span["rows"] for span in report["spans"].values())
    for name, days in by_rule.items():
        rule = RULES[name]
        count = sum(report["spans"][day]["rows"] for day in {found["span"] for found in days})
        # A day that is put aside harms nobody.
        severity = WARNING if rules[name]["rows"] == "quarantine" else rules[name]["severity"]
        yield _finding(
            report["table"],
            name,
            rule.column,
            severity,
            count,
            total,
            [f"{found['span']}: {found['detail']}" for found in days[:3]],
            rule.what,
            rule.do,
            f"{len(days)} days" if len(days) > 1 else "",
            [found["span"] for found in days],
        )


def schema_findings(
    table: str, anomalies: Mapping[str, anomalies_pb2.Anomalies], severities: Mapping[str, str], rows: Mapping[str, int]
) -> Iterator[Found]:
    """What differs from the curated schema, each kind of anomaly of a column once.

    Args:
      anomalies: span -> what SpanValidator found.
      severities: TFDV's anomaly type, or `DRIFT` for all comparators -> severity; else TFDV's own severity.
      rows: span -> its rows.
    """
    grouped: dict[tuple[str, str], list[tuple[str, Any, Any]]] = defaultdict(list)
    for span, found in anomalies.items():
        if found.HasField("dataset_anomaly_info"):
            for reason in found.dataset_anomaly_info.reason:
                grouped["", _type(reason)].append((span, found.dataset_anomaly_info, reason))
        for column, info in found.anomaly_info.items():
            for reason in info.reason:
                grouped[column, _type(reason)].append((span, info, reason))
    total = sum(rows.values())
    for (column, kind), found in sorted(grouped.items()):
        worst = min(info.severity != anomalies_pb2.AnomalyInfo.ERROR for _, info, _ in found)
        default = severities.get("DRIFT", WARNING) if kind in DRIFT else (WARNING if worst else ERROR)
        reason = found[0][2]
        yield _finding(
            table,
            kind.lower(),
            column,
            severities.get(kind, default),
            sum(rows.get(span, 0) for span, _, _ in found),
            total,
            [f"{span}: {_shorten(reason.description)}" for span, _, reason in found[:3]],
            f"differs from schema/{table}.pbtxt: {reason.short_description or reason.description}",
            "mend the data, or change the schema (`homefeed data propose-schema`)",
            f"{len(found)} days" if len(found) > 1 else "",
            [span for span, _, _ in found],
        )


def _shorten(description: str) -> str:
    """TFDV's sentence without what the table says anyway."""
    text = " ".join(description.split()).replace(" (up to six significant digits)", "").rstrip(".")
    return text if len(text) <= 200 else text[:199] + "…"


def _type(reason: Any) -> str:
    return anomalies_pb2.AnomalyInfo.Type.Name(reason.type)


def _finding(
    table: str,
    rule: str,
    column: str,
    severity: str,
    count: int,
    rows: int,
    examples: list[str],
    what: str,
    do: str,
    detail: str = "",
    days: Sequence[str] = (),
) -> Found:
    return {
        "severity": severity,
        "table": table,
        "rule": rule,
        "column": column,
        "count": count,
        "share": count / rows if rows else 0.0,
        "examples": examples,
        "what": what,
        "do": do,
        "detail": detail,
        "days": sorted(set(days)),  # that would be told alone
    }


def explain(found: Found) -> str:
    """A finding as one sentence."""
    column = f" (column {found['column']})" if found["column"] else ""
    detail = f", {found['detail']}" if found["detail"] else ""
    examples = f" See {'; '.join(found['examples'])}." if found["examples"] else ""
    return (
        f"{found['table']}: {found['rule']}{column}, {found['count']} rows, {found['share']:.2%}{detail}: "
        f"{found['what']}; {found['do']}.{examples}"
    )


def tables_at_fault(errors: Iterable[Found]) -> set[str]:
    """The tables for which the data is refused, of the findings that are errors. Where the catalogue is among them, the
    log may be as good as any: its items may be the ones that the catalogue lacks."""
    return {found["table"] for found in errors}


def taken_out(counts: Mapping[str, int]) -> str:
    """What the rules have taken out of a table, of its entry in `rows`, in words."""
    return ", ".join(f"{rule} {count:,}" for rule, count in counts.items() if rule not in ("rows", "kept"))


def read_verdict(blessing: DataBlessing) -> dict[str, Any]:
    """`verdict.json`: `blessed`, `findings` (see `explain`), and `rows`: table -> how its rows were parted."""
    with fileio.open(f"{blessing.uri}/{VERDICT}", "r") as file:
        return json.loads(file.read())


def _read_anomalies(artifact: ExampleAnomalies) -> dict[str, anomalies_pb2.Anomalies]:
    found = {}
    for span in spans_of(artifact):
        with fileio.open(f"{artifact_utils.get_split_uri([artifact], span.name)}/{ANOMALIES_FILE}", "rb") as file:
            found[span.name] = anomalies_pb2.Anomalies.FromString(file.read())
    return found


def _read_rows(artifact: RowAnomalies) -> dict[str, Any]:
    with fileio.open(f"{artifact.uri}/{FILE}", "r") as file:
        return json.loads(file.read())


@component
def DataGate(
    behavior_rows: InputArtifact[RowAnomalies],
    behavior_anomalies: InputArtifact[ExampleAnomalies],
    catalog_rows: InputArtifact[RowAnomalies],
    catalog_anomalies: InputArtifact[ExampleAnomalies],
    blessing: OutputArtifact[DataBlessing],
    rules: Parameter[str],
    severities: Parameter[str],
    cache_folder: Parameter[str],
    code_version: Parameter[str],
    user_rows: InputArtifact[RowAnomalies] = None,
    user_anomalies: InputArtifact[ExampleAnomalies] = None,
) -> None:
    """Blesses the data, or not: `verdict.json` has the evidence, the property `blessed` the answer.

    Args:
      rules: JSON, rule -> {"severity", "max_share", "rows"}.
      severities: JSON, see `schema_findings`.
      cache_folder: gets the days that are refused, see `refused_days`; empty where whoever runs the DAG keeps them.
    """
    findings: list[Found] = []
    parted = {}
    tables = (
        (names.BEHAVIORS, behavior_rows, behavior_anomalies),
        (names.CATALOG, catalog_rows, catalog_anomalies),
        (names.USERS, user_rows, user_anomalies),
    )
    for table, rows, anomalies in tables:
        if rows is None:
            continue
        report = _read_rows(rows)
        counts = {span: found["rows"] for span, found in report["spans"].items()}
        findings += row_findings(report, json.loads(rules))
        findings += schema_findings(table, _read_anomalies(anomalies), json.loads(severities), counts)
        parted[table] = treatments(report)
    findings.sort(key=lambda found: SEVERITIES.index(found["severity"]))
    errors = [found for found in findings if found["severity"] == ERROR]
    blessed = not errors
    if cache_folder and tables_at_fault(errors) <= {names.BEHAVIORS}:
        at_fault = {day for found in errors for day in found["days"]}
        refused_days.note(cache_folder, spans_of(behavior_anomalies), blessed, at_fault)
    blessing.set_int_custom_property(BLESSED, int(blessed))
    with fileio.open(f"{blessing.uri}/{VERDICT}", "w") as file:
        file.write(json.dumps({"blessed": blessed, "findings": findings, "rows": parted}, indent=1))
