"""Rows as Arrow record batches in the form of tf.Examples: many rows at a time, and no TensorFlow."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from schema import names

_ARROW = {bytes: pa.binary(), int: pa.int64(), float: pa.float32()}


def arrow_type(kind: type) -> pa.DataType:
    """Arrow's type of a column of `bytes`, `int` or `float`."""
    return _ARROW[kind]


def load_columns(text: str) -> dict[str, type]:
    """Column -> type, of an execution property: JSON, column -> one of `names.COLUMN_TYPES`."""
    return {name: names.COLUMN_TYPES[kind] for name, kind in json.loads(text).items()}


def to_batch(columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """A batch in the form of tf.Examples: each scalar a list of one value, each null an empty list."""
    lists = [value if pa.types.is_large_list(value.type) else as_lists(value) for value in columns.values()]
    return pa.RecordBatch.from_arrays(lists, list(columns))


def as_lists(values: pa.Array) -> pa.LargeListArray:
    """[rows] nullable scalars to [rows] lists of at most one."""
    if values.null_count == 0:
        return pa.LargeListArray.from_arrays(pa.array(np.arange(len(values) + 1)), values)
    present = np.asarray(values.is_valid())
    return pa.LargeListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(present)])), values.drop_null())


def scalars(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """The inverse of `to_batch`: column -> [rows] nullable scalars, the first of each list."""
    return {name: _first_of(batch.column(i)) for i, name in enumerate(batch.schema.names)}


def _first_of(lists: pa.Array) -> pa.Array:
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0)).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    values = lists.flatten()
    if pa.types.is_large_binary(values.type):  # which is what tfx_bsl decodes to
        values = values.cast(pa.binary())
    if len(lengths) and lengths.min() == lengths.max() == 1:
        return values
    return values.take(pa.array(starts, mask=lengths == 0))


def select(batch: pa.RecordBatch, columns: Iterable[str]) -> pa.RecordBatch:
    """Some columns of a batch, in the order given."""
    chosen = list(columns)
    return pa.RecordBatch.from_arrays([batch.column(batch.schema.get_field_index(name)) for name in chosen], chosen)


def with_column(batch: pa.RecordBatch, column: str, values: pa.Array) -> pa.RecordBatch:
    """A batch with a column of nullable scalars, in its place where the batch has one of that name, else at the end."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    columns[column] = as_lists(values)
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def concat(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """One batch of several."""
    table = pa.Table.from_batches(list(batches)).combine_chunks()
    return table.to_batches(max_chunksize=max(table.num_rows, 1))[0] if table.num_rows else _empty(table.schema)


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def to_ipc(batch: pa.RecordBatch) -> bytes:
    """A batch in Arrow's IPC form, to travel between workers; compressed, since a shuffle holds all of a log."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def from_ipc(data: bytes) -> pa.RecordBatch:
    """The inverse of `to_ipc`."""
    return next(iter(pa.ipc.open_stream(data)))


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows as feature -> list of values, without features that a row lacks: for tests and small tables."""
    columns = batch.to_pydict()
    return [
        {name: values[i] for name, values in columns.items() if values[i] is not None and len(values[i])}
        for i in range(batch.num_rows)
    ]


def buckets_of(keys: pa.Array, count: int) -> np.ndarray:
    """[rows] int64 in [0, count): the same for the same key on every machine."""
    if count == 1:
        return np.zeros(len(keys), np.int64)
    encoded = keys.fill_null(b"").dictionary_encode()
    hashes = pd.util.hash_array(np.array(encoded.dictionary.to_pylist(), object), categorize=False)
    return (hashes % count).astype(np.int64)[np.asarray(encoded.indices)]


def partition(batch: pa.RecordBatch, buckets: np.ndarray) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(bucket, its rows of the batch, in order)."""
    order = np.argsort(buckets, kind="stable")
    found, starts = np.unique(buckets[order], return_index=True)
    for bucket, rows in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
        yield bucket, (batch if len(found) == 1 else batch.take(pa.array(rows)))


def ranks(values: pa.Array) -> tuple[list[Any], np.ndarray]:
    """(distinct values in ascending order, [rows] int64 of each value's place there); no nulls."""
    encoded = values.dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    order = sorted(range(len(distinct)), key=distinct.__getitem__)
    places = np.empty(len(distinct), np.int64)
    places[order] = np.arange(len(distinct))
    return [distinct[i] for i in order], places[np.asarray(encoded.indices)]
