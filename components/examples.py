"""tf.Example to plain Python and back, for Beam steps that work on single rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples

Row = dict[str, list[Any]]


def encode_example(row: Mapping[str, Sequence[Any]]) -> bytes:
    """Serialises a row: feature name -> list of bytes, int or float values. Empty lists are left out."""
    example = tf.train.Example()
    feature = example.features.feature
    for name, values in row.items():
        if not len(values):
            continue
        if isinstance(values[0], bytes):
            feature[name].bytes_list.value.extend(values)
        elif isinstance(values[0], int):
            feature[name].int64_list.value.extend(values)
        else:
            feature[name].float_list.value.extend(values)
    return example.SerializeToString(deterministic=True)


def decode_example(serialized: bytes) -> Row:
    """The inverse of `encode_example`: feature name -> list of values; an absent feature has no key."""
    row: Row = {}
    for name, feature in tf.train.Example.FromString(serialized).features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind:
            row[name] = list(getattr(feature, kind).value)
    return row


def row_order(source: str) -> tuple[str, int]:
    """Sort key of `names.SOURCE_ROW` values: by file, then by row."""
    file, _, number = source.rpartition(":")
    return file, int(number)


def split_pattern(examples: Examples, split: str) -> str:
    """Glob of a split's TFRecord files. Raises ValueError where the artifact has no such split."""
    return artifact_utils.get_split_uri([examples], split) + "/*"


class ReadSplit(beam.PTransform):
    """Reads one split of an Examples artifact as decoded rows."""

    def __init__(self, examples: Examples, split: str):
        super().__init__()
        self._pattern = split_pattern(examples, split)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return pipeline | beam.io.ReadFromTFRecord(self._pattern) | beam.Map(decode_example)


class WriteRows(beam.PTransform):
    """Writes rows as gzipped TFRecords, as TFX's own components write them; `prefix` begins the files' names."""

    def __init__(self, prefix: str):
        super().__init__()
        self._prefix = prefix

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        return (
            rows
            | beam.Map(encode_example).with_output_types(bytes)
            | beam.io.WriteToTFRecord(self._prefix, file_name_suffix=".gz")
        )


def write_split(examples: Examples, split: str) -> WriteRows:
    """Writes rows as one split of an Examples artifact."""
    return WriteRows(f"{examples.uri}/Split-{split}/data_tfrecord")
