"""Fusing rankings of the same things by several sources."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

RRF_K = 60


def reciprocal_rank_fusion(
    ranks: ArrayLike, weights: ArrayLike | None = None, k: float = RRF_K
) -> NDArray[np.float64]:
    """Score candidates by their places in several rankings.

    Parameters
    ----------
    ranks : float array, shape (n_sources, n)
        From 1; infinity where a source did not rank a candidate.
    weights : float array, shape (n_sources,), optional
        1 by default, as published.
    k : float
        How little the first places stand out.

    Returns
    -------
    scores : float64 array, shape (n,)
        The sum over sources of ``weight / (k + rank)``.

    References
    ----------
    Cormack, Clarke, Büttcher (2009), "Reciprocal Rank Fusion outperforms Condorcet and individual
    rank learning methods", SIGIR.
    """
    ranks = np.asarray(ranks, np.float64)
    weights = np.ones(len(ranks)) if weights is None else np.asarray(weights, np.float64)
    fused: NDArray[np.float64] = weights @ (1 / (k + ranks))
    return fused


def convex_combination(
    scores: ArrayLike, low: ArrayLike, high: ArrayLike, weights: ArrayLike
) -> NDArray[np.float64]:
    """Score candidates by the weighted mean of their normalised scores from several sources.

    Parameters
    ----------
    scores : float array, shape (n_sources, n)
    low, high : float array, shape (n_sources,)
        The scores of each source that become 0 and 1. A source for which they coincide has
        nothing to say, and gives 0 to all.
    weights : float array, shape (n_sources,)

    Returns
    -------
    scores : float64 array, shape (n,)

    Notes
    -----
    With the least score that is possible as `low` and the greatest that was found as `high` this
    is TM2C2 of the paper. Unlike ranks, it keeps how far apart the candidates of a source are.

    References
    ----------
    Bruch, Gai, Ingber (2023), "An Analysis of Fusion Functions for Hybrid Retrieval", ACM TOIS.
    """
    scores = np.asarray(scores, np.float64)
    low, high = (np.asarray(end, np.float64)[:, None] for end in (low, high))
    span = high - low
    normalised = np.divide(scores - low, span, out=np.zeros_like(scores), where=span > 0)
    fused: NDArray[np.float64] = np.asarray(weights, np.float64) @ normalised
    return fused
