"""How alike the spaces of two collections are, by the records that both have."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_DB
from embcli.core import space_similarity as similarity
from embcli.errors import InputError, ModelError, UsageError, counted
from embcli.pipelines.memory import NEEDS, ask
from embcli.pipelines.pairwise import Note, note_means
from embcli.store import Collection, Store

Advance = Callable[[int, int, int], None]
Vectors = NDArray[np.float32]

# The cubic measure is made of so many records at most.
MATCHED = 500
# Of more records, the matrices of all pairs would not fit an ordinary machine's memory.
LARGEST = 10_000


@dataclass(frozen=True)
class Figure:
    """A measure of how alike two spaces are.

    Attributes
    ----------
    measure : str
    value : float, optional
        None where it is not defined: all vectors of a side are equal.
    meaning : str
        What the value says, in a few words.
    records : int
        How many it is made of.
    """

    measure: str
    value: float | None
    meaning: str
    records: int


@dataclass(frozen=True)
class _Measure:
    """How a figure is made: of all records, or of as many as are asked for, `most` at most."""

    meaning: str
    compute: Callable[[Vectors, Vectors, int], float]
    linear: bool = False
    most: int = LARGEST


MEASURES = {
    "cka": _Measure(
        "1: the same up to rotation and scale",
        lambda a, b, k: similarity.linear_cka(a, b),
        linear=True,
    ),
    "cka-debiased": _Measure(
        "the same; 0: nothing in common",
        lambda a, b, k: similarity.linear_cka(a, b, debiased=True),
        linear=True,
    ),
    "rsa": _Measure(
        "rank correlation of all cosines within A with those within B",
        lambda a, b, k: similarity.rsa(a, b)[0],
    ),
    "rsa-pearson": _Measure(
        "linear correlation of the same",
        lambda a, b, k: similarity.rsa(a, b)[1],
    ),
    "neighbours": _Measure(
        "share of the {k} nearest in A that are among the {k} nearest in B; {chance} by chance",
        similarity.neighbour_overlap,
    ),
    "eigenvectors": _Measure(
        "difference of the spectra of {k}-nearest-neighbour graphs; 0: of one form",
        similarity.eigenvector_similarity,
    ),
    "gromov-wasserstein": _Measure(
        "difference of distances under the best coupling; 0: of one form",
        lambda a, b, k: similarity.gromov_wasserstein(a, b),
        most=MATCHED,
    ),
}


def align_distance(
    a: str,
    b: str,
    *,
    measures: Sequence[str] = (),
    neighbours: int = 10,
    sample: int = 2000,
    seed: int = 0,
    db: str | os.PathLike[str] = DEFAULT_DB,
    db_b: str | os.PathLike[str] | None = None,
    note: Note = lambda message: None,
    advance: Advance = lambda done, total, count: None,
) -> list[Figure]:
    """Compare the spaces of two collections, without a map, by the records with the same ids.

    Parameters
    ----------
    a, b : str
        Collections. Their dimensions may differ.
    measures : sequence of str
        Some of `MEASURES`; by default all there are packages for.
    neighbours : int
        How many neighbours ``neighbours`` and ``eigenvectors`` look at.
    sample : int
        Of more records, those measures that compare every record with every other get so many,
        drawn at random; ``gromov-wasserstein`` gets 500 at most. CKA is made of all records.
    seed : int
    db : path
    db_b : path, optional
        The store of B, if it is another.
    note, advance : callable
        Told what a user should know, and how many of the measures are done.

    Raises
    ------
    UsageError
        There is no such measure, or the sample is not of 5 to 10,000 records.
    InputError
        Too few records are in both.
    ModelError
        A measure was asked for whose package is not installed.
    StoreError
    """
    if not similarity.FEWEST <= sample <= LARGEST:
        raise UsageError(
            f"--sample must lie between {similarity.FEWEST} and {LARGEST:,}, not be {sample:,}"
        )
    for name in measures:
        if name not in MEASURES:
            raise UsageError(f"no measure {name!r} (there are: {', '.join(MEASURES)})")
    chosen = list(dict.fromkeys(measures)) or _available(note)
    if "gromov-wasserstein" in chosen and find_spec("ot") is None:
        raise ModelError(
            "the Gromov–Wasserstein distance takes POT, which is not installed",
            hint="pip install 'embcli[align]'",
        )
    left, right = _shared(a, b, db, db if db_b is None else db_b, note)
    n = len(left)
    order = np.random.default_rng(seed).permutation(n)
    if n > sample and not all(MEASURES[name].linear for name in chosen):
        note(
            f"measures that compare every record with every other are made of {sample:,} of "
            f"{n:,} records, seed {seed}; --sample takes more"
        )
    if "gromov-wasserstein" in chosen and min(n, sample) > MATCHED:
        note(f"gromov-wasserstein is made of {MATCHED:,} of {n:,} records, seed {seed}")
    figures = []
    for number, name in enumerate(chosen):
        measure = MEASURES[name]
        count = n if measure.linear else min(n, sample, measure.most)
        part = np.sort(order[:count])
        value = measure.compute(left[part], right[part], neighbours)
        meaning = measure.meaning.format(
            k=neighbours, chance=f"{neighbours / max(count - 1, 1):.3g}"
        )
        # What is left of an exact 0 or 1 is rounding.
        shown = None if np.isnan(value) else round(value, 6)
        figures.append(Figure(name, shown, meaning, count))
        advance(number + 1, len(chosen), number + 1)
    return figures


def _available(note: Note) -> list[str]:
    if find_spec("ot") is not None:
        return list(MEASURES)
    note("without the Gromov–Wasserstein distance, which takes POT: pip install 'embcli[align]'")
    return [name for name in MEASURES if name != "gromov-wasserstein"]


def _shared(
    a: str, b: str, db: str | os.PathLike[str], db_b: str | os.PathLike[str], note: Note
) -> tuple[Vectors, Vectors]:
    """Fetch the vectors of the records that both have, in the order of their ids."""
    with ExitStack() as stack:
        sides: list[tuple[Collection, dict[str, int], Vectors]] = []
        for name, path in ((a, db), (b, db_b)):
            store = stack.enter_context(Store(path, readonly=True))
            stack.enter_context(store.snapshot())
            source = store.collection(name)
            note_means(source, note)
            ask([(len(source), source.recipe.dim)], NEEDS["align"].of(source), note)
            keys, vectors = source.matrix()
            named = source.ids_by_key(keys.tolist())
            sides.append((source, {named[key]: i for i, key in enumerate(keys.tolist())}, vectors))
    ids = sorted(sides[0][1].keys() & sides[1][1].keys())
    if len(ids) < similarity.FEWEST:
        raise InputError(
            f"collections {a!r} ({Path(db).name}, {counted(len(sides[0][1]), 'record')}) and "
            f"{b!r} ({Path(db_b).name}, {len(sides[1][1]):,}) have "
            f"{counted(len(ids), 'id')} in common: comparing their spaces takes at least "
            f"{similarity.FEWEST}",
            hint="encode the same files into both: embcli encode FILES -m MODEL -c NAME",
        )
    left, right = (vectors[[at[id] for id in ids]] for _, at, vectors in sides)
    return left, right
