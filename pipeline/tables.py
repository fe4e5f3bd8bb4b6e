"""Answers as tables that a person likes to read."""

from collections.abc import Mapping

import numpy as np
from rich.table import Table

from components.columnar import rows_of
from components.input_folders import inspect_table
from components.table_reader import read_batches
from schema import names

_REASONS = {"history": "{}", "text": "reads like {}", "users": "similar users"}


def read_titles(catalog: str) -> dict[str, str]:
    """Item id -> title, of a catalogue's folder. Raises InputError where it cannot be read."""
    table = inspect_table(catalog, names.CATALOG)
    columns = {name: names.COLUMNS[names.CATALOG][name] for name in (names.ITEM_ID, names.TITLE)}
    rows = (
        row
        for files in table.spans.values()
        for path in files
        for batch in read_batches(str(path.resolve()), table.base, columns)
        for row in rows_of(batch)
    )
    return {
        row[names.ITEM_ID][0].decode("utf-8", "replace"): row[names.TITLE][0].decode("utf-8", "replace")
        for row in rows
        if names.ITEM_ID in row and names.TITLE in row
    }


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
