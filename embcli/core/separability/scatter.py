"""How far classes are apart against how wide they are: measures from their means and scatter."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.separability.classes import ROWS, class_sizes, class_sums
from embcli.errors import InputError

Floats = NDArray[np.float64]
Vectors = NDArray[np.floating]

# So that a direction without any scatter does not divide by zero.
_LEAST_SHRINKAGE = 1e-8


class Scatter(NamedTuple):
    """What all measures here are computed from; the vectors are not needed any more.

    Attributes
    ----------
    sizes : int64 array, shape (C,)
    means : float64 array, shape (C, dim)
        Of the classes.
    within : float64 array, shape (dim, dim)
        S_W, the sum over records of ``(x - m)(x - m).T`` with m the mean of their class.
    traces : float64 array, shape (C,)
        The sum over the records of a class of their squared distances to its mean.
    spreads : float64 array, shape (C,)
        The mean of these distances, not squared.
    fourth : float
        The sum over all records of the fourth powers, which Ledoit and Wolf's shrinkage needs.
    """

    sizes: NDArray[np.int64]
    means: Floats
    within: Floats
    traces: Floats
    spreads: Floats
    fourth: float

    @property
    def mean(self) -> Floats:
        """The mean of all records, shape (dim,)."""
        mean: Floats = self.sizes @ self.means / self.sizes.sum()
        return mean

    @property
    def weighted(self) -> Floats:
        """Means less the mean, times the root of the size, shape (C, dim): S_B = W.T @ W."""
        weighted: Floats = np.sqrt(self.sizes)[:, None] * (self.means - self.mean)
        return weighted


class Fisher(NamedTuple):
    """Fisher discriminant ratios of all classes together.

    Attributes
    ----------
    trace : float
        See `fisher`.
    eigenvalues : float64 array, shape (min(C - 1, dim),)
        Falling.
    total : float
        Their sum.
    shrinkage : float
        Between 0, none, and 1: S_W is taken for a multiple of the identity.
    """

    trace: float
    eigenvalues: Floats
    total: float
    shrinkage: float


class NeuralCollapse(NamedTuple):
    """How near classes are to having collapsed into a simplex; all are 0 if they have.

    Attributes
    ----------
    nc1 : float
        Variability within classes: trace(Σ_W Σ_B⁺) / C.
    equinorm : float
        NC2: the standard deviation of the means' distances from their centre, by the mean of them.
    equiangular : float
        NC2: the standard deviation of the cosines of two means, seen from their centre.
    maximal_angle : float
        NC2: the mean absolute difference of these cosines from -1 / (C - 1).
    """

    nc1: float
    equinorm: float
    equiangular: float
    maximal_angle: float


def scatter(vectors: Vectors, labels: NDArray[np.int64]) -> Scatter:
    """Sum up what the measures of this module need, in two passes over the vectors.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Lengths count: scale them to 1 before if only directions should. Not modified.
    labels : int64 array, shape (n,)
        0 to C - 1; at least two classes, of at least two records each.

    Returns
    -------
    scatter : Scatter

    Raises
    ------
    InputError
        As of `embcli.core.separability.classes.class_sizes`.

    Notes
    -----
    In float64, a block of rows at a time; the second pass takes the means off before anything is
    squared. O(n · dim²) time, O(dim² + C · dim) memory.
    """
    sizes = class_sizes(vectors, labels, directions=False)
    means = class_sums(vectors, labels, len(sizes)) / sizes[:, None]
    within = np.zeros((vectors.shape[1], vectors.shape[1]))
    traces, lengths = np.zeros(len(sizes)), np.zeros(len(sizes))
    fourth = 0.0
    for start in range(0, len(vectors), ROWS):
        part = labels[start : start + ROWS]
        apart = vectors[start : start + ROWS].astype(np.float64) - means[part]
        within += apart.T @ apart
        squares = np.einsum("ij,ij->i", apart, apart)
        traces += np.bincount(part, squares, len(sizes))
        lengths += np.bincount(part, np.sqrt(squares), len(sizes))
        fourth += float(squares @ squares)
    return Scatter(sizes, means, within, traces, lengths / sizes, fourth)


def fisher(found: Scatter, *, shrinkage: float | None = None) -> Fisher:
    """Give Fisher's discriminant ratio: variance between classes by variance within.

    The trace form is ``trace(S_B) / trace(S_W)``: all directions count by their variance. The
    eigenvalues are those of ``S_B v = λ S_W v``: the ratios along the directions, one after the
    other, in which they are greatest. S_B is the sum over classes of ``size (m - mean)(m -
    mean).T``; both sums are of records, so that no other factor is in the ratios.

    Parameters
    ----------
    found : Scatter
    shrinkage : float, optional
        δ in [0, 1]: the eigenvalues are of ``(1 - δ) S_W + δ trace(S_W) / dim · I`` instead of
        S_W, so that they are defined where there are fewer records than components. By default
        as Ledoit and Wolf choose it.

    Returns
    -------
    fisher : Fisher
        From 0, where the classes have one mean, up, without a bound; above 1 there is more
        variance between classes than within. Infinite where every class is one point.

    Raises
    ------
    InputError
        `shrinkage` is not between 0 and 1, or all vectors are equal.

    Notes
    -----
    The eigenvalues are of the records that they were fitted to: with few records for every
    component they are too great even for random labels, by about dim / n each. δ is at least 1e-8.

    References
    ----------
    R. A. Fisher. The use of multiple measurements in taxonomic problems. Annals of Eugenics 1936.
    K. Fukunaga. Introduction to Statistical Pattern Recognition. 1990, 10.2 (J₁ and J₄).
    O. Ledoit, M. Wolf. A well-conditioned estimator for large-dimensional covariance matrices.
    Journal of Multivariate Analysis 2004.
    """
    delta = _shrinkage(found, shrinkage)
    between, within = float(np.square(found.weighted).sum()), float(found.traces.sum())
    if between == within == 0:
        raise InputError("all vectors are equal: there is no ratio of variances")
    count = min(len(found.sizes) - 1, found.means.shape[1])
    if within == 0:
        return Fisher(np.inf, np.full(count, np.inf), np.inf, delta)
    # S_B and S_W enter alike: both as sums.
    whitened = np.linalg.solve(_root(found.within, delta), found.weighted.T)
    values = np.square(np.linalg.svd(whitened, compute_uv=False))[:count]
    return Fisher(between / within, values, float(values.sum()), delta)


def calinski_harabasz(found: Scatter) -> float:
    """Give the variance ratio criterion, ``trace(S_B) / (C - 1)`` by ``trace(S_W) / (n - C)``.

    An F statistic: about 1 for random labels, without a bound above; infinite where every class
    is one point. It grows with the number of records.

    References
    ----------
    T. Caliński, J. Harabasz. A dendrite method for cluster analysis. Communications in Statistics
    1974.
    """
    classes, n = len(found.sizes), int(found.sizes.sum())
    between, within = float(np.square(found.weighted).sum()), float(found.traces.sum())
    return between * (n - classes) / (within * (classes - 1)) if within else np.inf


def davies_bouldin(found: Scatter) -> float:
    """Give the mean over classes of ``(s + s') / d`` for the class where that is greatest.

    s is the mean distance of members to their mean, and d the distance of the means. From 0,
    where every class is one point, up; the smaller, the better separated. Infinite if two classes
    have one mean (scikit-learn leaves such pairs out).

    References
    ----------
    D. Davies, D. Bouldin. A cluster separation measure. IEEE PAMI 1979; with means of distances,
    not of their squares (q = 1, p = 2).
    """
    apart = np.sqrt(_apart(found.means))
    widths = found.spreads[:, None] + found.spreads
    ratios = np.divide(widths, apart, out=np.full_like(apart, np.inf), where=apart > 0)
    np.fill_diagonal(ratios, -np.inf)
    return float(np.mean(ratios.max(axis=1)))


def pair_fisher(found: Scatter) -> Floats:
    """Give Fisher's ratio of every two classes, ``|m - m'|² / (trace Σ + trace Σ')``.

    Parameters
    ----------
    found : Scatter

    Returns
    -------
    ratios : float64 array, shape (C, C)
        Symmetric, from 0 up; NaN on the diagonal, infinite for two classes of one point each.

    Notes
    -----
    Σ is the covariance of a class, divided by its size. In one dimension this is Fisher's
    ``(μ - μ')² / (σ² + σ'²)``.

    References
    ----------
    As of `fisher`.
    """
    variances = found.traces / found.sizes
    apart = _apart(found.means)
    widths = variances[:, None] + variances
    ratios = np.divide(apart, widths, out=np.full_like(apart, np.inf), where=widths > 0)
    np.fill_diagonal(ratios, np.nan)
    return ratios


def pair_mahalanobis(found: Scatter, *, shrinkage: float | None = None) -> Floats:
    """Give the squared distance of every two means, in units of the variance within classes.

    ``(m - m').T Σ_W⁻¹ (m - m')`` with Σ_W the covariance within all classes, shrunk as in
    `fisher`: what a linear discriminant makes of two classes. If both were Gaussian with this
    covariance, the best error would be ``Φ(-d / 2)`` with d the root.

    Parameters
    ----------
    found : Scatter
    shrinkage : float, optional
        By default as Ledoit and Wolf choose it.

    Returns
    -------
    squares : float64 array, shape (C, C)
        Symmetric, 0 on the diagonal; infinite elsewhere where every class is one point.

    References
    ----------
    P. C. Mahalanobis. On the generalised distance in statistics. 1936. Σ_W is divided by n, not
    by n - C.
    """
    classes = len(found.sizes)
    if not found.traces.any():
        return np.where(np.eye(classes, dtype=bool), 0, np.inf)
    delta = _shrinkage(found, shrinkage)
    root = _root(found.within / found.sizes.sum(), delta)
    whitened = np.linalg.solve(root, (found.means - found.mean).T)
    return _apart(np.asarray(whitened.T, np.float64))


def neural_collapse(found: Scatter) -> NeuralCollapse:
    """Tell how near classes are to neural collapse.

    Parameters
    ----------
    found : Scatter

    Returns
    -------
    collapse : NeuralCollapse
        NaN for the three of NC2 if all means are equal; NC1 is then infinite.

    Notes
    -----
    Σ_B is the mean over classes of ``(m - c)(m - c).T``, with c the mean of the means, and Σ_W is
    S_W by the number of records. In the paper classes are of one size, and c is the mean of all
    records. With two classes NC2 holds whatever they are.

    References
    ----------
    V. Papyan, X. Y. Han, D. Donoho. Prevalence of neural collapse during the terminal phase of
    deep learning training. PNAS 2020.
    """
    centred = found.means - found.means.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    # Of C centred means one is what the others say, so the last value may be rounding.
    real = values > max(centred.shape) * np.finfo(np.float64).eps * np.abs(found.means).max()
    if not real.any():
        return NeuralCollapse(np.inf, np.nan, np.nan, np.nan)
    axes, values = axes[real], values[real]
    variances = np.einsum("ij,ij->i", axes @ found.within, axes) / found.sizes.sum()
    norms = np.linalg.norm(centred, axis=1)
    units = np.divide(centred, norms[:, None], out=np.zeros_like(centred), where=norms[:, None] > 0)
    cosines = (units @ units.T)[np.triu_indices(len(units), 1)]
    return NeuralCollapse(
        float((variances / values**2).sum()),
        float(norms.std() / norms.mean()),
        float(cosines.std()),
        float(np.abs(cosines + 1 / (len(units) - 1)).mean()),
    )


def _shrinkage(found: Scatter, wanted: float | None) -> float:
    """Choose how much to shrink the covariance within classes, by default as Ledoit and Wolf do."""
    if wanted is not None:
        if not 0 <= wanted <= 1:
            raise InputError(f"shrinkage is {wanted:g}: it must be between 0 and 1")
        return wanted
    n, dim = int(found.sizes.sum()), len(found.within)
    covariance = found.within / n
    square, trace = float(np.square(covariance).sum()), float(np.trace(covariance))
    apart = square - trace * trace / dim
    noise = (found.fourth / n - square) / n
    if apart <= 0:
        return 1.0
    return max(min(noise / apart, 1.0), 0.0)


def _root(within: Floats, delta: float) -> Floats:
    """Give the lower triangle L with ``L @ L.T`` the matrix, shrunk."""
    dim = len(within)
    delta = max(delta, _LEAST_SHRINKAGE)
    shrunk = (1 - delta) * within + delta * np.trace(within) / dim * np.eye(dim)
    root: Floats = np.linalg.cholesky(shrunk)
    return root


def _apart(points: Floats) -> Floats:
    """Give the squared distances of all points, shape (C, C), without cancellation."""
    squares = np.empty((len(points), len(points)))
    for row, point in enumerate(points):
        squares[row] = np.square(points - point).sum(axis=1)
    return squares
