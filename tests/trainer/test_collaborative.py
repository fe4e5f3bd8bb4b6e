import numpy as np
import pytest
import scipy.sparse as sp

from trainer.collaborative import als_factors, cosine_neighbours, ease_neighbours, interaction_matrix
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
    weights = dense(ease_neighbours(matrix, regularisation=2.0, n=9, exact_items=100), 9)
    x = matrix.toarray()
    for item in range(8):
        others = [i for i in range(8) if i != item]
        gram = x[:, others].T @ x[:, others] + 2.0 * np.eye(7)
        assert weights[others, item] == pytest.approx(np.linalg.solve(gram, x[:, others].T @ x[:, item]), abs=1e-4)
    assert not np.diag(weights).any() and not weights[8].any() and not weights[:, 8].any()


def test_only_the_strongest_neighbours_stay(matrix):
    full = dense(ease_neighbours(matrix, 2.0, n=9, exact_items=100), 9)
    few = dense(ease_neighbours(matrix, 2.0, n=3, exact_items=100), 9)
    for item in range(8):
        strongest = np.argsort(-np.abs(full[item]))[:3]
        assert few[item, strongest] == pytest.approx(full[item, strongest])
        assert np.count_nonzero(few[item]) == 3


def test_an_item_is_scored_by_its_nearest_by_shrunk_cosine(matrix):
    weights = dense(cosine_neighbours(matrix, shrinkage=2.0, nearest=3, n=9), 9)
    x = matrix.toarray()
    norms = np.sqrt(x.sum(axis=0) + 2.0)
    cosine = x.T @ x / np.outer(norms, norms)
    np.fill_diagonal(cosine, 0)
    for item in range(9):
        nearest = np.sort(cosine[item])[::-1][:3]
        found = np.sort(weights[:, item])[::-1]  # what each item of a history adds to this one's score
        assert found[:3] == pytest.approx(nearest, abs=1e-5) and not found[3:].any()
    where = weights > 0
    assert weights[where] == pytest.approx(cosine[where], abs=1e-5)


def test_one_that_scores_many_keeps_the_closest(matrix):
    full, few = (dense(cosine_neighbours(matrix, 2.0, nearest=9, n=n), 9) for n in (9, 2))
    for item in range(8):
        assert np.sort(few[item])[::-1][:2] == pytest.approx(np.sort(full[item])[::-1][:2])
        assert np.count_nonzero(few[item]) == 2


def test_beyond_a_size_ease_is_left_out(matrix):
    assert not ease_neighbours(matrix, 1.0, n=9, exact_items=2).weights.any()


def test_unknown_users_and_items_are_left_out():
    pairs = Pairs(np.array([0, 1, 2, 0]), np.array([1, -1, 0, 1]), np.zeros(4, int), np.zeros(4, int))
    assert interaction_matrix(pairs, users=2, items=3).toarray().tolist() == [[0, 1, 0], [0, 0, 0]]


def test_no_log_has_no_neighbours():
    empty = sp.csr_matrix((3, 4), dtype=np.float32)
    assert not ease_neighbours(empty, 1.0, 2, 10).weights.any()
    assert not cosine_neighbours(empty, 1.0, 2, 10).weights.any()


def test_alternating_least_squares_comes_to_where_neither_side_can_do_better(matrix):
    """Both gradients of Hu, Koren and Volinsky's objective vanish for items and, solved for by them, users."""
    weight, regularisation = 3.0, 0.5
    items, gram, _ = als_factors(matrix, 4, weight, regularisation, iterations=400, seed=2)
    x = matrix.toarray()
    confidence = 1 + weight * x
    users = np.stack(
        [np.linalg.solve(gram + weight * (items.T * row) @ items, (1 + weight) * row @ items) for row in x]
    )
    error = confidence * (x - users @ items.T)
    assert error @ items == pytest.approx(regularisation * users, abs=1e-3)
    assert error.T @ users == pytest.approx(regularisation * items, abs=1e-2)
    assert gram == pytest.approx(items.T @ items + regularisation * np.eye(4), abs=1e-4)
    assert np.linalg.norm(items[:8]) > 0.1 and not items[8].any()


def test_rows_are_solved_in_parts_as_they_are_together(matrix, monkeypatch):
    whole = als_factors(matrix, 4, 3.0, 0.5, 5, seed=2)
    monkeypatch.setattr("trainer.collaborative._ROOM", 10)
    assert als_factors(matrix, 4, 3.0, 0.5, 5, seed=2).items == pytest.approx(whole.items, abs=1e-4)


def gram_of(factors):
    """What does not depend on how factors are turned."""
    return factors.items @ factors.items.T


def test_factors_that_are_gone_on_from_come_closer_than_those_from_nothing(matrix):
    """From those of a log without the last user."""
    earlier = als_factors(matrix[:-1], 4, 3.0, 0.5, 200, 2).items
    best, going_on, anew = (
        gram_of(als_factors(matrix, 4, 3.0, 0.5, n, 2, s)) for n, s in ((400, earlier), (2, earlier), (2, None))
    )
    assert 0 < np.linalg.norm(going_on - best) < np.linalg.norm(anew - best) / 2


def test_without_rounds_only_an_item_without_factors_gets_any(matrix):
    """By what its users have, as a round would solve for it."""
    learned = als_factors(matrix, 4, 3.0, 0.5, 400, 2).items
    start = learned.copy()
    start[3] = 0
    found = als_factors(matrix, 4, 3.0, 0.5, 0, 2, start).items
    assert np.delete(found, 3, axis=0).tolist() == np.delete(learned, 3, axis=0).tolist()
    assert not found[8].any()  # nobody has had it
    others, x = np.delete(learned, 3, axis=0), matrix.toarray()
    rows = np.delete(x, 3, axis=1)
    gram = others.T @ others + 0.5 * np.eye(4)
    users = np.stack([np.linalg.solve(gram + 3.0 * (others.T * row) @ others, 4.0 * row @ others) for row in rows])
    gram = users.T @ users + 0.5 * np.eye(4)
    assert found[3] == pytest.approx(
        np.linalg.solve(gram + 3.0 * (users.T * x[:, 3]) @ users, 4.0 * x[:, 3] @ users), abs=1e-3
    )


def test_factors_of_a_log_without_a_pair_are_none():
    assert not als_factors(sp.csr_matrix((3, 4), dtype=np.float32), 2, 1.0, 1.0, 2, seed=1).items.any()
