"""Ridge regression on radial basis functions: one side is bent into the space of the other."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.cca import mean_of, whitening
from embcli.core.maps import Linear, Map, Residual, Shift, Transform, Unit
from embcli.errors import InputError, UsageError

_ROWS = 4096
_SAMPLE = 2000
_FEWEST = 10
_HELD_OUT = 10  # one pair in so many
_STEP = 10**0.5
_STEPS = 8

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


def rbf(
    pairs: Pairs,
    *,
    toward: str = "source",
    units: int = 4096,
    active: float = 0.05,
    whiten: float = 0.1,
    whiten_moved: float = 0.25,
    regularization: float | str = "auto",
    seed: int = 0,
) -> Map:
    """Bend one side into the space of the other by a network of radial basis functions.

    Both sides are scaled to unit length, centred, and partly whitened. What moves becomes
    ``[x, relu(x @ centres - thresholds)]``, and ridge regression leads from there to the other
    side. The centres are vectors of pairs themselves; as all lengths are 1, a unit's value falls
    with the squared distance from its centre until it is 0.

    Where an old model's vectors are searched with a new and better one's, it is the old side that
    should move, toward the new model's space: the query keeps all that it knows, and what the
    old vectors say of the new ones is not all linear.

    Parameters
    ----------
    pairs : Pairs
        At least ten, of any numbers of components.
    toward : {"source", "target"}
        Whose space the vectors are compared in; the other side moves.
    units : int
        How many centres; all vectors of pairs if these are fewer.
    active : float
        Share of vectors for which a unit is not 0, between 0 and 1.
    whiten, whiten_moved : float
        How much of the differences in variance to take away, on the side that stays and on the
        one that moves: 0 none, 0.5 all of them.
    regularization : float or "auto"
        The ridge, or "auto": that of the powers of √10 with the greatest mean cosine on a tenth
        of the pairs, which are held out for that.
    seed : int
        Of centres and held-out pairs.

    Returns
    -------
    map : Map
        Two-sided.

    Raises
    ------
    InputError
        Too few pairs, or too few different vectors in them on the side that moves.
    UsageError
        An option is out of range.

    Notes
    -----
    O(n · (dim + units)²) in float32, a block of rows at a time, then some systems of equations in
    float64 of dim + units unknowns. The defaults were chosen on sentences of multi30k (val).

    References
    ----------
    D. S. Broomhead, D. Lowe. Multivariable functional interpolation and adaptive networks. Complex
    Systems 1988. There the functions are Gaussians and nothing is penalised; here they are
    parabolas cut off at 0, which a hidden layer of rectifiers is on the sphere. Leading stored
    vectors forward instead of queries back: V. Ramanujan, P. K. A. Vasu, A. Farhadi, O. Tuzel,
    H. Pouransari. Forward compatible training for large-scale embedding retrieval systems. CVPR
    2022, where something is stored beside old vectors for that end; here there is nothing.
    """
    if toward not in ("source", "target"):
        raise UsageError(f"toward is source or target, not {toward!r}")
    if units < 1 or not 0 < active < 1:
        raise UsageError("units must be at least 1, and active between 0 and 1")
    if not (0 <= whiten <= 1 and 0 <= whiten_moved <= 1):
        raise UsageError("whiten and whiten_moved are powers from 0 to 1")
    pairs.require(_FEWEST, "rbf", "procrustes works with fewer")
    ridge = _ridge(regularization)
    sides = [(pairs.source, pairs.rows), (pairs.target, pairs.columns)]
    (fixed, wanted), (moved, given) = sides if toward == "source" else sides[::-1]
    if (distinct := len(np.unique(given))) < _FEWEST:
        raise InputError(
            f"rbf needs at least {_FEWEST} different vectors to move, and the pairs have "
            f"{distinct}: procrustes works with fewer"
        )
    rng = np.random.default_rng(seed)
    there = _whitened(fixed[wanted], whiten)
    here = _whitened(moved[given], whiten_moved).then(Transform.of(Unit()))
    goals = Unit().apply(there.apply(fixed[wanted]))
    rows = here.apply(moved[given])
    network = _Network.of(rows[_first_of_each(given)], units, active, rng)
    weights = _fitted(network, rows, goals, _held_out(given, rng), ridge)
    bent = here.then(network.steps(weights))
    return Map(there, bent) if toward == "source" else Map(bent, there)


class _Network(NamedTuple):
    """The hidden layer: centres, shape (units, dim), thresholds and what values are scaled by."""

    centres: Singles
    thresholds: Singles
    scale: np.float32

    @classmethod
    def of(
        cls, vectors: Singles, units: int, active: float, rng: np.random.Generator
    ) -> "_Network":
        centres = vectors[rng.permutation(len(vectors))[:units]]
        sample = vectors[rng.permutation(len(vectors))[:_SAMPLE]]
        thresholds = np.concatenate(
            [
                np.quantile(centres[start : start + _ROWS] @ sample.T, 1 - active, axis=1)
                for start in range(0, len(centres), _ROWS)
            ]
        ).astype(np.float32)
        bare = cls(centres, thresholds, np.float32(1))
        # Together the units are as long as what enters them, so that one ridge suits both.
        power = float((bare.hidden(sample) ** 2).sum(axis=1).mean())
        return bare._replace(scale=np.float32(1 / np.sqrt(power) if power > 0 else 1))

    def hidden(self, rows: Singles) -> Singles:
        values: Singles = np.maximum(rows @ self.centres.T - self.thresholds, 0) * self.scale
        return values

    def features(self, rows: Singles) -> Singles:
        return np.hstack([rows, self.hidden(rows)])

    def steps(self, weights: Floats) -> Transform:
        """Say it in steps: room for the results beside what enters, both added at the end."""
        dim, units = self.centres.shape[1], len(self.centres)
        out = weights.shape[1]
        inner = np.vstack([self.centres.T, np.zeros((out, units))]).astype(np.float64)
        outer = np.hstack([np.zeros((units, dim)), weights[dim:] * float(self.scale)])
        return Transform.of(
            Linear(np.eye(dim, dim + out)),
            Residual(inner, -self.thresholds.astype(np.float64), outer),
            Linear(np.vstack([weights[:dim], np.eye(out)])),
        )


def _whitened(vectors: Singles, share: float) -> Transform:
    rows = Unit().apply(vectors)
    steps = Transform.of(Unit(), Shift(-mean_of(rows)))
    return steps.then(Transform.of(Linear(whitening(rows, power=-share))))


def _first_of_each(given: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(given, return_index=True)[1]


def _held_out(given: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose pairs to hold out: all of a vector, or none."""
    each, which = np.unique(given, return_inverse=True)
    chosen = np.zeros(len(each), bool)
    chosen[rng.permutation(len(each))[: max(1, len(each) // _HELD_OUT)]] = True
    return chosen[which]


def _fitted(
    network: _Network, rows: Singles, goals: Singles, held_out: NDArray[np.bool_], ridge: float
) -> Floats:
    """Fit the output layer, shape (dim + units, dim_out)."""
    aside, wanted = rows[held_out], goals[held_out]
    squares, crossed = _normal_equations(network, rows[~held_out], goals[~held_out])

    def cosine(ridge: float) -> float:
        weights = _solved(squares, crossed, ridge).astype(np.float32)
        total = 0.0
        for start in range(0, len(aside), _ROWS):
            part = slice(start, start + _ROWS)
            made = Unit().apply(network.features(aside[part]) @ weights)
            total += float(np.vdot(made, wanted[part]))
        return total

    ridge = ridge or _climbed(cosine)
    more = _normal_equations(network, aside, wanted)
    return _solved(squares + more[0], crossed + more[1], ridge)


def _climbed(value: Callable[[float], float]) -> float:
    """Go from 1 up or down by √10 as long as that is better."""
    found = {exponent: value(_STEP**exponent) for exponent in (0, 1)}
    step = 1 if found[1] > found[0] else -1
    at = max(0, step)
    while abs(at + step) <= _STEPS:
        found[at + step] = value(_STEP ** (at + step))
        if found[at + step] <= found[at]:
            break
        at += step
    return float(_STEP**at)


def _normal_equations(network: _Network, rows: Singles, goals: Singles) -> tuple[Floats, Floats]:
    size = rows.shape[1] + len(network.centres)
    squares = np.zeros((size, size), np.float32)
    crossed = np.zeros((size, goals.shape[1]), np.float32)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        features = network.features(rows[part])
        squares += features.T @ features
        crossed += features.T @ goals[part]
    return squares.astype(np.float64), crossed.astype(np.float64)


def _solved(squares: Floats, crossed: Floats, ridge: float) -> Floats:
    return np.asarray(np.linalg.solve(squares + ridge * np.eye(len(squares)), crossed), np.float64)


def _ridge(regularization: float | str) -> float:
    """Read the ridge; 0 if it is to be found."""
    if regularization == "auto":
        return 0.0
    try:
        ridge = float(regularization)
    except ValueError:
        ridge = -1.0
    if not 0 < ridge < np.inf:
        raise UsageError(f"regularization is auto or a number above 0, not {regularization!r}")
    return ridge
