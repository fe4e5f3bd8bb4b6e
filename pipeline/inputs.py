"""The first look at the input folders, before a workspace is touched: are the files there, whole, and of our form?

What only a full read can tell (a broken row) is RowValidator's and DataGate's business.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from components.table_example_gen import parse_header
from schema import names
from schema.errors import InputError

FORMATS = (".csv", ".parquet")


@dataclass(frozen=True)
class Table:
    """A folder of input files, as ExampleGen wants it.

    Attributes:
      base: the folder.
      pattern: glob below `base` that matches every file: `*.csv`, or `*/*.csv` where there is a folder a day.
    """

    base: str
    pattern: str


def inspect_table(folder: str | Path, table: str) -> Table:
    """Checks one input folder: its files, their headers, their columns.

    Args:
      folder: holds CSV or Parquet files, or folders (one a day) that do.
      table: `names.BEHAVIORS` or `names.CATALOG`.

    Raises:
      InputError: names the file, what is wrong with it, and what to do.
    """
    base = Path(folder)
    if not base.is_dir():
        raise InputError(f"{base}: is not a folder; give the folder that holds the {table} files.")
    files = sorted(p for depth in ("*", "*/*") for p in base.glob(depth) if p.suffix in FORMATS and p.is_file())
    if not files:
        raise InputError(f"{base}: holds no .csv or .parquet file; put the {table} files (or a folder a day) there.")
    kinds = {(p.suffix, len(p.relative_to(base).parts)) for p in files}
    if len(kinds) > 1:
        raise InputError(
            f"{base}: mixes kinds of files ({', '.join(sorted(str(p.relative_to(base)) for p in files)[:3])} …); "
            "use one format, all files at the top or all in folders a day."
        )
    for file in files:
        _check_file(file, table)
    suffix, depth = kinds.pop()
    return Table(str(base.resolve()), "/".join(["*"] * (depth - 1) + [f"*{suffix}"]))


def _check_file(file: Path, table: str) -> None:
    columns = _parquet_columns(file) if file.suffix == ".parquet" else _csv_columns(file)
    missing = [column for column in names.REQUIRED_COLUMNS[table] if column not in columns]
    if missing:
        raise InputError(
            f"{file}: has no column {missing[0]} (found: {', '.join(columns)[:200]}); "
            f"{table} need {', '.join(names.REQUIRED_COLUMNS[table])}."
        )
    doubled = sorted({column for column in columns if columns.count(column) > 1})
    if doubled:
        raise InputError(f"{file}: has the column {doubled[0]} twice; keep one of them.")


def _csv_columns(file: Path) -> list[str]:
    with file.open("rb") as lines:
        header, first = lines.readline(), lines.readline()
    if not header:
        raise InputError(f"{file}: is empty; remove it, or write it again with a header and rows.")
    try:
        columns = parse_header(header)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: its header is not CSV in UTF-8 ({error}); write the file again.") from error
    if not first.strip():
        raise InputError(f"{file}: has no rows under its header; remove it, or write it again with rows.")
    return columns


def _parquet_columns(file: Path) -> list[str]:
    try:
        metadata = pa.parquet.read_metadata(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file}: is not readable as Parquet ({_short(error)}); write it again.") from error
    if metadata.num_rows == 0:
        raise InputError(f"{file}: has no rows; remove it, or write it again with rows.")
    return list(metadata.schema.to_arrow_schema().names)


def _short(error: Exception) -> str:
    return str(error).split(". ")[0].splitlines()[0][:160]
