"""Nearest neighbours between two large sets, both ways at once, in bounded memory.

Every product of blocks serves both: which rows of B are near a row of A, and the reverse.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import as_unit32
from embcli.core.matching import THREADS, Advance, kth_best

# A block of rows is multiplied with a block of columns at once.
BLOCK = 2048
# How many numbers of a column one stands for where a first bound is sought.
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
    left = as_unit32(a)
    return both_ways(left, left if b is a else as_unit32(b), (k, k), advance)


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


def among_themselves(
    vectors: NDArray[np.float32],
    k: int,
    advance: Advance = lambda done, total, count: None,
) -> Neighbours:
    """Find the k rows with the greatest dot products, for every row of one set; itself is one.

    Parameters
    ----------
    vectors : float32 array, shape (n, dim)
        At any length, and not empty.
    k : int
        If there are fewer rows, so many.
    advance : callable
        As of `embcli.core.matching.nearest`.

    Returns
    -------
    neighbours : Neighbours
        Those that `greatest` finds, at about half the price: every product serves both its rows.
    """
    n = len(vectors)
    best = _Best(n, min(k, n))
    with ThreadPoolExecutor(THREADS) as pool:
        for top in range(0, n, BLOCK):
            rows = vectors[top : top + BLOCK]

            def compare(
                first: int, rows: NDArray[np.float32] = rows, top: int = top
            ) -> tuple[_Found, _Found | None]:
                scores = rows @ vectors[first : first + BLOCK].T
                down = best.among(scores.T, first) if first > top else None
                return best.among(scores, top), down

            starts = range(top, n, BLOCK)
            for few in range(0, len(starts), THREADS):
                firsts = starts[few : few + THREADS]
                for first, (across, down) in zip(firsts, pool.map(compare, firsts), strict=True):
                    best.add(across, first)
                    if down is not None:
                        best.add(down, top)
            left = max(n - top - BLOCK, 0)
            advance(n * n - left * left, n * n, min(top + BLOCK, n))
    return best.sorted()


def without_own(found: Neighbours, rows: NDArray[np.int64]) -> Neighbours:
    """Leave every row itself out of its nearest, which become one fewer.

    Parameters
    ----------
    found : Neighbours
        Of `rows`, with a column more than is wanted. A row that is not among its own nearest (it
        was not looked at, or enough equal ones come first) loses the last instead.
    rows : int64 array, shape (n,)
    """
    own = found.others == rows[:, None]
    own[~own.any(axis=1), -1] = True
    shape = len(rows), found.others.shape[1] - 1
    return Neighbours(found.others[~own].reshape(shape), found.cosines[~own].reshape(shape))


def both_ways(
    left: NDArray[np.float32], right: NDArray[np.float32], k: tuple[int, int], advance: Advance
) -> tuple[Neighbours, Neighbours]:
    """Do what `neighbours` does with vectors of length 1, as many as wanted for each side."""
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
    starts = range(0, m, BLOCK)
    with ThreadPoolExecutor(THREADS) as pool:
        for top in range(0, n, BLOCK):
            rows = left[top : top + BLOCK]
            best = _Best(len(rows), min(k, m))

            def compare(
                first: int, rows: NDArray[np.float32] = rows, best: _Best = best
            ) -> tuple[_Found, _Found | None]:
                scores = rows @ right[first : first + BLOCK].T
                down = None if of_b is None else of_b.among(scores.T, first)
                return best.among(scores, 0), down

            for few in range(0, len(starts), THREADS):
                firsts = starts[few : few + THREADS]
                for first, (across, down) in zip(firsts, pool.map(compare, firsts), strict=True):
                    best.add(across, first)
                    if of_b is not None and down is not None:
                        of_b.add(down, top)
            yield best.sorted(), min(top + BLOCK, n)


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
