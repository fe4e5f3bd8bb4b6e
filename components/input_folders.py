"""The first look at the input folders, before a workspace is touched: are the files there, whole, and of our form?

What only a full read can tell (a broken row) is RowValidator's and DataGate's business.
"""

import csv
import datetime as dt
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from components.input_files import InputFile, base_of, folder_exists, is_remote, list_files, open_file
from components.json_files import read_json, write_json
from components.spans import Span, fingerprint_files
from components.table_reader import parse_header
from schema import names
from schema.days import day_of
from schema.errors import InputError

FORMATS = (".csv", ".parquet")
_AT_ONCE = 16  # files that are looked into: in a bucket each waits for answers


@dataclass(frozen=True)
class Table:
    """A folder of input files, as TableExampleGen wants it.

    Attributes:
      base: the folder.
      suffix: of every file.
      spans: span -> its files, in the order of the days; `names.ALL_SPLIT` alone where there are no folders.
    """

    base: str
    suffix: str
    spans: dict[str, tuple[InputFile, ...]]


def inspect_table(folder: str | Path, table: str) -> Table:
    """Checks one input folder: its files, their headers, their columns.

    Args:
      folder: holds CSV or Parquet files, or folders that do, each called after its day (`2010-12-01`); a path, or the
        URL of a bucket's folder.
      table: one of `names.TABLES`.

    Raises:
      InputError: names the file, what is wrong with it, and what to do.
    """
    where = str(folder).rstrip("/") if is_remote(str(folder)) else str(Path(folder))
    found = list_files(where)
    if not found and not folder_exists(where):
        raise InputError(f"{where}: is not a folder; give the folder that holds the {table} files.")
    files = [file for file in found if file.path.endswith(FORMATS)]
    if not files:
        raise InputError(f"{where}: holds no .csv or .parquet file; put the {table} files (or a folder a day) there.")
    below = [file.path.removeprefix(where).lstrip("/") for file in files]
    kinds = {(Path(path).suffix, path.count("/")) for path in below}
    if len(kinds) > 1:
        raise InputError(
            f"{where}: mixes kinds of files ({', '.join(sorted(below)[:3])} …); "
            "use one format, all files at the top or all in folders a day."
        )
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda file: _check_file(file.path, table), files))
    suffix, depth = kinds.pop()
    spans = {names.ALL_SPLIT: tuple(files)} if depth == 0 else _by_day(where, files)
    return Table(base_of(where), suffix, spans)


def _by_day(base: str, files: list[InputFile]) -> dict[str, tuple[InputFile, ...]]:
    folders = defaultdict(list)
    for file in files:
        folders[file.parts[-2]].append(file)
    days: dict[dt.date, str] = {}
    for name in sorted(folders):
        day = day_of(name)
        if day is None:
            raise InputError(f"{base}/{name}: is not called after a day; name such folders as 2010-12-01.")
        if day in days:
            raise InputError(f"{base}/{name}: is the same day as {days[day]}; put a day's files into one folder.")
        days[day] = name
    return {days[day]: tuple(folders[days[day]]) for day in sorted(days)}


def window_of(table: Table, days: int | None, memory: str) -> list[Span]:
    """The spans of a rolling window, each with the fingerprint of what is in it now.

    Args:
      days: the last so many calendar days; None for all. A table without days is one span.
      memory: JSON file of the fingerprints of files seen before, by path, size and time: what has not been touched is
        not read again.
    """
    names_of = list(table.spans)
    latest = day_of(names_of[-1]) if names_of != [names.ALL_SPLIT] else None
    if days and latest:
        names_of = [name for name in names_of if (latest - _day(name)).days < days]
    known = read_json(memory, {})
    spans = []
    for name in names_of:
        files = table.spans[name]
        stamp = f"{name} " + " ".join(f"{file.parts[-1]}:{file.size}:{file.modified!r}" for file in files)
        key = f"{table.base} {stamp}"
        if key not in known:
            known = {old: value for old, value in known.items() if not old.startswith(f"{table.base} {name} ")}
            known[key] = fingerprint_files(file.path for file in files)
        spans.append(Span(name, known[key]))
    write_json(memory, known)
    return spans


def _day(name: str) -> dt.date:
    day = day_of(name)
    assert day is not None  # `_by_day` has seen to it
    return day


def _check_file(file: str, table: str) -> None:
    columns = _parquet_columns(file) if file.endswith(".parquet") else _csv_columns(file)
    missing = [column for column in names.REQUIRED_COLUMNS[table] if column not in columns]
    if missing:
        raise InputError(
            f"{file}: has no column {missing[0]} (found: {', '.join(columns)[:200]}); "
            f"{table} need {', '.join(names.REQUIRED_COLUMNS[table])}."
        )
    doubled = sorted({column for column in columns if columns.count(column) > 1})
    if doubled:
        raise InputError(f"{file}: has the column {doubled[0]} twice; keep one of them.")


def _csv_columns(file: str) -> list[str]:
    with open_file(file) as lines:
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


def _parquet_columns(file: str) -> list[str]:
    try:
        with open_file(file) as content:
            metadata = pa.parquet.read_metadata(content)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file}: is not readable as Parquet ({_short(error)}); write it again.") from error
    if metadata.num_rows == 0:
        raise InputError(f"{file}: has no rows; remove it, or write it again with rows.")
    return list(metadata.schema.to_arrow_schema().names)


def _short(error: Exception) -> str:
    return str(error).split(". ")[0].splitlines()[0][:160]
