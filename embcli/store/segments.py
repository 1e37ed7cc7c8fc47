"""Vectors on disk: about a thousand to a blob, each slot naming its record."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.quantize import Codes, quantize
from embcli.store import checks
from embcli.store.checks import GROUP, SUM, damaged, digest
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
# Under which a collection's checksum of what segments it has is kept.
_OF = "segments of"

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


class _Listed(NamedTuple):
    """A segment whose slots are what was stored, and checksums of what else is read of it."""

    key: int
    slots: bytes
    groups: NDArray[np.uint64]
    coded: bool
    code: int | None


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
        self._width = dim * self._dtype.itemsize

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
            parts = [column[start : start + SLOTS].tobytes() for column in columns]
            count = min(SLOTS, len(keys) - start)
            inserted = self._db.execute(
                "INSERT INTO segments (collection, count, slots, hashes, vectors) "
                "VALUES (?, ?, ?, ?, ?)",
                (self._collection, count, *parts),
            )
            segment = inserted.lastrowid
            assert segment is not None
            self._seal(segment, *parts)
            places += [(segment, i) for i in range(count)]
        return places

    def _fill_last(self, columns: tuple[NDArray[Any], ...]) -> list[Place]:
        """Put as many vectors as fit into the last segment, if it has room."""
        row = self._db.one(
            "SELECT key, length(slots) / 8 FROM segments WHERE collection = ? "
            "ORDER BY key DESC LIMIT 1",
            (self._collection,),
        )
        if row is None or row[1] >= SLOTS:
            return []
        segment, used = row
        taken = min(SLOTS - used, len(columns[0]))
        before = self._whole(segment)
        slots, hashes, vectors = (
            old + column[:taken].tobytes() for old, column in zip(before, columns, strict=True)
        )
        self._db.execute(
            "UPDATE segments SET count = ?, slots = ?, hashes = ?, vectors = ? WHERE key = ?",
            (used + taken, slots, hashes, vectors, segment),
        )
        self._seal(segment, slots, hashes, vectors, before[0])
        return [(segment, used + i) for i in range(taken)]

    def _seal(
        self,
        segment: int,
        slots: bytes,
        hashes: bytes,
        vectors: bytes,
        before: bytes | None = None,
    ) -> None:
        """Keep the checksums of a segment just written, whose slots were `before`."""
        sums = checks.segment_sums(segment, slots, hashes, vectors, self._width)
        checks.put(self._db, "segments", segment, sums)
        self._recount(segment, before, slots)

    def _recount(self, segment: int, before: bytes | None, after: bytes | None) -> None:
        """Keep up which segments there are, so that one that is missing is noticed."""
        found = checks.get(self._db, _OF, [self._collection])
        if self._collection not in found:
            raise damaged(self._db, f"collection {self._collection} has no checksum")
        count, total = found[self._collection].tolist()
        for slots, change in ((before, -1), (after, 1)):
            if slots is not None:
                count, total = count + change, total ^ digest(slots, segment)
        checks.put(self._db, _OF, self._collection, [count, total])

    def _whole(self, segment: int) -> tuple[bytes, bytes, bytes]:
        """Read all of a segment: slots, hashes, vectors."""
        slots, hashes, vectors = self._db.one(
            "SELECT slots, hashes, vectors FROM segments WHERE key = ?", (segment,)
        )
        found = checks.segment_sums(segment, slots, hashes, vectors, self._width)
        if found != self._sums("segments", segment).tolist():
            raise self._damaged(segment)
        return slots, hashes, vectors

    def _damaged(self, segment: int) -> checks.DamageError:
        return damaged(self._db, f"segment {segment} is not what was stored")

    def _listed(self, kind: str | None = None) -> list[_Listed]:
        """List the segments in order, and whether they have codes of a kind."""
        # In one statement, because what is read by a second one may have been written after it.
        rows = self._db.all(
            """
            SELECT o.sums, s.key, s.slots, c.sums, codes.segment IS NOT NULL, k.sums
              FROM checks AS o
              LEFT JOIN segments AS s ON s.collection = o.key
              LEFT JOIN checks AS c ON c.part = 'segments' AND c.key = s.key
              LEFT JOIN codes ON codes.segment = s.key AND codes.kind = ?
              LEFT JOIN checks AS k ON k.part = 'codes' AND k.key = codes.segment
             WHERE o.part = ? AND o.key = ? ORDER BY s.key
            """,
            (kind, _OF, self._collection),
        )
        listed, found = [], []
        with checks.understanding(self._db, "the list of segments"):
            for _, key, slots, sums, coded, code in rows:
                if key is None:  # there are none
                    continue
                every = np.frombuffer(sums or b"", SUM)
                found.append(digest(slots, key))
                if len(every) < 2 or found[-1] != every[0]:
                    raise self._damaged(key)
                of_code = int(np.frombuffer(code, SUM)[0]) if code else None
                listed.append(_Listed(key, slots, every[2:], bool(coded), of_code))
            sums = np.frombuffer(rows[0][0], SUM).tolist() if rows else None
        if sums is None or sums != checks.segments_sum(found):
            raise damaged(self._db, f"segments of collection {self._collection} are missing")
        return listed

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
        _keep_memory()
        pool = _Pool()
        for segment in self._listed(kind):
            keys = np.frombuffer(segment.slots, KEY)
            live = keys > 0 if wanted is None else (keys > 0) & wanted[keys]
            slots = np.flatnonzero(live)
            if not len(slots):
                continue
            places = segment.key * SLOTS + slots
            keys = keys[slots]
            if segment.coded and kind is not None and len(slots) > _FEW:
                yield CodedBlock(keys, self._read_codes(segment, kind, len(live)), live, places)
                continue
            with self._db.blob("segments", "vectors", segment.key) as blob:
                for of_span, vectors in self._read_slots(segment.key, blob, segment.groups, slots):
                    yield from pool.add(Block(keys[of_span], vectors, places[of_span]))
        yield from pool.rest()

    def _read_codes(self, segment: _Listed, kind: str, count: int) -> Codes:
        with self._db.blob("codes", "codes", segment.key) as blob:
            codes = blob.read()
            found = digest(codes, segment.key)
            if found != segment.code and found not in self._sums("codes", segment.key):
                raise damaged(self._db, f"codes of segment {segment.key} are not what was stored")
        return Codes.from_bytes(codes, kind, count, self._dim)

    def _read_slots(
        self,
        segment: int,
        blob: sqlite3.Blob,
        sums: NDArray[np.uint64],
        slots: NDArray[np.int64],
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Read vectors of a segment, each stretch of near ones at once.

        Parameters
        ----------
        segment : int
        blob : Blob
            Its vectors.
        sums : uint64 array
            Their checksums, one a group.
        slots : int64 array
            Ascending, at least one.

        Yields
        ------
        which : slice
            Of `slots`.
        vectors : float32 array, shape (n, dim)
        """
        groups = slots // GROUP
        for first, last in self._spans(groups):
            start, stop = int(groups[first]), int(groups[last - 1]) + 1
            vectors = self._read_groups(segment, blob, sums, start, stop)
            if len(vectors) > last - first:
                vectors = vectors[slots[first:last] - start * GROUP]
            yield slice(first, last), vectors.astype(np.float32, copy=False)

    def _read_groups(
        self, segment: int, blob: sqlite3.Blob, sums: NDArray[np.uint64], start: int, stop: int
    ) -> NDArray[np.floating]:
        """Read some groups of vectors, as they are stored."""
        size = GROUP * self._width
        blob.seek(min(start * size, len(blob)))
        content = blob.read((stop - start) * size)
        found = checks.group_sums(content, self._width)
        if found != sums[start:stop].tolist():
            # Vectors may have been added since the checksums were read. As long as the blob is
            # open, this connection sees the store as it was when that was opened.
            now = self._sums("segments", segment)[2:]
            if not found or found != now[start:stop].tolist():
                raise self._damaged(segment)
        return np.frombuffer(content, self._dtype).reshape(-1, self._dim)

    def _sums(self, part: str, segment: int) -> NDArray[np.uint64]:
        found = checks.get(self._db, part, [segment])
        return found.get(segment, np.empty(0, SUM))

    def _spans(self, groups: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Divide groups, which ascend, into stretches to be read at once: first, and one past."""
        size = self._width * GROUP
        most, gap = max(1, _READ_BYTES // size), 1 + _GAP_BYTES // size
        breaks = np.flatnonzero(np.diff(groups) > gap) + 1
        for first, last in pairwise([0, *breaks.tolist(), len(groups)]):
            while first < last:
                end = first + int(np.searchsorted(groups[first:last], groups[first] + most))
                yield first, end
                first = end

    def gather(
        self, places: NDArray[np.int64], owners: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Read single vectors, in the order asked for.

        Parameters
        ----------
        places : int64 array, shape (n,)
            As in `Block`.
        owners : int64 array, shape (n,), optional
            Keys of the records that they are expected to belong to.

        Returns
        -------
        vectors : float32 array, shape (n, dim)

        Raises
        ------
        DamageError
            Vectors are not what was stored, or belong to other records.
        """
        vectors = np.empty((len(places), self._dim), np.float32)
        rows = np.argsort(places, kind="stable")
        segments = places[rows] // SLOTS
        breaks = np.flatnonzero(np.diff(segments)) + 1
        starts = [0, *breaks.tolist(), len(rows)] if len(rows) else []
        for first, last in pairwise(starts):
            segment, which = int(segments[first]), rows[first:last]
            slots = places[which] % SLOTS
            with self._db.blob("segments", "vectors", segment) as blob:
                of_groups = self._sums("segments", segment)[2:]
                if owners is not None:
                    self._check_owners(segment, slots, owners[which])
                if len(slots) <= _FEW:
                    for row, slot in zip(which.tolist(), slots.tolist(), strict=True):
                        group = slot // GROUP
                        block = self._read_groups(segment, blob, of_groups, group, group + 1)
                        vectors[row] = block[slot % GROUP]
                    continue
                once, back = np.unique(slots, return_inverse=True)
                several = np.empty((len(once), self._dim), np.float32)
                for of_span, block in self._read_slots(segment, blob, of_groups, once):
                    several[of_span] = block
                vectors[which] = several[back]
        return vectors

    def _check_owners(
        self, segment: int, slots: NDArray[np.int64], owners: NDArray[np.int64]
    ) -> None:
        """Make sure that vectors belong to whom they are read for."""
        keys = self._owners(segment)
        if slots.max() >= len(keys) or (keys[slots] != owners).any():
            raise damaged(self._db, f"vectors in segment {segment} are not of their records")

    def _owners(self, segment: int) -> NDArray[np.int64]:
        with self._db.blob("segments", "slots", segment) as blob:
            content = blob.read()
            if digest(content, segment) not in self._sums("segments", segment)[:1]:
                raise self._damaged(segment)
        return np.frombuffer(content, KEY)

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
        for segment, group in groupby(extents, key=lambda extent: extent[0]):
            with self._db.blob("segments", "vectors", segment) as blob:
                owners, sums = self._owners(segment), self._sums("segments", segment)[2:]
                for _, first, last, record in group:
                    start, stop = first // GROUP, last // GROUP + 1
                    rows = self._read_groups(segment, blob, sums, start, stop)
                    own = owners[start * GROUP : start * GROUP + len(rows)] == record
                    vectors = rows[own].astype(np.float32, copy=False)
                    parts.setdefault(record, []).append(vectors)
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
        for (segment,) in rows:
            vectors = self._as_matrix(self._whole(segment)[2])
            codes = quantize(vectors, kind).to_bytes()
            self._db.execute(
                "INSERT OR REPLACE INTO codes (segment, kind, codes) VALUES (?, ?, ?)",
                (segment, kind, codes),
            )
            checks.put(self._db, "codes", segment, [digest(codes, segment)])
        return len(rows)

    def remove_codes(self) -> None:
        """Delete all codes. Call inside a transaction."""
        self._db.execute(
            "DELETE FROM codes WHERE segment IN (SELECT key FROM segments WHERE collection = ?)",
            (self._collection,),
        )

    def live(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """List the vectors that are not deleted: keys of their records, and places."""
        listed = self._listed()
        owners = [np.frombuffer(segment.slots, KEY) for segment in listed]
        starts = [segment.key * SLOTS + np.arange(len(keys)) for segment, keys in
                  zip(listed, owners, strict=True)]  # fmt: skip
        none = np.empty(0, np.int64)
        keys, places = np.concatenate([none, *owners]), np.concatenate([none, *starts])
        return keys[keys > 0], places[keys > 0]

    def hashes(self) -> NDArray[np.uint64]:
        """64 bits of the hash of every vector's record, in the order stored, shape (n,)."""
        rows = self._db.all(
            "SELECT s.key, s.slots, s.hashes, c.sums FROM segments AS s LEFT JOIN checks AS c "
            "ON c.part = 'segments' AND c.key = s.key WHERE s.collection = ? ORDER BY s.key",
            (self._collection,),
        )
        live = [np.empty(0, np.uint64)]
        for key, slots, hashes, sums in rows:
            every = np.frombuffer(sums or b"", SUM)[:2]
            if every.tolist() != [digest(slots, key), digest(hashes, key)]:
                raise self._damaged(key)
            live.append(np.frombuffer(hashes, PREFIX)[np.frombuffer(slots, KEY) > 0])
        return np.concatenate(live)

    def count(self) -> int:
        """How many vectors there are, those deleted but not yet compacted among them."""
        counted = "SELECT coalesce(sum(count), 0) FROM segments WHERE collection = ?"
        return int(self._db.value(counted, (self._collection,)))

    def read(self, owners: Mapping[Place, int]) -> dict[Place, NDArray[np.float32]]:
        """Read single vectors, each of shape (dim,), given the record that each belongs to."""
        places = np.array([segment * SLOTS + slot for segment, slot in owners], np.int64)
        vectors = self.gather(places, np.fromiter(owners.values(), np.int64, len(places)))
        return dict(zip(owners, vectors, strict=True))

    def remove(self, places: Iterable[Place]) -> None:
        """Mark vectors as deleted, in place. Call inside a transaction."""
        for segment, group in groupby(sorted(places), key=lambda place: place[0]):
            with self._db.blob("segments", "slots", segment, readonly=False) as blob:
                before, sums = blob.read(), self._sums("segments", segment)
                if digest(before, segment) not in sums[:1]:
                    raise self._damaged(segment)
                slots = np.frombuffer(before, KEY).copy()
                slots[[slot for _, slot in group]] = 0
                after = slots.tobytes()
                blob.seek(0)
                blob.write(after)
            if slots.any():
                of_slots = digest(after, segment)
                checks.put(self._db, "segments", segment, [of_slots, *sums[1:].tolist()])
                self._recount(segment, before, after)
            else:
                self._db.execute("DELETE FROM segments WHERE key = ?", (segment,))
                self._recount(segment, before, None)

    def clear(self) -> None:
        """Delete all vectors. Call inside a transaction."""
        self._db.execute("DELETE FROM segments WHERE collection = ?", (self._collection,))
        checks.put(self._db, _OF, self._collection, checks.segments_sum([]))

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
            (slots,) = self._db.one("SELECT slots FROM segments WHERE key = ?", (segment,))
            if np.frombuffer(slots, KEY).all():
                continue
            slots, *rest = self._whole(segment)
            keys, hashes = np.frombuffer(slots, KEY), np.frombuffer(rest[0], PREFIX)
            live = keys > 0
            vectors = self._as_matrix(rest[1])[live]
            self._db.execute("DELETE FROM segments WHERE key = ?", (segment,))
            self._recount(segment, slots, None)
            before = [(segment, slot) for slot in np.flatnonzero(live).tolist()]
            after = self.append(keys[live], hashes[live], vectors)
            moved += zip(keys[live].tolist(), before, after, strict=True)
        return moved

    def _as_matrix(self, vectors: bytes) -> NDArray[np.floating]:
        return np.frombuffer(vectors, self._dtype).reshape(-1, self._dim)


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
