"""A mixture of Gaussians on the principal components of vectors."""

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embcli.core.clustering.centres import Floats32
from embcli.core.clustering.clusters import Clusters, by_size
from embcli.core.clustering.kmeans import kmeans
from embcli.core.optional import made_by, require
from embcli.core.separability.moments import moments
from embcli.core.separability.vectors import check_vectors, parts
from embcli.errors import InputError, UsageError, counted

Covariance = Literal["diag", "full", "tied", "spherical"]
DIMS = 50
_STEPS = 200
# Added to variances, as a share of the mean variance of a component.
_FLOOR = 1e-3


def gaussian_mixture(
    vectors: Floats32,
    k: int,
    *,
    covariance: Covariance = "tied",
    dims: int = DIMS,
    seed: int = 0,
) -> Clusters:
    """Fit k Gaussians by expectation maximization, and give each vector its most probable one.

    Parameters
    ----------
    vectors : float32 array, shape (n, dim)
        Not modified.
    k : int
        At most `n`.
    covariance : str
        ``tied``: one full covariance for all; or of each Gaussian: ``diag`` by principal component,
        ``full``, ``spherical``.
    dims : int
        Principal components to fit in, at most: densities in hundreds of dimensions differ by so
        much that every posterior is 0 or 1, and covariances have more parameters than there are
        numbers to estimate them from.
    seed : int

    Returns
    -------
    clusters : Clusters
        ``strengths`` are the posterior probabilities. In tens of dimensions most are next to 1.
        Components that no vector has as its most probable are left out. ``details``: bic (the
        lower the better), log_likelihood (mean of a vector), dims, explained (share of the
        variance that the components keep), iterations, converged, components, library.

    Raises
    ------
    InputError
        There are fewer vectors than Gaussians, fewer than 3, or one is not finite.
    UsageError
        `k` or `dims` is below 1, or there is no such covariance.
    ModelError
        scikit-learn is not installed.

    Notes
    -----
    Starts at the clusters of `kmeans`, with the covariance within all of them. A thousandth of the
    mean variance of a component is added to all variances, so that no Gaussian collapses onto
    duplicates. The BIC compares mixtures on the same components only, so with the same `dims`.
    Numbers are in float64: n · dims of them, and n · k of posteriors. O(n · k · dims) time for an
    iteration, O(n · k · dims²) where covariances are full. On one thread, so that the result does
    not depend on how many there are. ``tied`` is the default because, of 50 components, it came
    nearest to the classes of banking77 and AG News of those whose BIC does not punish it.

    References
    ----------
    G. Schwarz. Estimating the dimension of a model. Annals of Statistics 6, 1978.
    """
    require("sklearn", "a Gaussian mixture")
    if k < 1 or dims < 1:
        raise UsageError(f"{counted(k, 'Gaussian')} in {counted(dims, 'dimension')}: at least 1")
    if covariance not in ("diag", "full", "tied", "spherical"):
        raise UsageError(f"covariance is diag, full, tied or spherical, not {covariance}")
    check_vectors(vectors)
    if len(vectors) < k:
        raise InputError(f"{counted(len(vectors), 'vector')} cannot make {counted(k, 'Gaussian')}")
    points, explained = _components(vectors, dims)
    start = kmeans(vectors, k, seed=seed)
    if not points.shape[1]:  # All vectors are equal.
        return Clusters(start.labels, np.ones(len(vectors), np.float32), {"k": k, "dims": 0})
    model, posteriors = _fit(points, start, covariance)
    labels = posteriors.argmax(axis=1)
    details = {
        "k": k, "covariance": covariance, "dims": points.shape[1], "explained": explained,
        "bic": float(model.bic(points)), "log_likelihood": float(model.score(points)),
        "iterations": int(model.n_iter_), "converged": bool(model.converged_),
        "components": start.count, "seed": seed, "library": made_by("sklearn"),
    }  # fmt: skip
    strengths = posteriors[np.arange(len(labels)), labels].astype(np.float32)
    return Clusters(by_size(labels), np.minimum(strengths, 1), details)


def _fit(
    points: NDArray[np.float64], start: Clusters, covariance: Covariance
) -> tuple[Any, NDArray[np.float64]]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    k, dims = start.count, points.shape[1]
    sizes = np.bincount(start.labels)
    means = np.stack([np.bincount(start.labels, column) / sizes for column in points.T], axis=1)
    floor = _FLOOR * float(points.var(axis=0).mean())
    apart = points - means[start.labels]
    within = apart.T @ apart / len(points) + floor * np.eye(dims)
    precision = np.linalg.inv(within)
    variances = np.diag(within)
    precisions: dict[Covariance, NDArray[np.float64]] = {
        "diag": np.tile(1 / variances, (k, 1)),
        "full": np.tile((precision + precision.T) / 2, (k, 1, 1)),
        "tied": (precision + precision.T) / 2,
        "spherical": np.full(k, 1 / variances.mean()),
    }
    weights = sizes / sizes.sum()
    model = GaussianMixture(
        k, covariance_type=covariance, reg_covar=floor, max_iter=_STEPS,
        weights_init=weights, means_init=means, precisions_init=precisions[covariance],
    )  # fmt: skip
    # On one thread sums do not depend on how many there are.
    with warnings.catch_warnings(), threadpool_limits(1):
        # Whether it converged is in the details.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points)
        return model, model.predict_proba(points)


def _components(vectors: Floats32, dims: int) -> tuple[NDArray[np.float64], float]:
    """Project vectors onto their first principal components that have any variance."""
    found = moments(vectors)
    values, axes = np.linalg.eigh(found.covariance)
    values, axes = values[::-1], axes[:, ::-1]
    kept = min(dims, int((values > 1e-9 * max(values[0], 1e-6)).sum()), len(vectors) - 1)
    points = np.empty((len(vectors), kept))
    for part in parts(len(vectors)):
        points[part] = (vectors[part] - found.mean) @ axes[:, :kept]
    return points, float(values[:kept].sum() / values.sum()) if kept else 1.0
