"""The two collections that are aligned, and which of their records belong together."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.separability.vectors import parts
from embcli.encoders.recipe import Recipe
from embcli.errors import InputError, UsageError, counted
from embcli.formats import Problem
from embcli.formats.pairs import NamedPair, read_pairs
from embcli.pipelines.memory import HELD, NEEDS, Need, ask
from embcli.pipelines.pairwise import Note, note_means
from embcli.store import Collection, Store

# What `--pairs` takes besides files.
IDS, TEXTS, NONE = "ids", "texts", "none"


@dataclass(frozen=True, eq=False)
class Side:
    """The records of one collection, in the order stored.

    Attributes
    ----------
    collection : Collection
    keys : int64 array, shape (n,)
    vectors : float32 array, shape (n, dim)
    """

    collection: Collection
    keys: NDArray[np.int64]
    vectors: NDArray[np.float32]

    @classmethod
    def load(
        cls,
        collection: Collection,
        note: Note = lambda message: None,
        wanted: NDArray[np.bool_] | None = None,
        *,
        need: Need | None = HELD,
        option: str | None = None,
    ) -> "Side":
        """Read a collection, whole or some of its records.

        Parameters
        ----------
        collection : Collection
        note : callable
        wanted : bool array, optional
            See `Collection.filter`; no others are read.
        need : Need, optional
            What memory is asked for before; if None, that was done.
        option : str, optional
            As of `embcli.pipelines.memory.ask`.

        Raises
        ------
        UsageError
            It has a vector for every token, or there is not enough memory.
        InputError
            It is empty, or a vector has a component that is no finite number.
        """
        check_whole(collection)
        note_means(collection, note)
        if need is not None:
            n = len(collection) if wanted is None else int(wanted.sum())
            ask([(n, collection.recipe.dim)], need.of(collection), note, option=option)
        keys, vectors = collection.matrix(wanted)
        finite = [np.isfinite(vectors[part]).all(axis=1) for part in parts(len(keys))]
        bad = np.flatnonzero(~np.concatenate([np.empty(0, np.bool_), *finite]))
        if len(bad):
            id = collection.ids_by_key([int(keys[bad[0]])])[int(keys[bad[0]])]
            raise InputError(
                f"collection {collection.name!r}: {counted(len(bad), 'vector')} with components "
                f"that are not finite, the first that of {id!r}",
                hint="import them again without",
            )
        return cls(collection, keys, vectors)

    @property
    def name(self) -> str:
        """The collection's name."""
        return self.collection.name

    @property
    def recipe(self) -> Recipe:
        """The space."""
        return self.collection.recipe

    @cached_property
    def ids(self) -> list[str]:
        """The id of every row."""
        names = self.collection.names()
        return [names[key] for key in self.keys.tolist()]

    @cached_property
    def row_of_id(self) -> dict[str, int]:
        """The row of every id."""
        return {id: row for row, id in enumerate(self.ids)}

    @cached_property
    def row_of_text(self) -> dict[str, int]:
        """The row of every text; of equal ones the first."""
        rows: dict[str, int] = {}
        for row, record in enumerate(self.collection.records()):
            rows.setdefault(record.text, row)
        return rows

    def rows(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Find rows by id, or else by text; -1 for what is not there. Shape (len(names),)."""
        found = [self.row_of_id.get(name, -1) for name in names]
        if -1 in found:
            found = [
                self.row_of_text.get(name, -1) if row < 0 else row
                for name, row in zip(names, found, strict=True)
            ]
        return np.array(found, np.int64)


def check_whole(collection: Collection) -> None:
    """Refuse a collection that has no record, or more than one vector of each.

    Raises
    ------
    UsageError, InputError
    """
    if collection.recipe.multivector:
        raise UsageError(
            f"collection {collection.name!r} has a vector for every token: maps are fitted to "
            "one vector a record",
            hint="embcli encode without --pooling none",
        )
    if not len(collection):
        raise InputError(f"collection {collection.name!r} is empty", hint="embcli encode FILE")


@dataclass(frozen=True, eq=False)
class Paired:
    """Pairs of rows, and where they come from.

    Attributes
    ----------
    pairs : Pairs
    origin : str
        The file, "ids", "texts" or "none".
    given : int
        How many pairs there were, with those whose things are not in the collections.
    sources : int
        How many different sources these had.
    """

    pairs: Pairs
    origin: str
    given: int
    sources: int

    @property
    def count(self) -> int:
        """How many pairs both collections have."""
        return len(self.pairs.rows)

    @property
    def covered(self) -> int:
        """How many different sources these have."""
        return len(np.unique(self.pairs.rows))


@contextmanager
def open_sides(
    source: str,
    target: str,
    *,
    db: str | os.PathLike[str],
    db_b: str | os.PathLike[str] | None = None,
    note: Note = lambda message: None,
) -> Iterator[tuple[Side, Side]]:
    """Read two collections within one snapshot each; they stay open in the block."""
    with ExitStack() as stack:
        store = stack.enter_context(Store(db, readonly=True))
        stack.enter_context(store.snapshot())
        other = store
        if db_b is not None and os.path.realpath(db_b) != os.path.realpath(db):
            other = stack.enter_context(Store(db_b, readonly=True))
            stack.enter_context(other.snapshot())
        a, b = store.collection(source), other.collection(target)
        for each in (a, b):
            check_whole(each)
        need = NEEDS["align"].of(b if a.chunking is None else a)
        ask([(len(each), each.recipe.dim) for each in (a, b)], need, note)
        yield Side.load(a, note, need=None), Side.load(b, note, need=None)


def pair_up(
    source: Side,
    target: Side,
    pairs: str,
    on_problem: Callable[[Problem], None] = lambda problem: None,
    note: Note = lambda message: None,
) -> Paired:
    """Find which records of two collections belong together.

    Parameters
    ----------
    source, target : Side
    pairs : str
        A file, see `embcli.formats.pairs.read_pairs`, whose names are ids or else texts; or
        "ids" for ids in both collections, "texts" for equal texts, "none" for no pairs.
    on_problem, note : callable
        Told of every line that could not be read, and if columns seem to be exchanged.

    Raises
    ------
    InputError
        There is no pair of which both collections have both sides, or the file cannot be read.
    """
    vectors = source.vectors, target.vectors
    if pairs == NONE:
        none = np.empty(0, np.int64)
        return Paired(Pairs(*vectors, none, none), NONE, 0, 0)
    if pairs in (IDS, TEXTS):
        of_source, of_target = (
            (side.row_of_id if pairs == IDS else side.row_of_text) for side in (source, target)
        )
        both = [name for name in of_source if name in of_target]
        rows = np.array([of_source[name] for name in both], np.int64)
        columns = np.array([of_target[name] for name in both], np.int64)
        if not both:
            raise InputError(
                f"collections {source.name!r} and {target.name!r} have no {pairs[:-1]} in common",
                hint="--pairs FILE with what belongs together, or --pairs none",
            )
        return Paired(Pairs(*vectors, rows, columns), pairs, len(both), len(both))
    named, problems = read_pairs(pairs)
    for problem in problems:
        on_problem(problem)
    rows = source.rows([pair.source for pair in named])
    columns = target.rows([pair.target for pair in named])
    both_there = (rows >= 0) & (columns >= 0)
    if not both_there.any():
        raise _uncovered(source, target, pairs, named, rows, columns)
    distinct = len({pair.source for pair in named})
    kept = Pairs(*vectors, rows[both_there], columns[both_there])
    paired = Paired(kept, os.path.basename(pairs), len(named), distinct)
    if (
        2 * paired.count < len(named)
        and (swapped := _swapped(source, target, named)) > paired.count
    ):
        note(
            f"the columns of {paired.origin} seem to be the other way round: {swapped:,} pairs "
            f"would be there, rather than {paired.count:,}"
        )
    return paired


def note_coverage(paired: Paired, source: Side, target: Side, note: Note) -> None:
    """Say how much of what was given both collections have."""
    if paired.origin == NONE:
        return
    if paired.count < paired.given:
        note(
            f"{paired.origin}: {paired.count:,} of {counted(paired.given, 'pair')} have both sides "
            f"in {source.name!r} and {target.name!r} ({paired.covered:,} of "
            f"{counted(paired.sources, 'source')})"
        )
    else:
        note(f"{paired.origin}: {counted(paired.count, 'pair')}")


def _uncovered(
    source: Side,
    target: Side,
    file: str,
    named: Sequence[NamedPair],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> InputError:
    if _swapped(source, target, named):
        hint = "the columns are the other way round: exchange --source and --target"
    elif _any_folded(source, target, named):
        hint = "they differ in upper and lower case: write the file as the collections are"
    else:
        hint = "names are ids or texts of records: embcli show shows them"
    missing = named[0].source if rows[0] < 0 else named[0].target
    where = source.name if rows[0] < 0 else target.name
    return InputError(
        f"{file}: of {counted(len(named), 'pair')} {int((rows >= 0).sum()):,} sources are in "
        f"{source.name!r} and {int((columns >= 0).sum()):,} targets in {target.name!r}, but no "
        f"pair has both ({missing!r}, line {named[0].line}, is not in {where!r})",
        hint=hint,
    )


def _swapped(source: Side, target: Side, named: Sequence[NamedPair]) -> int:
    """How many pairs both collections would have if the columns were exchanged."""
    ours = source.rows([pair.target for pair in named]) >= 0
    return int((ours & (target.rows([pair.source for pair in named]) >= 0)).sum())


def _any_folded(source: Side, target: Side, named: Sequence[NamedPair]) -> bool:
    def folded(names: Iterable[str]) -> set[str]:
        return {name.casefold() for name in names}

    ours = folded(source.row_of_id) | folded(source.row_of_text)
    theirs = folded(target.row_of_id) | folded(target.row_of_text)
    return any(p.source.casefold() in ours and p.target.casefold() in theirs for p in named)
