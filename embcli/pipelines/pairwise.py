"""What commands that compare every record with every other have in common."""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embcli.store import Collection

Advance = Callable[[int, int, int], None]
Note = Callable[[str], None]

_LOOK_AFTER = 2.0
_WORTH_SAYING = 60.0
_COLUMNS = 32


def announced(
    advance: Advance, note: Note, what: str, clock: Callable[[], float] = time.monotonic
) -> Advance:
    """Say once how long it will take, if that is more than a minute; then go on as `advance`."""
    began = clock()
    said = False

    def estimate(done: int, total: int, count: int) -> None:
        nonlocal said
        elapsed = clock() - began
        if not said and done and elapsed >= _LOOK_AFTER:
            said = True
            expected = elapsed * total / done
            if expected > _WORTH_SAYING:
                note(f"{what}: about {_duration(expected)}")
        advance(done, total, count)

    return estimate


def note_means(collection: Collection, note: Note) -> None:
    """Say what stands for a record whose text was cut into chunks."""
    if collection.chunking is not None:
        note(f"{collection.name!r} keeps chunks: the mean of its chunks stands for a record")


def reorder(vectors: NDArray[np.float32], order: NDArray[np.int64]) -> None:
    """Put rows into another order in place, some columns at a time: no copy of gigabytes."""
    for start in range(0, vectors.shape[1], _COLUMNS):
        columns = vectors[:, start : start + _COLUMNS]
        columns[:] = columns[order]


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
