"""How many ways of parting numbers into two sets of given sizes make one of them as large."""

import math
from collections.abc import Iterator
from itertools import chain, combinations, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SAMPLES = 100_000
# So many are counted in about two seconds and less than 200 MB; two more take twice that.
LIMIT = 50

_NUMBERS_AT_ONCE = 1 << 22
_LOOKED_UP = 1 << 16


class PartitionTest(NamedTuple):
    """What a permutation test found.

    Attributes
    ----------
    p : float
        In (0, 1].
    partitions : int
        How many were looked at, the observed one among them.
    exact : bool
        Whether these were all there are.
    """

    p: float
    partitions: int
    exact: bool


def partition_test(
    values: Floats,
    first: int,
    *,
    tolerance: float,
    samples: int = SAMPLES,
    limit: int = LIMIT,
    seed: int = 0,
) -> PartitionTest:
    """Compute the one-sided p-value of the sum of the first values.

    It is the share of all partitions into sets of the same two sizes, the observed one included,
    in which the first set's sum is at least as large. Sums of both sets, less one another, and
    differences of means have the same order, so that p is theirs as well.

    Parameters
    ----------
    values : float64 array, shape (n,)
    first : int
        How many belong to the first set, from 1 to n - 1.
    tolerance : float
        Sums that differ by no more are equal.
    samples : int
        Where not all partitions are counted, as many different ones are drawn besides the one
        observed, which counts with them, so that p is never 0 [2]_. Up to twice as many are
        enumerated instead.
    limit : int
        Up to this many values, all partitions are counted, however many there are.
    seed : int

    Returns
    -------
    result : PartitionTest

    Notes
    -----
    All partitions are counted by meeting in the middle [1]_: of either half of the values all
    subset sums are sorted by size of subset, and pairs that reach the observed sum are counted
    by bisection, in O(n 2^(n/2)) time; memory is that of the sums of one size.

    References
    ----------
    .. [1] E. Horowitz, S. Sahni. Computing partitions with applications to the knapsack problem.
       Journal of the ACM 21, 1974.
    .. [2] B. Phipson, G. K. Smyth. Permutation p-values should never be zero. Statistical
       Applications in Genetics and Molecular Biology 9, 2010.
    """
    n = len(values)
    # Without their mean, sums of as many are in the same order, and rounded less.
    values = values - values.mean()
    # The first set's sum is large where the other one's is small: the smaller set will do.
    if 2 * first > n:
        values, first = -values[::-1], n - first
    least = float(values[:first].sum()) - tolerance
    total = math.comb(n, first)
    if n <= limit:
        return PartitionTest(_counted(values, first, least) / total, total, True)
    if total <= 2 * samples:
        return PartitionTest(_enumerated(values, first, least) / total, total, True)
    sums = _sampled(values, first, samples, np.random.default_rng(seed))
    reached = int((sums >= least).sum())
    return PartitionTest((1 + reached) / (1 + samples), 1 + samples, False)


def _counted(values: Floats, first: int, least: float) -> int:
    """Count subsets of that size whose sums are at least that, by meeting in the middle."""
    half = len(values) // 2
    left, right = _Half(values[:half]), _Half(values[half:])
    reached = 0
    for size in range(max(0, first - right.most), min(first, left.most) + 1):
        sums, others = left.sums(size), right.sums(first - size)
        reached += len(others) * len(sums)
        # What is looked up goes down, so that the cache holds what is next.
        for start in range(0, len(sums), _LOOKED_UP):
            below = np.searchsorted(others, least - sums[start : start + _LOOKED_UP])
            reached -= int(below.sum())
    return reached


class _Half:
    """Subset sums of some values, made for one size of subsets at a time to save memory."""

    def __init__(self, values: Floats) -> None:
        self.most = len(values)
        self._parts = [_subset_sums(part) for part in np.array_split(values, 2)]

    def sums(self, size: int) -> Floats:
        """List the sums of all subsets of that size, in rising order."""
        left, right = self._parts
        sums = np.empty(math.comb(self.most, size))
        done = 0
        for part in range(max(0, size - len(right) + 1), min(size + 1, len(left))):
            a, b = left[part][:, None], right[size - part]
            count = a.size * b.size
            np.add(a, b, out=sums[done : done + count].reshape(len(a), len(b)))
            done += count
        sums.sort()
        return sums


def _subset_sums(values: Floats) -> list[Floats]:
    """List the sums of all subsets, by their sizes."""
    sums = [np.zeros(1)]
    for value in values:
        with_it = [group + value for group in sums]
        sums = [
            np.concatenate(both)
            for both in zip([*sums, np.empty(0)], [np.empty(0), *with_it], strict=True)
        ]
    return sums


def _enumerated(values: Floats, first: int, least: float) -> int:
    """Count such subsets one by one."""
    reached = 0
    for rows in _batches(len(values), first):
        reached += int((values[rows].sum(axis=1) >= least).sum())
    return reached


def _batches(n: int, first: int) -> Iterator[NDArray[np.int64]]:
    members = chain.from_iterable(combinations(range(n), first))
    at_once = max(1, _NUMBERS_AT_ONCE // first) * first
    while len(batch := np.fromiter(islice(members, at_once), np.int64)):
        yield batch.reshape(-1, first)


def _sampled(values: Floats, first: int, samples: int, rng: np.random.Generator) -> Floats:
    """Draw different subsets of that size, never the first values; give their sums."""
    # Subsets whose sums of these numbers differ are different.
    marks = rng.integers(0, 1 << 64, len(values), np.uint64)
    seen, found = marks[:first].sum(keepdims=True), np.empty(0)
    while (missing := samples - len(found)) > 0:
        drawn = list(_drawn(values, marks, first, missing, rng))
        keys, sums = (np.concatenate(part) for part in zip(*drawn, strict=True))
        keys, places = np.unique(keys, return_index=True)
        new = ~np.isin(keys, seen)
        seen = np.concatenate([seen, keys[new]])
        found = np.concatenate([found, sums[places[new]]])
    return found


def _drawn(
    values: Floats, marks: NDArray[np.uint64], first: int, count: int, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.uint64], Floats]]:
    """Draw subsets, equal ones among them; give the sums of their marks and of their values."""
    n = len(values)
    at_once = max(1, _NUMBERS_AT_ONCE // n)
    for start in range(0, count, at_once):
        keys = rng.random((min(at_once, count - start), n))
        rows = np.argpartition(keys, first - 1, axis=1)[:, :first]
        yield marks[rows].sum(axis=1), values[rows].sum(axis=1)
