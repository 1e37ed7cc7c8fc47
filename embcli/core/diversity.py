"""Choosing results that are relevant and unlike each other."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit


def maximal_marginal_relevance(
    relevance: NDArray[np.floating], vectors: NDArray[np.floating], trade: float, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose one candidate after the other: relevant, and unlike those chosen before.

    Parameters
    ----------
    relevance : float array, shape (n,)
        To be weighed against cosines.
    vectors : float array, shape (n, dim)
    trade : float
        The paper's lambda: 1 asks for relevance alone, 0 for difference alone.
    k : int
        How many to choose, at most.

    Returns
    -------
    chosen : int64 array, shape (min(k, n),)
        Numbers of candidates in the order in which they were chosen; of equals, the first.
    values : float64 array, shape (min(k, n),)
        ``trade * relevance - (1 - trade) * (greatest cosine with those chosen before)``, where
        the cosine is 0 for the first.

    Notes
    -----
    Greedy, as published: O(k · n · dim).

    References
    ----------
    Carbonell, Goldstein (1998), "The Use of MMR, Diversity-Based Reranking for Reordering
    Documents and Producing Summaries", SIGIR.
    """
    directions = unit(vectors)
    worth = trade * np.asarray(relevance, np.float64)
    likeness = np.zeros(len(directions))
    left = np.ones(len(directions), np.bool_)
    chosen: list[int] = []
    values: list[float] = []
    for _ in range(min(k, len(directions))):
        marginal = np.where(left, worth - (1 - trade) * likeness, -np.inf)
        best = int(marginal.argmax())
        cosines = directions @ directions[best]
        likeness = np.maximum(likeness, cosines) if chosen else cosines
        chosen.append(best)
        values.append(float(marginal[best]))
        left[best] = False
    return np.array(chosen, np.int64), np.array(values, np.float64)
