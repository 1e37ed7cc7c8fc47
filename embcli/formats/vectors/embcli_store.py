"""The way of vectors out of a collection, and other embcli stores."""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.encoders.recipe import Recipe
from embcli.errors import InputError, StoreError, UsageError
from embcli.formats import Problem
from embcli.formats.vectors import VectorBatch, VectorOptions
from embcli.formats.vectors.rows import check_shape, finite, rows_at_once
from embcli.store import Collection, Record, Store


class CollectionBatches:
    """The records of a collection with their vectors, in the order stored.

    Parameters
    ----------
    source : Collection
    wanted : bool array, optional
        See `Collection.filter`.
    mean : bool
        Of a record with chunks give one row, the mean of their vectors. It is a row for each
        chunk otherwise, see `chunk_rows`.

    Attributes
    ----------
    count : int
        How many rows they are.
    """

    def __init__(
        self, source: Collection, wanted: NDArray[np.bool_] | None = None, *, mean: bool = False
    ) -> None:
        self._source = source
        owners, places = source.live()
        if wanted is not None:
            chosen = wanted[owners]
            owners, places = owners[chosen], places[chosen]
        self._keys, firsts = np.unique(owners, return_index=True)
        self._places = places[firsts]
        self._mean = mean
        self.count = len(self._keys) if mean else len(owners)

    def __iter__(self) -> Iterator[VectorBatch]:
        step = rows_at_once(self._source.recipe.dim)
        place = 1
        for start in range(0, len(self._keys), step):
            batch = self._read(slice(start, start + step), place)
            yield batch
            place += len(batch.ids)

    def _read(self, part: slice, place: int) -> VectorBatch:
        """Read some records whole: all chunks of one are in the same batch."""
        keys = self._keys[part].tolist()
        found = self._source.get_by_key(keys)
        records = [found[key] for key in keys]
        if self._source.chunking is None:
            return _batch(records, self._source.gather(self._places[part]), place)
        ids = [record.id for record in records]
        if self._mean:
            return _batch(records, self._source.vectors(ids), place)
        rows: list[Record] = []
        vectors: list[NDArray[np.float32]] = []
        for record, chunks in zip(records, self._source.chunks(ids), strict=True):
            rows += chunk_rows(record, [(chunk.start, chunk.end) for chunk in chunks])
            vectors += [chunk.vector for chunk in chunks]
        return _batch(rows, np.stack(vectors), place)


def _batch(records: list[Record], vectors: NDArray[np.float32], first: int) -> VectorBatch:
    return VectorBatch(
        [record.id for record in records],
        vectors,
        [record.text for record in records],
        [record.meta for record in records],
        list(range(first, first + len(records))),
    )


def chunk_rows(record: Record, spans: Iterable[tuple[int, int]]) -> list[Record]:
    """Make a record of each chunk: its id is ``ID#number``, its text the chunk's.

    The metadata are those of the whole, and ``chunk`` tells the record, the number, and where
    in the text it starts and ends.
    """
    name = "chunk"
    while name in record.meta:
        name = f"_{name}"
    return [
        Record(
            f"{record.id}#{number}",
            record.text[start:end],
            {**record.meta, name: {"id": record.id, "number": number, "start": start, "end": end}},
        )
        for number, (start, end) in enumerate(spans)
    ]


class StoreReader:
    """Reads one collection of a store; of a chunked one, a record for each chunk."""

    def __init__(self, path: str | os.PathLike[str], options: VectorOptions) -> None:
        self._path = os.fspath(path)
        self._limit = options.limit
        try:
            self._store = Store(path, readonly=True)
        except StoreError as error:
            raise InputError(error.message, hint=error.hint) from None
        try:
            self._source = self._find(options.collection)
        except BaseException as error:
            self._store.close()
            if isinstance(error, StoreError):
                raise InputError(error.message, hint=error.hint) from None
            raise
        self.recipe: dict[str, Any] | None = dict(self._source.recipe.settings)
        self.dim = self._source.recipe.dim
        rows = CollectionBatches(self._source).count
        check_shape(f"{self._path}, collection {self._source.name!r}", rows, self.dim)
        self.count: int | None = rows if self._limit is None else min(rows, self._limit)
        self.notes = []
        if self._source.chunking is not None:
            self.notes.append("texts are cut into chunks: each is a record now, ID#0, ID#1, ...")
        if self._source.dtype != "float32":
            self.notes.append(f"vectors are stored as {self._source.dtype} there")

    def __iter__(self) -> Iterator[VectorBatch | Problem]:
        rest = self._limit
        try:
            with self._store.snapshot():
                for batch in CollectionBatches(self._source):
                    taken = batch if rest is None else _head(batch, rest)
                    yield from finite(self._path, taken)
                    if rest is not None:
                        rest -= len(taken.ids)
                        if rest == 0:
                            return
        except StoreError as error:
            raise InputError(error.message, hint=error.hint) from None

    def _find(self, wanted: str | None) -> Collection:
        names = [info.name for info in self._store.collections()]
        if wanted is None and len(names) > 1:
            raise UsageError(
                f"{self._path} has several collections ({', '.join(names)})",
                hint="--source-collection NAME",
            )
        return self._store.collection(wanted or (names[0] if names else "default"))


def _head(batch: VectorBatch, rows: int) -> VectorBatch:
    return VectorBatch(
        batch.ids[:rows],
        batch.vectors[:rows],
        batch.texts[:rows],
        batch.metas[:rows],
        batch.places[:rows],
    )


class StoreWriter:
    """Writes a store with one collection, in the space of the recipe."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        dim: int,
        count: int | None,
        recipe: dict[str, Any],
        name: str = "default",
    ) -> None:
        self._store = Store(path)
        self._target = self._store.create_collection(name, Recipe(recipe))

    def write(self, batch: VectorBatch) -> None:
        """Append a batch."""
        records = [
            Record(id, text, meta)
            for id, text, meta in zip(batch.ids, batch.texts, batch.metas, strict=True)
        ]
        self._target.add(records, batch.vectors)

    def close(self) -> None:
        """Complete the file."""
        self._store.index_texts()
        self._store.close()
