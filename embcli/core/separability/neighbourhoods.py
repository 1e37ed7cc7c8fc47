"""What nearest neighbours tell of a space: hubs, and its intrinsic dimension."""

from typing import NamedTuple

import numpy as np

from embcli.core.alignment.geometry import hubness as spread
from embcli.core.matching import Advance, nearest
from embcli.core.neighbours import greatest
from embcli.core.separability.vectors import (
    SAMPLE,
    Floats,
    Ints,
    Vectors,
    check_vectors,
    parts,
    sampled,
)
from embcli.errors import InputError, UsageError

NEIGHBOURS = 10
HUB_SIZE = 2.0
DISCARD = 0.1
# How many neighbours are looked up in float32 to be sure of the nearest two.
_CANDIDATES = 8


class Hubs(NamedTuple):
    """How unevenly vectors come up among each other's nearest.

    Attributes
    ----------
    skewness : float
        Of the k-occurrences; about 0 where all come up as often, above 1 where there are hubs.
    antihubs : float
        Share of vectors that are nobody's neighbour.
    share : float
        Of all places among neighbours, how many hubs take.
    hubs : int64 array, shape (m,)
        Rows of the vectors given that are neighbours of at least `size` times k others, those of
        the most first.
    counts : int64 array, shape (m,)
        Of how many each hub is a neighbour.
    n, k : int
        How many vectors were looked at, and how many neighbours of each.
    occurrences : int64 array, shape (n,)
        Of how many others each vector looked at is a neighbour, hub or not.
    """

    skewness: float
    antihubs: float
    share: float
    hubs: Ints
    counts: Ints
    n: int
    k: int
    occurrences: Ints


class IntrinsicDimension(NamedTuple):
    """How many coordinates it takes to say where a vector is among its neighbours.

    Attributes
    ----------
    dimension : float
        Above 0.
    n : int
        How many different vectors it was estimated from.
    copies : int
        How many more were looked at, and left out, being copies of those.
    """

    dimension: float
    n: int
    copies: int


def hubness(
    vectors: Vectors,
    k: int = NEIGHBOURS,
    *,
    size: float = HUB_SIZE,
    sample: int = SAMPLE,
    seed: int = 0,
    advance: Advance = lambda done, total, count: None,
) -> Hubs:
    """Count how often each vector is among the k nearest, by cosine, of another.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Not modified.
    k : int
        Below the number of vectors looked at.
    size : float
        How many times k, the mean, makes a hub.
    sample : int
        How many vectors to look at, at most; drawn without replacement. Neighbours are looked for
        among them alone.
    seed : int
        Of the draw.
    advance : callable
        As of `embcli.core.matching.nearest`.

    Raises
    ------
    InputError
        There are not more than k vectors, or one is not finite or all zeros.
    UsageError
        `k` is below 1, `size` not above 1, or `sample` not above k.

    Notes
    -----
    Of equals those that come first are the neighbours. Skewness grows with n: compare samples of
    one size. O(m² · dim) for a sample of m.

    References
    ----------
    M. Radovanović, A. Nanopoulos, M. Ivanović. Hubs in space: popular nearest neighbors in
    high-dimensional data. JMLR 2010. Hubs of twice the mean: R. Feldbauer et al., scikit-hubness.
    JOSS 2020.
    """
    if k < 1 or not size > 1:
        raise UsageError(f"k = {k} and a size of {size}: k must be 1 or more, the size above 1")
    check_vectors(vectors, fewest=max(3, k + 1))
    rows = sampled(len(vectors), sample, seed, fewest=max(3, k + 1))
    some, n = vectors[rows], len(rows)
    near = nearest(some, some, k, twins=np.arange(n), advance=advance).columns
    found = spread(near, n)
    counts = np.bincount(near, minlength=n)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] >= size * k]
    share = float(counts[order].sum()) / (n * k)
    return Hubs(found.skewness, found.antihubs, share, rows[order], counts[order], n, k, counts)


def two_nn(
    vectors: Vectors, *, discard: float = DISCARD, sample: int = SAMPLE, seed: int = 0
) -> IntrinsicDimension:
    """Estimate the intrinsic dimension from the distances to the nearest two (TwoNN).

    If vectors are spread evenly near each, the ratio of its second to its first distance has the
    distribution ``1 - ratio ** -d``: d is the slope, through the origin, of
    ``-log(1 - rank / n)`` against the logarithm of the ratio, over all but the greatest ratios.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        As they are: scale them to length 1 where only directions count. Not modified.
    discard : float
        Which share of vectors, those of the greatest ratios, to leave out; in [0, 1).
    sample : int
        How many vectors to look at, at most; drawn without replacement.
    seed : int
        Of the draw.

    Raises
    ------
    InputError
        There are fewer than 3 different vectors, too few are left, all ratios are 1, or a vector
        is not finite.
    UsageError
        `discard` is outside of [0, 1), or `sample` is below 3.

    Notes
    -----
    Copies are left out, which have no ratio. It falls short where there are many dimensions and
    not very many more vectors (of 5,000 Gaussian vectors: 9.8 of 10, 18 of 20, 52 of 100): read
    it as a lower bound there, and compare samples of one size. The last of n ranks has no
    logarithm, and is always left out. O(m² · dim).

    References
    ----------
    E. Facco, M. d'Errico, A. Rodriguez, A. Laio. Estimating the intrinsic dimension of datasets by
    a minimal neighborhood information. Scientific Reports 2017.
    """
    if not 0 <= discard < 1:
        raise UsageError(f"{discard} is no share to discard: it must be in [0, 1)")
    check_vectors(vectors, directions=False)
    drawn = vectors[sampled(len(vectors), sample, seed)]
    # Adding 0 makes -0 the same.
    some = np.unique(drawn + 0, axis=0)
    n = len(some)
    if n < 3:
        raise InputError(f"3 different vectors are needed, and there are {n}")
    ratios = np.sort(_log_ratios(some))[: min(int(n * (1 - discard)), n - 1)]
    if not len(ratios) or not ratios[-1]:
        raise InputError(f"{n} vectors are too few, or too regular, to estimate a dimension")
    heights = -np.log1p(-np.arange(1, len(ratios) + 1) / n)
    return IntrinsicDimension(float(ratios @ heights / (ratios @ ratios)), n, len(drawn) - n)


def _log_ratios(vectors: Vectors) -> Floats:
    """Give the logarithms of second by first distance to a nearest vector, shape (n,)."""
    exact = vectors - vectors.mean(axis=0, dtype=np.float64)
    centred = (exact / np.abs(exact).max()).astype(np.float32)
    halves = np.einsum("ij,ij->i", centred, centred)[:, None] / 2
    # The nearest of x is the y with the greatest x · y - |y|² / 2.
    asked = np.hstack([centred, np.ones_like(halves)])
    others, _ = greatest(asked, np.hstack([centred, -halves]), _CANDIDATES)
    ratios = np.empty(len(vectors))
    for part in parts(len(vectors), 512):
        apart = exact[part, None] - exact[others[part]]
        squares = np.einsum("ijk,ijk->ij", apart, apart)
        squares[others[part] == np.arange(part.start, part.stop)[:, None]] = np.inf
        squares.sort(axis=1)
        ratios[part] = np.log(squares[:, 1] / squares[:, 0]) / 2
    return ratios
