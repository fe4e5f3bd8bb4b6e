"""Single features of Transform's graph, against the whole of it."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from schema import names
from trainer.feature_graph import FeatureGraph

STRINGS = {
    (names.ITEM_ID, names.ITEM_INDEX): "item",
    (names.USER_ID, names.USER_INDEX): "user",
    (names.HISTORY_EVENTS, names.HISTORY_EVENT_INDICES): "event",
    (names.TRAITS, names.TRAIT_INDICES): "trait",
}


@pytest.fixture(scope="module")
def transform(shop) -> tft.TFTransformOutput:
    return tft.TFTransformOutput(str(shop.artifact("Transform", "transform_graph")))


@pytest.fixture(scope="module")
def asked(transform) -> dict[str, list[bytes]]:
    """Some that are known and some that are not, more than once."""
    known = {
        "item": transform.vocabulary_by_name("items")[:5],
        "user": transform.vocabulary_by_name("users")[-3:],
        "event": transform.vocabulary_by_name("events"),
        "trait": [b"country=France"],
    }
    return {kind: [b"nobody", *values, *values[:1], b"\0"] for kind, values in known.items()}


@pytest.mark.parametrize("feature", STRINGS, ids=STRINGS.values())
def test_a_feature_alone_is_as_the_whole_graph_makes_it(transform, asked, feature):
    raw, indexed = feature
    strings = tf.constant(asked[STRINGS[feature]])
    whole = transform.transform_features_layer()({raw: tf.sparse.from_dense(strings[:, tf.newaxis])})[indexed].values
    alone = FeatureGraph(transform).of_values(raw, indexed)(strings)
    assert alone.numpy().tolist() == whole.numpy().tolist()
    assert len(set(alone.numpy().tolist())) > 1


def test_it_brings_along_nothing_but_its_own_look_up(transform):
    graph = FeatureGraph(transform).of_values(names.ITEM_ID, names.ITEM_INDEX).get_concrete_function().graph
    assert [op.type for op in graph.get_operations()].count("LookupTableFindV2") == 1
    assert len(graph.get_operations()) < 20


def test_its_tables_are_ready_where_it_is_loaded(transform, asked, tmp_path):
    features, exported = FeatureGraph(transform), tf.Module()
    exported.index = features.of_values(names.ITEM_ID, names.ITEM_INDEX)
    exported.tables = features.tables
    assert sum(hasattr(table, "resource_handle") for table in features.tables) == 1
    strings = tf.constant(asked["item"])
    tf.saved_model.save(exported, str(tmp_path), signatures={"index": exported.index})
    found = tf.saved_model.load(str(tmp_path)).signatures["index"](strings=strings)
    assert next(iter(found.values())).numpy().tolist() == exported.index(strings).numpy().tolist()
    assert np.count_nonzero(next(iter(found.values())).numpy() >= 0) == 6


def test_a_feature_of_other_values_is_refused(transform):
    with pytest.raises(ValueError, match=r"user_index depends on more than the values of item_id"):
        FeatureGraph(transform).of_values(names.ITEM_ID, names.USER_INDEX)
