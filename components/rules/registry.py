"""What a rule is, what it compares with, and the list of all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from components.columnar import scalars
from schema import names
from schema.days import day_of

DAY = 86_400


class Kind(Enum):
    """What a rule looks at."""

    ROW = "row"  # Rows, Limits -> [rows] bool: which rows break it
    GROUP = "group"  # the same; the rows are all of a span with the same users (or items)
    DAY = "day"  # profiles of the days in order, Limits -> findings
    JOIN = "join"  # counted by RowValidator itself, which has both tables


@dataclass(frozen=True)
class Rule:
    """One rule and how it is treated unless the configuration says otherwise.

    Attributes:
      tables: the tables that it is about.
      column: what a person would look at.
      what: of a row or a day that breaks it, completing "this row …".
      do: what a person would do.
      severity: `error` stops the run, `warning` is told, `info` is counted.
      max_share: the share of rows that may break it before its severity counts.
      rows: what becomes of rows that break it: `keep`, `drop`, or `quarantine`.
      keepable: whether the configuration may keep them: later steps can use them.
    """

    name: str
    kind: Kind
    tables: tuple[str, ...]
    column: str
    breaks: Callable[..., Any]
    what: str
    do: str
    severity: str
    max_share: float
    rows: str
    keepable: bool = True


RULES: dict[str, Rule] = {}


def rule(
    kind: Kind,
    tables: tuple[str, ...],
    column: str,
    what: str,
    do: str,
    *,
    severity: str = "error",
    max_share: float = 0.0,
    rows: str = "drop",
    keepable: bool = True,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as the rule of its name; see `Rule`."""

    def register(breaks: Callable[..., Any]) -> Callable[..., Any]:
        name = breaks.__name__
        RULES[name] = Rule(name, kind, tables, column, breaks, what, do, severity, max_share, rows, keepable)
        return breaks

    return register


def rules_of(table: str, *kinds: Kind) -> list[Rule]:
    """The rules of a table, in the order in which they are judged."""
    return [r for r in RULES.values() if table in r.tables and (not kinds or r.kind in kinds)]


@dataclass(frozen=True)
class Limits:
    """What rules compare with: the configuration's `gate` section, and the time of the run.

    Attributes:
      events: event -> weight, those that the configuration knows.
      latest_timestamp: seconds since 1970 UTC after which a row is in the future.
      max_bytes: table -> column -> longest text, as the curated schema has it.
      See `pipeline.config.Gate` for the others.
    """

    events: Mapping[str, float] = field(default_factory=dict)
    latest_timestamp: int = 2**62
    max_bytes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    day_tolerance_hours: float = 1.0
    max_events_per_hour: int = 3_000
    item_id_pattern: str = ""
    expected: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    min_day_share: float = 0.3
    max_clock_shift_hours: int = 3
    max_scale_change: float = 1.5


class Rows:
    """Rows of one span as columns.

    Attributes:
      table: one of `names.TABLES`.
      day: seconds since 1970 UTC at which the span's day begins; None where the span is no day.
    """

    def __init__(self, batch: pa.RecordBatch, table: str, span: str):
        self._columns = scalars(batch)
        self._batch = batch
        self.table = table
        day = day_of(span)
        self.day = (day.toordinal() - 719_163) * DAY if day else None

    def __len__(self) -> int:
        return self._batch.num_rows

    def __contains__(self, column: str) -> bool:
        return column in self._columns

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""
        return list(self._columns)

    def __getitem__(self, column: str) -> pa.Array:
        """[rows] nullable values of a column."""
        return self._columns[column]

    def has(self, column: str) -> np.ndarray:
        """[rows] bool: where a column has a value."""
        return np.asarray(self._columns[column].is_valid())

    def numbers(self, column: str, missing: float = np.nan) -> np.ndarray:
        """[rows] float64, or int64 for an integer `missing`: a column of numbers."""
        values = self._columns[column].fill_null(missing) if self._columns[column].null_count else self._columns[column]
        return np.asarray(values)

    def where(self, condition: pa.Array) -> np.ndarray:
        """[rows] bool of an Arrow condition; null is False."""
        return np.asarray(condition.fill_null(False))

    @cached_property
    def texts(self) -> list[str]:
        """The columns of bytes, but for where the row came from."""
        return [
            name
            for name, values in self._columns.items()
            if pa.types.is_binary(values.type) and name not in names.ROW_COLUMNS
        ]

    def codes(self, *columns: str) -> np.ndarray:
        """[rows] int64: equal where all the columns are equal, null equalling null."""
        code = np.zeros(len(self), np.int64)
        for column in columns:
            values = self._columns[column].dictionary_encode(null_encoding="encode")
            indices = np.asarray(values.indices).astype(np.int64)
            _, code = np.unique(code * (len(values.dictionary) + 1) + indices, return_inverse=True)
        return code


@dataclass(frozen=True)
class Finding:
    """A day that breaks a rule: `detail` completes "this day …" with the figures."""

    span: str
    detail: str
