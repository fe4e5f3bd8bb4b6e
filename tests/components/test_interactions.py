import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from components.example_maker import USER_SPLITS
from components.interactions import Event, Timeline, UserExamples, going_on, plan_timeline, popularity, snapshot_slot
from schema import names

HOUR = 3600
WEIGHTS = {b"view": 1.0, b"purchase": 4.0}
events = st.builds(
    Event,
    timestamp=st.integers(0, 100),
    item=st.sampled_from([b"a", b"b", b"c", b"d", b"e"]),
    event=st.sampled_from([b"view", b"purchase"]),
    context=st.just(0),
    factor=st.just(1.0),
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


def split(**changes):
    hand = {"by": "time", "eval_share": 0.3, "leave_last": 1, "windows": 0, "history_length": 2}
    return {**hand, "session_minutes": 5 / 60, **changes}


def made_of(user_id, log, timeline, **changes):
    """Split -> examples."""
    made = {name: [] for name in USER_SPLITS}
    for name, example in UserExamples(timeline, WEIGHTS, split(**changes))(user_id, log):
        made[name].append(example)
    return made


TIMELINE = Timeline(cut=50, end=100, snapshots=(50, 100))
LOG = [
    Event(10, b"a", b"view"),
    Event(20, b"a", b"purchase"),
    Event(20, b"b", b"view"),
    Event(30, b"c", b"view"),
    Event(60, b"a", b"view"),
    Event(70, b"d", b"purchase"),
]


def test_examples_of_one_user_worked_out_by_hand():
    made = made_of(b"u", LOG, TIMELINE)
    train = made[names.TRAIN_SPLIT]
    assert [(e.now, e.targets, e.history, [k.event for k in e.latest], e.weight) for e in train] == [
        (10, (b"a",), [], [], 4.0),
        (20, (b"b",), [b"a"], [b"view"], 1.0),
        (30, (b"c",), [b"b", b"a"], [b"view", b"purchase"], 1.0),
        (70, (b"d",), [b"a", b"c"], [b"view", b"view"], 4.0),
    ]
    assert [e.window for e in train] == [0, 0, 0, 1]
    assert [k.timestamp for k in train[2].latest] == [20, 20]
    assert [train[2].session - k.session for k in train[2].latest] == [1, 1]  # ten seconds are a pause here
    (held_out,) = made[names.EVAL_SPLIT]
    assert (held_out.now, held_out.targets, held_out.history) == (50, [b"d"], [b"c", b"b"])
    (window,) = made[names.WINDOWS_SPLIT]
    assert (window.now, window.targets, window.target_events, window.window) == (50, [b"d"], [b"purchase"], 1)
    assert (held_out.seen, held_out.activity) == ([b"a", b"b", b"c"], b"light")
    (user,) = made[names.USERS_SPLIT]
    assert (user.history, user.seen) == ([b"d", b"a"], [b"a", b"b", b"c", b"d"])


def test_windows_before_the_cut_are_predicted_as_the_held_out_time_is():
    timeline = Timeline(cut=50, end=100, snapshots=(15, 25, 50, 100), windows=(15, 25))
    made = made_of(b"u", LOG, timeline, windows=3)
    told = [(w.window, w.now, w.targets, w.target_events, w.history, w.seen) for w in made[names.WINDOWS_SPLIT]]
    # Of three windows the log is long enough for the last two: the first begins where the second does, and is empty.
    assert told == [
        (2, 15, [b"b"], [b"view"], [b"a"], [b"a"]),
        (3, 25, [b"c"], [b"view"], [b"b", b"a"], [b"a", b"b"]),
        (4, 50, [b"d"], [b"purchase"], [b"c", b"b"], [b"a", b"b", b"c"]),
    ]
    assert [e.window for e in made[names.TRAIN_SPLIT]] == [0, 2, 3, 4]


def test_leave_last_has_windows_of_each_user_s_own():
    log = [Event(t, bytes([97 + t]), b"view") for t in range(7)]
    made = made_of(b"u", log, TIMELINE, by="leave_last", leave_last=2, windows=2)
    assert [(w.window, w.now, w.targets) for w in made[names.WINDOWS_SPLIT]] == [
        (1, 1, [b"b", b"c"]),
        (2, 3, [b"d", b"e"]),
        (3, 5, [b"f", b"g"]),
    ]
    (held_out,) = made[names.EVAL_SPLIT]
    assert held_out.targets == [b"f", b"g"]
    assert [(e.targets, e.window) for e in made[names.TRAIN_SPLIT]] == [
        ((bytes([97 + n]),), window) for n, window in enumerate((0, 1, 1, 2, 2, 3, 3))
    ]


def test_a_basket_shares_its_weight_by_the_root_of_its_size():
    log = [Event(1, item, b"view") for item in (b"a", b"b", b"c", b"d")]
    assert [e.weight for e in made_of(b"u", log, TIMELINE)[names.TRAIN_SPLIT]] == [0.5] * 4


def test_what_is_held_out_weighs_nothing_before_the_cut():
    log = [Event(10, b"a", b"view"), Event(60, b"a", b"purchase")]
    assert [e.weight for e in made_of(b"u", log, TIMELINE)[names.TRAIN_SPLIT]] == [1.0]


def test_windows_are_as_long_as_the_held_out_time_and_leave_half_the_log_before_them():
    hours = dict.fromkeys(range(100), 1)
    timeline = plan_timeline(hours, eval_share=0.1, snapshots=2, windows=6)
    assert timeline.cut == 90 * HOUR
    assert timeline.windows == (50 * HOUR, 60 * HOUR, 70 * HOUR, 80 * HOUR)  # of six, four fit
    assert timeline.snapshots == (*timeline.windows, 90 * HOUR, 100 * HOUR)
    assert plan_timeline(hours, 0.1, 2, windows=2).windows == (70 * HOUR, 80 * HOUR)


def test_sessions_end_with_a_pause_and_hold_an_event_once():
    log = [Event(t, b"a", b"view") for t in (1, 3, 5)] + [Event(4, b"b", b"view"), Event(20, b"a", b"view")]
    made = made_of(b"u", log, TIMELINE)
    (user,) = made[names.USERS_SPLIT]
    assert user.history == [b"a", b"b"]
    assert [(k.timestamp, k.session) for k in user.latest] == [(20, 1), (4, 0)]
    assert user.session == 2  # the end is a pause later


def test_leave_last_holds_out_each_user_s_last_new_items():
    made = made_of(b"u", LOG, TIMELINE, by="leave_last", leave_last=2)
    (held_out,) = made[names.EVAL_SPLIT]
    assert (held_out.now, held_out.targets) == (30, [b"c", b"d"])
    assert [(e.targets, e.window) for e in made[names.TRAIN_SPLIT]] == [
        ((b"a",), 0),
        ((b"b",), 0),
        ((b"c",), 1),
        ((b"d",), 1),
    ]
    all_new = made_of(b"u", LOG[:2], TIMELINE, by="leave_last")
    assert not all_new[names.EVAL_SPLIT] and [e.window for e in all_new[names.TRAIN_SPLIT]] == [0]


def test_by_user_some_users_never_train():
    trained, held_out = set(), set()
    for n in range(400):
        user_id = b"u%d" % n
        made = made_of(user_id, LOG, TIMELINE, by="user", eval_share=0.25, windows=1)
        (user,) = made[names.USERS_SPLIT]
        windows = [*(e.window for e in made[names.TRAIN_SPLIT]), *(window for _, window in user.firsts)]
        trained |= {user_id} if min(windows) < 2 else set()
        held_out |= {user_id} if made[names.EVAL_SPLIT] else set()
    assert not trained & held_out and len(trained | held_out) == 400
    assert 0.15 < len(held_out) / 400 < 0.35


@given(
    st.lists(events, min_size=1, max_size=40),
    st.integers(1, 99),
    st.integers(1, 5),
    st.sampled_from(["time", "leave_last", "user"]),
    st.integers(1, 3),
    st.integers(0, 3),
    st.floats(0, 0.2),
)
def test_no_example_holds_a_fact_from_its_own_time_or_later(log, cut, history_length, by, last, windows, minutes):
    timeline = Timeline(cut=cut, end=101, snapshots=(cut, 101), windows=(cut // 2,) if cut > 1 and windows else ())
    changes = {"by": by, "leave_last": last, "history_length": history_length, "session_minutes": minutes}
    changes["windows"] = windows
    made = made_of(b"u", log, timeline, **changes)
    for name, examples in made.items():
        for e in examples:
            earlier = [known for known in log if known.timestamp < e.now]
            facts = {(known.item, known.event, known.timestamp) for known in earlier}
            assert {(i, k.event, k.timestamp) for i, k in zip(e.history, e.latest, strict=True)} <= facts
            assert set(e.seen) <= {known.item for known in earlier}
            assert len(e.history) == len(set(e.history)) <= history_length
            assert all(0 <= k.session <= e.session for k in e.latest)
            assert not set(e.targets) & {known.item for known in earlier}
            # What comes later changes nothing but the targets, the weight, and whether there is an example.
            if name != names.USERS_SPLIT:
                now = [*earlier, *(known for known in log if known.timestamp == e.now)]
                end = Timeline(cut=102, end=103, snapshots=(102, 103))
                again = made_of(b"u", now, end, history_length=history_length, session_minutes=minutes)
                same = [t for t in again[names.TRAIN_SPLIT] if t.now == e.now]
                assert all(t.history == e.history and t.latest == e.latest for t in same)
    train, held_out = made[names.TRAIN_SPLIT], made[names.EVAL_SPLIT]
    for judged in held_out:
        before = [e for e in train if e.window <= windows]
        assert all(e.now < judged.now for e in before)
        assert not {e.targets[0] for e in before} & set(judged.targets)
    # Each first event on an item is learned from, and never before a window that predicts it.
    firsts = [(e.now, e.targets[0]) for e in train]
    assert len(firsts) == len({item for _, item in firsts}) == len({known.item for known in log})
    begun = {e.targets[0]: e.window for e in train}
    (user,) = made[names.USERS_SPLIT]
    assert [(now, item, begun[item]) for now, item in sorted(firsts)] == sorted(
        (now, item, window) for item, (now, window) in zip(user.seen, user.firsts, strict=True)
    )
    for window in made[names.WINDOWS_SPLIT]:
        assert all(begun[item] == window.window for item in window.targets)


@given(st.lists(events, min_size=1, max_size=40), st.integers(0, 101), st.sampled_from(["time", "leave_last"]))
def test_a_training_that_goes_on_gets_the_examples_of_the_moments_since(log, since, by):
    timeline = Timeline(cut=50, end=101, snapshots=(50, 101), windows=(25,))
    whole, part = (
        made_of(b"u", log, dataclasses.replace(timeline, since=moment), by=by, windows=1) for moment in (0, since)
    )
    for name, examples in whole.items():
        always = name in (names.EVAL_SPLIT, names.USERS_SPLIT)
        assert part[name] == [e for e in examples if always or e.now >= since]


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_last_window_begins_when_what_its_towers_have_seen_has_ended(seen, cut):
    timeline = Timeline(cut=50, end=100, snapshots=(0, 30, 40, 50, 100), windows=(30, 40))
    found = going_on(timeline, {"windows": seen, "cut": cut}, 0)
    if max(seen, cut) > 50:
        assert found == timeline
    else:
        assert found.windows == (30, max(seen, 40))
        assert found.snapshots == tuple(sorted({0, 30, *found.windows, 50, 100}))
        assert found.since == min(seen, cut)


def test_examples_are_made_since_what_an_earlier_training_has_learned():
    timeline = Timeline(cut=50, end=100, snapshots=(50, 100), windows=(30, 40))
    assert going_on(timeline, {"cut": 45, "now": 90}, 5).since == 40
    assert going_on(timeline, {"cut": 50, "now": 100}, 0).since == 50
    assert going_on(timeline, {"windows": 38, "cut": 45}, 1).since == 37
    # From nothing, or from what has seen what is held out now: the whole log.
    assert going_on(timeline, {}, 5) == timeline
    assert going_on(timeline, {"cut": 51, "now": 90}, 5) == timeline
    assert going_on(timeline, {"windows": 38, "cut": 51}, 5) == timeline


@given(st.lists(events, min_size=1, max_size=30), st.randoms())
def test_the_order_of_the_log_and_repeated_rows_do_not_matter(log, random):
    shuffled = log + log[:3]
    random.shuffle(shuffled)
    make = UserExamples(TIMELINE, WEIGHTS, split())
    assert list(make(b"u", log)) == list(make(b"u", shuffled))
