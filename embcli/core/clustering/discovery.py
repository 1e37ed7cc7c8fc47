"""Clusters beside known classes: generalized category discovery on vectors as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.clustering.clusters import Clusters, by_size
from embcli.core.clustering.semi_supervised import (
    SAMPLE,
    Fit,
    clearness,
    overlaps,
    plain_centres,
    semi_gmm,
    semi_kmeans,
)
from embcli.core.cosine import unit32
from embcli.core.matching import Advance
from embcli.core.optional import require
from embcli.core.separability.vectors import check_vectors, sampled
from embcli.errors import InputError, UsageError, counted

Ints = NDArray[np.int64]

METHODS = ("kmeans", "gmm")
# The search for the number of clusters ends at so many times that of known classes, or so many.
_MOST_TIMES, _MOST_AT_LEAST = 4, 20
# Numbers tried at first, the runs that each is judged by, and how often the best is looked around.
_TRIED, _RUNS, _CLOSER = 9, 3, 3


class Tried(NamedTuple):
    """How well a number of clusters does, on average over runs of k-means.

    Attributes
    ----------
    k : int
    accuracy : float
        Share of labelled rows in the cluster that stands for their class.
    silhouette : float
        Mean of 1 less the distance to the nearest centre as a share of that to the next one.
    """

    k: int
    accuracy: float
    silhouette: float


@dataclass(frozen=True, eq=False)
class Discovery:
    """Known classes and the clusters found beside them.

    Attributes
    ----------
    clusters : Clusters
        Known classes come first, by their numbers, whatever their sizes; then new clusters as
        `by_size` has them. No row is noise.
    known : int64 array, shape (n_known_classes,)
        The cluster of every known class; -1 for a number that no row has.
    k : int
        How many clusters there are.
    curve : tuple of (int, float)
        If `k` was searched for: numbers of clusters that were tried, rising, and the accuracy on
        labelled rows with each.
    """

    clusters: Clusters
    known: Ints
    k: int
    curve: tuple[tuple[int, float], ...] = ()


class Accuracy(NamedTuple):
    """Shares of unlabelled rows in the right cluster, nan where there are no such rows.

    Attributes
    ----------
    all, old, new : float
        Of all, of those of known classes, and of others.
    """

    all: float
    old: float
    new: float


def discover(
    vectors: NDArray[np.floating],
    classes: Ints,
    *,
    k: int | None = None,
    method: Literal["kmeans", "gmm"] = "kmeans",
    most: int | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
    advance: Advance = lambda done, total, count: None,
) -> Discovery:
    """Cluster rows some of which have a class, of which they stay, and find clusters beside these.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Only their directions count. Not modified.
    classes : int64 array, shape (n,)
        Known classes from 0 on; -1 for rows that have none. A row without may be of a known class.
    k : int, optional
        Clusters, known classes among them; by default it is searched for.
    method : {"kmeans", "gmm"}
        `semi_kmeans`, or `semi_gmm` begun with what that gives.
    most : int, optional
        Where the search for `k` ends; by default at four times the known classes, 20 at least.
    sample : int
        Rows, drawn at random, that starts and the search for `k` see.
    seed : int
    advance : callable
        Told how many fits are done, of how many at most.

    Returns
    -------
    discovery : Discovery
        `details` of the clusters has the method, how it ended, and the sample.

    Raises
    ------
    InputError
        No row has a class; `k` is below the number of known classes or above that of rows; a vector
        is zeros or not finite.
    ModelError
        scikit-learn is not installed.
    UsageError
        There is no such method.

    Notes
    -----
    The number of clusters is the one with which k-means, not told any label, puts most labelled
    rows into the cluster that stands for their class, one to one (Vaze et al. 2022): with fewer,
    classes share clusters; with more, they fall into several. Among numbers that are no worse than
    the best by more than a standard error, where classes are far apart and say little, the one of
    the greatest simplified silhouette is taken. Each is judged by three runs; first numbers that
    grow by a constant factor, then some around the best.

    Everything runs in one thread, so that results are the same on every machine.

    References
    ----------
    S. Vaze, K. Han, A. Vedaldi, A. Zisserman. Generalized category discovery. CVPR 2022.
    B. Zhao, X. Wen, K. Han. Learning semi-supervised Gaussian mixture models for generalized
    category discovery. ICCV 2023. Representations are not trained here.
    """
    if method not in METHODS:
        raise UsageError(f"no method {method!r} for known classes: {' or '.join(METHODS)}")
    numbers, own = _check(vectors, classes, k)
    known = np.full(int(numbers[-1]) + 1, -1, np.int64)
    known[numbers] = np.arange(len(numbers))
    if (own >= 0).all():
        clusters = Clusters(own, np.ones(len(own), np.float32), {"method": method})
        return Discovery(clusters, known, len(numbers))
    require("sklearn", "generalized category discovery")
    from threadpoolctl import threadpool_limits

    curve: tuple[tuple[int, float], ...] = ()
    with threadpool_limits(limits=1):
        unit = unit32(vectors)
        if k is None:
            limit = most or max(_MOST_TIMES * len(numbers), _MOST_AT_LEAST)
            tried = _searched(unit, own, min(limit, len(unit)), sample, seed, advance)
            k = _best(tried, own)
            curve = tuple((one.k, one.accuracy) for one in tried)
        fit = semi_kmeans(unit, own, k, seed=seed, sample=sample)
        if method == "gmm":
            fit = semi_gmm(unit, own, fit.labels)
    clusters = _clusters(fit, len(numbers), method, min(sample, len(unit)))
    return Discovery(clusters, known, clusters.count, curve)


def discovery_accuracy(
    labels: Ints, truth: Ints, known_classes: Ints, labelled: NDArray[np.bool_]
) -> Accuracy:
    """Compare clusters with true classes, on rows whose class was not told (Vaze et al. 2022).

    Parameters
    ----------
    labels : int64 array, shape (n,)
        Clusters; negative ones are right for no row.
    truth : int64 array, shape (n,)
        Classes from 0 on.
    known_classes : int64 array
        Those of `truth` that some rows were labelled with.
    labelled : bool array, shape (n,)

    Returns
    -------
    accuracy : Accuracy

    Notes
    -----
    Clusters and classes are assigned to each other once, one to one, so that most unlabelled rows
    agree (Hungarian algorithm); old and new classes are then looked at separately.
    """
    require("scipy", "matching clusters with classes")
    from scipy.optimize import linear_sum_assignment

    found, right = labels[~labelled], truth[~labelled]
    inside = found >= 0
    counts = np.zeros((found.max(initial=-1) + 1, right.max(initial=-1) + 1))
    np.add.at(counts, (found[inside], right[inside]), 1)
    rows, columns = linear_sum_assignment(-counts)
    means = np.full(len(counts) + 1, -1)
    means[rows] = columns
    correct = means[found] == right
    old = np.isin(right, known_classes)
    shares = [
        float(some.mean()) if len(some) else np.nan
        for some in (correct, correct[old], correct[~old])
    ]
    return Accuracy(*shares)


def _check(vectors: NDArray[np.floating], classes: Ints, k: int | None) -> tuple[Ints, Ints]:
    """Give the numbers of known classes, and classes numbered from 0 on without gaps."""
    check_vectors(vectors, fewest=1)
    if classes.shape != (len(vectors),):
        raise InputError(f"{counted(len(classes), 'class')} for {counted(len(vectors), 'vector')}")
    numbers, own = np.unique(classes[classes >= 0], return_inverse=True)
    if not len(numbers):
        raise InputError("no record has a class: clusters beside known classes take some that do")
    if k is not None and k < len(numbers):
        raise InputError(
            f"{counted(k, 'cluster')} cannot hold {len(numbers):,} known classes",
            hint=f"-k {len(numbers)}, or more",
        )
    if k is not None and k > len(vectors):
        raise InputError(
            f"{counted(k, 'cluster')} cannot be made of {counted(len(vectors), 'vector')}"
        )
    compact = np.full(len(classes), -1, np.int64)
    compact[classes >= 0] = own
    return numbers, compact


def _searched(
    unit: NDArray[np.float32], classes: Ints, most: int, sample: int, seed: int, advance: Advance
) -> tuple[Tried, ...]:
    """Search for the number of clusters; give all that was tried, by rising number."""
    fewest = int(classes.max()) + 1
    tried: dict[int, Tried] = {}
    expected = _TRIED + 2 * _CLOSER

    def judge(k: int) -> None:
        if k not in tried:
            tried[k] = _judged(unit, classes, k, sample, seed)
            advance(len(tried), expected, len(tried))

    for k in np.unique(np.geomspace(fewest, max(most, fewest), _TRIED).round().astype(int)):
        judge(int(k))
    for _ in range(_CLOSER):
        numbers = sorted(tried)
        place = numbers.index(_best(list(tried.values()), classes))
        for low, high in pairwise(numbers[max(place - 1, 0) : place + 2]):
            judge((low + high) // 2)
    return tuple(tried[k] for k in sorted(tried))


def _judged(unit: NDArray[np.float32], classes: Ints, k: int, sample: int, seed: int) -> Tried:
    """Judge a number of clusters by some runs of k-means."""
    from scipy.optimize import linear_sum_assignment

    right = silhouette = 0.0
    rows = sampled(len(unit), sample, seed, fewest=1)
    for run in range(_RUNS):
        centres = plain_centres(unit, k, seed + run, sample)
        counts = overlaps(unit, classes, centres)
        right += counts[linear_sum_assignment(-counts)].sum()
        silhouette += clearness(unit[rows], centres)
    accuracy = right / _RUNS / (classes >= 0).sum()
    return Tried(k, float(accuracy), silhouette / _RUNS)


def _best(tried: Sequence[Tried], classes: Ints) -> int:
    """Choose by the silhouette among those of an accuracy one standard error from the best."""
    n = int((classes >= 0).sum())
    best = max(one.accuracy for one in tried)
    # A success and a failure more, so that there is an error where all are right.
    share = (best * n + 1) / (n + 2)
    least = best - float(np.sqrt(share * (1 - share) / n))
    return max(
        (one for one in tried if one.accuracy >= least), key=lambda one: (one.silhouette, -one.k)
    ).k


def _clusters(fit: Fit, n_known: int, method: str, sample: int) -> Clusters:
    """Give clusters their numbers: known classes first, then the others by size."""
    labels = fit.labels.copy()
    new = labels >= n_known
    labels[new] = by_size(labels[new]) + n_known
    details = {
        "method": method,
        "objective": fit.objective,
        "steps": fit.steps,
        "converged": fit.converged,
        "sample": sample,
    }
    return Clusters(labels, fit.strengths, details)
