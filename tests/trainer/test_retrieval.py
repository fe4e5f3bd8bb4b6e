"""Exact and indexed search say the same; the recall is what NumPy counts."""

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.test_partitioned_top_k import QUERIES, VECTORS, best, recall
from trainer.retrieval import Retriever

EXACT = {"exact_below": 10_000, "block": 32, "probes": 4}


@pytest.mark.parametrize("settings", [EXACT, {"exact_below": 0, "block": 32, "probes": 1_000}])
def test_the_best_of_all(settings):
    retriever = Retriever(tf.Variable(VECTORS), settings)
    scores, rows = retriever.best(tf.constant(QUERIES), tf.constant(20))
    assert (rows.numpy() == best(VECTORS, QUERIES, 20)).all()
    assert (np.diff(scores) <= 1e-6).all()
    assert (retriever.recall(tf.constant(QUERIES), 20).numpy() == 1).all()


def test_the_recall_of_an_index_is_told():
    retriever = Retriever(tf.Variable(VECTORS), {**EXACT, "exact_below": 0, "probes": 1})
    found = retriever.best(tf.constant(QUERIES), tf.constant(20))[1]
    told = retriever.recall(tf.constant(QUERIES), 20).numpy()
    assert told.mean() == pytest.approx(recall(found, best(VECTORS, QUERIES, 20))) and 0.3 < told.mean() < 0.99


@pytest.mark.parametrize("settings", [EXACT, {**EXACT, "exact_below": 0}])
def test_a_catalogue_of_few_leaves_places_empty(settings):
    retriever = Retriever(tf.Variable(VECTORS[:3]), settings)
    rows = retriever.best(tf.constant(QUERIES[:2]), tf.constant(5))[1].numpy()
    assert (np.sort(rows) == [-1, -1, 0, 1, 2]).all()
    assert (retriever.recall(tf.constant(QUERIES[:2]), 5).numpy() == 1).all()
