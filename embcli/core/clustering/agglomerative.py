"""Clusters that grow by joining the two that are nearest, again and again."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embcli.core.clustering.centres import Floats32, Ints, means, strengths
from embcli.core.clustering.clusters import Clusters, by_size
from embcli.core.clustering.hierarchy import coarse_counts, cut, levels_of
from embcli.core.cosine import unit
from embcli.core.neighbours import Neighbours
from embcli.core.optional import made_by, require
from embcli.core.separability.spanning_tree import spanning_tree
from embcli.core.separability.vectors import check_vectors
from embcli.errors import InputError, UsageError, counted

Linkage = Literal["ward", "average", "complete"]
# Without a graph all distances are held twice: 0.8 GB for so many vectors.
MOST = 10_000
_ROWS = 1024


def agglomerative(
    vectors: Floats32,
    k: int | None = None,
    *,
    threshold: float | None = None,
    linkage: Linkage = "ward",
    graph: Neighbours | None = None,
) -> Clusters:
    """Join the two nearest clusters until there are k, or none are near enough.

    Parameters
    ----------
    vectors : float32 array, shape (n, dim)
        At length 1. Not modified.
    k : int, optional
        At most `n`.
    threshold : float, optional
        Join only clusters that are nearer than this: for ``average`` and ``complete`` in 1 less
        the cosine, the mean or the greatest of all pairs; for ``ward`` the Euclidean distance of
        the means times ``sqrt(2 p q / (p + q))`` of sizes p and q. Either this or `k`.
    linkage : str
        ``ward`` (least growth of the squared distances to the means), ``average``, ``complete``.
    graph : Neighbours, optional
        The nearest others of every vector, itself left out. Only clusters that an edge leads
        between are joined: above 10,000 vectors this is needed. For ``ward`` only.

    Returns
    -------
    clusters : Clusters
        ``strengths``: 1 less the ratio of the distances, 1 less the cosine, to the mean of its
        cluster and to the nearest other mean; 0 where another one is nearer. ``levels``: a quarter
        as many clusters each time, from the same tree. ``details``: k, threshold, linkage, height
        (at which the last two clusters were joined), connected (edges that were added because the
        graph was in parts), library.

    Raises
    ------
    InputError
        There are fewer vectors than clusters, more than 10,000 without a graph, or one is not
        finite or is zeros.
    UsageError
        Not one of `k` and `threshold` is given, it is out of range, or there is a graph and the
        linkage is not ``ward``.
    ModelError
        SciPy, or with a graph scikit-learn, is not installed.

    Notes
    -----
    Without a graph by SciPy, exact, in O(n²) time and memory. With one by scikit-learn: O(n · dim)
    memory in float64, and O(n · log n) joins, more where clusters have many neighbours. A graph in
    parts is connected by the minimum spanning tree of the parts' means, between the vectors that
    are nearest to these. Ward's criterion takes large clusters to be dear; by the others the few
    edges between two clusters chain nearly everything into one: on AG News a V-measure of .001,
    against .55 without a graph. Nothing is random.

    References
    ----------
    J. Ward. Hierarchical grouping to optimize an objective function. JASA 58, 1963. D. Müllner.
    Modern hierarchical, agglomerative clustering algorithms. 2011.
    """
    n = len(vectors)
    if (k is None) == (threshold is None):
        raise UsageError(
            "agglomerative clustering takes either a number of clusters or a threshold"
        )
    if (k is not None and k < 1) or (threshold is not None and not threshold > 0):
        raise UsageError("the number of clusters is at least 1, and a threshold above 0")
    if linkage not in ("ward", "average", "complete"):
        raise UsageError(f"linkage is ward, average or complete, not {linkage}")
    if graph is not None and linkage != "ward":
        raise UsageError(f"on a graph of neighbours linkage is ward, not {linkage}")
    check_vectors(vectors, fewest=1)
    if k is not None and n < k:
        raise InputError(f"{counted(n, 'vector')} cannot make {counted(k, 'cluster')}")
    if graph is None and n > MOST:
        raise InputError(
            f"all distances between {n:,} vectors take too much memory: without a graph of "
            f"neighbours {MOST:,} are the most"
        )
    added = 0
    if n == 1:
        merges, heights = np.empty((0, 2), np.int64), np.empty(0)
    elif graph is None:
        require("scipy", "agglomerative clustering")
        merges, heights = _exact(vectors, linkage)
    else:
        require("sklearn", "agglomerative clustering on a graph")
        merges, heights, added = _on_graph(vectors, graph)
    count = 1 + int((heights >= threshold).sum()) if threshold is not None else k or 1
    found = by_size(cut(merges, count))
    details = {
        "k": count, "linkage": linkage, "threshold": threshold,
        "height": float(heights[n - count - 1]) if count < n else 0.0, "graph": graph is not None,
        "connected": added, "library": made_by("scipy" if graph is None else "sklearn"),
    }  # fmt: skip
    firm = strengths(vectors, found, means(vectors, found, count))
    levels = levels_of(merges, np.arange(n), coarse_counts(count))
    return Clusters(found, firm, details, levels)


def _exact(vectors: Floats32, linkage: Linkage) -> tuple[Ints, NDArray[np.float64]]:
    from scipy.cluster.hierarchy import linkage as tree

    n = len(vectors)
    rows = unit(vectors)
    condensed = np.empty(n * (n - 1) // 2)
    end = 0
    for start in range(0, n, _ROWS):
        # Of equal vectors the cosine may be a little off 1.
        block = np.maximum(1 - rows[start : start + _ROWS] @ rows[start:].T, 0)
        block[block < 1e-12] = 0
        for i, row in enumerate(block):
            condensed[end : end + len(row) - i - 1] = row[i + 1 :]
            end += len(row) - i - 1
    if linkage == "ward":
        np.sqrt(2 * condensed, out=condensed)
    found = tree(condensed, linkage)
    return found[:, :2].astype(np.int64), found[:, 2]


def _on_graph(vectors: Floats32, graph: Neighbours) -> tuple[Ints, NDArray[np.float64], int]:
    from sklearn.cluster import AgglomerativeClustering
    from threadpoolctl import threadpool_limits

    edges, added = _connected(vectors, graph)
    model = AgglomerativeClustering(
        n_clusters=1, connectivity=edges, compute_distances=True, compute_full_tree=True
    )
    with threadpool_limits(1):
        model.fit(vectors)
    return np.asarray(model.children_, np.int64), np.asarray(model.distances_), added


def _connected(vectors: Floats32, graph: Neighbours) -> tuple[Any, int]:
    """Give the graph as a symmetric matrix in one part, and how many edges that took."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    n, k = graph.others.shape
    ones = np.ones(n * k, np.float32)
    ends = np.repeat(np.arange(n), k), graph.others.ravel()
    edges = csr_array((ones, ends), shape=(n, n))
    count, parts = connected_components(edges, directed=False)
    if count > 1:
        bridges = _bridges(vectors, parts.astype(np.int64), count)
        ends = np.concatenate([ends[0], bridges[:, 0]]), np.concatenate([ends[1], bridges[:, 1]])
        edges = csr_array((np.ones(len(ends[0]), np.float32), ends), shape=(n, n))
    return edges + edges.T, count - 1


def _bridges(vectors: Floats32, parts: Ints, count: int) -> Ints:
    """Join parts of a graph, shape (count - 1, 2), by rows that are near the parts' means."""
    centres = means(vectors, parts, count)
    own = np.einsum("ij,ij->i", vectors, centres[parts])
    order = np.lexsort((np.arange(len(parts)), -own, parts))
    rows = order[np.searchsorted(parts[order], np.arange(count))]
    return rows[spanning_tree(vectors[rows]).edges]
