"""Vectors on disk: about a thousand to a blob, each slot naming its record."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.quantize import Codes, quantize
from embcli.store.database import Database

SLOTS = 1024
DTYPES: dict[str, np.dtype[np.floating]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
}
KEY = np.dtype("<i8")
PREFIX = np.dtype("<u8")

# Read at a time: little enough that the processor's cache still has it when it is scored. SQLite
# copies every byte once, which takes most of the time of a scan; several connections in threads
# copy at once, but scoring then waits for the interpreter's lock: as long, for half as much again.
_READ_BYTES = 3 << 17
# To read this much more costs about as much as to read twice.
_GAP_BYTES = 1 << 15
# Of a segment, vectors wanted that are read for no more than scoring all its codes takes.
_FEW = 8
# Vectors that make a block worth scoring by itself.
_POOLED = 64

Place = tuple[int, int]  # segment, slot


class Block(NamedTuple):
    """Some vectors on their way out of the store.

    Attributes
    ----------
    keys : int64 array, shape (n,)
        The record each vector belongs to.
    vectors : float32 array, shape (n, dim)
    places : int64 array, shape (n,)
        Where each lies, as ``segment * SLOTS + slot``.
    """

    keys: NDArray[np.int64]
    vectors: NDArray[np.float32]
    places: NDArray[np.int64]


class CodedBlock(NamedTuple):
    """A segment's codes on their way out of the store.

    Attributes
    ----------
    keys : int64 array, shape (n,)
        The record each wanted vector belongs to.
    codes : Codes
        Of all the segment's vectors, shape (count,).
    live : bool array, shape (count,)
        Which of them are wanted: n.
    places : int64 array, shape (n,)
    """

    keys: NDArray[np.int64]
    codes: Codes
    live: NDArray[np.bool_]
    places: NDArray[np.int64]


class Segments:
    """The vectors of one collection.

    Parameters
    ----------
    db : Database
    collection : int
        Key of the collection.
    dim : int
    dtype : {"float32", "float16"}
        How components are stored; they are always given and returned as float32.

    Notes
    -----
    ``slots`` holds the record key of every vector as little-endian int64; zero marks a deleted
    vector. ``hashes`` holds 64 bits of the hash of every vector's record as little-endian uint64.
    Segments are filled up to `SLOTS` vectors before another is begun.
    """

    def __init__(self, db: Database, collection: int, dim: int, dtype: str) -> None:
        self._db = db
        self._collection = collection
        self._dim = dim
        self._dtype = DTYPES[dtype]

    def append(
        self,
        keys: NDArray[np.int64],
        hashes: NDArray[np.uint64],
        vectors: NDArray[np.floating],
    ) -> list[Place]:
        """Store vectors and return the place of each. Call inside a transaction.

        Parameters
        ----------
        keys : int64 array, shape (n,)
            The record each vector belongs to.
        hashes : uint64 array, shape (n,)
            64 bits of the hash of that record.
        vectors : float array, shape (n, dim)
        """
        columns = (
            np.ascontiguousarray(keys, KEY),
            np.ascontiguousarray(hashes, PREFIX),
            np.ascontiguousarray(vectors, self._dtype),
        )
        places = self._fill_last(columns) if len(keys) else []
        for start in range(len(places), len(keys), SLOTS):
            parts = [column[start : start + SLOTS] for column in columns]
            inserted = self._db.execute(
                "INSERT INTO segments (collection, count, slots, hashes, vectors) "
                "VALUES (?, ?, ?, ?, ?)",
                (self._collection, len(parts[0]), *(part.data for part in parts)),
            )
            assert inserted.lastrowid is not None
            places += [(inserted.lastrowid, i) for i in range(len(parts[0]))]
        return places

    def _fill_last(self, columns: tuple[NDArray[Any], ...]) -> list[Place]:
        """Put as many vectors as fit into the last segment, if it has room."""
        row = self._db.one(
            "SELECT key, count FROM segments WHERE collection = ? ORDER BY key DESC LIMIT 1",
            (self._collection,),
        )
        if row is None or row[1] >= SLOTS:
            return []
        segment, used = row
        taken = min(SLOTS - used, len(columns[0]))
        before = self._db.one(
            "SELECT slots, hashes, vectors FROM segments WHERE key = ?", (segment,)
        )
        filled = (
            old + column[:taken].tobytes() for old, column in zip(before, columns, strict=True)
        )
        self._db.execute(
            "UPDATE segments SET count = ?, slots = ?, hashes = ?, vectors = ? WHERE key = ?",
            (used + taken, *filled, segment),
        )
        return [(segment, used + i) for i in range(taken)]

    def scan(self, wanted: NDArray[np.bool_] | None = None) -> Iterator[Block]:
        """Stream the vectors, some hundreds at a time, in the order they were stored.

        Parameters
        ----------
        wanted : bool array, optional
            ``wanted[key]`` tells whether that record is wanted; others are passed over, and not
            read where that saves time.

        Yields
        ------
        block : Block
            Never empty.
        """
        for block in self.scan_codes(None, wanted):
            assert isinstance(block, Block)
            yield block

    def scan_codes(
        self, kind: str | None, wanted: NDArray[np.bool_] | None = None
    ) -> Iterator[Block | CodedBlock]:
        """Stream codes of a kind and, of segments that have none, the vectors.

        Where few vectors of a segment are wanted, they come themselves.

        Parameters
        ----------
        kind : str or None
            See `embcli.core.quantize`; None for the vectors of all segments.
        wanted : bool array, optional
            As in `scan`.

        Yields
        ------
        block : Block or CodedBlock
            Never empty.
        """
        rows = self._db.all(
            "SELECT key, slots, EXISTS (SELECT 1 FROM codes WHERE segment = segments.key "
            "AND kind = ?) FROM segments WHERE collection = ? ORDER BY key",
            (kind, self._collection),
        )
        _keep_memory()
        pool = _Pool()
        for segment, blob, coded in rows:
            keys = np.frombuffer(blob, KEY)
            live = keys > 0 if wanted is None else (keys > 0) & wanted[keys]
            slots = np.flatnonzero(live)
            if not len(slots):
                continue
            places = segment * SLOTS + slots
            keys = keys[slots]
            if coded and kind is not None and len(slots) > _FEW:
                with self._db.blob("codes", "codes", segment) as codes:
                    block = Codes.from_bytes(codes.read(), kind, len(live), self._dim)
                yield CodedBlock(keys, block, live, places)
                continue
            for of_span, vectors in self._read_slots(segment, slots):
                yield from pool.add(Block(keys[of_span], vectors, places[of_span]))
        yield from pool.rest()

    def _read_slots(
        self, segment: int, slots: NDArray[np.int64]
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Read vectors of a segment, each stretch of near ones at once.

        Yields
        ------
        which : slice
            Of `slots`.
        vectors : float32 array, shape (n, dim)
        """
        width = self._dim * self._dtype.itemsize
        with self._db.blob("segments", "vectors", segment) as blob:
            for first, last in self._spans(slots):
                start, count = int(slots[first]), int(slots[last - 1] - slots[first]) + 1
                blob.seek(start * width)
                vectors = np.frombuffer(blob.read(count * width), self._dtype)
                vectors = vectors.reshape(count, self._dim)
                if count > last - first:
                    vectors = vectors[slots[first:last] - start]
                yield slice(first, last), vectors.astype(np.float32, copy=False)

    def _spans(self, slots: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Divide slots, which ascend, into stretches to be read at once: first, and one past."""
        width = self._dim * self._dtype.itemsize
        most, gap = max(1, _READ_BYTES // width), 1 + _GAP_BYTES // width
        if slots[-1] - slots[0] == len(slots) - 1:
            yield from pairwise([*range(0, len(slots), most), len(slots)])
            return
        breaks = np.flatnonzero(np.diff(slots) > gap) + 1
        for first, last in pairwise([0, *breaks.tolist(), len(slots)]):
            while first < last:
                end = first + int(np.searchsorted(slots[first:last], slots[first] + most))
                yield first, end
                first = end

    def gather(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read single vectors, in the order asked for.

        Parameters
        ----------
        places : int64 array, shape (n,)
            As in `Block`.

        Returns
        -------
        vectors : float32 array, shape (n, dim)
        """
        vectors = np.empty((len(places), self._dim), np.float32)
        width = self._dim * self._dtype.itemsize
        rows = sorted(zip(places.tolist(), range(len(places)), strict=True))
        for segment, group in groupby(rows, key=lambda row: row[0] // SLOTS):
            found = list(group)
            if len(found) > _FEW:
                slots, which = np.array(found, np.int64).T
                for of_span, block in self._read_slots(segment, slots % SLOTS):
                    vectors[which[of_span]] = block
                continue
            with self._db.blob("segments", "vectors", segment) as blob:
                for place, row in found:
                    blob.seek(place % SLOTS * width)
                    vectors[row] = np.frombuffer(blob.read(width), self._dtype)
        return vectors

    def read_records(
        self, extents: Sequence[tuple[int, int, int, int]]
    ) -> dict[int, NDArray[np.float32]]:
        """Read all vectors of some records, by record, each of shape (n, dim).

        Parameters
        ----------
        extents : sequence of (segment, first slot, last slot, record)
            As `ChunkTable.extents` gives them, by segment.
        """
        parts: dict[int, list[NDArray[np.float32]]] = {}
        width = self._dim * self._dtype.itemsize
        for segment, group in groupby(extents, key=lambda extent: extent[0]):
            with (
                self._db.blob("segments", "slots", segment) as slots,
                self._db.blob("segments", "vectors", segment) as blob,
            ):
                owners = np.frombuffer(slots.read(), KEY)
                for _, first, last, record in group:
                    blob.seek(first * width)
                    count = last + 1 - first
                    rows = np.frombuffer(blob.read(count * width), self._dtype)
                    own = owners[first : last + 1] == record
                    vectors = rows.reshape(count, self._dim)[own]
                    parts.setdefault(record, []).append(vectors.astype(np.float32, copy=False))
        return {
            record: several[0] if len(several) == 1 else np.concatenate(several)
            for record, several in parts.items()
        }

    def code(self, kind: str, limit: int) -> int:
        """Code segments that have no codes of a kind; return how many. Call in a transaction.

        Parameters
        ----------
        kind : str
        limit : int
            Code no more than this many.
        """
        rows = self._db.all(
            "SELECT key FROM segments WHERE collection = ? AND NOT EXISTS "
            "(SELECT 1 FROM codes WHERE segment = segments.key AND kind = ?) "
            "ORDER BY key LIMIT ?",
            (self._collection, kind, limit),
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO codes (segment, kind, codes) VALUES (?, ?, ?)",
            (
                (segment, kind, quantize(self._read(segment), kind).to_bytes())
                for (segment,) in rows
            ),
        )
        return len(rows)

    def remove_codes(self) -> None:
        """Delete all codes. Call inside a transaction."""
        self._db.execute(
            "DELETE FROM codes WHERE segment IN (SELECT key FROM segments WHERE collection = ?)",
            (self._collection,),
        )

    def live(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """List the vectors that are not deleted: keys of their records, and places."""
        rows = self._db.all(
            "SELECT key, slots FROM segments WHERE collection = ? ORDER BY key",
            (self._collection,),
        )
        owners = [np.frombuffer(blob, KEY) for _, blob in rows]
        starts = [segment * SLOTS + np.arange(len(keys)) for (segment, _), keys in
                  zip(rows, owners, strict=True)]  # fmt: skip
        none = np.empty(0, np.int64)
        keys, places = np.concatenate([none, *owners]), np.concatenate([none, *starts])
        return keys[keys > 0], places[keys > 0]

    def hashes(self) -> NDArray[np.uint64]:
        """64 bits of the hash of every vector's record, in the order stored, shape (n,)."""
        rows = self._db.all(
            "SELECT slots, hashes FROM segments WHERE collection = ? ORDER BY key",
            (self._collection,),
        )
        live = [np.frombuffer(h, PREFIX)[np.frombuffer(slots, KEY) > 0] for slots, h in rows]
        return np.concatenate([np.empty(0, np.uint64), *live])

    def count(self) -> int:
        """How many vectors there are, those deleted but not yet compacted among them."""
        counted = "SELECT coalesce(sum(count), 0) FROM segments WHERE collection = ?"
        return int(self._db.value(counted, (self._collection,)))

    def read(self, places: Iterable[Place]) -> dict[Place, NDArray[np.float32]]:
        """Read single vectors, each of shape (dim,)."""
        found: dict[Place, NDArray[np.float32]] = {}
        width = self._dim * self._dtype.itemsize
        for segment, group in groupby(sorted(places), key=lambda place: place[0]):
            with self._db.blob("segments", "vectors", segment) as blob:
                for place in group:
                    blob.seek(place[1] * width)
                    vector = np.frombuffer(blob.read(width), self._dtype)
                    found[place] = vector.astype(np.float32, copy=False)
        return found

    def remove(self, places: Iterable[Place]) -> None:
        """Mark vectors as deleted, in place. Call inside a transaction."""
        for segment, group in groupby(sorted(places), key=lambda place: place[0]):
            with self._db.blob("segments", "slots", segment, readonly=False) as blob:
                slots = np.frombuffer(blob.read(), KEY).copy()
                slots[[slot for _, slot in group]] = 0
                blob.seek(0)
                blob.write(slots.tobytes())
            if not slots.any():
                self._db.execute("DELETE FROM segments WHERE key = ?", (segment,))

    def compact(self) -> list[tuple[int, Place, Place]]:
        """Rewrite the segments that hold deleted vectors. Call inside a transaction.

        Returns
        -------
        moved : list of (key, place before, place after)
            To be applied in this order: a vector may move more than once, and to where another
            was.
        """
        segments = self._db.all(
            "SELECT key FROM segments WHERE collection = ? ORDER BY key", (self._collection,)
        )
        moved: list[tuple[int, Place, Place]] = []
        for (segment,) in segments:
            # Read one by one: a segment still to come may have been filled up meanwhile.
            row = self._db.one("SELECT slots, hashes FROM segments WHERE key = ?", (segment,))
            keys, hashes = np.frombuffer(row[0], KEY), np.frombuffer(row[1], PREFIX)
            live = keys > 0
            if live.all():
                continue
            vectors = self._read(segment)[live]
            self._db.execute("DELETE FROM segments WHERE key = ?", (segment,))
            before = [(segment, slot) for slot in np.flatnonzero(live).tolist()]
            after = self.append(keys[live], hashes[live], vectors)
            moved += zip(keys[live].tolist(), before, after, strict=True)
        return moved

    def _read(self, segment: int) -> NDArray[np.floating]:
        with self._db.blob("segments", "vectors", segment) as blob:
            return np.frombuffer(blob.read(), self._dtype).reshape(-1, self._dim)


class _Pool:
    """Joins small blocks, in their order: to score a block costs something however small it is."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._count = 0

    def add(self, block: Block) -> Iterator[Block]:
        """Take a block; give those that are large enough."""
        if len(block.keys) >= _POOLED:
            yield from self.rest()
            yield block
            return
        self._blocks.append(block)
        self._count += len(block.keys)
        if self._count >= _POOLED:
            yield from self.rest()

    def rest(self) -> Iterator[Block]:
        """Give what is left."""
        if self._blocks:
            yield Block._make(map(np.concatenate, zip(*self._blocks, strict=True)))
        self._blocks, self._count = [], 0


@cache
def _keep_memory() -> None:
    """Keep the C library from giving memory back that the next read asks for again.

    glibc maps new pages for every large block until one larger has been freed. To fault them in
    took a tenth of the time of a scan.
    """
    bytes(1 << 23)
