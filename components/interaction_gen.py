"""InteractionGen: the usable log, joined with the catalogue and cut by time, as examples (splits: see `names`).

The log travels as Arrow batches and is shuffled once, by user; no step holds more than a bucket of users, and of each
user no more than their latest `max_user_events`. Everything else is as large as the catalogue, or smaller.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute
import tensorflow as tf
import tfx.v1 as tfx
from apache_beam.pvalue import AsSingleton
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples
from tfx.v1.dsl.components import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter

from components.artifacts import DataBlessing, TextEmbeddings
from components.columnar import buckets_of, concat, from_ipc, partition, ranks, scalars, to_ipc
from components.examples import ExamplesWriter, read_examples, split_files, write_examples, write_split
from components.interactions import Event, Example, Timeline, UserExamples, plan_timeline, popularity
from components.row_validator import row_order
from components.spans import spans_of
from components.text_embedding_gen import (
    TEXT_HASH,
    ReadRows,
    embedding_files,
    item_text,
    text_hash,
)
from schema import names
from schema.errors import InputError

_DAY = 86_400
_BUCKET_BYTES = 8 << 20  # of compressed input; some hundred thousand events
_SIDE_INPUT_ITEMS = 1_000_000  # a larger catalogue is joined by key
SPLITS = (names.TRAIN_SPLIT, names.EVAL_SPLIT, names.CATALOG_SPLIT, names.USERS_SPLIT, names.TIMELINE_SPLIT)
USER_SPLITS = (names.TRAIN_SPLIT, names.EVAL_SPLIT, names.USERS_SPLIT)
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
                "events": sides["events"] | "EventBuckets" >> beam.FlatMap(_bucketed, names.ITEM_ID, buckets),
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


def _bucketed(events: pa.RecordBatch, column: str, buckets: int) -> Iterator[tuple[int, bytes]]:
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


class MakeExamples(beam.DoFn):
    """(bucket, its users' events) to example files of the bucket; yields what the catalogue's rows need.

    Yields under `COUNTS` (item, train examples), under `SLOTS` (item, [snapshots] decayed weights).

    Args:
      weights: event -> weight.
      split: the configuration's `split` section.
      folders: split -> folder, for `USER_SPLITS`.
      buckets: how many there are.
    """

    COUNTS, SLOTS = "counts", "slots"

    def __init__(
        self, weights: Mapping[str, float], split: Mapping[str, Any], folders: Mapping[str, str], buckets: int
    ):
        self._weights = {event.encode(): weight for event, weight in weights.items() if weight > 0}
        self._split, self._folders, self._buckets = dict(split), folders, buckets

    def process(self, element: tuple[int, bytes], timeline: Timeline) -> Iterator[beam.pvalue.TaggedOutput]:
        bucket, data = element
        table = _Bucket(from_ipc(data), self._weights)
        make = UserExamples(timeline, table.weights, self._split)
        counts: Counter[int] = Counter()
        with ExitStack() as stack:
            name = f"data_tfrecord-{bucket:05d}-of-{self._buckets:05d}.gz"
            splits = {
                split: stack.enter_context(_SplitWriter(table, split, f"{folder}/{name}"))
                for split, folder in self._folders.items()
            }
            for user_id, events in table.users():
                learnt = False
                for split, example in make(user_id, events):
                    if split == names.TRAIN_SPLIT:
                        counts[example.targets[0]] += 1
                        learnt = True
                    splits[split].add(user_id, example, learnt)
        for item, count in counts.items():
            yield beam.pvalue.TaggedOutput(self.COUNTS, (table.items[item], count))
        for pair in table.decayed(timeline, self._split["half_life_days"] * _DAY):
            yield beam.pvalue.TaggedOutput(self.SLOTS, pair)


class _Bucket:
    """Events of a bucket of users with items and events as codes, in the order of `latest_events`."""

    def __init__(self, events: pa.RecordBatch, weights: Mapping[bytes, float]):
        self._users, self._user_codes = ranks(events.column(0))
        self.items, self._item_codes = ranks(events.column(1))
        self._events, self._event_codes = ranks(events.column(2))
        self._timestamps = np.asarray(events.column(3))
        self.weights = {code: weights[event] for code, event in enumerate(self._events)}

    def users(self) -> Iterator[tuple[bytes, list[Event]]]:
        """(user id, their events), one user after the other."""
        starts = np.searchsorted(self._user_codes, np.arange(len(self._users) + 1)).tolist()
        columns = (self._timestamps, self._item_codes, self._event_codes)
        for user_id, (start, end) in zip(self._users, pairwise(starts), strict=True):
            yield user_id, list(map(Event, *(column[start:end].tolist() for column in columns)))

    def decayed(self, timeline: Timeline, half_life: float) -> Iterator[tuple[bytes, np.ndarray]]:
        """(item, [snapshots] float64): by slot, weights decayed to its snapshot; the strongest event weighs 1."""
        snapshots = np.array(timeline.snapshots)
        slots = np.searchsorted(snapshots, self._timestamps, side="right")
        weights = np.array([self.weights[code] for code in range(len(self._events))])[self._event_codes]
        weights = weights * 0.5 ** ((snapshots[slots] - self._timestamps) / half_life)
        cells = np.bincount(self._item_codes * len(snapshots) + slots, weights, len(self.items) * len(snapshots))
        yield from zip(self.items, cells.reshape(len(self.items), -1), strict=True)

    def encode(self, split: str, users: list[bytes], examples: list[Example], known: list[bool]) -> pa.RecordBatch:
        """Examples of a split as a batch in the form of tf.Examples."""
        columns = {
            names.USER_ID: _each(users, pa.binary()),
            **self._histories(examples),
            names.TIMESTAMP: _each([e.now for e in examples], pa.int64()),
        }
        if split != names.USERS_SPLIT:
            columns[names.TARGET_ITEM_IDS] = self._item_lists([e.targets for e in examples])
        if split != names.TRAIN_SPLIT:
            columns[names.SEEN_ITEM_IDS] = self._item_lists([e.seen for e in examples])
        if split == names.TRAIN_SPLIT:
            columns[names.WEIGHT] = _each([e.weight for e in examples], pa.float32())
        if split == names.EVAL_SPLIT:
            columns[names.ACTIVITY] = _each([e.activity for e in examples], pa.binary())
        if split == names.USERS_SPLIT:
            trained = [[user] if learnt else [] for user, learnt in zip(users, known, strict=True)]
            columns[names.KNOWN_USER_ID] = pa.array(trained, pa.large_list(pa.binary()))
        return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))

    def _histories(self, examples: list[Example]) -> dict[str, pa.Array]:
        offsets = _offsets([e.history for e in examples])
        latest = [known for e in examples for known in e.latest]
        sessions = np.repeat([e.session for e in examples], np.diff(offsets))
        ago: np.ndarray = sessions - np.array([known.session for known in latest], np.int64)
        return {
            names.HISTORY_ITEM_IDS: _lists(offsets, _decode(self.items, [i for e in examples for i in e.history])),
            names.HISTORY_EVENTS: _lists(offsets, _decode(self._events, [known.event for known in latest])),
            names.HISTORY_TIMESTAMPS: _lists(offsets, pa.array([known.timestamp for known in latest], pa.int64())),
            names.HISTORY_SESSIONS: _lists(offsets, pa.array(ago.astype(np.int64))),
        }

    def _item_lists(self, lists: list[Any]) -> pa.Array:
        return _lists(_offsets(lists), _decode(self.items, [code for values in lists for code in values]))


class _SplitWriter:
    """Examples of one split of a bucket, written some thousands at a time, so that few are in memory."""

    _ROWS = 4_096

    def __init__(self, table: _Bucket, split: str, path: str):
        self._table, self._split = table, split
        self._writer = ExamplesWriter(path)
        self._rows: list[tuple[bytes, Example, bool]] = []

    def add(self, user_id: bytes, example: Example, learnt: bool) -> None:
        """Takes one example; `learnt` says whether the user has train examples."""
        self._rows.append((user_id, example, learnt))
        if len(self._rows) == self._ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            users, examples, learnt = map(list, zip(*self._rows, strict=True))
            self._writer.write(self._table.encode(self._split, users, examples, learnt))
            self._rows.clear()

    def __enter__(self) -> "_SplitWriter":
        return self

    def __exit__(self, error: type[BaseException] | None, *details: object) -> None:
        if error is None:
            self._flush()
        self._writer.__exit__(error, *details)


def _decode(values: list[bytes], codes: Sequence[int]) -> pa.Array:
    return pa.array(values, pa.binary()).take(pa.array(codes, pa.int32()))


def _offsets(lists: list[Any]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum([len(values) for values in lists], dtype=np.int64)]), pa.int64())


def _lists(offsets: pa.Array, values: pa.Array) -> pa.Array:
    return pa.LargeListArray.from_arrays(offsets, values)


def _each(values: list[Any], kind: pa.DataType) -> pa.Array:
    return _lists(pa.array(np.arange(len(values) + 1)), pa.array(values, kind))


class Interactions(beam.PTransform):
    """Usable tables to examples.

    Expands {"behaviors": files, "catalog": rows, "text_embeddings": rows} into a dict split -> rows, for the splits
    that are as large as the catalogue or smaller; those of `USER_SPLITS` are written as files.

    Args:
      weights: event -> weight; events of weight 0 are left out.
      split: the configuration's `split` section as a dict.
      folders: split -> folder, for `USER_SPLITS`.
      items: how many the catalogue has, at most.
      buckets: into how many parts the users are parted.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        split: Mapping[str, Any],
        folders: Mapping[str, str],
        items: int,
        buckets: int,
    ):
        super().__init__()
        self._weights, self._split, self._folders = weights, split, folders
        self._items, self._buckets = items, buckets

    def expand(self, tables: dict[str, beam.PCollection]) -> dict[str, beam.PCollection]:
        weights, split, buckets = self._weights, self._split, self._buckets
        items = (
            tables[names.CATALOG]
            | "ByItem" >> beam.Map(lambda row: (row[names.ITEM_ID][0], row))
            | "RowsOfItem" >> beam.GroupByKey()
            | "Latest" >> beam.MapTuple(lambda _, rows: max(rows, key=_order_of))
        )
        events = {
            "events": tables[names.BEHAVIORS] | ReadEvents(weights),
            "items": items | "ItemIds" >> beam.Map(lambda row: row[names.ITEM_ID][0]),
        } | "KnownItems" >> OfKnownItems(self._items, buckets)
        eval_share = split["eval_share"] if split["by"] == "time" else 0.0
        timeline = AsSingleton(
            events
            | "Hours" >> beam.FlatMap(_hours)
            | "CountHours" >> beam.CombinePerKey(sum)
            | beam.combiners.ToDict()
            | "Plan" >> beam.Map(_plan, eval_share, split["snapshots"])
        )
        made = (
            events
            | "UserBuckets" >> beam.FlatMap(_bucketed, names.USER_ID, buckets)
            | "LatestEvents" >> beam.CombinePerKey(LatestEvents(split["max_user_events"]))
            | "Examples"
            >> beam.ParDo(MakeExamples(weights, split, self._folders, buckets), timeline).with_outputs(
                MakeExamples.COUNTS, MakeExamples.SLOTS
            )
        )
        counts = made[MakeExamples.COUNTS] | "SumCounts" >> beam.CombinePerKey(sum)
        slots = made[MakeExamples.SLOTS] | "SumSlots" >> beam.CombinePerKey(_SumArrays())
        catalog = (
            {"rows": items | _WithEmbeddings(tables["text_embeddings"]), "counts": counts, "slots": slots}
            | "JoinCatalog" >> beam.CoGroupByKey()
            | "CatalogRows" >> beam.FlatMap(_catalog_row, timeline, split["half_life_days"] * _DAY)
        )
        known = [event.encode() for event, weight in weights.items() if weight > 0]
        moments = (
            tables[names.CATALOG].pipeline
            | "Once" >> beam.Create([{names.KNOWN_EVENTS: known}])
            | "Snapshots"
            >> beam.Map(lambda row, plan: {**row, names.SNAPSHOT_TIMESTAMPS: list(plan.snapshots)}, timeline)
        )
        return {names.CATALOG_SPLIT: catalog, names.TIMELINE_SPLIT: moments}


def _hours(events: pa.RecordBatch) -> Iterator[tuple[int, int]]:
    hours, counts = np.unique(np.asarray(events.column(3)) // 3600, return_counts=True)
    yield from zip(hours.tolist(), counts.tolist(), strict=True)


class _SumArrays(beam.CombineFn):
    """Arrays of one shape to their sum."""

    def create_accumulator(self) -> Any:
        return 0.0

    def add_input(self, accumulator: Any, array: np.ndarray) -> Any:
        return accumulator + array

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        return sum(accumulators)

    def extract_output(self, accumulator: Any) -> list[float]:
        return np.asarray(accumulator).tolist()


class _WithEmbeddings(beam.PTransform):
    """(item, row) with the embedding of the row's text."""

    def __init__(self, embeddings: beam.PCollection):
        super().__init__()
        self._embeddings = embeddings

    def expand(self, items: beam.PCollection) -> beam.PCollection:
        return (
            {
                "rows": items | "KeyText" >> beam.Map(lambda row: (text_hash(item_text(row)), row)),
                "embeddings": self._embeddings
                | "KeyHash" >> beam.Map(lambda row: (row[TEXT_HASH][0], row[names.TEXT_EMBEDDING])),
            }
            | "JoinText" >> beam.CoGroupByKey()
            | beam.FlatMapTuple(_with_embedding)
        )


def _order_of(row: dict[str, list[Any]]) -> tuple[str, int]:
    return row_order(row[names.SOURCE_ROW][0].decode())


def _with_embedding(_: bytes, sides: dict[str, Iterable[Any]]) -> Iterator[tuple[bytes, dict[str, list[Any]]]]:
    embeddings = list(sides["embeddings"])
    for row in sides["rows"]:
        yield row[names.ITEM_ID][0], {**row, names.TEXT_EMBEDDING: embeddings[0]}


def _plan(hours: dict[int, int], eval_share: float, snapshots: int) -> Timeline:
    try:
        return plan_timeline(hours, eval_share, snapshots)
    except ValueError as error:
        raise InputError(f"behaviors: {error}.") from error


def _catalog_row(
    element: tuple[bytes, dict[str, Iterable[Any]]], timeline: Timeline, half_life: float
) -> Iterator[dict[str, list[Any]]]:
    item_id, sides = element
    for row in sides["rows"]:
        category = row.get(names.CATEGORY, [b""])[0]
        price = row.get(names.PRICE, [math.nan])[0]
        slots = dict(enumerate(next(iter(sides["slots"]), [])))
        yield {
            names.ITEM_ID: [item_id],
            names.TITLE: row.get(names.TITLE, []),
            names.CATEGORY: [c.strip() for c in category.split(names.CATEGORY_SEPARATOR.encode()) if c.strip()],
            names.PRICE: [price] if 0 <= price < math.inf else [],
            names.TRAIN_COUNT: [sum(sides["counts"])],
            names.POPULARITY: [math.log1p(value) for value in popularity(timeline, slots, half_life)],
            names.TEXT_EMBEDDING: row[names.TEXT_EMBEDDING],
        }


@tfx.dsl.components.component(use_beam=True)
def InteractionGen(
    behaviors: InputArtifact[Examples],
    catalog: InputArtifact[Examples],
    text_embeddings: InputArtifact[TextEmbeddings],
    blessing: InputArtifact[DataBlessing],
    examples: OutputArtifact[Examples],
    events: Parameter[str],
    split: Parameter[str],
    code_version: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes the splits of `SPLITS`. `behaviors` and `catalog` are RowValidator's rows; `events` is JSON, event ->
    weight; `split` is JSON of the configuration's section."""
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    folders = {name: artifact_utils.get_split_uri([examples], name) for name in USER_SPLITS}
    for folder in folders.values():
        tf.io.gfile.makedirs(folder)
    logs, items = all_files(behaviors), all_files(catalog)
    with beam_pipeline as pipeline:
        tables = {
            names.BEHAVIORS: pipeline | "Behaviors" >> beam.Create(logs),
            names.CATALOG: pipeline | "Catalog" >> ReadRows(items),
            "text_embeddings": pipeline | "TextEmbeddings" >> ReadRows(embedding_files(text_embeddings)),
        }
        interactions = Interactions(
            json.loads(events), json.loads(split), folders, count_rows(items), count_buckets(logs)
        )
        for name, rows in (tables | interactions).items():
            _ = rows | f"Write[{name}]" >> write_split(examples, name)
    for folder in folders.values():
        if not tf.io.gfile.glob(f"{folder}/*.gz"):  # a split without rows is a split all the same
            write_examples(f"{folder}/data_tfrecord-00000-of-00001.gz", [])


def all_files(examples: Examples) -> list[str]:
    """The files of all spans, in the spans' order."""
    return [path for span in spans_of(examples) for path in split_files(examples, span.name)]


def count_buckets(files: list[str]) -> int:
    """How many buckets of users a log of these files is parted into."""
    return 1 + sum(tf.io.gfile.stat(path).length for path in files) // _BUCKET_BYTES


def count_rows(files: list[str]) -> int:
    """How many rows files have."""
    return sum(1 for _ in tf.data.TFRecordDataset(files, compression_type="GZIP")) if files else 0
