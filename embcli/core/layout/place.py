"""How strongly neighbours hold each other, and rows placed by those that hold them."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.neighbours import Neighbours

# Cosines this near to 1 are of equal vectors, but for rounding.
_SAME = np.float32(1 - 1e-6)
# Of the bisection.
_STEPS, _TOLERANCE = 64, 1e-5
# The least width, as a share of the mean distance.
_NARROWEST = 1e-3
_ROWS = 1 << 14


def weighted_place(near: Neighbours, coordinates: NDArray[np.floating]) -> NDArray[np.float32]:
    """Put every new row at the mean of its nearest old rows, weighted by how strong they are.

    Parameters
    ----------
    near : Neighbours
        Of each new row among the old ones, shape (m, k), by falling cosine.
    coordinates : float array, shape (n, dim)
        Of the old rows. Not modified.

    Returns
    -------
    placed : float32 array, shape (m, dim)
        A row equal to an old one is where that is.

    Notes
    -----
    For methods that have no better way without the whole model: densMAP and LocalMAP. A row lies
    among its nearest, even if it is far from all of them. O(m · k) time and memory.
    """
    if not len(near.others):
        return np.empty((0, coordinates.shape[1]), np.float32)
    weights = strengths(distances(near), near.others.shape[1], connected=True)
    weights /= weights.sum(axis=1, keepdims=True)
    placed = np.einsum("ij,ijd->id", weights, coordinates[near.others]).astype(np.float32)
    return onto_equals(placed, near, coordinates)


def onto_equals(
    placed: NDArray[np.float32], near: Neighbours, coordinates: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Put rows that are equal to their nearest where that is; changes `placed` and returns it."""
    equal = near.cosines[:, 0] >= _SAME
    placed[equal] = coordinates[near.others[equal, 0]]
    return placed


def distances(near: Neighbours) -> NDArray[np.float32]:
    """Give 1 - cosine, shape (n, k), of equal vectors exactly 0."""
    apart = np.float32(1) - near.cosines
    return np.where(near.cosines >= _SAME, np.float32(0), apart)


def strengths(apart: NDArray[np.float32], k: int, *, connected: bool) -> NDArray[np.float32]:
    """Give how strongly each row is held by its neighbours, from 0 to 1 (UMAP's membership).

    exp(-max(0, d - rho) / sigma), where sigma is such that those of a row add up to log2(k).

    Parameters
    ----------
    apart : float32 array, shape (n, width)
        Distances, rising.
    k : int
        The size of neighbourhoods.
    connected : bool
        Whether rho is the least distance that is not 0, so that every row holds to something with
        strength 1; else it is 0.

    Returns
    -------
    strengths : float32 array, shape (n, width)

    Notes
    -----
    O(n · width) time for each of at most 64 steps of bisection, O(n · width) memory. Where
    `connected` is false, the nearest is left out of the sum, as umap-learn does for new rows.

    References
    ----------
    L. McInnes, J. Healy, J. Melville. UMAP: uniform manifold approximation and projection for
    dimension reduction. arXiv:1802.03426, 2018. Algorithms 2 and 3.
    """
    held = np.empty(apart.shape, np.float32)
    overall = float(apart.mean()) if apart.size else 0.0
    for start in range(0, len(apart), _ROWS):
        part = slice(start, start + _ROWS)
        held[part] = _held(apart[part].astype(np.float64), k, connected, overall)
    return held


def _held(
    apart: NDArray[np.float64], k: int, connected: bool, overall: float
) -> NDArray[np.float64]:
    if connected:
        some = np.where(apart > 0, apart, np.inf).min(axis=1)
        rho = np.where(np.isfinite(some), some, 0)
        beyond, summed = np.maximum(apart - rho[:, None], 0), slice(None)
        # The row itself, at distance 0, is one of the k.
        mean = apart.sum(axis=1) / (apart.shape[1] + 1)
    else:
        rho, beyond, summed = np.zeros(len(apart)), apart, slice(1, None)
        mean = apart.mean(axis=1)
    least = _NARROWEST * np.where(rho > 0, mean, overall)
    sigma = np.maximum(_widths(beyond[:, summed], np.log2(k)), least)[:, None]
    inside = beyond <= 0
    quotient = np.divide(beyond, sigma, out=np.zeros_like(beyond), where=~inside & (sigma > 0))
    return np.exp(-quotient)


def _widths(beyond: NDArray[np.float64], target: float) -> NDArray[np.float64]:
    """Bisect for widths with which the strengths of every row add up to the target."""
    low, high = np.zeros(len(beyond)), np.full(len(beyond), np.inf)
    width = np.ones(len(beyond))
    left = np.arange(len(beyond))
    for _ in range(_STEPS):
        with np.errstate(under="ignore"):
            excess = np.exp(-beyond[left] / width[left, None]).sum(axis=1) - target
        left, excess = (side[np.abs(excess) >= _TOLERANCE] for side in (left, excess))
        if not len(left):
            break
        above = excess > 0
        high[left[above]] = width[left[above]]
        low[left[~above]] = width[left[~above]]
        middle = (low[left] + high[left]) / 2
        width[left] = np.where(np.isinf(high[left]), width[left] * 2, middle)
    return width
