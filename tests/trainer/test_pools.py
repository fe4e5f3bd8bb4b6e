"""A pool against the same thing done with the whole catalogue, in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.pools import Everything, Pool, best_said
from trainer.reranking import LOWEST

ITEMS = 12
ids = st.integers(-1, ITEMS - 1)
batches = st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(ids, min_size=n, max_size=n), min_size=1, max_size=3))


@settings(deadline=None, max_examples=50)
@given(batches)
def test_each_item_has_one_place_and_is_found_there(rows):
    pool = Pool([tf.constant(rows, tf.int32)], ITEMS)
    listed = pool.listed(tf.constant(len(rows))).numpy()
    for row, theirs in zip(rows, listed, strict=True):
        assert theirs[theirs >= 0].tolist() == sorted(set(row) - {-1})
    everything = tf.tile(tf.range(-1, ITEMS)[tf.newaxis], [len(rows), 1])
    places = pool.places(everything).numpy()
    for row, theirs, own in zip(listed, places, rows, strict=True):
        for item, place in zip(range(-1, ITEMS), theirs, strict=True):
            assert (place >= 0) == (item in own and item >= 0)
            assert place < 0 or row[place] == item


@settings(deadline=None, max_examples=50)
@given(batches, st.randoms(use_true_random=False))
def test_sums_products_and_tables_are_those_of_the_whole_catalogue(rows, random):
    batch, generator = len(rows), np.random.default_rng(random.randrange(1000))
    pool, whole = Pool([tf.constant(rows, tf.int32)], ITEMS), Everything(ITEMS)
    listed = pool.listed(tf.constant(batch)).numpy()
    said_of = tf.constant(generator.integers(0, ITEMS, (batch, 3, 4)), tf.int32)
    said = tf.constant(generator.random((batch, 3, 4, 2)), tf.float32)
    queries, vectors = (tf.constant(generator.random((n, 3)), tf.float32) for n in (batch, ITEMS))
    table, chosen = tf.constant(generator.random((5, ITEMS)), tf.float32), generator.integers(0, 5, batch)
    pairs = [
        *zip(pool.sums(said_of, said), whole.sums(said_of, said), strict=True),
        (pool.products(queries, vectors), whole.products(queries, vectors)),
        (pool.rows(table, tf.constant(chosen, tf.int32)), whole.rows(table, tf.constant(chosen, tf.int32))),
    ]
    for mine, theirs in pairs:
        for row, items in enumerate(listed):
            there = items >= 0
            assert mine.numpy()[row][there] == pytest.approx(theirs.numpy()[row][items[there]], rel=1e-5)


@settings(deadline=None, max_examples=50)
@given(batches, st.lists(ids, max_size=5))
def test_what_is_left_out_and_what_is_empty_is_told(rows, unwanted):
    pool = Pool([tf.constant(rows, tf.int32)], ITEMS)
    listed = pool.listed(tf.constant(len(rows))).numpy()
    out = pool.left_out(tf.ragged.constant([unwanted] * len(rows), tf.int64, ragged_rank=1)).numpy()
    assert (out == ((listed < 0) | np.isin(listed, unwanted))).all()
    scores = pool.present(tf.zeros(listed.shape)).numpy()
    assert ((scores == LOWEST) == (listed < 0)).all()


def test_the_best_said_have_the_largest_sums():
    items = tf.constant([[[1, 2], [2, 3]], [[5, 5], [6, 0]]])
    said = tf.constant([[[1.0, 0.4], [0.4, 0.7]], [[0.2, 0.3], [0.4, 0.0]]])
    assert [set(row) for row in best_said(items, said, 2, ITEMS).numpy().tolist()] == [{1, 2}, {5, 6}]
    assert set(best_said(items, said, 9, ITEMS).numpy()[1].tolist()) == {5, 6, -1}
