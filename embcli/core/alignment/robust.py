"""Fitting a map to pairs some of which are wrong."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.cosine import pair_cosines
from embcli.core.maps import Map
from embcli.errors import InputError, UsageError, counted

FEWEST = 20
_ROUNDS = 10
_EM_ROUNDS = 500
# Random pairs that show what the cosines of wrong ones look like.
_WRONG = 10_000
# No mixture may have a narrower part, in cosines.
_NARROWEST = 1e-3
_SETTLED = 1e-6


class Robust(NamedTuple):
    """A map, and the pairs it was fitted to.

    Attributes
    ----------
    map : Map
    kept : bool array, shape (n_pairs,)
    right : float64 array, shape (n_pairs,)
        Probability that a pair is right.
    wrong : float
        Estimated share of wrong pairs, in [0, 1].
    """

    map: Map
    kept: NDArray[np.bool_]
    right: NDArray[np.float64]
    wrong: float


def robust(
    pairs: Pairs,
    fit: Callable[[Pairs], Map],
    *,
    trim: float | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Robust:
    """Fit a map, leave out the pairs that it finds wrong, and fit it again, until they stay.

    The cosine of a pair is taken by a map that was fitted without the pair. Wrong pairs look like
    random ones, whose cosines are known; what the cosines of right ones are, and how many are
    wrong, comes of a mixture of two normal distributions, one of which is that of random pairs.

    Parameters
    ----------
    pairs : Pairs
    fit : callable
        A method: takes pairs and gives a map.
    trim : float, optional
        Leave out this share of the pairs, those with the least cosines, instead of those that are
        probably wrong.
    folds : int
        Maps to fit in every round, each without its part of the pairs; 1 fits one to all pairs
        kept, which is faster, and misleads where there are few pairs.
    seed : int

    Returns
    -------
    robust : Robust

    Raises
    ------
    InputError
        Fewer than 20 pairs, or fewer than 20 remain.
    UsageError
        A number is out of its range.

    Notes
    -----
    At most ten rounds. A pair that was left out may come back.

    References
    ----------
    Trimming: P. Rousseeuw. Least median of squares regression. JASA 1984. Mixture with a known
    null: B. Efron. Large-scale simultaneous hypothesis testing. JASA 2004. Applying both to the
    cosines of pairs held out is of no paper.
    """
    _check(pairs, trim, folds)
    rng = np.random.default_rng(seed)
    part = rng.permutation(len(pairs.rows)) % folds
    kept = np.ones(len(pairs.rows), bool)
    for _ in range(_ROUNDS):
        cosines, random = _cosines(pairs, fit, kept, part, rng)
        right, wrong = _right(cosines, random)
        before, kept = kept, right >= 0.5
        if trim is not None:
            kept = np.zeros(len(kept), bool)
            kept[np.argsort(-cosines, kind="stable")[: round((1 - trim) * len(kept))]] = True
        if kept.sum() < FEWEST:
            raise InputError(
                f"of {len(kept):,} pairs only {kept.sum():,} look right, by which no map can be "
                "fitted: the pairs have nothing to do with each other, or the method does not suit"
            )
        if (kept == before).all():
            break
    return Robust(fit(pairs.take(kept)), kept, right, wrong)


def _check(pairs: Pairs, trim: float | None, folds: int) -> None:
    if trim is not None and not 0 <= trim < 1:
        raise UsageError(f"the share to trim must be at least 0 and below 1, not {trim}")
    if folds < 1:
        raise UsageError(f"cannot fit {folds} maps: folds must be at least 1")
    if len(pairs.rows) < FEWEST:
        raise InputError(
            f"telling wrong pairs from right ones takes at least {FEWEST} pairs, and there are "
            f"{counted(len(pairs.rows), 'pair')}"
        )


def _cosines(
    pairs: Pairs,
    fit: Callable[[Pairs], Map],
    kept: NDArray[np.bool_],
    part: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compare the sides of every pair, and of random ones, by maps fitted to other pairs."""
    cosines, random = np.empty(len(part)), []
    folds = int(part.max()) + 1
    for fold in range(folds):
        own = np.flatnonzero(part == fold)
        map = fit(pairs.take(kept & (part != fold) if folds > 1 else kept))
        source = map.source.apply(pairs.source[pairs.rows[own]])
        target = map.target.apply(pairs.target[pairs.columns[own]])
        cosines[own] = pair_cosines(source, target, np.arange(len(own)), np.arange(len(own)))
        some = rng.integers(0, len(own), (2, -(-_WRONG // folds)))
        some = some[:, pairs.columns[own[some[0]]] != pairs.columns[own[some[1]]]]
        random.append(pair_cosines(source, target, *some))
    return cosines, np.concatenate(random)


def _right(
    cosines: NDArray[np.float64], random: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Tell how probably pairs are right, and the share of those that are not.

    Expectation and maximisation; the part of the wrong ones stays as it is.
    """
    center, width = float(random.mean()), max(float(random.std()), _NARROWEST)
    null = _density(cosines, center, width)
    right = (cosines > np.median(cosines)).astype(float)
    order = np.argsort(cosines)
    share = -1.0
    for _ in range(_EM_ROUNDS):
        before, share = share, float(right.mean())
        if abs(share - before) < _SETTLED:
            break
        total = max(right.sum(), 1e-9)
        mean = float(right @ cosines / total)
        spread = max(float(np.sqrt(right @ (cosines - mean) ** 2 / total)), _NARROWEST)
        good = share * _density(cosines, mean, spread)
        bad = (1 - share) * null
        right = np.divide(good, good + bad, out=np.zeros_like(good), where=good + bad > 0)
        # Far out the wider of two normal distributions wins: a greater cosine is no worse.
        right[cosines <= center] = 0
        right[order] = np.maximum.accumulate(right[order])
    return right, 1 - share


def _density(values: NDArray[np.float64], mean: float, width: float) -> NDArray[np.float64]:
    density: NDArray[np.float64] = np.exp(-0.5 * ((values - mean) / width) ** 2) / width
    return density
