"""Parts a catalogue's vectors into blocks of near ones, and writes each vector as bytes.

Two levels of k-means on the sphere (spherical k-means: Dhillon and Modha 2001) make lists of about a block's size;
larger ones are parted again, so that every block has the same size and can be fetched in one piece. A vector is kept as
its difference to its block's mean, in 8 bits a number with a scale of its own: residual quantisation as in Jégou et al.
2011, "Product quantization for nearest neighbor search", section IV.

For vectors of different lengths the inner product is not what near means: they get one more dimension, which makes them
equally long (Bachrach et al. 2014, "Speeding up the Xbox recommender system"); a query has 0 there.
"""

from typing import NamedTuple

import numpy as np

_COARSE = 4000  # vectors of a part of the first level
_NEAR = 16  # parts of the first level whose lists a vector is compared with
_SMALL = 0.25  # of a block: smaller lists are dissolved
_MOVES = 2
_ROUNDS = 6
_AT_ONCE = 8192
_LEVELS = 127


Groups = list[tuple[np.ndarray, np.ndarray]]  # (rows of points, lists that they may belong to); rows are in several


class Partitions(NamedTuple):
    """A catalogue in blocks.

    Attributes:
      probes: [blocks, dimensions] float32: a block's direction: blocks are chosen by its product with a query.
      means: [blocks, dimensions] float32: of the block's vectors.
      codes: [blocks, size, dimensions] int8: differences to the mean, in units of the scale.
      scales: [blocks, size] float32.
      rows: [blocks, size] int32: which vectors they are; -1 where a block is not full.
    """

    probes: np.ndarray
    means: np.ndarray
    codes: np.ndarray
    scales: np.ndarray
    rows: np.ndarray

    def bytes(self) -> int:
        """What it takes in memory."""
        return sum(array.nbytes for array in self)


def partition(vectors: np.ndarray, size: int = 128, seed: int = 1) -> Partitions:
    """Parts vectors.

    Args:
      vectors: [items, dimensions] float32, any lengths.
      size: vectors of a block.
      seed: of the first centres.

    Raises:
      ValueError: there are no vectors, or some are not finite.
    """
    if vectors.ndim != 2 or not len(vectors) or not np.isfinite(vectors).all():
        raise ValueError("an index needs a matrix of finite vectors, at least one")
    vectors = vectors.astype(np.float32, copy=False)
    points = _on_sphere(vectors)
    lists, groups = _lists(points, size, np.random.default_rng(seed))
    list_of = _settled(points, lists, groups, size)
    return _written(vectors, points, _blocks(points, list_of, size), size)


def _on_sphere(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1)
    longest = max(float(lengths.max()), 1e-12)
    if np.allclose(lengths, longest, rtol=1e-3):
        return vectors / np.maximum(lengths, 1e-12)[:, np.newaxis]
    missing = np.sqrt(np.maximum(longest**2 - lengths**2, 0))
    return np.column_stack([vectors, missing]).astype(np.float32) / longest


def _unit(centres: np.ndarray) -> np.ndarray:
    return centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)


def _nearest(points: np.ndarray, centres: np.ndarray, count: int = 1) -> np.ndarray:
    """[points, count]: the most alike centres, the best first."""
    found = []
    for start in range(0, len(points), _AT_ONCE):
        alike = points[start : start + _AT_ONCE] @ centres.T
        best = np.argpartition(-alike, count - 1, axis=1)[:, :count] if count > 1 else alike.argmax(axis=1)[:, None]
        order = np.argsort(-np.take_along_axis(alike, best, axis=1), axis=1)
        found.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(found)


def _sums(points: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """[count, dimensions]: of the points of each group."""
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(count))
    sums = np.zeros((count, points.shape[1]), np.float32)
    filled = np.flatnonzero(np.bincount(groups, minlength=count))
    if len(filled):
        sums[filled] = np.add.reduceat(points[order], starts[filled], axis=0)
    return sums


def _k_means(points: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """[count, dimensions] unit centres."""
    centres = points[random.choice(len(points), count, replace=False)]
    for _ in range(_ROUNDS):
        sums = _sums(points, _nearest(points, centres)[:, 0], count)
        empty = ~sums.any(axis=1)
        sums[empty] = points[random.choice(len(points), int(empty.sum()))]
        centres = _unit(sums)
    return centres


def _lists(points: np.ndarray, members: int, random: np.random.Generator) -> tuple[np.ndarray, Groups]:
    """Centres of lists of about so many members, and groups of points with the lists that are near to them."""
    parts = max(len(points) // _COARSE, 1)
    sample = points[random.choice(len(points), min(len(points), parts * 256), replace=False)]
    coarse = _k_means(sample, parts, random)
    near = _nearest(points, coarse, min(_NEAR, parts))
    first = near[:, 0]
    lists: list[np.ndarray] = []
    groups: Groups = []
    for part in range(parts):
        own = np.flatnonzero(first == part)
        if len(own):
            start, count = sum(map(len, lists)), -(-len(own) // members)
            lists.append(_k_means(points[own], count, random))
            groups.append((np.flatnonzero((near == part).any(axis=1)), np.arange(start, start + count)))
    return np.concatenate(lists), groups


def _members(points: np.ndarray, lists: np.ndarray, groups: Groups) -> np.ndarray:
    """[points]: the most alike list of each, among those of its groups."""
    found, most = np.full(len(points), -1, np.int64), np.full(len(points), -np.inf, np.float32)
    for rows, own in groups:
        for some in (rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)):
            alike = points[some] @ lists[own].T
            best = alike.argmax(axis=1)
            value = alike[np.arange(len(some)), best]
            better = value > most[some]
            found[some[better]], most[some[better]] = own[best[better]], value[better]
    lost = np.flatnonzero(found < 0)  # all lists near to them were dissolved
    if len(lost):
        left = np.unique(np.concatenate([own for _, own in groups]))
        found[lost] = left[_nearest(points[lost], lists[left])[:, 0]]
    return found


def _settled(points: np.ndarray, lists: np.ndarray, groups: Groups, size: int) -> np.ndarray:
    """[points]: the list of each, once lists have moved to where their points are and small ones were dissolved."""
    for _ in range(_MOVES):
        found = _members(points, lists, groups)
        counts = np.bincount(found, minlength=len(lists))
        lists = _unit(_sums(points, found, len(lists)))
        stays = counts >= min(size * _SMALL, counts.max())
        groups = [(rows, own[stays[own]]) for rows, own in groups if stays[own].any()]
    return _members(points, lists, groups)


def _blocks(points: np.ndarray, list_of: np.ndarray, size: int) -> np.ndarray:
    """[points]: the block of each: a list of more points than a block takes is parted into equal ones."""
    block_of, count = np.empty(len(points), np.int64), 0
    order = np.argsort(list_of, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(list_of[order])) + 1):
        for part in _parted(points, rows, -(-len(rows) // size)):
            block_of[part] = count
            count += 1
    return block_of


def _parted(points: np.ndarray, rows: np.ndarray, parts: int) -> list[np.ndarray]:
    """Rows in equal parts, cut across the direction in which their points differ most."""
    if parts == 1:
        return [rows]
    centred = points[rows] - points[rows].mean(axis=0)
    direction = centred[np.argmax(np.einsum("ij,ij->i", centred, centred))]
    for _ in range(_ROUNDS):  # power iteration
        direction = centred.T @ (centred @ direction)
        direction /= max(float(np.linalg.norm(direction)), 1e-12)
    order, first = rows[np.argsort(centred @ direction, kind="stable")], parts // 2
    cut = len(rows) * first // parts
    return _parted(points, order[:cut], first) + _parted(points, order[cut:], parts - first)


def _written(vectors: np.ndarray, points: np.ndarray, block_of: np.ndarray, size: int) -> Partitions:
    blocks = int(block_of.max()) + 1
    order = np.argsort(block_of, kind="stable")
    place = np.arange(len(order)) - np.searchsorted(block_of[order], block_of[order])
    rows = np.full((blocks, size), -1, np.int32)
    rows[block_of[order], place] = order
    counts = np.bincount(block_of, minlength=blocks)[:, np.newaxis]
    means = _sums(vectors, block_of, blocks) / counts
    probes = _unit(_sums(points, block_of, blocks))[:, : vectors.shape[1]]
    codes = np.zeros((blocks, size, vectors.shape[1]), np.int8)
    scales = np.zeros((blocks, size), np.float32)
    for start in range(0, blocks, 256):
        some = slice(start, start + 256)
        differences = vectors[np.maximum(rows[some], 0)] - means[some, np.newaxis]
        largest = np.abs(differences).max(axis=2) / _LEVELS
        scales[some] = np.where(rows[some] >= 0, np.maximum(largest, 1e-12), 0)
        codes[some] = (
            np.round(differences / np.maximum(scales[some], 1e-12)[:, :, np.newaxis]).clip(-_LEVELS, _LEVELS)
            * (rows[some] >= 0)[:, :, np.newaxis]
        )
    return Partitions(probes.astype(np.float32), means.astype(np.float32), codes, scales, rows)
