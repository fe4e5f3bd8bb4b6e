"""What is taken out of a table on the way in: user ids, columns, values that single people out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from components.columnar import scalars, with_column
from schema import names
from schema.privacy import pseudonym


@dataclass(frozen=True)
class Privacy:
    """The configuration's `privacy` section.

    Attributes:
      hash_user_ids: replace user ids by pseudonyms.
      drop_columns: columns that are never read.
      suppress: column -> k: a value that fewer than k users of a span have is taken out.
    """

    hash_user_ids: bool = False
    drop_columns: tuple[str, ...] = ()
    suppress: Mapping[str, int] = field(default_factory=dict)

    def columns(self, columns: Mapping[str, type]) -> dict[str, type]:
        """The columns that are read."""
        return {name: kind for name, kind in columns.items() if name not in self.drop_columns}


def hash_user_ids(batch: pa.RecordBatch, key: bytes) -> pa.RecordBatch:
    """Replaces user ids by pseudonyms. An id that is no UTF-8 or has spaces around it is taken out: its pseudonym would
    hide that it is wrong."""
    ids = scalars(batch)[names.USER_ID].dictionary_encode()
    hashed = [None if _is_malformed(value) else pseudonym(value, key) for value in ids.dictionary.to_pylist()]
    return with_column(batch, names.USER_ID, pa.array(hashed, pa.binary()).take(ids.indices))


def _is_malformed(value: bytes) -> bool:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return True
    return text.strip() != text


def values_of_users(batches: Iterable[pa.RecordBatch], column: str) -> set[tuple[bytes, bytes]]:
    """Distinct (value, user) pairs of a column of strings."""
    pairs: set[tuple[bytes, bytes]] = set()
    for batch in batches:
        rows = scalars(batch)
        table = pa.table({"value": rows[column], "user": rows[names.USER_ID]}).drop_null()
        distinct = table.group_by(["value", "user"]).aggregate([])
        pairs.update(zip(distinct["value"].to_pylist(), distinct["user"].to_pylist(), strict=True))
    return pairs


def suppress(batch: pa.RecordBatch, kept: Mapping[str, frozenset[bytes]]) -> pa.RecordBatch:
    """Takes out the values that are not among those of their column in `kept`."""
    for column, values in kept.items():
        present = scalars(batch)[column]
        is_kept = pc.is_in(present, pa.array(sorted(values), pa.binary()))
        batch = with_column(batch, column, pc.if_else(is_kept, present, pa.scalar(None, present.type)))
    return batch
