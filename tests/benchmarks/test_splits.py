import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.recommenders import PEERS, item_knn, top_lists
from benchmarks.splits import Log, Protocol, measure
from components.interactions import BY_TIME, LEAVE_LAST

ITEMS, USERS = 9, 5


@st.composite
def logs(draw):
    """Events in the order of time, with repetitions and equal moments."""
    events = draw(
        st.lists(
            st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1), st.integers(0, 20)),
            min_size=10,
            max_size=60,
        )
    )
    users, items, timestamps = np.array(sorted(events, key=lambda event: event[2])).T
    return Log(users, items, timestamps, [f"u{i}" for i in range(USERS)], [f"i{i}" for i in range(ITEMS)])


def items_of(log, user):
    return set(log.items[log.users == user].tolist())


@given(logs())
def test_nothing_after_the_cut_is_learned_from_and_what_was_had_is_not_relevant(log):
    before, relevant, moments = Protocol(BY_TIME, 3).part(log)
    cut = log.timestamps[int(len(log.timestamps) * 0.9)]
    assert before.timestamps.max(initial=-1) < cut
    assert len(before.items) == (log.timestamps < cut).sum()
    for user in range(USERS):
        had = items_of(before, user)
        later = items_of(log.take(np.flatnonzero(log.timestamps >= cut)), user)
        assert relevant.get(user, set()) == (later - had if had else set())
    assert set(moments) == set(relevant) and not any(moments.values())


@given(logs(), st.integers(1, 3))
def test_each_users_last_events_are_held_out_and_no_others(log, last):
    before, relevant, moments = Protocol(LEAVE_LAST, 3, last).part(log)
    for user in range(USERS):
        rows = np.flatnonzero(log.users == user)
        kept = rows if len(rows) <= last else rows[:-last]
        assert np.flatnonzero(before.users == user).size == len(kept)
        assert before.items[before.users == user].tolist() == log.items[kept].tolist()
        had = set(log.items[kept].tolist())
        later = [row for row in rows[len(kept) :].tolist() if log.items[row] not in had] if had else []
        assert relevant.get(user, set()) == {int(log.items[row]) for row in later}
        assert moments.get(user) == (log.timestamps[later[0]] if later else None)


@given(st.data(), st.integers(1, 5))
def test_recall_and_ndcg_are_those_of_the_definition(data, k):
    users = range(4)
    lists = {user: np.array(data.draw(st.permutations(range(ITEMS)))[:k]) for user in users}
    relevant = {user: data.draw(st.sets(st.integers(0, ITEMS - 1), min_size=1)) for user in users}
    recall = gain = 0.0
    for user in users:
        hits = [int(item) in relevant[user] for item in lists[user]]
        best = min(k, len(relevant[user]))
        recall += sum(hits) / best
        ideal = sum(1 / math.log2(place + 2) for place in range(best))
        gain += sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit) / ideal
    assert measure(lists, relevant, k) == pytest.approx((recall / 4, gain / 4))


def test_a_user_without_a_list_counts_as_one_of_whom_nothing_is_known():
    relevant = {0: {1}, 1: {2}}
    assert measure({0: np.array([1, 3])}, relevant, 2) == pytest.approx((0.5, 0.5))


@given(logs(), st.integers(1, ITEMS - 1))
def test_lists_hold_the_best_of_what_a_user_has_not_had(log, k):
    scores = item_knn(log, neighbours=ITEMS, shrink=1.0)
    lists = top_lists(log, scores, np.arange(USERS), k)
    for user, row in enumerate(scores(np.arange(USERS)).astype(float)):
        free = set(range(ITEMS)) - items_of(log, user)
        shown = lists[user].tolist()
        of_free = shown[: len(free)]
        assert set(of_free) <= free and len(set(shown)) == k
        assert row[of_free].tolist() == pytest.approx(sorted((row[i] for i in free), reverse=True)[: len(of_free)])


def test_each_peer_tries_as_many_settings_as_its_space_has_or_the_budget_allows():
    for peer in PEERS.values():
        size = math.prod(len(values) for values in peer.space.values())
        trials = peer.trials(6)
        assert len(trials) == min(6, size) == len({str(trial) for trial in trials})
        assert trials == peer.trials(6)
