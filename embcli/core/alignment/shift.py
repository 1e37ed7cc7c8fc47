"""Mean shift: the simplest map, which closes the gap between two modalities."""

import numpy as np

from embcli.core.alignment import Pairs
from embcli.core.alignment.normalization import prepared
from embcli.core.maps import Map, Shift, Transform
from embcli.errors import InputError


def mean_shift(pairs: Pairs, *, normalize: str = "unit,center") -> Map:
    """Move the source by what its pairs are away from those of the target, on average.

    This is the least-squares translation. Encoders trained together keep what they encode in
    cones of its own for each modality, a constant apart [1]_.

    Parameters
    ----------
    pairs : Pairs
        At least one.
    normalize : str
        See `embcli.core.alignment.normalization.prepared`. With ``center`` both means are taken
        away, and what all vectors have in common no longer makes them alike; what is left to fit
        is how the means of pairs differ from those of all vectors. With ``unit`` alone the source
        moves, and the target stays what it is.

    Raises
    ------
    InputError
        There is no pair, or the sides do not have as many components.

    References
    ----------
    .. [1] W. Liang, Y. Zhang, Y. Kwon, S. Yeung, J. Zou. Mind the gap: understanding the modality
       gap in multi-modal contrastive representation learning. NeurIPS 2022.
    """
    pairs.require(1, "mean-shift")
    dims = pairs.source.shape[1], pairs.target.shape[1]
    if dims[0] != dims[1]:
        raise InputError(
            f"mean-shift leads from {dims[0]} components to as many, and the target has "
            f"{dims[1]}: procrustes and ridge lead from any number to any other"
        )
    ready = prepared(pairs, normalize)
    source, target = ready.pairs.source[pairs.rows], ready.pairs.target[pairs.columns]
    gap = target.mean(axis=0, dtype=np.float64) - source.mean(axis=0, dtype=np.float64)
    return ready.finished(Map(Transform.of(Shift(gap))))
