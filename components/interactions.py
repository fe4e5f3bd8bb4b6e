"""From events to examples, without Beam: the timeline, and what was known of a user before each target event."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from schema import names

Row = dict[str, list[Any]]
_HOUR = 3600
# Upper bounds of the numbers of distinct items before the cut, and the slices that they end.
_ACTIVITY = ((0, b"new"), (4, b"light"), (19, b"regular"))
_MOST_ACTIVE = b"heavy"


class Event(NamedTuple):
    """One usable row of the log. `timestamp` is in seconds since 1970 UTC."""

    timestamp: int
    item_id: bytes
    event: bytes


@dataclass(frozen=True)
class Timeline:
    """The moments that split a log; all in seconds since 1970 UTC.

    Attributes:
      cut: events before it train; events from it on are held out.
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
      eval_share: between 0 and 1.
      snapshots: how many moments popularity is taken at, at least 2.

    Raises:
      ValueError: all events fall into one hour, so that nothing can be held out by time.
    """
    ordered = sorted(hours)
    if len(ordered) < 2:
        raise ValueError("all events fall into one hour; a log has to span at least two to be split by time")
    held_out, allowed = 0, eval_share * sum(hours.values())
    cut_hour = ordered[-1]
    for hour in reversed(ordered[1:]):
        held_out += hours[hour]
        if held_out > allowed:
            break
        cut_hour = hour
    start, cut, end = ordered[0] * _HOUR, cut_hour * _HOUR, (ordered[-1] + 1) * _HOUR
    steps = snapshots - 2
    before = {start + (cut - start) * step // steps for step in range(steps)} if steps else set()
    return Timeline(cut, end, tuple(sorted({*before, cut, end})))


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
    """Examples of one user. See `names` for the splits and features.

    Args:
      timeline: where the log is cut.
      weights: event -> weight in training.
      history_length: latest distinct items that an example's history holds.
    """

    def __init__(self, timeline: Timeline, weights: dict[str, float], history_length: int):
        self._timeline = timeline
        self._weights = {event.encode(): weight for event, weight in weights.items()}
        self._length = history_length

    def __call__(self, user_id: bytes, events: Iterable[Event]) -> Iterator[tuple[str, Row]]:
        """Yields (split, row): a train example for each item's first event before the cut, an eval example where
        the user has new items after it, and a users example of all that is known at the log's end.

        An example's history holds only events from strictly before its timestamp.
        """
        ordered = sorted(set(events))
        before = [e for e in ordered if e.timestamp < self._timeline.cut]
        strongest: dict[bytes, float] = {}
        for e in before:
            strongest[e.item_id] = max(strongest.get(e.item_id, 0.0), self._weights[e.event])
        known: dict[bytes, bytes] = {}  # item -> its latest event, in order of that event
        for timestamp, moment in groupby(before, key=lambda e: e.timestamp):
            together = list(moment)
            for item_id in sorted({e.item_id for e in together} - known.keys()):
                yield (
                    names.TRAIN_SPLIT,
                    {
                        **self._history(user_id, known),
                        names.TIMESTAMP: [timestamp],
                        names.TARGET_ITEM_IDS: [item_id],
                        names.WEIGHT: [strongest[item_id]],
                    },
                )
            _learn(known, together)
        after = ordered[len(before) :]
        new_items = sorted({e.item_id for e in after} - known.keys())
        if new_items:
            yield (
                names.EVAL_SPLIT,
                {
                    **self._history(user_id, known),
                    names.TIMESTAMP: [self._timeline.cut],
                    names.SEEN_ITEM_IDS: sorted(known),
                    names.TARGET_ITEM_IDS: new_items,
                    names.ACTIVITY: [_activity(len(known))],
                },
            )
        _learn(known, after)
        yield names.USERS_SPLIT, {**self._history(user_id, known), names.SEEN_ITEM_IDS: sorted(known)}

    def _history(self, user_id: bytes, known: dict[bytes, bytes]) -> Row:
        latest = list(known.items())[: -self._length - 1 : -1]  # newest first
        return {
            names.USER_ID: [user_id],
            names.HISTORY_ITEM_IDS: [item_id for item_id, _ in latest],
            names.HISTORY_EVENTS: [event for _, event in latest],
        }


def _learn(known: dict[bytes, bytes], events: Iterable[Event]) -> None:
    for e in events:
        known.pop(e.item_id, None)
        known[e.item_id] = e.event


def _activity(items: int) -> bytes:
    return next((name for bound, name in _ACTIVITY if items <= bound), _MOST_ACTIVE)
