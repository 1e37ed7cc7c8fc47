"""The graph of nearest neighbours, exact as long as that is affordable, else by descent."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.matching import Advance
from embcli.core.neighbours import Neighbours, among_themselves, greatest, without_own
from embcli.core.optional import require
from embcli.errors import InputError

# n² · dim of what is compared exactly unless told otherwise: about a minute on two cores.
AFFORDABLE = 5e12
# Rows whose true neighbours the recall of approximate ones is measured with.
_SAMPLE = 1000
_ROWS = 1 << 12


class KnnGraph(NamedTuple):
    """The nearest rows of every row, without itself.

    Attributes
    ----------
    neighbours : Neighbours
        Shape (n, k), by falling cosine.
    exact : bool
    recall : float, optional
        The share of the true neighbours that are among those found, of 1,000 rows at random; none
        if the graph is exact.
    """

    neighbours: Neighbours
    exact: bool
    recall: float | None


def knn_graph(
    unit: NDArray[np.float32],
    k: int,
    *,
    approximate: bool | None = None,
    seed: int = 0,
    advance: Advance = lambda done, total, count: None,
) -> KnnGraph:
    """Find the k nearest rows of every row, without itself.

    Parameters
    ----------
    unit : float32 array, shape (n, dim)
        Of length 1, or zeros.
    k : int
        If there are fewer other rows, so many.
    approximate : bool, optional
        By default where comparing everything would take more than about a minute.
    seed : int
        Of the descent.
    advance : callable
        As of `embcli.core.matching.nearest`; an approximate search tells only its end.

    Returns
    -------
    graph : KnnGraph
        Cosines are exact in either case.

    Raises
    ------
    InputError
        There is no row, or k is less than 1.
    ModelError
        pynndescent is wanted and not installed.

    Notes
    -----
    The descent runs in one thread, so that the same seed gives the same graph everywhere.
    O(n² · dim) time if exact; the descent O(n^1.14 · dim) as measured by its authors, and half a
    minute of CPU for compiling.

    References
    ----------
    W. Dong, M. Charikar, K. Li. Efficient k-nearest neighbor graph construction for generic
    similarity measures. WWW 2011.
    """
    n, dim = unit.shape
    if not n:
        raise InputError("there is no vector that could have neighbours")
    if k < 1:
        raise InputError(f"k is {k}: it has to be at least 1")
    k = min(k, n - 1)
    if approximate is None:
        approximate = float(n) * n * dim > AFFORDABLE
    if not approximate or n <= k + 1:
        found = without_own(among_themselves(unit, k + 1, advance), np.arange(n))
        return KnnGraph(found, True, None)
    found = _descent(unit, k, seed)
    advance(n, n, n)
    return KnnGraph(found, False, _recall(unit, found, seed))


def nearest_of(new: NDArray[np.float32], old: NDArray[np.float32], k: int) -> Neighbours:
    """Find the k nearest old rows of every new row, exactly.

    Parameters
    ----------
    new, old : float32 array, shape (m, dim) and (n, dim)
        Of length 1. `old` is not empty.
    k : int
        If there are fewer old rows, so many.
    """
    if not len(new):
        none = np.empty((0, min(k, len(old))))
        return Neighbours(none.astype(np.int64), none.astype(np.float32))
    return Neighbours(*greatest(new, old, k))


def _descent(unit: NDArray[np.float32], k: int, seed: int) -> Neighbours:
    require("pynndescent", "an approximate graph of neighbours", "pynndescent", "cluster")
    from pynndescent import NNDescent

    # Threads share the work as many as they are, and the result would depend on their number.
    index = NNDescent(unit, metric="cosine", n_neighbors=k + 1, random_state=seed, n_jobs=1)
    others, _ = index.neighbor_graph
    n = len(unit)
    cosines = np.empty(others.shape, np.float32)
    for start in range(0, n, _ROWS):
        part = slice(start, start + _ROWS)
        cosines[part] = np.einsum("id,ijd->ij", unit[part], unit[others[part]])
    cosines[others < 0] = -np.inf
    order = np.argsort(-cosines, axis=1, kind="stable")
    ordered = (np.take_along_axis(side, order, axis=1) for side in (others, cosines))
    others, cosines = ordered
    return without_own(Neighbours(others.astype(np.int64), cosines), np.arange(n))


def _recall(unit: NDArray[np.float32], found: Neighbours, seed: int) -> float:
    n, k = found.others.shape
    rows = np.sort(np.random.default_rng(seed).choice(n, min(n, _SAMPLE), replace=False))
    true = without_own(Neighbours(*greatest(unit[rows], unit, k + 1)), rows)
    # By cosine: of equal rows any will do.
    least = true.cosines[:, -1:] - 1e-6
    return float((found.cosines[rows] >= least).mean())
