"""ExampleGen for our tables: CSV or Parquet rows to tf.Examples, typed by column and never by guessing.

TFX's CsvExampleGen infers types from values, so ids such as `00123` or a column that is numeric today and not tomorrow
change their type; and its rows do not say which line they came from.
"""

import csv
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from apache_beam.io.filesystems import FileSystems
from tfx.components import FileBasedExampleGen
from tfx.components.example_gen.base_example_gen_executor import BaseExampleGenExecutor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2

from components.examples import encode_example
from schema import names
from schema.errors import InputError

_BLOCK_BYTES = 8 << 20


def read_rows(path: str, base: str, table: str) -> Iterable[dict[str, list[Any]]]:
    """Streams a file's rows as feature -> values, with `names.SOURCE_ROW` (`file:row`, the header being row 1).

    A value that is empty, or is no number where a number belongs, is absent: RowValidator counts it by its rule.
    Columns that the table does not define are not read.

    Args:
      path: a .csv or .parquet file.
      base: the folder that the row's name is relative to.
      table: `names.BEHAVIORS` or `names.CATALOG`.
    """
    types = names.COLUMNS[table]
    source = path[len(base) :].lstrip("/")
    number = 1
    broken: list[int] = []  # rows that are not CSV of this header; the reader leaves them out of its batches
    for batch in _batches(path, list(types), broken):
        columns = {name: _values(batch.column(i)) for i, name in enumerate(batch.schema.names)}
        for i in range(batch.num_rows):
            number += 1
            while broken and broken[0] == number:
                yield _broken(source, broken.pop(0))
                number += 1
            row: dict[str, list[Any]] = {names.SOURCE_ROW: [f"{source}:{number}".encode()]}
            for name, values in columns.items():
                value = _convert(values[i], types[name])
                if value is not None:
                    row[name] = [value]
            yield row
    yield from (_broken(source, row) for row in broken)


def _values(column: pa.Array) -> list[Any]:
    """Python values; strings as bytes, since what is not UTF-8 is a row's fault and no error of the reader."""
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return (column.cast(pa.large_binary()) if is_text else column).to_pylist()


def _broken(source: str, number: int) -> dict[str, list[Any]]:
    return {names.SOURCE_ROW: [f"{source}:{number}".encode()], names.BROKEN_ROW: [1]}


def _batches(path: str, wanted: list[str], broken: list[int]) -> Iterable[pa.RecordBatch]:
    """The file's rows; numbers of rows that are no CSV go into `broken`. Raises InputError where reading breaks off."""
    try:
        yield from _read_batches(path, wanted, broken)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0][:160]
        raise InputError(f"{path}: cannot be read to its end ({reason}); write the file again.") from error


def _read_batches(path: str, wanted: list[str], broken: list[int]) -> Iterable[pa.RecordBatch]:
    with FileSystems.open(path) as file:
        if path.endswith(".parquet"):
            parquet = pa.parquet.ParquetFile(file)
            yield from parquet.iter_batches(columns=[c for c in parquet.schema_arrow.names if c in wanted])
            return
        with FileSystems.open(path) as lines:
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


def _convert(value: Any, kind: type) -> Any:
    if value is None or value == b"" or value == "":
        return None
    if kind is bytes:
        return value if isinstance(value, bytes) else str(value).encode()
    try:
        number = float(value)
        if kind is float:
            return number
        return int(number) if number == number and abs(number) < 2**63 else None
    except (TypeError, ValueError):
        return None


class _ReadFiles(beam.PTransform):
    """Every file that the pattern matches, as serialized tf.Examples."""

    def __init__(self, exec_properties: dict[str, Any], pattern: str, table: str):
        super().__init__()
        self._base = exec_properties["input_base"]
        self._pattern = f"{self._base}/{pattern}"
        self._table = table

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        base, table = self._base, self._table
        return (
            pipeline
            | beam.Create(sorted(fileio.glob(self._pattern)))
            | beam.Reshuffle()
            | beam.FlatMap(lambda path: read_rows(path, base, table))
            | beam.Map(encode_example).with_output_types(bytes)
        )


class BehaviorsExecutor(BaseExampleGenExecutor):
    """Reads the files that the driver fingerprinted."""

    def GetInputSourceToExamplePTransform(self) -> Callable[..., beam.PTransform]:
        return partial(_ReadFiles, table=names.BEHAVIORS)


class CatalogExecutor(BaseExampleGenExecutor):
    """Reads the files that the driver fingerprinted."""

    def GetInputSourceToExamplePTransform(self) -> Callable[..., beam.PTransform]:
        return partial(_ReadFiles, table=names.CATALOG)


_EXECUTORS = {names.BEHAVIORS: BehaviorsExecutor, names.CATALOG: CatalogExecutor}


def table_example_gen(table: str, base: str, pattern: str) -> FileBasedExampleGen:
    """An ExampleGen over one input folder; its one split is `names.ALL_SPLIT`.

    Args:
      table: `names.BEHAVIORS` or `names.CATALOG`; the node is called after it.
      base: the folder.
      pattern: glob below it.
    """
    split = example_gen_pb2.Input.Split(name=names.ALL_SPLIT, pattern=pattern)
    # Without an output split of its own, TFX would divide the rows into train and eval by hash.
    whole = example_gen_pb2.SplitConfig.Split(name=names.ALL_SPLIT, hash_buckets=1)
    return FileBasedExampleGen(
        input_base=base,
        input_config=example_gen_pb2.Input(splits=[split]),
        output_config=example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=[whole])),
        custom_executor_spec=executor_spec.BeamExecutorSpec(_EXECUTORS[table]),
    ).with_id(f"{table.capitalize()}ExampleGen")
