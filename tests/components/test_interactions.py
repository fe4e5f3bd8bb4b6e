from hypothesis import given
from hypothesis import strategies as st

from components.interactions import Event, Timeline, UserExamples, plan_timeline, popularity, snapshot_slot
from schema import names

HOUR = 3600
WEIGHTS = {"view": 1.0, "purchase": 4.0}
events = st.builds(
    Event,
    timestamp=st.integers(0, 100),
    item_id=st.sampled_from([b"a", b"b", b"c", b"d", b"e"]),
    event=st.sampled_from([b"view", b"purchase"]),
)


def test_the_cut_holds_out_at_most_the_share():
    timeline = plan_timeline({0: 50, 1: 40, 2: 6, 3: 4}, eval_share=0.1, snapshots=4)
    assert timeline.cut == 2 * HOUR
    assert timeline.end == 4 * HOUR
    assert timeline.snapshots == (0, HOUR, 2 * HOUR, 4 * HOUR)


def test_an_hour_that_is_larger_than_the_share_is_held_out_alone_when_it_is_the_last():
    assert plan_timeline({0: 1, 5: 1}, eval_share=0.1, snapshots=2).cut == 5 * HOUR


@given(st.dictionaries(st.integers(0, 2000), st.integers(1, 50), min_size=2), st.floats(0.01, 0.49), st.integers(2, 40))
def test_a_timeline_is_ascending_and_leaves_events_on_both_sides(hours, share, snapshots):
    timeline = plan_timeline(hours, share, snapshots)
    assert min(hours) * HOUR < timeline.cut < timeline.end
    assert list(timeline.snapshots) == sorted(set(timeline.snapshots))
    assert timeline.snapshots[-1] == timeline.end and timeline.cut in timeline.snapshots
    assert len(timeline.snapshots) <= snapshots


def test_popularity_decays_and_never_counts_what_comes_later():
    timeline = Timeline(cut=200, end=300, snapshots=(100, 200, 300))
    slots = {snapshot_slot(timeline, t): 1.0 for t in (100, 250)}
    # Nothing before 100; the event at 100 counts from 200 on and is halved at 300, where the other one joins it.
    assert popularity(timeline, slots, half_life=100) == [0.0, 1.0, 1.5]


def test_examples_of_one_user_worked_out_by_hand():
    timeline = Timeline(cut=50, end=100, snapshots=(50, 100))
    log = [
        Event(10, b"a", b"view"),
        Event(20, b"a", b"purchase"),
        Event(20, b"b", b"view"),
        Event(30, b"c", b"view"),
        Event(60, b"a", b"view"),
        Event(70, b"d", b"purchase"),
    ]
    made = list(UserExamples(timeline, WEIGHTS, history_length=2)(b"u", log))
    train = [row for split, row in made if split == names.TRAIN_SPLIT]
    assert [
        (r[names.TARGET_ITEM_IDS], r[names.HISTORY_ITEM_IDS], r[names.HISTORY_EVENTS], r[names.WEIGHT]) for r in train
    ] == [
        ([b"a"], [], [], [4.0]),
        ([b"b"], [b"a"], [b"view"], [1.0]),
        ([b"c"], [b"b", b"a"], [b"view", b"purchase"], [1.0]),
    ]
    held_out = next(row for split, row in made if split == names.EVAL_SPLIT)
    assert held_out[names.TARGET_ITEM_IDS] == [b"d"]
    assert held_out[names.HISTORY_ITEM_IDS] == [b"c", b"b"]
    assert held_out[names.SEEN_ITEM_IDS] == [b"a", b"b", b"c"]
    assert held_out[names.ACTIVITY] == [b"light"]
    user = next(row for split, row in made if split == names.USERS_SPLIT)
    assert user[names.HISTORY_ITEM_IDS] == [b"d", b"a"]
    assert user[names.SEEN_ITEM_IDS] == [b"a", b"b", b"c", b"d"]


@given(st.lists(events, min_size=1, max_size=40), st.integers(1, 99), st.integers(1, 5))
def test_no_example_holds_a_fact_from_its_own_time_or_later(log, cut, history_length):
    timeline = Timeline(cut=cut, end=101, snapshots=(cut, 101))
    for split, row in UserExamples(timeline, WEIGHTS, history_length)(b"u", log):
        now = row[names.TIMESTAMP][0] if split != names.USERS_SPLIT else timeline.end
        earlier = {(e.item_id, e.event) for e in log if e.timestamp < now}
        known = set(zip(row[names.HISTORY_ITEM_IDS], row[names.HISTORY_EVENTS], strict=True))
        assert known <= earlier
        assert set(row.get(names.SEEN_ITEM_IDS, [])) <= {item for item, _ in earlier}
        assert len(row[names.HISTORY_ITEM_IDS]) <= history_length
        if split == names.TRAIN_SPLIT:
            assert now < cut
            assert not set(row[names.TARGET_ITEM_IDS]) & {item for item, _ in earlier}
        if split == names.EVAL_SPLIT:
            later = {e.item_id for e in log if e.timestamp >= cut}
            assert set(row[names.TARGET_ITEM_IDS]) == later - {e.item_id for e in log if e.timestamp < cut}


@given(st.lists(events, min_size=1, max_size=30), st.randoms())
def test_the_order_of_the_log_and_repeated_rows_do_not_matter(log, random):
    timeline = Timeline(cut=50, end=101, snapshots=(50, 101))
    shuffled = log + log[:3]
    random.shuffle(shuffled)
    make = UserExamples(timeline, WEIGHTS, 3)
    assert list(make(b"u", log)) == list(make(b"u", shuffled))
