"""Near-duplicates: all pairs of vectors above a threshold, exactly, and the groups they make."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import as_unit32, pair_cosines, unit, unit32

Advance = Callable[[int, int, int], None]

# A block of rows is compared with itself at once.
_ROWS = 1024
_COLUMNS = 4096
# What tiles find is held until it is looked at, and may be as much as there are pairs.
_THREADS = min(os.cpu_count() or 1, 8)
_PENDING = 1 << 22
# How far a float32 product of unit vectors may be from their cosine.
_SLACK = 1e-5
# What a pair costs, in ns: to be looked at, for each component of the product, and, if it passes,
# for each component of the comparison in full. Measured on a Xeon; only the speed depends on them.
_LOOK, _MULTIPLY, _COMPARE = 0.25, 0.0045, 2.0
# And what the axes cost, for each component cubed.
_AXES = 0.4
_WIDTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_SAMPLE = 4096
_AT_ONCE = 1 << 14


class Grouping(NamedTuple):
    """Which vector each one is a duplicate of.

    Attributes
    ----------
    kept : int64 array, shape (n,)
        Row of the one kept of the group; of those kept, and of those alone, their own.
    scores : float64 array, shape (n,)
        Cosine with it; 1 with itself.
    """

    kept: NDArray[np.int64]
    scores: NDArray[np.float64]


def star_groups(
    vectors: NDArray[np.float32],
    threshold: float,
    advance: Advance = lambda done, total, count: None,
) -> Grouping:
    """Keep the first vector, drop what is near it, keep the first of the others, and so on.

    No two vectors that are kept have a cosine of `threshold` or more, and each that is dropped
    has one with the vector it is dropped for: the nearest of those kept that come before it,
    the first of equals. Groups do not chain.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        In the order in which they have a right to be kept.
    threshold : float
        Above 0.
    advance : callable
        Told how many pairs are done, of how many, and of how many rows, time and again.

    Returns
    -------
    grouping : Grouping

    Notes
    -----
    O(n_kept · n · dim) time, O(n · dim) memory, however many pairs there are.
    """
    pairs = NearPairs(vectors, threshold)
    n = len(vectors)
    kept, scores = np.arange(n), np.full(n, -np.inf)
    for start in range(0, n, _ROWS):
        stop = min(start + _ROWS, n)
        block = np.arange(start, stop)
        block = block[kept[block] == block]
        inside = [pairs.among(*found) for found in pairs.candidates(block, start, stop)]
        for found in inside:
            _drop_in_turn(kept, scores, *found)
        block = block[kept[block] == block]
        for rows, columns, bounds in pairs.candidates(block, stop, n):
            nearer = bounds >= scores[columns] - _SLACK
            rows, columns, cosines = pairs.among(rows[nearer], columns[nearer], bounds[nearer])
            order = np.lexsort((rows, -cosines, columns))
            first = order[_is_first(columns[order])]
            first = first[cosines[first] > scores[columns[first]]]
            kept[columns[first]], scores[columns[first]] = rows[first], cosines[first]
        advance(_pairs_done(stop, n), _pairs_done(n, n), stop)
    scores[kept == np.arange(n)] = 1
    return Grouping(kept, scores)


def single_groups(
    vectors: NDArray[np.float32],
    threshold: float,
    advance: Advance = lambda done, total, count: None,
) -> Grouping:
    """Put vectors into one group that a chain of near pairs connects (single linkage).

    Of every group the first is kept; the cosine with it may be below `threshold`.

    Parameters
    ----------
    vectors, threshold, advance
        As of `star_groups`.

    Returns
    -------
    grouping : Grouping

    Notes
    -----
    O(n² · dim) time, O(n · dim) memory: pairs within what is known to be one group are passed
    over, others are merged as they come.
    """
    pairs = NearPairs(vectors, threshold)
    n = len(vectors)
    kept = np.arange(n)
    for start in range(0, n, _ROWS):
        stop = min(start + _ROWS, n)
        found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for rows, columns, bounds in pairs.candidates(np.arange(start, stop), start, n):
            apart = kept[rows] != kept[columns]
            rows, columns, _ = pairs.among(rows[apart], columns[apart], bounds[apart])
            found.append((rows, columns))
            if sum(len(rows) for rows, _ in found) > _PENDING:
                kept, found = _merged(kept, found), []
        kept = _merged(kept, found)
        advance(_pairs_done(stop, n), _pairs_done(n, n), stop)
    scores = np.ones(n)
    others = np.flatnonzero(kept != np.arange(n))
    scores[others] = pair_cosines(vectors, vectors, others, kept[others])
    return Grouping(kept, scores)


class NearPairs:
    """The pairs of vectors with a cosine of at least `threshold`, found without comparing all.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Not modified.
    threshold : float
        Above 0.

    Notes
    -----
    Vectors are scaled to length 1 and turned onto their principal axes. Let x1 be the first
    components of x and x2 the others. By Cauchy and Schwarz x·y ≤ x1·y1 + |x2||y2|, which is
    the product of two shorter vectors, (x1, |x2|) and (y1, |y2|), so one product in float32
    finds every pair that may be near and few others. These are compared in full, in float64.
    How many components are taken is decided by what passes in a sample: fewer make the product
    cheaper. Of few vectors, which this would not pay for, all are. The result does not depend on
    that, nor on how the pairs are divided.

    Tiles are shared among threads; a BLAS with threads of its own should be held to one, because
    products this small only lose by being divided.
    """

    def __init__(self, vectors: NDArray[np.float32], threshold: float) -> None:
        self._vectors = vectors
        self._threshold = threshold
        self._short = _shortened(vectors, threshold)

    def candidates(
        self, rows: NDArray[np.int64], start: int, stop: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
        """Find pairs of one of `rows` and a later one from `start` on that may be near.

        Yields
        ------
        rows, columns : int64 array, shape (m,)
            By rising row, then column; the row is below the column.
        bounds : float32 array, shape (m,)
            What the cosine does not exceed, save for rounding.
        """
        left = self._short[rows]

        def near(first: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
            right = self._short[first : min(first + _COLUMNS, stop)]
            bounds = (left @ right.T).ravel()
            # Flat, because np.nonzero takes eight times as long on two axes.
            found = np.flatnonzero(bounds >= self._threshold - _SLACK)
            row, column = rows[found // len(right)], found % len(right) + first
            later = row < column
            return row[later], column[later], bounds[found[later]]

        tiles = range(start, stop, _COLUMNS) if len(rows) else range(0)
        with ThreadPoolExecutor(_THREADS) as pool:
            for few in range(0, len(tiles), 2 * _THREADS):
                yield from pool.map(near, tiles[few : few + 2 * _THREADS])

    def among(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], bounds: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Compare candidates in full; return those that are near, and their cosines."""
        cosines = pair_cosines(self._vectors, self._vectors, rows, columns)
        near = cosines >= self._threshold
        return rows[near], columns[near], cosines[near]


def _drop_in_turn(
    kept: NDArray[np.int64],
    scores: NDArray[np.float64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    cosines: NDArray[np.float64],
) -> None:
    """Drop what is near to a vector that is kept, one after the other, in place."""
    starts = np.flatnonzero(_is_first(rows)).tolist()
    for first, end in pairwise([*starts, len(rows)]):
        row = rows[first]
        if kept[row] == row:
            near, found = columns[first:end], cosines[first:end]
            better = found > scores[near]
            kept[near[better]], scores[near[better]] = row, found[better]


def _merged(
    roots: NDArray[np.int64], pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> NDArray[np.int64]:
    """Give the roots, each the least of its group, after groups that pairs connect are joined."""
    if not pairs:
        return roots
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    while True:
        one, other = roots[left], roots[right]
        apart = one != other
        if not apart.any():
            return roots
        left, right = one[apart], other[apart]
        roots = roots.copy()
        np.minimum.at(roots, np.maximum(left, right), np.minimum(left, right))
        while not np.array_equal(above := roots[roots], roots):
            roots = above


def _shortened(vectors: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Make vectors of length 1 whose product is at least the cosine; see `NearPairs`."""
    n, dim = vectors.shape
    if n * n / 2 * (_LOOK + _MULTIPLY * dim) <= _AXES * dim**3:
        return as_unit32(vectors)
    rng = np.random.default_rng(0)
    sample = unit(vectors[np.sort(rng.permutation(n)[: 4 * _SAMPLE])])
    axes = np.linalg.eigh(sample.T @ sample)[1][:, ::-1].astype(np.float32)
    some = sample[rng.permutation(len(sample))[:_SAMPLE]].astype(np.float32) @ axes

    def cost(width: int) -> float:
        short = _cut(some, width)
        few = len(short) // 4
        scores = short[:few] @ short[few:].T
        passed = float((scores >= threshold - _SLACK).mean()) if scores.size else 0.0
        return float(_LOOK + _MULTIPLY * width + _COMPARE * dim * passed)

    width: int = min((*(width for width in _WIDTHS if width < dim), dim), key=cost)
    short = np.empty((n, width), np.float32)
    for start in range(0, n, _AT_ONCE):
        part = unit32(vectors[start : start + _AT_ONCE])
        short[start : start + _AT_ONCE] = _cut(part @ axes, width)
    return short


def _cut(turned: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Keep all components but the last of `width`, which becomes the length of the others."""
    if width == turned.shape[1]:
        return turned
    rest = np.linalg.norm(turned[:, width - 1 :], axis=1, keepdims=True)
    return np.hstack([turned[:, : width - 1], rest])


def _is_first(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which of sorted values are the first of their kind."""
    first = np.ones(len(values), np.bool_)
    first[1:] = values[1:] != values[:-1]
    return first


def _pairs_done(rows: int, n: int) -> int:
    return rows * n - rows * (rows + 1) // 2
