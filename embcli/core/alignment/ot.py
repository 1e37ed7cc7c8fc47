"""Optimal transport between two spaces: what lies alike belongs together."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.normalization import prepared
from embcli.core.maps import Linear, Map, Transform
from embcli.core.transport import pot
from embcli.errors import InputError, UsageError, counted

Floats = NDArray[np.float64]

_FEWEST = 20
_COUPLING_ROUNDS = 30
# Scaling in between need not be exact: the next round goes on from there.
_SCALINGS = 50
_SETTLED = 1e-7


def ot(
    pairs: Pairs,
    *,
    normalize: str = "unit,center,unit",
    sample: int = 1000,
    entropy: float = 5e-3,
    rounds: int = 10,
    blur: float = 0.02,
) -> Map:
    """Fit a rotation without pairs, or from a few: what has the same distances to the rest is one.

    Without pairs, the entropic Gromov–Wasserstein coupling of both spaces' cosines is where it
    begins; with pairs, their best rotation. From there on, transport under the rotation and the
    best rotation of what is transported take turns (Wasserstein–Procrustes).

    Parameters
    ----------
    pairs : Pairs
        May be none.
    normalize : str
        See `embcli.core.alignment.normalization.prepared`.
    sample : int
        Only the first so many vectors of each side are coupled. They should be of the same sort
        of things: of word vectors, which usually come by falling frequency, the most frequent.
    entropy : float
        Of the Gromov–Wasserstein coupling: less is sharper and takes longer. Distances are 1 less
        the cosine.
    rounds : int
        Of transport and rotation.
    blur : float
        The same as `entropy`, of the transport.

    Returns
    -------
    map : Map

    Raises
    ------
    InputError
        A side has fewer than 20 vectors, or the coupling is not finite.
    UsageError
        A number is out of its range.

    Notes
    -----
    Nothing is drawn at random. O(sample³) for each of at most 30 rounds of the first coupling
    (projected by the proximal point algorithm), O(sample²) memory. Where dimensions differ, the
    rotation is the best matrix with orthonormal rows or columns.

    Spaces that are alike in no way other than by chance are mapped all the same: judge the result
    by some known pairs.

    References
    ----------
    D. Alvarez-Melis, T. Jaakkola. Gromov–Wasserstein alignment of word embedding spaces. EMNLP
    2018. H. Xu, D. Luo, L. Carin. Scalable Gromov–Wasserstein learning. NeurIPS 2019 (proximal
    point). E. Grave, A. Joulin, Q. Berthet. Unsupervised alignment of embeddings with Wasserstein
    Procrustes. AISTATS 2019, who draw batches and begin at a convex relaxation instead.
    """
    if min(entropy, blur) <= 0 or rounds < 0 or sample < _FEWEST:
        raise UsageError(
            f"entropy and blur must be above 0, rounds at least 0, and sample at least {_FEWEST}"
        )
    for name, side in (("source", pairs.source), ("target", pairs.target)):
        if len(side) < _FEWEST:
            raise InputError(
                f"method ot needs at least {_FEWEST} vectors on both sides, and the {name} has "
                f"{counted(len(side), 'vector')}"
            )
    library = pot()
    ready = prepared(pairs, normalize)
    source, target = ready.pairs.source, ready.pairs.target
    first, second = source[:sample].astype(np.float64), target[:sample].astype(np.float64)
    if len(pairs.rows):
        turn = _rotation(
            source[pairs.rows].astype(np.float64), target[pairs.columns].astype(np.float64)
        )
    else:
        turn = _rotation(first, _coupling(library, first, second, entropy) @ second)
    for _ in range(rounds):
        turn = _rotation(first, _transport(library, first @ turn, second, blur) @ second)
    return ready.finished(Map(Transform.of(Linear(turn))))


def _rotation(source: Floats, target: Floats) -> Floats:
    left, _, right = np.linalg.svd(source.T @ target, full_matrices=False)
    return np.asarray(left @ right, np.float64)


def _uniform(n: int) -> Floats:
    return np.full(n, 1 / n)


def _coupling(library: Any, first: Floats, second: Floats, entropy: float) -> Floats:
    """Couple rows by how they lie to the others of their own side."""
    with _judged_by_result():
        plan = library.gromov.entropic_gromov_wasserstein(
            *(1 - side @ side.T for side in (first, second)),
            _uniform(len(first)),
            _uniform(len(second)),
            epsilon=entropy,
            solver="PPA",
            max_iter=_COUPLING_ROUNDS,
            tol=_SETTLED,
            numItermax=_SCALINGS,
            warn=False,
        )
    return _finite(plan, "entropy")


def _transport(library: Any, first: Floats, second: Floats, blur: float) -> Floats:
    """Couple rows that are near to each other."""
    weights = _uniform(len(first)), _uniform(len(second))
    cost = 1 - first @ second.T
    with _judged_by_result():
        plan = library.sinkhorn(*weights, cost, blur, numItermax=_SCALINGS, warn=False)
    return _finite(plan, "blur")


@contextmanager
def _judged_by_result() -> Iterator[None]:
    """Keep quiet about zeros on the way, as where nothing is transported: see `_finite`."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _finite(plan: Any, name: str) -> Floats:
    if not np.isfinite(plan).all() or plan.sum() < 0.5:
        raise InputError(f"method ot lost its coupling to rounding: take a greater {name}")
    return np.asarray(plan, np.float64)
