"""Answers as tables that a person likes to read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from components.columnar import rows_of
from components.input_folders import inspect_table
from components.table_reader import read_batches
from schema import names

_REASONS = {"history": "{}", "text": "reads like {}", "users": "similar users"}


def read_items(catalog: str, columns: Sequence[str] = (names.TITLE,)) -> dict[str, dict[str, Any]]:
    """Item id -> column -> value, as far as there is one, of a catalogue's folder; the newest day's where an item comes
    again. Raises InputError where it cannot be read."""
    items: dict[str, dict[str, Any]] = {}
    for row in read_rows(catalog, names.CATALOG, (names.ITEM_ID, *columns)):
        if names.ITEM_ID in row:
            items[row.pop(names.ITEM_ID)] = row
    return items


def read_titles(catalog: str) -> dict[str, str]:
    """Item id -> title. Raises InputError where the catalogue's folder cannot be read."""
    return {item: row[names.TITLE] for item, row in read_items(catalog).items() if names.TITLE in row}


def read_rows(folder: str, table: str, columns: Sequence[str], newest_first: bool = False) -> Iterator[dict[str, Any]]:
    """Rows of an input folder as column -> value, texts as str; what a row has not is left out.

    Args:
      folder: of CSV or Parquet files.
      table: one of `names.TABLES`.
      columns: those that are wanted.
      newest_first: begin with the last day.

    Raises:
      InputError: the folder or a file cannot be read.
    """
    found = inspect_table(folder, table)
    wanted = {name: names.COLUMNS[table][name] for name in columns}
    days = list(found.spans.values())
    for file in (file for files in (reversed(days) if newest_first else days) for file in files):
        for batch in read_batches(file.path, "", wanted):
            for row in rows_of(batch):
                yield {name: _plain(row[name][0]) for name in columns if row.get(name)}


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def answer_table(title: str, answer: Mapping[str, np.ndarray], titles: Mapping[str, str]) -> Table:
    """The first row of a signature's answer: items, scores, and reasons where there are any."""
    with_reasons = names.REASONS in answer
    table = Table(
        "", "item", *(["title"] if titles else []), "score", *(["because of"] if with_reasons else []), title=title
    )
    for rank, item in enumerate(answer[names.ITEM_IDS][0]):
        if not item:
            continue
        cells = [str(rank + 1), item.decode()]
        cells += [titles.get(item.decode(), "")] if titles else []
        cells.append(f"{answer[names.SCORES][0][rank]:.3f}")
        if with_reasons:
            kind, _, cause = answer[names.REASONS][0][rank].decode().partition(":")
            cells.append(_REASONS.get(kind, kind).format(titles.get(cause, cause)))
        table.add_row(*cells)
    return table
