"""Relaxed CSLS: a linear map fitted to what retrieval with CSLS is scored by."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.normalization import prepared
from embcli.core.alignment.procrustes import rotation
from embcli.core.maps import Linear, Map, Transform
from embcli.core.neighbours import greatest
from embcli.errors import UsageError

# A step that has been halved so often leads nowhere.
_HALVINGS = 12


class _Slope(NamedTuple):
    """The loss at a matrix, and its gradient there."""

    loss: float
    gradient: NDArray[np.float64]


def rcsls(
    pairs: Pairs,
    *,
    normalize: str = "unit",
    neighbours: int = 10,
    iterations: int = 10,
    step: float = 1.0,
    spectral: bool = True,
) -> Map:
    """Fit a linear map by minimising relaxed CSLS, beginning with orthogonal Procrustes.

    The loss is, on average over the pairs (x, y), of dot products with the mapped source::

        -2 x.W.y + mean of x.W.y' over the k targets y' nearest to x.W
                 + mean of x'.W.y over the k sources x' with x'.W nearest to y

    Parameters
    ----------
    pairs : Pairs
        At least one.
    normalize : str
        See `embcli.core.alignment.normalization.prepared`.
    neighbours : int
        k, sought among all vectors of the other side, not those of pairs alone.
    iterations : int
        Steps at most.
    step : float
        How far to go along the gradient at first.
    spectral : bool
        Keep W within the convex hull of the orthogonal matrices: no singular value above 1.

    Raises
    ------
    InputError
        There is no pair.
    UsageError
        An option is out of range.

    Notes
    -----
    Full gradients. The loss is convex in W, piecewise linear. A step that does not lower it is
    taken back and halved; the code published with the paper goes on from where it led. Every step
    costs one product of the pairs with all vectors of each side, O(n_pairs · (n + m) · dim).
    Ten steps, and vectors that are not centred, are that code's defaults too; more steps, longer
    ones and centring were no better in cross-validation. Within the hull the loss is bounded;
    without it (``spectral=False``), which is that code's default, W grows with every step.

    References
    ----------
    A. Joulin, P. Bojanowski, T. Mikolov, H. Jégou, E. Grave. Loss in translation: learning
    bilingual word mapping with a retrieval criterion. EMNLP 2018.
    """
    if min(neighbours, iterations) < 1 or not 0 < step < np.inf:
        raise UsageError("neighbours and iterations must be at least 1, and step above 0")
    pairs.require(1, "rcsls")
    ready = prepared(pairs, normalize)
    problem = _Problem(ready.pairs, neighbours)
    matrix = rotation(problem.source, problem.target)
    at = problem.slope(matrix)
    halvings = 0
    for _ in range(iterations):
        tried = matrix - step * at.gradient
        if spectral:
            tried = _clipped(tried)
        there = problem.slope(tried)
        if there.loss < at.loss:
            matrix, at = tried, there
            continue
        step, halvings = step / 2, halvings + 1
        if halvings > _HALVINGS:
            break
    return ready.finished(Map(Transform.of(Linear(matrix))))


class _Problem:
    """The loss as a function of the matrix."""

    def __init__(self, pairs: Pairs, k: int) -> None:
        self._pairs = pairs
        self._k = k
        self.source = pairs.source[pairs.rows]
        self.target = pairs.target[pairs.columns]

    def slope(self, matrix: NDArray[np.float64]) -> _Slope:
        """Give the loss, and the gradient with neighbours as they are."""
        turn = matrix.astype(np.float32)
        near_target = _means(self.source @ turn, self._pairs.target, self._pairs.target, self._k)
        mapped = self._pairs.source @ turn
        near_source = _means(self.target, mapped, self._pairs.source, self._k)
        outer = np.asarray(self.source.T, np.float64) @ (near_target - 2 * self.target)
        outer += near_source.T @ np.asarray(self.target, np.float64)
        gradient = outer / len(self.source)
        # The loss is linear in the matrix as long as neighbours stay.
        return _Slope(float(np.vdot(gradient, matrix)), gradient)


def _means(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    values: NDArray[np.float32],
    k: int,
) -> NDArray[np.float64]:
    """Average, for every query, the values of the k vectors with the greatest dot products."""
    best, _ = greatest(queries, vectors, k)
    means = np.zeros((len(queries), values.shape[1]))
    for place in best.T:
        means += values[place]
    means /= best.shape[1]
    return means


def _clipped(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring singular values above 1 down to 1: the nearest matrix that has none above."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray(left * np.minimum(values, 1) @ right)
