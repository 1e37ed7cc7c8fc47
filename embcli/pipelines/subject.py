"""The records of a collection that are clustered or laid out, and their nearest neighbours."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit32
from embcli.core.knn import AFFORDABLE, knn_graph
from embcli.core.separability.vectors import parts
from embcli.errors import EmbcliError, InputError, StoreError, counted
from embcli.pipelines.memory import HELD, Need
from embcli.pipelines.pairwise import Advance, Note, announced
from embcli.pipelines.sides import Side, check_whole
from embcli.pipelines.space import without_zeros
from embcli.store import Collection, Graph, Store

NEIGHBOURS = 15
# Of each record, in the store: more take more room than time.
_MOST_KEPT = 100
_TEXTS_AT_ONCE = 1000


@dataclass(frozen=True, eq=False)
class Subject:
    """Records of one collection, read at one moment.

    Attributes
    ----------
    side : Side
        With vectors at length 1. Those without a direction, whose vector is zeros, are left out.
    db : path
    state : str or None
        Of the collection's vectors; None if these are not all its records.
    chosen : dict
        By what they were chosen, if they are not all.
    """

    side: Side
    db: str | os.PathLike[str]
    state: str | None
    chosen: dict[str, Any]

    @property
    def collection(self) -> Collection:
        """The collection, open for reading."""
        return self.side.collection

    @property
    def keys(self) -> NDArray[np.int64]:
        """Of the records, rising."""
        return self.side.keys

    @property
    def unit(self) -> NDArray[np.float32]:
        """The vectors at length 1, shape (n, dim)."""
        return self.side.vectors

    def __len__(self) -> int:
        return len(self.side.keys)

    def take(self, rows: NDArray[np.int64], **chosen: Any) -> "Subject":
        """Keep some of the records, and say by what they were chosen."""
        side = Side(self.collection, self.keys[rows], self.side.vectors[rows])
        return Subject(side, self.db, None, {**self.chosen, **chosen})

    def texts(self) -> Iterator[str]:
        """Read the texts in the order of the rows."""
        keys = self.keys.tolist()
        for start in range(0, len(keys), _TEXTS_AT_ONCE):
            part = keys[start : start + _TEXTS_AT_ONCE]
            records = self.collection.get_by_key(part)
            for key in part:
                yield records[key].text

    def classes(self, field: str) -> list[str | None]:
        """Read a field that names classes, as it is written; None where it is not there.

        Raises
        ------
        InputError
            No record has it.
        """
        values = self.collection.labels(field)
        found = [values.get(key) for key in self.keys.tolist()]
        if all(value is None for value in found):
            there = ", ".join(list(self.collection.field_counts(scalar=True))[:8]) or "none"
            raise InputError(
                f"no record of collection {self.side.name!r} has a field {field!r} that is a "
                f"text, a number, true or false (fields: {there})"
            )
        return found

    def write(self, change: Callable[[Store, Collection], object]) -> None:
        """Change the collection, through a connection of its own."""
        with Store.existing(self.db) as store:
            change(store, store.collection(self.side.name))

    def write_if_possible(self, change: Callable[[Store, Collection], object], note: Note) -> None:
        """Keep what could be found again; if the store cannot be written, say so and go on."""
        try:
            self.write(change)
        except StoreError as error:
            note(f"not kept for the next time: {error.message}")


@contextmanager
def open_subject(
    db: str | os.PathLike[str],
    collection: str,
    *,
    where: str | None = None,
    sample: int | None = None,
    seed: int = 0,
    need: Need = HELD,
    option: str | None = None,
    note: Note = lambda message: None,
) -> Iterator[Subject]:
    """Read a collection, or some of it, within one snapshot that lasts as long as the block.

    Parameters
    ----------
    db : path
    collection : str
    where : str, optional
        Only records that pass this filter, see `embcli.store.where`.
    sample : int, optional
        Of these so many at random. The same are drawn as long as the collection is the same, and
        most of them when records are added.
    seed : int
        Of the sample.
    need : Need
        What memory the work on them takes, see `embcli.pipelines.memory`.
    option : str, optional
        That makes do with fewer records.
    note : callable

    Raises
    ------
    InputError
        There are fewer than three records with a direction, or all have the same one.
    UsageError
        There is less memory than that takes.
    """
    upgrade(db)
    with Store(db, readonly=True) as store, store.snapshot():
        source = store.collection(collection)
        check_whole(source)
        wanted, chosen = _chosen(source, where, sample, seed)
        side = Side.load(source, note, wanted, need=need, option=option)
        side = without_zeros(side, note)
        if len(side.keys) < 3:
            raise InputError(
                f"collection {collection!r}: {counted(len(side.keys), 'record')}, and it takes "
                "three at least"
            )
        if all((side.vectors[part] == side.vectors[0]).all() for part in parts(len(side.keys))):
            raise InputError(
                f"collection {collection!r}: all {len(side.keys):,} vectors are the same, and "
                "there is nothing to tell them apart by"
            )
        unit32(side.vectors, out=side.vectors)
        yield Subject(side, db, None if chosen else source.graphs.state(), chosen)


def _chosen(
    source: Collection, where: str | None, sample: int | None, seed: int
) -> tuple[NDArray[np.bool_] | None, dict[str, Any]]:
    """Tell which records are read (None for all), and by what they were chosen."""
    if where is None and (sample is None or sample >= len(source)):
        return None, {}
    keys = np.unique(source.live()[0])
    wanted = np.zeros(int(keys[-1]) + 1, np.bool_)
    chosen: dict[str, Any] = {}
    if where is not None:
        chosen["where"] = where
        keys = keys[source.filter(where)[keys]]
        if not len(keys):
            raise InputError(f"no record of collection {source.name!r} passes --where")
    if sample is not None and sample < len(keys):
        chosen["sample"] = sample
        keys = keys[drawn(keys, sample, seed)]
    wanted[keys] = True
    return wanted, chosen


def upgrade(db: str | os.PathLike[str]) -> None:
    """Bring a store of an older version up to date, if it is there and can be written."""
    try:
        with Store.existing(db):
            pass
    except EmbcliError:
        return  # what is wrong will be said when it is read


def neighbours_of(
    subject: Subject,
    k: int = NEIGHBOURS,
    *,
    approximate: bool | None = None,
    seed: int = 0,
    note: Note = lambda message: None,
    advance: Advance = lambda done, total, count: None,
) -> Graph:
    """Look up the nearest neighbours of all records, or find them and keep them.

    Parameters
    ----------
    subject : Subject
    k : int
        If there are fewer other records, so many.
    approximate : bool, optional
        By default they are exact up to a number of records that takes about a minute, see
        `embcli.core.knn.knn_graph`.
    seed : int
    note, advance : callable

    Returns
    -------
    graph : Graph
        Rows are places in `Subject.keys`.
    """
    k = min(k, len(subject) - 1)
    graphs = subject.collection.graphs
    if approximate is None:
        n, dim = subject.unit.shape
        approximate = float(n) * n * dim > AFFORDABLE
    if subject.state is not None and (kept := graphs.get(k)) is not None:
        # Whatever was asked for before, the same command is to give the same.
        fits = kept.recall is None or (approximate and kept.seed == seed)
        if fits and np.array_equal(kept.keys, subject.keys):
            _note_recall(kept, note)
            return kept
    what = f"comparing {len(subject):,} records with each other"
    found = knn_graph(
        subject.unit, k, approximate=approximate, seed=seed, advance=announced(advance, note, what)
    )
    graph = Graph(subject.keys, found.neighbours, found.recall, seed)
    _note_recall(graph, note)
    if (state := subject.state) is not None and k <= _MOST_KEPT:
        subject.write_if_possible(lambda store, source: source.graphs.put(graph, state), note)
    return graph


def _note_recall(graph: Graph, note: Note) -> None:
    if graph.recall is not None:
        note(
            f"neighbours are approximate: {graph.recall:.1%} of the nearest of a sample are among "
            "them; 'embcli neighbors --exact' compares every record with every other"
        )


def drawn(keys: NDArray[np.int64], sample: int, seed: int) -> NDArray[np.bool_]:
    """Draw those whose keys come first in a random order of all keys there can be, shape (n,)."""
    with np.errstate(over="ignore"):
        state = (keys.astype(np.uint64) + np.uint64(seed + 1)) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found = np.zeros(len(keys), np.bool_)
    found[np.argsort(state ^ (state >> np.uint64(31)))[:sample]] = True
    return found
