"""VecMap's supervised pipeline: whitening, rotation, re-weighting, de-whitening."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.normalization import prepared
from embcli.core.maps import Linear, Map, Transform
from embcli.errors import UsageError

# Directions with less of the greatest singular value are rounding, and whitening would blow it up.
_RANK = 1e-6


def vecmap(
    pairs: Pairs,
    *,
    normalize: str = "unit,center,unit",
    reweight: float = 0.5,
    dewhiten: bool = True,
) -> Map:
    """Fit both sides of a map into a space of their own, as VecMap does with a dictionary.

    Both sides of the pairs are whitened, rotated onto each other, weighted by their
    cross-correlations to a power, and given back the variance that whitening took.

    Parameters
    ----------
    pairs : Pairs
        As many as the wider side has components: with fewer, whitening makes any two sides agree.
    normalize : str
        See `embcli.core.alignment.normalization.prepared`.
    reweight : float
        The power of the cross-correlations, on both sides; 0.5 in VecMap.
    dewhiten : bool
        Whether to undo the whitening, each side its own.

    Raises
    ------
    InputError
        There are too few pairs.
    UsageError
        `reweight` is negative.

    Notes
    -----
    Three SVDs: O(n · dim² + dim³). The vectors compared have as many components as the narrower
    side.

    References
    ----------
    M. Artetxe, G. Labaka, E. Agirre. Generalizing and improving bilingual word embedding mappings
    with a multi-step framework of linear transformations. AAAI 2018. Steps S0 to S4 without the
    reduction of dimensions, S5, as in ``map_embeddings.py --supervised`` of the same authors.
    """
    if not 0 <= reweight < np.inf:
        raise UsageError(f"reweight is a number of at least 0, not {reweight}")
    widest = max(pairs.source.shape[1], pairs.target.shape[1])
    pairs.require(widest, "vecmap", "procrustes works")
    ready = prepared(pairs, normalize)
    source = np.asarray(ready.pairs.source[pairs.rows], np.float64)
    target = np.asarray(ready.pairs.target[pairs.columns], np.float64)
    white_source, colour_source = _whitening(source)
    white_target, colour_target = _whitening(target)
    cross = white_source.T @ (source.T @ target) @ white_target
    left, correlations, right = np.linalg.svd(cross, full_matrices=False)
    weights = correlations**reweight
    return ready.finished(
        Map(
            Transform.of(Linear(_side(white_source, colour_source, left, weights, dewhiten))),
            Transform.of(Linear(_side(white_target, colour_target, right.T, weights, dewhiten))),
        )
    )


def _whitening(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the matrix that makes the covariance the identity (ZCA), and its inverse.

    Directions in which the vectors do not vary are taken to nothing, by both.
    """
    _, lengths, axes = np.linalg.svd(vectors, full_matrices=False)
    kept = lengths > _RANK * lengths[0]
    lengths, axes = lengths[kept], axes[kept]
    return axes.T / lengths @ axes, axes.T * lengths @ axes


def _side(
    white: NDArray[np.float64],
    colour: NDArray[np.float64],
    turn: NDArray[np.float64],
    weights: NDArray[np.float64],
    dewhiten: bool,
) -> NDArray[np.float64]:
    weighted = white @ turn * weights
    return np.asarray(weighted @ turn.T @ colour @ turn if dewhiten else weighted)
