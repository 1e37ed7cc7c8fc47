"""Maps that take a subspace, or the differences between the means of classes, out of vectors."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.debiasing.probes import class_numbers
from embcli.core.maps import Linear, Shift, Transform
from embcli.errors import InputError, counted

Floats = NDArray[np.float64]
Vectors = NDArray[np.floating]

_ROWS = 4096


def orthonormal(rows: Vectors) -> Floats:
    """Give an orthonormal basis of what some rows span.

    Parameters
    ----------
    rows : float array, shape (m, dim)

    Returns
    -------
    basis : float64 array, shape (k, dim)
        k is the rank: singular values below ``max(m, dim)`` roundings of the greatest are none.
    """
    exact = np.asarray(rows, np.float64)
    _, values, axes = np.linalg.svd(exact, full_matrices=False)
    least = max(exact.shape) * _rounding(rows) * values.max(initial=0)
    basis: Floats = axes[values > least]
    return basis


def projection(basis: Vectors) -> Transform:
    """Take a subspace out: project onto its orthogonal complement.

    Parameters
    ----------
    basis : float array, shape (k, dim)
        Rows that span it, of any length and not necessarily independent: the bias subspace, or
        the vectors of unwanted texts.

    Returns
    -------
    transform : Transform
        One matrix, symmetric and idempotent, of rank ``dim`` less that of `basis`.

    Raises
    ------
    InputError
        The rows span nothing, or everything.
    """
    axes = orthonormal(basis)
    rank, dim = axes.shape
    if rank == 0:
        raise InputError("there is nothing to project out: no direction, or only vectors of zeros")
    if rank == dim:
        raise InputError(
            f"projecting out {counted(rank, 'direction')} of {counted(dim, 'component')} would "
            "leave nothing: take fewer"
        )
    return Transform.of(Linear(np.eye(dim) - axes.T @ axes))


def mean_difference(vectors: Vectors, labels: NDArray[np.int64]) -> Transform:
    """Project out the differences between the means of classes.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
    labels : int64 array, shape (n,)

    Returns
    -------
    transform : Transform
        An orthogonal projection, after which the classes have one mean; of C classes it takes at
        most C - 1 directions. The identity if they have one mean already.

    Raises
    ------
    InputError
        There is one class, or as many as would leave nothing.

    Notes
    -----
    On these vectors, no linear classifier then has a lower convex loss, such as logistic
    regression's, than one that knows only the shares of classes (Belrose et al. 2023, theorem
    3.1). `leace` comes to the same with the least change.
    """
    found = mean_directions(vectors, labels)
    return projection(found) if len(found) else Transform()


def mean_directions(vectors: Vectors, labels: NDArray[np.int64]) -> Floats:
    """Give an orthonormal basis of the differences between the means of classes, shape (k, dim).

    What may be rounding is left out: k is 0 where the classes have one mean.
    """
    means = _means(vectors, labels)
    _, values, axes = np.linalg.svd(means.deviations, full_matrices=False)
    found: Floats = axes[values > means.least * means.scale]
    return found


def leace(vectors: Vectors, labels: NDArray[np.int64]) -> Transform:
    """Leave linear classifiers nothing to learn of a label, at the least change (LEACE).

    ``x - W⁺ P W (x - mean)``, where ``W`` whitens and ``P`` projects onto the whitened
    differences between the means of classes.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
    labels : int64 array, shape (n,)

    Returns
    -------
    transform : Transform
        An affine map that keeps the mean, idempotent; its linear part is an oblique projection of
        rank ``dim - C + 1`` at least. The identity if the classes have one mean already.

    Raises
    ------
    InputError
        There is one class, or as many as would leave nothing.

    Notes
    -----
    Of all affine maps after which the classes have one mean (see `mean_difference` for what that
    does to classifiers), this changes the vectors it was fitted to least, in the mean of squares
    under any norm given by an inner product. A kernel machine still tells classes apart by what
    is not linear.

    What is true of these vectors is nearly true of others that are like them. But vectors that
    were fitted to and are then divided to train and test a probe give less than chance, because a
    difference in one part is the opposite in the other: judge on vectors that were not fitted to,
    with a probe trained on those that were.

    Directions in which the vectors vary less than rounding are left as they are. The library
    concept-erasure does the same, needs torch, and shrinks covariances unless told otherwise: on
    the same covariances results are equal to rounding (as tested). O(n d² + d³), float64 in blocks.

    References
    ----------
    N. Belrose, D. Schneider-Joseph, S. Ravfogel, R. Cotterell, E. Raff, S. Biderman. LEACE:
    Perfect linear concept erasure in closed form. NeurIPS 2023.
    """
    means = _means(vectors, labels)
    values, axes = np.linalg.eigh(_covariance(vectors, means.mean))
    kept = values > (means.least * means.scale) ** 2
    axes, deviations = axes[:, kept], np.sqrt(values[kept])
    # Coordinates in which the vectors are white.
    _, found, directions = np.linalg.svd(means.deviations @ axes / deviations, full_matrices=False)
    directions = directions[found > means.least]
    if not len(directions):
        return Transform()
    if len(directions) == axes.shape[1]:
        raise InputError(
            f"the means of {len(means.deviations):,} classes differ in every direction in which "
            "the vectors vary, and nothing would be left: take fewer classes"
        )
    dim = len(means.mean)
    taken = (axes * deviations) @ directions.T @ directions @ (axes / deviations).T
    return Transform.of(Linear(np.eye(dim) - taken.T), Shift(taken @ means.mean))


class _Means(NamedTuple):
    """The means of classes.

    `deviations` from the mean of all are weighted so that their squares add up to the covariance
    between classes; `scale` is the root mean square length, and what is below `least` of it may be
    rounding.
    """

    mean: Floats
    deviations: Floats
    scale: float
    least: float


def _means(vectors: Vectors, labels: NDArray[np.int64]) -> _Means:
    numbers = class_numbers(vectors, labels)
    n, dim = vectors.shape
    counts = np.bincount(numbers)
    sums, squares = np.zeros((len(counts), dim)), 0.0
    for start, block in _blocks(vectors):
        members = np.arange(len(counts))[:, None] == numbers[start : start + len(block)]
        sums += members.astype(np.float64) @ block
        squares += float(np.vdot(block, block))
    mean = sums.sum(axis=0) / n
    deviations = (sums / counts[:, None] - mean) * np.sqrt(counts / n)[:, None]
    # Sums of squares in float64 resolve no less than the root of its rounding.
    least = max(dim * _rounding(vectors), float(np.sqrt(dim * np.finfo(np.float64).eps)))
    return _Means(mean, deviations, float(np.sqrt(squares / n)), least)


def _covariance(vectors: Vectors, mean: Floats) -> Floats:
    scatter = np.zeros((len(mean), len(mean)))
    for _, block in _blocks(vectors):
        block -= mean
        scatter += block.T @ block
    return scatter / len(vectors)


def _blocks(vectors: Vectors) -> Iterator[tuple[int, Floats]]:
    for start in range(0, len(vectors), _ROWS):
        yield start, np.array(vectors[start : start + _ROWS], np.float64)


def _rounding(vectors: Vectors) -> float:
    return float(np.finfo(vectors.dtype).eps)
