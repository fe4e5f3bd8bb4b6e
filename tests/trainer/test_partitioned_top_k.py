"""The index of stock ops, against exact search in NumPy and TFRS's BruteForce."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
from hypothesis import given, settings
from hypothesis import strategies as st

from components.serving_checks import foreign_ops
from trainer.partitioned_top_k import PartitionedIndex, PartitionedTopK
from trainer.partitions import partition


def clustered(count, dimensions=16, clusters=40, seed=0, spread=0.5):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(clusters, dimensions))
    points = centres[random.integers(clusters, size=count)] + spread * random.normal(size=(count, dimensions))
    return points.astype(np.float32)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def best(vectors, queries, k):
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]


def recall(found, truth):
    return np.mean(
        [len(set(f) & set(t)) / len(t) for f, t in zip(np.asarray(found).tolist(), truth.tolist(), strict=True)]
    )


VECTORS = unit(clustered(6000))
QUERIES = unit(clustered(6050)[-50:])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 5), st.booleans())
def test_every_vector_is_in_one_block_and_its_bytes_are_close(count, size, seed, is_unit):
    vectors = clustered(count, dimensions=6, clusters=5, seed=seed)
    vectors = unit(vectors) if is_unit else vectors
    parts = partition(vectors, size, seed)
    rows = parts.rows[parts.rows >= 0]
    assert sorted(rows.tolist()) == list(range(count)) and parts.rows.shape[1] == size
    again = parts.means[:, np.newaxis] + parts.codes * parts.scales[:, :, np.newaxis]
    is_there = parts.rows >= 0
    step = parts.scales[is_there][:, np.newaxis]
    assert (np.abs(again[is_there] - vectors[rows]) <= 0.51 * step + 1e-6).all()


@pytest.mark.parametrize(
    "vectors", [np.zeros((5, 3)), np.ones((9, 3)), np.eye(3)[:1], np.repeat(np.eye(3), 50, axis=0)]
)
def test_vectors_that_are_all_alike_are_parted_too(vectors):
    parts = partition(vectors.astype(np.float32), 4)
    assert sorted(parts.rows[parts.rows >= 0].tolist()) == list(range(len(vectors)))
    assert all(np.isfinite(array).all() for array in parts)


@pytest.mark.parametrize("vectors", [np.zeros((0, 3), np.float32), np.array([[np.nan]], np.float32), np.zeros(3)])
def test_what_is_no_matrix_of_vectors_is_refused(vectors):
    with pytest.raises(ValueError, match="matrix of finite vectors"):
        partition(vectors)


def test_looking_at_all_blocks_is_exact():
    index = PartitionedIndex(partition(VECTORS, 32), 10_000, tf.constant(VECTORS))
    scores, rows = index.search(tf.constant(QUERIES), 20)
    assert (rows.numpy() == best(VECTORS, QUERIES, 20)).all()
    np.testing.assert_allclose(scores, np.sort(-(-QUERIES @ VECTORS.T))[:, ::-1][:, :20], rtol=1e-5)


@pytest.mark.parametrize("is_unit", [True, False])
@pytest.mark.parametrize("is_reranked", [True, False])
def test_a_few_blocks_find_almost_all(is_unit, is_reranked):
    vectors = (
        VECTORS if is_unit else VECTORS * np.random.default_rng(1).uniform(0.3, 1.5, (len(VECTORS), 1)).astype("f")
    )
    parts = partition(vectors, 32)
    index = PartitionedIndex(parts, len(parts.rows) // 8, tf.constant(vectors) if is_reranked else None)
    _, rows = index.search(tf.constant(QUERIES), 20)
    assert recall(rows, best(vectors, QUERIES, 20)) > (0.97 if is_reranked else 0.93)


def test_more_probes_find_more():
    parts, truth = partition(VECTORS, 32), best(VECTORS, QUERIES, 20)
    found = [recall(PartitionedIndex(parts, p).search(tf.constant(QUERIES), 20)[1], truth) for p in (1, 4, 16, 64)]
    assert found == sorted(found) and found[0] < found[-1]


def test_a_filter_is_honoured_and_starves_no_answer():
    index = PartitionedIndex(partition(VECTORS, 32), 4, tf.constant(VECTORS))
    allowed = np.zeros(len(VECTORS), bool)
    allowed[np.random.default_rng(3).choice(len(VECTORS), 60, replace=False)] = True
    _, rows = index.search(tf.constant(QUERIES), 5, tf.constant(allowed))
    assert allowed[rows.numpy()[rows.numpy() >= 0]].all()
    only = np.flatnonzero(allowed)
    truth = only[best(VECTORS[only], QUERIES, 1)]
    assert np.mean(rows.numpy()[:, :1] == truth) > 0.8
    none = index.search(tf.constant(QUERIES), 5, tf.zeros([len(VECTORS)], tf.bool))
    assert (none[1].numpy() == -1).all() and (none[0].numpy() < -1e38).all()


def test_more_than_there_is_comes_back_with_empty_places():
    index = PartitionedIndex(partition(VECTORS[:7], 4), 1, tf.constant(VECTORS[:7]))
    scores, rows = index.search(tf.constant(QUERIES[:2]), 20)
    assert rows.shape == scores.shape == (2, 20)
    assert all(sorted(row[row >= 0]) == list(range(7)) for row in rows.numpy())


def test_the_layer_is_a_drop_in_for_tfrs_brute_force(tmp_path):
    identifiers = tf.constant([f"item {i}" for i in range(len(VECTORS))])
    double = tf.keras.layers.Lambda(lambda x: 2 * x)
    exact = tfrs.layers.factorized_top_k.BruteForce(double, k=15).index(tf.constant(VECTORS), identifiers)
    ours = PartitionedTopK(double, k=15, probes=10_000, block=32)
    with pytest.raises(ValueError, match="must be called first"):
        ours(tf.constant(QUERIES))
    batches = tf.data.Dataset.from_tensor_slices((identifiers, VECTORS)).batch(1000)
    for indexed in (ours.index(tf.constant(VECTORS), identifiers), ours.index_from_dataset(batches)):
        for arguments in ({}, {"k": 3}):
            mine, theirs = indexed(tf.constant(QUERIES), **arguments), exact(tf.constant(QUERIES), **arguments)
            assert (mine[1].numpy() == theirs[1].numpy()).all()
            np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-5)
        unwanted = exact(tf.constant(QUERIES))[1][:, :2]
        mine = indexed.query_with_exclusions(tf.constant(QUERIES), unwanted)
        assert (mine[1].numpy() == exact.query_with_exclusions(tf.constant(QUERIES), unwanted)[1].numpy()).all()
    assert not ours.is_exact() and exact.is_exact()
    with pytest.raises(ValueError, match="both are to be as many"):
        ours.index(tf.constant(VECTORS), identifiers[:3])
    metric = tfrs.metrics.FactorizedTopK(candidates=ours, ks=(1, 10))
    first = best(VECTORS, QUERIES, 1)[:, 0]
    metric.update_state(
        tf.constant(QUERIES), tf.constant(VECTORS[first]), true_candidate_ids=tf.gather(identifiers, first)
    )
    assert metric.result()[1].numpy() == 1.0


def test_a_stock_server_has_all_of_its_ops(tmp_path):
    index = PartitionedIndex(partition(VECTORS, 32), 8, tf.Variable(VECTORS))

    @tf.function(input_signature=[tf.TensorSpec([None, 16]), tf.TensorSpec([len(VECTORS)], tf.bool)])
    def search(queries, allowed):
        scores, rows = index.search(queries, 10, allowed)
        return {"scores": scores, "rows": rows}

    index.search_function = search
    tf.saved_model.save(index, str(tmp_path / "1"), signatures={"serving_default": search})
    assert foreign_ops(str(tmp_path / "1")) == set()
    loaded = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    everything = tf.ones([len(VECTORS)], tf.bool)
    answer = loaded(queries=tf.constant(QUERIES), allowed=everything)
    assert (answer["rows"].numpy() == search(QUERIES, everything)["rows"].numpy()).all()
