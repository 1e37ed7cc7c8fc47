"""Communities of the graph of nearest neighbours, by Leiden's algorithm."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.core.clustering.clusters import Clusters, by_size
from embcli.core.neighbours import Neighbours
from embcli.core.optional import made_by, require
from embcli.errors import InputError, UsageError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
# Each coarser level joins clusters at a quarter of the resolution before.
LEVELS = (0.25, 0.0625)
_ITERATIONS = 2  # leidenalg's own default
_ROWS = 4096


def leiden(
    graph: Neighbours, *, resolution: float = 1.0, levels: Sequence[float] = LEVELS, seed: int = 0
) -> Clusters:
    """Find groups that are joined more densely inside than by chance.

    Parameters
    ----------
    graph : Neighbours
        The k nearest others of every row, without itself, as
        `embcli.core.neighbours.among_themselves` and `without_own` give them.
    resolution : float
        Above 0. The higher, the more and the smaller clusters.
    levels : sequence of float
        Coarser clusterings, at these shares of the resolution, falling. Each is made of the
        clusters of the one before, so that they are nested; those that join nothing are left out.
    seed : int

    Returns
    -------
    clusters : Clusters
        ``strengths`` say which share of the weight of a row's edges stays within its cluster; 1
        for rows without edges, each of which is a cluster by itself. ``details``: modularity (at
        resolution 1 of the formula), resolution, edges, seed.

    Raises
    ------
    InputError
        There are no rows.
    UsageError
        A resolution is not above 0, or levels do not fall below 1.
    ModelError
        leidenalg or igraph is not installed.

    Notes
    -----
    Two rows are joined if either is among the nearest of the other. An edge weighs the Jaccard
    coefficient of their neighbourhoods, which each contain the row itself: the share of neighbours
    they have in common. What is near by chance, across a gap, shares few. Optimised is the
    modularity with a resolution (Reichardt and Bornholdt). O(n · k²) for the weights. Leidenalg
    runs in one thread: the result depends on the seed only.

    References
    ----------
    V. Traag, L. Waltman, N. J. van Eck. From Louvain to Leiden: guaranteeing well-connected
    communities. Scientific Reports 9, 2019. J. Levine et al. Data-driven phenotypic dissection of
    AML reveals progenitor-like cells that correlate with prognosis. Cell 162, 2015 (weights; there
    without the rows themselves).
    """
    require("igraph", "Leiden's algorithm")
    require("leidenalg", "Leiden's algorithm")
    require("scipy", "Leiden's algorithm")
    n = len(graph.others)
    if not n:
        raise InputError("0 records: nothing to cluster")
    steps = [1.0, *levels]
    if resolution <= 0 or steps[-1] <= 0 or any(np.diff(steps) >= 0):
        raise UsageError("resolutions are above 0, and those of levels fall")
    ends, weights = shared_weights(graph)
    found = _communities(n, ends, weights, [resolution * step for step in steps], seed)
    labels = by_size(found[0][0])
    kept: list[Ints] = [labels]
    for level, _ in found[1:]:
        if len(np.unique(level)) < kept[-1].max() + 1:
            kept.append(by_size(level))
    details = {
        "resolution": resolution, "modularity": found[0][1], "neighbours": graph.others.shape[1],
        "edges": len(ends), "weights": "Jaccard coefficient of neighbourhoods", "seed": seed,
        "library": f"{made_by('leidenalg')}, {made_by('igraph')}",
    }  # fmt: skip
    return Clusters(labels, _inside(labels, ends, weights), details, tuple(kept[1:]))


def shared_weights(graph: Neighbours) -> tuple[Ints, Floats]:
    """Join rows to their nearest, and weigh edges by the neighbours that both ends have.

    Parameters
    ----------
    graph : Neighbours
        As of `leiden`.

    Returns
    -------
    ends : int64 array, shape (m, 2)
        Every edge once, by rising first end, which is the smaller, then by the second.
    weights : float64 array, shape (m,)
        Jaccard coefficient of the neighbourhoods with the rows themselves, in (0, 1]: an end lies
        in both, if not the other.
    """
    n, k = graph.others.shape
    rows = np.repeat(np.arange(n), k)
    pairs = np.stack([rows, graph.others.ravel()], axis=1)
    pairs.sort(axis=1)
    keys = np.unique(pairs[:, 0] * n + pairs[:, 1])
    ends = np.stack(np.divmod(keys, n), axis=1)
    near = np.sort(np.concatenate([graph.others, np.arange(n)[:, None]], axis=1), axis=1)
    weights = np.empty(len(ends))
    for start in range(0, len(ends), _ROWS):
        left, right = near[ends[start : start + _ROWS].T]
        common = _common(left, right)
        weights[start : start + _ROWS] = common / (2 * (k + 1) - common)
    return ends, weights


def _common(left: Ints, right: Ints) -> Ints:
    """Count what two sorted rows without repetition have in common."""
    both = np.sort(np.concatenate([left, right], axis=1), axis=1)
    return np.asarray((both[:, 1:] == both[:, :-1]).sum(axis=1), np.int64)


def _communities(
    n: int, ends: Ints, weights: Floats, resolutions: Sequence[float], seed: int
) -> list[tuple[Ints, float]]:
    """Give the clusters of every row at falling resolutions, each made of those before."""
    import leidenalg
    from igraph import Graph

    graph = Graph(n, ends.tolist())
    partition = leidenalg.RBConfigurationVertexPartition(
        graph, weights=weights.tolist(), resolution_parameter=resolutions[0]
    )
    optimiser = leidenalg.Optimiser()
    optimiser.set_rng_seed(seed)
    optimiser.optimise_partition(partition, n_iterations=_ITERATIONS)
    labels = np.array(partition.membership, np.int64)
    found = [(labels, _modularity(graph, labels, weights))]
    for resolution in resolutions[1:]:
        joined = partition.aggregate_partition()
        partition = leidenalg.RBConfigurationVertexPartition(
            joined.graph, weights="weight", resolution_parameter=resolution
        )
        optimiser.optimise_partition(partition, n_iterations=_ITERATIONS)
        labels = np.array(partition.membership, np.int64)[labels]
        found.append((labels, _modularity(graph, labels, weights)))
    return found


def _modularity(graph: Any, labels: Ints, weights: Floats) -> float:
    return (
        float(graph.modularity(labels.tolist(), weights=weights.tolist())) if len(weights) else 0.0
    )


def _inside(labels: Ints, ends: Ints, weights: Floats) -> NDArray[np.float32]:
    n = len(labels)
    same = labels[ends[:, 0]] == labels[ends[:, 1]]
    every, own = (
        np.bincount(ends[which].T.ravel(), np.tile(weights[which], 2), n)
        for which in (np.ones(len(ends), bool), same)
    )
    return np.divide(own, every, out=np.ones(n), where=every > 0).astype(np.float32)
