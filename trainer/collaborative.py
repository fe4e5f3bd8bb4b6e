"""Item-based collaborative filtering: EASE^R, cut to each item's strongest neighbours."""

from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from trainer.data import Pairs


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


def item_neighbours(matrix: sp.csr_matrix, regularisation: float, n: int, exact_items: int) -> Neighbours:
    """EASE^R (Steck 2019, arXiv 1905.03375) where the catalogue is small enough to be inverted, else the cosine.

    Args:
      matrix: [users, items], 0 or 1.
      regularisation: lambda of EASE^R; for the cosine, what is added to the norms (shrinkage).
      n: neighbours that are kept of each item, those of the largest absolute weight.
      exact_items: largest number of items with an event for which EASE^R is solved; its time grows with the cube.
    """
    items = matrix.shape[1]
    met = np.flatnonzero(matrix.getnnz(axis=0))
    n = min(n, items)
    found = Neighbours(np.zeros((items, n), np.int32), np.zeros((items, n), np.float32))
    if len(met) < 2:
        return found
    if len(met) <= exact_items:
        weights = _ease(matrix[:, met], regularisation)
        keep = min(n, len(met))
        strongest = np.argpartition(-np.abs(weights), keep - 1, axis=1)[:, :keep]
        found.items[met, :keep] = met[strongest]
        found.weights[met, :keep] = np.take_along_axis(weights, strongest, axis=1)
        return found
    norms = np.asarray(matrix.sum(axis=0)).ravel() + regularisation
    transposed = (matrix @ sp.diags(1 / np.sqrt(norms))).T.tocsr().astype(np.float32)
    for start in range(0, items, _PART):
        part = (transposed[start : start + _PART] @ transposed.T).tocsr()
        for i in range(part.shape[0]):
            row = slice(part.indptr[i], part.indptr[i + 1])
            others, cosines = part.indices[row], part.data[row]
            others, cosines = others[others != start + i], cosines[others != start + i]
            best = np.argsort(-cosines, kind="stable")[:n]
            found.items[start + i, : len(best)] = others[best]
            found.weights[start + i, : len(best)] = cosines[best]
    return found


_PART = 1024  # items whose cosines are computed at once


def _ease(matrix: sp.csr_matrix, regularisation: float) -> np.ndarray:
    """[items, items] float32 with a zero diagonal."""
    gram = (matrix.T @ matrix).toarray().astype(np.float32)
    gram[np.diag_indices_from(gram)] += regularisation
    factor = scipy.linalg.cho_factor(gram, overwrite_a=True, check_finite=False)
    inverse = scipy.linalg.cho_solve(factor, np.eye(len(gram), dtype=np.float32), check_finite=False)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights
