"""The graph of nearest neighbours, exact as long as that is affordable, else by cells."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit32
from embcli.core.matching import THREADS, Advance
from embcli.core.neighbours import Neighbours, among_themselves, greatest, without_own
from embcli.core.separability.vectors import parts
from embcli.errors import InputError

# n² · dim of what is compared exactly unless told otherwise: about a minute on two cores.
AFFORDABLE = 5e12
# Rows whose true neighbours the recall of approximate ones is measured with.
_SAMPLE = 1000
# The share of the nearest that the cells looked at are to hold.
_WANTED = 0.97
# Cells, for the square root of the rows; rows that each is placed by, in so many rounds.
_CELLS, _TAUGHT_BY, _ROUNDS = 2, 32, 5
_AT_ONCE = 64


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
        Of an approximate search.
    advance : callable
        As of `embcli.core.matching.nearest`.

    Returns
    -------
    graph : KnnGraph
        Cosines are exact in either case.

    Raises
    ------
    InputError
        There is no row, or k is less than 1.

    Notes
    -----
    Exact in O(n² · dim) time. The approximate search (an inverted file) divides the rows among
    2 √n cells by k-means, and compares every row with those in the cells nearest to it. How many
    cells these have to be is seen from rows whose true neighbours are known, so that about .97 of
    all are found: O(n^1.5 · dim · cells) time. Memory is O(n · (dim + k + cells)) in either case,
    and the result does not depend on the number of threads.

    References
    ----------
    H. Jégou, M. Douze, C. Schmid. Product quantization for nearest neighbor search. IEEE TPAMI
    33, 2011 (inverted files).
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
    found = _by_cells(unit, k, seed, advance)
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


def _by_cells(unit: NDArray[np.float32], k: int, seed: int, advance: Advance) -> Neighbours:
    """Compare every row with those in the cells whose centres are nearest to it."""
    n = len(unit)
    rng = np.random.default_rng(seed)
    centres = _centres(unit, int(_CELLS * np.sqrt(n)), rng)
    home = np.concatenate([(unit[part] @ centres.T).argmax(axis=1) for part in parts(n)])
    probes = _probes(unit, k, centres, home, rng)
    cells = np.concatenate([_nearest_cells(unit[part] @ centres.T, probes) for part in parts(n)])
    askers = np.argsort(cells, axis=None, kind="stable") // probes
    members = np.argsort(home, kind="stable")
    asked = np.searchsorted(np.sort(cells, axis=None), np.arange(len(centres) + 1))
    filled = np.searchsorted(home[members], np.arange(len(centres) + 1))

    def compare(cell: int) -> tuple[NDArray[np.int64], Neighbours]:
        rows = askers[asked[cell] : asked[cell + 1]]
        others = members[filled[cell] : filled[cell + 1]]
        scores = unit[rows] @ unit[others].T
        return rows, _best(np.broadcast_to(others, scores.shape), scores, k + 1)

    best = Neighbours(np.full((n, k + 1), -1), np.full((n, k + 1), -np.inf, np.float32))
    with ThreadPoolExecutor(THREADS) as pool:
        for few in range(0, len(centres), _AT_ONCE):
            some = range(few, min(few + _AT_ONCE, len(centres)))
            for rows, found in pool.map(compare, some):
                others = np.concatenate([best.others[rows], found.others], axis=1)
                cosines = np.concatenate([best.cosines[rows], found.cosines], axis=1)
                merged = _best(others, cosines, k + 1)
                best.others[rows], best.cosines[rows] = merged
            advance(some.stop * n // len(centres), n, some.stop * n // len(centres))
    lonely = np.flatnonzero(best.others[:, -1] < 0)
    if len(lonely):
        best.others[lonely], best.cosines[lonely] = greatest(unit[lonely], unit, k + 1)
    return without_own(best, np.arange(n))


def _centres(
    unit: NDArray[np.float32], count: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Place centres among a sample of rows (spherical k-means, a few rounds)."""
    from scipy.sparse import csr_array

    rows = rng.choice(len(unit), min(len(unit), count * _TAUGHT_BY), replace=False)
    sample = unit[rows]
    centres = sample[:count]
    for _ in range(_ROUNDS):
        nearest = np.concatenate(
            [(sample[part] @ centres.T).argmax(axis=1) for part in parts(len(sample))]
        )
        ones = np.ones(len(sample), np.float32)
        sums = csr_array((ones, (nearest, np.arange(len(sample)))), (count, len(sample))) @ sample
        empty = np.bincount(nearest, minlength=count) == 0
        centres = np.where(empty[:, None], centres, unit32(sums))
    return centres


def _probes(
    unit: NDArray[np.float32],
    k: int,
    centres: NDArray[np.float32],
    home: NDArray[np.int64],
    rng: np.random.Generator,
) -> int:
    """Tell how many cells hold as many of the nearest as are wanted, by rows drawn at random."""
    rows = rng.choice(len(unit), min(len(unit), _SAMPLE), replace=False)
    nearest, _ = greatest(unit[rows], unit, k + 1)
    order = np.argsort(-(unit[rows] @ centres.T), axis=1)
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(len(centres))[None], axis=1)
    reached = np.take_along_axis(places, home[nearest], axis=1)[:, 1:]
    return int(np.quantile(reached, _WANTED, method="higher")) + 1


def _nearest_cells(scores: NDArray[np.float32], count: int) -> NDArray[np.int32]:
    if count >= scores.shape[1]:
        return np.tile(np.arange(scores.shape[1], dtype=np.int32), (len(scores), 1))
    return np.argpartition(-scores, count - 1, axis=1)[:, :count].astype(np.int32)


def _best(others: NDArray[np.int64], cosines: NDArray[np.float32], k: int) -> Neighbours:
    """Keep the k greatest of every row, or all, by falling cosine."""
    if cosines.shape[1] > k:
        first = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        others = np.take_along_axis(others, first, axis=1)
        cosines = np.take_along_axis(cosines, first, axis=1)
    order = np.argsort(-cosines, axis=1, kind="stable")
    return Neighbours(
        np.take_along_axis(others, order, axis=1), np.take_along_axis(cosines, order, axis=1)
    )


def _recall(unit: NDArray[np.float32], found: Neighbours, seed: int) -> float:
    n, k = found.others.shape
    rows = np.sort(np.random.default_rng(seed).choice(n, min(n, _SAMPLE), replace=False))
    true = without_own(Neighbours(*greatest(unit[rows], unit, k + 1)), rows)
    # By cosine: of equal rows any will do.
    least = true.cosines[:, -1:] - 1e-6
    return float((found.cosines[rows] >= least).mean())
