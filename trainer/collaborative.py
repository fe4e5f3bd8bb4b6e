"""Collaborative filtering: EASE^R and cosine neighbours, each cut to the strongest, and matrix factorisation."""

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import tensorflow as tf

from trainer.data import Pairs

_PART = 1024  # rows that are computed at once
_ROOM = 262_144  # pairs that are looked at at once


class Neighbours(NamedTuple):
    """What an item in a history says of others: item i adds `weights[i, n]` to the score of `items[i, n]`.

    Attributes:
      items: [items, n] int32.
      weights: [items, n] float32; 0 pads.
    """

    items: np.ndarray
    weights: np.ndarray


class Factors(NamedTuple):
    """Matrix factorisation: a score is the dot product of an item's vector and a user's, which `solve_factors` finds by
    what the user had.

    Attributes:
      items: [items, factors] float32.
      gram: [factors, factors] float32: all items' outer products, plus lambda.
      weight: float32 scalar, what a pair that was observed counts more than one that was not, which counts 1.
    """

    items: np.ndarray
    gram: np.ndarray
    weight: np.ndarray


class Filters(NamedTuple):
    """What the log says of items without reading them.

    Attributes:
      ease, alike: by items: EASE^R and cosines.
      factors: by matrix factorisation.
    """

    ease: Neighbours
    alike: Neighbours
    factors: Factors


def learn_filters(
    matrix: sp.csr_matrix, hyper: dict[str, Any], seed: int, rounds: int, start: np.ndarray | None = None
) -> Filters:
    """Learns all of them from a matrix [users, items] of 0 and 1; `hyper` is the configuration's `ranking` section,
    `rounds` and `start` are of `als_factors`."""
    return Filters(
        ease_neighbours(matrix, hyper["regularisation"], hyper["neighbours"], hyper["exact_items"]),
        cosine_neighbours(matrix, hyper["shrinkage"], hyper["nearest_items"], hyper["neighbours"]),
        als_factors(
            matrix,
            hyper["factors"],
            hyper["factor_weight"],
            hyper["factor_regularisation"],
            rounds,
            seed,
            start,
        ),
    )


def interaction_matrix(pairs: Pairs, users: int, items: int) -> sp.csr_matrix:
    """[users, items] float32, 1 where the user has had the item; pairs of unknown users or items are left out."""
    known = (pairs.users < users) & (pairs.items >= 0)
    cells = (pairs.users[known], pairs.items[known])
    matrix = sp.csr_matrix((np.ones(known.sum(), np.float32), cells), (users, items))
    matrix.data[:] = 1
    return matrix


def ease_neighbours(matrix: sp.csr_matrix, regularisation: float, n: int, exact_items: int) -> Neighbours:
    """EASE^R (Steck 2019, arXiv 1905.03375), solved where the catalogue is small enough to be inverted, else empty.

    Args:
      matrix: [users, items], 0 or 1.
      regularisation: lambda.
      n: neighbours that are kept of each item, those of the largest absolute weight.
      exact_items: largest number of items with an event for which it is solved; its time grows with the cube.
    """
    items = matrix.shape[1]
    met = np.flatnonzero(matrix.getnnz(axis=0))
    if not 2 <= len(met) <= exact_items:
        return _empty(items, 1)
    found = _empty(items, min(n, items))
    weights = ease_weights(matrix[:, met], regularisation)
    keep = min(n, len(met))
    strongest = np.argpartition(-np.abs(weights), keep - 1, axis=1)[:, :keep]
    found.items[met, :keep] = met[strongest]
    found.weights[met, :keep] = np.take_along_axis(weights, strongest, axis=1)
    return found


def ease_weights(matrix: sp.csr_matrix, regularisation: float) -> np.ndarray:
    """EASE^R (Steck 2019, arXiv 1905.03375), whole: [items, items] float32 with a zero diagonal, by which a row of
    [users, items] is multiplied. `regularisation` is lambda, above 0."""
    gram = (matrix.T @ matrix).toarray().astype(np.float32)
    gram[np.diag_indices_from(gram)] += regularisation
    factor, _ = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    # LAPACK's inverse of a Cholesky factor takes a third of the time of solving for the identity.
    lower, _ = scipy.linalg.lapack.spotri(factor, lower=True, overwrite_c=True)
    inverse = np.tril(lower) + np.tril(lower, -1).T
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def cosine_neighbours(matrix: sp.csr_matrix, shrinkage: float, nearest: int, n: int) -> Neighbours:
    """Item-kNN: an item is scored by those of its `nearest` items that a history holds, by their cosine. Sparse
    throughout, so for a catalogue of any size.

    Args:
      matrix: [users, items], 0 or 1.
      shrinkage: users that are added to each item's when its cosines are taken: few in common say little.
      nearest: of each item, as many as score it.
      n: the most items that one of a history scores; the farthest are left out of it.
    """
    items = matrix.shape[1]
    norms = np.asarray(matrix.sum(axis=0)).ravel() + shrinkage
    scaled = (matrix @ sp.diags(1 / np.sqrt(np.maximum(norms, 1e-9)))).T.tocsr().astype(np.float32)
    sources: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    cosines: list[np.ndarray] = []
    for start in range(0, items, _PART):
        part = (scaled[start : start + _PART] @ scaled.T).tocsr()
        for i in range(part.shape[0]):
            row = slice(part.indptr[i], part.indptr[i + 1])
            others, values = part.indices[row], np.where(part.indices[row] == start + i, 0, part.data[row])
            best = np.argpartition(-values, nearest - 1)[:nearest] if len(values) > nearest else np.arange(len(values))
            best = best[values[best] > 0]
            sources.append(others[best])
            targets.append(np.full(len(best), start + i))
            cosines.append(values[best])
    source, target, cosine = (np.concatenate([np.zeros(0), *parts]) for parts in (sources, targets, cosines))
    order = np.lexsort((-cosine, source))
    source, target, cosine = source[order].astype(np.int64), target[order], cosine[order]
    place = np.arange(len(source)) - np.searchsorted(source, source)
    kept = place < n
    found = _empty(items, max(int(place[kept].max(initial=0)) + 1, 1))
    found.items[source[kept], place[kept]] = target[kept]
    found.weights[source[kept], place[kept]] = cosine[kept]
    return found


def als_factors(
    matrix: sp.csr_matrix,
    n: int,
    weight: float,
    regularisation: float,
    iterations: int,
    seed: int,
    start: np.ndarray | None = None,
) -> Factors:
    """Implicit matrix factorisation by alternating least squares (Hu, Koren and Volinsky 2008, doi
    10.1109/ICDM.2008.22): every pair is there, as 0 or 1, and those that are 1 count more.

    Args:
      matrix: [users, items], 0 or 1.
      n: how many factors.
      weight: see `Factors`.
      regularisation: lambda.
      iterations: rounds of users and items.
      seed: of the factors' start.
      start: [items, n], the items' factors to begin with, zeros for one that has none; None for small random ones.
    """
    if start is None:
        start = np.random.default_rng(seed).standard_normal((matrix.shape[1], n)) * 0.01
    items = tf.constant(start, tf.float32)
    by_item, identity = matrix.T.tocsr(), regularisation * tf.eye(n)
    for _ in range(iterations):
        users = _solved(matrix, items, weight, identity)
        items = _solved(by_item, users, weight, identity)
    missing = np.flatnonzero(~items.numpy().any(axis=1) & (matrix.getnnz(axis=0) > 0))
    if len(missing):
        theirs = _solved(by_item[missing], _solved(matrix, items, weight, identity), weight, identity)
        items = tf.tensor_scatter_nd_update(items, missing[:, np.newaxis], theirs)
    gram = tf.matmul(items, items, transpose_a=True) + identity
    return Factors(items.numpy(), gram.numpy(), np.array(weight, np.float32))


def solve_factors(factors: Factors, theirs: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Least-squares vectors of what has been observed.

    Args:
      factors: of the other side.
      theirs: [rows, n, factors] float32, the vectors of what a row has been seen with.
      shares: [rows, n] float32 in [0, 1]: how far it has been; 0 pads.

    Returns:
      [rows, factors] float32; zeros for a row with nothing.
    """
    left = factors.gram + factors.weight * tf.matmul(theirs, theirs * shares[:, :, tf.newaxis], transpose_a=True)
    right = (1.0 + factors.weight) * tf.einsum("bl,blf->bf", shares, theirs)
    return tf.linalg.cholesky_solve(tf.linalg.cholesky(left), right[:, :, tf.newaxis])[:, :, 0]


def _solved(matrix: sp.csr_matrix, others: tf.Tensor, weight: float, identity: tf.Tensor) -> tf.Tensor:
    """[rows, n] float32: the vectors of all rows of a matrix, by those of its columns."""
    factors = Factors(others, tf.matmul(others, others, transpose_a=True) + identity, np.array(weight, np.float32))
    lengths = np.diff(matrix.indptr)
    # Rows of about the same length at once, as many as there is room for their pairs.
    order = np.argsort(-lengths, kind="stable")
    start, found = 0, []
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        rows = order[start : start + max(1, _ROOM // longest)]
        is_there = np.arange(longest) < lengths[rows][:, np.newaxis]
        places = np.where(is_there, matrix.indptr[rows][:, np.newaxis] + np.arange(longest), 0)
        theirs = tf.gather(others, matrix.indices[places] if matrix.nnz else np.zeros_like(places))
        found.append(solve_factors(factors, theirs, tf.constant(is_there, tf.float32)))
        start += len(rows)
    return tf.gather(tf.concat(found, axis=0), np.argsort(order))


def _empty(items: int, n: int) -> Neighbours:
    return Neighbours(np.zeros((items, n), np.int32), np.zeros((items, n), np.float32))
