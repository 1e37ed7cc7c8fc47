"""Best matches between two sets of vectors in one space: nearest, mutual, one-to-one."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import as_unit32, pair_cosines, unit
from embcli.core.topk import DECIMALS

Advance = Callable[[int, int, int], None]

THREADS = min(os.cpu_count() or 1, 8)
_ROWS = 1024
_NUMBERS_AT_ONCE = 1 << 24
_GROUP = 64
# How far a float32 product of unit vectors may be from their cosine.
SLACK = 1e-5


class Matches(NamedTuple):
    """Pairs of a row of A and a row of B.

    Attributes
    ----------
    rows, columns : int64 array, shape (m,)
        By rising row, then by rank.
    cosines : float64 array, shape (m,)
    values : float64 array, shape (m,)
        What they are ranked by: the cosines, or with CSLS what these become.
    ranks : int64 array, shape (m,)
        1 for the best match of the row.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    cosines: NDArray[np.float64]
    values: NDArray[np.float64]
    ranks: NDArray[np.int64]

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> "Matches":
        """Keep some of the pairs."""
        return Matches._make(column[which] for column in self)


def nearest(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    k: int,
    *,
    twins: NDArray[np.int64] | None = None,
    density: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    advance: Advance = lambda done, total, count: None,
) -> Matches:
    """Find the k best rows of B for every row of A; of equals those that come first.

    Parameters
    ----------
    a, b : float array, shape (n, dim) and (m, dim)
        Not modified.
    k : int
    twins : int64 array, shape (n,), optional
        Row of B that is the same thing as this row of A and is no match for it; -1 for none.
    density : pair of float64 array, shapes (n,) and (m,), optional
        What `densities` gave: rank by CSLS, twice the cosine less the densities of both.
    advance : callable
        Told how many pairs are done, of how many, and of how many rows.

    Notes
    -----
    One product in float32 finds what comes near the k best, which is then compared in float64:
    results do not depend on the BLAS. O(n · m · dim) time, O((n + m) · dim) memory. Rows are
    shared among threads, as in `embcli.core.duplicates.NearPairs`.
    """
    n, m = len(a), len(b)
    if not n or not m:
        return _collected([])
    left = as_unit32(a)
    right = left if b is a else as_unit32(b)
    own, other = density if density is not None else (np.zeros(n), np.zeros(m))
    offset = other.astype(np.float32)

    def best_of(start: int) -> Matches:
        part = slice(start, min(start + at_once, n))
        scores = left[part] @ right.T
        if density is not None:
            scores *= np.float32(2)
            scores -= offset
        if twins is not None:
            same = np.flatnonzero(twins[part] >= 0)
            scores[same, twins[part][same]] = -np.inf
        floor = np.maximum(kth_best(scores, k) - 4 * SLACK, np.finfo(np.float32).min)
        near = np.flatnonzero(scores >= floor[:, None])
        rows, columns = near // m + start, near % m
        cosines = pair_cosines(a, b, rows, columns)
        values = cosines
        if density is not None:
            values = (2 * cosines - own[rows] - other[columns]).round(DECIMALS)
        order = np.lexsort((columns, -values, rows))
        rows = rows[order]
        ranks = np.arange(len(rows)) - np.searchsorted(rows, rows) + 1
        found = Matches(rows, columns[order], cosines[order], values[order], ranks)
        return found.take(ranks <= k)

    at_once = max(1, min(_ROWS, _NUMBERS_AT_ONCE // m // THREADS))
    starts = range(0, n, at_once)
    parts: list[Matches] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for few in range(0, len(starts), THREADS):
            parts += pool.map(best_of, starts[few : few + THREADS])
            done = min(len(parts) * at_once, n)
            advance(done * m, n * m, done)
    return _collected(parts)


def mutual(forward: Matches, backward: Matches) -> Matches:
    """Keep the matches that are matches the other way round, too.

    Parameters
    ----------
    forward, backward : Matches
        Of A in B and of B in A.
    """
    height = int(max(forward.rows.max(initial=0), backward.columns.max(initial=0))) + 1
    there = forward.columns * height + forward.rows
    return forward.take(np.isin(there, backward.rows * height + backward.columns))


def densities(forward: Matches, n: int) -> NDArray[np.float64]:
    """Average the cosines of every row's matches, shape (n,): how crowded it is there.

    With the k nearest this is r of CSLS, cross-domain similarity local scaling, which takes
    hubs, near to everything, down and lonely vectors up [1]_. 0 without any match.

    References
    ----------
    .. [1] A. Conneau, G. Lample, M. Ranzato, L. Denoyer, H. Jégou. Word translation without
       parallel data. ICLR 2018. k is 10 there.
    """
    sums = np.bincount(forward.rows, forward.cosines, n)
    return sums / np.maximum(np.bincount(forward.rows, minlength=n), 1)


def assign_all(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    *,
    threshold: float | None = None,
    twins: NDArray[np.int64] | None = None,
) -> Matches:
    """Match one to one so that the sum of cosines is the greatest possible.

    Without a threshold as many pairs are made as there are rows in the smaller set (less where
    `twins` forbid it). With one, no pair is below it, and the greatest sum is that of what the
    cosines exceed it by.

    Parameters
    ----------
    a, b : float array, shape (n, dim) and (m, dim)
    threshold : float, optional
    twins : int64 array, shape (n,), optional
        As of `nearest`.

    Notes
    -----
    `scipy.optimize.linear_sum_assignment` on all cosines: O(n · m · min(n, m)) time at worst,
    O(n · m) memory.
    """
    from scipy.optimize import linear_sum_assignment

    gains = unit(a) @ unit(b).T
    if threshold is not None:
        gains = np.maximum(gains - threshold, 0)
    if twins is not None:
        same = np.flatnonzero(twins >= 0)
        gains[same, twins[same]] = 0 if threshold is not None else -_surely(a, b)
    rows, columns = linear_sum_assignment(gains, maximize=True)
    if twins is not None:
        apart = twins[rows] != columns
        rows, columns = rows[apart], columns[apart]
    return _assigned(a, b, rows, columns, threshold)


def assign_among(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    candidates: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    threshold: float | None = None,
) -> Matches:
    """Match one to one among some pairs only: as many as possible, then the greatest sum.

    With a threshold, the greatest sum of what the cosines exceed it by, as in `assign_all`.

    Parameters
    ----------
    a, b : float array, shape (n, dim) and (m, dim)
    candidates : pair of int64 array, each of shape (n_pairs,)
        Rows of A and of B; a pair may be named twice.
    threshold : float, optional

    Notes
    -----
    `scipy.sparse.csgraph.min_weight_full_bipartite_matching`, where every row of A also has a
    place of its own to go to, at a price: the graph need not have a full matching.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import (
        min_weight_full_bipartite_matching,
    )

    n, m = len(a), len(b)
    rows, columns = np.divmod(np.unique(candidates[0] * m + candidates[1]), max(m, 1))
    cosines = pair_cosines(a, b, rows, columns)
    if threshold is not None:
        near = cosines >= threshold
        rows, columns, cosines = rows[near], columns[near], cosines[near] - threshold
    if not len(rows):
        return _collected([])
    # Every row makes one pair, so that the same amount may be added to all: weights of zero
    # would be no edges.
    alone = 3 + (_surely(a, b) if threshold is None else 0)
    weights = np.concatenate([3 - cosines, np.full(n, alone)])
    ends = np.concatenate([columns, m + np.arange(n)])
    starts = np.concatenate([rows, np.arange(n)])
    graph = coo_array((weights, (starts, ends)), shape=(n, m + n)).tocsr()
    rows, columns = min_weight_full_bipartite_matching(graph)
    real = columns < m
    return _assigned(a, b, rows[real].astype(np.int64), columns[real].astype(np.int64), threshold)


def _assigned(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    threshold: float | None,
) -> Matches:
    cosines = pair_cosines(a, b, rows, columns)
    order = np.argsort(rows)
    found = Matches(rows, columns, cosines, cosines, np.ones(len(rows), np.int64)).take(order)
    return found if threshold is None else found.take(found.cosines >= threshold)


def _surely(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """More than any choice of pairs can gain or lose."""
    return 2.0 * min(len(a), len(b)) + 2


def kth_best(scores: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Give a number that at least k of every row reach, if there are as many; shape (n,)."""
    n, m = scores.shape
    size = min(_GROUP, m // (2 * k))
    if size > 1:
        # The k best of the maxima of groups are k different numbers of the row. Groups are made
        # of numbers far apart: maxima of whole stretches are faster.
        groups = m // size
        scores = scores[:, : groups * size].reshape(n, size, groups).max(axis=1)
    elif k >= m:
        return np.full(n, -np.inf, np.float32)
    place = scores.shape[1] - k
    kth: NDArray[np.float32] = np.partition(scores, place, axis=1)[:, place]
    return kth


def _collected(parts: list[Matches]) -> Matches:
    if parts:
        return Matches._make(np.concatenate(column) for column in zip(*parts, strict=True))
    none, nothing = np.empty(0, np.int64), np.empty(0)
    return Matches(none, none, nothing, nothing, none)
