"""How many clusters there are: by silhouette, by BIC, or by what comes out again."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations, pairwise
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from embcli.core.clustering.centres import Floats32, Ints, assign, means
from embcli.core.clustering.clusters import Clusters
from embcli.core.clustering.kmeans import kmeans
from embcli.core.clustering.mixture import gaussian_mixture
from embcli.core.matching import Advance
from embcli.core.optional import require
from embcli.core.separability.neighbourhood import silhouette
from embcli.core.separability.vectors import check_vectors, sampled
from embcli.errors import UsageError

Method = Literal["kmeans", "gmm"]
Criterion = Literal["silhouette", "bic", "stability"]
_Way = Callable[..., Clusters]
SAMPLE = 20_000
_REPEATS = 4
# What is as stable as the best, give or take so much.
_EQUALLY_STABLE = 0.02
_SHARE = 0.7
_STEP = 1.4


class Choice(NamedTuple):
    """A number of clusters, and what speaks for it.

    Attributes
    ----------
    k : int
        Where the criterion is best; of equals the smallest. By stability the greatest that is
        within .02 of the best: few clusters are stable wherever there are more.
    curve : list of dict
        For every candidate by rising k: ``k``, ``value``, and ``found``, how many clusters came
        out.
    criterion : str
    better : str
        ``high`` or ``low``.
    sample : int
        How many vectors were looked at.
    """

    k: int
    curve: list[dict[str, Any]]
    criterion: str
    better: str
    sample: int


def choose_k(
    vectors: Floats32,
    *,
    method: Method = "kmeans",
    criterion: Criterion = "silhouette",
    candidates: Sequence[int] | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
    options: Mapping[str, Any] = MappingProxyType({}),
    advance: Advance = lambda done, total, count: None,
) -> Choice:
    """Cluster with several k, and take the one that does best.

    Parameters
    ----------
    vectors : float32 array, shape (n, dim)
        At length 1.
    method : str
        ``kmeans`` or ``gmm``.
    criterion : str
        ``silhouette``: how much nearer vectors are, by cosine, to their cluster than to the next;
        exact. ``stability``: the mean adjusted Rand index of clusterings of all vectors by the
        centres that four random 70 % of them give. ``bic``: of the Gaussian mixture.
    candidates : sequence of int, optional
        By default a grid from 2 to ``3 sqrt(n)``, each 1.4 times the one before, and then what lies
        around the best of it. Numbers above n - 1 are left out.
    sample : int
        So many vectors are looked at, at most.
    seed : int
    options : mapping
        What else the method is told.
    advance : callable
        Told how many candidates are done, of how many, and the k of the last.

    Returns
    -------
    choice : Choice

    Raises
    ------
    InputError
        There are fewer than 3 vectors, or one is not finite or is zeros.
    UsageError
        No candidate is from 2 to n - 1, or the BIC is asked of k-means, which is no likelihood.
    ModelError
        scikit-learn is not installed.

    Notes
    -----
    No criterion knows what the clusters are for. Silhouettes of texts are low and flat, and their
    best k may lie far from the number of classes that people use; the curve says how sure the
    choice is. Clusters of one vector have a silhouette of 0. The cost is that of the clusterings.

    References
    ----------
    P. Rousseeuw. Silhouettes. 1987. A. Ben-Hur, A. Elisseeff, I. Guyon. A stability based method
    for discovering structure in clustered data. PSB 2002 (there pairs of samples are compared on
    what both have).
    """
    require("sklearn", "the choice of a number of clusters")
    if criterion == "bic" and method != "gmm":
        raise UsageError("the BIC takes a likelihood, which k-means has not", hint="--method gmm")
    if criterion not in ("silhouette", "bic", "stability") or method not in ("kmeans", "gmm"):
        raise UsageError(f"there is no choice of k by {criterion} of {method}")
    check_vectors(vectors)
    rows = sampled(len(vectors), sample, seed)
    some = vectors[rows]
    n = len(rows)
    grid = _grid(n) if candidates is None else sorted({k for k in candidates if 2 <= k < n})
    if not grid:
        raise UsageError(f"no candidate is from 2 to {n - 1:,}, less than there are vectors")
    better = "low" if criterion == "bic" else "high"
    cluster: _Way = partial(gaussian_mixture if method == "gmm" else kmeans, **options)
    curve: dict[int, tuple[float, int]] = {}

    def look(several: Sequence[int], total: int) -> int:
        for k in several:
            curve[k] = _value(some, k, cluster, criterion, seed)
            advance(len(curve), total, k)
        return _best({k: value for k, (value, _) in curve.items()}, criterion)

    around = 0 if candidates is not None else 6
    best = look(grid, len(grid) + around)
    if around:
        finer = _around(best, grid)
        best = look(finer, len(grid) + len(finer))
    found = [{"k": k, "value": curve[k][0], "found": curve[k][1]} for k in sorted(curve)]
    return Choice(best, found, criterion, better, n)


def _best(values: dict[int, float], criterion: Criterion) -> int:
    if criterion == "bic":
        return min(sorted(values), key=values.__getitem__)
    if criterion == "stability":
        return max(k for k in values if values[k] >= max(values.values()) - _EQUALLY_STABLE)
    return max(sorted(values), key=values.__getitem__)


def _grid(n: int) -> list[int]:
    most = max(2, min(n - 1, round(3 * n**0.5)))
    grid, k = [2], 2.0
    while (k := max(k * _STEP, grid[-1] + 1)) <= most:
        grid.append(round(k))
    return grid


def _around(best: int, grid: Sequence[int]) -> list[int]:
    """Give up to three numbers between the best of a grid and each of its neighbours."""
    at = grid.index(best)
    ends = (grid[max(at - 1, 0)], best, grid[min(at + 1, len(grid) - 1)])
    between = {
        round(low + (high - low) * quarter / 4)
        for low, high in pairwise(ends)
        for quarter in (1, 2, 3)
    }
    return sorted(between - set(grid))


def _value(
    vectors: Floats32, k: int, cluster: _Way, criterion: Criterion, seed: int
) -> tuple[float, int]:
    if criterion == "stability":
        return _stability(vectors, k, cluster, seed)
    clusters = cluster(vectors, k, seed=seed)
    if criterion == "bic":
        return clusters.details.get("bic", float("inf")), clusters.count
    return mean_silhouette(vectors, clusters.labels), clusters.count


def mean_silhouette(vectors: Floats32, labels: Ints) -> float:
    """Give the mean silhouette by cosine; members of clusters of one count as 0, noise not at all.

    Parameters
    ----------
    vectors : float32 array, shape (n, dim)
    labels : int64 array, shape (n,)
        By falling size. Where fewer than two clusters have two members, the value is 0.
    """
    sizes = np.bincount(labels[labels >= 0])
    several = int((sizes > 1).sum())
    inside, n = (labels >= 0) & (labels < several), (labels >= 0).sum()
    if several < 2 or inside.sum() < 3:
        return 0.0
    if not inside.all():
        vectors, labels = vectors[inside], labels[inside]
    found = silhouette(vectors, labels)
    return float(found.of_records.sum() / n)


def _stability(vectors: Floats32, k: int, cluster: _Way, seed: int) -> tuple[float, int]:
    from sklearn.metrics import adjusted_rand_score

    n = len(vectors)
    several, counts = [], []
    for i in range(_REPEATS):
        rng = np.random.default_rng([seed, i])
        rows = np.sort(rng.choice(n, max(min(k + 1, n), round(_SHARE * n)), replace=False))
        found = cluster(vectors[rows], k, seed=seed)
        counts.append(found.count)
        several.append(assign(vectors, means(vectors[rows], found.labels, found.count)).labels)
    pairs = [adjusted_rand_score(a, b) for a, b in combinations(several, 2)]
    return float(np.mean(pairs)), round(float(np.mean(counts)))
