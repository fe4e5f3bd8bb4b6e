"""RowValidator: judges every row of a table by `rules/`, span by span, and parts those to use from those to leave out.

Each row ends in exactly one place: among the rows that are kept, dropped by a rule that is named, or quarantined, which
is written aside with its reason. `rows.json` has the counts and the first rows of each.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import Examples

from components.artifacts import RowAnomalies
from components.columnar import (
    buckets_of,
    concat,
    from_ipc,
    load_columns,
    partition,
    scalars,
    select,
    to_ipc,
    with_column,
)
from components.examples import count_buckets, read_examples, split_files, write_examples
from components.rules import Kind, Limits, Rows, rules_of
from components.rules.days import merge_profiles, profile_of
from components.rules.joins import unknown_item
from components.rules.rows import broken_row
from components.spans import Span, SpanStore, files_of, origin_of, publish, spans_of
from schema import names

FILE = "rows.json"
_SHOWN = 3
_Part = tuple[int, int, bytes]  # file, batch in the file, rows


def judge(rows: Rows, limits: Limits, treatment: Mapping[str, str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Which rule takes each row out, and which rows break each rule.

    A row may break several rules, and the first that is not to keep it takes it out; of a row that is no CSV of its
    header, nothing else can be said.

    Args:
      treatment: rule -> `keep`, `drop` or `quarantine`.

    Returns:
      ([rows] object: name of the rule that took the row out, or None; rule -> [rows] bool)
    """
    taken = np.full(len(rows), None, object)
    readable = ~broken_row(rows, limits)
    broken = {}
    for rule in rules_of(rows.table, Kind.ROW, Kind.GROUP):
        breaks = rule.breaks(rows, limits) & (readable | (rule.name == broken_row.__name__))
        if breaks.any():
            broken[rule.name] = breaks
            if treatment[rule.name] != "keep":
                taken[breaks & (taken == None)] = rule.name  # noqa: E711  (elementwise)
    return taken, broken


class _Read(beam.DoFn):
    """(span, buckets, file number, path) to ((span, bucket), part)."""

    def __init__(self, table: str, columns: Mapping[str, type]):
        self._key, self._columns = names.KEY_COLUMN[table], columns

    def process(self, element: tuple[str, int, int, str]) -> Iterator[tuple[tuple[str, int], _Part]]:
        span, buckets, number, path = element
        for i, batch in enumerate(read_examples([path], self._columns)):
            rows = scalars(batch)
            # Rows without a key are spread: nothing groups them.
            key = pc.coalesce(rows[self._key], rows[names.SOURCE_ROW])
            for bucket, part in partition(batch, buckets_of(key, buckets)):
                yield (span, bucket), (number, i, to_ipc(part))


class _Judge(beam.DoFn):
    """((span, bucket), parts) to files in the span's folder: kept and quarantined rows, their items, and a report."""

    def __init__(self, table: str, limits: Limits, treatment: Mapping[str, str], folders: Mapping[str, str]):
        self._table, self._limits, self._treatment, self._folders = table, limits, treatment, folders

    def process(self, element: tuple[tuple[str, int], Iterable[_Part]]) -> None:
        (span, bucket), parts = element
        batch = concat(from_ipc(data) for _, _, data in sorted(parts, key=lambda part: part[:2]))
        rows = Rows(batch, self._table, span)
        taken, broken = judge(rows, self._limits, self._treatment)
        folder, name = self._folders[span], f"{bucket:05d}"
        kept = taken == None  # noqa: E711  (elementwise)
        aside = np.array([rule is not None and self._treatment[rule] == "quarantine" for rule in taken], bool)
        if kept.any():
            # What is left for later steps is the table's own columns.
            clean = batch.filter(pa.array(kept))
            unwanted = (names.BROKEN_ROW, names.UNREADABLE)
            clean = select(clean, [name for name in clean.schema.names if name not in unwanted])
            write_examples(f"{folder}/data_tfrecord-{name}.gz", [clean])
            if self._table == names.BEHAVIORS:
                _write_items(f"{folder}/items-{name}.arrow", rows, kept)
        if aside.any():
            write_examples(
                f"{folder}/quarantined-{name}.gz", [_with_reasons(batch.filter(pa.array(aside)), taken[aside])]
            )
        report = {
            "rows": len(rows),
            "kept": int(kept.sum()),
            "rules": {
                rule: {"count": int(mask.sum()), "first_rows": _sources(rows, mask)} for rule, mask in broken.items()
            },
            "taken": dict(Counter(rule for rule in taken if rule)),
            "profile": profile_of(rows, span, kept),
        }
        with fileio.open(f"{folder}/report-{name}.json", "w") as file:
            file.write(json.dumps(report))


def _sources(rows: Rows, mask: np.ndarray) -> list[str]:
    first = np.flatnonzero(mask)[:_SHOWN]
    return [source.decode() for source in rows[names.SOURCE_ROW].take(pa.array(first)).to_pylist()]


def _write_items(path: str, rows: Rows, kept: np.ndarray) -> None:
    """How many kept rows are about each item, and the first of them: for the join with the catalogue."""
    counted = pa.array(kept & rows.has(names.ITEM_ID))
    items, sources = rows[names.ITEM_ID].filter(counted), rows[names.SOURCE_ROW].filter(counted)
    codes = items.dictionary_encode()
    found, first, counts = np.unique(np.asarray(codes.indices), return_index=True, return_counts=True)
    columns = {
        "item": codes.dictionary.take(pa.array(found, pa.int64())),
        "row": sources.take(pa.array(first, pa.int64())),
    }
    table = pa.RecordBatch.from_pydict({**columns, "count": pa.array(counts)})
    with fileio.open(path, "wb") as file:
        file.write(to_ipc(table))


def judge_spans(
    pipeline: beam.Pipeline,
    files: list[tuple[str, int, int, str]],
    table: str,
    columns: Mapping[str, type],
    limits: Limits,
    treatment: Mapping[str, str],
    folders: Mapping[str, str],
) -> None:
    """Judges all rows of some spans. Rows are shuffled by user (in the catalogue: item), never held all at once."""
    _ = (
        pipeline
        | beam.Create(files)
        | beam.Reshuffle()
        | beam.ParDo(_Read(table, columns))
        | beam.GroupByKey()
        | beam.ParDo(_Judge(table, limits, treatment, folders))
    )


def span_report(folder: str) -> dict[str, Any]:
    """The report of a span from those of its buckets."""
    parts = []
    for path in sorted(fileio.glob(f"{folder}/report-*.json")):
        with fileio.open(path, "r") as file:
            parts.append(json.loads(file.read()))
    report: dict[str, Any] = {"rows": 0, "kept": 0, "rules": {}, "taken": {}}
    for part in parts:
        report["rows"] += part["rows"]
        report["kept"] += part["kept"]
        report["taken"] = dict(Counter(report["taken"]) + Counter(part["taken"]))
        for rule, found in part["rules"].items():
            _add(report["rules"], rule, found["count"], found["first_rows"])
    report["profile"] = merge_profiles([part["profile"] for part in parts]) if parts else None
    return report


def _add(rules: dict[str, Any], rule: str, count: int, first_rows: list[str]) -> None:
    found = rules.setdefault(rule, {"count": 0, "first_rows": []})
    found["count"] += count
    found["first_rows"] = sorted([*found["first_rows"], *first_rows], key=row_order)[:_SHOWN]


def row_order(source: str) -> tuple[str, int]:
    """Sort key of `names.SOURCE_ROW` values: by file, then by row."""
    file, _, number = source.rpartition(":")
    return file, int(number)


def drop_unknown_items(report: dict[str, Any], folder: str, catalog: pa.Array) -> None:
    """Counts a span's kept rows that are about no item of the catalogue, as taken out by `unknown_item`.

    InteractionGen's join leaves them out; they stay in the split, since a later catalogue may have their items.
    """
    rule = unknown_item.__name__
    for path in fileio.glob(f"{folder}/items-*.arrow"):
        with fileio.open(path, "rb") as file:
            lost = unknown_item(pa.Table.from_batches([from_ipc(file.read())]), catalog)
        if lost.num_rows:
            count = pc.sum(lost["count"]).as_py()
            rows = sorted((row.decode() for row in lost["row"].to_pylist()), key=row_order)
            _add(report["rules"], rule, count, rows[:_SHOWN])
            report["taken"][rule] = report["taken"].get(rule, 0) + count
            report["kept"] -= count


def find_days(reports: Mapping[str, dict[str, Any]], table: str, limits: Limits) -> list[dict[str, str]]:
    """What the rules about days find: rule, span, detail."""
    profiles = [report["profile"] for report in reports.values() if report["profile"]]
    return [
        {"rule": rule.name, "span": finding.span, "detail": finding.detail}
        for rule in rules_of(table, Kind.DAY)
        for finding in rule.breaks(profiles, limits)
    ]


@component(use_beam=True)
def RowValidator(
    examples: InputArtifact[Examples],
    anomalies: OutputArtifact[RowAnomalies],
    rows: OutputArtifact[Examples],
    quarantine: OutputArtifact[Examples],
    table: Parameter[str],
    columns: Parameter[str],
    limits: Parameter[str],
    future_tolerance_hours: Parameter[float],
    treatment: Parameter[str],
    cache_folder: Parameter[str],
    code_version: Parameter[str],
    catalog: InputArtifact[Examples] = None,
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Parts a table's rows.

    Args:
      examples: TableExampleGen's.
      anomalies: gets `rows.json`: counts and first rows by span and rule, and what days broke.
      rows: gets the rows to use, a split for each span.
      quarantine: gets the rows that were put aside, with `names.REASON`, a split for each span.
      table: one of `names.TABLES`.
      columns: JSON, column -> one of `names.COLUMN_TYPES`.
      limits: JSON of `Limits`, without the time of the run.
      future_tolerance_hours: how far ahead of ours clocks may be.
      treatment: JSON, rule -> `keep`, `drop` or `quarantine`.
      cache_folder: where spans that were judged before are kept.
      catalog: usable rows of the catalogue, which the items of behaviors have to be in.
    """
    actions = json.loads(treatment)
    bounds = Limits(**json.loads(limits), latest_timestamp=int(time.time() + future_tolerance_hours * 3600))
    kinds = load_columns(columns)
    spans = spans_of(examples)
    store = SpanStore(
        f"{cache_folder}/rows/{table}",
        {"columns": columns, "limits": limits, "treatment": treatment, "code": code_version, "of": origin_of(examples)},
    )
    new = store.missing(spans)
    files = []
    for span in new:
        paths = split_files(examples, span.name)
        buckets = count_buckets(paths)
        files += [(span.name, buckets, number, path) for number, path in enumerate(paths)]
    if files:
        folders = {span.name: store.path(span) for span in new}
        with beam_pipeline as pipeline:
            judge_spans(pipeline, files, table, {**kinds, **names.ROW_COLUMNS}, bounds, actions, folders)
    for span in new:
        store.commit(span)
    reports = {span.name: span_report(store.path(span)) for span in spans}
    days = find_days(reports, table, bounds)
    left_out = _quarantine_days(reports, days, actions)
    if catalog is not None:
        known = _item_ids(catalog)
        for span in spans:
            if span.name not in left_out:
                drop_unknown_items(reports[span.name], store.path(span), known)
    publish(rows, store, [span for span in spans if span.name not in left_out], "data_tfrecord-*")
    publish(quarantine, store, spans, "quarantined-*")
    for span in spans:
        if span.name in left_out:
            _publish_day(quarantine, store, span, left_out[span.name], {**kinds, names.SOURCE_ROW: bytes})
    report = {"table": table, "spans": reports, "days": days, "limits": asdict(bounds)}
    with fileio.open(f"{anomalies.uri}/{FILE}", "w") as file:
        file.write(json.dumps(report, indent=1))


def _item_ids(catalog: Examples) -> pa.Array:
    batches = read_examples(files_of(catalog), {names.ITEM_ID: bytes})
    return pa.chunked_array([scalars(batch)[names.ITEM_ID] for batch in batches], pa.binary()).unique()


def _quarantine_days(
    reports: dict[str, dict[str, Any]], days: list[dict[str, str]], treatment: Mapping[str, str]
) -> dict[str, str]:
    """Span -> rule, of the days that are put aside whole; their kept rows are accounted for so."""
    left_out: dict[str, str] = {}
    for found in days:
        if treatment[found["rule"]] == "quarantine" and found["span"] not in left_out:
            left_out[found["span"]] = found["rule"]
            report = reports[found["span"]]
            report["taken"][found["rule"]] = report["kept"]
            report["kept"] = 0
    return left_out


def _publish_day(quarantine: Examples, store: SpanStore, span: Span, rule: str, columns: Mapping[str, type]) -> None:
    """Puts a day's otherwise usable rows aside, with the rule as their reason."""
    files = sorted(fileio.glob(f"{store.path(span)}/data_tfrecord-*"))
    for number, path in enumerate(files):
        batches = read_examples([path], columns)
        target = f"{quarantine.uri}/Split-{span.name}/quarantined-day-{number:05d}.gz"
        write_examples(target, (_with_reasons(batch, [rule] * batch.num_rows) for batch in batches))


def _with_reasons(batch: pa.RecordBatch, rules: Iterable[str]) -> pa.RecordBatch:
    return with_column(batch, names.REASON, pa.array([rule.encode() for rule in rules], pa.binary()))


def treatments(report: Mapping[str, Any]) -> dict[str, int]:
    """How a table's rows were parted: `rows`, `kept`, and for each rule that took rows out its count."""
    parted: Counter[str] = Counter()
    for span in report["spans"].values():
        parted["rows"] += span["rows"]
        parted["kept"] += span["kept"]
        parted.update(span["taken"])
    return dict(parted)
