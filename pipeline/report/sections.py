"""The report's sections, each of one run, or of two side by side."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from components.data_gate import INFO, taken_out
from components.evaluation_results import ALL
from pipeline.outcome import shown_metrics
from pipeline.report import charts
from pipeline.report.facts import RunFacts
from pipeline.report.lineage_graph import lineage_graph
from schema import names

Runs = Sequence[RunFacts]
_MOST_LINES = 7
_VERDICTS = {True: "yes", False: "no", None: "did not run"}


@dataclass
class Grid:
    """A table: header, rows of cells, and for each row a class of the page's style; with `summary` it is folded."""

    header: Sequence[str]
    rows: list[Sequence[str]]
    classes: list[str] = field(default_factory=list)
    summary: str = ""

    def marked(self) -> Iterator[tuple[str, Sequence[str]]]:
        """(class, cells) of each row."""
        yield from zip(self.classes or [""] * len(self.rows), self.rows, strict=True)


@dataclass
class Section:
    """A part of the page: an anchor, a title, and below each other sentences, tables and plots."""

    anchor: str
    title: str
    parts: list[str | Grid | Markup]


def sections(runs: Runs) -> list[Section]:
    """All of them that have something to say."""
    made = [make(runs) for make in _SECTIONS]
    return [section for section in made if section.parts]


def _verdicts(runs: Runs) -> Section:
    rows: list[Sequence[str]] = []
    classes = []
    reasons: list[str | Grid | Markup] = []
    for run in runs:
        for verdict in run.judgement.verdicts:
            missed = sum(not finding.passed for finding in verdict.findings)
            checks = f"{len(verdict.findings)}, {missed} missed" if verdict.findings else ""
            rows.append((*_of(runs, run), verdict.gate, _VERDICTS[verdict.passed], checks))
            classes.append("good" if verdict.passed else "bad")
        reasons += [_told(runs, run, reason) for reason in run.judgement.reasons]
    parts: list[str | Grid | Markup] = [Grid((*_head(runs), "gate", "passes", "checks"), rows, classes), *reasons]
    for run in runs:
        found = [(v.gate, f) for v in run.judgement.verdicts for f in v.findings]
        evidence: list[Sequence[str]] = [
            (gate, f.check, f.found, f.asked, "" if f.passed else "missed") for gate, f in found
        ]
        marks = ["" if f.passed else "bad" for _, f in found]
        title = _told(runs, run, "every check, what was found and what is asked for")
        parts.append(Grid(("gate", "check", "found", "asked for", ""), evidence, marks, title))
    return Section("verdicts", "Thresholds and verdicts", parts)


def _data(runs: Runs) -> Section:
    rows: list[Sequence[str]] = []
    for run in runs:
        for table, counts in run.verdict.get("rows", {}).items():
            days = run.spans.get(table, [])
            when = "" if not days else days[0] if len(days) == 1 else f"{days[0]} … {days[-1]}"
            cells = (table, str(len(days)), when, f"{counts['rows']:,}", f"{counts['kept']:,}", taken_out(counts))
            rows.append((*_of(runs, run), *cells))
    parts: list[str | Grid | Markup] = []
    if rows:
        parts.append(Grid((*_head(runs), "table", "spans", "days", "rows", "kept", "taken out by"), rows))
    for run in runs:
        if len(run.days) > 1:
            parts.append(charts.stacked_days(_told(runs, run, "events by day"), run.days))
        columns: list[Sequence[str]] = [
            (
                table,
                name,
                f"{column.rows:,.0f}",
                f"{column.missing / column.rows:.1%}" if column.rows else "",
                "" if column.most_values is None else f"{column.most_values:,}",
                column.told,
            )
            for table, found in run.columns.items()
            for name, column in found.items()
        ]
        if columns:
            head = ("table", "column", "rows", "missing", "distinct, at most in a day", "values")
            parts.append(Grid(head, columns, summary=_told(runs, run, "every column")))
    return Section("data", "Data", parts)


def _anomalies(runs: Runs) -> Section:
    parts: list[str | Grid | Markup] = []
    for run in runs:
        if not run.verdict:
            continue
        told = [found for found in run.verdict["findings"] if found["severity"] != INFO]
        within = [found for found in run.verdict["findings"] if found["severity"] == INFO]
        if told:
            parts += [_told(runs, run, "what the data gate has found:"), _findings(told)]
        else:
            parts.append(_told(runs, run, "the data gate has found nothing beyond its bounds."))
        if within:
            parts.append(_findings(within, _told(runs, run, f"within the bounds ({len(within)})")))
    return Section("anomalies", "Anomalies", parts)


def _findings(findings: list[dict[str, Any]], summary: str = "") -> Grid:
    rows: list[Sequence[str]] = [
        (
            found["severity"],
            f"{found['table']} {found['column']}".strip(),
            found["rule"],
            f"{found['share']:.2%}, {found['count']:,} rows",
            "; ".join(found["examples"]),
            f"{found['what']}; {found['do']}" + (f" ({found['detail']})" if found["detail"] else ""),
        )
        for found in findings
    ]
    marks = [{"error": "bad", "warning": "warn"}.get(found["severity"], "") for found in findings]
    head = ("severity", "where", "rule", "share", "examples", "what to do")
    return Grid(head, rows, marks, summary)


def _drift(runs: Runs) -> Section:
    parts: list[str | Grid | Markup] = []
    for run in runs:
        found = {name: drift for name, drift in run.drift.items() if drift.days}
        if found:
            worst = sorted(found, key=lambda name: -max(found[name].days.values()))[:_MOST_LINES]
            lines = {name: found[name].days for name in worst}
            bounds = {name: found[name].threshold for name in worst}
            parts.append(charts.day_lines(_told(runs, run, "drift from day to day"), lines, bounds))
            parts.append("Dashed: the threshold of schema/*.pbtxt. Days of few rows are not compared.")
        elif run.spans:
            least = run.settings.get("gate", {}).get("min_drift_rows", "")
            words = f"no two days in a row have enough rows (gate.min_drift_rows {least}) to be compared."
            parts.append(_told(runs, run, words))
    return Section("drift", "Drift over spans", parts)


_CURVES = (("loss", "Loss"), ("validation_ndcg_at_20", "NDCG@20 of the validation window"))
_TRAININGS = {"windows": "for the validation windows", "cut": "as of the cut", "now": "as of now"}


def _training(runs: Runs) -> Section:
    parts: list[str | Grid | Markup] = []
    for tag, words in _CURVES:
        lines = {
            " ".join((*_of(runs, run), _TRAININGS.get(training, training))): scalars[tag]
            for run in runs
            for training, scalars in run.curves.items()
            if tag in scalars
        }
        if lines:
            parts.append(charts.curves(words, "epoch", lines, {}))
    return Section("training", "Training", parts)


def _evaluation(runs: Runs) -> Section:
    told = [run for run in runs if run.evaluation.metrics]
    if not told:
        return Section("evaluation", "", [])
    k = max(told[0].settings.get("evaluation", {}).get("ks", [20]))
    recall = names.AT_K.format(metric="recall", k=k)
    everywhere = told[0].evaluation.metrics[ALL]
    rows: list[Sequence[str]] = []
    for metric in shown_metrics(everywhere):
        cells = [_value(run, ALL, metric) for run in told]
        change = _change(told, metric)
        rows.append((metric, *(cell for pair in cells for cell in pair), *change))
    head = [" ".join((*_of(runs, run), word)).strip() for run in told for word in ("", "interval")]
    changed = ("change",) if len(told) == 2 else ("against the last pushed",) if told[0].evaluation.has_baseline else ()
    slices = sorted(
        {where for run in told for where in run.evaluation.metrics}, key=lambda where: (where != ALL, where)
    )
    sides = {
        run.label: {
            where: _interval(values, recall) for where, values in run.evaluation.metrics.items() if recall in values
        }
        for run in told
    }
    by_slice: list[Sequence[str]] = []
    shown = [recall, names.AT_K.format(metric="ndcg", k=k)]
    for where in slices:
        for run in told:
            values = run.evaluation.metrics.get(where, {})
            figures = [cell for metric in shown for cell in _value(run, where, metric)]
            by_slice.append((*_of(runs, run), where, f"{values.get('example_count', 0):,.0f}", *figures))
    parts: list[str | Grid | Markup] = [
        "Full catalogue, held-out users, what a user already had left out; the intervals are a bootstrap's over users.",
        Grid(("all users", *(name or "value" for name in head), *changed), rows),
        charts.intervals(f"{recall} by slice", slices, sides),
        Grid(
            (*_head(runs), "slice", "users", shown[0], "interval", shown[1], "interval"), by_slice, summary="By slice"
        ),
    ]
    return Section("evaluation", "Evaluation", parts)


def _interval(values: dict[str, float], metric: str) -> tuple[float, float, float]:
    ends = [values.get(end.format(metric=metric), float("nan")) for end in (names.LOWER, names.UPPER)]
    return values[metric], ends[0], ends[1]


def _value(run: RunFacts, where: str, metric: str) -> tuple[str, str]:
    values = run.evaluation.metrics.get(where, {})
    if metric not in values:
        return "", ""
    value, lower, upper = _interval(values, metric)
    figure = f"{value:,.0f}" if metric == "example_count" else f"{value:.4f}"
    return figure, f"{lower:.4f} … {upper:.4f}" if math.isfinite(lower) and math.isfinite(upper) else ""


def _change(told: Runs, metric: str) -> tuple[str, ...]:
    if len(told) == 2:
        before, after = (run.evaluation.metrics[ALL].get(metric) for run in told)
        return (f"{after / before - 1:+.1%}" if before and after is not None else "",)
    if not told[0].evaluation.has_baseline:
        return ()
    change = told[0].evaluation.metrics[ALL].get(names.CHANGE.format(metric=metric))
    return ("" if change is None else f"{change:+.1%}",)


def _index(runs: Runs) -> Section:
    indexed = [run for run in runs if len(run.index) > 1]
    parts: list[str | Grid | Markup] = []
    if indexed:
        lines = {run.label: [(p["milliseconds"], p["recall"]) for p in run.index] for run in indexed}
        words = {
            run.label: [f"{p['probes']:.0f} blocks" if p["probes"] else "all" for p in run.index] for run in indexed
        }
        title = "Recall of the 20 nearest items and latency, by blocks that are looked at"
        parts.append(charts.curves(title, "milliseconds a query", lines, words))
    for run in runs:
        if len(run.index) == 1:
            below = run.settings.get("retrieval", {}).get("exact_below", "")
            exact = f"every item is compared (retrieval.exact_below {below}), in {run.index[0]['milliseconds']:.2f} ms."
            parts.append(_told(runs, run, exact))
    return Section("index", "Retrieval index", parts)


def _lineage(runs: Runs) -> Section:
    parts: list[str | Grid | Markup] = []
    for run in (run for run in runs if run.steps):
        states = {step.name: step.state for step in run.steps}
        links = list(run.links)
        for table, days in run.spans.items():
            head = f"{len(days)} days of {table}" if len(days) > 1 else table
            states[head] = "data"
            links.append((head, f"{table.capitalize()}ExampleGen", "rows"))
        if run.version:
            states[f"version {run.version}"] = "pushed"
            links.append(("Pusher", f"version {run.version}", "SavedModel"))
        parts.append(lineage_graph(states, links, " ".join((*_of(runs, run), "lineage"))))
    return Section("lineage", "Lineage", parts)


def _steps(runs: Runs) -> Section:
    steps = list(dict.fromkeys(step.name for run in runs for step in run.steps))
    if not steps:
        return Section("steps", "", [])
    seconds, memory = (
        {run.label: [_figure_of(run, step, what) for step in steps] for run in runs} for what in ("seconds", "peak_mb")
    )
    parts: list[str | Grid | Markup] = [charts.bars("Seconds of each step", "seconds", steps, seconds)]
    if any(map(any, memory.values())):
        parts.append(charts.bars("Peak memory of each step", "MB", steps, memory))
    rows: list[Sequence[str]] = []
    for run in runs:
        for step in run.steps:
            took = "" if step.state == "cached" else f"{step.seconds:.1f}"
            held = "" if step.peak_mb is None else f"{step.peak_mb:,.0f}"
            rows.append((*_of(runs, run), step.name, step.state, took, held))
    parts.append(Grid((*_head(runs), "step", "", "seconds", "peak MB"), rows, summary="As a table"))
    return Section("steps", "Steps", parts)


def _figure_of(run: RunFacts, name: str, what: str) -> float:
    found = [getattr(step, what) or 0.0 for step in run.steps if step.name == name and step.state != "cached"]
    return sum(found)


def _configuration(runs: Runs) -> Section:
    flat = [dict(_flat(run.settings)) for run in runs]
    keys = sorted({key for settings in flat for key in settings})
    if not keys:
        return Section("configuration", "", [])
    rows = [(key, *(str(settings.get(key, "")) for settings in flat)) for key in keys]
    head = ("key", *(run.label for run in runs))
    parts: list[str | Grid | Markup] = []
    if len(runs) == 2:
        other: list[Sequence[str]] = [row for row in rows if row[1] != row[2]]
        parts.append(Grid(head, other) if other else "Both have the same.")
    parts.append(Grid(head, list(rows), summary="Every key"))
    return Section("configuration", "Configuration", parts)


def _flat(settings: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    if not isinstance(settings, dict):
        yield prefix, settings
        return
    for key, value in settings.items():
        yield from _flat(value, f"{prefix}.{key}" if prefix else key)


def _head(runs: Runs) -> tuple[str, ...]:
    """A column that says which run, where there are two."""
    return ("run",) if len(runs) > 1 else ()


def _of(runs: Runs, run: RunFacts) -> tuple[str, ...]:
    return (run.label,) if len(runs) > 1 else ()


def _told(runs: Runs, run: RunFacts, words: str) -> str:
    """A sentence, of which run where there are two."""
    return f"{run.label}: {words}" if len(runs) > 1 else words[:1].upper() + words[1:]


_SECTIONS: tuple[Callable[[Runs], Section], ...] = (
    _verdicts,
    _evaluation,
    _data,
    _anomalies,
    _drift,
    _training,
    _index,
    _steps,
    _lineage,
    _configuration,
)
