"""Which few things to annotate with their counterparts, so that a map can be fitted to them."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit32
from embcli.errors import UsageError

_AT_ONCE = 1024
# Candidates whose gains are brought up to date at once.
_STALE = 64
_ROUNDS = 25
# Rows that have to be near to a chosen one.
_COVERED = 2000
_TIE = 1e-3


def select(
    vectors: NDArray[np.floating],
    k: int,
    *,
    method: str = "facility",
    sample: int = 20_000,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Choose k rows that stand for all of them: those whose counterparts are worth knowing.

    Lengths are taken away, then the mean, then lengths again.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Not modified.
    k : int
        If there are fewer different vectors, so many.
    method : {"facility", "medoids"}
        ``facility``: one after the other, the row that adds most to the sum of all rows' cosines
        with the nearest one chosen (facility location). ``medoids``: the rows nearest to the means
        of k clusters (spherical k-means), the largest cluster first.
    sample : int
        Of more rows only so many, drawn at random, are clustered, or have to be near to those
        chosen; of the latter at most 2,000. Every row may be chosen.
    seed : int

    Returns
    -------
    chosen : int64 array, shape (k,)
        Distinct rows, in an order in which the first ones alone are a fair choice, too.

    Raises
    ------
    UsageError
        There is no such method, or k is less than 1.

    Notes
    -----
    ``medoids`` takes O(sample · k · dim) a round, ``facility`` O(n · 2,000 · dim) at first; neither
    holds more than a block of cosines. The greedy choice of ``facility`` has at least 1 - 1/e of
    the greatest sum; gains that can only fall are recomputed for the foremost candidates alone.

    References
    ----------
    I. Dhillon, D. Modha. Concept decompositions for large sparse text data using clustering.
    Machine Learning 2001. D. Arthur, S. Vassilvitskii. k-means++. SODA 2007. G. Nemhauser, L.
    Wolsey, M. Fisher. An analysis of approximations for maximizing submodular set functions. 1978;
    M. Minoux. Accelerated greedy algorithms. 1978.
    """
    if method not in METHODS:
        raise UsageError(f"no way of selecting {method!r} (there are: {', '.join(METHODS)})")
    if k < 1:
        raise UsageError(f"cannot select {k}: it must be at least 1")
    rows = unit32(vectors)
    rows = unit32(rows - rows.mean(axis=0, dtype=np.float64))
    # Of equal vectors one is enough.
    distinct = np.array([*{row.tobytes(): place for place, row in enumerate(rows)}.values()])
    k = min(k, len(distinct))
    rows = rows[distinct]
    rng = np.random.default_rng(seed)
    some = rows[np.sort(rng.permutation(len(rows))[:sample])] if len(rows) > sample else rows
    chosen: NDArray[np.int64] = distinct[METHODS[method](rows, k, some, rng)]
    return chosen


def _medoids(
    rows: NDArray[np.float32], k: int, some: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.int64]:
    if len(some) < k:
        some = rows
    means = some[_spread(some, k, rng)]
    labels = np.full(len(some), -1)
    for _ in range(_ROUNDS):
        before, labels = labels, _labels(some, means)
        if (labels == before).all():
            break
        sums = np.zeros((k, rows.shape[1]))
        np.add.at(sums, labels, some)
        filled = np.bincount(labels, minlength=k) > 0
        means[filled] = unit32(sums[filled])
    order = np.argsort(-np.bincount(labels, minlength=k), kind="stable")
    return _one_each(rows, means[order])


def _spread(rows: NDArray[np.float32], k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw k rows far from each other (k-means++)."""
    chosen = [int(rng.integers(len(rows)))]
    away = np.ones(len(rows))
    while len(chosen) < k:
        away = np.minimum(away, np.maximum(1 - rows @ rows[chosen[-1]], 0))
        away[chosen] = 0
        chosen.append(int(rng.choice(len(rows), p=away / away.sum())))
    return np.array(chosen)


def _labels(rows: NDArray[np.float32], means: NDArray[np.float32]) -> NDArray[np.int64]:
    labels = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        labels[part] = (rows[part] @ means.T).argmax(axis=1)
    return labels


def _one_each(rows: NDArray[np.float32], means: NDArray[np.float32]) -> NDArray[np.int64]:
    """Give for every mean the nearest row that was not given before."""
    taken = np.zeros(len(rows), bool)
    chosen = []
    for mean in means:
        cosines = rows @ mean
        cosines[taken] = -np.inf
        chosen.append(int(cosines.argmax()))
        taken[chosen[-1]] = True
    return np.array(chosen)


def _facility(
    rows: NDArray[np.float32], k: int, some: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.int64]:
    if len(some) > _COVERED:
        some = some[rng.permutation(len(some))[:_COVERED]]
    best = np.zeros(len(some), np.float32)

    def gains(which: NDArray[np.int64] | slice) -> NDArray[np.float64]:
        more: NDArray[np.float64] = np.maximum(some @ rows[which].T - best[:, None], 0).sum(
            axis=0, dtype=np.float64
        )
        return more

    bounds = np.concatenate(
        [gains(slice(start, start + _AT_ONCE)) for start in range(0, len(rows), _AT_ONCE)]
    )
    chosen: list[int] = []
    while len(chosen) < k:
        current = np.zeros(len(rows), bool)
        # Two rows that are nearest to each other add the same: the first one, whatever rounding
        # says.
        while not current[best_of := np.flatnonzero(bounds >= bounds.max() - _TIE)].all():
            foremost = np.argpartition(-bounds, min(_STALE, len(rows)) - 1)[:_STALE]
            stale = np.union1d(foremost, best_of)
            stale = stale[~current[stale] & np.isfinite(bounds[stale])]
            bounds[stale] = gains(stale)
            current[stale] = True
        chosen.append(int(best_of[0]))
        best = np.maximum(best, some @ rows[chosen[-1]])
        bounds[chosen[-1]] = -np.inf
    return np.array(chosen)


METHODS = {"facility": _facility, "medoids": _medoids}
