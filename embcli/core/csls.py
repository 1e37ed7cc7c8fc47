"""Cross-domain similarity local scaling (CSLS) between large sets, in bounded memory.

Every product of blocks serves both ways: which rows of B are near a row of A, and the reverse.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import pair_cosines, unit32
from embcli.core.matching import SLACK, THREADS, Advance, Matches, kth_best
from embcli.core.topk import DECIMALS

# A block of rows is multiplied with a block of columns at once.
_BLOCK = 2048
# More neighbours than densities need, so that what they bound is little, see `csls`.
_WIDTH = 16
_FOLD = 16


class Neighbours(NamedTuple):
    """The nearest rows of the other side, for every row.

    Attributes
    ----------
    others : int64 array, shape (n, k)
        By falling cosine; of equals those that come first.
    cosines : float32 array, shape (n, k)
    """

    others: NDArray[np.int64]
    cosines: NDArray[np.float32]


def neighbours(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    k: int,
    advance: Advance = lambda done, total, count: None,
) -> tuple[Neighbours, Neighbours]:
    """Find the k nearest rows of B for every row of A, and the reverse, in one pass.

    Parameters
    ----------
    a, b : float array, shape (n, dim) and (m, dim)
        Not modified. Neither is empty.
    k : int
        If a side has fewer rows, so many.
    advance : callable
        As of `embcli.core.matching.nearest`.

    Returns
    -------
    of_a, of_b : Neighbours

    Notes
    -----
    Products are in float32, and cosines that differ by less than 1e-6 may come in any order.
    O(n · m · dim) time, O((n + m) · (dim + k)) memory. Blocks are shared among threads, as in
    `embcli.core.duplicates.NearPairs`.
    """
    left = unit32(a)
    return _neighbours(left, left if b is a else unit32(b), (k, k), advance)


def greatest(
    a: NDArray[np.float32], b: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the k rows of B with the greatest dot products, for every row of A.

    Parameters
    ----------
    a, b : float32 array, shape (n, dim) and (m, dim)
        At any length. Neither is empty.
    k : int
        If B has fewer rows, so many.

    Returns
    -------
    others : int64 array, shape (n, k)
        By falling product; of equals those that come first.
    products : float32 array, shape (n, k)

    Notes
    -----
    As `neighbours`, one way only.
    """
    found = [of_block for of_block, _ in _compared(a, b, k, None)]
    return Neighbours._make(np.concatenate(side) for side in zip(*found, strict=True))


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
    As `neighbours`, and averaged in float64: of equal vectors the densities are equal.
    """
    left = unit32(a)
    right = left if b is a else unit32(b)
    of_a, of_b = _neighbours(left, right, (k, k), advance)
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
    left = unit32(a)
    right = left if b is a else unit32(b)
    wide = max(k, neighbourhood) + _WIDTH
    of_a, of_b = _neighbours(left, right, (wide, neighbourhood), advance)
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
    for start in range(0, len(vectors), _BLOCK):
        part = slice(start, start + _BLOCK)
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
        rows = by_width[tile[0] : tile[0] + _BLOCK]
        first, last = tile[1], min(tile[1] + _BLOCK, int(width[rows[0]]))
        scores = left[rows] @ right[first:last].T
        scores *= np.float32(2)
        scores -= crowded[first:last]
        found = np.flatnonzero(scores >= floor[rows].astype(np.float32)[:, None])
        row, column = np.divmod(found, last - first)
        return rows[row], by_density[first + column]

    tiles = [
        (start, first)
        for start in range(0, len(by_width), _BLOCK)
        for first in range(0, int(width[by_width[start]]), _BLOCK)
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(reached, tiles)


def _neighbours(
    left: NDArray[np.float32], right: NDArray[np.float32], k: tuple[int, int], advance: Advance
) -> tuple[Neighbours, Neighbours]:
    n, m = len(left), len(right)
    of_b = _Best(m, min(k[1], n))
    of_a: list[Neighbours] = []
    for found, done in _compared(left, right, k[0], of_b):
        of_a.append(found)
        advance(done * m, n * m, done)
    return Neighbours._make(np.concatenate(side) for side in zip(*of_a, strict=True)), of_b.sorted()


def _compared(
    left: NDArray[np.float32], right: NDArray[np.float32], k: int, of_b: "_Best | None"
) -> Iterator[tuple[Neighbours, int]]:
    """Give the nearest of a block of rows, and how many rows are done; fill `of_b` meanwhile."""
    n, m = len(left), len(right)
    starts = range(0, m, _BLOCK)
    with ThreadPoolExecutor(THREADS) as pool:
        for top in range(0, n, _BLOCK):
            rows = left[top : top + _BLOCK]
            best = _Best(len(rows), min(k, m))

            def compare(
                first: int, rows: NDArray[np.float32] = rows, best: _Best = best
            ) -> tuple[_Found, _Found | None]:
                scores = rows @ right[first : first + _BLOCK].T
                down = None if of_b is None else of_b.among(scores.T, first)
                return best.among(scores, 0), down

            for few in range(0, len(starts), THREADS):
                firsts = starts[few : few + THREADS]
                for first, (across, down) in zip(firsts, pool.map(compare, firsts), strict=True):
                    best.add(across, first)
                    if of_b is not None and down is not None:
                        of_b.add(down, top)
            yield best.sorted(), min(top + _BLOCK, n)


class _Found(NamedTuple):
    """Scores that may be among the best of their owners."""

    owners: NDArray[np.int32]
    others: NDArray[np.int32]
    scores: NDArray[np.float32]


class _Best:
    """The k greatest scores of each of n owners, while scores come block by block.

    What reaches the k-th greatest so far is collected, and sorted out only when there is as much
    of it as of what is kept: the rest is passed over at the price of one comparison.
    """

    def __init__(self, n: int, k: int) -> None:
        self._n, self._k = n, k
        self._floor = np.full(n, -np.inf, np.float32)
        self._parts: list[_Found] = []
        self._pending = 0

    def among(self, scores: NDArray[np.float32], first: int) -> _Found:
        """Pick from a block what may matter; its rows are the owners from `first` on.

        Others are counted from 0. May run in several threads, and while something is added: at
        worst too much is picked.
        """
        floor = self._floor[first : first + len(scores)]
        new = floor[0] == -np.inf
        # In the order of memory, whichever side is the owner.
        if scores.flags.c_contiguous:
            if new:
                floor = kth_best(scores, self._k)
            found = np.flatnonzero(scores >= floor[:, None])
            owners, others = np.divmod(found, scores.shape[1])
        else:
            flat = scores.T
            if new:
                floor = kth_best(_folded(flat, self._k), self._k)
            found = np.flatnonzero(flat >= floor)
            others, owners = np.divmod(found, flat.shape[1])
        picked = scores[owners, others]
        return _Found((owners + first).astype(np.int32), others.astype(np.int32), picked)

    def add(self, found: _Found, first: int) -> None:
        """Take in what was picked; its others are those from `first` on."""
        self._parts.append(found._replace(others=found.others + np.int32(first)))
        self._pending += len(found.owners)
        if self._pending > self._n * self._k:
            self._sort()

    def sorted(self) -> Neighbours:
        """Give the best of all owners."""
        self._sort()
        (best,) = self._parts
        shape = self._n, self._k
        return Neighbours(best.others.astype(np.int64).reshape(shape), best.scores.reshape(shape))

    def _sort(self) -> None:
        owners, others, scores = (np.concatenate(side) for side in zip(*self._parts, strict=True))
        order = np.argsort(_keys(owners, scores), kind="stable")
        owners = owners[order]
        starts = np.searchsorted(owners, np.arange(self._n))
        ranks = np.arange(len(owners)) - starts[owners]
        kept = order[ranks < self._k]
        self._parts = [_Found(owners[ranks < self._k], others[kept], scores[kept])]
        last = ranks == self._k - 1
        self._floor[owners[last]] = scores[order[last]]
        self._pending = 0


def _folded(scores: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Give columns as rows, of some numbers only the greatest; k of them are k of the column."""
    size = max(1, min(_FOLD, len(scores) // (2 * k)))
    groups = len(scores) // size
    greatest = scores[: groups * size].reshape(size, groups, -1).max(axis=0)
    return np.ascontiguousarray(greatest.T)


def _keys(owners: NDArray[np.int32], scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Give numbers that rise by owner, then by falling score."""
    bits = scores.view(np.int32)
    # The bits of a float rise with it if it is positive, and fall if not.
    rising = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    keys: NDArray[np.int64] = (owners.astype(np.int64) << 32) - rising
    return keys
