"""A collection: records and their vectors, all in one space."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from json import loads
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.quantize import Codes
from embcli.encoders.recipe import Recipe
from embcli.errors import InputError, NothingFoundError, StoreError, UsageError
from embcli.store import checks, text_index
from embcli.store.checks import damaged, record_sum
from embcli.store.chunks import Chunk, Chunks, ChunkTable, Extent, Span
from embcli.store.clusterings import Clusterings
from embcli.store.coding import Coding
from embcli.store.database import Database
from embcli.store.encodings import EncodedBlock, Encodings
from embcli.store.filters import Filter
from embcli.store.gathered import Gathered
from embcli.store.graphs import Graphs
from embcli.store.known_texts import KnownTexts, prefixes
from embcli.store.layouts import Layouts
from embcli.store.records import CopiedRecord, Record
from embcli.store.segments import DTYPES, SLOTS, Block, CodedBlock, Place, Segments
from embcli.store.where import compile_where, parse_field

# What makes a record, and its checksum.
_RECORD = "key, collection, id, hash, source, meta, text, sum"
# Coded in one transaction, in a second or so.
_SEGMENTS_AT_ONCE = 64
# Read in one go, where all vectors of records are wanted.
_VECTORS_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class Written:
    """What a write did: numbers of records.

    `replaced` are those of the changed and refreshed that came from another file before.
    """

    added: int = 0
    changed: int = 0
    refreshed: int = 0
    unchanged: int = 0
    replaced: int = 0


@dataclass(frozen=True, eq=False)
class Batch:
    """Some records on their way into another collection.

    Attributes
    ----------
    ids, texts, metas, sources, hashes : list of str, shape (n,)
        Metadata are JSON; hashes are of what was encoded.
    vectors : float32 array, shape (m, dim)
        One a record or, in a chunked collection, one for each of its chunks.
    spans : list of int array, each of shape (n_chunks, 2), or None
        The chunks of every record; None if they have one vector each.
    """

    ids: list[str]
    texts: list[str]
    metas: list[str]
    sources: list[str]
    hashes: list[str]
    vectors: NDArray[np.float32]
    spans: list[NDArray[np.int64]] | None

    @property
    def starts(self) -> NDArray[np.int64]:
        """Row of each record's first vector, shape (n,)."""
        counts = self.counts
        return np.cumsum(counts) - counts

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many vectors each record has, shape (n,)."""
        if self.spans is None:
            return np.ones(len(self.ids), np.int64)
        return np.fromiter(map(len, self.spans), np.int64, len(self.spans))

    def take(self, rows: Sequence[int]) -> "Batch":
        """Give some of the records, by rising row."""
        if len(rows) == len(self.ids):
            return self
        places = np.array(rows, np.int64)
        if self.spans is not None:
            chosen = np.zeros(len(self.ids), np.int64)
            chosen[places] = 1
            places = np.flatnonzero(np.repeat(chosen, self.counts))
        columns = (self.ids, self.texts, self.metas, self.sources, self.hashes)
        ids, texts, metas, sources, hashes = ([column[row] for row in rows] for column in columns)
        spans = None if self.spans is None else [self.spans[row] for row in rows]
        return Batch(ids, texts, metas, sources, hashes, self.vectors[places], spans)

    def records(self) -> list[CopiedRecord]:
        """Make the records."""
        columns = (self.ids, self.texts, self.metas, self.sources, self.hashes)
        return [
            CopiedRecord(id, text, {}, source, origin=hash, stored_meta=meta)
            for id, text, meta, source, hash in zip(*columns, strict=True)
        ]


class _Stored(NamedTuple):
    key: int
    hash: str
    meta: str
    source: str
    place: Place


class Collection:
    """A named set of records with vectors; made by `Store`, not directly.

    Attributes
    ----------
    name : str
    recipe : Recipe
        What the vectors mean.
    dtype : {"float32", "float16"}
        How they are stored.
    chunking : str or None
        How texts are cut into chunks, each with a vector of its own; None if a record has one
        vector.
    coding : Coding or None
        How it is searched through compact codes; None if nothing was decided yet.
    calibration : str or None
        What turns its cosines into probabilities, as JSON: see `embcli.pipelines.relevance`.
    clusterings : Clusterings
    layouts : Layouts
    graphs : Graphs
        What was found among its vectors.
    gathered : Gathered
        Which parts of a shared encode went into it.
    """

    def __init__(
        self,
        db: Database,
        key: int,
        name: str,
        space: int,
        recipe: Recipe,
        dtype: str,
        chunking: str | None,
        coding: Coding | None,
        calibration: str | None,
    ) -> None:
        self._db = db
        self._key = key
        self.name = name
        self.recipe = recipe
        self.dtype = dtype
        self.chunking = chunking
        self.coding = coding
        self.calibration = calibration
        self._segments = Segments(db, key, recipe.dim, dtype)
        self._chunks = ChunkTable(db)
        self._encodings = Encodings(db, key)
        self._known = KnownTexts(db, space, dtype, chunking)
        self.clusterings = Clusterings(db, key, name)
        self.layouts = Layouts(db, key, name)
        self.graphs = Graphs(db, key)
        self.gathered = Gathered(db, key)

    def __len__(self) -> int:
        return int(
            self._db.value("SELECT count(*) FROM records WHERE collection = ?", (self._key,))
        )

    # Writing

    def missing(self, records: Sequence[Record]) -> list[Record]:
        """Which records need vectors that the store does not have, one per distinct text."""
        stored = self.hashes(record.id for record in records)
        needed = {record.hash: record for record in records if stored.get(record.id) != record.hash}
        known = self._known.find(needed)
        return [record for hash, record in needed.items() if hash not in known]

    def write(
        self, records: Sequence[Record], vectors: Mapping[str, NDArray[np.float32] | Chunks]
    ) -> Written | None:
        """Insert or update records in one transaction.

        Parameters
        ----------
        records : sequence of Record
            Ids must be distinct.
        vectors : mapping
            From a record's ``hash`` to its vector, of shape (dim,), or in a chunked collection
            to its `Chunks`, for at least those that `missing` named.

        Returns
        -------
        written : Written or None
            None, and nothing was written, if another process changed the store meanwhile so
            that vectors are missing again.
        """
        with self._db.transaction():
            stored = self._stored(records)
            fresh = [r for r in records if r.id not in stored or stored[r.id].hash != r.hash]
            known = self._known.find({r.hash for r in fresh} - vectors.keys())
            if any(r.hash not in vectors and r.hash not in known for r in fresh):
                return None
            # Copies are read before what is outdated goes: it may be what they are copied from.
            made: dict[str, Any] = {**self._copies(known), **vectors}
            outdated = [stored[r.id] for r in fresh if r.id in stored]
            self._remove(outdated)
            if self.chunking is None:
                matrix = np.empty((len(fresh), self.recipe.dim), np.float32)
                for row, record in enumerate(fresh):
                    matrix[row] = made[record.hash]
                self._insert(fresh, matrix)
            elif fresh:
                chunks = [made[record.hash].vectors for record in fresh]
                matrix = np.empty((sum(map(len, chunks)), self.recipe.dim), np.float32)
                np.concatenate(chunks, out=matrix)
                self._insert(fresh, matrix, [made[record.hash].spans for record in fresh])
            refreshed = self._refresh(records, stored)
        added = len(fresh) - len(outdated)
        unchanged = len(records) - len(fresh) - refreshed
        replaced = sum(
            _file(old.source) != _file(record.source)
            for record in records
            if (old := stored.get(record.id)) is not None
        )
        return Written(added, len(outdated), refreshed, unchanged, replaced)

    def add(self, records: Sequence[Record], vectors: NDArray[np.float32]) -> Written:
        """Insert records with vectors computed elsewhere, replacing those of the same ids.

        Parameters
        ----------
        records : sequence of Record
            Ids must be distinct.
        vectors : float array, shape (len(records), dim)

        Raises
        ------
        InputError
            Shapes do not fit, values are not finite, or ids repeat.
        UsageError
            The collection is chunked.
        """
        if self.chunking is not None:
            raise UsageError(
                f"collection {self.name!r} keeps a vector for every chunk of a text "
                f"({self.chunking}), not one for the whole",
                hint="use another --collection",
            )
        matrix = np.asarray(vectors, np.float32)
        if matrix.shape != (len(records), self.recipe.dim):
            raise InputError(
                f"expected vectors of shape ({len(records)}, {self.recipe.dim}), "
                f"found {matrix.shape}"
            )
        finite = np.isfinite(matrix).all(axis=1)
        if not finite.all():
            raise InputError(f"row {int(finite.argmin())} of the vectors is not finite")
        if len({r.id for r in records}) < len(records):
            raise InputError("ids repeat among the records")
        with self._db.transaction():
            replaced = list(self._stored(records).values())
            self._remove(replaced)
            self._insert(records, matrix)
        return Written(added=len(records) - len(replaced), changed=len(replaced))

    def put(self, batch: Batch) -> Written:
        """Take records as another collection has them, in one transaction.

        Those that are there with the same text, vectors and chunks stay; of these, metadata and
        sources are brought up to date. Others of the same ids are replaced.

        Parameters
        ----------
        batch : Batch
            Ids must be distinct. With spans if, and only if, the collection is chunked.
        """
        records = batch.records()
        with self._db.transaction():
            stored = self._stored(records)
            same = self._same(batch, stored)
            rows = [row for row, record in enumerate(records) if record.id not in same]
            outdated = [stored[records[row].id] for row in rows if records[row].id in stored]
            self._remove(outdated)
            fresh = batch.take(rows)
            if rows:
                self._insert([records[row] for row in rows], fresh.vectors, fresh.spans)
            refreshed = self._refresh([r for r in records if r.id in same], stored)
        replaced = sum(
            _file(stored[record.id].source) != _file(record.source)
            for record in records
            if record.id in stored
        )
        added = len(rows) - len(outdated)
        return Written(added, len(outdated), refreshed, len(same) - refreshed, replaced)

    def _same(self, batch: Batch, stored: Mapping[str, _Stored]) -> set[str]:
        """Ids of a batch that are there with the same text, vectors and chunks."""
        rows = [
            row
            for row, (id, hash) in enumerate(zip(batch.ids, batch.hashes, strict=True))
            if id in stored and stored[id].hash == hash
        ]
        if not rows:
            return set()
        found = batch.take(rows)
        keys = [stored[id].key for id in found.ids]
        texts = self.get_by_key(keys)
        wanted = found.vectors.astype(self.dtype).astype(np.float32)
        if self.chunking is None:
            places = np.array([stored[id].place for id in found.ids], np.int64)
            there = self._segments.gather(places @ (SLOTS, 1), np.array(keys, np.int64))
            alike = (there == wanted).all(axis=1).tolist()
        else:
            assert found.spans is not None
            chunks = self._read_chunks(keys)
            each = np.split(wanted, found.starts[1:])
            alike = [
                np.array_equal(chunks[key].spans, spans)
                and np.array_equal(chunks[key].vectors, vectors)
                for key, spans, vectors in zip(keys, found.spans, each, strict=True)
            ]
        return {
            id
            for id, key, text, equal in zip(found.ids, keys, found.texts, alike, strict=True)
            if equal and texts[key].text == text
        }

    def rebuild_segments(self) -> list[int]:
        """Free the slots of lost vectors; see `embcli.store.repair.rebuild_segments`."""
        from embcli.store.repair import rebuild_segments

        width = self.recipe.dim * DTYPES[self.dtype].itemsize
        return rebuild_segments(self._db, self._key, width, self.chunking is not None)

    def restore(
        self, records: Sequence[Record], vectors: Mapping[str, NDArray[np.float32] | Chunks]
    ) -> None:
        """Give records that are there, but have no vectors any more, vectors again.

        Parameters
        ----------
        records, vectors
            As of `write`; vectors of all of them.
        """
        made: Mapping[str, Any] = vectors
        with self._db.transaction():
            stored = self._stored(records)
            # Keys stay, and with them whatever was found of these records.
            keys = [stored[record.id].key for record in records]
            counts = [1] * len(records)
            if self.chunking is None:
                matrix = np.stack([made[record.hash] for record in records])
            else:
                chunks = [made[record.hash] for record in records]
                counts = [len(each.spans) for each in chunks]
                matrix = np.concatenate([each.vectors for each in chunks])
            bits = np.repeat(prefixes([record.hash for record in records]), counts)
            owners = np.repeat(np.array(keys, np.int64), counts)
            places = self._segments.append(owners, bits, matrix)
            if self.chunking is not None:
                self._chunks.remove(keys)
                self._chunks.insert(keys, [each.spans for each in chunks], places)
            firsts = accumulate(counts[:-1], initial=0)
            self._db.executemany(
                "UPDATE records SET segment = ?, slot = ? WHERE key = ?",
                ((*places[first], key) for first, key in zip(firsts, keys, strict=True)),
            )

    def delete(self, ids: Iterable[str], expected: Mapping[str, str] | None = None) -> int:
        """Delete records; ids that are not there are passed over. Returns how many went.

        Parameters
        ----------
        ids : iterable of str
        expected : mapping, optional
            From ids to hashes that these records, and maybe others, must still have.

        Raises
        ------
        StoreError
            One of these is gone, or has another hash: then nothing is deleted.
        """
        with self._db.transaction():
            found = self._stored_by_id(expected or ())
            if expected and {id: old.hash for id, old in found.items()} != expected:
                raise StoreError(
                    f"collection {self.name!r} was changed meanwhile: nothing was deleted",
                    hint="the same command again",
                )
            stored = self._stored_by_id(ids)
            self._remove(list(stored.values()))
        return len(stored)

    def clear(self) -> int:
        """Delete every record; return how many they were. Call inside a transaction."""
        keys = [
            key
            for (key,) in self._db.all("SELECT key FROM records WHERE collection = ?", (self._key,))
        ]
        # First: deleting records is then not slowed down by what was found of them.
        self.clusterings.clear()
        self.layouts.clear()
        text_index.remove(self._db, keys)
        if self.chunking is not None:
            self._chunks.remove(keys)
        self._encodings.clear()
        self._segments.clear()
        self.gathered.clear()
        self._db.execute("DELETE FROM records WHERE collection = ?", (self._key,))
        return len(keys)

    def compact(self) -> None:
        """Rewrite segments that hold deleted vectors, in one transaction."""
        with self._db.transaction():
            moved = self._segments.compact()
            if self.chunking is not None:
                self._chunks.move(moved)
            self._encodings.drop_incomplete()
            # A record names the place of its first vector.
            self._db.executemany(
                "UPDATE records SET segment = ?, slot = ? "
                "WHERE key = ? AND segment = ? AND slot = ?",
                ((*after, key, *before) for key, before, after in moved),
            )

    def set_coding(self, coding: Coding | None) -> None:
        """Decide how the collection is searched; codes of another kind are deleted.

        The new ones are made by `update_codes`.
        """
        with self._db.transaction():
            self._db.execute(
                "UPDATE collections SET coding = ? WHERE key = ?",
                (None if coding is None else coding.json, self._key),
            )
            checks.seal(self._db, "collections", self._key)
            before = self.coding and (self.coding.kind, self.coding.encoding)
            if before != (coding and (coding.kind, coding.encoding)):
                self._segments.remove_codes()
                self._encodings.clear()
        self.coding = coding

    def set_calibration(self, calibration: str) -> None:
        """Keep what turns cosines into probabilities."""
        with self._db.transaction():
            self._db.execute(
                "UPDATE collections SET calibration = ? WHERE key = ?", (calibration, self._key)
            )
            checks.seal(self._db, "collections", self._key)
        self.calibration = calibration

    def update_codes(self) -> int:
        """Code what has no codes, as `coding` says, in transactions of a second or so.

        A search is right without this, only slower: what has no codes is searched exactly.

        Returns
        -------
        coded : int
            Number of segments.
        """
        if self.coding is None or self.coding.kind is None or self.recipe.multivector:
            return 0
        total, coded = 0, _SEGMENTS_AT_ONCE
        while coded == _SEGMENTS_AT_ONCE:
            with self._db.transaction():
                coded = self._segments.code(self.coding.kind, _SEGMENTS_AT_ONCE)
            total += coded
        return total

    def update_encodings(
        self, encode: Callable[[list[NDArray[np.float32]]], Codes], at_once: int = 256
    ) -> int:
        """Encode the records that have no encoding, in transactions of a second or so.

        Parameters
        ----------
        encode : callable
            Makes codes of the encodings of some records, given the vectors of each.
        at_once : int
            How many records.

        Returns
        -------
        encoded : int
            Number of records.
        """
        missing = np.setdiff1d(self.keys(), self._encodings.keys()).tolist()
        total = 0
        for start in range(0, len(missing), at_once):
            with self._db.transaction():
                # Of what was deleted meanwhile, the key may have another owner.
                ours = "SELECT key FROM records WHERE +collection = ? AND key IN ({})"
                part = missing[start : start + at_once]
                keys = [key for (key,) in self._db.all_in(ours, (self._key,), part)]
                owners, vectors = [], []
                for key, of_record in self.vectors_by_key(keys):
                    owners.append(key)
                    vectors.append(of_record)
                if owners:
                    self._encodings.add(np.array(owners, np.int64), encode(vectors))
            total += len(owners)
        return total

    def prune(self, files: Iterable[str]) -> int:
        """Delete the records of these files whose ids were not seen.

        The ids seen are those of the `SeenIds` of this store.

        Returns
        -------
        pruned : int
        """
        with self._db.transaction():
            gone = {
                id
                for file in files
                for (id,) in self._db.all(
                    "SELECT id FROM records WHERE collection = ? AND source >= ? AND source < ? "
                    "AND id NOT IN (SELECT id FROM temp.seen)",
                    (self._key, f"{file}:", f"{file};"),  # ";" follows ":"
                )
            }
            self._remove(list(self._stored_by_id(gone).values()))
        return len(gone)

    def _copies(self, known: Mapping[str, tuple[int, Place]]) -> dict[str, Any]:
        """Read what known texts are made of, by hash: vectors or `Chunks`."""
        if self.chunking is None:
            owners = {place: key for key, place in known.values()}
            vectors = self._segments.read(owners)
            return {hash: vectors[place] for hash, (_, place) in known.items()}
        chunks = self._read_chunks(key for key, _ in known.values())
        return {hash: chunks[key] for hash, (key, _) in known.items()}

    def _insert(
        self,
        records: Sequence[Record],
        vectors: NDArray[np.float32],
        spans: Sequence[NDArray[np.int64]] | None = None,
    ) -> None:
        """Store new records.

        Parameters
        ----------
        records : sequence of Record
        vectors : float array, shape (n, dim)
            One a record or, where there are spans, one for each of them.
        spans : sequence of int array, each of shape (n, 2), optional
            The chunks of every record.
        """
        first = (self._db.value("SELECT max(key) FROM records") or 0) + 1
        keys = np.arange(first, first + len(records), dtype=np.int64)
        hashes = [record.hash for record in records]
        if spans is None:
            places = self._segments.append(keys, prefixes(hashes), vectors)
        else:
            counts = [len(of_record) for of_record in spans]
            owners, bits = (np.repeat(column, counts) for column in (keys, prefixes(hashes)))
            every = self._segments.append(owners, bits, vectors)
            self._chunks.insert(keys.tolist(), spans, every)
            places = [every[start] for start in accumulate(counts[:-1], initial=0)]
        self._db.executemany(
            "INSERT INTO records "
            "(key, collection, id, hash, segment, slot, source, meta, text, sum) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    key,
                    self._key,
                    r.id,
                    r.hash,
                    segment,
                    slot,
                    r.source,
                    r.meta_json,
                    r.text,
                    record_sum(key, self._key, r.id, r.hash, r.source, r.meta_json, r.text),
                )
                for key, r, (segment, slot) in zip(keys.tolist(), records, places, strict=True)
            ),
        )
        self._known.add(hashes, keys)

    def _refresh(self, records: Sequence[Record], stored: Mapping[str, _Stored]) -> int:
        """Bring metadata and sources of records with unchanged texts up to date."""
        rows = [
            (
                record.meta_json,
                record.source,
                record_sum(
                    old.key,
                    self._key,
                    record.id,
                    record.hash,
                    record.source,
                    record.meta_json,
                    record.text,
                ),
                old.key,
            )
            for record in records
            if (old := stored.get(record.id)) is not None
            and old.hash == record.hash
            and (old.meta, old.source) != (record.meta_json, record.source)
        ]
        self._db.executemany("UPDATE records SET meta = ?, source = ?, sum = ? WHERE key = ?", rows)
        return len(rows)

    def _remove(self, stored: Sequence[_Stored]) -> None:
        keys = [old.key for old in stored]
        text_index.remove(self._db, keys)
        if self.chunking is None:
            self._segments.remove(old.place for old in stored)
        else:
            chunks = self._chunks.find(keys).values()
            self._segments.remove(place for of_record in chunks for _, place in of_record)
            self._chunks.remove(keys)
            self._encodings.remove(keys)
        self._db.executemany("DELETE FROM records WHERE key = ?", ((key,) for key in keys))

    # Reading

    def sources(self, ids: Iterable[str]) -> dict[str, str]:
        """Look up where records came from; ids that are not there are left out."""
        return {id: old.source for id, old in self._stored_by_id(ids).items()}

    def hashes(self, ids: Iterable[str]) -> dict[str, str]:
        """Look up the hashes of what was encoded; ids that are not there are left out."""
        return dict(
            self._db.all_in(
                "SELECT id, hash FROM records WHERE collection = ? AND id IN ({})",
                (self._key,),
                ids,
            )
        )

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Fetch records in the order asked for.

        Raises
        ------
        NothingFoundError
            An id is not there; the message names it.
        """
        rows = self._db.all_in(
            f"SELECT {_RECORD} FROM records WHERE collection = ? AND id IN ({{}})",
            (self._key,),
            dict.fromkeys(ids),
        )
        found = {record.id: record for _, record in map(self._record, rows)}
        self._require(ids, found)
        return [found[id] for id in ids]

    def get_by_key(self, keys: Iterable[int]) -> dict[int, Record]:
        """Fetch records by key."""
        rows = self._db.all_in(f"SELECT {_RECORD} FROM records WHERE key IN ({{}})", (), keys)
        return dict(map(self._record, rows))

    def ids_by_key(self, keys: Iterable[int]) -> dict[int, str]:
        """Fetch ids by key."""
        return dict(self._db.all_in("SELECT key, id FROM records WHERE key IN ({})", (), keys))

    def names(self) -> dict[int, str]:
        """Ids of all records by key, in the order stored."""
        sql = "SELECT key, id FROM records WHERE collection = ? ORDER BY key"
        return dict(self._db.all(sql, (self._key,)))

    def keys_by_id(self, ids: Iterable[str]) -> dict[str, int]:
        """Look up keys by id; ids that are not there are left out."""
        return {id: old.key for id, old in self._stored_by_id(ids).items()}

    def hashes_by_key(self, keys: Iterable[int]) -> dict[int, str]:
        """Fetch the hashes of what was encoded, by key."""
        return dict(self._db.all_in("SELECT key, hash FROM records WHERE key IN ({})", (), keys))

    def lengths(self) -> dict[int, int]:
        """Count the characters of every text, by key."""
        return dict(
            self._db.all("SELECT key, length(text) FROM records WHERE collection = ?", (self._key,))
        )

    def values(self, field: str) -> dict[int, str | float]:
        """Look up a metadata field, named as in `embcli.store.where`, in every record, by key.

        Records without it, and those where it is an array or an object, are left out. A text
        that is written like a number is one.

        Raises
        ------
        UsageError
            This is no name of a field.
        """
        clusterings = self.clusterings.by_name()
        value = parse_field(field, or_column=True, clusterings=clusterings).scalar
        rows = self._db.all(f"SELECT key, {value} FROM records WHERE collection = ?", (self._key,))
        return {key: _value(value) for key, value in rows if value is not None}

    def labels(self, field: str) -> dict[int, str]:
        """Look up a metadata field as `values` does, for names of classes: as it is written.

        Records where it is empty are left out, too. "7" and "007" are two labels, as are 1 and 1.0.

        Raises
        ------
        UsageError
            This is no name of a field.
        """
        clusterings = self.clusterings.by_name()
        value = parse_field(field, or_column=True, clusterings=clusterings).label
        rows = self._db.all(f"SELECT key, {value} FROM records WHERE collection = ?", (self._key,))
        return {key: value for key, value in rows if value is not None and value.strip()}

    def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Fetch vectors in the order asked for, shape (len(ids), dim).

        The vector of a record with chunks is the mean of theirs, scaled to unit length if that
        is what all vectors of the space have.

        Raises
        ------
        NothingFoundError
            An id is not there.
        """
        stored = self._stored_by_id(ids)
        self._require(ids, stored)
        if not ids:
            return np.empty((0, self.recipe.dim), np.float32)
        if self.chunking is not None:
            chunks = self._read_chunks(stored[id].key for id in ids)
            return np.stack([self._mean(chunks[stored[id].key].vectors) for id in ids])
        places = self._segments.read({stored[id].place: stored[id].key for id in ids})
        return np.stack([places[stored[id].place] for id in ids])

    def matrix(
        self, wanted: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Fetch the vectors of all records, one each, in the order stored.

        Parameters
        ----------
        wanted : bool array, optional
            See `filter`.

        Returns
        -------
        keys : int64 array, shape (n,)
            Of the records, rising.
        vectors : float32 array, shape (n, dim)
            Of a record with chunks the mean, as in `vectors`.
        """
        owners = self._segments.live()[0]
        if wanted is not None:
            owners = owners[wanted[owners]]
        keys, counts = np.unique(owners, return_counts=True)
        if self.chunking is None:
            vectors = np.empty((len(keys), self.recipe.dim), np.float32)
            for block in self._segments.scan(wanted):
                vectors[np.searchsorted(keys, block.keys)] = block.vectors
            return keys, vectors
        means = np.zeros((len(keys), self.recipe.dim))
        for block in self._segments.scan(wanted):
            np.add.at(means, np.searchsorted(keys, block.keys), block.vectors)
        means /= counts[:, None]
        if self.recipe.normalized:
            norms = np.linalg.norm(means, axis=1, keepdims=True)
            means /= np.where(norms > 0, norms, 1)
        return keys, means.astype(np.float32)

    def chunks(self, ids: Sequence[str]) -> list[list[Chunk]]:
        """Fetch the chunks of records in the order asked for.

        In a collection that is not chunked a record is one chunk.

        Raises
        ------
        NothingFoundError
            An id is not there.
        """
        if self.chunking is None:
            return [
                [Chunk(0, 0, len(record.text), vector)]
                for record, vector in zip(self.get(ids), self.vectors(ids), strict=True)
            ]
        stored = self._stored_by_id(ids)
        self._require(ids, stored)
        found = self._read_chunks(stored[id].key for id in ids)
        return [
            [
                Chunk(number, start, end, vector)
                for number, ((start, end), vector) in enumerate(
                    zip(chunks.spans.tolist(), chunks.vectors, strict=True)
                )
            ]
            for chunks in (found[stored[id].key] for id in ids)
        ]

    def spans(self, keys: Iterable[int]) -> dict[int, Span]:
        """Look up the chunks of records by key; the spans come by place, as in `Block`."""
        return {
            segment * SLOTS + slot: span
            for of_record in self._chunks.find(keys).values()
            for span, (segment, slot) in of_record
        }

    def filter(self, expression: str) -> NDArray[np.bool_]:
        """Evaluate a filter (see `embcli.store.where`) on every record.

        Returns
        -------
        wanted : bool array, shape (highest key + 1,)
            ``wanted[key]`` is true where the filter holds.
        """
        wanted = Filter(self._db, self._key, expression, self.clusterings.by_name()).wanted
        try:
            return wanted()
        except sqlite3.Error as error:
            # The compiled condition is right; what is left is SQLite's limits.
            raise UsageError(f"--where: too much for SQLite ({error})") from error

    def unindexed(self, expression: str) -> list[str]:
        """Name the fields of a filter on which an index would help; see `Store.create_index`."""
        return Filter(self._db, self._key, expression, self.clusterings.by_name()).missing()

    def scan(self, wanted: NDArray[np.bool_] | None = None) -> Iterator[Block]:
        """Stream the vectors with their records' keys and their places; see `Segments.scan`."""
        return self._segments.scan(wanted)

    def scan_codes(
        self, kind: str | None, wanted: NDArray[np.bool_] | None = None
    ) -> Iterator[Block | CodedBlock]:
        """Stream codes, and vectors of what has none; see `Segments.scan_codes`."""
        return self._segments.scan_codes(kind, wanted)

    def gather(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read vectors by place, as in `Block`, in the order asked for, shape (n, dim)."""
        return self._segments.gather(places)

    def keys(self) -> NDArray[np.int64]:
        """List the keys of all records, in no order."""
        rows = self._db.all("SELECT key FROM records WHERE collection = ?", (self._key,))
        return np.array([key for (key,) in rows], np.int64)

    def keys_of(self, ids: Iterable[str]) -> dict[str, int]:
        """Look up the keys of records by id; ids that are not there are left out."""
        return {id: old.key for id, old in self._stored_by_id(ids).items()}

    def vectors_by_key(self, keys: Iterable[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Read all vectors of some records of a chunked collection, in the order of the file.

        Yields
        ------
        key : int
        vectors : float32 array, shape (n, dim)
            In the order stored.
        """
        extents: dict[int, list[Extent]] = {}
        for extent in self._chunks.extents(keys):
            extents.setdefault(extent.record, []).append(extent)
        part: list[Extent] = []
        count = 0
        for number, of_record in enumerate(extents.values(), 1):
            part += of_record
            count += sum(extent.last + 1 - extent.first for extent in of_record)
            if count >= _VECTORS_AT_ONCE or number == len(extents):
                yield from self._segments.read_records(sorted(part)).items()
                part, count = [], 0

    def scan_encodings(self, size: int) -> Iterator[EncodedBlock]:
        """Stream the encodings of records; see `Encodings.scan`."""
        return self._encodings.scan(size)

    def encoded_keys(self) -> NDArray[np.int64]:
        """List the keys of the records that have encodings, in no order."""
        return self._encodings.keys()

    def live(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """List the keys and places of all vectors, each of shape (n,); see `Block`."""
        return self._segments.live()

    def text_hashes(self) -> NDArray[np.uint64]:
        """64 bits of the hash of what each vector was made of, in the order stored."""
        return self._segments.hashes()

    def count_vectors(self) -> int:
        """How many vectors a search passes over, those deleted and not yet compacted too."""
        return self._segments.count()

    def find_words(
        self, words: Sequence[str], k: int, where: str | None = None
    ) -> list[tuple[str, float]]:
        """Find records by BM25, as (id, score); see `text_index.search`."""
        condition = None if where is None else compile_where(where, self.clusterings.by_name())
        return text_index.search(self._db, self._key, words, k, condition)

    def score_words(self, words: Sequence[str], ids: Iterable[str]) -> dict[str, float]:
        """Score records by BM25; see `text_index.scores`."""
        return text_index.scores(self._db, self._key, words, ids)

    def sample(self, n: int) -> NDArray[np.float32]:
        """Fetch the vectors of `n` records from all over the collection, always the same.

        Of a record with several vectors it is one. Shape (m, dim), m at most `n`.
        """
        return self._segments.gather(self._spread(n)[1])

    def sample_parts(self, n: int) -> list[NDArray[np.float32]]:
        """Fetch all vectors of each record of such a sample, each of shape (m, dim)."""
        if self.chunking is None:
            return [vector[None] for vector in self.sample(n)]
        keys = self._spread(n)[0].tolist()
        chunks = self._read_chunks(keys)
        return [chunks[key].vectors for key in keys]

    def _spread(self, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Choose at most `n` records at even distances: their keys, and the place of a vector."""
        keys, places = self._segments.live()
        if self.chunking is not None:
            keys, first = np.unique(keys, return_index=True)
            places = places[first]
        if len(keys) > n:
            chosen = np.linspace(0, len(keys) - 1, n).astype(np.int64)
            keys, places = keys[chosen], places[chosen]
        return keys, places

    def records(self) -> Iterator[Record]:
        """Stream every record in the order stored."""
        last = 0
        sql = (
            f"SELECT {_RECORD} FROM records "
            "WHERE key > ? AND +collection = ? ORDER BY key LIMIT 1000"
        )
        while rows := self._db.all(sql, (last, self._key)):
            yield from (self._record(row)[1] for row in rows)
            last = rows[-1][0]

    def batches(self, n: int, wanted: NDArray[np.bool_] | None = None) -> Iterator[Batch]:
        """Stream every record with its vectors, some at a time, in the order stored.

        A batch is read at one moment, and the next one at another: the store may be written in
        between, and what is added meanwhile comes too.

        Parameters
        ----------
        n : int
            Most records of a batch.
        wanted : bool array, optional
            See `filter`.
        """
        last = 0
        sql = (
            f"SELECT {_RECORD}, segment, slot FROM records "
            "WHERE key > ? AND +collection = ? ORDER BY key LIMIT ?"
        )
        while True:
            with self._db.snapshot():
                rows = self._db.all(sql, (last, self._key, n))
                if not rows:
                    return
                last = rows[-1][0]
                if wanted is not None:
                    rows = [row for row in rows if row[0] < len(wanted) and wanted[row[0]]]
                if not rows:
                    continue
                for row in rows:
                    self._check_record(row[:8])
                columns = [list(column) for column in zip(*rows, strict=True)]
                keys, _, ids, hashes, sources, metas, texts, _, segments, slots = columns
                spans, places = None, np.array(segments, np.int64) * SLOTS + np.array(slots)
                owners = np.array(keys, np.int64)
                if self.chunking is not None:
                    found = self._chunks.find(keys)
                    chunks = [found[key] for key in keys]
                    spans = [
                        np.array([(span.start, span.end) for span, _ in of_record], np.int64)
                        for of_record in chunks
                    ]
                    places = np.array(
                        [
                            segment * SLOTS + slot
                            for of_record in chunks
                            for _, (segment, slot) in of_record
                        ],
                        np.int64,
                    )
                    owners = np.repeat(owners, [len(of_record) for of_record in chunks])
                vectors = self._segments.gather(places, owners)
            yield Batch(ids, texts, metas, sources, hashes, vectors, spans)

    def source_counts(self) -> dict[str, int]:
        """How many records came from each file."""
        # A source is "file:line"; without its digits and the colon it is the file.
        rows = self._db.all(
            "SELECT rtrim(rtrim(source, '0123456789'), ':') AS file, count(*) FROM records "
            "WHERE collection = ? GROUP BY file ORDER BY file",
            (self._key,),
        )
        return dict(rows)

    def field_counts(self, *, scalar: bool = False) -> dict[str, int]:
        """How many records have each metadata field; if wanted, as a text, number or boolean."""
        some = "AND field.type NOT IN ('array', 'object', 'null') " if scalar else ""
        rows = self._db.all(
            "SELECT field.key, count(*) AS n FROM records, json_each(records.meta) AS field "
            f"WHERE collection = ? {some}GROUP BY field.key ORDER BY n DESC, field.key",
            (self._key,),
        )
        return dict(rows)

    def _read_chunks(self, keys: Iterable[int]) -> dict[int, Chunks]:
        found = self._chunks.find(keys)
        vectors = self._segments.read(
            {place: key for key, chunks in found.items() for _, place in chunks}
        )
        return {
            key: Chunks(
                np.stack([vectors[place] for _, place in chunks]),
                np.array([(span.start, span.end) for span, _ in chunks], np.int64),
            )
            for key, chunks in found.items()
        }

    def _mean(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        mean: NDArray[np.float64] = vectors.mean(axis=0, dtype=np.float64)
        if self.recipe.normalized:
            mean /= np.linalg.norm(mean) or 1
        return mean.astype(np.float32)

    def whole_records(self, keys: Iterable[int]) -> list[Record]:
        """Fetch records by key whose vectors can be made again: all of what was encoded is here.

        Of mapped and imported vectors, and of pictures, it is not.
        """
        if self.recipe.base is not None or "imported" in self.recipe.settings:
            return []
        rows = self._db.all_in(f"SELECT {_RECORD} FROM records WHERE key IN ({{}})", (), keys)
        records = [(row[3], self._record(row)[1]) for row in rows]
        return [record for hash, record in records if record.hash == hash]

    def _record(self, row: tuple[Any, ...]) -> tuple[int, Record]:
        """Make a record, and its key, of a row of `_RECORD`."""
        self._check_record(row)
        key, _, id, _, source, meta, text, _ = row
        return key, Record(id, text, loads(meta), source)

    def _check_record(self, row: tuple[Any, ...]) -> None:
        *content, sum = row
        if record_sum(*content) != sum:
            raise damaged(self._db, f"record {row[2]!r} is not what was stored")

    def _require(self, ids: Sequence[str], found: Mapping[str, Any]) -> None:
        for id in ids:
            if id not in found:
                raise NothingFoundError(f"collection {self.name!r} has no record {id!r}")

    def _stored(self, records: Sequence[Record]) -> dict[str, _Stored]:
        return self._stored_by_id(record.id for record in records)

    def _stored_by_id(self, ids: Iterable[str]) -> dict[str, _Stored]:
        rows = self._db.all_in(
            "SELECT id, key, hash, meta, source, segment, slot FROM records "
            "WHERE collection = ? AND id IN ({})",
            (self._key,),
            ids,
        )
        return {
            id: _Stored(key, hash, meta, source, (segment, slot))
            for id, key, hash, meta, source, segment, slot in rows
        }


def _value(value: str | float) -> str | float:
    try:
        number = float(value)
    except ValueError:
        return value
    return number if isfinite(number) else value


def _file(source: str) -> str:
    return source.rpartition(":")[0]
