"""The log's events as Arrow batches: read, joined with the catalogue, shuffled by user, and bounded for each user."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute
from apache_beam.pvalue import AsSingleton, TaggedOutput

from components.columnar import buckets_of, concat, from_ipc, partition, ranks, scalars, to_ipc
from components.examples import read_examples
from components.sentiment import comments_of, hashes_of, lookup
from schema import names

_SIDE_INPUT_ITEMS = 1_000_000  # a larger catalogue is joined by key
_EVENT_COLUMNS = {names.USER_ID: bytes, names.ITEM_ID: bytes, names.EVENT: bytes, names.TIMESTAMP: int}
TRAIT_SEPARATOR = b"\x1f"


class ReadEvents(beam.PTransform):
    """Groups of files of behaviors to `EVENTS`, batches as `usable_events` makes them, and `COMMENTS`, what
    `sentiment.comments_of` finds: the log is read once for both.

    Args:
      weights: event -> weight; events of weight 0 are left out.
      context: columns of behaviors that say where an event came from.
    """

    EVENTS, COMMENTS = "events", "comments"

    def __init__(self, weights: Mapping[str, float], context: list[str]):
        super().__init__()
        self._known = [event.encode() for event, weight in weights.items() if weight > 0]
        self._context = context

    def expand(self, groups: beam.PCollection) -> beam.pvalue.DoOutputsTuple:
        read = beam.FlatMap(_read, self._known, self._context).with_outputs(self.COMMENTS, main=self.EVENTS)
        return groups | beam.Reshuffle() | read


def _read(paths: list[str], known: list[bytes], context: list[str]) -> Iterator[Any]:
    kinds = {**_EVENT_COLUMNS, names.VALUE: float, names.COMMENT: bytes, **dict.fromkeys(context, bytes)}
    for batch in read_examples(paths, kinds):
        columns = scalars(batch)
        columns[names.COMMENT] = hashes_of(columns[names.COMMENT])
        yield usable_events(columns, known, context)
        for comment in comments_of(columns):
            yield TaggedOutput(ReadEvents.COMMENTS, comment)


def usable_events(columns: Mapping[str, pa.Array], known: list[bytes], context: list[str]) -> pa.RecordBatch:
    """The rows of a batch of behaviors, of which `comment` is the key of the text, that have a user, an item, a time
    and a weight: these, the context's traits in one string, and the comment."""
    names_of = [*_EVENT_COLUMNS, names.TRAITS, names.COMMENT]
    values = [columns[name] for name in _EVENT_COLUMNS]
    values += [_traits(columns, context), columns[names.COMMENT]]
    rows = pa.RecordBatch.from_arrays(values, names_of)
    usable = pa.compute.is_in(rows.column(2), pa.array(known, pa.binary()))
    for column in (0, 1, 3):
        usable = pa.compute.and_(usable, rows.column(column).is_valid())
    return rows.filter(usable)


def _traits(columns: Mapping[str, pa.Array], context: list[str]) -> pa.Array:
    """`column=value` of the context's columns, joined; of one without a value nothing stands between separators."""
    named = [pa.compute.binary_join_element_wise(f"{c}=".encode(), columns[c], b"") for c in context]
    empty = pa.array([b""] * len(columns[names.USER_ID]), pa.binary())
    return pa.compute.binary_join_element_wise(
        empty, *(pa.compute.fill_null(values, b"") for values in named), TRAIT_SEPARATOR
    )


def with_sentiment(events: pa.RecordBatch, table: tuple[pa.Array, np.ndarray]) -> pa.RecordBatch:
    """The comment's key replaced by what it says: float64, NaN where there is nothing."""
    *columns, comments = events.columns
    values = [*columns, pa.array(lookup(table, comments))]
    return pa.RecordBatch.from_arrays(values, [*events.schema.names[:-1], names.SENTIMENT])


class OfKnownItems(beam.PTransform):
    """Of batches of events, the rows whose item the catalogue has.

    A small catalogue's ids go to every worker (a side input); a large one's are joined by key, so that neither side has
    to fit into memory.

    Args:
      items: how many the catalogue has.
    """

    def __init__(self, items: int, buckets: int):
        super().__init__()
        self._by_key, self._buckets = items > _SIDE_INPUT_ITEMS, buckets

    def expand(self, sides: dict[str, beam.PCollection]) -> beam.PCollection:
        if not self._by_key:
            known = sides["items"] | beam.combiners.ToList() | beam.Map(lambda ids: pa.array(sorted(ids), pa.binary()))
            return sides["events"] | beam.Map(_in_catalog, AsSingleton(known))
        buckets = self._buckets
        return (
            {
                "items": sides["items"]
                | beam.BatchElements(min_batch_size=1_000, max_batch_size=100_000)
                | "ItemBuckets" >> beam.FlatMap(_bucketed_ids, buckets),
                "events": sides["events"] | "EventBuckets" >> beam.FlatMap(bucketed, names.ITEM_ID, buckets),
            }
            | beam.CoGroupByKey()
            | beam.FlatMapTuple(_joined)
        )


def _in_catalog(events: pa.RecordBatch, known: pa.Array) -> pa.RecordBatch:
    return events.filter(pa.compute.is_in(events.column(1), known))


def _bucketed_ids(ids: list[bytes], buckets: int) -> Iterator[tuple[int, list[bytes]]]:
    array = pa.array(ids, pa.binary())
    found = buckets_of(array, buckets)
    for bucket in np.unique(found).tolist():
        yield bucket, array.filter(pa.array(found == bucket)).to_pylist()


def bucketed(events: pa.RecordBatch, column: str, buckets: int) -> Iterator[tuple[int, bytes]]:
    """(bucket, its rows of a batch in `to_ipc`'s form), by the values of a column."""
    for bucket, part in partition(events, buckets_of(events.column(column), buckets)):
        yield bucket, to_ipc(part)


def _joined(_: int, sides: dict[str, Iterable[Any]]) -> Iterator[pa.RecordBatch]:
    known = pa.array([item for ids in sides["items"] for item in ids], pa.binary())
    for data in sides["events"]:
        yield _in_catalog(from_ipc(data), known)


class LatestEvents(beam.CombineFn):
    """Batches of events of a bucket of users to one batch: of each user the latest `most` distinct events, in order.

    A bounded top-N: an accumulator is cut down to that whenever it has grown to twice the size, so that what one user
    does, a crawler say, never fills a worker's memory.
    """

    _GROWTH = 200_000  # rows that are taken in before anything is cut

    def __init__(self, most: int):
        self._most = most

    def create_accumulator(self) -> tuple[int, int, list[bytes]]:
        return 0, 0, []  # rows after the last cut, rows since, batches

    def add_input(self, accumulator: tuple[int, int, list[bytes]], data: bytes) -> tuple[int, int, list[bytes]]:
        cut, grown, batches = accumulator
        batches.append(data)
        return self._cut_down((cut, grown + from_ipc(data).num_rows, batches))

    def merge_accumulators(self, accumulators: Iterable[tuple[int, int, list[bytes]]]) -> tuple[int, int, list[bytes]]:
        cut, grown = 0, 0
        batches: list[bytes] = []
        for other_cut, other_grown, other in accumulators:
            cut, grown, batches = self._cut_down((cut, grown + other_cut + other_grown, [*batches, *other]))
        return cut, grown, batches

    def extract_output(self, accumulator: tuple[int, int, list[bytes]]) -> bytes:
        return to_ipc(latest_events(concat(map(from_ipc, accumulator[2])), self._most))

    def _cut_down(self, accumulator: tuple[int, int, list[bytes]]) -> tuple[int, int, list[bytes]]:
        cut, grown, batches = accumulator
        if grown < max(cut, self._GROWTH):
            return accumulator
        rows = latest_events(concat(map(from_ipc, batches)), self._most)
        return rows.num_rows, 0, [to_ipc(rows)]


def latest_events(events: pa.RecordBatch, most: int) -> pa.RecordBatch:
    """Rows of distinct user, time, item and event, ordered by these, of each user the last `most`."""
    codes = [ranks(events.column(i))[1] for i in (0, 1, 2)]
    others = [ranks(c)[1] if pa.types.is_binary(c.type) else np.asarray(c) for c in events.columns[4:]]
    order = np.lexsort((*others[::-1], codes[2], codes[1], np.asarray(events.column(3)), codes[0]))
    columns = [code[order] for code in (*codes, np.asarray(events.column(3)))]
    first = np.ones(len(order), bool)
    first[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    order, users = order[first], columns[0][first]
    _, starts, counts = np.unique(users, return_index=True, return_counts=True)
    from_end = np.repeat(starts + counts, counts) - np.arange(len(users))  # 1 for a user's last row
    return events.take(pa.array(order[from_end <= most]))
