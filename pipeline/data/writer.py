"""Writes `behaviors/` and `catalog/` in homefeed's form, whole or not at all."""

import csv
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from schema import names
from schema.errors import InputError


class TableWriter:
    """Writes one data set into a folder: behaviors in one file or in a folder a day, the catalog in one file.

    Memory does not grow with the number of rows; at most `_OPEN_DAYS` files are open at once.
    """

    _OPEN_DAYS = 16

    def __init__(self, folder: Path, more_columns: tuple[str, ...] = ()):
        self._folder = folder
        self._columns = [*names.COLUMNS[names.BEHAVIORS], *more_columns]
        self._days: dict[str, tuple[IO[str], Any]] = {}
        self.counts: Counter[str] = Counter()

    def behavior(self, row: Mapping[str, Any], day: str = "") -> None:
        """Appends one event, to the folder `day` where one is given, else to one file of all events."""
        self._day(day).writerow(row)
        self.counts["behaviors written"] += 1

    def catalog(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes the whole catalog."""
        path = self._folder / names.CATALOG / "catalog.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(names.COLUMNS[names.CATALOG]), restval="")
            writer.writeheader()
            for row in rows:
                writer.writerow(row)
                self.counts["catalog items written"] += 1

    def close(self) -> None:
        """Closes what is open."""
        for file, _ in self._days.values():
            file.close()
        self._days.clear()

    def _day(self, day: str) -> Any:
        if day not in self._days:
            if len(self._days) >= self._OPEN_DAYS:
                self._days.pop(next(iter(self._days)))[0].close()
            path = self._folder / names.BEHAVIORS / day / "behaviors.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            file = path.open("a", encoding="utf-8", newline="")
            writer = csv.DictWriter(file, self._columns, restval="")
            if is_new:
                writer.writeheader()
            self._days[day] = (file, writer)
        return self._days[day][1]


@contextmanager
def write_dataset(out: str | Path, more_columns: tuple[str, ...] = ()) -> Iterator[TableWriter]:
    """A writer whose `behaviors/` and `catalog/` appear in `out` only when all is written.

    Args:
      more_columns: columns of behaviors beside homefeed's own.

    Raises:
      InputError: `out` already holds a data set.
    """
    folder = Path(out)
    for table in (names.BEHAVIORS, names.CATALOG):
        if (folder / table).exists():
            raise InputError(f"{folder / table}: already exists; remove it, or give another --out.")
    unfinished = folder / ".unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    writer = TableWriter(unfinished, more_columns)
    try:
        yield writer
        writer.close()
        if not writer.counts["behaviors written"] or not writer.counts["catalog items written"]:
            raise InputError(f"{folder}: nothing would be written; widen what is selected.")
        for table in (names.BEHAVIORS, names.CATALOG):
            (unfinished / table).rename(folder / table)
    finally:
        writer.close()
        shutil.rmtree(unfinished, ignore_errors=True)
