"""Orthogonal Procrustes."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.normalization import prepared
from embcli.core.maps import Linear, Map, Transform
from embcli.errors import InputError


def rotation(source: NDArray[np.floating], target: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rotate `source` onto `target` (orthogonal Procrustes).

    Minimises ``||source @ R - target||`` (Frobenius) over orthogonal R.

    Parameters
    ----------
    source, target : float array, shape (n_pairs, dim)
        Row i of each is the same thing. Not modified.

    Returns
    -------
    rotation : float64 array, shape (dim, dim)
        Apply as ``x @ rotation``. Of fewer pairs than components the rest is any rotation.

    Notes
    -----
    One SVD of the cross-covariance: O(n · dim² + dim³).

    References
    ----------
    P. Schönemann. A generalized solution of the orthogonal Procrustes problem. Psychometrika 1966.
    """
    if source.shape != target.shape:
        raise InputError(
            f"pairs of {source.shape} and {target.shape}: an orthogonal map needs "
            "as many components on both sides"
        )
    covariance = np.asarray(source.T, np.float64) @ np.asarray(target, np.float64)
    left, _, right = np.linalg.svd(covariance)
    return np.asarray(left @ right)


def procrustes(pairs: Pairs, *, normalize: str = "unit,center,unit") -> Map:
    """Fit an orthogonal map to pairs, see `rotation`."""
    ready = prepared(pairs, normalize)
    turn = rotation(ready.pairs.source[pairs.rows], ready.pairs.target[pairs.columns])
    return ready.finished(Map(Transform.of(Linear(turn))))
