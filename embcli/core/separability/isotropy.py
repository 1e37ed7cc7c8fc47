"""How evenly a space is filled: its spectrum, effective rank and isotropy."""

import numpy as np

from embcli.core.separability.moments import Moments
from embcli.core.separability.vectors import Floats
from embcli.errors import InputError


def spectrum(moments: Moments) -> Floats:
    """Give the variances along the principal components, shape (dim,), the greatest first.

    What is below rounding is 0.
    """
    return _eigenvalues(moments.covariance)


def singular_values(moments: Moments) -> Floats:
    """Give those of the matrix of all vectors as it is, not centred, shape (dim,), falling.

    From the eigenvalues of the products of its columns: values below about 1e-7 of the greatest
    are 0.
    """
    centred = moments.covariance * (moments.n - 1)
    return np.sqrt(_eigenvalues(centred + moments.n * np.outer(moments.mean, moments.mean)))


def effective_rank(moments: Moments) -> float:
    """Give the number of directions a space uses (RankMe): the entropy of its singular values.

    With ``p`` the singular values of the matrix as it is, divided by their sum:
    ``exp(-sum(p log p))``.

    Returns
    -------
    rank : float
        From 1, for multiples of one vector, to min(n, dim), for singular values that are equal.
        Higher is better, of one data set under several models. It counts the mean as a direction.

    Raises
    ------
    InputError
        All vectors are zeros.

    Notes
    -----
    The paper adds 1e-7 to every share, to keep the logarithm finite; here ``0 log 0`` is 0.

    References
    ----------
    Q. Garrido, R. Balestriero, L. Najman, Y. LeCun. RankMe: assessing the downstream performance
    of pretrained self-supervised representations by their rank. ICML 2023. O. Roy, M. Vetterli.
    The effective rank. EUSIPCO 2007.
    """
    values = singular_values(moments)
    if not values[0]:
        raise InputError("all vectors are zeros: they have no rank")
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def participation_ratio(moments: Moments) -> float:
    """Give the number of principal components that share the variance.

    The square of the sum of the variances, divided by the sum of their squares.

    Returns
    -------
    ratio : float
        From 1, all variance along one direction, to dim, the same along all.

    Raises
    ------
    InputError
        All vectors are equal.

    References
    ----------
    P. Gao et al. A theory of multineuronal dimensionality, dynamics and measurement. 2017.
    """
    squares = float(np.square(moments.covariance).sum())
    if not squares:
        raise InputError("all vectors are equal: they have no variance")
    return float(np.trace(moments.covariance)) ** 2 / squares


def isoscore(moments: Moments) -> float:
    """Tell how evenly the variance is spread over all dimensions (IsoScore).

    The distance between the variances along the principal components, scaled to a norm of
    sqrt(dim), and a vector of ones; scaled in its turn so that it does not depend on dim.

    Returns
    -------
    isoscore : float
        From 0, all variance along one direction, to 1, the same along all: about the share of
        dimensions in use.

    Raises
    ------
    InputError
        All vectors are equal, or have one dimension only.

    Notes
    -----
    Worked out, the paper's steps give ``(r - 1) / (dim - 1)`` with r the participation ratio.

    References
    ----------
    W. Rudman, N. Gillman, T. Rayne, C. Eickhoff. IsoScore: measuring the uniformity of embedding
    space utilization. Findings of ACL 2022.
    """
    dim = len(moments.mean)
    if dim < 2:
        raise InputError("vectors of one dimension are neither isotropic nor the opposite")
    return (participation_ratio(moments) - 1) / (dim - 1)


def anisotropy(moments: Moments) -> float:
    """Give the mean cosine of all pairs of different vectors.

    From the mean direction m, without any pair: ``(n² |m|² - n) / (n (n - 1))``.

    Returns
    -------
    cosine : float
        From -1 / (n - 1) to 1. About 0 where directions are spread all round; the nearer to 1,
        the narrower the cone that they lie in.

    Raises
    ------
    InputError
        A vector is zeros.

    References
    ----------
    K. Ethayarajh. How contextual are contextualized word representations? EMNLP 2019.
    """
    n = moments.n
    if not moments.norms.all():
        row = int(np.argmin(moments.norms))
        raise InputError(f"vector {row} is zeros only and has no direction")
    return float((n * moments.direction @ moments.direction - 1) / (n - 1))


def _eigenvalues(matrix: Floats) -> Floats:
    values = np.linalg.eigvalsh(matrix)[::-1]
    floor = len(values) * np.finfo(np.float64).eps * max(values[0], 0)
    return np.where(values > floor, values, 0.0)
