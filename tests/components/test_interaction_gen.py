import math

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.testing.test_pipeline import TestPipeline
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples

from components.examples import decode_example, split_pattern, write_split
from components.interaction_gen import SPLITS, Interactions
from components.row_rules import Limits
from components.text_embedding_gen import TEXT_HASH, item_text, text_hash
from schema import names

LIMITS = Limits(frozenset({"view", "return"}), latest_timestamp=10**9, max_title_bytes=100)
SPLIT = {"eval_share": 0.3, "snapshots": 3, "half_life_days": 1.0, "history_length": 5}
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
    event(2, b"u", b"a", 0),
    event(3, b"u", b"b", 10),
    event(4, b"v", b"a", 10),
    event(5, b"v", b"b", 20),
    event(6, b"v", b"c", 40),
    event(7, b"u", b"c", 5, b"return"),  # weighs nothing
    event(8, b"u", b"elsewhere", 6),  # of no item that the catalogue has
    {**event(9, b"w", b"a", 7), names.USER_ID: [b"\xff"]},  # breaks a rule
]
CATALOG = [
    item(2, b"a", category=[b"x| y |"], price=[2.0]),
    item(3, b"b", price=[-1.0]),
    item(4, b"c"),
    item(5, b"c", title=[b"second"]),
    item(6, b"never met"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Split -> rows that the transform makes of the tables above."""
    examples = Examples()
    examples.uri = str(tmp_path_factory.mktemp("examples"))
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    embeddings = [
        {TEXT_HASH: [text_hash(item_text(row))], names.TEXT_EMBEDDING: [float(i)]} for i, row in enumerate(CATALOG)
    ]
    with TestPipeline() as pipeline:
        tables = {
            names.BEHAVIORS: pipeline | "b" >> beam.Create(BEHAVIORS),
            names.CATALOG: pipeline | "c" >> beam.Create(CATALOG),
            "text_embeddings": pipeline | "t" >> beam.Create(embeddings),
        }
        for split, rows in (tables | Interactions(LIMITS, {"view": 1.0, "return": 0.0}, SPLIT)).items():
            _ = rows | f"Write {split}" >> write_split(examples, split)
    return {split: read(examples, split) for split in SPLITS}


def read(examples, split):
    files = tf.io.gfile.glob(split_pattern(examples, split))
    return [decode_example(r) for r in tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator()]


def test_events_before_the_cut_train_and_those_after_are_held_out(made):
    train = {(r[names.USER_ID][0], r[names.TARGET_ITEM_IDS][0]): r for r in made[names.TRAIN_SPLIT]}
    assert set(train) == {(b"u", b"a"), (b"u", b"b"), (b"v", b"a"), (b"v", b"b")}
    assert train[b"u", b"b"][names.HISTORY_ITEM_IDS] == [b"a"]
    (held_out,) = made[names.EVAL_SPLIT]
    assert held_out[names.USER_ID] == [b"v"]
    assert held_out[names.TARGET_ITEM_IDS] == [b"c"]
    assert held_out[names.TIMESTAMP] == [40 * HOUR]


def test_users_are_known_as_of_the_log_s_end(made):
    users = {r[names.USER_ID][0]: r for r in made[names.USERS_SPLIT]}
    assert set(users) == {b"u", b"v"}
    assert users[b"v"][names.HISTORY_ITEM_IDS] == [b"c", b"b", b"a"]


def test_the_catalogue_has_every_item_once_with_its_features(made):
    rows = {r[names.ITEM_ID][0]: r for r in made[names.CATALOG_SPLIT]}
    assert len(rows) == len(made[names.CATALOG_SPLIT]) == 4
    assert rows[b"a"][names.CATEGORY] == [b"x", b"y"]
    assert rows[b"a"][names.PRICE] == [2.0]
    assert names.PRICE not in rows[b"b"]
    assert rows[b"c"][names.TITLE] == [b"C"]  # the first of two rows
    assert rows[b"c"][names.TEXT_EMBEDDING] == [2.0]
    assert [rows[i][names.TRAIN_COUNT][0] for i in (b"a", b"b", b"c", b"never met")] == [2, 2, 0, 0]


def test_popularity_is_taken_before_each_snapshot(made):
    (timeline,) = made[names.TIMELINE_SPLIT]
    assert timeline[names.SNAPSHOT_TIMESTAMPS] == [0, 40 * HOUR, 41 * HOUR]
    rows = {r[names.ITEM_ID][0]: r[names.POPULARITY] for r in made[names.CATALOG_SPLIT]}
    day = 24.0
    at_cut = 0.5 ** (40 / day) + 0.5 ** (30 / day)
    assert rows[b"a"] == pytest.approx([0, math.log1p(at_cut), math.log1p(at_cut * 0.5 ** (1 / day))])
    assert rows[b"c"] == pytest.approx([0, 0, math.log1p(0.5 ** (1 / day))])
    assert rows[b"never met"] == [0, 0, 0]
