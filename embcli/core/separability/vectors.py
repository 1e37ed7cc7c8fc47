"""What every measure of a space asks of its vectors, and samples of them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embcli.errors import InputError, UsageError, counted

Vectors = NDArray[np.floating]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEWEST = 3
# How many vectors a measure of all pairs takes at most, unless told otherwise.
SAMPLE = 10_000
# So many rows are looked at in float64 at once.
_ROWS = 1 << 12


def check_vectors(vectors: Vectors, *, directions: bool = True, fewest: int = FEWEST) -> None:
    """Raise `InputError` unless there are enough vectors, all finite and, if wanted, not zeros."""
    if vectors.ndim != 2 or len(vectors) < fewest:
        count = len(vectors) if vectors.ndim == 2 else 0
        are = "is" if fewest == 1 else "are"
        raise InputError(f"{counted(count, 'vector')}: at least {fewest} {are} needed")
    for part in parts(len(vectors)):
        block = vectors[part]
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            row = part.start + np.argmin(finite)
            raise InputError(f"vector {row} has a number that is not finite")
        if directions and not (some := block.any(axis=1)).all():
            row = part.start + np.argmin(some)
            raise InputError(f"vector {row} is zeros only and has no direction")


def parts(n: int, rows: int = _ROWS) -> Iterator[slice]:
    """Cut n rows into slices that are small enough to be looked at in float64."""
    for start in range(0, n, rows):
        yield slice(start, min(start + rows, n))


def sampled(n: int, sample: int, seed: int, *, fewest: int = FEWEST) -> Ints:
    """Draw `sample` of n rows without replacement, or take all if there are no more.

    Returns
    -------
    rows : int64 array, shape (min(n, sample),)
        In rising order.

    Raises
    ------
    UsageError
        `sample` is below `fewest`.
    """
    if sample < fewest:
        raise UsageError(f"a sample of {sample} is too small: at least {fewest} are needed")
    if n <= sample:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, sample, replace=False))
