"""CSV and Parquet files to record batches, each column by its declared type and never by guessing.

TFX's CsvExampleGen infers types from values, so ids such as `00123` or a column that is numeric today and not tomorrow
change their type; and its rows do not say which line they came from.
"""

import csv
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from components.columnar import arrow_type, to_batch
from components.input_files import open_file
from schema import names
from schema.errors import InputError

_BLOCK_BYTES = 8 << 20


def read_batches(path: str, base: str, columns: Mapping[str, type]) -> Iterator[pa.RecordBatch]:
    """Streams a file's rows in the form of `columnar.to_batch`.

    Every batch has all of `columns` and `names.ROW_COLUMNS`. `names.SOURCE_ROW` is `file:row`, the header being row 1.
    A value that is empty is absent; one that is no number where a number belongs is absent too, and its column is named
    in `names.UNREADABLE`. Columns of the file that are not in `columns` are not read.

    Args:
      path: a .csv or .parquet file.
      base: the folder that the row's name is relative to.
      columns: name -> bytes, int (64 bits) or float.

    Raises:
      InputError: the file cannot be read to its end.
    """
    source = path[len(base) :].lstrip("/")
    number = 2  # of the next row
    broken: list[int] = []  # rows that are not CSV of this header; the reader leaves them out of its batches
    for batch in _batches(path, list(columns), broken):
        numbers: list[int] = []
        while len(numbers) < batch.num_rows:
            if not broken:
                numbers += range(number, number + batch.num_rows - len(numbers))
                number = numbers[-1] + 1
                continue
            if broken[0] == number:
                yield _broken_batch(source, columns, [broken.pop(0)])
            else:
                numbers.append(number)
            number += 1
        yield _typed(batch, columns, source, numbers)
    if broken:
        yield _broken_batch(source, columns, broken)


def _typed(batch: pa.RecordBatch, columns: Mapping[str, type], source: str, numbers: list[int]) -> pa.RecordBatch:
    values: dict[str, pa.Array] = {}
    unreadable: list[list[bytes]] | None = None
    for name, kind in columns.items():
        if name not in batch.schema.names:
            values[name] = pa.nulls(batch.num_rows, arrow_type(kind))
            continue
        present = _without_empty(_as_bytes(batch.column(name)))
        values[name] = _convert(present, kind)
        lost = values[name].null_count - present.null_count
        if lost:
            unreadable = unreadable or [[] for _ in numbers]
            for i in np.flatnonzero(np.asarray(values[name].is_null()) & np.asarray(present.is_valid())):
                unreadable[i].append(name.encode())
    return _with_row_columns(values, source, numbers, 0, unreadable)


def _broken_batch(source: str, columns: Mapping[str, type], numbers: list[int]) -> pa.RecordBatch:
    values = {name: pa.nulls(len(numbers), arrow_type(kind)) for name, kind in columns.items()}
    return _with_row_columns(values, source, numbers, 1, None)


def _with_row_columns(
    values: dict[str, pa.Array], source: str, numbers: list[int], broken: int, unreadable: list[list[bytes]] | None
) -> pa.RecordBatch:
    rows = pc.binary_join_element_wise(pa.scalar(f"{source}:"), pc.cast(pa.array(numbers, pa.int64()), pa.string()), "")
    return to_batch(
        {
            **values,
            names.SOURCE_ROW: rows.cast(pa.binary()),
            names.BROKEN_ROW: pa.array([1] * len(numbers) if broken else [None] * len(numbers), pa.int64()),
            names.UNREADABLE: pa.array(unreadable or [[]] * len(numbers), pa.large_list(pa.binary())),
        }
    )


def _as_bytes(column: pa.Array) -> pa.Array:
    """Strings as bytes, since what is not UTF-8 is a row's fault and no error of the reader."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if (
        pa.types.is_string(column.type)
        or pa.types.is_large_string(column.type)
        or pa.types.is_large_binary(column.type)
    ):
        return column.cast(pa.binary())
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return column.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
    return column


def _without_empty(column: pa.Array) -> pa.Array:
    if not pa.types.is_binary(column.type):
        return column
    empty = pc.fill_null(pc.equal(pc.binary_length(column), 0), False)
    return pc.if_else(empty, pa.scalar(None, column.type), column) if pc.any(empty).as_py() else column


def _convert(column: pa.Array, kind: type) -> pa.Array:
    wanted = arrow_type(kind)
    if column.type == wanted:
        return column
    try:
        if kind is bytes:
            return column.cast(pa.string()).cast(wanted)
        text = column.cast(pa.string()) if pa.types.is_binary(column.type) else column
        return text.cast(pa.float64()).cast(wanted) if kind is float else text.cast(wanted)
    except pa.ArrowInvalid:  # some value is no number, or no UTF-8; which ones, only a look at each can tell
        return pa.array([_convert_one(value, kind) for value in column.to_pylist()], wanted)


def _convert_one(value: Any, kind: type) -> Any:
    if value is None or kind is bytes:
        return value if value is None or isinstance(value, bytes) else str(value).encode()
    try:
        number = float(value)
        if kind is float:
            return number
        return int(number) if number == number and abs(number) < 2**63 else None
    except (TypeError, ValueError):
        return None


def _batches(path: str, wanted: list[str], broken: list[int]) -> Iterator[pa.RecordBatch]:
    """The file's rows; numbers of rows that are no CSV go into `broken`. Raises InputError where reading breaks off."""
    try:
        yield from _read_batches(path, wanted, broken)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0][:160]
        raise InputError(f"{path}: cannot be read to its end ({reason}); write the file again.") from error


def _read_batches(path: str, wanted: list[str], broken: list[int]) -> Iterator[pa.RecordBatch]:
    with open_file(path) as file:
        if path.endswith(".parquet"):
            parquet = pa.parquet.ParquetFile(file)
            yield from parquet.iter_batches(columns=[c for c in parquet.schema_arrow.names if c in wanted])
            return
        with open_file(path) as lines:
            present = [c for c in parse_header(lines.readline()) if c in wanted]

        def note(row: pa.csv.InvalidRow) -> str:
            broken.append(row.number)
            return "skip"

        # Everything is read as bytes: a wrong byte, number or comma is one row's fault, not the file's.
        with pa.csv.open_csv(
            file,
            read_options=pa.csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
            convert_options=pa.csv.ConvertOptions(
                check_utf8=False, column_types={c: pa.binary() for c in present}, include_columns=present
            ),
        ) as reader:
            yield from reader


def parse_header(line: bytes) -> list[str]:
    """Column names of a CSV file's first line. Raises UnicodeDecodeError or csv.Error where it is none."""
    return next(csv.reader([line.decode("utf-8-sig")]), [])
