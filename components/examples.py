"""tf.Examples in files: as plain Python rows for small tables, as Arrow record batches for large ones."""

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder, RecordBatchToExamplesEncoder

Row = dict[str, list[Any]]
BATCH_ROWS = 8192
_BUCKET_BYTES = 8 << 20
_GROUP_BYTES = 4 << 20
_KINDS = {bytes: schema_pb2.BYTES, int: schema_pb2.INT, float: schema_pb2.FLOAT}


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
    """The inverse of `encode_example`: feature name -> list of values; a feature without values has no key."""
    row: Row = {}
    for name, feature in tf.train.Example.FromString(serialized).features.feature.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        if values:
            row[name] = values
    return row


def split_pattern(examples: Examples, split: str) -> str:
    """Glob of a split's TFRecord files. Raises ValueError where the artifact has no such split."""
    return artifact_utils.get_split_uri([examples], split) + "/*"


def split_files(examples: Examples, split: str) -> list[str]:
    """A split's TFRecord files, in order."""
    return sorted(fileio.glob(split_pattern(examples, split)))


def read_split(examples: Examples, split: str) -> Iterator[Row]:
    """A split's rows, one after another, for who needs no Beam."""
    files = split_files(examples, split)
    yield from map(decode_example, tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator())


def total_bytes(files: Iterable[str]) -> int:
    """Size of files together, compressed as they are."""
    return sum(tf.io.gfile.stat(path).length for path in files)


def count_buckets(files: Iterable[str]) -> int:
    """Into how many buckets rows of files are parted, so that a worker holds some hundred thousand of them at once."""
    return 1 + total_bytes(files) // _BUCKET_BYTES


def grouped(files: Iterable[str]) -> list[list[str]]:
    """Files in their order, in groups of some megabytes that are read in one go: opening a file costs more than what is
    in that of a small day."""
    groups: list[list[str]] = []
    filled = _GROUP_BYTES
    for path in files:
        size = total_bytes([path])
        if filled + size > _GROUP_BYTES:
            groups.append([])
            filled = 0
        groups[-1].append(path)
        filled += size
    return groups


class ReadRows(beam.PTransform):
    """Decoded rows of TFRecord files; none where there are no files."""

    def __init__(self, files: list[str]):
        super().__init__()
        self._files = files

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return pipeline | beam.Create(self._files) | beam.io.ReadAllFromTFRecord() | beam.Map(decode_example)


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


class ExamplesWriter:
    """A gzipped TFRecord file, a batch at a time; it has its name only when it was closed without an error."""

    def __init__(self, path: str):
        self._path, self._partial = path, f"{path}.{uuid.uuid4().hex}.partial"
        fileio.makedirs(os.path.dirname(path))
        # Level 1: TensorFlow's default takes three times as long for a tenth less bytes.
        options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)
        self._writer = tf.io.TFRecordWriter(self._partial, options)
        self._encoder = RecordBatchToExamplesEncoder()
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends rows in the form of `columnar.to_batch`."""
        for serialized in self._encoder.encode(batch):
            self._writer.write(serialized)
        self.rows += batch.num_rows

    def __enter__(self) -> "ExamplesWriter":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._writer.close()
        if error is None:
            fileio.rename(self._partial, self._path, overwrite=True)


def write_examples(path: str, batches: Iterable[pa.RecordBatch]) -> int:
    """Writes a file by `ExamplesWriter`. Returns the number of rows."""
    with ExamplesWriter(path) as writer:
        for batch in batches:
            writer.write(batch)
    return writer.rows


def read_examples(files: Iterable[str], columns: Mapping[str, type]) -> Iterator[pa.RecordBatch]:
    """Batches of gzipped TFRecord files, with every column, whether or not a row has it."""
    schema = schema_pb2.Schema(
        feature=[schema_pb2.Feature(name=name, type=_KINDS[kind]) for name, kind in columns.items()]
    )
    decoder = ExamplesToRecordBatchDecoder(schema.SerializeToString())
    dataset = tf.data.TFRecordDataset(list(files), compression_type="GZIP").batch(BATCH_ROWS).prefetch(1)
    for records in dataset.as_numpy_iterator():
        yield decoder.DecodeBatch(records.tolist())
