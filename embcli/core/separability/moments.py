"""One pass over a space: means, covariance, lengths, and dimensions that say nothing."""

from typing import NamedTuple

import numpy as np

from embcli.core.separability.vectors import Floats, Ints, Vectors, check_vectors, parts

# A standard deviation below this share of the largest is none.
_DEAD = 1e-6
_DUPLICATE = 0.999


class Moments(NamedTuple):
    """Sums over all vectors of a space, from which its spectrum and its isotropy follow.

    Attributes
    ----------
    n : int
        How many vectors.
    mean : float64 array, shape (dim,)
    covariance : float64 array, shape (dim, dim)
        About the mean, with n - 1 in the denominator.
    direction : float64 array, shape (dim,)
        Mean of the vectors scaled to length 1; those of zeros count as zeros.
    norms : float64 array, shape (n,)
        Euclidean lengths.
    """

    n: int
    mean: Floats
    covariance: Floats
    direction: Floats
    norms: Floats


class Norms(NamedTuple):
    """How long vectors are.

    Attributes
    ----------
    least, lower, median, upper, greatest : float
        Minimum, quartiles (linear interpolation), maximum.
    mean : float
    variation : float
        Coefficient of variation, standard deviation (n in the denominator) by mean: 0 where all
        are as long, and 0 where all are zeros.
    zeros : int
        How many vectors are zeros only.
    """

    least: float
    lower: float
    median: float
    upper: float
    greatest: float
    mean: float
    variation: float
    zeros: int


class Duplicates(NamedTuple):
    """Pairs of dimensions that say the same, the most correlated first.

    Attributes
    ----------
    pairs : int64 array, shape (m, 2)
        The smaller number first.
    correlations : float64 array, shape (m,)
        Pearson's; negative where one is the other turned round.
    """

    pairs: Ints
    correlations: Floats


def moments(vectors: Vectors) -> Moments:
    """Add up vectors, their directions and their products.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        At any length, zeros too. Not modified.

    Raises
    ------
    InputError
        There are fewer than 3 vectors, or one is not finite.

    Notes
    -----
    In float64, a part of the rows at a time, relative to the first vector, so that a mean far
    from 0 costs no precision. O(n · dim²) time, O(dim² + n) memory.
    """
    check_vectors(vectors, directions=False)
    n, dim = vectors.shape
    origin = vectors[0].astype(np.float64)
    total, direction, products = np.zeros(dim), np.zeros(dim), np.zeros((dim, dim))
    norms = np.empty(n)
    for part in parts(n):
        block = vectors[part].astype(np.float64)
        norms[part] = np.linalg.norm(block, axis=1)
        scale = np.divide(1, norms[part], out=np.zeros(len(block)), where=norms[part] > 0)
        direction += scale @ block
        block -= origin
        total += block.sum(axis=0)
        products += block.T @ block
    shift = total / n
    covariance = (products - n * np.outer(shift, shift)) / (n - 1)
    return Moments(n, origin + shift, covariance, direction / n, norms)


def norm_statistics(norms: Floats) -> Norms:
    """Sum up the lengths of vectors, shape (n,)."""
    least, lower, median, upper, greatest = map(float, np.quantile(norms, [0, 0.25, 0.5, 0.75, 1]))
    mean = float(norms.mean())
    variation = float(norms.std()) / mean if mean else 0.0
    zeros = int((norms == 0).sum())
    return Norms(least, lower, median, upper, greatest, mean, variation, zeros)


def dead_dimensions(moments: Moments) -> Ints:
    """Give the dimensions that do not vary, shape (m,), rising.

    Those whose standard deviation is below a millionth of the largest; all, if none varies.
    """
    deviations = _deviations(moments)
    return np.flatnonzero(deviations <= _DEAD * deviations.max())


def duplicate_dimensions(moments: Moments, *, correlation: float = _DUPLICATE) -> Duplicates:
    """Find dimensions of which one follows from the other, but for its sign and its scale.

    Parameters
    ----------
    moments : Moments
    correlation : float
        From which absolute correlation on. Dead dimensions have none.
    """
    deviations = _deviations(moments)
    dead = dead_dimensions(moments)
    deviations[dead] = np.inf
    correlations = moments.covariance / deviations / deviations[:, None]
    left, right = np.triu_indices(len(deviations), 1)
    found = correlations[left, right]
    kept = np.flatnonzero(np.abs(found) >= correlation)
    kept = kept[np.argsort(-np.abs(found[kept]), kind="stable")]
    return Duplicates(np.stack([left[kept], right[kept]], axis=1), found[kept].clip(-1, 1))


def _deviations(moments: Moments) -> Floats:
    deviations: Floats = np.sqrt(np.diagonal(moments.covariance).clip(0))
    return deviations
