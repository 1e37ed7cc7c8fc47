"""Spherical k-means: every vector with the centre to which its cosine is greatest."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.clustering.centres import (
    Floats32,
    Ints,
    assign,
    block_sums,
    blocks,
    margins,
)
from embcli.core.clustering.clusters import Clusters, by_size
from embcli.core.cosine import unit32
from embcli.core.matching import THREADS, Advance
from embcli.core.optional import require
from embcli.core.separability.vectors import check_vectors, sampled
from embcli.errors import InputError, UsageError, counted

RESTARTS = 5
# Restarts look at so many vectors, or at so many for each cluster.
SAMPLE = 50_000
_SAMPLE_PER_CLUSTER = 64
# And starts are drawn from so many of these.
_START, _START_PER_CLUSTER = 4096, 32
_STEPS = 300
# So many iterations tell which start is the best; only that one goes on.
_SHORT = 10
# Iterations end when one of them gains less than this share of the objective.
_TOLERANCE = 1e-4


class _Fit(NamedTuple):
    centres: Floats32
    inertia: float
    steps: int


def kmeans(
    vectors: NDArray[np.float32],
    k: int,
    *,
    seed: int = 0,
    restarts: int = RESTARTS,
    sample: int = SAMPLE,
    advance: Advance = lambda done, total, count: None,
) -> Clusters:
    """Cut vectors into k clusters around directions.

    Maximises the sum of the cosines of the vectors to the centres of their clusters, which are the
    directions of the clusters' means.

    Parameters
    ----------
    vectors : float32 array, shape (n, dim)
        At length 1. Not modified.
    k : int
        At most `n`. Fewer clusters come back where fewer vectors are different.
    seed : int
    restarts : int
        How many starts are tried; the one of the best objective after ten iterations goes on.
    sample : int
        Restarts are compared on so many vectors at most, or 64 for each cluster if these are more;
        only the best goes on with all of them.
    advance : callable
        Told how many starts are done, of how many, and of how many vectors.

    Returns
    -------
    clusters : Clusters
        ``strengths`` say how much nearer a vector is to its centre than to the next one: 1 less
        the ratio of the distances, which are 1 less the cosine; for k = 1 the cosine itself.
        ``details``: k, inertia (sum of 1 less the cosine), iterations, restarts, sample, seed.

    Raises
    ------
    InputError
        There are fewer vectors than clusters, or one is not finite or is zeros.
    UsageError
        `k` or `restarts` is below 1.
    ModelError
        SciPy is not installed.

    Notes
    -----
    Starts are greedy k-means++ on 4,096 vectors, or 32 for each cluster: each centre is the best of
    2 + ln k candidates drawn in proportion to 1 less the cosine to the nearest centre so far, which
    for vectors of length 1 is half the squared distance. A cluster that loses all its members
    starts again at the vector that is farthest from its centre. Iterations end when one gains less
    than 1e-4 of the objective, or after 300. O(n · k · dim) time for one, O(n) memory. Blocks of
    vectors are of a fixed size and summed in their order: the result depends on the seed only, not
    on the number of threads.

    References
    ----------
    I. Dhillon, D. Modha. Concept decompositions for large sparse text data using clustering.
    Machine Learning 42, 2001. D. Arthur, S. Vassilvitskii. k-means++: the advantages of careful
    seeding. SODA 2007.
    """
    require("scipy", "k-means")
    if k < 1 or restarts < 1:
        raise UsageError(f"{counted(k, 'cluster')} by {counted(restarts, 'start')}: at least 1")
    check_vectors(vectors, fewest=1)
    n = len(vectors)
    if n < k:
        raise InputError(f"{counted(n, 'vector')} cannot make {counted(k, 'cluster')}")
    rows = sampled(n, max(sample, _SAMPLE_PER_CLUSTER * k), seed, fewest=1)
    some = vectors if len(rows) == n else vectors[rows]
    best: _Fit | None = None
    for i in range(restarts):
        rng = np.random.default_rng([seed, i])
        few = sampled(len(some), max(_START, _START_PER_CLUSTER * k), seed + i, fewest=1)
        start = _start(some if len(few) == len(some) else some[few], k, rng)
        fit = _lloyd(some, start, _SHORT if restarts > 1 else _STEPS)
        if best is None or fit.inertia < best.inertia:
            best = fit
        advance(i + 1, restarts + 1, n)
    assert best is not None
    steps = best.steps
    if restarts > 1:
        best = _lloyd(some, best.centres, _STEPS)
        steps += best.steps
    if len(rows) < n:
        best = _lloyd(vectors, best.centres, _STEPS)
        steps += best.steps
    advance(restarts + 1, restarts + 1, n)
    found = assign(vectors, best.centres)
    firm = np.clip(found.best, 0, 1) if k == 1 else margins(found.best, found.second)
    details = {
        "k": k, "inertia": float((1 - found.best.astype(np.float64)).sum()), "iterations": steps,
        "restarts": restarts, "sample": len(rows), "seed": seed,
    }  # fmt: skip
    return Clusters(by_size(found.labels), firm, details)


def _start(vectors: Floats32, k: int, rng: np.random.Generator) -> Floats32:
    """Draw centres by greedy k-means++, shape (at most k, dim); fewer if no more are different."""
    n, trials = len(vectors), 2 + int(np.log(k))
    chosen = [int(rng.integers(n))]
    apart = _apart(vectors, chosen)[:, 0]
    while len(chosen) < k:
        reach = np.cumsum(apart, dtype=np.float64)
        # Cosines of equal vectors differ from 1 by rounding only.
        if apart.max() < 1e-6:
            break
        drawn = np.searchsorted(reach, rng.random(trials) * reach[-1], side="right")
        candidates = np.minimum(drawn, n - 1)
        closer = np.minimum(apart[:, None], _apart(vectors, candidates.tolist()))
        best = int(closer.sum(axis=0, dtype=np.float64).argmin())
        chosen.append(int(candidates[best]))
        apart = np.ascontiguousarray(closer[:, best])
    return vectors[chosen]


def _apart(vectors: Floats32, chosen: list[int]) -> Floats32:
    """Give 1 less the cosine of every vector to some, shape (n, len(chosen)); none below 0."""
    some = vectors[chosen]
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda part: vectors[part] @ some.T, blocks(len(vectors), 1))
        cosines = np.concatenate(list(found))
    apart: Floats32 = np.maximum(1 - cosines, 0)
    return apart


def _lloyd(vectors: Floats32, centres: Floats32, most: int) -> _Fit:
    """Assign vectors and move centres in turns until next to nothing is gained."""
    last, inertia, labels = np.inf, np.inf, np.full(len(vectors), -1)
    steps = 0
    while steps < most:
        steps += 1
        assigned, best, total = _step(vectors, centres)
        inertia = float((1 - best.astype(np.float64)).sum())
        if (assigned == labels).all() or last - inertia <= _TOLERANCE * inertia:
            break
        last, labels = inertia, assigned
        moved = unit32(total)
        # The mean of vectors that cancel has no direction: its centre stays where it was.
        nothing = ~moved.any(axis=1)
        moved[nothing] = centres[nothing]
        empty = np.flatnonzero(np.bincount(labels, minlength=len(centres)) == 0)
        moved[empty] = vectors[np.argsort(best, kind="stable")[: len(empty)]]
        centres = moved
    return _Fit(centres, inertia, steps)


def _step(vectors: Floats32, centres: Floats32) -> tuple[Ints, Floats32, NDArray[np.float64]]:
    """Find the nearest centre of every vector, its cosine, and the sums of what is nearest."""
    k = len(centres)

    def one(part: slice) -> tuple[Ints, Floats32, Floats32]:
        scores = vectors[part] @ centres.T
        labels = scores.argmax(axis=1)
        best = scores[np.arange(len(labels)), labels]
        return labels, best, block_sums(vectors[part], labels, k)

    labels, best = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    total = np.zeros(centres.shape)
    parts = list(blocks(len(vectors), k))
    with ThreadPoolExecutor(THREADS) as pool:
        for part, found in zip(parts, pool.map(one, parts), strict=True):
            labels[part], best[part] = found[:2]
            total += found[2]
    return labels, best, total
