"""From events to examples, without Beam: the timeline, and what was known of a user before each target event."""

import hashlib
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, NamedTuple

from schema import names

_HOUR = 3600
# Upper bounds of the numbers of distinct items before the cut, and the slices that they end.
_ACTIVITY = ((0, b"new"), (4, b"light"), (19, b"regular"))
_MOST_ACTIVE = b"heavy"
ACTIVITY_BANDS = tuple(name.decode() for name in (*(name for _, name in _ACTIVITY), _MOST_ACTIVE))
_EARLIEST = -(2**62)
BY_TIME, LEAVE_LAST, BY_USER = "time", "leave_last", "user"


class Event(NamedTuple):
    """One usable row of the log. `timestamp` is in seconds since 1970 UTC; items and events are ids or codes, and so is
    the context; `factor` is what the event's weight is multiplied by, for what its comment says."""

    timestamp: int
    item: Any
    event: Any
    context: Any = 0
    factor: float = 1.0


class Known(NamedTuple):
    """The latest event of a user on an item: `session` counts the user's sessions from 0."""

    event: Any
    timestamp: int
    session: int


class Example(NamedTuple):
    """One example, see `names` for the splits.

    Attributes:
      now: seconds since 1970 UTC; everything else but the targets is from strictly before.
      targets: items; in a window one for each of `target_events`.
      history: items, by their latest event, newest first.
      latest: those latest events.
      session: the user's session at `now`, in the numbers of `Known`.
      weight: of a train example.
      window: how many ranking windows have begun for the user by `now`, see `UserExamples`.
      target_events: in a window the event on each target, in an eval example the events.
      seen: all items before `now`, but in train examples.
      firsts: in a users example, for each of `seen` when its first event was, and `window` as of then.
      activity: slice of an eval example.
      context: of the target's event, in a train example.
    """

    now: int
    targets: Sequence[Any]
    history: Sequence[Any]
    latest: Sequence[Known]
    session: int
    weight: float = 0.0
    window: int = 0
    target_events: Sequence[Any] = ()
    seen: Sequence[Any] = ()
    firsts: Sequence[tuple[int, int]] = ()
    activity: bytes = b""
    context: Any = None


@dataclass(frozen=True)
class Timeline:
    """The moments that split a log; all in seconds since 1970 UTC.

    Attributes:
      cut: by time, events before it train and events from it on are held out.
      end: after the last event: the "now" of a served model.
      snapshots: ascending moments at which popularity is taken; among them `windows`, `cut` and, last, `end`.
      windows: by time, ascending starts of the ranking windows; each ends where the next begins, the last at `cut`.
      since: what an earlier training has learned from needs no examples: none is made for a moment before this one.
    """

    cut: int
    end: int
    snapshots: tuple[int, ...]
    windows: tuple[int, ...] = ()
    since: int = _EARLIEST


def plan_timeline(hours: dict[int, int], eval_share: float, snapshots: int, windows: int = 0) -> Timeline:
    """Cuts a log so that at most `eval_share` of its events are held out, to the hour.

    Ranking windows are as long as the time that is held out, and there are no more of them than fit into the second
    half of the time before the cut: the first half is what the first of them is predicted from.

    Args:
      hours: number of events in each hour since 1970.
      eval_share: between 0 and 1; 0 cuts at the end.
      snapshots: how many moments popularity is taken at, at least 2.
      windows: how many ranking windows there are, at most.

    Raises:
      ValueError: all events fall into one hour, so that nothing can be held out by time.
    """
    ordered = sorted(hours)
    if len(ordered) < 2:
        raise ValueError("all events fall into one hour; a log has to span at least two to be split by time")
    start, end = ordered[0] * _HOUR, (ordered[-1] + 1) * _HOUR
    cut = _cut_hour(ordered, hours, eval_share * sum(hours.values())) * _HOUR if eval_share else end
    length = end - cut
    fitting = min(windows, (cut - start) // (2 * length)) if length else 0
    starts = tuple(cut - length * (fitting - i) for i in range(fitting))
    steps = snapshots - 2
    before = {start + (cut - start) * step // steps for step in range(steps)} if steps else set()
    return Timeline(cut, end, tuple(sorted({*before, *starts, cut, end})), starts)


def _cut_hour(ordered: list[int], hours: dict[int, int], allowed: float) -> int:
    held_out, cut = 0, ordered[-1]
    for hour in reversed(ordered[1:]):
        held_out += hours[hour]
        if held_out > allowed:
            break
        cut = hour
    return cut


def going_on(timeline: Timeline, learned: Mapping[str, int], again: int) -> Timeline:
    """The timeline for a training that goes on from an earlier one.

    Args:
      timeline: of the log as it is now.
      learned: towers (`names`) -> seconds since 1970 UTC; the earlier training of these has seen what is before. Empty
        where anything is to be trained from nothing, which takes the whole log, as it does where an earlier training
        has seen what is held out now.
      again: seconds before that are learned once more.

    Returns:
      A timeline whose last ranking window begins no earlier than what its towers have seen ends. A day of few events
      moves the cut by less than the end, and the window would begin before.
    """
    ends = {names.WINDOWS_TOWERS: timeline.cut, names.CUT_TOWERS: timeline.cut, names.NOW_TOWERS: timeline.end}
    if not learned or any(moment > ends[towers] for towers, moment in learned.items()):
        return timeline
    timeline, start = replace(timeline, since=min(learned.values()) - again), learned.get(names.WINDOWS_TOWERS)
    if start is None or not timeline.windows or start <= timeline.windows[-1]:
        return timeline
    *windows, last = timeline.windows
    snapshots = sorted({*timeline.snapshots, start} - {last})
    return replace(timeline, windows=(*windows, start), snapshots=tuple(snapshots))


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
        self._windows = split["windows"]
        self._length = split["history_length"]
        self._pause = split["session_minutes"] * 60

    def __call__(self, user_id: bytes, events: Iterable[Event]) -> Iterator[tuple[str, Example]]:
        """Yields (split, example): a train example for each item's first event, an eval example where the user has new
        items from their cut on, an example for each window before which the user has a history, and a users example of
        all that is known at the log's end.

        Windows are times before the cut that are predicted from what lies before them, as the eval example is; by time
        they are the timeline's, else each holds as many new items of the user as are held out. They are numbered from
        1 and end with the number of the configuration, however many of them there are; the held-out time is one more.
        `window` of a train example is the one that its target falls into, or 0; of a user who does not train it is the
        held-out time for all, and so nothing of theirs is learned before the model has been evaluated.

        Nothing but the eval and the users example is made for a moment before the timeline's `since`.

        An example's history and seen items are from strictly before its `now`. The same event on the same item counts
        once in a session. Items met at the same moment share the weight of a train example, by the root of their
        number: a basket of a hundred does not count a hundred times.
        """
        ordered = list(self._sessions(sorted(set(events))))
        starts, trains = self._starts(user_id, ordered)
        *_, cut = starts
        # Of a train example from before the cut only: nothing that is held out may be seen in what is not.
        strongest: dict[tuple[bool, Hashable], float] = defaultdict(float)
        for e, _ in ordered:
            for is_late in (True,) if e.timestamp >= cut else (False, True):
                strongest[is_late, e.item] = max(strongest[is_late, e.item], self._weights[e.event] * e.factor)
        known: dict[Any, Known] = {}  # item -> its latest event, in order of that event
        firsts: dict[Any, tuple[int, int]] = {}
        before, session, begun = _EARLIEST, -1, 0
        held_out: list[tuple[str, Example]] = []

        def session_at(moment: int) -> int:
            return session + (moment - before > self._pause)

        for now, moment in groupby(ordered, key=lambda pair: pair[0].timestamp):
            together = list(moment)
            while begun < len(starts) and starts[begun] <= now:
                held_out += self._held_out(known, ordered, starts, begun, session_at(starts[begun]))
                begun += 1
            before, session = now, together[0][1]
            new = sorted({e.item for e, _ in together} - known.keys())
            is_late, window = (now >= cut, begun) if trains else (True, len(starts))
            contexts = {e.item: e.context for e, _ in reversed(together)}
            firsts |= dict.fromkeys(new, (now, window))
            for item in new if now >= self._timeline.since else ():
                weight, state = strongest[is_late, item] / math.sqrt(len(new)), self._history(known)
                example = Example(now, (item,), *state, session, weight, window, context=contexts[item])
                yield names.TRAIN_SPLIT, example
            for e, at in together:
                known.pop(e.item, None)
                known[e.item] = Known(e.event, e.timestamp, at)
        for index in range(begun, len(starts)):
            held_out += self._held_out(known, ordered, starts, index, session_at(starts[index]))
        for split, example in held_out:
            if trains or split == names.EVAL_SPLIT:
                yield split, example
        end, seen = self._timeline.end, sorted(known)
        state = self._history(known)
        yield (
            names.USERS_SPLIT,
            Example(end, (), *state, session_at(end), seen=seen, firsts=[firsts[item] for item in seen]),
        )

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

    def _starts(self, user_id: bytes, ordered: list[tuple[Event, int]]) -> tuple[list[int], bool]:
        """(ascending starts of the windows and, last, the moment from which the user's events are held out; whether
        those before it train). A window that the user has no events for starts where the next one does."""
        if self._by == BY_TIME:
            missing = self._windows - len(self._timeline.windows)
            starts = [*self._timeline.windows, self._timeline.cut]
            return [starts[0]] * missing + starts, True
        trains = self.trains(user_id)
        first: dict[Any, int] = {}
        for e, _ in ordered:
            first.setdefault(e.item, e.timestamp)
        moments = sorted(first.values())
        starts = [] if self._by == LEAVE_LAST or not trains else [self._timeline.end]
        while len(starts) <= self._windows:
            left = len(moments) - self._last * (len(starts) + (self._by == LEAVE_LAST or not trains))
            # A user whose every item would be held out has nothing to be predicted from.
            if left <= 0 or moments[left] == moments[0]:
                break
            starts.insert(0, moments[left])
        starts = starts or [self._timeline.end]
        return [starts[0]] * (self._windows + 1 - len(starts)) + starts, trains

    def _held_out(
        self, known: dict[Any, Known], ordered: list[tuple[Event, int]], starts: list[int], index: int, session: int
    ) -> Iterator[tuple[str, Example]]:
        """The examples of a window, made when nothing after its start is known yet. The last is the held-out time."""
        start, end = starts[index], starts[index + 1] if index + 1 < len(starts) else math.inf
        state = self._history(known)
        inside = {(e.item, e.event) for e, _ in ordered if start <= e.timestamp < end and e.item not in known}
        targets, window = sorted(inside), index + 1
        if known and self._timeline.since <= start < end:
            items, events = [item for item, _ in targets], [event for _, event in targets]
            seen = sorted(known)
            yield (
                names.WINDOWS_SPLIT,
                Example(start, items, *state, session, window=window, target_events=events, seen=seen),
            )
        if end == math.inf and targets:
            by_item = {item: [event for _, event in pairs] for item, pairs in groupby(targets, key=itemgetter(0))}
            sets, activity = list(by_item.values()), _activity(len(known))
            yield (
                names.EVAL_SPLIT,
                Example(
                    start, list(by_item), *state, session, target_events=sets, seen=sorted(known), activity=activity
                ),
            )

    def _history(self, known: dict[Any, Known]) -> tuple[list[Any], list[Known]]:
        # Two lists of what is there already: a tuple for each entry would keep the garbage collector busy.
        return list(islice(reversed(known), self._length)), list(islice(reversed(known.values()), self._length))


def user_share(user_id: bytes) -> float:
    """A number in [0, 1) that is the user's own, the same everywhere."""
    return int.from_bytes(hashlib.sha256(user_id).digest()[:8], "big") / 2**64


def _activity(items: int) -> bytes:
    return next((name for bound, name in _ACTIVITY if items <= bound), _MOST_ACTIVE)
