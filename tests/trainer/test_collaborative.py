import numpy as np
import pytest
import scipy.sparse as sp

from trainer.collaborative import interaction_matrix, item_neighbours
from trainer.data import Pairs


def dense(neighbours, items):
    table = np.zeros((items, items))
    for item, (others, weights) in enumerate(zip(neighbours.items, neighbours.weights, strict=True)):
        np.add.at(table[item], others, weights)
    return table


@pytest.fixture
def matrix():
    random = np.random.default_rng(0)
    values = (random.random((40, 9)) < 0.3).astype(np.float32)
    values[:, 8] = 0  # nobody has had the last
    return sp.csr_matrix(values)


def test_ease_minimises_the_ridge_with_a_zero_diagonal(matrix):
    """The closed form against each column's own least squares, in which the item itself is left out."""
    weights = dense(item_neighbours(matrix, regularisation=2.0, n=9, exact_items=100), 9)
    x = matrix.toarray()
    for item in range(8):
        others = [i for i in range(8) if i != item]
        gram = x[:, others].T @ x[:, others] + 2.0 * np.eye(7)
        assert weights[others, item] == pytest.approx(np.linalg.solve(gram, x[:, others].T @ x[:, item]), abs=1e-4)
    assert not np.diag(weights).any() and not weights[8].any() and not weights[:, 8].any()


def test_only_the_strongest_neighbours_stay(matrix):
    full = dense(item_neighbours(matrix, 2.0, n=9, exact_items=100), 9)
    few = dense(item_neighbours(matrix, 2.0, n=3, exact_items=100), 9)
    for item in range(8):
        strongest = np.argsort(-np.abs(full[item]))[:3]
        assert few[item, strongest] == pytest.approx(full[item, strongest])
        assert np.count_nonzero(few[item]) == 3


def test_a_large_catalogue_has_cosine_neighbours(matrix):
    weights = dense(item_neighbours(matrix, 0.0 + 1e-9, n=9, exact_items=2), 9)
    x = matrix.toarray()[:, :8]
    norms = np.sqrt(x.sum(axis=0))
    cosine = x.T @ x / np.outer(norms, norms)
    np.fill_diagonal(cosine, 0)
    assert weights[:8, :8] == pytest.approx(cosine, abs=1e-5)


def test_unknown_users_and_items_are_left_out():
    pairs = Pairs(np.array([0, 1, 2, 0]), np.array([1, -1, 0, 1]), np.zeros(4, int), np.zeros(4, int))
    assert interaction_matrix(pairs, users=2, items=3).toarray().tolist() == [[0, 1, 0], [0, 0, 0]]


def test_no_log_has_no_neighbours():
    assert not item_neighbours(sp.csr_matrix((3, 4), dtype=np.float32), 1.0, 2, 10).weights.any()
