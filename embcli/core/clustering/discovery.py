"""Clusters beside known classes: generalized category discovery on vectors as they are."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.clustering.clusters import Clusters, by_size
from embcli.core.clustering.semi_supervised import (
    SAMPLE,
    Fit,
    overlaps,
    plain_centres,
    semi_gmm,
    semi_kmeans,
)
from embcli.core.cosine import unit32
from embcli.core.matching import Advance
from embcli.core.separability.vectors import check_vectors
from embcli.errors import InputError, ModelError, UsageError, counted

Ints = NDArray[np.int64]

METHODS = ("kmeans", "gmm")
# The search for the number of clusters ends at so many times that of known classes, or so many.
_MOST_TIMES, _MOST_AT_LEAST = 4, 20
# Numbers tried at first, the runs that each is judged by, and how often the best is looked around.
_TRIED, _RUNS, _CLOSER = 9, 3, 3


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
    classes share clusters; with more, they fall into several. Each number is judged by three runs;
    first numbers that grow by a constant factor, then some around the best. It takes several known
    classes to say anything: with one, it finds one.

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
    threadpool_limits = _libraries()
    curve: tuple[tuple[int, float], ...] = ()
    with threadpool_limits(limits=1):
        unit = unit32(vectors)
        if k is None:
            limit = most or max(_MOST_TIMES * len(numbers), _MOST_AT_LEAST)
            k, curve = _searched(unit, own, min(limit, len(unit)), sample, seed, advance)
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
    _libraries()
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped, unused-ignore]

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


def _libraries() -> Any:
    """Look whether scikit-learn is installed; give what holds it to a number of threads."""
    try:
        import sklearn.cluster  # noqa: F401
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ModelError(
            f"known classes take scikit-learn, which cannot be imported ({error})",
            hint="pip install 'embcli[cluster]'",
        ) from error
    return threadpool_limits


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
) -> tuple[int, tuple[tuple[int, float], ...]]:
    """Search for the number of clusters; give it and what was tried."""
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped, unused-ignore]

    fewest = int(classes.max()) + 1
    curve: dict[int, float] = {}
    expected = _TRIED + 2 * _CLOSER

    def judge(k: int) -> None:
        if k not in curve:
            right = 0.0
            for run in range(_RUNS):
                centres = plain_centres(unit, k, seed + run, sample)
                counts = overlaps(unit, classes, centres)
                right += counts[linear_sum_assignment(-counts)].sum()
            curve[k] = float(right / _RUNS / (classes >= 0).sum())
            advance(len(curve), expected, len(curve))

    for k in np.unique(np.geomspace(fewest, max(most, fewest), _TRIED).round().astype(int)):
        judge(int(k))
    for _ in range(_CLOSER):
        tried = sorted(curve)
        place = tried.index(_best(curve))
        for low, high in pairwise(tried[max(place - 1, 0) : place + 2]):
            judge((low + high) // 2)
    return _best(curve), tuple(sorted(curve.items()))


def _best(curve: dict[int, float]) -> int:
    """Give the number with the greatest accuracy, of equals the smallest."""
    return min(curve, key=lambda k: (-curve[k], k))


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
