"""Whether a map that was fitted without pairs is to be believed, told without pairs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.induction import KEEP, Dictionary, drop_out, mutual_nearest
from embcli.core.alignment.procrustes import rotation
from embcli.core.cosine import unit32
from embcli.core.maps import Map

Vectors = NDArray[np.float32]
Turn = NDArray[np.float64]

_FITTED = 5000
_SCORED = 750
_CONTROLS = 2
_ROUNDS = 3
_REFINED = 4
_RELIABLE = 1.3
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
    the spread stays, and what belongs together is lost. Self-learning rotates half of the source
    onto it, from a random rotation. The map is refined with the same half, so that it forgets what
    it owes to the other; and both are scored by that other half, because in many dimensions
    anything can be fitted to the vectors that it is fitted to.

    The first 5,000 vectors of each side are looked at, the first 750 of the other half being
    matched with 1,500. Right maps had ratios of 1.5 (sentences, 256 components) and 2.5 (words,
    50), wrong ones of 0.9, noise aligned with noise 1.15; the line is drawn at 1.3. The ratio tells
    a right map from a wrong one; how many words it gets right, it does not tell.
    """
    a = unit32(map.source.apply(pairs.source[:_FITTED]))
    b = unit32(map.target.apply(pairs.target[:_FITTED]))
    half, rest = a[::2], a[1::2][:_SCORED]
    found = _scored(rest, b, _refined(half, b, np.eye(a.shape[1]), _REFINED))
    rng = np.random.default_rng(seed)
    controls = []
    for _ in range(_CONTROLS):
        other = _shuffled(b, rng)
        turn = _refined(half, other, _by_chance(half, other, rng), 1)
        controls.append(_scored(rest, other, turn).score)
    count = min(len(rest), len(b))
    chance = max(controls)
    ratio = found.score / max(chance, _LEAST)
    share = len(found.rows) / count
    return Confidence(found.score, share, chance, count, ratio, ratio >= _RELIABLE)


def _refined(a: Vectors, b: Vectors, turn: Turn, rounds: int) -> Turn:
    for _ in range(rounds):
        found = mutual_nearest(a @ turn.astype(np.float32), b)
        turn = rotation(a[found.rows], b[found.columns])
    return turn


def _scored(a: Vectors, b: Vectors, turn: Turn) -> Dictionary:
    return mutual_nearest(a @ turn.astype(np.float32), b[: 2 * _SCORED])


def _shuffled(vectors: Vectors, rng: np.random.Generator) -> Vectors:
    mean = vectors.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(vectors, rowvar=False).reshape(len(mean), len(mean)))
    axes = axes.astype(np.float32)
    return unit32(rng.permuted((vectors - mean) @ axes, axis=0) @ axes.T + mean)


def _by_chance(a: Vectors, b: Vectors, rng: np.random.Generator) -> Turn:
    turn: Turn = np.linalg.qr(rng.normal(size=(a.shape[1], a.shape[1])))[0]
    few_a, few_b = a[:_SCORED], b[: 2 * _SCORED]
    for keep in KEEP:
        for _ in range(_ROUNDS):
            found = drop_out(few_a @ turn.astype(np.float32), few_b, keep, rng)
            turn = rotation(few_a[found.rows], few_b[found.columns])
    return turn
