"""Cross-domain similarity local scaling (CSLS) between large sets, in bounded memory."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import as_unit32, pair_cosines
from embcli.core.matching import SLACK, THREADS, Advance, Matches
from embcli.core.neighbours import BLOCK, both_ways
from embcli.core.topk import DECIMALS

# More neighbours than densities need, so that what they bound is little, see `csls`.
_WIDTH = 16


def densities(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    k: int = 10,
    advance: Advance = lambda done, total, count: None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average the cosines with the k nearest on the other side: how crowded it is there.

    Returns
    -------
    r_a, r_b : float64 array, shapes (n,) and (m,)
        CSLS is twice the cosine less these.

    Notes
    -----
    As `embcli.core.neighbours.neighbours`, and averaged in float64: equal vectors have equal
    densities.
    """
    left = as_unit32(a)
    right = left if b is a else as_unit32(b)
    of_a, of_b = both_ways(left, right, (k, k), advance)
    return _density(left, right, of_a.others), _density(right, left, of_b.others)


def csls(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    k: int = 1,
    *,
    neighbourhood: int = 10,
    advance: Advance = lambda done, total, count: None,
) -> Matches:
    """Find the k best rows of B for every row of A by CSLS, among all; of equals the first.

    Parameters
    ----------
    a, b : float array, shape (n, dim) and (m, dim)
        Not modified. Neither is empty.
    k : int
    neighbourhood : int
        Of how many neighbours the densities are averages.
    advance : callable
        As of `embcli.core.matching.nearest`; told of the first pass.

    Notes
    -----
    CSLS is ``2 cos(a, b) - r(a) - r(b)`` [1]_, and r(b) is only known when everything has been
    compared once. That first pass also keeps for each row of A more of its nearest than the
    densities need. Let s be the least of their cosines and v the k-th best value among them: any
    other row of B has a cosine of s at most, so only those with ``r(b) < 2 s - v`` (r(a) left out)
    can do better. With B in the order of r these are the first rows, few or none, and only they
    are multiplied again. Nothing is left out that could be among the k best.

    Values are compared in float64. O(n · m · dim) time, O((n + m) · (dim + k)) memory.

    References
    ----------
    .. [1] A. Conneau, G. Lample, M. Ranzato, L. Denoyer, H. Jégou. Word translation without
       parallel data. ICLR 2018.
    """
    left = as_unit32(a)
    right = left if b is a else as_unit32(b)
    wide = max(k, neighbourhood) + _WIDTH
    of_a, of_b = both_ways(left, right, (wide, neighbourhood), advance)
    own = _density(left, right, of_a.others[:, :neighbourhood])
    other = _density(right, left, of_b.others)
    values = 2 * of_a.cosines - other[of_a.others]
    enough = min(k, len(b))
    floor = np.partition(values, -enough, axis=1)[:, -enough] - 4 * SLACK
    rows, places = np.nonzero(values >= floor[:, None])
    columns = of_a.others[rows, places]
    if of_a.others.shape[1] < len(b):
        more = list(_overlooked(left, right, of_a.cosines[:, -1], floor, other))
        rows = np.concatenate([rows, *(found for found, _ in more)])
        columns = np.concatenate([columns, *(found for _, found in more)])
        rows, columns = np.divmod(np.unique(rows * len(b) + columns), len(b))
    return _ranked(a, b, rows, columns, (own, other), k)


def _density(
    vectors: NDArray[np.float32], others: NDArray[np.float32], near: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Average the products of every vector and those near it, each by itself in float64."""
    means = np.zeros(len(vectors))
    for start in range(0, len(vectors), BLOCK):
        part = slice(start, start + BLOCK)
        exact = vectors[part].astype(np.float64)
        for place in near[part].T:
            means[part] += np.einsum("ij,ij->i", exact, others[place])
    means /= near.shape[1]
    return means.round(DECIMALS)


def _ranked(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    density: tuple[NDArray[np.float64], NDArray[np.float64]],
    k: int,
) -> Matches:
    cosines = pair_cosines(a, b, rows, columns)
    values = (2 * cosines - density[0][rows] - density[1][columns]).round(DECIMALS)
    order = np.lexsort((columns, -values, rows))
    rows = rows[order]
    ranks = np.arange(len(rows)) - np.searchsorted(rows, rows) + 1
    found = Matches(rows, columns[order], cosines[order], values[order], ranks)
    return found.take(ranks <= k)


def _overlooked(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    least: NDArray[np.float32],
    floor: NDArray[np.float64],
    density: NDArray[np.float64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Find pairs that reach the floor of their row though the cosine is `least` or less."""
    by_density = np.argsort(density, kind="stable")
    right, crowded = right[by_density], density[by_density].astype(np.float32)
    width = np.searchsorted(crowded, 2 * least - floor)
    by_width = np.argsort(-width, kind="stable")
    by_width = by_width[width[by_width] > 0]

    def reached(tile: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows = by_width[tile[0] : tile[0] + BLOCK]
        first, last = tile[1], min(tile[1] + BLOCK, int(width[rows[0]]))
        scores = left[rows] @ right[first:last].T
        scores *= np.float32(2)
        scores -= crowded[first:last]
        found = np.flatnonzero(scores >= floor[rows].astype(np.float32)[:, None])
        row, column = np.divmod(found, last - first)
        return rows[row], by_density[first + column]

    tiles = [
        (start, first)
        for start in range(0, len(by_width), BLOCK)
        for first in range(0, int(width[by_width[start]]), BLOCK)
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(reached, tiles)
