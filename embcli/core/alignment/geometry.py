"""What a map does to angles, and how many vectors become hubs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.retrieval import NEIGHBOURHOOD
from embcli.core.cosine import unit
from embcli.core.csls import csls
from embcli.core.maps import Linear, Map, Transform
from embcli.core.neighbours import neighbours
from embcli.errors import InputError, UsageError, counted

SAMPLE = 2000


class Hubness(NamedTuple):
    """How unevenly the rows of one side come up as neighbours of the other.

    Attributes
    ----------
    skewness : float
        Of the k-occurrences N_k; 0 where all come up about as often, above 1 where there are hubs.
    antihubs : float
        The share of rows that are nobody's neighbour.
    """

    skewness: float
    antihubs: float


class Geometry(NamedTuple):
    """What a map does to the source.

    Attributes
    ----------
    orthogonality : float
        See `orthogonality_error`; 0 for a rotation, whatever its scale.
    distortion : float
        Mean absolute change of the cosine of two vectors of the source.
    hubness_before, hubness_after : Hubness
        Of the source among itself, as it is and mapped.
    hubness_nn, hubness_csls : Hubness
        Of the target among the neighbours of the source, by cosine and by CSLS.
    """

    orthogonality: float
    distortion: float
    hubness_before: Hubness
    hubness_after: Hubness
    hubness_nn: Hubness
    hubness_csls: Hubness


def geometry(map: Map, pairs: Pairs, *, sample: int = SAMPLE, seed: int = 0) -> Geometry:
    """Measure what a map does to a sample of the source, and to neighbours across.

    Parameters
    ----------
    map : Map
    pairs : Pairs
        All vectors of both sides; its pairs are not looked at.
    sample : int
        How many vectors of each side at most; drawn without replacement.
    seed : int
        Of the draw.

    Raises
    ------
    InputError
        There are fewer than two vectors of the source, or none of the target.
    UsageError
        `sample` is below 2.
    """
    if sample < 2:
        raise UsageError("a sample of fewer than 2 vectors has no angles")
    if len(pairs.source) < 2 or not len(pairs.target):
        raise InputError(
            f"there are no angles between {counted(len(pairs.source), 'vector')} of the source "
            f"and {len(pairs.target)} of the target"
        )
    rng = np.random.default_rng(seed)
    rows, columns = (
        np.sort(rng.choice(len(side), min(sample, len(side)), replace=False))
        for side in (pairs.source, pairs.target)
    )
    before = pairs.source[rows]
    after, target = map.source.apply(before), map.target.apply(pairs.target[columns])
    k = min(NEIGHBOURHOOD, len(rows) - 1, len(columns))
    across, _ = neighbours(after, target, k)
    rescaled = csls(after, target, k, neighbourhood=k)
    return Geometry(
        orthogonality_error(map.source),
        _distortion(before, after),
        _among_itself(before, k),
        _among_itself(after, k),
        hubness(across.others.ravel(), len(columns)),
        hubness(rescaled.columns, len(columns)),
    )


def hubness(neighbours: NDArray[np.int64], count: int) -> Hubness:
    """Tell how unevenly `count` rows are spread over lists of neighbours.

    Parameters
    ----------
    neighbours : int64 array, any shape
        The k nearest of every query, as rows below `count`.
    count : int

    References
    ----------
    M. Radovanović, A. Nanopoulos, M. Ivanović. Hubs in space: popular nearest neighbors in
    high-dimensional data. JMLR 2010. The third standardised moment of N_k, with n in the
    denominators.
    """
    occurrences = np.bincount(neighbours.ravel(), minlength=count).astype(np.float64)
    apart = occurrences - occurrences.mean()
    spread = float(np.sqrt(np.square(apart).mean()))
    skewness = float((apart**3).mean()) / spread**3 if spread else 0.0
    return Hubness(skewness, float((occurrences == 0).mean()))


def orthogonality_error(transform: Transform) -> float:
    """Tell how far the linear part is from keeping angles.

    With W the product of the matrices and c the mean of the squared singular values, this is
    ``||W.T @ W / c - I||`` (Frobenius) divided by the root of the number of components; on the
    narrower side, so that an isometry into more components has none. A scale makes no difference.
    """
    matrices = [step.matrix for step in transform.steps if isinstance(step, Linear)]
    if not matrices:
        return 0.0
    product = matrices[0]
    for matrix in matrices[1:]:
        product = product @ matrix
    squares = np.square(np.linalg.svd(product, compute_uv=False))
    mean = squares.mean()
    return float(np.sqrt(np.square(squares / mean - 1).mean())) if mean else 1.0


def _distortion(before: NDArray[np.floating], after: NDArray[np.floating]) -> float:
    upper = np.triu_indices(len(before), 1)
    one, other = unit(before), unit(after)
    return float(np.abs(one @ one.T - other @ other.T)[upper].mean())


def _among_itself(vectors: NDArray[np.floating], k: int) -> Hubness:
    near, _ = neighbours(vectors, vectors, k + 1)
    own = near.others == np.arange(len(vectors))[:, None]
    # Of vectors with more than k twins the vector itself may be missing: then the last one goes.
    own[~own.any(axis=1), -1] = True
    return hubness(near.others[~own], len(vectors))
