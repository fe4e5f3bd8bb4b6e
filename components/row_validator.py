"""RowValidator: looks at every row by `row_rules.py` and writes down how many broke which rule, and which ones."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import apache_beam as beam
import tfx.v1 as tfx
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import Examples
from tfx.v1.dsl.components import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter

from components.artifacts import RowAnomalies
from components.examples import ReadSplit, row_order
from components.row_rules import Limits, first_broken
from schema import names

FILE = "rows.json"
_SHOWN = 3


class FirstRows(beam.CombineFn):
    """Counts source rows and keeps the first few: source rows -> (count, at most `_SHOWN` in order)."""

    def create_accumulator(self) -> tuple[int, list[str]]:
        return 0, []

    def add_input(self, accumulator: tuple[int, list[str]], value: str) -> tuple[int, list[str]]:
        count, rows = accumulator
        return count + 1, sorted([*rows, value], key=row_order)[:_SHOWN]

    def merge_accumulators(self, accumulators: Iterable[tuple[int, list[str]]]) -> tuple[int, list[str]]:
        counts, rows = zip(*accumulators, strict=True)
        return sum(counts), sorted((row for part in rows for row in part), key=row_order)[:_SHOWN]

    def extract_output(self, accumulator: tuple[int, list[str]]) -> tuple[int, list[str]]:
        return accumulator


def validate_rows(behaviors: beam.PCollection, catalog: beam.PCollection, limits: Limits) -> beam.PCollection:
    """All findings about two tables of decoded rows.

    Returns:
      A PCollection of one dict: table -> {"rows": count, "rules": {rule -> {"count", "first_rows"}}}.
    """
    found = [
        rows | f"Rules[{table}]" >> beam.FlatMap(_findings, table, limits)
        for table, rows in ((names.BEHAVIORS, behaviors), (names.CATALOG, catalog))
    ]
    items = catalog | "ItemRows" >> beam.FlatMap(_keyed, (names.ITEM_ID,))
    doubled_items = items | "DuplicateItems" >> _Repeated(names.CATALOG, "duplicate_item")
    events = behaviors | "EventRows" >> beam.FlatMap(
        _keyed, (names.USER_ID, names.ITEM_ID, names.EVENT, names.TIMESTAMP, names.VALUE)
    )
    doubled_events = events | "DuplicateEvents" >> _Repeated(names.BEHAVIORS, "duplicate_event")
    mentions = behaviors | "Mentions" >> beam.FlatMap(_keyed, (names.ITEM_ID,))
    unknown_items = (
        {"catalog": items, "behaviors": mentions}
        | "JoinItems" >> beam.CoGroupByKey()
        | "UnknownItems" >> beam.FlatMap(_unknown_item)
    )
    return (
        [*found, doubled_items, doubled_events, unknown_items]
        | beam.Flatten()
        | "CountRules" >> beam.CombinePerKey(FirstRows())
        | "InOneList" >> beam.combiners.ToList()
        | "Report" >> beam.Map(_report)
    )


def _findings(row: dict[str, list[Any]], table: str, limits: Limits) -> Iterator[tuple[tuple[str, str], str]]:
    source = row[names.SOURCE_ROW][0].decode()
    yield (table, ""), source  # every row, so that shares can be taken
    broken = first_broken(row, table, limits)
    if broken:
        yield (table, broken), source


def _keyed(row: dict[str, list[Any]], columns: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(values of the columns, source row); rows without the first column are another rule's business."""
    if columns[0] in row:
        yield json.dumps([repr(row.get(c, [None])[0]) for c in columns]), row[names.SOURCE_ROW][0].decode()


class _Repeated(beam.PTransform):
    """Every row but the first of those that share a key, as findings."""

    def __init__(self, table: str, rule: str):
        super().__init__()
        self._finding = (table, rule)

    def expand(self, keyed: beam.PCollection) -> beam.PCollection:
        finding = self._finding

        def all_but_first(group: tuple[str, Iterable[str]]) -> list[tuple[tuple[str, str], str]]:
            return [(finding, row) for row in sorted(group[1], key=row_order)[1:]]

        return keyed | beam.GroupByKey() | beam.FlatMap(all_but_first)


def _unknown_item(element: tuple[str, dict[str, Iterable[str]]]) -> Iterator[tuple[tuple[str, str], str]]:
    _, sides = element
    if not list(sides["catalog"]):
        for row in sides["behaviors"]:
            yield (names.BEHAVIORS, "unknown_item"), row


def _report(findings: list[tuple[tuple[str, str], tuple[int, list[str]]]]) -> dict[str, Any]:
    report: dict[str, Any] = {table: {"rows": 0, "rules": {}} for table in (names.BEHAVIORS, names.CATALOG)}
    for (table, rule), (count, rows) in sorted(findings):
        if rule:
            report[table]["rules"][rule] = {"count": count, "first_rows": rows}
        else:
            report[table]["rows"] = count
    return report


@tfx.dsl.components.component(use_beam=True)
def RowValidator(
    behaviors: InputArtifact[Examples],
    catalog: InputArtifact[Examples],
    anomalies: OutputArtifact[RowAnomalies],
    events: Parameter[str],
    max_title_bytes: Parameter[int],
    future_tolerance_hours: Parameter[float],
    code_version: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes `rows.json`: the findings by table, and the limits by which they were found.

    `events` is a JSON list of the events that the configuration weighs.
    """
    limits = Limits(
        events=frozenset(json.loads(events)),
        latest_timestamp=int(time.time() + future_tolerance_hours * 3600),
        max_title_bytes=max_title_bytes,
    )
    with beam_pipeline as pipeline:
        rows = {
            table: pipeline | f"Read {table}" >> ReadSplit(examples, names.ALL_SPLIT)
            for table, examples in ((names.BEHAVIORS, behaviors), (names.CATALOG, catalog))
        }
        report = validate_rows(rows[names.BEHAVIORS], rows[names.CATALOG], limits)
        _ = report | "Write" >> beam.Map(_write, limits, f"{anomalies.uri}/{FILE}")


def _write(report: dict[str, Any], limits: Limits, path: str) -> None:
    with fileio.open(path, "w") as file:
        file.write(json.dumps({"tables": report, "limits": dump_limits(limits)}, indent=1))


def dump_limits(limits: Limits) -> dict[str, Any]:
    """`Limits` as JSON values."""
    return {**asdict(limits), "events": sorted(limits.events)}


def load_limits(values: dict[str, Any]) -> Limits:
    """The inverse of `dump_limits`."""
    return Limits(**{**values, "events": frozenset(values["events"])})
