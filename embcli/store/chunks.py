"""Chunks: the pieces of a text that have a vector each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.errors import InputError
from embcli.store.checks import SUM, damaged, get, span_sum
from embcli.store.database import Database
from embcli.store.segments import Place

# The chunking of a multi-vector collection: every token is a chunk.
TOKENS = '{"unit":"tokens","vectors":"each"}'


@dataclass(frozen=True, eq=False)
class Chunks:
    """What a record of a chunked collection is written with.

    Parameters
    ----------
    vectors : float32 array, shape (n, dim)
        At least one.
    spans : int array, shape (n, 2)
        Where each chunk starts and ends: it is ``text[start:end]``.

    Raises
    ------
    InputError
        Shapes do not fit.
    """

    vectors: NDArray[np.float32]
    spans: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.vectors)
        if n == 0 or np.shape(self.spans) != (n, 2):
            raise InputError(
                f"expected vectors and spans of shapes (n, dim) and (n, 2), n at least 1, "
                f"found {np.shape(self.vectors)} and {np.shape(self.spans)}"
            )


@dataclass(frozen=True, eq=False)
class Chunk:
    """One chunk of a record, ``text[start:end]``, and its vector of shape (dim,)."""

    number: int
    start: int
    end: int
    vector: NDArray[np.float32]


class Span(NamedTuple):
    """Which chunk of a record's text: the `number`-th, ``text[start:end]``."""

    number: int
    start: int
    end: int


class Extent(NamedTuple):
    """Where vectors of a record lie; what is between the slots may be another's."""

    segment: int
    first: int
    last: int
    record: int


class ChunkTable:
    """Where the chunks of records start and end, and where their vectors lie."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def insert(
        self, keys: Iterable[int], spans: Sequence[NDArray[np.int64]], places: Iterable[Place]
    ) -> None:
        """Note the chunks of new records. Call inside a transaction.

        Parameters
        ----------
        keys : iterable of int
            The records.
        spans : sequence of int array, each of shape (n, 2)
            The chunks of each record.
        places : iterable of Place
            Where their vectors lie, in the same order.
        """
        owners = list(keys)
        self._db.executemany(
            "INSERT OR REPLACE INTO checks (part, key, sums) VALUES ('spans', ?, ?)",
            (
                (key, np.array([span_sum(key, of_record)], SUM).tobytes())
                for key, of_record in zip(owners, spans, strict=True)
            ),
        )
        chunks = (
            (key, number, *span)
            for key, of_record in zip(owners, spans, strict=True)
            for number, span in enumerate(of_record.tolist())
        )
        self._db.executemany(
            'INSERT INTO chunks (record, number, start, "end", segment, slot) '
            "VALUES (?, ?, ?, ?, ?, ?)",
            (chunk + place for chunk, place in zip(chunks, places, strict=True)),
        )

    def find(self, keys: Iterable[int]) -> dict[int, list[tuple[Span, Place]]]:
        """Look up the chunks of records, in the order of the text.

        Raises
        ------
        DamageError
            They do not begin and end where they did when they were stored.
        """
        wanted = list(dict.fromkeys(keys))
        rows = self._db.all_in(
            'SELECT record, number, start, "end", segment, slot FROM chunks WHERE record IN ({})',
            (),
            wanted,
        )
        sums = get(self._db, "spans", wanted)
        found = {}
        for key, group in groupby(sorted(rows), key=itemgetter(0)):
            of_record = list(group)
            spans = np.array([row[2:4] for row in of_record], np.int64)
            if span_sum(key, spans) not in sums.get(key, ()):
                raise damaged(self._db, f"chunks of record {key} are not what was stored")
            found[key] = [(Span(*row[1:4]), (row[4], row[5])) for row in of_record]
        return found

    def extents(self, keys: Iterable[int]) -> list[Extent]:
        """Tell where the vectors of records lie, in the order of the file."""
        rows = self._db.all_in(
            "SELECT segment, min(slot), max(slot), record FROM chunks WHERE record IN ({}) "
            "GROUP BY record, segment",
            (),
            dict.fromkeys(keys),
        )
        return sorted(map(Extent._make, rows))

    def move(self, moved: Sequence[tuple[int, Place, Place]]) -> None:
        """Follow vectors that `Segments.compact` has moved. Call inside a transaction."""
        # Looking for each place in the table would take a long text's chunks squared.
        at = {
            place: (span.number, key)
            for key, chunks in self.find(key for key, _, _ in moved).items()
            for span, place in chunks
        }
        for _, before, after in moved:
            at[after] = at.pop(before)
        self._db.executemany(
            "UPDATE chunks SET segment = ?, slot = ? WHERE number = ? AND record = ?",
            (place + chunk for place, chunk in at.items()),
        )

    def remove(self, keys: Iterable[int]) -> None:
        """Forget the chunks of records. Call inside a transaction."""
        gone = [(key,) for key in keys]
        self._db.executemany("DELETE FROM chunks WHERE record = ?", gone)
        self._db.executemany("DELETE FROM checks WHERE part = 'spans' AND key = ?", gone)
