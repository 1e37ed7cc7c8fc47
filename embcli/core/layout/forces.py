"""The moves of UMAP, compiled by Numba; to be imported inside functions only."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

# Of one coordinate in one move.
_FURTHEST = np.float32(4)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@numba.njit(inline="always")
def _clipped(move: Any) -> Any:
    return min(max(move, -_FURTHEST), _FURTHEST)


@numba.njit(inline="always")
def _mixed(state: Any) -> Any:
    """Scatter the bits of a counter (SplitMix64)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _move(  # pragma: no cover (Numba compiles it: Python does not go through it)
    moving: NDArray[np.float32],
    fixed: NDArray[np.float32],
    starts: NDArray[np.int64],
    others: NDArray[np.int32],
    shares: NDArray[np.float32],
    keys: NDArray[np.int64],
    epoch: int,
    step: Any,
    a: Any,
    b: Any,
    pushes: int,
    seed: int,
) -> None:
    """Move every row of `moving` along its edges, and away from rows drawn at random.

    Rows see the others where they were before: the result depends neither on the order of rows
    nor on the number of threads. The draws of a row depend on `seed`, `epoch` and its key.
    """
    n, dim = moving.shape
    count = np.uint64(len(fixed))
    a, b, step = np.float32(a), np.float32(b), np.float32(step)
    for row in numba.prange(n):
        state: Any = _mixed(
            np.uint64(seed) + _mixed((np.uint64(keys[row]) << np.uint64(24)) + np.uint64(epoch))
        )
        here = moving[row]
        for edge in range(starts[row], starts[row + 1]):
            share = shares[edge]
            # As often as the edge is strong.
            if np.floor((epoch + 1) * share) == np.floor(epoch * share):
                continue
            other = fixed[others[edge]]
            square = np.float32(0)
            for axis in range(dim):
                square += (here[axis] - other[axis]) ** 2
            if square > 0:
                power = square**b
                pull = -2 * a * b * power / (square * (a * power + 1))
                for axis in range(dim):
                    here[axis] += step * _clipped(pull * (here[axis] - other[axis]))
            for _ in range(pushes):
                state += _GOLDEN
                drawn = ((_mixed(state) >> np.uint64(32)) * count) >> np.uint64(32)
                other = fixed[drawn]
                square = np.float32(0)
                for axis in range(dim):
                    square += (here[axis] - other[axis]) ** 2
                if square > 0:
                    push = 2 * b / ((np.float32(0.001) + square) * (a * square**b + 1))
                    for axis in range(dim):
                        here[axis] += step * _clipped(push * (here[axis] - other[axis]))


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a function, and keep what comes out for later processes where there is a place."""
    compiled: Callable[..., None]
    try:
        compiled = numba.njit(function, parallel=True, fastmath=True, cache=True)
    except RuntimeError:  # no folder that can be written
        compiled = numba.njit(function, parallel=True, fastmath=True)
    return compiled


move = _compiled(_move)
