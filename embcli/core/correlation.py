"""Rank correlation, without SciPy."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Rank values from 1 up, shape (n,); those that are equal share the mean of their ranks."""
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return shared


def spearman(left: ArrayLike, right: ArrayLike) -> float:
    """Spearman's rank correlation, in [-1, 1].

    Parameters
    ----------
    left, right : float array, shape (n,)

    Returns
    -------
    rho : float
        Pearson's correlation of the ranks; NaN for fewer than two pairs, or where all values of
        a side are equal.
    """
    a, b = ranks(left), ranks(right)
    if len(a) < 2:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else float("nan")
