"""How much of what vectors are to each other is left in a layout."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.correlation import spearman
from embcli.core.matching import THREADS
from embcli.core.neighbours import Neighbours, greatest, without_own
from embcli.core.separability.vectors import SAMPLE, sampled
from embcli.errors import InputError, counted

K = 15
# How many triplets and pairs of rows are compared for what is left of the whole.
TRIPLETS = 100_000
# Cosines and distances that differ by less are equal.
_SAME = 1e-6
_NUMBERS_AT_ONCE = 1 << 24


class Measure(NamedTuple):
    """One thing measured.

    Attributes
    ----------
    name : str
    value : float
    n : int
        Rows, triplets or pairs that it is the mean of.
    """

    name: str
    value: float
    n: int


def quality(
    vectors: NDArray[np.float32],
    graph: Neighbours,
    coordinates: NDArray[np.floating],
    k: int = K,
    *,
    sample: int = SAMPLE,
    seed: int = 0,
) -> list[Measure]:
    """Measure all that is measured here; k is less where there are too few rows.

    Parameters are those of the single measures. Nothing is measured of fewer than 4 rows.
    """
    n = len(vectors)
    k = min(k, (n - 1) // 2, graph.others.shape[1])
    if k < 1 or n < 4:
        return []
    return [
        trustworthiness(vectors, coordinates, k, sample=sample, seed=seed),
        continuity(vectors, coordinates, k, sample=sample, seed=seed),
        preservation(graph, coordinates, k),
        triplet_accuracy(vectors, coordinates, seed=seed),
        distance_correlation(vectors, coordinates, seed=seed),
    ]


def trustworthiness(
    vectors: NDArray[np.float32],
    coordinates: NDArray[np.floating],
    k: int = K,
    *,
    sample: int = SAMPLE,
    seed: int = 0,
) -> Measure:
    """Tell whether rows near in the layout are near in truth, from 0 to 1.

    Parameters
    ----------
    vectors : float32 array, shape (n, width)
        Of length 1.
    coordinates : float array, shape (n, dim)
    k : int
        Below half of n.
    sample : int
        Rows, drawn at random, whose nearest in the layout are looked at.
    seed : int

    Raises
    ------
    InputError
        k is not below half of n, or less than 1.

    Notes
    -----
    1 less the mean of how far beyond the k-th place the k nearest are, scaled so that 0 is the
    worst possible. Cosines that differ by less than 1e-6 share a place, which is the first of them:
    of equal vectors it does not matter which are near. O(sample · n · width) time.

    References
    ----------
    J. Venna, S. Kaski. Neighborhood preservation in nonlinear projection methods: an experimental
    study. ICANN 2001.
    """
    rows = _rows(len(vectors), k, sample, seed)
    near = _in_layout(coordinates, rows, k)

    def closeness(part: NDArray[np.int64]) -> NDArray[np.float32]:
        return vectors[part] @ vectors.T

    return Measure("trustworthiness", _trusted(rows, near, closeness, len(vectors)), len(rows))


def continuity(
    vectors: NDArray[np.float32],
    coordinates: NDArray[np.floating],
    k: int = K,
    *,
    sample: int = SAMPLE,
    seed: int = 0,
) -> Measure:
    """Tell whether rows near in truth are near in the layout, from 0 to 1.

    `trustworthiness` with vectors and layout in each other's places; parameters are as there.
    """
    rows = _rows(len(vectors), k, sample, seed)
    near = without_own(Neighbours(*greatest(vectors[rows], vectors, k + 1)), rows).others
    points = np.asarray(coordinates, np.float64)
    points = points / max(float(np.abs(points - points.mean(axis=0)).max()), 1e-300)

    def closeness(part: NDArray[np.int64]) -> NDArray[np.float64]:
        apart = np.zeros((len(part), len(points)))
        for axis in points.T:
            apart -= (axis[part, None] - axis) ** 2
        return apart

    value = _trusted(rows, near, closeness, len(vectors), same=1e-12)
    return Measure("continuity", value, len(rows))


def preservation(graph: Neighbours, coordinates: NDArray[np.floating], k: int = K) -> Measure:
    """Give the mean share of the k nearest of a row that are its k nearest in the layout.

    Parameters
    ----------
    graph : Neighbours
        At least the k nearest of every row, without itself.
    coordinates : float array, shape (n, dim)
    k : int

    Raises
    ------
    InputError
        There are fewer neighbours, or k is less than 1.
    """
    n, known = graph.others.shape
    if not 1 <= k <= known:
        raise InputError(f"k is {k}, and every row has {counted(known, 'neighbour')}")
    rows = np.arange(n)
    near = _in_layout(coordinates, rows, k)
    first = rows[:, None] * n
    kept = np.isin(first + near, first + graph.others[:, :k]).sum()
    return Measure(f"{k}-NN preservation", float(kept) / (n * k), n)


def triplet_accuracy(
    vectors: NDArray[np.float32],
    coordinates: NDArray[np.floating],
    *,
    triplets: int = TRIPLETS,
    seed: int = 0,
) -> Measure:
    """Tell how much of the whole is left: of rows at random, which of two is nearer to a third.

    The share of triplets in which the layout has the same one nearer; .5 is chance. Triplets in
    which both are equally near in truth are left out; if all are, the value is 1.

    References
    ----------
    Y. Wang, H. Huang, C. Rudin, Y. Shaposhnik. Understanding how dimension reduction tools work.
    JMLR 22, 2021.
    """
    rng = np.random.default_rng(seed)
    a, b, c = _drawn(len(vectors), triplets, 3, rng)
    truth = _cosines(vectors, a, b) - _cosines(vectors, a, c)
    told = np.abs(truth) > _SAME
    layout = _apart(coordinates, a, c) - _apart(coordinates, a, b)
    right = np.sign(truth[told]) == np.sign(layout[told])
    value = float(right.mean()) if len(right) else 1.0
    return Measure("random triplet accuracy", value, len(right))


def distance_correlation(
    vectors: NDArray[np.float32],
    coordinates: NDArray[np.floating],
    *,
    pairs: int = TRIPLETS,
    seed: int = 0,
) -> Measure:
    """Correlate distances of rows at random with those in the layout (a Shepard diagram's rho).

    Spearman's, of 1 - cosine and Euclidean distances; 0 where either are all equal.
    """
    rng = np.random.default_rng(seed)
    a, b = _drawn(len(vectors), pairs, 2, rng)
    truth, layout = -_cosines(vectors, a, b), _apart(coordinates, a, b)
    varies = np.ptp(truth) > _SAME and np.ptp(layout) > 0
    value = float(spearman(truth, layout)) if varies else 0.0
    return Measure("distance correlation", value, len(a))


def _rows(n: int, k: int, sample: int, seed: int) -> NDArray[np.int64]:
    if not 1 <= k < n / 2:
        raise InputError(f"k is {k}: it has to be below half of the {counted(n, 'row')}")
    return sampled(n, sample, seed)


def _in_layout(
    coordinates: NDArray[np.floating], rows: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """Find the k nearest of rows in a layout, without themselves; shape (len(rows), k)."""
    from scipy.spatial import cKDTree

    # Not balanced: many equal rows would take it long.
    tree = cKDTree(coordinates, balanced_tree=False)
    apart, others = tree.query(coordinates[rows], k + 1, workers=THREADS)
    return without_own(Neighbours(others.astype(np.int64), apart), rows).others


def _trusted(
    rows: NDArray[np.int64],
    near: NDArray[np.int64],
    closeness: Callable[[NDArray[np.int64]], NDArray[Any]],
    n: int,
    same: float = _SAME,
) -> float:
    """Give 1 less the scaled mean of how far beyond the k-th place by closeness the near ones are.

    `closeness` compares some rows with all, and may be changed.
    """
    k = near.shape[1]
    beyond = 0.0
    at_once = max(1, _NUMBERS_AT_ONCE // n)
    for start in range(0, len(rows), at_once):
        part = slice(start, start + at_once)
        close = closeness(rows[part])
        own = np.arange(len(close))
        close[own, rows[part]] = -np.inf
        reached = np.take_along_axis(close, near[part], axis=1) + same
        close.sort(axis=1)
        places = [n - np.searchsorted(a, b, "right") for a, b in zip(close, reached, strict=True)]
        beyond += float(np.maximum(np.array(places) + 1 - k, 0).sum())
    worst = len(rows) * k * (2 * n - 3 * k - 1) / 2
    return float(1 - beyond / worst)


def _drawn(n: int, count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Draw rows, different ones within a draw: shape (size, at most count)."""
    drawn = rng.integers(0, n, (size, count))
    apart = np.ones(count, bool)
    for one in range(size):
        apart &= drawn[one] != drawn[one - 1]
    return iter(drawn[:, apart])


def _cosines(
    vectors: NDArray[np.float32], a: NDArray[np.int64], b: NDArray[np.int64]
) -> NDArray[np.float64]:
    found = np.empty(len(a))
    for start in range(0, len(a), 1 << 14):
        part = slice(start, start + (1 << 14))
        found[part] = np.einsum("ij,ij->i", vectors[a[part]], vectors[b[part]])
    return found


def _apart(
    coordinates: NDArray[np.floating], a: NDArray[np.int64], b: NDArray[np.int64]
) -> NDArray[np.float64]:
    difference = coordinates[a].astype(np.float64) - coordinates[b]
    apart: NDArray[np.float64] = np.sqrt((difference**2).sum(axis=1))
    return apart
