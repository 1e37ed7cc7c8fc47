"""A linear map from few pairs that keeps how the vectors of each space lie to each other."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.normalization import prepared
from embcli.core.maps import Linear, Map, Transform
from embcli.errors import InputError, UsageError

Floats = NDArray[np.float64]

_ROWS = 1 << 14


def structure(
    pairs: Pairs,
    *,
    normalize: str = "unit,center,unit",
    weight: float = 1.0,
    levels: int = 2,
    rounds: int = 100,
) -> Map:
    """Fit a linear map to pairs, and to all other vectors by keeping their similarities.

    Minimises the mean squared error over pairs, plus, for either space, what the map changes in
    the inner products of all its vectors. Further levels look at the coarser structure: at inner
    products along the directions in which the vectors spread most. Begins at the best rotation.

    Parameters
    ----------
    pairs : Pairs
        Those vectors count that are in no pair, too.
    normalize : str
        See `embcli.core.alignment.normalization.prepared`.
    weight : float
        Of the similarities: 0 is least squares, and far above 1 it is a rotation.
    levels : int
        Of similarity; in level l, directions count by the l-th power of their variance, and the
        level 1/l.
    rounds : int
        Most steps of L-BFGS.

    Returns
    -------
    map : Map

    Raises
    ------
    InputError
        There are no pairs.
    UsageError
        A number is out of its range.

    Notes
    -----
    Level l is ``||C^(l/2) (W @ W.T - I) C^(l/2)||² / ||C^l||²`` with ``C = X.T @ X``, which for
    l = 1 is ``||X W W.T X.T - X X.T||²``: all vectors count, by their covariance alone, in
    O(n · dim² + rounds · dim³). Of the target the same with ``W.T``, which leads back.

    References
    ----------
    F. Gröger, S. Wen, H. Le, M. Brbić. With limited data for multimodal alignment, let the
    STRUCTURE guide you. NeurIPS 2025. They take softmax similarities within batches, compare their
    powers by the Jensen–Shannon divergence, add that to a contrastive loss, and train two maps
    into a space of their own; here the similarities are linear, the error is squared and the map
    is one.
    """
    from scipy.optimize import minimize

    if weight < 0 or levels < 1 or rounds < 0:
        raise UsageError("weight and rounds must be at least 0, and levels at least 1")
    if not len(pairs.rows):
        raise InputError("method structure needs some pairs, and there are none")
    ready = prepared(pairs, normalize)
    source, target = ready.pairs.source[pairs.rows], ready.pairs.target[pairs.columns]
    covariance = _product(source, target)
    left, _, right = np.linalg.svd(covariance, full_matrices=False)
    start = np.asarray(left @ right, np.float64)
    gram = _product(source, source)
    sides = [
        _levels(_product(side, side), levels) for side in (ready.pairs.source, ready.pairs.target)
    ]

    def loss(flat: Floats) -> tuple[float, Floats]:
        matrix = flat.reshape(start.shape)
        value = float((matrix * (gram @ matrix - 2 * covariance)).sum())
        slope = 2 * (gram @ matrix - covariance)
        there, back = (
            _changed(side, way) for side, way in zip(sides, (matrix, matrix.T), strict=True)
        )
        value += weight * (there[0] + back[0])
        return value, (slope + weight * (there[1] + back[1].T)).ravel()

    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": rounds})
    return ready.finished(Map(Transform.of(Linear(found.x.reshape(start.shape)))))


class _Level(NamedTuple):
    """A power of the covariance, and the weight of what changes in it."""

    power: Floats
    weight: float


def _product(a: NDArray[np.float32], b: NDArray[np.float32]) -> Floats:
    """Average the outer products of the rows, in float64, a part at a time."""
    total = np.zeros((a.shape[1], b.shape[1]))
    for start in range(0, len(a), _ROWS):
        part = slice(start, start + _ROWS)
        total += a[part].astype(np.float64).T @ b[part].astype(np.float64)
    return total / len(a)


def _levels(covariance: Floats, count: int) -> list[_Level]:
    powers = [np.linalg.matrix_power(covariance, level) for level in range(1, count + 1)]
    return [
        _Level(power, 1 / (level * max(float((power**2).sum()), 1e-300)))
        for level, power in enumerate(powers, 1)
    ]


def _changed(levels: list[_Level], matrix: Floats) -> tuple[float, Floats]:
    """Tell how much the map changes inner products, and the derivative of that."""
    apart = matrix @ matrix.T - np.eye(len(matrix))
    value, slope = 0.0, np.zeros_like(matrix)
    for power, weight in levels:
        product = power @ apart @ power
        value += weight * float((apart * product).sum())
        slope += 4 * weight * product @ matrix
    return value, slope
