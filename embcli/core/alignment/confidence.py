"""Whether a map that was fitted without pairs is to be believed, told without pairs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.induction import Dictionary, drop_out, mutual_nearest
from embcli.core.alignment.procrustes import rotation
from embcli.core.cosine import unit32
from embcli.core.maps import Map

Vectors = NDArray[np.float32]

_FITTED = 6000
_SCORED = 750
_CONTROLS = 2
_KEEP = (0.1, 0.2, 0.4, 0.8, 1.0)
_ROUNDS = 4
_REFINED = 3
_RELIABLE = 1.25
# Of a control, so that the ratio is finite.
_LEAST = 1e-3


class Confidence(NamedTuple):
    """How much better a map fits than chance would.

    Attributes
    ----------
    score : float
        Mean CSLS of mutual nearest neighbours, of vectors held out.
    share : float
        How many of these there are, of as many as there could be.
    control : float
        The greatest score among the controls: the same source, and targets in which nothing
        corresponds to it, aligned as well as they can be.
    vectors : int
        How many there could be.
    ratio : float
        The score over that of the controls: about 1, or less, if nothing was found.
    reliable : bool
        Whether chance would not have done as well by far.
    """

    score: float
    share: float
    control: float
    vectors: int
    ratio: float
    reliable: bool


def confidence(pairs: Pairs, map: Map, *, seed: int = 0) -> Confidence:
    """Compare a map with what can be fitted where there is nothing to be found.

    Parameters
    ----------
    pairs : Pairs
        Its pairs are not looked at.
    map : Map
        Any, wherever it came from.
    seed : int
        Of the controls.

    Notes
    -----
    A control is the target with each principal component shuffled by itself, where it is compared:
    the spread stays, and what belongs together is lost. Self-learning rotates the source onto it,
    from a random rotation, and mutual nearest neighbours refine that. Map and controls are then
    treated alike: a rotation is fitted to the mutual nearest neighbours of every other source
    vector, and scored by the rest of the source, as in many dimensions anything can be fitted to
    the vectors that it is fitted to.

    The first vectors are looked at, 6,000 of each side to fit and 750 with 1,500 to score. The
    ratio tells a map that is right from one that is wrong; how many words it gets right, it does
    not tell.
    """
    a = unit32(map.source.apply(pairs.source[:_FITTED]))
    b = unit32(map.target.apply(pairs.target[:_FITTED]))
    found = _held_out(a, b, np.eye(a.shape[1]))
    rng = np.random.default_rng(seed)
    controls = []
    for _ in range(_CONTROLS):
        other = _shuffled(b, rng)
        controls.append(_held_out(a, other, _by_chance(a, other, rng)).score)
    count = min(len(a) // 2, len(b), _SCORED)
    chance = max(controls)
    ratio = found.score / max(chance, _LEAST)
    share = len(found.rows) / count
    return Confidence(found.score, share, chance, count, ratio, ratio >= _RELIABLE)


def _held_out(a: Vectors, b: Vectors, turn: NDArray[np.float64]) -> Dictionary:
    """Fit a rotation again to half of the source, and match the first of the other half."""
    half, rest = a[::2], a[1::2]
    found = mutual_nearest(half @ turn.astype(np.float32), b)
    turn = rotation(half[found.rows], b[found.columns])
    return mutual_nearest(rest[:_SCORED] @ turn.astype(np.float32), b[: 2 * _SCORED])


def _shuffled(vectors: Vectors, rng: np.random.Generator) -> Vectors:
    mean = vectors.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(vectors, rowvar=False).reshape(len(mean), len(mean)))
    axes = axes.astype(np.float32)
    return unit32(rng.permuted((vectors - mean) @ axes, axis=0) @ axes.T + mean)


def _by_chance(a: Vectors, b: Vectors, rng: np.random.Generator) -> NDArray[np.float64]:
    turn: NDArray[np.float64] = np.linalg.qr(rng.normal(size=(a.shape[1], a.shape[1])))[0]
    few_a, few_b = a[: 2 * _SCORED], b[: 2 * _SCORED]
    for keep in _KEEP:
        for _ in range(_ROUNDS):
            found = drop_out(few_a @ turn.astype(np.float32), few_b, keep, rng)
            turn = rotation(few_a[found.rows], few_b[found.columns])
    for _ in range(_REFINED):
        found = mutual_nearest(a @ turn.astype(np.float32), b)
        turn = rotation(a[found.rows], b[found.columns])
    return turn
