"""Iterative nullspace projection."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.debiasing.erasure import mean_directions, orthonormal, projection
from embcli.core.debiasing.probes import class_numbers, classifier, split
from embcli.core.maps import Transform

Floats = NDArray[np.float64]
Vectors = NDArray[np.floating]

# One-sided, of a normal distribution: one round in twenty passes for better than chance.
_SURE = 1.645


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
    noise and are not taken.

    The classifiers have then used up what they can learn from their own training set; another one
    that is trained on what was held out too still finds something (58 % of the most biased Google
    News words). A last round therefore takes the differences between the means of classes over all
    vectors, at most C - 1 directions, where the paper has none: from these vectors, a linear
    classifier then learns nothing but the shares of classes (see `mean_difference`). It is left
    out where `directions` ran out, or the first classifier was at chance.

    The projection is that onto the complement of all directions together, as the paper's code has
    it now; a product of the projections of single rounds is the same only where their directions
    are orthogonal. The classifier is a logistic regression (`classifier`), as accurate here as the
    paper's linear SVM and several times faster.

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
            if len(basis):
                rest = mean_directions(left, numbers)[: most - len(basis)]
                basis = np.concatenate([basis, orthonormal(_outside(rest, basis))])
            break
        weights = _outside(fitted.weights, basis).astype(left.dtype)
        # Again, for what rounding left.
        new = orthonormal(_outside(orthonormal(weights)[: most - len(basis)], basis))
        if not len(new):
            break
        basis = np.concatenate([basis, new])
        along = new.astype(left.dtype)
        left -= (left @ along.T) @ along
    transform = projection(basis) if len(basis) else Transform()
    return Inlp(transform, tuple(accuracies), chance, len(basis))


def _outside(rows: Floats, basis: Floats) -> Floats:
    return rows - rows @ basis.T @ basis
