"""The log's events as Arrow batches: read, joined with the catalogue, shuffled by user, and bounded for each user."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute
from apache_beam.pvalue import AsSingleton

from components.columnar import buckets_of, concat, from_ipc, partition, ranks, scalars, to_ipc
from components.examples import read_examples
from schema import names

_SIDE_INPUT_ITEMS = 1_000_000  # a larger catalogue is joined by key
_EVENT_COLUMNS = {names.USER_ID: bytes, names.ITEM_ID: bytes, names.EVENT: bytes, names.TIMESTAMP: int}


class ReadEvents(beam.PTransform):
    """Files of behaviors to batches of scalar columns, of the rows that have a user, an item, a time and a weight."""

    def __init__(self, weights: Mapping[str, float]):
        super().__init__()
        self._known = [event.encode() for event, weight in weights.items() if weight > 0]

    def expand(self, files: beam.PCollection) -> beam.PCollection:
        known = self._known
        return files | beam.Reshuffle() | beam.FlatMap(_events_of, known)


def _events_of(path: str, known: list[bytes]) -> Iterator[pa.RecordBatch]:
    for batch in read_examples([path], _EVENT_COLUMNS):
        yield usable_events(batch, known)


def usable_events(batch: pa.RecordBatch, known: list[bytes]) -> pa.RecordBatch:
    """The rows of a batch of behaviors that InteractionGen takes, as scalar columns."""
    columns = scalars(batch)
    rows = pa.RecordBatch.from_arrays([columns[name] for name in _EVENT_COLUMNS], list(_EVENT_COLUMNS))
    usable = pa.compute.is_in(rows.column(2), pa.array(known, pa.binary()))
    for column in (0, 1, 3):
        usable = pa.compute.and_(usable, rows.column(column).is_valid())
    return rows.filter(usable)


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
    """Distinct rows ordered by user, time, item and event, of each user the last `most`."""
    codes = [ranks(events.column(i))[1] for i in (0, 1, 2)]
    order = np.lexsort((codes[2], codes[1], np.asarray(events.column(3)), codes[0]))
    columns = [code[order] for code in (*codes, np.asarray(events.column(3)))]
    first = np.ones(len(order), bool)
    first[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    order, users = order[first], columns[0][first]
    _, starts, counts = np.unique(users, return_index=True, return_counts=True)
    from_end = np.repeat(starts + counts, counts) - np.arange(len(users))  # 1 for a user's last row
    return events.take(pa.array(order[from_end <= most]))
