"""Exact top-k by cosine, over vectors that arrive block by block."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Scores are rounded to this many decimals before they are compared, so that equal vectors tie
# wherever they are stored. Far below the resolution of float32 components.
DECIMALS = 9

_PAIRS_AT_ONCE = 1 << 16
_MANY_TIES = 1 << 14


@dataclass(frozen=True)
class Candidates:
    """The best of one query: keys int64 and scores float64, shape (n,), in no order."""

    keys: NDArray[np.int64]
    scores: NDArray[np.float64]


class TopK:
    """Keep the `k` best of each query, and every other vector that ties with the k-th.

    Parameters
    ----------
    queries : float32 array, shape (n_queries, dim)
        Not modified.
    k : int
        How many to keep; ties at the end are kept too, for the caller to break.
    threshold : float, optional
        Keep only cosines of at least this much.
    unit : bool
        Whether the vectors to come have unit length up to `slack`; if not, their norms are
        computed on the way.
    slack : float
        How far a float32 dot product of a block may be from the true cosine.
    names : callable, optional
        Takes a list of keys and returns a mapping from key to name. Asked only when ties at the
        end become many: of these, those with the smallest names are kept.

    Notes
    -----
    A block is first scored in float32 by one matrix product. Whatever comes within `slack` of
    the k-th best so far is scored again in float64, by itself, so that results depend neither
    on how vectors are divided into blocks nor on the BLAS at hand. Cosine with a vector of
    zeros is 0. Cost: O(n_queries · n · dim) time and O(n_queries · (k + block)) memory, provided
    that `names` is given or ties are few.
    """

    def __init__(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        threshold: float | None = None,
        unit: bool = True,
        slack: float = 1e-5,
        names: Callable[[list[int]], Mapping[int, str]] | None = None,
    ) -> None:
        exact = np.asarray(queries, np.float64)
        norms = np.linalg.norm(exact, axis=1, keepdims=True)
        self._exact = np.divide(exact, norms, out=np.zeros_like(exact), where=norms > 0)
        self._coarse = self._exact.astype(np.float32)
        self._k = min(k, np.iinfo(np.int64).max)
        self._names = names
        self._unit = unit
        self._slack = slack
        self._threshold = -np.inf if threshold is None else threshold
        n = len(exact)
        self._floor = np.full(n, self._threshold)
        self._queries = np.empty(0, np.int64)
        self._keys = np.empty(0, np.int64)
        self._scores = np.empty(0, np.float64)
        self._new: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []

    def add(self, keys: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Take in a block.

        Parameters
        ----------
        keys : int64 array, shape (n,)
        vectors : float32 array, shape (n, dim)
        """
        scores = self._coarse @ vectors.T
        if not self._unit:
            norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
            scores /= np.where(norms > 0, norms, 1)
        floor = self._floor
        if len(keys) > self._k:
            place = len(keys) - self._k
            best = np.partition(scores, place, axis=1)[:, place] if self._is_open() else floor
            floor = np.maximum(floor, best - self._slack)
        rows, columns = np.nonzero(scores >= (floor - self._slack)[:, None])
        if not len(rows):
            return
        exact = self._score(vectors, rows, columns)
        passed = exact >= self._floor[rows]
        self._new.append((rows[passed], keys[columns[passed]], exact[passed]))
        # Pruning sorts all candidates: worth it once there are half as many new ones.
        if 2 * sum(len(new[0]) for new in self._new) >= len(self._floor) * self._k:
            self._prune()

    def results(self) -> list[Candidates]:
        """Candidates of every query, shape (n_queries,): k, or more where the last ones tie."""
        self._prune()
        if not len(self._floor):
            return []
        order = np.argsort(self._queries, kind="stable")
        ends = np.searchsorted(self._queries[order], np.arange(1, len(self._floor)))
        return [Candidates(self._keys[part], self._scores[part]) for part in np.split(order, ends)]

    def _is_open(self) -> bool:
        """Whether some query has fewer than k candidates, so that its floor says little."""
        return bool((self._floor == self._threshold).any())

    def _score(
        self, vectors: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        parts = []
        for start in range(0, len(rows), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            chosen = vectors[columns[part]].astype(np.float64)
            dots = np.einsum("ij,ij->i", chosen, self._exact[rows[part]])
            norms = np.sqrt(np.einsum("ij,ij->i", chosen, chosen))
            parts.append(dots / np.where(norms > 0, norms, 1))
        return np.round(np.concatenate(parts), DECIMALS)

    def _prune(self) -> None:
        """Drop what is no longer among the k best, and raise the floors."""
        groups = zip((self._queries, self._keys, self._scores), *self._new, strict=True)
        queries, keys, scores = (np.concatenate(group) for group in groups)
        self._new = []
        order = np.lexsort((-scores, queries))
        queries, keys, scores = queries[order], keys[order], scores[order]
        starts = np.searchsorted(queries, np.arange(len(self._floor)))
        counts = np.bincount(queries, minlength=len(self._floor))
        full = np.flatnonzero(counts >= self._k)
        self._floor[full] = scores[starts[full] + self._k - 1]
        kept = scores >= self._floor[queries]
        queries, keys, scores = queries[kept], keys[kept], scores[kept]
        if self._names is not None and len(keys) > 2 * self._k * len(self._floor) + _MANY_TIES:
            queries, keys, scores = self._without_ties(queries, keys, scores)
        self._queries, self._keys, self._scores = queries, keys, scores

    def _without_ties(
        self, queries: NDArray[np.int64], keys: NDArray[np.int64], scores: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Keep exactly k of each query, ties by name."""
        assert self._names is not None
        distinct, which = np.unique(keys, return_inverse=True)
        named = self._names(distinct.tolist())
        by_name = sorted(range(len(distinct)), key=lambda i: named[int(distinct[i])])
        place = np.empty(len(distinct), np.int64)
        place[by_name] = np.arange(len(distinct))
        order = np.lexsort((place[which], -scores, queries))
        queries, keys, scores = queries[order], keys[order], scores[order]
        rank = np.arange(len(queries)) - np.searchsorted(queries, queries)
        kept = rank < self._k
        return queries[kept], keys[kept], scores[kept]
