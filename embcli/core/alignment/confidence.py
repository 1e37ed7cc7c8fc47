"""Whether a map that was fitted without pairs is to be believed, told without pairs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.induction import drop_out, mutual_nearest
from embcli.core.alignment.procrustes import rotation
from embcli.core.cosine import unit32
from embcli.core.maps import Map

_SAMPLE = 1500
_CONTROLS = 2
_KEEP = (0.1, 0.2, 0.4, 0.8, 1.0)
_ROUNDS = 6
_RELIABLE = 1.25


class Confidence(NamedTuple):
    """How much better a map fits than chance would.

    Attributes
    ----------
    score : float
        Mean CSLS of the mutual nearest neighbours under the map.
    share : float
        How many of the vectors looked at have one, in the smaller set.
    control : float
        The greatest score among the controls: the same source, and targets in which nothing
        corresponds to it, aligned as well as they can be.
    vectors : int
        How many were looked at, in the smaller set.
    """

    score: float
    share: float
    control: float
    vectors: int

    @property
    def ratio(self) -> float:
        """The score over that of the controls: about 1, or less, if nothing was found."""
        return self.score / self.control if self.control > 0 else np.inf * np.sign(self.score)

    @property
    def reliable(self) -> bool:
        """Whether chance would not have done as well by far."""
        return self.ratio >= _RELIABLE


def confidence(pairs: Pairs, map: Map, *, seed: int = 0, sample: int = _SAMPLE) -> Confidence:
    """Compare a map with what can be fitted where there is nothing to be found.

    Parameters
    ----------
    pairs : Pairs
        Its pairs are not looked at.
    map : Map
        Any, wherever it came from.
    seed : int
        Of the controls.
    sample : int
        How many vectors of each side are looked at; the first, see
        `embcli.core.alignment.refinement.learn_from_itself`.

    Notes
    -----
    A control is the target with each principal component shuffled by itself, where it is compared:
    the spread stays, and what belongs together is lost. Self-learning rotates the source onto it,
    from a random rotation. The ratio tells a map that is right from one that is wrong; how many
    words it gets right, it does not tell, nor does it see two halves of a space exchanged that
    mirror each other.
    """
    a = unit32(map.source.apply(pairs.source[:sample]))
    b = unit32(map.target.apply(pairs.target[:sample]))
    found = mutual_nearest(a, b)
    rng = np.random.default_rng(seed)
    controls = [_best_by_chance(a, _shuffled(b, rng), rng) for _ in range(_CONTROLS)]
    count = min(len(a), len(b))
    return Confidence(found.score, len(found.rows) / count, max(controls), count)


def _shuffled(vectors: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    mean = vectors.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(vectors, rowvar=False).reshape(len(mean), len(mean)))
    return unit32(rng.permuted((vectors - mean) @ axes, axis=0) @ axes.T + mean)


def _best_by_chance(
    a: NDArray[np.float32], b: NDArray[np.float32], rng: np.random.Generator
) -> float:
    turn, _ = np.linalg.qr(rng.normal(size=(a.shape[1], a.shape[1])))
    for keep in _KEEP:
        for _ in range(_ROUNDS):
            found = drop_out(a @ turn.astype(np.float32), b, keep, rng)
            turn = rotation(a[found.rows], b[found.columns])
    return mutual_nearest(a @ turn.astype(np.float32), b).score
