"""Least squares, with or without a penalty."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.normalization import prepared
from embcli.core.maps import Linear, Map, Transform
from embcli.errors import InputError, UsageError

# Penalties tried by "auto", in mean eigenvalues of the covariance.
_GRID = np.logspace(-6, 3, 73)
# Directions with less of the greatest eigenvalue are rounding.
_RANK = 1e-12


def ridge(pairs: Pairs, *, normalize: str = "unit,center,unit", alpha: float | str = "auto") -> Map:
    """Fit a linear map by ridge regression.

    Minimises ``||source @ W - target||² + alpha · ||W||²`` (Frobenius).

    Parameters
    ----------
    pairs : Pairs
        At least one; with ``alpha=0`` as many as the source has components.
    normalize : str
        See `embcli.core.alignment.normalization.prepared`. There is no intercept: ``center``
        takes its place.
    alpha : float or "auto"
        The penalty; 0 is least squares. "auto" chooses it by generalised cross-validation [1]_.

    Raises
    ------
    InputError
        There are too few pairs.
    UsageError
        `alpha` is neither "auto" nor a number that is not negative.

    Notes
    -----
    One eigendecomposition of the covariance serves every penalty: O(n · dim² + dim³).

    References
    ----------
    .. [1] G. Golub, M. Heath, G. Wahba. Generalized cross-validation as a method for choosing a
       good ridge parameter. Technometrics 1979. One penalty for all components of the target;
       the average over them is what is minimised.
    """
    penalty = _penalty(alpha)
    pairs.require(1, "ridge")
    dim = pairs.source.shape[1]
    if penalty == 0 and len(pairs.rows) < dim:
        raise InputError(
            f"least squares needs as many pairs as the source has components, {dim}, and there "
            f"are {len(pairs.rows)}: ridge with alpha=auto and procrustes work with fewer"
        )
    ready = prepared(pairs, normalize)
    source = np.asarray(ready.pairs.source[pairs.rows], np.float64)
    target = np.asarray(ready.pairs.target[pairs.columns], np.float64)
    values, axes = np.linalg.eigh(source.T @ source)
    kept = values > _RANK * values[-1]
    values, axes = values[kept], axes[:, kept]
    onto = axes.T @ (source.T @ target)
    if penalty is None:
        penalty = _cross_validated(values, onto, target)
    matrix = axes @ (onto / (values + penalty)[:, None])
    return ready.finished(Map(Transform.of(Linear(matrix))))


def _penalty(alpha: float | str) -> float | None:
    if alpha == "auto":
        return None
    try:
        penalty = float(alpha)
    except ValueError:
        penalty = -1.0
    if not 0 <= penalty < np.inf:
        raise UsageError(f"alpha is a number of at least 0, or auto, not {alpha!r}")
    return penalty


def _cross_validated(
    values: NDArray[np.float64], onto: NDArray[np.float64], target: NDArray[np.float64]
) -> float:
    """Give the penalty of the grid with the least GCV error.

    `values` are eigenvalues of the covariance, and row i of `onto` is its axis i times the
    cross-covariance.
    """
    if not len(values):
        return 1.0
    n = len(target)
    grid = _GRID * values.mean()
    shrinkage = values / (values + grid[:, None])
    explained = np.square(onto).sum(axis=1) / values
    # What is left of the part of the target that lies in the span of the source, and the rest.
    outside = np.square(target).sum() - explained.sum()
    errors = np.square(1 - shrinkage) @ explained + max(outside, 0.0)
    freedom = n - shrinkage.sum(axis=1)
    return float(grid[np.argmin(errors / np.square(freedom))])
