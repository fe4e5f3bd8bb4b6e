"""TableExampleGen: CSV or Parquet rows to tf.Examples, a split for each span; only new spans are read."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsDict
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples

from components.columnar import load_columns
from components.examples import write_examples
from components.input_folders import inspect_table, window_of
from components.privacy import Privacy, hash_user_ids, suppress, values_of_users
from components.refused_days import left_out
from components.spans import Span, SpanStore, check_unchanged, load_spans, publish, span_files
from components.table_reader import read_batches
from schema import names
from schema.errors import InputError
from schema.privacy import user_id_key

progress = logging.getLogger("homefeed.progress")

_File = tuple[str, str, int]  # span, path, number in the span
_SUFFIX = "-of-files.gz"


class _WriteFile(beam.DoFn):
    """Reads one input file and writes it as one TFRecord file of its span. Yields (span, rows).

    Args:
      columns: column -> type, those that privacy keeps.
      folders: span -> folder.
    """

    def __init__(self, base: str, columns: Mapping[str, type], privacy: Privacy, folders: Mapping[str, str]):
        self._base, self._columns, self._privacy, self._folders = base, columns, privacy, folders
        self._key = b""

    def setup(self) -> None:
        if self._privacy.hash_user_ids:
            self._key = user_id_key()

    def process(self, element: _File, kept: Mapping[str, Mapping[str, frozenset[bytes]]]) -> Iterator[tuple[str, int]]:
        span, path, number = element
        batches = self._batches(path, kept.get(span, {}))
        yield span, write_examples(f"{self._folders[span]}/data_tfrecord-{number:05d}{_SUFFIX}", batches)

    def _batches(self, path: str, kept: Mapping[str, frozenset[bytes]]) -> Iterator[pa.RecordBatch]:
        for batch in read_batches(path, self._base, self._columns):
            # First: a value is counted by its users, whoever they are.
            batch = suppress(batch, kept)
            yield hash_user_ids(batch, self._key) if self._key and names.USER_ID in self._columns else batch


def _pairs(element: _File, base: str, columns: Mapping[str, type], suppressed: Iterable[str]) -> Iterator[tuple]:
    span, path, _ = element
    for column in suppressed:
        for value, user in values_of_users(read_batches(path, base, columns), column):
            yield (span, column, value), user


class _KeptValues(beam.PTransform):
    """Files to (span, {column: values that at least k users of the span have})."""

    def __init__(self, base: str, columns: Mapping[str, type], thresholds: Mapping[str, int]):
        super().__init__()
        self._base, self._columns, self._thresholds = base, columns, thresholds

    def expand(self, files: beam.PCollection) -> beam.PCollection:
        base, columns, thresholds = self._base, self._columns, self._thresholds
        return (
            files
            | beam.FlatMap(_pairs, base, columns, sorted(thresholds))
            | beam.Distinct()
            | beam.Keys()
            | beam.combiners.Count.PerElement()
            | beam.Filter(lambda counted: counted[1] >= thresholds[counted[0][1]])
            | beam.MapTuple(lambda key, _: (key[0], key[1:]))
            | beam.GroupByKey()
            | beam.MapTuple(lambda span, values: (span, _by_column(values, thresholds)))
        )


def _by_column(values: Iterable[tuple[str, bytes]], columns: Iterable[str]) -> dict[str, frozenset[bytes]]:
    pairs = list(values)
    return {column: frozenset(value for c, value in pairs if c == column) for column in columns}


def _without_refused(window: list[Span], cache_folder: str) -> list[Span]:
    refused = left_out(cache_folder)
    kept = [span for span in window if span not in refused]
    if len(kept) < len(window):
        days = ", ".join(span.name for span in window if span in refused)
        progress.info("left out, since DataGate has refused them with these files: %s", days)
    if not kept:
        raise InputError(f"{cache_folder}: every day was refused before; mend the log.")
    return kept


@component(use_beam=True)
def TableExampleGen(
    examples: OutputArtifact[Examples],
    table: Parameter[str],
    base: Parameter[str],
    suffix: Parameter[str],
    spans: Parameter[str],
    days: Parameter[int],
    columns: Parameter[str],
    privacy: Parameter[str],
    key_check: Parameter[str],
    cache_folder: Parameter[str],
    code_version: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes one split for each span.

    Args:
      examples: gets the rows, in the form of `table_reader.read_batches`.
      table: one of `names.TABLES`.
      base, suffix: where the files are, see `spans.span_files`; `suffix` is read with `spans`.
      spans: `dump_spans` of the window; empty where whoever built the DAG could not look at the folder: it is looked at
        here, and days that DataGate has refused are left out.
      days: the last so many calendar days of the folder are the window then; 0 for all.
      columns: JSON, column -> one of `names.COLUMN_TYPES`.
      privacy: JSON of `Privacy`.
      key_check: tells which key hashes the user ids; the key itself is read from the environment.
      cache_folder: where spans that were read before are kept.
    """
    rules = Privacy(**json.loads(privacy))
    kinds = rules.columns(load_columns(columns))
    thresholds = {column: k for column, k in rules.suppress.items() if column in kinds}
    if spans:
        window = load_spans(spans)
    else:
        found = inspect_table(base, table)
        suffix, window = found.suffix, window_of(found, days or None, f"{cache_folder}/fingerprints-{table}.json")
        window = _without_refused(window, cache_folder) if table == names.BEHAVIORS else window
    store = SpanStore(
        f"{cache_folder}/examples/{table}",
        {"columns": columns, "privacy": privacy, "key": key_check, "code": code_version},
    )
    new = store.missing(window)
    files: list[_File] = [
        (span.name, path, number) for span in new for number, path in enumerate(span_files(base, span.name, suffix))
    ]
    folders = {span.name: store.path(span) for span in new}
    if files:
        with beam_pipeline as pipeline:
            inputs = pipeline | beam.Create(files) | beam.Reshuffle()
            kept = inputs | _KeptValues(base, kinds, thresholds) if thresholds else pipeline | "None" >> beam.Create([])
            _ = inputs | beam.ParDo(_WriteFile(base, kinds, rules, folders), AsDict(kept))
    for span in new:
        check_unchanged(base, span, suffix)
        store.commit(span)
    publish(examples, store, window, "*.gz")
    latest = max(window, key=lambda span: span.number)
    examples.span, examples.version = latest.number, store.version(latest)
