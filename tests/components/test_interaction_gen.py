import math
from collections import defaultdict

import apache_beam as beam
import pyarrow as pa
import pytest
import tensorflow as tf
from apache_beam.testing.test_pipeline import TestPipeline
from hypothesis import given
from hypothesis import strategies as st
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples

import components.events
from components.columnar import from_ipc, to_batch, to_ipc
from components.events import LatestEvents, latest_events
from components.example_maker import USER_SPLITS
from components.examples import decode_example, split_pattern, write_examples, write_split
from components.interaction_gen import SPLITS, Interactions
from components.text_embedding_gen import TEXT_HASH, item_text, text_hash
from schema import names

SPLIT = {
    "by": "time",
    "context": ["device"],
    "eval_share": 0.3,
    "leave_last": 1,
    "snapshots": 3,
    "half_lives_days": [1.0, 2.0],
    "windows": 1,
    "history_length": 5,
    "session_minutes": 30,
    "max_user_events": 100,
}
WEIGHTS = {"view": 1.0, "return": 0.0}
IMAGES = {"kind": "embedding", "column": "picture", "folder": ""}
HOUR = 3600


def event(row, user, item, hour, kind=b"view"):
    return {
        names.SOURCE_ROW: [f"a.csv:{row}".encode()],
        names.USER_ID: [user],
        names.ITEM_ID: [item],
        names.EVENT: [kind],
        names.TIMESTAMP: [hour * HOUR],
    }


def item(row, item_id, **more):
    return {
        names.SOURCE_ROW: [f"c.csv:{row}".encode()],
        names.ITEM_ID: [item_id],
        names.TITLE: [item_id.upper()],
        **more,
    }


BEHAVIORS = [
    {**event(2, b"u", b"a", 0), "device": [b"phone"]},
    {**event(3, b"u", b"b", 10), names.COMMENT: [b"good"]},
    event(4, b"v", b"a", 10),
    event(5, b"v", b"b", 20),
    event(6, b"v", b"c", 40),
    event(7, b"u", b"c", 5, b"return"),  # weighs nothing
    event(8, b"u", b"elsewhere", 6),  # of no item that the catalogue has
    {**event(9, b"w", b"a", 7), names.USER_ID: []},  # kept by a lenient configuration
]
USERS = [
    {names.SOURCE_ROW: [b"u.csv:2"], names.USER_ID: [b"u"], "country": [b"FR"], "age": [34]},
    {names.SOURCE_ROW: [b"u.csv:3"], names.USER_ID: [b"u"], "country": [b"DE"], "age": [36]},
    {names.SOURCE_ROW: [b"u.csv:4"], names.USER_ID: [b"stranger"], "country": [b"IT"]},
]
CATALOG = [
    item(2, b"a", category=[b"x| y |"], price=[2.0]),
    item(3, b"b", price=[-1.0], picture=[b"0.5, 2"]),
    item(4, b"c"),
    {**item(5, b"c", title=[b"second"]), names.SOURCE_ROW: [b"later/c.csv:5"]},
    item(6, b"never met"),
]


EVENT_TYPES = {
    names.USER_ID: pa.binary(),
    names.ITEM_ID: pa.binary(),
    names.EVENT: pa.binary(),
    names.TIMESTAMP: pa.int64(),
}
LOG_TYPES = {**EVENT_TYPES, names.VALUE: pa.float32(), names.COMMENT: pa.binary(), "device": pa.binary()}


def batch_of(rows):
    columns = {name: [next(iter(row.get(name, [])), None) for row in rows] for name in LOG_TYPES}
    return to_batch({name: pa.array(values, LOG_TYPES[name]) for name, values in columns.items()})


def make(folder, buckets=1, files=1):
    """Split -> rows that the transform makes of the tables above."""
    examples = Examples()
    examples.uri = str(folder / "examples")
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    folders = {split: artifact_utils.get_split_uri([examples], split) for split in USER_SPLITS}
    logs = [str(folder / f"log-{n}.gz") for n in range(files)]
    for n, path in enumerate(logs):
        write_examples(path, [batch_of(BEHAVIORS[n::files])])
    embeddings = [
        {TEXT_HASH: [text_hash(item_text(row))], names.TEXT_EMBEDDING: [float(i)]} for i, row in enumerate(CATALOG)
    ]
    with TestPipeline() as pipeline:
        tables = {
            names.BEHAVIORS: pipeline | "b" >> beam.Create([[log] for log in logs]),
            names.CATALOG: pipeline | "c" >> beam.Create(CATALOG),
            names.USERS: pipeline | "u" >> beam.Create(USERS),
            "text_embeddings": pipeline | "t" >> beam.Create(embeddings),
        }
        transform = Interactions(WEIGHTS, SPLIT, IMAGES, folders, len(CATALOG), buckets)
        for split, rows in (tables | transform).items():
            _ = rows | f"Write {split}" >> write_split(examples, split)
    return {split: read(examples, split) for split in SPLITS}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made"))


def read(examples, split):
    files = tf.io.gfile.glob(split_pattern(examples, split))
    return [decode_example(r) for r in tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator()]


def test_events_before_the_cut_train_and_those_after_are_held_out(made):
    train = {(r[names.USER_ID][0], r[names.TARGET_ITEM_IDS][0]): r for r in made[names.TRAIN_SPLIT]}
    assert {user_and_item: r[names.WINDOW] for user_and_item, r in train.items()} == {
        (b"u", b"a"): [0],
        (b"u", b"b"): [0],
        (b"v", b"a"): [0],
        (b"v", b"b"): [0],
        (b"v", b"c"): [2],
    }
    assert train[b"u", b"b"][names.HISTORY_ITEM_IDS] == [b"a"]
    (held_out,) = made[names.EVAL_SPLIT]
    assert held_out[names.USER_ID] == [b"v"]
    assert held_out[names.TARGET_ITEM_IDS] == [b"c"]
    assert held_out[names.TIMESTAMP] == [40 * HOUR]
    assert held_out[names.HISTORY_TIMESTAMPS] == [20 * HOUR, 10 * HOUR]
    assert held_out[names.HISTORY_SESSIONS] == [1, 2]


def test_traits_are_the_latest_profile_and_the_target_s_context(made):
    train = {(r[names.USER_ID][0], r[names.TARGET_ITEM_IDS][0]): r.get(names.TRAITS) for r in made[names.TRAIN_SPLIT]}
    profile = [b"age=4e+01", b"country=DE"]
    assert train == {
        (b"u", b"a"): [*profile, b"device=phone"],
        (b"u", b"b"): profile,
        (b"v", b"a"): None,
        (b"v", b"b"): None,
        (b"v", b"c"): None,
    }
    users = {r[names.USER_ID][0]: r.get(names.TRAITS) for r in made[names.USERS_SPLIT]}
    assert users == {b"u": profile, b"v": None}


def test_users_are_known_as_of_the_log_s_end(made):
    users = {r[names.USER_ID][0]: r for r in made[names.USERS_SPLIT]}
    assert set(users) == {b"u", b"v"}
    assert users[b"v"][names.HISTORY_ITEM_IDS] == [b"c", b"b", b"a"]
    assert users[b"v"][names.SEEN_ITEM_IDS] == [b"a", b"b", b"c"]
    assert users[b"v"][names.SEEN_TIMESTAMPS] == [10 * HOUR, 20 * HOUR, 40 * HOUR]
    assert users[b"v"][names.SEEN_WINDOWS] == [0, 0, 2]


def test_the_catalogue_has_every_item_once_with_its_features(made):
    rows = {r[names.ITEM_ID][0]: r for r in made[names.CATALOG_SPLIT]}
    assert len(rows) == len(made[names.CATALOG_SPLIT]) == 4
    assert rows[b"a"][names.CATEGORY] == [b"x", b"y"]
    assert rows[b"a"][names.PRICE] == [2.0]
    assert names.PRICE not in rows[b"b"]
    assert rows[b"b"][names.IMAGE_EMBEDDING] == [0.5, 2.0] and names.IMAGE_EMBEDDING not in rows[b"a"]
    assert rows[b"c"][names.TEXT] == [b"second"]  # of two rows that a later day's
    assert rows[b"c"][names.TEXT_EMBEDDING] == [3.0]


def test_popularity_is_taken_before_each_snapshot(made):
    (timeline,) = made[names.TIMELINE_SPLIT]
    assert timeline[names.SNAPSHOT_TIMESTAMPS] == [0, 39 * HOUR, 40 * HOUR, 41 * HOUR]
    assert timeline[names.KNOWN_EVENTS] == [b"view"]
    rows = {r[names.ITEM_ID][0]: r[names.POPULARITY] for r in made[names.CATALOG_SPLIT]}

    def decayed(now, half_life, *hours):
        return math.log1p(sum(0.5 ** ((now - hour) / 24 / half_life) for hour in hours))

    for i, half_life in enumerate((1, 2)):
        at = slice(4 * i, 4 * i + 4)
        assert rows[b"a"][at] == pytest.approx([0, *(decayed(now, half_life, 0, 10) for now in (39, 40, 41))])
        assert rows[b"c"][at] == pytest.approx([0, 0, 0, decayed(41, half_life, 40)])
    assert rows[b"never met"] == [0] * 8


def test_windows_have_their_targets_with_events(made):
    windows = {(r[names.WINDOW][0], r[names.USER_ID][0]): r for r in made[names.WINDOWS_SPLIT]}
    assert set(windows) == {(1, b"u"), (1, b"v"), (2, b"u"), (2, b"v")}
    assert windows[2, b"v"][names.TARGET_ITEM_IDS] == [b"c"]
    assert windows[2, b"v"][names.TARGET_EVENTS] == [b"view"]
    assert names.TARGET_ITEM_IDS not in windows[1, b"v"]  # nobody had anything new in that hour
    assert windows[1, b"v"][names.SEEN_ITEM_IDS] == [b"a", b"b"]


def in_order(made):
    return {split: sorted(repr(sorted(row.items())) for row in rows) for split, rows in made.items()}


def test_buckets_and_files_do_not_matter(made, tmp_path):
    assert in_order(make(tmp_path, buckets=7, files=3)) == in_order(made)


def test_a_large_catalogue_is_joined_by_key_with_the_same_result(made, tmp_path, monkeypatch):
    monkeypatch.setattr(components.events, "_SIDE_INPUT_ITEMS", 2)
    assert in_order(make(tmp_path, buckets=3)) == in_order(made)


EVENTS = st.lists(
    st.tuples(st.sampled_from([b"u", b"v", b"w"]), st.sampled_from([b"a", b"b"]), st.just(b"view"), st.integers(0, 9)),
    min_size=1,
    max_size=60,
)


def as_batch(rows):
    columns = zip(zip(*rows, strict=True), EVENT_TYPES.values(), strict=True)
    return pa.RecordBatch.from_arrays([pa.array(list(values), kind) for values, kind in columns], list(EVENT_TYPES))


def as_rows(batch):
    return list(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def latest_by_hand(rows, most):
    of_user = defaultdict(list)
    for row in sorted(set(rows), key=lambda row: (row[0], row[3], row[1], row[2])):
        of_user[row[0]].append(row)
    return [row for user in sorted(of_user) for row in of_user[user][-most:]]


@given(EVENTS, st.integers(1, 8))
def test_of_each_user_the_latest_distinct_events_stay(rows, most):
    assert as_rows(latest_events(as_batch(rows), most)) == latest_by_hand(rows, most)


@given(st.lists(EVENTS, min_size=1, max_size=6), st.integers(1, 4), st.integers(1, 20), st.randoms())
def test_the_bounded_combine_is_the_same_however_it_is_parted(parts, most, growth, random):
    combine = LatestEvents(most)
    combine._GROWTH = growth
    accumulators = []
    for part in parts:
        if not accumulators or random.random() < 0.5:
            accumulators.append(combine.create_accumulator())
        accumulators[-1] = combine.add_input(accumulators[-1], to_ipc(as_batch(part)))
    random.shuffle(accumulators)
    whole = combine.extract_output(combine.merge_accumulators(accumulators))
    assert as_rows(from_ipc(whole)) == latest_by_hand([row for part in parts for row in part], most)


def test_a_crawler_does_not_fill_the_memory():
    combine = LatestEvents(most=50)
    combine._GROWTH = 1_000
    accumulator = combine.create_accumulator()
    for n in range(200):
        rows = [(b"crawler", b"i%d" % (n * 100 + m), b"view", n * 100 + m) for m in range(100)]
        accumulator = combine.add_input(accumulator, to_ipc(as_batch(rows)))
        assert sum(from_ipc(data).num_rows for data in accumulator[2]) <= 1_000 + 100
    kept = as_rows(from_ipc(combine.extract_output(accumulator)))
    assert [row[3] for row in kept] == list(range(19_950, 20_000))
