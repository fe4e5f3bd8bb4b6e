"""A bucket of users' events to example files: what `interactions.py` says of each user, encoded by columns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from components.columnar import from_ipc, ranks
from components.events import TRAIT_SEPARATOR
from components.examples import ExamplesWriter
from components.interactions import Event, Example, Timeline, UserExamples
from schema import names

DAY = 86_400
USER_SPLITS = (names.TRAIN_SPLIT, names.WINDOWS_SPLIT, names.EVAL_SPLIT, names.USERS_SPLIT)


class MakeExamples(beam.DoFn):
    """(bucket, its users' events and profiles) to example files of the bucket; yields what the catalogue's rows need:
    (item, [half-lives + 2, snapshots]: decayed weights, the sum of its comments' sentiments, and their number).

    Args:
      weights: event -> weight.
      split: the configuration's `split` section.
      folders: split -> folder, for `USER_SPLITS`.
      buckets: how many there are.
    """

    EVENTS, PROFILES = "events", "profiles"

    def __init__(
        self, weights: Mapping[str, float], split: Mapping[str, Any], folders: Mapping[str, str], buckets: int
    ):
        self._weights = {event.encode(): weight for event, weight in weights.items() if weight > 0}
        self._split, self._folders, self._buckets = dict(split), folders, buckets

    def process(
        self, element: tuple[int, dict[str, Iterable[Any]]], timeline: Timeline
    ) -> Iterator[tuple[bytes, np.ndarray]]:
        bucket, sides = element
        for data in sides[self.EVENTS]:  # one, or none where the bucket has profiles only
            table = _Bucket(from_ipc(data), self._weights, latest_profiles(sides[self.PROFILES]))
            yield from self._write(bucket, table, timeline)

    def _write(self, bucket: int, table: "_Bucket", timeline: Timeline) -> Iterator[tuple[bytes, np.ndarray]]:
        make = UserExamples(timeline, table.weights, self._split)
        with ExitStack() as stack:
            name = f"data_tfrecord-{bucket:05d}-of-{self._buckets:05d}.gz"
            splits = {
                split: stack.enter_context(_SplitWriter(table, split, f"{folder}/{name}"))
                for split, folder in self._folders.items()
            }
            for user_id, events in table.users():
                for split, example in make(user_id, events):
                    splits[split].add(user_id, example)
        half_lives = [days * DAY for days in self._split["half_lives_days"]]
        yield from table.decayed(timeline, half_lives)


def latest_profiles(profiles: Iterable[tuple[bytes, Any, list[bytes]]]) -> dict[bytes, list[bytes]]:
    """User id -> traits, of (user id, order, traits): the last counts."""
    return {user: traits for user, _, traits in sorted(profiles)}


class _Bucket:
    """Events of a bucket of users with items, events and contexts as codes, in the order of `latest_events`."""

    def __init__(self, events: pa.RecordBatch, weights: Mapping[bytes, float], profiles: Mapping[bytes, list[bytes]]):
        self._profiles = profiles
        contexts, self._context_codes = ranks(events.column(4))
        self._contexts = [[trait for trait in context.split(TRAIT_SEPARATOR) if trait] for context in contexts]
        self._sentiments = np.asarray(events.column(5))
        self._factors = 1.0 + np.nan_to_num(self._sentiments)
        self._users, self._user_codes = ranks(events.column(0))
        self.items, self._item_codes = ranks(events.column(1))
        self._events, self._event_codes = ranks(events.column(2))
        self._timestamps = np.asarray(events.column(3))
        self.weights = {code: weights[event] for code, event in enumerate(self._events)}

    def users(self) -> Iterator[tuple[bytes, list[Event]]]:
        """(user id, their events), one user after the other."""
        starts = np.searchsorted(self._user_codes, np.arange(len(self._users) + 1)).tolist()
        columns = (self._timestamps, self._item_codes, self._event_codes, self._context_codes, self._factors)
        for user_id, (start, end) in zip(self._users, pairwise(starts), strict=True):
            yield user_id, list(map(Event, *(column[start:end].tolist() for column in columns)))

    def decayed(self, timeline: Timeline, half_lives: Sequence[float]) -> Iterator[tuple[bytes, np.ndarray]]:
        """(item, [half-lives + 2, snapshots] float64): see `MakeExamples`; by slot, weights decayed to its snapshot."""
        snapshots = np.array(timeline.snapshots)
        slots = np.searchsorted(snapshots, self._timestamps, side="right")
        weights = np.array([self.weights[code] for code in range(len(self._events))])[self._event_codes] * self._factors
        ages, places = snapshots[slots] - self._timestamps, self._item_codes * len(snapshots) + slots
        size = len(self.items) * len(snapshots)
        cells = [np.bincount(places, weights * 0.5 ** (ages / half_life), size) for half_life in half_lives]
        cells += [np.bincount(places, said, size) for said in (self._factors - 1.0, ~np.isnan(self._sentiments))]
        by_item = np.stack(cells).reshape(len(cells), len(self.items), len(snapshots)).swapaxes(0, 1)
        yield from zip(self.items, by_item, strict=True)

    def encode(self, split: str, users: list[bytes], examples: list[Example]) -> pa.RecordBatch:
        """Examples of a split as a batch in the form of tf.Examples."""
        columns = {
            names.USER_ID: _each(users, pa.binary()),
            names.TRAITS: self._traits(users, examples),
            **self._histories(examples),
            names.TIMESTAMP: _each([e.now for e in examples], pa.int64()),
        }
        if split != names.USERS_SPLIT:
            columns[names.TARGET_ITEM_IDS] = self._item_lists([e.targets for e in examples])
        if split != names.TRAIN_SPLIT:
            columns[names.SEEN_ITEM_IDS] = self._item_lists([e.seen for e in examples])
        if split == names.TRAIN_SPLIT:
            columns[names.WEIGHT] = _each([e.weight for e in examples], pa.float32())
        if split in (names.TRAIN_SPLIT, names.WINDOWS_SPLIT):
            columns[names.WINDOW] = _each([e.window for e in examples], pa.int64())
        if split == names.WINDOWS_SPLIT:
            codes = [code for e in examples for code in e.target_events]
            columns[names.TARGET_EVENTS] = _lists(
                _offsets([e.target_events for e in examples]), _decode(self._events, codes)
            )
        if split == names.EVAL_SPLIT:
            columns[names.ACTIVITY] = _each([e.activity for e in examples], pa.binary())
            joined = names.EVENT_SEPARATOR.encode().join
            sets = [[joined(self._events[code] for code in codes) for codes in e.target_events] for e in examples]
            columns[names.TARGET_EVENT_SETS] = pa.array(sets, pa.large_list(pa.binary()))
        if split == names.USERS_SPLIT:
            offsets = _offsets([e.firsts for e in examples])
            firsts = np.array([first for e in examples for first in e.firsts], np.int64).reshape(-1, 2)
            columns[names.SEEN_TIMESTAMPS] = _lists(offsets, pa.array(firsts[:, 0]))
            columns[names.SEEN_WINDOWS] = _lists(offsets, pa.array(firsts[:, 1]))
        return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))

    def _traits(self, users: list[bytes], examples: list[Example]) -> pa.Array:
        """The users' profiles and, where there is a target event, its context."""
        contexts = ([] if e.context is None else self._contexts[e.context] for e in examples)
        both = [[*self._profiles.get(u, ()), *context] for u, context in zip(users, contexts, strict=True)]
        return pa.array(both, pa.large_list(pa.binary()))

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
        self._rows: list[tuple[bytes, Example]] = []

    def add(self, user_id: bytes, example: Example) -> None:
        """Takes one example."""
        self._rows.append((user_id, example))
        if len(self._rows) == self._ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            users, examples = map(list, zip(*self._rows, strict=True))
            self._writer.write(self._table.encode(self._split, users, examples))
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
