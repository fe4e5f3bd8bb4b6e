"""SpanValidator: each span's statistics beside the curated schema and, for drift, beside the span before it.

TFX's ExampleValidator does not get the statistics of an earlier span, so that a schema's drift comparators say nothing
there.
"""

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import ExampleAnomalies, ExampleStatistics, Schema
from tfx.utils import io_utils

from components.span_statistics_gen import FILE as STATISTICS_FILE
from components.spans import name_splits, spans_of

FILE = "SchemaDiff.pb"
TRAINING = "TRAINING"
_MAX_BYTES = "max_bytes="


def validate_span(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    schema: schema_pb2.Schema,
    previous: statistics_pb2.DatasetFeatureStatisticsList | None,
    min_rows: int,
) -> anomalies_pb2.Anomalies:
    """Anomalies of a span. Drift from `previous` is looked for only where both have `min_rows` rows or more: of fewer
    rows, two samples of the same distribution are further apart than a sensible threshold."""
    compared = previous if previous and min(_rows(statistics), _rows(previous)) >= min_rows else None
    return tfdv.validate_statistics(statistics, schema, environment=TRAINING, previous_statistics=compared)


def length_bounds(path: str) -> dict[str, int]:
    """Column -> longest text in bytes: a curated schema's annotation tags `max_bytes=N` (TFDV has no such)."""
    curated = io_utils.parse_pbtxt_file(path, schema_pb2.Schema())
    tags = ((feature.name, tag) for feature in curated.feature for tag in feature.annotation.tag)
    return {name: int(tag.removeprefix(_MAX_BYTES)) for name, tag in tags if tag.startswith(_MAX_BYTES)}


def _rows(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> float:
    return sum(dataset.num_examples for dataset in statistics.datasets)


@component
def SpanValidator(
    statistics: InputArtifact[ExampleStatistics],
    schema: InputArtifact[Schema],
    anomalies: OutputArtifact[ExampleAnomalies],
    min_drift_rows: Parameter[int],
    code_version: Parameter[str],
) -> None:
    """Writes `Split-SPAN/SchemaDiff.pb`, as TFX's ExampleValidator names it."""
    curated = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema.uri))
    spans = spans_of(statistics)
    name_splits(anomalies, spans)
    previous = None
    for span in sorted(spans, key=lambda s: (s.number, s.name)):
        uri = artifact_utils.get_split_uri([statistics], span.name)
        current = _load(f"{uri}/{STATISTICS_FILE}")
        found = validate_span(current, curated, previous, min_drift_rows)
        folder = artifact_utils.get_split_uri([anomalies], span.name)
        fileio.makedirs(folder)
        with fileio.open(f"{folder}/{FILE}", "wb") as file:
            file.write(found.SerializeToString(deterministic=True))
        previous = current


def _load(path: str) -> statistics_pb2.DatasetFeatureStatisticsList:
    with fileio.open(path, "rb") as file:
        return statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read())
