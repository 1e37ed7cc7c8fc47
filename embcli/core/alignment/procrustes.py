"""Orthogonal Procrustes."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.normalization import prepared
from embcli.core.maps import Linear, Map, Transform
from embcli.errors import UsageError

# Directions with less of the greatest singular value are rounding.
_RANK = 1e-10


def rotation(
    source: NDArray[np.floating], target: NDArray[np.floating], power: float = 0.0
) -> NDArray[np.float64]:
    """Rotate `source` onto `target` (orthogonal Procrustes).

    Minimises ``||source @ R - target||`` (Frobenius) over orthogonal R.

    Parameters
    ----------
    source, target : float array, shape (n_pairs, dim_source) and (n_pairs, dim_target)
        Row i of each is the same thing. Not modified.
    power : float
        See `procrustes`.

    Returns
    -------
    rotation : float64 array, shape (dim_source, dim_target)
        Apply as ``x @ rotation``. Of fewer pairs than components the rest is any rotation.

    Notes
    -----
    One SVD of the cross-covariance: O(n · dim² + dim³).

    Where one side is narrower it is as if components of zeros were added to it. From the narrower
    into the wider space, no length or angle changes: the rows are orthonormal. The other way, the
    components that the zeros would be compared with are left out: the columns are orthonormal,
    and what is lost is what the target has no room for.

    References
    ----------
    P. Schönemann. A generalized solution of the orthogonal Procrustes problem. Psychometrika 1966.
    """
    covariance = np.asarray(source.T, np.float64) @ np.asarray(target, np.float64)
    left, values, right = np.linalg.svd(covariance, full_matrices=False)
    some = values > _RANK * values[0]
    if power == 0 or not some.any():
        return np.asarray(left @ right)
    weights = np.where(some, np.where(some, values / values[0], 1.0) ** power, 0.0)
    return np.asarray(left * weights @ right)


def procrustes(
    pairs: Pairs, *, normalize: str = "unit,center,unit", scale: bool = False, power: float = 0.0
) -> Map:
    """Fit an orthogonal map to pairs, see `rotation`.

    Parameters
    ----------
    pairs : Pairs
        At least one.
    normalize : str
        See `embcli.core.alignment.normalization.prepared`.
    scale : bool
        Also fit one factor for all vectors, ``tr(target.T @ mapped) / ||mapped||²``, the least
        squares one [1]_. Cosines are the same without.
    power : float
        Weigh every direction with this power of its singular value, which says how much pairs
        vary together there: ``U · S^power · V'``. 0 is the orthogonal map. A little below 0, such
        as -0.1, directions in which everything is alike count less; nothing is known of those
        that pairs do not have, and they count nothing.

    References
    ----------
    .. [1] P. Schönemann, R. Carroll. Fitting one matrix to another under choice of a central
       dilation and a rigid motion. Psychometrika 1970.
    """
    pairs.require(1, "procrustes")
    if not -1 <= power <= 1:
        raise UsageError(f"power must be from -1 to 1, not {power:g}")
    ready = prepared(pairs, normalize)
    source, target = ready.pairs.source[pairs.rows], ready.pairs.target[pairs.columns]
    turn = rotation(source, target, power)
    if scale:
        mapped = source @ turn
        spread = float(np.vdot(mapped, mapped))
        turn *= float(np.vdot(mapped, target)) / spread if spread else 1.0
    return ready.finished(Map(Transform.of(Linear(turn))))
