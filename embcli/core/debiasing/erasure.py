"""Maps that take a subspace, or what linear classifiers find of a label, out of vectors."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.debiasing.probes import class_numbers, classifier, split
from embcli.core.maps import Linear, Shift, Transform
from embcli.errors import InputError, counted

Floats = NDArray[np.float64]
Vectors = NDArray[np.floating]

_ROWS = 4096
# One-sided, of a normal distribution: one round in twenty passes for better than chance.
_SURE = 1.645


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
    No linear classifier does better afterwards, on these vectors, than one that does not look at
    them (Belrose et al. 2023, theorem 3.1). `leace` comes to the same with the least change.
    """
    moments = _moments(vectors, labels)
    _, values, axes = np.linalg.svd(moments.deviations, full_matrices=False)
    found = axes[values > moments.least * moments.scale]
    return projection(found) if len(found) else Transform()


def leace(vectors: Vectors, labels: NDArray[np.int64]) -> Transform:
    """Take out what any linear classifier could use, at the least change (LEACE).

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
    Of all affine maps after which the classes have one mean, this changes the vectors it was
    fitted to least, in the mean of squares under any norm given by an inner product. What is true
    of these vectors is nearly true of others that are like them. Vectors that were fitted to and
    are then halved to train and test a probe give less than chance, because a difference in one
    half is the opposite in the other: judge on vectors that were not fitted to.

    Directions in which the vectors vary less than rounding are left as they are. The library
    concept-erasure does the same, needs torch, and shrinks covariances unless told otherwise: on
    the same covariances results are equal to rounding (as tested). O(n d² + d³), float64 in blocks.

    References
    ----------
    N. Belrose, D. Schneider-Joseph, S. Ravfogel, R. Cotterell, E. Raff, S. Biderman. LEACE:
    Perfect linear concept erasure in closed form. NeurIPS 2023.
    """
    moments = _moments(vectors, labels)
    values, axes = np.linalg.eigh(moments.covariance)
    kept = values > (moments.least * moments.scale) ** 2
    axes, deviations = axes[:, kept], np.sqrt(values[kept])
    # Coordinates in which the vectors are white.
    _, found, directions = np.linalg.svd(
        moments.deviations @ axes / deviations, full_matrices=False
    )
    directions = directions[found > moments.least]
    if not len(directions):
        return Transform()
    if len(directions) == axes.shape[1]:
        raise InputError(
            f"the means of {len(moments.deviations):,} classes differ in every direction in which "
            "the vectors vary, and nothing would be left: take fewer classes"
        )
    dim = len(moments.mean)
    taken = (axes * deviations) @ directions.T @ directions @ (axes / deviations).T
    return Transform.of(Linear(np.eye(dim) - taken.T), Shift(taken @ moments.mean))


class Inlp(NamedTuple):
    """What iterative nullspace projection came to.

    Attributes
    ----------
    transform : Transform
        The orthogonal projection onto what no round used; the identity if the first was at chance.
    accuracies : tuple of float
        Of the classifier of every round on what was held out, before its directions were taken.
        The last one was at chance, unless `directions` ran out.
    chance : float
        The share of the greatest class among what was held out.
    directions : int
        How many were taken.
    """

    transform: Transform
    accuracies: tuple[float, ...]
    chance: float
    directions: int


def inlp(
    vectors: Vectors,
    labels: NDArray[np.int64],
    *,
    directions: int | None = None,
    held_out: float = 0.3,
    seed: int = 0,
    advance: Callable[[int, float], None] = lambda directions, accuracy: None,
) -> Inlp:
    """Train linear classifiers and project their directions out, again and again (INLP).

    Parameters
    ----------
    vectors : float array, shape (n, dim)
    labels : int64 array, shape (n,)
        Of C classes, a round takes one direction (C = 2) or up to C - 1.
    directions : int, optional
        The most to take; all but one if left out.
    held_out : float
        The share of every class that no classifier is trained on.
    seed : int
        Draws what is held out.
    advance : callable
        Called after every round with the directions taken before it and its accuracy.

    Returns
    -------
    inlp : Inlp

    Raises
    ------
    InputError
        There is one class, or one too small to be divided.

    Notes
    -----
    It stops when the held-out accuracy is no longer above chance, at the level of 5 % one-sided:
    ``chance + 1.645 sqrt(chance (1 - chance) / n_held_out)``. The directions of that round are
    noise and are not taken. The projection is that onto the complement of all directions
    together; the product of the projections of single rounds, in the first version of the paper's
    code, is the same only where directions are orthogonal.

    The classifier is a logistic regression (`classifier`), five times faster here than the
    paper's linear SVM and as accurate.

    References
    ----------
    S. Ravfogel, Y. Elazar, H. Gonen, M. Twiton, Y. Goldberg. Null it out: Guarding protected
    attributes by iterative nullspace projection. ACL 2020.
    """
    numbers = class_numbers(vectors, labels)
    training = split(labels, 1 - held_out, seed)
    answers = numbers[~training]
    chance = float(np.bincount(answers).max() / len(answers))
    enough = chance + _SURE * np.sqrt(chance * (1 - chance) / len(answers))
    dim = vectors.shape[1]
    most = dim - 1 if directions is None else min(directions, dim - 1)
    basis, left = np.empty((0, dim)), np.array(vectors)
    accuracies: list[float] = []
    while len(basis) < most:
        fitted = classifier(left[training], numbers[training])
        accuracies.append(float(np.mean(fitted.predict(left[~training]) == answers)))
        advance(len(basis), accuracies[-1])
        if accuracies[-1] <= enough:
            break
        weights = fitted.weights - fitted.weights @ basis.T @ basis
        new = orthonormal(weights.astype(vectors.dtype))[: most - len(basis)]
        # Again, for what rounding left.
        new = orthonormal(new - new @ basis.T @ basis)
        if not len(new):
            break
        basis = np.concatenate([basis, new])
        along = new.astype(left.dtype)
        left -= (left @ along.T) @ along
    transform = projection(basis) if len(basis) else Transform()
    return Inlp(transform, tuple(accuracies), chance, len(basis))


class _Moments(NamedTuple):
    """What LEACE needs to know about vectors and their classes.

    `deviations` are those of the means of classes from the mean of all, weighted so that their
    squares add up to the covariance between classes; `scale` is the root mean square length, and
    what is below `least` of it may be rounding.
    """

    mean: Floats
    covariance: Floats
    deviations: Floats
    scale: float
    least: float


def _moments(vectors: Vectors, labels: NDArray[np.int64]) -> _Moments:
    numbers = class_numbers(vectors, labels)
    n, dim = vectors.shape
    counts = np.bincount(numbers)
    sums = np.zeros((len(counts), dim))
    for block, classes in _blocks(vectors, numbers):
        sums += (np.arange(len(counts))[:, None] == classes).astype(np.float64) @ block
    mean = sums.sum(axis=0) / n
    scatter = np.zeros((dim, dim))
    for block, _ in _blocks(vectors, numbers):
        block -= mean
        scatter += block.T @ block
    covariance = scatter / n
    deviations = (sums / counts[:, None] - mean) * np.sqrt(counts / n)[:, None]
    scale = float(np.sqrt(np.trace(covariance) + mean @ mean))
    # Sums of squares in float64 resolve no less than the root of its rounding.
    least = max(dim * _rounding(vectors), float(np.sqrt(dim * np.finfo(np.float64).eps)))
    return _Moments(mean, covariance, deviations, scale, least)


def _blocks(
    vectors: Vectors, numbers: NDArray[np.int64]
) -> Iterator[tuple[Floats, NDArray[np.int64]]]:
    for start in range(0, len(vectors), _ROWS):
        part = slice(start, start + _ROWS)
        yield np.array(vectors[part], np.float64), numbers[part]


def _rounding(vectors: Vectors) -> float:
    return float(np.finfo(vectors.dtype).eps)
