"""Top-k by cosine, over vectors that arrive block by block: exact, or to be verified."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Scores are rounded to this many decimals before they are compared, so that equal vectors tie
# wherever they are stored. Far below the resolution of float32 components.
DECIMALS = 9

_PAIRS_AT_ONCE = 1 << 16
_MANY_TIES = 1 << 14


@dataclass(frozen=True)
class Candidates:
    """The best of one query, in no order.

    Attributes
    ----------
    keys : int64 array, shape (n,)
    scores : float64 array, shape (n,)
    places : int64 array, shape (n,)
        Which vector has the score: the place given with it, the lowest where several of a key
        tie.
    """

    keys: NDArray[np.int64]
    scores: NDArray[np.float64]
    places: NDArray[np.int64]


class TopK:
    """Keep the `k` best keys of each query, and every other that ties with the k-th.

    Parameters
    ----------
    queries : float array, shape (n_queries, dim)
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
    shared : bool
        Whether several vectors may have the same key. The score of a key is then the best of
        its vectors', wherever they come.
    within : callable, optional
        What is done to rows of vectors, not to queries, before they are compared. What it makes of
        a row must not depend on the others but for rounding.

    Notes
    -----
    A block is first scored in float32 by one matrix product. Whatever comes within `slack` of
    the k-th best so far is scored again in float64, by itself, so that results depend neither
    on how vectors are divided into blocks nor on the BLAS at hand. Where keys are shared, the
    k-th best is that of k distinct keys. Cosine with a vector of zeros is 0. Cost:
    O(n_queries · n · dim) time and O(n_queries · (k + block)) memory, provided that `names` is
    given or ties are few.
    """

    def __init__(
        self,
        queries: NDArray[np.floating],
        k: int,
        *,
        threshold: float | None = None,
        unit: bool = True,
        slack: float = 1e-5,
        names: Callable[[list[int]], Mapping[int, str]] | None = None,
        shared: bool = False,
        within: Callable[[NDArray[np.floating]], NDArray[np.floating]] | None = None,
    ) -> None:
        exact = np.asarray(queries, np.float64)
        norms = np.linalg.norm(exact, axis=1, keepdims=True)
        self._exact = np.divide(exact, norms, out=np.zeros_like(exact), where=norms > 0)
        self._coarse = self._exact.astype(np.float32)
        self._k = min(k, np.iinfo(np.int64).max)
        self._names = names
        self._shared = shared
        self._within = within
        self._unit = unit
        self._slack = slack
        self._threshold = -np.inf if threshold is None else threshold
        n = len(exact)
        self._set_floor(np.full(n, self._threshold))
        none = np.empty(0, np.int64)
        self._kept = _Found(none, none, np.empty(0, np.float64), none)
        self._new: list[_Found] = []
        self._seen = 0

    def add(
        self,
        keys: NDArray[np.int64],
        vectors: NDArray[np.floating],
        places: NDArray[np.int64] | None = None,
    ) -> None:
        """Take in a block.

        Parameters
        ----------
        keys : int64 array, shape (n,)
        vectors : float array, shape (n, dim)
        places : int64 array, shape (n,), optional
            What to call each vector; by default the number of those that came before it.
        """
        if places is None:
            places = np.arange(self._seen, self._seen + len(keys))
        self._seen += len(keys)
        compared = vectors if self._within is None else self._within(vectors)
        scores = self._coarse @ compared.T
        if not self._unit:
            norms = np.sqrt(np.einsum("ij,ij->i", compared, compared))
            scores /= np.where(norms > 0, norms, 1)
        highest = np.fmax.reduce(scores, axis=1, initial=-np.inf)
        if not self._open and not (highest >= self._bound).any():
            return  # nearly every block once some have been seen
        floor, best, which = self._floor, scores, None
        if self._open:
            if self._shared:
                best, which = _best_of_each_key(keys, scores)
            place = best.shape[1] - self._k
            if place > 0:
                kth = np.partition(best, place, axis=1)[:, place]
                floor = np.maximum(floor, kth - self._slack)
        rows, columns = np.nonzero(scores >= (floor - self._slack)[:, None])
        if which is not None:
            # While every key is welcome, many vectors would pass that are not their key's best.
            near = scores[rows, columns] >= best[rows, which[columns]] - 2 * self._slack
            rows, columns = rows[near], columns[near]
        if not len(rows):
            return
        exact = self._score(vectors, rows, columns)
        passed = exact >= self._floor[rows]
        rows, columns = rows[passed], columns[passed]
        self._new.append(_Found(rows, keys[columns], exact[passed], places[columns]))
        # Pruning sorts all candidates: worth it once there are half as many new ones.
        if 2 * sum(len(new.queries) for new in self._new) >= len(self._floor) * self._k:
            self._prune()

    def results(self) -> list[Candidates]:
        """Candidates of every query, shape (n_queries,): k, or more where the last ones tie."""
        self._prune()
        return self._kept.by_query(len(self._floor))

    def _set_floor(self, floor: NDArray[np.float64]) -> None:
        """Note the k-th best score of each query, or the threshold."""
        self._floor = floor
        self._bound = floor - self._slack
        # Whether some query has fewer than k candidates, so that its floor says little.
        self._open = bool((floor == self._threshold).any())

    def _score(
        self, vectors: NDArray[np.floating], rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        parts = []
        for start in range(0, len(rows), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            chosen: NDArray[np.floating] = vectors[columns[part]].astype(np.float64)
            if self._within is not None:
                chosen = self._within(chosen)
            dots = np.einsum("ij,ij->i", chosen, self._exact[rows[part]])
            norms = np.sqrt(np.einsum("ij,ij->i", chosen, chosen))
            parts.append(dots / np.where(norms > 0, norms, 1))
        return np.round(np.concatenate(parts), DECIMALS)

    def _prune(self) -> None:
        """Drop what is no longer among the k best, and raise the floors."""
        groups = zip(self._kept, *self._new, strict=True)
        found = _Found._make(np.concatenate(group) for group in groups)
        self._new = []
        if self._shared:
            found = found.best_of_each_key()
        order = np.lexsort((-found.scores, found.queries))
        queries, scores = found.queries[order], found.scores[order]
        starts = np.searchsorted(queries, np.arange(len(self._floor)))
        counts = np.bincount(queries, minlength=len(self._floor))
        full = np.flatnonzero(counts >= self._k)
        self._floor[full] = scores[starts[full] + self._k - 1]
        self._set_floor(self._floor)
        found = found.take(order[scores >= self._floor[queries]])
        many = 2 * self._k * len(self._floor) + _MANY_TIES
        if self._names is not None and len(found.keys) > many:
            found = self._without_ties(found)
        self._kept = found

    def _without_ties(self, found: "_Found") -> "_Found":
        """Keep exactly k of each query, ties by name."""
        assert self._names is not None
        distinct, which = np.unique(found.keys, return_inverse=True)
        named = self._names(distinct.tolist())
        by_name = sorted(range(len(distinct)), key=lambda i: named[int(distinct[i])])
        place = np.empty(len(distinct), np.int64)
        place[by_name] = np.arange(len(distinct))
        found = found.take(np.lexsort((place[which], -found.scores, found.queries)))
        rank = np.arange(len(found.queries)) - np.searchsorted(found.queries, found.queries)
        return found.take(rank < self._k)


class Shortlist:
    """Keep the vectors whose keys are the `count` best of each query by approximate scores.

    Whatever ties with the last is kept too.

    Parameters
    ----------
    n_queries : int
    count : int
        How many keys to keep.
    shared : bool
        Whether several vectors may have the same key, whose score is then the best of theirs.
        Of the keys kept, all vectors are that score as much as the last key does.
    slack : float
        Scores that differ by less count as tied: equal vectors may get scores that differ by
        rounding.

    Notes
    -----
    Cost: O(n_queries · (count + block)) memory and O(n_queries · n) time, provided that ties are
    few.
    """

    def __init__(
        self, n_queries: int, count: int, *, shared: bool = False, slack: float = 1e-5
    ) -> None:
        self._count = min(count, np.iinfo(np.int64).max)
        self._shared = shared
        self._slack = slack
        self._floor = np.full(n_queries, -np.inf)
        none = np.empty(0, np.int64)
        self._kept = _Found(none, none, np.empty(0, np.float64), none)
        self._new: list[_Found] = []

    def add(
        self, keys: NDArray[np.int64], scores: NDArray[np.float32], places: NDArray[np.int64]
    ) -> None:
        """Take in a block.

        Parameters
        ----------
        keys : int64 array, shape (n,)
        scores : float32 array, shape (n_queries, n)
        places : int64 array, shape (n,)
            What to call each vector.
        """
        rows, columns = np.nonzero(scores >= self._floor[:, None])
        if not len(rows):
            return
        found = scores[rows, columns].astype(np.float64)
        self._new.append(_Found(rows, keys[columns], found, places[columns]))
        # Sorting is worth it once there are as many new ones as are kept.
        if sum(len(new.queries) for new in self._new) >= len(self._floor) * self._count:
            self._prune()

    def results(self) -> list[Candidates]:
        """Give what is kept of every query, by falling scores, shape (n_queries,)."""
        self._prune()
        return self._kept.by_query(len(self._floor))

    def __len__(self) -> int:
        """How many vectors are kept, those of all queries together."""
        return len(self._kept.queries) + sum(len(new.queries) for new in self._new)

    def _prune(self) -> None:
        groups = zip(self._kept, *self._new, strict=True)
        found = _Found._make(np.concatenate(group) for group in groups)
        self._new = []
        found = found.take(np.lexsort((-found.scores, found.queries)))
        best = found.best_of_each_key() if self._shared else found
        if self._shared:
            best = best.take(np.lexsort((-best.scores, best.queries)))
        starts = np.searchsorted(best.queries, np.arange(len(self._floor)))
        full = np.bincount(best.queries, minlength=len(self._floor)) >= self._count
        self._floor[full] = best.scores[starts[full] + self._count - 1] - self._slack
        self._kept = found.take(found.scores >= self._floor[found.queries])


class _Found(NamedTuple):
    """Vectors that are among the best, or may be: columns of equal length."""

    queries: NDArray[np.int64]
    keys: NDArray[np.int64]
    scores: NDArray[np.float64]
    places: NDArray[np.int64]

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> "_Found":
        return _Found._make(column[which] for column in self)

    def by_query(self, n_queries: int) -> list[Candidates]:
        """Divide by query, in the order they are in."""
        if not n_queries:
            return []
        order = np.argsort(self.queries, kind="stable")
        ends = np.searchsorted(self.queries[order], np.arange(1, n_queries))
        return [Candidates(*self.take(part)[1:]) for part in np.split(order, ends)]

    def best_of_each_key(self) -> "_Found":
        """Keep one of each query and key: the best, ties by place."""
        found = self.take(np.lexsort((self.places, -self.scores, self.keys, self.queries)))
        first = np.ones(len(found.keys), np.bool_)
        first[1:] = (np.diff(found.queries) != 0) | (np.diff(found.keys) != 0)
        return found.take(first)


def _best_of_each_key(
    keys: NDArray[np.int64], scores: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Of every query the best score of each key, and the column it is in for every vector."""
    distinct, which = np.unique(keys, return_inverse=True)
    order = np.argsort(which, kind="stable")
    starts = np.searchsorted(which[order], np.arange(len(distinct)))
    return np.maximum.reduceat(np.take(scores, order, axis=1), starts, axis=1), which
