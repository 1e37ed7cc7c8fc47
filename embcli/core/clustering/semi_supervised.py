"""Clusters of rows some of which are known to belong together."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.separability.vectors import parts, sampled

Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# K-means starts from what it makes of so many rows, without their labels.
SAMPLE = 20_000
STARTS = 3
_MOST_STEPS = 100
DIMENSIONS = 64
# How far the covariance within clusters is shrunk towards a sphere.
SHRINKAGE = 0.5
_TOLERANCE = 1e-5


class Fit(NamedTuple):
    """A clustering.

    Attributes
    ----------
    labels : int64 array, shape (n,)
        Known classes come first; others may be empty.
    strengths : float32 array, shape (n,)
        From 0 to 1; 1 for rows whose class is known.
    objective : float
        Sum of squared distances to centres, or mean log-likelihood.
    steps : int
    converged : bool
    """

    labels: Ints
    strengths: NDArray[np.float32]
    objective: float
    steps: int
    converged: bool


def plain_centres(unit: Vectors, k: int, seed: int, sample: int = SAMPLE) -> Vectors:
    """Fit k-means without labels to a seeded sample of rows; shape (k, dim), float32."""
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    rows = unit[sampled(len(unit), max(sample, k), seed, fewest=1)]
    with warnings.catch_warnings():
        # Fewer distinct rows than clusters: those that stay empty are left out later.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = KMeans(k, n_init=1, random_state=seed).fit(rows)
    centres: Vectors = fitted.cluster_centers_.astype(np.float32)
    return centres


def overlaps(unit: Vectors, classes: Ints, centres: Vectors) -> Floats:
    """Count the rows of every class that are nearest to every centre, shape (n_classes, k)."""
    labelled = np.flatnonzero(classes >= 0)
    counts = np.zeros((int(classes.max()) + 1, len(centres)))
    for part in parts(len(labelled)):
        rows = labelled[part]
        np.add.at(counts, (classes[rows], _scores(unit[rows], centres).argmax(axis=1)), 1)
    return counts


def clearness(rows: Vectors, centres: Vectors) -> float:
    """Average the simplified silhouette of rows, from 0 to 1; 0 with one centre."""
    if len(centres) < 2:
        return 0.0
    sums = 0.0
    for part in parts(len(rows)):
        own, second = np.partition(_distances(rows[part], centres), 1, axis=1)[:, :2].T
        shares = np.divide(own, second, out=np.ones_like(own), where=second > 0)
        sums += float((1 - shares).sum())
    return sums / len(rows)


def semi_kmeans(
    unit: Vectors,
    classes: Ints,
    k: int,
    *,
    seed: int = 0,
    starts: int = STARTS,
    sample: int = SAMPLE,
) -> Fit:
    """K-means with the rows of known classes kept in them (Vaze et al. 2022).

    Parameters
    ----------
    unit : float32 array, shape (n, dim)
    classes : int64 array, shape (n,)
        From 0 on, none of them empty; -1 for rows of which it is not known.
    k : int
        Not below the number of classes.
    seed, starts : int
        The start that ends with the least sum of squares is taken.
    sample : int
        Rows that a start is made from.

    Returns
    -------
    fit : Fit
        A strength is 1 less the distance to the centre as a share of that to the next one.

    Notes
    -----
    A start is k-means of the sample without any labels; of its centres, each class replaces the one
    that most of its rows are nearest to, one to one, by the mean of its rows. The paper's start,
    k-means++ away from the classes, ends worse (see benchmarks). O(n · k · dim) time a step.
    """
    best: Fit | None = None
    for start in range(starts):
        fit = _lloyd(unit, classes, _start(unit, classes, k, seed + start, sample))
        if best is None or fit.objective < best.objective:
            best = fit
    assert best is not None
    return best


def semi_gmm(
    unit: Vectors,
    classes: Ints,
    start: Ints,
    *,
    dimensions: int = DIMENSIONS,
    shrinkage: float = SHRINKAGE,
) -> Fit:
    """Fit a mixture of Gaussians of one covariance, with the rows of known classes kept in them.

    Parameters
    ----------
    unit : float32 array, shape (n, dim)
    classes : int64 array, shape (n,)
        As in `semi_kmeans`.
    start : int64 array, shape (n,)
        Clusters to begin with, in which classes have their numbers.
    dimensions : int
        Principal components that are looked at.
    shrinkage : float
        Of the covariance towards a multiple of the identity, from 0 to 1.

    Returns
    -------
    fit : Fit
        Strengths are the probabilities of the clusters.

    Notes
    -----
    Expectation maximization on principal components, as in GCD-GMM (Zhao et al. 2023), where each
    component has a covariance of its own and is split and merged; with some dozen rows a cluster
    only one for all can be estimated. O(n · k · dimensions) time a step, O(n · dimensions) memory.
    """
    data = _principal(unit, dimensions)
    n, dim = data.shape
    k = int(start.max()) + 1
    sizes, sums = np.zeros(k), np.zeros((k, dim))
    total = np.zeros((dim, dim))
    for part in parts(n):
        block = data[part].astype(float)
        total += block.T @ block
        np.add.at(sums, start[part], block)
    sizes += np.bincount(start, minlength=k)
    if not dim or np.trace(total) <= n * _TOLERANCE**2:
        return Fit(start, np.ones(n, np.float32), 0.0, 0, True)
    likelihood, converged, step = -np.inf, False, 0
    labels, strengths = np.empty(n, np.int64), np.empty(n, np.float32)
    while not converged and step < _MOST_STEPS:
        step += 1
        whiten, log_determinant = _whitener(total, sizes, sums, shrinkage)
        means = sums / np.maximum(sizes, np.finfo(float).tiny)[:, None]
        new_sizes, new_sums, logs = np.zeros(k), np.zeros((k, dim)), 0.0
        for part, shares, evidence in _expected(data, classes, sizes, means @ whiten, whiten):
            new_sizes += shares.sum(axis=0)
            new_sums += shares.T @ data[part].astype(float)
            logs += evidence
            labels[part] = shares.argmax(axis=1)
            strengths[part] = shares.max(axis=1)
        sizes, sums = new_sizes, new_sums
        previous, likelihood = likelihood, logs / n + log_determinant
        converged = likelihood - previous < _TOLERANCE * abs(likelihood)
    return Fit(labels, strengths, likelihood, step, converged)


def _start(unit: Vectors, classes: Ints, k: int, seed: int, sample: int) -> Vectors:
    """Give centres: the means of classes, and what k-means finds besides, shape (k, dim)."""
    from scipy.optimize import linear_sum_assignment

    centres = plain_centres(unit, k, seed, sample)
    labelled = np.flatnonzero(classes >= 0)
    empty = np.zeros((int(classes.max()) + 1, unit.shape[1]), np.float32)
    means = _means(unit[labelled], classes[labelled], empty)
    # Classes that share a cluster differ by how near they are to others: never by a whole row.
    near = np.exp(-_distances(means, centres)) / 2
    taken = linear_sum_assignment(-overlaps(unit, classes, centres) - near)[1]
    return np.vstack([means, np.delete(centres, taken, axis=0)])


def _lloyd(unit: Vectors, classes: Ints, centres: Vectors) -> Fit:
    """Move rows to the nearest centre and centres to the mean of their rows until nothing moves."""
    labels = classes
    for step in range(1, _MOST_STEPS + 1):
        previous, (labels, strengths, objective) = labels, _assigned(unit, classes, centres)
        if np.array_equal(labels, previous):
            return Fit(labels, strengths, objective, step, True)
        centres = _means(unit, labels, centres)
    return Fit(labels, strengths, objective, _MOST_STEPS, False)


def _assigned(
    unit: Vectors, classes: Ints, centres: Vectors
) -> tuple[Ints, NDArray[np.float32], float]:
    """Give free rows the nearest centre, how clearly it is that, and the sum of squares."""
    labels, strengths, objective = classes.copy(), np.ones(len(unit), np.float32), 0.0
    for part in parts(len(unit)):
        distances = _distances(unit[part], centres)
        free = classes[part] < 0
        labels[part][free] = distances[free].argmin(axis=1)
        own = np.take_along_axis(distances, labels[part][:, None], axis=1)[:, 0]
        objective += float(np.square(own, dtype=float).sum())
        if len(centres) > 1:
            second = np.partition(distances, 1, axis=1)[:, 1]
            shares = np.divide(own, second, out=np.zeros_like(own), where=second > 0)
            strengths[part] = np.where(free, 1 - np.minimum(shares, 1), 1)
    return labels, strengths, objective


def _means(unit: Vectors, labels: Ints, otherwise: Vectors) -> Vectors:
    """Average the rows of every label; where there are none, what was there stays."""
    from scipy.sparse import csr_matrix

    k = len(otherwise)
    sums = np.zeros(otherwise.shape)
    for part in parts(len(unit)):
        rows = np.arange(part.stop - part.start)
        member = csr_matrix((np.ones(len(rows)), (labels[part], rows)), (k, len(rows)))
        sums += member @ unit[part]
    sizes = np.bincount(labels, minlength=k)[:, None]
    means: Floats = np.divide(sums, sizes, out=otherwise.astype(float), where=sizes > 0)
    return means.astype(np.float32)


def _scores(rows: Vectors, centres: Vectors) -> Vectors:
    """Rank centres by distance for every row: the greatest score is the nearest."""
    scores: Vectors = rows @ centres.T - np.einsum("ij,ij->i", centres, centres) / 2
    return scores


def _distances(rows: Vectors, centres: Vectors) -> Vectors:
    squares = np.einsum("ij,ij->i", rows, rows)[:, None] - 2 * _scores(rows, centres)
    distances: Vectors = np.sqrt(np.maximum(squares, 0))
    return distances


def _principal(unit: Vectors, dimensions: int) -> Vectors:
    """Turn centred rows onto their first principal axes, shape (n, at most dimensions)."""
    dim = unit.shape[1]
    mean, products = np.zeros(dim), np.zeros((dim, dim))
    for part in parts(len(unit)):
        block = unit[part].astype(float)
        mean += block.sum(axis=0)
        products += block.T @ block
    mean /= len(unit)
    axes = np.linalg.eigh(products / len(unit) - np.outer(mean, mean))[1][:, ::-1]
    axes = axes[:, : min(dimensions, dim, len(unit) - 1)]
    data = np.empty((len(unit), axes.shape[1]), np.float32)
    for part in parts(len(unit)):
        data[part] = (unit[part] - mean) @ axes
    return data


def _whitener(total: Floats, sizes: Floats, sums: Floats, shrinkage: float) -> tuple[Floats, float]:
    """Give what makes the covariance within clusters the identity, and half its log-determinant."""
    dim = len(total)
    means = sums / np.maximum(sizes, np.finfo(float).tiny)[:, None]
    within = (total - sums.T @ means) / sizes.sum()
    scale = max(np.trace(within) / dim, _TOLERANCE * np.trace(total) / sizes.sum() / dim)
    within = (1 - shrinkage) * within + shrinkage * scale * np.eye(dim)
    variances, axes = np.linalg.eigh(within)
    variances = np.maximum(variances, _TOLERANCE * scale)
    return axes / np.sqrt(variances), float(-np.log(variances).sum() / 2)


def _expected(
    data: Vectors, classes: Ints, sizes: Floats, means: Floats, whiten: Floats
) -> Iterator[tuple[slice, Floats, float]]:
    """Yield parts of the rows, how probable each cluster is for them, and their log-likelihood."""
    with np.errstate(divide="ignore"):
        prior = np.log(sizes / sizes.sum()) - np.square(means).sum(axis=1) / 2
    for part in parts(len(data)):
        rows = data[part] @ whiten
        logs = rows @ means.T + prior
        own = classes[part]
        known = np.flatnonzero(own >= 0)
        only = logs[known, own[known]]
        logs[known] = -np.inf
        logs[known, own[known]] = only
        top = logs.max(axis=1, keepdims=True)
        shares = np.exp(logs - top)
        each = shares.sum(axis=1, keepdims=True)
        evidence = float((top + np.log(each)).sum() - np.square(rows).sum() / 2)
        yield part, shares / each, evidence
