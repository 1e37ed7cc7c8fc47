"""MaxSim: sums, over the vectors of a query, of the best cosine with any vector of a record."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import cosines, unit
from embcli.core.topk import DECIMALS


class MaxSim:
    """Score records whose vectors arrive block by block, in any order.

    Parameters
    ----------
    queries : sequence of float array, each of shape (n_tokens, dim)
        The vectors of each query, at least one. Not modified.
    unit_length : bool
        Whether the vectors to come have unit length up to float32 rounding, or are zero; if not,
        their norms are computed on the way.

    Attributes
    ----------
    slack : float
        No score is further from the exact one than this.

    Notes
    -----
    A block is compared by one matrix product in float32. What was found of a record is kept until
    the last of its vectors has come: one number for every vector of the queries. Cosine with a
    vector of zeros is 0. Cost: O(n_tokens · dim) time for every vector, with n_tokens of all
    queries together.

    References
    ----------
    Khattab and Zaharia, "ColBERT: Efficient and Effective Passage Search via Contextualized Late
    Interaction over BERT" (SIGIR 2020). The same sum is known as Chamfer similarity.
    """

    def __init__(
        self, queries: Sequence[NDArray[np.floating]], *, unit_length: bool = False
    ) -> None:
        self._unit_length = unit_length
        lengths = np.array([len(query) for query in queries], np.int64)
        self._starts: NDArray[np.int64] = np.cumsum(lengths) - lengths
        self._queries = unit(np.concatenate(queries)).astype(np.float32)
        self._begun: dict[int, NDArray[np.float32]] = {}
        self.slack = 1e-5 * int(lengths.max())

    def add(
        self, keys: NDArray[np.int64], vectors: NDArray[np.float32], last: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Take in a block.

        Parameters
        ----------
        keys : int64 array, shape (n,)
            The record each vector belongs to.
        vectors : float32 array, shape (n, dim)
        last : bool array, shape (n,)
            Whether no vector of the same record is in any block to come.

        Returns
        -------
        keys : int64 array, shape (m,)
            The records that are complete.
        scores : float32 array, shape (n_queries, m)
        """
        scores = vectors @ self._queries.T
        if not self._unit_length:
            norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
            scores /= np.where(norms > 0, norms, 1)[:, None]
        distinct, first, best = _best_of_each(keys, scores)
        complete = last[first]
        for row, key in enumerate(distinct.tolist()):
            before = self._begun.pop(key, None)
            if before is not None:
                np.maximum(best[row], before, out=best[row])
            if not complete[row]:
                # A copy, so that the block is not kept for the sake of one row.
                self._begun[key] = best[row].copy()
        sums = np.add.reduceat(best[complete], self._starts, axis=1, dtype=np.float64)
        return distinct[complete], sums.T.astype(np.float32)


def _best_of_each(
    keys: NDArray[np.int64], scores: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Take the maximum of the rows [n, n_tokens] of every key.

    Returns
    -------
    distinct, first : int64 array, shape (m,)
        The keys, and where each is.
    best : float32 array, shape (m, n_tokens)
    """
    runs = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    best = np.maximum.reduceat(scores, runs, axis=0)
    owners = keys[runs]
    if (owners[1:] > owners[:-1]).all():
        return owners, runs, best
    distinct, which = np.unique(owners, return_inverse=True)
    order = np.argsort(which, kind="stable")
    starts = np.searchsorted(which[order], np.arange(len(distinct)))
    best = np.maximum.reduceat(best[order], starts, axis=0)
    return distinct, runs[order[starts]], best


def maxsim(query: NDArray[np.float64], vectors: NDArray[np.float64]) -> float:
    """Score one record, in float64.

    Parameters
    ----------
    query : float64 array, shape (n_tokens, dim)
        Of unit length, as `embcli.core.cosine.unit` makes them.
    vectors : float64 array, shape (n, dim)
        At least one; of unit length.

    Returns
    -------
    score : float
        From minus to plus n_tokens, rounded so that equal records tie.
    """
    best: NDArray[np.float64] = (query @ vectors.T).max(axis=1)
    return round(float(best.sum()), DECIMALS)


def matches(
    query: NDArray[np.floating], vectors: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Tell which of a record's vectors each of the query's is nearest to, and the cosines.

    Parameters
    ----------
    query : float array, shape (n_tokens, dim)
    vectors : float array, shape (n, dim)
        At least one.

    Returns
    -------
    which : int64 array, shape (n_tokens,)
        Ties go to the first.
    cosines : float64 array, shape (n_tokens,)
    """
    every = cosines(query, vectors)
    return every.argmax(axis=1), every.max(axis=1)
