"""What is done to the vectors of both sides before a map is fitted, and is part of the map."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.maps import Map, Shift, Step, Transform, Unit
from embcli.errors import InputError, UsageError, counted

STEPS = ("unit", "center")


class Prepared(NamedTuple):
    """Normalised vectors, and how they became so.

    Attributes
    ----------
    pairs : Pairs
        Its vectors in float32, normalised.
    source, target : Transform
        What normalised them.
    """

    pairs: Pairs
    source: Transform
    target: Transform

    def finished(self, map: Map) -> Map:
        """Put what normalises before a map that was fitted to normalised vectors."""
        target = self.target.then(map.target)
        if all(isinstance(step, Unit) for step in target.steps):
            target = Transform()  # lengths make no difference to cosines
        return Map(self.source.then(map.source), target)


def prepared(pairs: Pairs, steps: str) -> Prepared:
    """Normalise both sides, each by itself.

    Parameters
    ----------
    pairs : Pairs
    steps : str
        Names of steps, separated by commas, in their order: ``unit`` scales rows to length 1,
        ``center`` takes the mean of all rows away; "none" does nothing. VecMap's and Artetxe et
        al.'s is ``unit,center,unit``.

    Raises
    ------
    UsageError
        There is no such step.
    InputError
        They make nothing but zeros of a side.

    References
    ----------
    M. Artetxe, G. Labaka, E. Agirre. Learning principled bilingual mappings of word embeddings
    while preserving monolingual invariance. EMNLP 2016.
    """
    names = [] if steps == "none" else [name.strip() for name in steps.split(",")]
    for name in names:
        if name not in STEPS:
            raise UsageError(f"no normalization {name!r} (there are: {', '.join(STEPS)}, none)")
    source, rows = _normalized(pairs.source, names)
    target, columns = _normalized(pairs.target, names)
    for side, vectors in (("source", rows), ("target", columns)):
        if not vectors.any():
            raise InputError(
                f"nothing is left of the {side} ({counted(len(vectors), 'vector')}): its vectors "
                "are all the same, or zeros"
            )
    return Prepared(pairs._replace(source=rows, target=columns), source, target)


def _normalized(
    vectors: NDArray[np.float32], names: list[str]
) -> tuple[Transform, NDArray[np.float32]]:
    steps: list[Step] = []
    for name in names:
        step = Unit() if name == "unit" else Shift(-vectors.mean(axis=0, dtype=np.float64))
        vectors = step.apply(vectors).astype(np.float32, copy=False)
        steps.append(step)
    return Transform(tuple(steps)), vectors
