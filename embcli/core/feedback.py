"""Pseudo-relevance feedback: moving a query towards what it found first."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit

_ITERATIONS = 50


def mean_feedback(
    query: NDArray[np.floating], vectors: NDArray[np.floating], alpha: float
) -> NDArray[np.float32]:
    """Move a query towards the mean of what it found.

    Parameters
    ----------
    query : float array, shape (dim,)
    vectors : float array, shape (n, dim)
        Of what was found first; without any, the query stays where it is.
    alpha : float
        Weight of the query, from 0 to 1; the rest is the mean's.

    Returns
    -------
    query : float32 array, shape (dim,)
        Of unit length.

    Notes
    -----
    Rocchio's formula without examples of what is irrelevant, on vectors of unit length.

    References
    ----------
    Rocchio (1971), "Relevance Feedback in Information Retrieval". Li, Mourad, Zhuang, Koopman,
    Zuccon (2021), "Pseudo Relevance Feedback with Deep Language Models and Dense Retrievers:
    Successes and Pitfalls", ACM TOIS.
    """
    if not len(vectors):
        return unit(query).astype(np.float32)
    moved = alpha * unit(query) + (1 - alpha) * unit(vectors).mean(axis=0)
    return unit(moved).astype(np.float32)


def cluster_feedback(
    query: NDArray[np.floating],
    vectors: NDArray[np.floating],
    alpha: float,
    clusters: int,
    keep: int,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Move a query towards the centres of the clusters, in what it found, that are nearest to it.

    Parameters
    ----------
    query : float array, shape (dim,)
    vectors : float array, shape (n, dim)
    alpha : float
        As in `mean_feedback`.
    clusters : int
        How many to look for.
    keep : int
        How many of their centres to use.
    seed : int

    Returns
    -------
    query : float32 array, shape (dim,)
        Of unit length.

    Notes
    -----
    A centre's weight is its cosine with the query, where the paper has the rarity of the word
    that is nearest to it: the vector of a passage has no such word. What strays, among the
    first found, forms clusters of its own and is left out.

    References
    ----------
    Wang, Macdonald, Tonellotto, Ounis (2021), "Pseudo-Relevance Feedback for Multiple
    Representation Dense Retrieval", ICTIR.
    """
    if not len(vectors):
        return unit(query).astype(np.float32)
    start = unit(query)
    centres = unit(k_means(unit(vectors), clusters, seed))
    weights = np.maximum(centres @ start, 0)
    best = np.argsort(-weights, kind="stable")[:keep]
    total = weights[best].sum()
    if total == 0:
        return start.astype(np.float32)
    moved = alpha * start + (1 - alpha) * (weights[best] @ centres[best]) / total
    return unit(moved).astype(np.float32)


def k_means(vectors: NDArray[np.floating], clusters: int, seed: int = 0) -> NDArray[np.float64]:
    """Find the centres of clusters by Lloyd's algorithm from k-means++ seeds.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        At least one.
    clusters : int
    seed : int

    Returns
    -------
    centres : float64 array, shape (m, dim)
        As many as `clusters`, or as there are different vectors.

    Notes
    -----
    For the few vectors of a feedback: O(n · clusters · dim) an iteration.

    References
    ----------
    Arthur, Vassilvitskii (2007), "k-means++: The Advantages of Careful Seeding", SODA.
    """
    rows = np.asarray(vectors, np.float64)
    different: NDArray[np.float64] = np.unique(rows, axis=0)
    if len(different) <= clusters:
        return different
    rng = np.random.default_rng(seed)
    centres: NDArray[np.float64] = rows[[rng.integers(len(rows))]]
    while len(centres) < clusters:
        squares = _squares(rows, centres).min(axis=1)
        centres = np.vstack([centres, rows[rng.choice(len(rows), p=squares / squares.sum())]])
    nearest = np.full(len(rows), -1)
    for _ in range(_ITERATIONS):
        before, nearest = nearest, _squares(rows, centres).argmin(axis=1)
        if (nearest == before).all():
            break
        for cluster in np.unique(nearest):
            centres[cluster] = rows[nearest == cluster].mean(axis=0)
    return centres


def _squares(rows: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances, shape (n, m); of what is equal exactly 0."""
    differences = rows[:, None] - centres[None]
    squares: NDArray[np.float64] = np.einsum("ijk,ijk->ij", differences, differences)
    return squares
