"""Compare everything in a store with its checksums, and find what is lost."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.errors import StoreError
from embcli.store import checks, finding_checks
from embcli.store.checks import GROUP, SUM, digest
from embcli.store.database import Database
from embcli.store.segments import DTYPES, KEY
from embcli.store.text_index import missing

Advance = Callable[[int, int], None]

_RECORDS_AT_ONCE = 5000
_MOST_MESSAGES = 100
_OF_INDEXES = ("missing from index", "wrong # of entries in index", "non-unique entry in index")
_RECORDS = (
    "SELECT key, collection, id, hash, source, meta, text, sum FROM records "
    "WHERE key > ? ORDER BY key LIMIT ?"
)


@dataclass
class Damage:
    """What of a store is not what was written.

    Attributes
    ----------
    structure : list of str
        What SQLite says of the file; when there is anything, the rest may not be complete.
    rows : dict from table to list of int
        Keys of rows of small tables.
    segments : dict from collection to list of int
        Segments some of whose slots, hashes or vectors differ.
    missing : list of str
        Rows that are not there any more, although something tells of them.
    orphans : dict from int to int
        Collections that are not there any more, and how many records they have.
    gone : dict from collection to int
        How many records are not there any more, although there are vectors of them.
    unequal : list of int
        Collections whose segments are not those that were written, or hold vectors of no record.
    codes : list of int
        Segments whose codes differ.
    records : dict from collection to list of int
        Records that differ.
    vectors : dict from collection to list of int
        Records whose vectors are lost or are not where they should be.
    findings : dict from table to dict from int to int
        How many rows that belong to each clustering and layout differ, or belong to none.
    texts : str or None
        What is wrong with the full-text index.
    unchecked : list of str
        What could not be looked at, and why.
    checked : dict from str to int
        How much was looked at: bytes, rows, records, segments, vectors, codes, findings.
    """

    structure: list[str] = field(default_factory=list)
    rows: dict[str, list[int]] = field(default_factory=dict)
    segments: dict[int, list[int]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    orphans: dict[int, int] = field(default_factory=dict)
    gone: dict[int, int] = field(default_factory=dict)
    unequal: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    records: dict[int, list[int]] = field(default_factory=dict)
    vectors: dict[int, list[int]] = field(default_factory=dict)
    findings: dict[str, Counter[int]] = field(default_factory=dict)
    texts: str | None = None
    unchecked: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)

    @property
    def only_indexes(self) -> bool:
        """Whether all that SQLite finds wrong are its indexes, which can be made again."""
        return all(any(known in each for known in _OF_INDEXES) for each in self.structure)

    def __bool__(self) -> bool:
        parts = (self.structure, self.rows, self.segments, self.unequal, self.codes, self.records)
        lost = (self.vectors, self.findings, self.texts, self.missing, self.orphans, self.gone)
        return any((*parts, *lost))


class Remains(NamedTuple):
    """What is left of a segment.

    Attributes
    ----------
    key : int
    slots : int64 array, shape (count,), or None
        None if they are not what was stored.
    hashes : bool
        Whether its hashes and the number of its vectors are what was stored.
    whole : bool array, shape (count,)
        Which of its vectors are.
    """

    key: int
    slots: NDArray[np.int64] | None
    hashes: bool
    whole: NDArray[np.bool_]

    @property
    def sound(self) -> bool:
        """Whether all is what was stored."""
        return self.slots is not None and self.hashes and bool(self.whole.all())


def remains(db: Database, collection: int, width: int) -> Iterator[Remains]:
    """Find out what is left of each segment of a collection whose vectors have `width` bytes."""
    # Not by the index on collections, which may be what is damaged.
    listed = "SELECT key FROM segments WHERE +collection = ? ORDER BY key"
    for (key,) in db.all(listed, (collection,)):
        held, slots, hashes, vectors, sums = db.one(
            "SELECT count, slots, hashes, vectors, (SELECT sums FROM checks WHERE part = "
            "'segments' AND checks.key = segments.key) FROM segments WHERE key = ?",
            (key,),
        )
        expected: list[int | None] = [*np.frombuffer(sums or b"", SUM).tolist(), None, None]
        of_slots, of_hashes, *of_groups = expected
        count = len(vectors) // width
        same = np.zeros(-(-count // GROUP), np.bool_)
        for group, found in enumerate(checks.group_sums(vectors, width)[: len(same)]):
            same[group] = group < len(of_groups) and found == of_groups[group]
        fits = len(slots) == len(hashes) == count * KEY.itemsize
        yield Remains(
            key,
            np.frombuffer(slots, KEY) if fits and digest(slots, key) == of_slots else None,
            fits and held == count and digest(hashes, key) == of_hashes,
            np.repeat(same, GROUP)[:count],
        )


def inspect(db: Database, advance: Advance = lambda done, total: None) -> Damage:
    """Look at everything in a store.

    Parameters
    ----------
    db : Database
    advance : callable
        Told how many records and vectors were looked at, and how many there are.

    Returns
    -------
    damage : Damage
        False if there is none.
    """
    inspection = _Inspection(db, advance)
    for part in (
        inspection.structure,
        inspection.rows,
        inspection.records,
        inspection.vectors,
        inspection.codes,
        inspection.findings,
        inspection.texts,
    ):
        try:
            part()
        except StoreError as error:
            # What SQLite cannot read has no rows to be named.
            if error.message not in inspection.damage.structure:
                inspection.damage.structure.append(error.message)
    return inspection.damage


class _Inspection:
    def __init__(self, db: Database, advance: Advance) -> None:
        self.damage = Damage()
        self._db = db
        self._advance = advance
        self._done = self._total = 0
        # What is no UTF-8 any more is read all the same, and its checksum differs.
        db.connection.text_factory = lambda text: text.decode("utf-8", "backslashreplace")

    def _looked_at(self, part: str, count: int) -> None:
        self.damage.checked[part] = self.damage.checked.get(part, 0) + count
        if part in ("records", "vectors"):
            self._done += count
            self._advance(self._done, self._total)

    def structure(self) -> None:
        self._looked_at("bytes", self._db.path.stat().st_size)
        try:
            found = self._db.all(f"PRAGMA integrity_check({_MOST_MESSAGES})")
        except StoreError as error:
            if "malformed JSON" not in error.message:
                raise
            # An index on a field of metadata that are no JSON any more cannot be compared.
            found = self._db.all(f"PRAGMA quick_check({_MOST_MESSAGES})")
        for (text,) in found:
            if text != "ok":
                self.damage.structure += text.split("\n")

    def rows(self) -> None:
        self._total = self._db.value("SELECT count(*) FROM records")
        self._total += self._db.value("SELECT coalesce(sum(count), 0) FROM segments")
        for table in checks.ROWS:
            for (key,) in self._db.all(f"SELECT key FROM {table}"):
                self._looked_at("rows", 1)
                try:
                    checks.checked_row(self._db, table, key)
                except checks.DamageError:
                    self.damage.rows.setdefault(table, []).append(key)
            gone = f"SELECT key FROM checks WHERE part = ? AND key NOT IN (SELECT key FROM {table})"
            self.damage.missing += [f"{table} {key}" for (key,) in self._db.all(gone, (table,))]
        for name, space in self._db.all("SELECT name, space FROM collections"):
            if not self._db.all("SELECT 1 FROM spaces WHERE key = ?", (space,)):
                self.damage.missing.append(f"the space of collection {name}")
        there = {key for (key,) in self._db.all("SELECT key FROM collections")}
        counted = "SELECT collection, count(*) FROM {} GROUP BY collection"
        for table in ("segments", "records"):
            for key, count in self._db.all(counted.format(table)):
                if key not in there:
                    self.damage.orphans[key] = count if table == "records" else 0

    def records(self) -> None:
        last = 0
        while rows := self._db.all(_RECORDS, (last, _RECORDS_AT_ONCE)):
            for *content, sum in rows:
                if not is_record(content) or checks.record_sum(*content) != sum:
                    self.damage.records.setdefault(content[1], []).append(content[0])
            last = rows[-1][0]
            self._looked_at("records", len(rows))

    def vectors(self) -> None:
        collections = self._db.all(
            "SELECT c.key, s.dim, c.dtype, c.chunking FROM collections AS c "
            "JOIN spaces AS s ON s.key = c.space"
        )
        for key, dim, dtype, chunking in collections:
            if dtype in DTYPES and isinstance(dim, int) and dim > 0:
                self._vectors_of(key, dim * DTYPES[dtype].itemsize, chunking is not None)

    def _vectors_of(self, collection: int, width: int, chunked: bool) -> None:
        found, sums = [], []
        for segment in remains(self._db, collection, width):
            self._looked_at("segments", 1)
            self._looked_at("vectors", len(segment.whole))
            if not segment.sound:
                self.damage.segments.setdefault(collection, []).append(segment.key)
            if segment.slots is not None:
                sums.append(digest(segment.slots.tobytes(), segment.key))
            found.append(segment)
        lost = lost_vectors(self._db, collection, chunked, Places(found))
        if lost.keys:
            self.damage.vectors[collection] = lost.keys
        if lost.gone:
            self.damage.gone[collection] = lost.gone
        kept = checks.get(self._db, "segments of", [collection]).get(collection)
        equal = kept is not None and kept.tolist() == checks.segments_sum(sums)
        if lost.strays or not equal:
            self.damage.unequal.append(collection)

    def codes(self) -> None:
        for (key,) in self._db.all("SELECT segment FROM codes"):
            codes, sums = self._db.one(
                "SELECT codes, (SELECT sums FROM checks WHERE part = 'codes' AND key = segment) "
                "FROM codes WHERE segment = ?",
                (key,),
            )
            self._looked_at("codes", 1)
            if np.frombuffer(sums or b"", SUM).tolist() != [digest(codes, key)]:
                self.damage.codes.append(key)

    def findings(self) -> None:
        for owners, parts in finding_checks.FINDINGS.items():
            there = {key for (key,) in self._db.all(f"SELECT key FROM {owners}")}
            wrong: Counter[int] = Counter()
            for part in parts:
                for rows in finding_checks.portions(self._db.all, part):
                    self._looked_at("findings", len(rows))
                    differ = finding_checks.differing(part, rows)
                    wrong.update(
                        row[0]
                        for row, differs in zip(rows, differ, strict=True)
                        if differs or row[0] not in there
                    )
            if wrong:
                self.damage.findings[owners] = wrong

    def texts(self) -> None:
        """Let FTS5 compare the full-text index with the texts, which takes the right to write."""
        if self.damage.records:
            self.damage.unchecked.append("the full-text index, because texts are damaged")
            return
        try:
            with (
                closing(Database(self._db.path, readonly=False, timeout=self._db.timeout)) as db,
                db.transaction(),
            ):
                # While records are waiting to be indexed, the two differ without damage.
                db.execute(
                    "INSERT INTO records_fts (records_fts, rank) VALUES ('integrity-check', ?)",
                    (0 if missing(db) else 1,),
                )
        except (StoreError, sqlite3.DatabaseError) as error:
            cause = error.__cause__ if isinstance(error, StoreError) else error
            code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_IOERR) & 0xFF
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR):
                self.damage.texts = str(cause)
            else:
                self.damage.unchecked.append(f"the full-text index ({cause or error})")


class Places:
    """The slots of all segments of a collection, one after the other.

    Parameters
    ----------
    found : list of Remains

    Attributes
    ----------
    owners : int64 array, shape (n,)
        The record that each slot names: 0 if none, -1 if that cannot be known.
    whole : bool array, shape (n,)
        Whether its vector is what was stored.
    """

    def __init__(self, found: list[Remains]) -> None:
        self._segments = np.array([segment.key for segment in found], np.int64)
        counts = [len(segment.whole) for segment in found]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.owners = np.full(self._starts[-1], -1)
        for segment, start in zip(found, self._starts.tolist(), strict=False):
            if segment.slots is not None:
                self.owners[start : start + len(segment.whole)] = segment.slots
        self.whole = np.concatenate([np.empty(0, np.bool_), *(each.whole for each in found)])

    def find(self, segments: NDArray[np.int64], slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index places into `owners` and `whole`: -1 where there is no such place."""
        if not len(self._segments):
            return np.full(len(segments), -1)
        at = np.searchsorted(self._segments, segments).clip(max=len(self._segments) - 1)
        inside = (self._segments[at] == segments) & (slots >= 0)
        inside &= slots < np.diff(self._starts)[at]
        return np.where(inside, self._starts[at] + slots, -1)


class Lost(NamedTuple):
    """What a collection has lost.

    Attributes
    ----------
    keys : list of int
        Records not all of whose vectors, and pieces of text, are as they were.
    gone : int
        Records that are not there any more, although there are vectors of them.
    strays : bool
        Whether there are vectors that no record says are its own.
    owners : int64 array, shape (n,)
        The record that each slot of `Places` is of; 0 where that is lost, or there is none.
    """

    keys: list[int]
    gone: int
    strays: bool
    owners: NDArray[np.int64]


def lost_vectors(db: Database, collection: int, chunked: bool, places: Places) -> Lost:
    """Find what records of a collection have lost: what both they and the slots say counts."""
    keys, *place = db.arrays(
        "SELECT key, segment, slot FROM records WHERE +collection = ? AND key > ? "
        "ORDER BY key LIMIT ?",
        (collection,),
        (np.int64, np.int64, np.int64),
    )
    holders, torn = keys, np.empty(0, np.int64)
    if chunked:
        holders, place, torn = _chunks(db, collection)
    at = places.find(*place)
    own = at >= 0
    owners = places.owners[at[own]]
    own[own] = (owners == holders[own]) | (owners < 0)
    fine = own.copy()
    fine[own] = places.whole[at[own]]
    slots, claims = np.unique(at[own], return_counts=True)
    fine &= ~np.isin(at, slots[claims > 1])
    unclaimed = (places.owners > 0) & ~np.isin(np.arange(len(places.owners)), slots)
    strays = places.owners[unclaimed]
    without = np.setdiff1d(keys, holders)
    lost = np.unique(np.concatenate([holders[~fine], torn, without, np.intersect1d(strays, keys)]))
    found = np.zeros(len(places.owners), np.int64)
    found[at[fine]] = holders[fine]
    found[np.isin(found, lost)] = 0
    return Lost(lost.tolist(), len(np.setdiff1d(strays, keys)), bool(len(strays)), found)


def _chunks(
    db: Database, collection: int
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]], NDArray[np.int64]]:
    """Read the chunks of a collection: whose they are, their places, and which records lack any."""
    rows = db.all(
        'SELECT record, number, segment, slot, start, "end" FROM chunks WHERE record IN '
        "(SELECT key FROM records WHERE +collection = ?) ORDER BY record, number",
        (collection,),
    )
    holders, numbers, segments, slots, *spans = np.array(rows, np.int64).reshape(-1, 6).T
    keys, first, counts = np.unique(holders, return_index=True, return_counts=True)
    gaps = holders[numbers != np.arange(len(holders)) - np.repeat(first, counts)]
    kept = checks.get(db, "spans", keys.tolist())
    pairs = np.stack(spans, axis=1)
    moved = [
        key
        for key, start, count in zip(keys.tolist(), first.tolist(), counts.tolist(), strict=True)
        if checks.span_sum(key, pairs[start : start + count]) not in kept.get(key, ())
    ]
    return holders, [segments, slots], np.array([*gaps.tolist(), *moved], np.int64)


def is_record(content: Sequence[object]) -> bool:
    """Whether values have the types that a record's have."""
    return all(isinstance(value, int) for value in content[:2]) and all(
        isinstance(value, str) for value in content[2:]
    )
