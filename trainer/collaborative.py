"""Item-based collaborative filtering: EASE^R and cosine neighbours, each cut to the strongest."""

from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from trainer.data import Pairs

_PART = 1024  # items whose cosines are computed at once


class Neighbours(NamedTuple):
    """What an item in a history says of others: item i adds `weights[i, n]` to the score of `items[i, n]`.

    Attributes:
      items: [items, n] int32.
      weights: [items, n] float32; 0 pads.
    """

    items: np.ndarray
    weights: np.ndarray


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
    weights = _ease(matrix[:, met], regularisation)
    keep = min(n, len(met))
    strongest = np.argpartition(-np.abs(weights), keep - 1, axis=1)[:, :keep]
    found.items[met, :keep] = met[strongest]
    found.weights[met, :keep] = np.take_along_axis(weights, strongest, axis=1)
    return found


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


def _empty(items: int, n: int) -> Neighbours:
    return Neighbours(np.zeros((items, n), np.int32), np.zeros((items, n), np.float32))


def _ease(matrix: sp.csr_matrix, regularisation: float) -> np.ndarray:
    """[items, items] float32 with a zero diagonal."""
    gram = (matrix.T @ matrix).toarray().astype(np.float32)
    gram[np.diag_indices_from(gram)] += regularisation
    factor, _ = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    # LAPACK's inverse of a Cholesky factor takes a third of the time of solving for the identity.
    lower, _ = scipy.linalg.lapack.spotri(factor, lower=True, overwrite_c=True)
    inverse = np.tril(lower) + np.tril(lower, -1).T
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights
