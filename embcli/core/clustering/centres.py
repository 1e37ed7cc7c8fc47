"""Centres of clusters, and which of them every vector is nearest to."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit32
from embcli.core.matching import THREADS

Ints = NDArray[np.int64]
Floats32 = NDArray[np.float32]
_ROWS = 8192
_NUMBERS_AT_ONCE = 1 << 23


class Assigned(NamedTuple):
    """The nearest centre of every row, by cosine.

    Attributes
    ----------
    labels : int64 array, shape (n,)
        Of equals the first.
    best : float32 array, shape (n,)
        Its cosine.
    second : float32 array, shape (n,)
        The cosine of the next centre; -1 where there is one centre only.
    """

    labels: Ints
    best: Floats32
    second: Floats32


def sums(vectors: Floats32, labels: Ints, k: int) -> NDArray[np.float64]:
    """Add up the vectors of every cluster, shape (k, dim); negative labels are left out.

    Parameters
    ----------
    vectors : float32 array, shape (n, dim)
    labels : int64 array, shape (n,)
        Below `k`.
    k : int
        Zeros for a cluster without members.

    Notes
    -----
    As the product with a sparse matrix of ones, many times faster than row by row. Blocks are of
    a fixed size and are added up in float64 in their order: the same numbers whatever the threads.
    """
    total = np.zeros((k, vectors.shape[1]))
    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(
            lambda part: block_sums(vectors[part], labels[part], k), blocks(len(vectors), k)
        ):
            total += found
    return total


def block_sums(rows: Floats32, labels: Ints, k: int) -> Floats32:
    """Add up a block's vectors of every cluster, shape (k, dim)."""
    from scipy.sparse import csc_array

    inside = labels >= 0
    ones = np.ones(int(inside.sum()), np.float32)
    ends = np.concatenate([[0], np.cumsum(inside)])
    members = csc_array((ones, labels[inside], ends), shape=(k, len(rows)))
    return np.asarray(members @ rows, np.float32)


def means(vectors: Floats32, labels: Ints, k: int) -> Floats32:
    """Give the directions of the clusters' means, shape (k, dim); zeros where there is none."""
    return unit32(sums(vectors, labels, k))


def assign(vectors: Floats32, centres: Floats32) -> Assigned:
    """Find the nearest of the centres for every row.

    Parameters
    ----------
    vectors : float32 array, shape (n, dim)
        At length 1, as are the centres.
    centres : float32 array, shape (k, dim)

    Notes
    -----
    O(n · k · dim) time, O(n) memory; blocks are shared among threads.
    """

    def nearest(part: slice) -> Assigned:
        return nearest_two(vectors[part] @ centres.T)

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(nearest, blocks(len(vectors), len(centres))))
    return Assigned._make(np.concatenate(side) for side in zip(*found, strict=True))


def nearest_two(scores: Floats32) -> Assigned:
    """Pick the greatest of every row of cosines, and the next; the scores are overwritten."""
    here = np.arange(len(scores))
    labels = scores.argmax(axis=1)
    best = scores[here, labels]
    if scores.shape[1] == 1:
        return Assigned(labels, best, np.full(len(scores), -1, np.float32))
    scores[here, labels] = -np.inf
    return Assigned(labels, best, scores.max(axis=1))


def margins(own: Floats32, other: Floats32) -> Floats32:
    """Tell how much nearer a row is to its centre than to another, shape (n,).

    ``1 - (1 - own) / (1 - other)`` of the cosines, cut to [0, 1]: 0 on the border, 1 at the centre.
    """
    near, far = 1 - own.astype(np.float64), 1 - other.astype(np.float64)
    ratio = np.divide(near, far, out=np.ones(len(near)), where=far > 1e-6)
    # A row at both centres is on the border; what rounding makes negative is 0.
    found: Floats32 = np.clip(1 - ratio, 0, 1).astype(np.float32)
    return found


def strengths(vectors: Floats32, labels: Ints, centres: Floats32) -> Floats32:
    """Give the margins of labels that need not be those of the nearest centre; 0 for noise.

    Parameters
    ----------
    vectors : float32 array, shape (n, dim)
        At length 1, as are the centres.
    labels : int64 array, shape (n,)
    centres : float32 array, shape (k, dim)

    Returns
    -------
    strengths : float32 array, shape (n,)
        As of `margins`, the other centre the nearest but the own; 0 where it is the nearer one.
        Where there is one centre only, the cosine to it, if it is positive.
    """
    own, other = own_and_next(vectors, labels, centres)[:2]
    found = margins(own, other) if len(centres) > 1 else np.clip(own, 0, 1)
    return np.where(labels < 0, np.float32(0), found)


def own_and_next(
    vectors: Floats32, labels: Ints, centres: Floats32
) -> tuple[Floats32, Floats32, Ints]:
    """Give the cosine to the own centre, to the nearest other one, and which this is.

    Noise has no centre of its own, and -1 as cosine to it. The other of one only is -1.
    """

    def compare(part: slice) -> tuple[Floats32, Floats32, Ints]:
        scores = vectors[part] @ centres.T
        own = labels[part]
        here = np.arange(len(own))
        # The last column of noise is not its own.
        cosines = np.where(own < 0, np.float32(-1), scores[here, own])
        inside = own >= 0
        scores[here[inside], own[inside]] = -np.inf
        other = scores.argmax(axis=1)
        best = scores[here, other]
        return cosines, np.maximum(best, -1), np.where(np.isinf(best), -1, other)

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(compare, blocks(len(vectors), len(centres))))
    own, other, which = (np.concatenate(side) for side in zip(*found, strict=True))
    return own, other, which


def blocks(n: int, k: int) -> Iterator[slice]:
    """Cut n rows so that the cosines of a block with k centres are not too many."""
    size = min(_ROWS, max(256, _NUMBERS_AT_ONCE // max(k, 1)))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
