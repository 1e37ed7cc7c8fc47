"""Trees of clusters: coarser clusters made of finer ones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embcli.core.clustering.centres import Floats32, Ints, sums
from embcli.core.clustering.clusters import by_size
from embcli.errors import UsageError

Floats = NDArray[np.float64]


def coarser(vectors: Floats32, labels: Ints, counts: Sequence[int]) -> tuple[Ints, ...]:
    """Join clusters into fewer, by Ward's criterion on their means.

    Parameters
    ----------
    vectors : float32 array, shape (n, dim)
        At length 1.
    labels : int64 array, shape (n,)
        0 to k - 1, all of which occur; noise stays noise.
    counts : sequence of int
        How many clusters there are to be, for every level. Of k and more nothing is joined.

    Returns
    -------
    levels : tuple of int64 arrays, each of shape (n,)
        Numbered by size, in the order of `counts`. They come from one tree: every cluster lies in
        exactly one of a coarser level.

    Raises
    ------
    UsageError
        A count is below 1.

    Notes
    -----
    Joined are the two clusters whose members' squared distances to their mean grow least, so that
    sizes count; as if Ward's method had been at work on all vectors and had arrived at these
    clusters. By chains of nearest neighbours, which for this criterion give the same tree as
    looking for the least of all pairs each time. O(k² · dim) time, O(n · dim) for the means, no
    matrix of distances.

    References
    ----------
    J. Ward. Hierarchical grouping to optimize an objective function. JASA 58, 1963. F. Murtagh.
    A survey of recent advances in hierarchical clustering algorithms. 1983.
    """
    if any(count < 1 for count in counts):
        raise UsageError(f"a level has at least 1 cluster, not {min(counts)}")
    k = int(labels.max(initial=-1)) + 1
    if not k:
        return tuple(labels.copy() for _ in counts)
    sizes = np.bincount(labels[labels >= 0], minlength=k)
    merges = ward(sums(vectors, labels, k) / sizes[:, None], sizes)
    return levels_of(merges, labels, counts)


def coarse_counts(count: int) -> list[int]:
    """Give counts for the levels above so many clusters: a quarter each time, at least 2."""
    counts = []
    while (count := count // 4) >= 2:
        counts.append(count)
    return counts


def levels_of(merges: Ints, labels: Ints, counts: Sequence[int]) -> tuple[Ints, ...]:
    """Cut a tree whose leaves are clusters, or rows, at several counts.

    Parameters
    ----------
    merges : int64 array, shape (k - 1, 2)
        As of `ward`.
    labels : int64 array, shape (n,)
        The leaf of every row; negative for none.
    counts : sequence of int
    """
    found = []
    for count in counts:
        groups = cut(merges, count)
        found.append(by_size(np.where(labels < 0, -1, groups[labels])))
    return tuple(found)


def cut(merges: Ints, count: int) -> Ints:
    """Give the group of every leaf after all merges but the last ``count - 1``, shape (k,)."""
    k = len(merges) + 1
    done = max(k - count, 0)
    # What a node belongs to: parents have greater numbers than their children.
    group = np.arange(2 * k - 1)
    for i in range(done - 1, -1, -1):
        group[merges[i]] = group[k + i]
    return group[:k]


def ward(points: Floats, sizes: Ints) -> Ints:
    """Build Ward's tree of weighted points.

    Parameters
    ----------
    points : float64 array, shape (k, dim)
    sizes : int64 array, shape (k,)
        How many vectors each stands for.

    Returns
    -------
    merges : int64 array, shape (k - 1, 2)
        The two nodes that are joined, cheapest first; the i-th makes node ``k + i``, and points
        are nodes 0 to k - 1.
    """
    k = len(points)
    means, weights = points.copy(), sizes.astype(np.float64)
    alive = np.ones(k, bool)
    pairs, costs = np.empty((k - 1, 2), np.int64), np.empty(k - 1)
    chain: list[int] = []
    for step in range(k - 1):
        if not chain:
            chain.append(int(alive.argmax()))
        while True:
            i = chain[-1]
            cost = np.square(means - means[i]).sum(axis=1) * (weights * weights[i])
            cost /= weights + weights[i]
            cost[~alive] = np.inf
            cost[i] = np.inf
            j = int(cost.argmin())
            # Of equals the one before in the chain, or the chain would run in a circle.
            if len(chain) > 1 and cost[chain[-2]] <= cost[j]:
                j = chain[-2]
                break
            chain.append(j)
        del chain[-2:]
        pairs[step], costs[step] = (i, j), cost[j]
        means[j] = (weights[i] * means[i] + weights[j] * means[j]) / (weights[i] + weights[j])
        weights[j] += weights[i]
        alive[i] = False
    return _numbered(pairs, costs)


def _numbered(pairs: Ints, costs: Floats) -> Ints:
    """Sort merges, each given by one point of either side, and number the nodes they make."""
    k = len(pairs) + 1
    node, parents = np.arange(k), np.arange(k)

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = int(parents[i])
        return i

    merges = np.empty_like(pairs)
    for step, which in enumerate(np.argsort(costs, kind="stable")):
        i, j = (root(int(end)) for end in pairs[which])
        merges[step] = sorted((node[i], node[j]))
        parents[i] = j
        node[j] = k + step
    return merges
