"""Canonical correlation analysis: both sides into the directions in which they vary together."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.normalization import prepared
from embcli.core.maps import Linear, Map, Shift, Transform
from embcli.errors import InputError, UsageError

_MOST_POWER = 10
_ROWS = 1 << 14


def cca(
    pairs: Pairs,
    *,
    normalize: str = "unit",
    power: float = 1.5,
    regularization: float | str = "auto",
    components: int = 0,
) -> Map:
    """Lead both sides into their canonical directions, weighted by the correlations there.

    Both sides are whitened, rotated so that pairs are as correlated as can be, and each component
    of both is multiplied by a power of its canonical correlation: components that the pairs say
    little about count little.

    Parameters
    ----------
    pairs : Pairs
        At least two, of any numbers of components.
    normalize : str
        See `embcli.core.alignment.normalization.prepared`. Pairs are centred in any case.
    power : float
        0 is textbook CCA, where every direction counts alike.
    regularization : float or "auto"
        Share in [0, 1] by which covariances are shrunk towards a multiple of the identity, the
        same for both sides, or "auto": for each side what `ledoit_wolf` says.
    components : int
        Keep the most correlated directions; 0 keeps all.

    Returns
    -------
    map : Map
        Two-sided.

    Raises
    ------
    InputError
        Fewer than two pairs.
    UsageError
        An option is out of range.

    Notes
    -----
    Covariances are added up in float64: O(n (d₁² + d₂²)) and an SVD of d₁ × d₂. They are those of
    the vectors in pairs: estimated from all vectors they did worse, as pairs are then not white.
    Of a few hundred pairs shrinking matters more than anything else.

    References
    ----------
    H. Hotelling. Relations between two sets of variates. Biometrika 1936. M. Faruqui, C. Dyer.
    Improving vector space word representations using multilingual correlation. EACL 2014. The
    weights: M. Artetxe, G. Labaka, E. Agirre. Generalizing and improving bilingual word embedding
    mappings. AAAI 2018; there the power is 1, on one side or shared by both.
    """
    pairs.require(2, "cca")
    if not 0 <= power <= _MOST_POWER:
        raise UsageError(f"power must be from 0 to {_MOST_POWER}, not {power:g}")
    if components < 0:
        raise UsageError(f"components must be 0, for all, or more, not {components}")
    share = _share(regularization)
    ready = prepared(pairs, normalize)
    source = ready.pairs.source[pairs.rows]
    target = ready.pairs.target[pairs.columns]
    crossed = _covariance(source, target)
    left, right = whitening(source, share), whitening(target, share)
    turn, correlations, back = np.linalg.svd(left @ crossed @ right, full_matrices=False)
    if not correlations[0] > 0:
        raise InputError("the vectors of one side are all the same: there is nothing to correlate")
    keep = components or len(correlations)
    weights = correlations[:keep] ** power
    return ready.finished(
        Map(
            Transform.of(Shift(-mean_of(source)), Linear(left @ turn[:, :keep] * weights)),
            Transform.of(Shift(-mean_of(target)), Linear(right @ back[:keep].T * weights)),
        )
    )


def whitening(
    vectors: NDArray[np.floating], share: float | None = None, power: float = -0.5
) -> NDArray[np.float64]:
    """Compute a power of the shrunk covariance of some vectors, shape (dim, dim).

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Not modified; not centred.
    share : float, optional
        How much to shrink towards a multiple of the identity, from 0 to 1; by default what
        `ledoit_wolf` says.
    power : float
        -0.5 whitens, less takes only some of the differences in variance away. Directions
        without any variance get 0.
    """
    covariance = _covariance(vectors, vectors)
    if share is None:
        share = ledoit_wolf(vectors, covariance)
    dim = len(covariance)
    mean = np.trace(covariance) / dim
    values, directions = np.linalg.eigh((1 - share) * covariance + share * mean * np.eye(dim))
    some = values > 1e-10 * max(values[-1], np.finfo(float).tiny)
    scaled = np.where(some, np.where(some, values, 1.0) ** power, 0.0)
    return np.asarray(directions * scaled @ directions.T)


def ledoit_wolf(vectors: NDArray[np.floating], covariance: NDArray[np.float64]) -> float:
    """Estimate how far to shrink a covariance towards a multiple of the identity, from 0 to 1.

    The share for which the expected squared error (Frobenius) of the shrunk covariance is least,
    if the vectors are drawn independently.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
    covariance : float64 array, shape (dim, dim)
        Theirs, with 1/n.

    References
    ----------
    O. Ledoit, M. Wolf. A well-conditioned estimator for large-dimensional covariance matrices.
    Journal of Multivariate Analysis 2004.
    """
    n, dim = vectors.shape
    mean = mean_of(vectors)
    fourth = 0.0
    for start in range(0, n, _ROWS):
        part = np.asarray(vectors[start : start + _ROWS], np.float64) - mean
        fourth += float((np.einsum("ij,ij->i", part, part) ** 2).sum())
    total = float((covariance**2).sum())
    spread: float = total - float(np.trace(covariance)) ** 2 / dim
    if spread <= 0:
        return 1.0
    return float(min(1.0, max(0.0, (fourth / n - total) / n / spread)))


def _covariance(left: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.float64]:
    ends = mean_of(left), mean_of(right)
    total = np.zeros((left.shape[1], right.shape[1]))
    for start in range(0, len(left), _ROWS):
        part = slice(start, start + _ROWS)
        total += (np.asarray(left[part], np.float64) - ends[0]).T @ (
            np.asarray(right[part], np.float64) - ends[1]
        )
    return total / len(left)


def mean_of(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Average rows in float64, shape (dim,)."""
    mean: NDArray[np.float64] = vectors.mean(axis=0, dtype=np.float64)
    return mean


def _share(regularization: float | str) -> float | None:
    """Read how far to shrink; None if that is to be estimated."""
    if regularization == "auto":
        return None
    try:
        share = float(regularization)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"regularization is auto or a number from 0 to 1, not {regularization!r}")
    return share
