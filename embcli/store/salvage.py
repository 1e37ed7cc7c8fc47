"""Copy what can still be read of a file whose structure is damaged into a new store."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from embcli.errors import StoreError
from embcli.store import pages
from embcli.store.bits import record_turned_back
from embcli.store.checks import SUM, digest, record_sum, row_sum, seal, seal_all
from embcli.store.database import Database
from embcli.store.fields import field_at, indexed_path
from embcli.store.finding_checks import FINDINGS
from embcli.store.inspection import is_record
from embcli.store.known_texts import prefixes
from embcli.store.segments import KEY, PREFIX

# In this order: vectors before what triggers delete when vectors come. What follows from vectors
# (codes, encodings, neighbours) is made again.
_BY_KEY = ("spaces", "collections", "segments", "records", "maps", "runs", "queries")
# Of which each row has a checksum, and must not go unnoticed.
_ROWS = ("spaces", "collections", "maps")
_HIGHEST = (1 << 63) - 1
_Sums = dict[tuple[str, int], bytes]


def salvage(damaged: Path, database: Database) -> dict[str, int]:
    """Copy every row that can be read.

    Rows keep their keys and checksums, so that what is wrong in them shows when the copy is
    inspected.

    Parameters
    ----------
    damaged : Path
        Opened for reading only.
    database : Database
        An empty store.

    Returns
    -------
    copied : dict from table to int
        How many rows; under ``known``, how many records the vectors that were read are of.

    Raises
    ------
    StoreError
        Not even the list of tables can be read.
    """
    uri = f"{damaged.resolve().as_uri()}?mode=ro"
    copied: dict[str, int] = {}
    with closing(sqlite3.connect(uri, uri=True)) as source:
        # Texts that are no UTF-8 any more come as bytes, and their records as damaged.
        source.text_factory = pages.text
        # A file that was cut short is not opened otherwise.
        source.execute("PRAGMA writable_schema = ON")
        try:
            tables = {name for (name,) in source.execute("SELECT name FROM sqlite_master")}
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{damaged} is no SQLite database, or has lost its list of tables ({error})",
                hint=f"name another file with --db, or, if it was a store: sqlite3 {damaged} "
                ".recover",
            ) from error
        sums = _checksums(source, damaged) if "checks" in tables else {}
        with database.transaction():
            for table in (*_BY_KEY, *FINDINGS):
                if table in tables:
                    rows = _readable(source, table, _columns(database, source, table))
                    if table == "records":
                        rows = _unlike(rows)
                    copied[table] = _copy(database, source, table, rows)
            if "checks" in tables:
                for table in _ROWS:
                    copied[table] += _rows_off_pages(database, source, damaged, table, sums)
                copied["segments"] += _segments_off_pages(database, damaged, sums)
                copied["records"] += _records_off_pages(database, damaged)
            if "chunks" in tables:
                copied["chunks"] = _copy_by(database, source, "chunks", "record", "records")
            for table, parts in FINDINGS.items():
                if table in tables and not all(_copy_whole(database, source, p) for p in parts):
                    for each in (table, *parts):
                        database.execute(f"DELETE FROM {each}")
                    copied[table] = 0
            if "checks" in tables:
                copied["unverified"] = _copy_checks(database, sums)
            else:  # a store from before there were any: what is left is taken as it is
                seal_all(database.connection)
            # What the file has as SQL is not run: it may be anything.
            indexes = "SELECT name FROM sqlite_master WHERE type = 'index'"
            for path in {indexed_path(str(name)) for (name,) in source.execute(indexes)} - {None}:
                database.execute(field_at(str(path)).index_sql)
            database.execute("INSERT INTO records_fts (records_fts) VALUES ('rebuild')")
        copied["known"] = len(_known(database))
    return copied


def _known(database: Database) -> dict[int, int]:
    """Tell which records the vectors are of, and 64 bits of the hash of each."""
    known: dict[int, int] = {}
    for slots, hashes in database.all("SELECT slots, hashes FROM segments"):
        keys, bits = np.frombuffer(slots, KEY), np.frombuffer(hashes, PREFIX)
        if len(keys) == len(bits):
            known.update(zip(keys.tolist(), bits.tolist(), strict=True))
    known.pop(0, None)
    return known


def _unlike(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Give records that are what was stored first, then the others, under ids that none has.

    Of those in which one bit was turned over it is turned back.
    """
    damaged = []
    for row in rows:
        key, collection, id, hash, _, _, *texts, sum = (*row, None)[:10]
        content = key, collection, id, hash, *texts
        if len(row) < 10 or (is_record(content) and record_sum(*content) == sum):
            yield row
        else:
            damaged.append(row)
    for row in damaged:
        key, collection, id, hash, segment, slot, *texts, sum = row
        right = record_turned_back(key, (collection, id, hash, *texts), sum)
        if right is not None:
            yield (key, *right[:3], segment, slot, *right[3:])
        else:
            yield (key, collection, f"{id} (damaged, {key})", *row[3:])


def _checksums(source: sqlite3.Connection, damaged: Path) -> _Sums:
    """Read all checksums, off their pages where no tree leads to them."""
    found: _Sums = {}
    try:
        for part, key, sums in source.execute("SELECT part, key, sums FROM checks"):
            found[part, key] = sums
    except sqlite3.DatabaseError:
        for part, key, sums in pages.rows(damaged, 3, keyed=False):
            if isinstance(part, str) and isinstance(key, int) and isinstance(sums, bytes):
                found.setdefault((part, key), sums)
    return {place: sums for place, sums in found.items() if len(sums) % SUM.itemsize == 0}


def _rows_off_pages(
    database: Database, source: sqlite3.Connection, damaged: Path, table: str, sums: _Sums
) -> int:
    """Copy rows of a small table that no tree leads to any more: those with a checksum."""
    wanted = {key for part, key in sums if part == table} - _keys(database, table)
    columns = [row[1] for row in database.all(f"PRAGMA table_info({table})")]
    count = 0
    for row in pages.rows(damaged, len(columns)) if wanted else ():
        if row[0] in wanted and _as_list(sums[table, row[0]]) == [row_sum(row)]:
            count += _copy(database, source, table, iter([row]))
            wanted.discard(row[0])
    return count


def _as_list(sums: bytes | None) -> list[int]:
    found: list[int] = np.frombuffer(sums or b"", SUM).tolist()
    return found


def _segments_off_pages(database: Database, damaged: Path, sums: _Sums) -> int:
    """Copy segments that no tree leads to any more: those whose slots have a checksum."""
    wanted = {key for part, key in sums if part == "segments"} - _keys(database, "segments")
    count = 0
    for row in pages.rows(damaged, 6) if wanted else ():
        key, _, _, slots, *_ = row
        if key not in wanted or not isinstance(slots, bytes):
            continue
        if [digest(slots, key)] == _as_list(sums["segments", key])[:1]:
            sql = "INSERT INTO segments (key, collection, count, slots, hashes, vectors) "
            database.execute(f"{sql} VALUES (?, ?, ?, ?, ?, ?)", row)
            wanted.discard(key)
            count += 1
    return count


def _records_off_pages(database: Database, damaged: Path) -> int:
    """Copy records that no tree leads to any more: those that a vector is of."""
    there = _keys(database, "records")
    known = {key: bits for key, bits in _known(database).items() if key not in there}
    count = 0
    if not known:
        return count
    names = "key, collection, id, hash, segment, slot, source, meta, text, sum"
    sql = f"INSERT OR IGNORE INTO records ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    for row in pages.rows(damaged, 10):
        key, collection, id, hash, _, _, *texts, sum = row
        content = key, collection, id, hash, *texts
        # A row that was deleted or changed since has another hash, or its key is not known.
        if key not in known or not is_record(content) or record_sum(*content) != sum:
            continue
        if prefixes([hash]).tolist() == [known[key]]:
            count += database.execute(sql, row).rowcount
    return count


def _columns(database: Database, source: sqlite3.Connection, table: str) -> list[str]:
    there = {row[1] for row in source.execute(f"PRAGMA table_info({table})")}
    return [row[1] for row in database.all(f"PRAGMA table_info({table})") if row[1] in there]


def _copy(
    database: Database, source: sqlite3.Connection, table: str, rows: Iterator[tuple[Any, ...]]
) -> int:
    columns = _columns(database, source, table)
    names = ", ".join(f'"{column}"' for column in columns)
    marks = ", ".join("?" * len(columns))
    count = 0
    for row in rows:
        # OR IGNORE: of rows that contradict each other the first stays.
        count += database.execute(
            f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", row
        ).rowcount
    return count


def _readable(
    source: sqlite3.Connection, table: str, columns: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """Read the rows of a table with integer keys, passing over what cannot be read."""
    names = ", ".join(f'"{column}"' for column in columns)
    sql = f"SELECT {names} FROM {table} WHERE rowid >= ? ORDER BY rowid"
    start: int | None = 1
    while start is not None:
        try:
            for row in source.execute(sql, (start,)):
                yield row
                start = row[0] + 1
            return
        except sqlite3.DatabaseError:
            start = _beyond(source, table, start)


def _beyond(source: sqlite3.Connection, table: str, start: int) -> int | None:
    """Find the next key from which a table can be read on, by ever longer steps, then shorter."""
    sql = f"SELECT rowid, * FROM {table} WHERE rowid >= ? ORDER BY rowid LIMIT 1"

    def readable(key: int) -> bool:
        try:
            # With nothing left to read there is nothing to go on from.
            return source.execute(sql, (key,)).fetchone() is not None
        except sqlite3.DatabaseError:
            return False

    step = 1
    while start + step <= _HIGHEST and not readable(start + step):
        step *= 2
    if start + step > _HIGHEST:
        # The table may end between two of the longer steps.
        known = _last(source, table)
        if known is None or known <= start or not readable(known):
            return None
        low, high = start, known
    else:
        low, high = start + step // 2, start + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if readable(middle) else (middle, high)
    return high


def _last(source: sqlite3.Connection, table: str) -> int | None:
    try:
        found: int | None = source.execute(f"SELECT max(rowid) FROM {table}").fetchone()[0]
        return found
    except sqlite3.DatabaseError:
        return None


def _copy_by(
    database: Database, source: sqlite3.Connection, table: str, column: str, owners: str
) -> int:
    """Copy a table without integer keys, for each row of another one."""
    count = 0
    for (key,) in database.all(f"SELECT key FROM {owners}"):
        try:
            sql = f"SELECT * FROM {table} WHERE {column} = ?"
            rows = source.execute(sql, (key,)).fetchall()
        except sqlite3.DatabaseError:
            continue
        count += _copy(database, source, table, iter(rows))
    return count


def _copy_checks(database: Database, sums: _Sums) -> int:
    """Copy the checksums of what was copied; return how many rows of small tables have none.

    Those are taken as they are: not to be able to read a checksum is not to find that it differs.
    """
    owners = {"segments": "segments", "segments of": "collections", "spans": "records"}
    owners |= {table: table for table in FINDINGS}
    there = {table: _keys(database, table) for table in {*owners.values(), *_ROWS}}
    database.executemany(
        "INSERT OR REPLACE INTO checks (part, key, sums) VALUES (?, ?, ?)",
        (
            (part, key, content)
            for (part, key), content in sums.items()
            # What there was of small tables and is lost is missed when the copy is inspected.
            if part in _ROWS or (part in owners and key in there[owners[part]])
        ),
    )
    bare = [(table, key) for table in _ROWS for key in there[table] if (table, key) not in sums]
    for table, key in bare:
        seal(database, table, key)
    return len(bare)


def _keys(database: Database, table: str) -> set[int]:
    return {key for (key,) in database.all(f"SELECT key FROM {table}")}


def _copy_whole(database: Database, source: sqlite3.Connection, table: str) -> bool:
    """Copy a table, if all of it can be read."""
    try:
        names = ", ".join(_columns(database, source, table))
        rows = source.execute(f"SELECT {names} FROM {table}").fetchall()
    except sqlite3.DatabaseError:
        return False
    _copy(database, source, table, iter(rows))
    return True
