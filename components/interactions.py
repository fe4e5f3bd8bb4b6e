"""From events to examples, without Beam: the timeline, and what was known of a user before each target event."""

import hashlib
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, NamedTuple

from schema import names

_HOUR = 3600
# Upper bounds of the numbers of distinct items before the cut, and the slices that they end.
_ACTIVITY = ((0, b"new"), (4, b"light"), (19, b"regular"))
_MOST_ACTIVE = b"heavy"
_EARLIEST = -(2**62)
BY_TIME, LEAVE_LAST, BY_USER = "time", "leave_last", "user"


class Event(NamedTuple):
    """One usable row of the log. `timestamp` is in seconds since 1970 UTC; items and events are ids or codes."""

    timestamp: int
    item: Any
    event: Any


class Known(NamedTuple):
    """The latest event of a user on an item: `session` counts the user's sessions from 0."""

    event: Any
    timestamp: int
    session: int


class Example(NamedTuple):
    """One example, see `names` for the splits.

    Attributes:
      now: seconds since 1970 UTC; everything else but the targets is from strictly before.
      targets: items.
      weight: of a train example.
      history: items, by their latest event, newest first.
      latest: those latest events.
      session: the user's session at `now`, in the numbers of `Known`.
      seen: all items before `now`, in eval and users examples.
      activity: slice of an eval example.
    """

    now: int
    targets: Sequence[Any]
    weight: float
    history: Sequence[Any]
    latest: Sequence[Known]
    session: int
    seen: Sequence[Any] = ()
    activity: bytes = b""


@dataclass(frozen=True)
class Timeline:
    """The moments that split a log; all in seconds since 1970 UTC.

    Attributes:
      cut: by time, events before it train and events from it on are held out.
      end: after the last event: the "now" of a served model.
      snapshots: ascending moments at which popularity is taken; among them `cut` and, last, `end`.
    """

    cut: int
    end: int
    snapshots: tuple[int, ...]


def plan_timeline(hours: dict[int, int], eval_share: float, snapshots: int) -> Timeline:
    """Cuts a log so that at most `eval_share` of its events are held out, to the hour.

    Args:
      hours: number of events in each hour since 1970.
      eval_share: between 0 and 1; 0 cuts at the end.
      snapshots: how many moments popularity is taken at, at least 2.

    Raises:
      ValueError: all events fall into one hour, so that nothing can be held out by time.
    """
    ordered = sorted(hours)
    if len(ordered) < 2:
        raise ValueError("all events fall into one hour; a log has to span at least two to be split by time")
    start, end = ordered[0] * _HOUR, (ordered[-1] + 1) * _HOUR
    cut = _cut_hour(ordered, hours, eval_share * sum(hours.values())) * _HOUR if eval_share else end
    steps = snapshots - 2
    before = {start + (cut - start) * step // steps for step in range(steps)} if steps else set()
    return Timeline(cut, end, tuple(sorted({*before, cut, end})))


def _cut_hour(ordered: list[int], hours: dict[int, int], allowed: float) -> int:
    held_out, cut = 0, ordered[-1]
    for hour in reversed(ordered[1:]):
        held_out += hours[hour]
        if held_out > allowed:
            break
        cut = hour
    return cut


def snapshot_slot(timeline: Timeline, timestamp: int) -> int:
    """Index of the first snapshot after an event: the first that may count it."""
    return bisect_right(timeline.snapshots, timestamp)


def popularity(timeline: Timeline, slots: dict[int, float], half_life: float) -> list[float]:
    """Recent popularity at each snapshot: weights of earlier events, halved every `half_life` seconds.

    Args:
      slots: by `snapshot_slot`, the sum of weights already decayed to that snapshot.
    """
    values, decayed = [], 0.0
    for slot, moment in enumerate(timeline.snapshots):
        if slot:
            decayed *= 0.5 ** ((moment - timeline.snapshots[slot - 1]) / half_life)
        decayed += slots.get(slot, 0.0)
        values.append(decayed)
    return values


class UserExamples:
    """Examples of one user.

    Args:
      timeline: where the log is cut.
      weights: event -> weight in training.
      split: the configuration's `split` section as a dict.
    """

    def __init__(self, timeline: Timeline, weights: dict[Any, float], split: dict[str, Any]):
        self._timeline = timeline
        self._weights = weights
        self._by, self._share, self._last = split["by"], split["eval_share"], split["leave_last"]
        self._length = split["history_length"]
        self._pause = split["session_minutes"] * 60

    def __call__(self, user_id: bytes, events: Iterable[Event]) -> Iterator[tuple[str, Example]]:
        """Yields (split, example): a train example for each item's first event before the user's cut, an eval example
        where the user has new items from it on, and a users example of all that is known at the log's end.

        An example's history and seen items are from strictly before its `now`. The same event on the same item counts
        once in a session.
        """
        ordered = list(self._sessions(sorted(set(events))))
        cut, trains = self._cut(user_id, ordered)
        strongest: dict[Hashable, float] = {}
        for e, _ in ordered:
            if e.timestamp < cut:
                strongest[e.item] = max(strongest.get(e.item, 0.0), self._weights[e.event])
        known: dict[Any, Known] = {}  # item -> its latest event, in order of that event
        before, session, held_out = _EARLIEST, -1, None
        for now, moment in groupby(ordered, key=lambda pair: pair[0].timestamp):
            together = list(moment)
            if now >= cut and held_out is None:
                held_out = self._held_out(known, ordered, cut, session + (cut - before > self._pause))
            before, session = now, together[0][1]
            if now < cut and trains:
                for item in sorted({e.item for e, _ in together} - known.keys()):
                    yield (
                        names.TRAIN_SPLIT,
                        Example(now, (item,), strongest[item], *self._history(known), session),
                    )
            for e, at in together:
                known.pop(e.item, None)
                known[e.item] = Known(e.event, e.timestamp, at)
        if held_out and held_out.targets:
            yield names.EVAL_SPLIT, held_out
        end = self._timeline.end
        at_end = session + (end - before > self._pause)
        yield names.USERS_SPLIT, Example(end, (), 0.0, *self._history(known), at_end, sorted(known))

    def trains(self, user_id: bytes) -> bool:
        """Whether the user's events train at all; by user, those of held-out users do not."""
        return self._by != BY_USER or user_share(user_id) >= self._share

    def _sessions(self, ordered: list[Event]) -> Iterator[tuple[Event, int]]:
        """(event, number of its session), without repetitions in a session."""
        session, before = 0, None
        met: set[tuple[Any, Any]] = set()
        for e in ordered:
            if before is not None and e.timestamp - before > self._pause:
                session += 1
                met.clear()
            before = e.timestamp
            if (e.item, e.event) not in met:
                met.add((e.item, e.event))
                yield e, session

    def _cut(self, user_id: bytes, ordered: list[tuple[Event, int]]) -> tuple[int, bool]:
        """(moment from which the user's events are held out, whether those before it train)."""
        if self._by == BY_TIME:
            return self._timeline.cut, True
        trains = self.trains(user_id)
        if self._by == BY_USER and trains:
            return self._timeline.end, True
        first: dict[Any, int] = {}
        for e, _ in ordered:
            first.setdefault(e.item, e.timestamp)
        moments = sorted(first.values())
        # A user whose every item would be held out has nothing to be predicted from.
        if len(moments) <= self._last or moments[-self._last] == moments[0]:
            return self._timeline.end, trains
        return moments[-self._last], trains

    def _held_out(self, known: dict[Any, Known], ordered: list[tuple[Event, int]], cut: int, session: int) -> Example:
        targets = sorted({e.item for e, _ in ordered if e.timestamp >= cut} - known.keys())
        return Example(cut, targets, 0.0, *self._history(known), session, sorted(known), _activity(len(known)))

    def _history(self, known: dict[Any, Known]) -> tuple[list[Any], list[Known]]:
        # Two lists of what is there already: a tuple for each entry would keep the garbage collector busy.
        return list(islice(reversed(known), self._length)), list(islice(reversed(known.values()), self._length))


def user_share(user_id: bytes) -> float:
    """A number in [0, 1) that is the user's own, the same everywhere."""
    return int.from_bytes(hashlib.sha256(user_id).digest()[:8], "big") / 2**64


def _activity(items: int) -> bytes:
    return next((name for bound, name in _ACTIVITY if items <= bound), _MOST_ACTIVE)
