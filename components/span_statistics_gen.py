"""SpanStatisticsGen: TFDV's statistics of each span, a split for each; only new spans are counted.

TFX's StatisticsGen would read the whole window again for one more day.
"""

from collections.abc import Mapping

import apache_beam as beam
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import Examples, ExampleStatistics

from components.columnar import concat, load_columns
from components.examples import read_examples, split_files, total_bytes
from components.spans import SpanStore, origin_of, publish, spans_of

FILE = "FeatureStats.pb"
_IN_MEMORY_BYTES = 32 << 20  # compressed


def _options(columns: Mapping[str, type]) -> tfdv.StatsOptions:
    return tfdv.StatsOptions(feature_allowlist=list(columns))


def statistics_in_memory(paths: list[str], columns: Mapping[str, type]) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Statistics of a small span, in one go: a Beam pipeline for each of a year's days takes minutes."""
    batch = concat(read_examples(paths, columns))
    return stats_impl.generate_statistics_in_memory(batch, _options(columns))


def _write(statistics: statistics_pb2.DatasetFeatureStatisticsList, folder: str) -> None:
    with fileio.open(f"{folder}/{FILE}", "wb") as file:
        file.write(statistics.SerializeToString(deterministic=True))


@component(use_beam=True)
def SpanStatisticsGen(
    examples: InputArtifact[Examples],
    statistics: OutputArtifact[ExampleStatistics],
    table: Parameter[str],
    columns: Parameter[str],
    cache_folder: Parameter[str],
    code_version: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes `Split-SPAN/FeatureStats.pb`, as TFX's StatisticsGen names it.

    Args:
      examples: TableExampleGen's.
      statistics: of the table's own columns; where a row came from is no column.
      table: one of `names.TABLES`.
      columns: JSON, column -> one of `names.COLUMN_TYPES`.
      cache_folder: where spans that were counted before are kept.
    """
    kinds = load_columns(columns)
    spans = spans_of(examples)
    store = SpanStore(
        f"{cache_folder}/statistics/{table}", {"columns": columns, "code": code_version, "of": origin_of(examples)}
    )
    new = store.missing(spans)
    if new:
        small: list[tuple[list[str], str]] = []
        large: list[tuple[list[str], str]] = []
        for span in new:
            paths = split_files(examples, span.name)
            (small if total_bytes(paths) < _IN_MEMORY_BYTES else large).append((paths, store.path(span)))
        with beam_pipeline as pipeline:
            _ = (
                pipeline
                | beam.Create(small)
                | beam.Reshuffle()
                | beam.MapTuple(lambda paths, folder: _write(statistics_in_memory(paths, kinds), folder))
            )
            for number, (paths, folder) in enumerate(large):
                _ = (
                    pipeline
                    | f"Files[{number}]" >> beam.Create(paths)
                    | f"Read[{number}]" >> beam.FlatMap(lambda path: read_examples([path], kinds))
                    | f"Count[{number}]" >> tfdv.GenerateStatistics(_options(kinds))
                    | f"Write[{number}]" >> beam.Map(_write, folder)
                )
    for span in new:
        store.commit(span)
    publish(statistics, store, spans, FILE)
