"""Checksums: what is read is what was written, or it is said that it is not.

Disks, cables and memory turn bits over without telling; SQLite notices only where its own
structure suffers. Whatever answers are made of has a checksum in the store (XXH3, 64 bits), which
is compared whenever it is read: vectors in groups of `GROUP`, so that single ones can be read, the
codes of a segment, the rows of small tables, every record. What was found in collections
has its own, see `finding_checks`. `embcli.store.inspection` compares all.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from embcli.errors import StoreError

if TYPE_CHECKING:
    from embcli.store.database import Database

digest = xxh3_64_intdigest
GROUP = 16
SUM = np.dtype("<u8")
# Whose rows have one checksum each.
ROWS = ("spaces", "collections", "encodings", "graphs", "maps", "clusterings", "layouts")

_PUT = "INSERT OR REPLACE INTO checks (part, key, sums) VALUES (?, ?, ?)"


class DamageError(StoreError):
    """What is in the store is not what was written."""


def damaged(db: "Database", what: str) -> DamageError:
    """Say that something in a store is not what was written."""
    return DamageError(
        f"{db.path} is damaged: {what}",
        hint=f"embcli check --db {db.path}, which says what is left",
    )


@contextmanager
def understanding(db: "Database", what: str) -> Iterator[None]:
    """Say that a store is damaged where values in it are not of their kind.

    SQLite keeps anything in any column, and whoever made the file may have made its checksums.
    """
    try:
        yield
    except (
        ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise damaged(db, f"{what} cannot be read ({type(error).__name__})") from error


def group_sums(vectors: bytes | memoryview, width: int) -> list[int]:
    """Sum up each group of vectors of `width` bytes; the last group may be smaller."""
    view, size = memoryview(vectors).cast("B"), GROUP * width
    return [digest(view[start : start + size]) for start in range(0, len(view), size)]


def record_sum(
    key: int, collection: int, id: str, hash: str, source: str, meta: str, text: str
) -> int:
    """Sum up a record: 63 bits, which SQLite can hold as an integer."""
    return digest(f"{collection}\0{id}\0{hash}\0{source}\0{meta}\0{text}".encode(), key) >> 1


def query_sum(hash: str, vector: bytes) -> int:
    """Sum up a query that is kept: 63 bits."""
    return digest(vector, digest(hash.encode())) >> 1


def span_sum(key: int, spans: NDArray[np.int64]) -> int:
    """Sum up where the chunks of a record begin and end, shape (n, 2)."""
    return digest(np.ascontiguousarray(spans, "<i8").tobytes(), key)


def row_sum(row: Sequence[Any]) -> int:
    """Sum up a row of a small table, whatever its columns hold."""
    total = 0
    for value in row:
        content = value if isinstance(value, bytes) else repr(value).encode("utf-8", "replace")
        total = digest(content, total)
    return total


def put(db: "Database", part: str, key: int, sums: Iterable[int]) -> None:
    """Keep checksums, in the place of those there. Call inside a transaction."""
    db.execute(_PUT, (part, key, np.fromiter(sums, SUM).tobytes()))


def get(db: "Database", part: str, keys: Iterable[int]) -> dict[int, NDArray[np.uint64]]:
    """Look up checksums by key; what has none is left out."""
    rows = db.all_in("SELECT key, sums FROM checks WHERE part = ? AND key IN ({})", (part,), keys)
    return {key: np.frombuffer(sums, SUM) for key, sums in rows}


def seal(db: "Database", table: str, key: int) -> None:
    """Keep the checksum of a row that was just written. Call inside a transaction."""
    row = db.one(f"SELECT * FROM {table} WHERE key = ?", (key,))
    put(db, table, key, [row_sum(row)])


def seal_all(connection: sqlite3.Connection) -> None:
    """Keep checksums of everything in a store, as it is. Call inside a transaction."""
    from embcli.store.finding_checks import seal_findings  # which needs this module

    seal_findings(connection)
    connection.create_function("record_sum", 7, record_sum, deterministic=True)
    connection.execute(
        "UPDATE records SET sum = record_sum(key, collection, id, hash, source, meta, text)"
    )
    connection.create_function("query_sum", 2, query_sum, deterministic=True)
    connection.execute("UPDATE queries SET sum = query_sum(hash, vector)")
    for (key,) in connection.execute("SELECT key FROM segments").fetchall():
        count, slots, hashes, vectors = connection.execute(
            "SELECT count, slots, hashes, vectors FROM segments WHERE key = ?", (key,)
        ).fetchone()
        sums = segment_sums(key, slots, hashes, vectors, len(vectors) // count)
        connection.execute(_PUT, ("segments", key, np.array(sums, SUM).tobytes()))
    for (key,) in connection.execute("SELECT key FROM collections").fetchall():
        listed = connection.execute(
            "SELECT key, slots FROM segments WHERE collection = ?", (key,)
        ).fetchall()
        sums = segments_sum(digest(slots, segment) for segment, slots in listed)
        connection.execute(_PUT, ("segments of", key, np.array(sums, SUM).tobytes()))
    for (key,) in connection.execute("SELECT DISTINCT record FROM chunks").fetchall():
        spans = connection.execute(
            'SELECT start, "end" FROM chunks WHERE record = ? ORDER BY number', (key,)
        ).fetchall()
        sum = span_sum(key, np.array(spans, np.int64))
        connection.execute(_PUT, ("spans", key, np.array([sum], SUM).tobytes()))
    for (key,) in connection.execute("SELECT segment FROM codes").fetchall():
        (codes,) = connection.execute(
            "SELECT codes FROM codes WHERE segment = ?", (key,)
        ).fetchone()
        connection.execute(_PUT, ("codes", key, np.array([digest(codes, key)], SUM).tobytes()))
    for table in ROWS:
        for (key,) in connection.execute(f"SELECT key FROM {table}").fetchall():
            row = connection.execute(f"SELECT * FROM {table} WHERE key = ?", (key,)).fetchone()
            connection.execute(_PUT, (table, key, np.array([row_sum(row)], SUM).tobytes()))


def segment_sums(key: int, slots: bytes, hashes: bytes, vectors: bytes, width: int) -> list[int]:
    """Sum up a segment: its slots, its hashes, and each group of vectors of `width` bytes."""
    return [digest(slots, key), digest(hashes, key), *group_sums(vectors, width)]


def segments_sum(sums: Iterable[int]) -> list[int]:
    """Sum up which segments a collection has: their number and the XOR of the sums of slots."""
    count, total = 0, 0
    for of_slots in sums:
        count, total = count + 1, total ^ of_slots
    return [count, total]


def checked_row(db: "Database", table: str, key: int) -> tuple[Any, ...]:
    """Read a row of a small table and compare it with its checksum.

    Raises
    ------
    DamageError
        It differs, has none, or is not there.
    """
    for row in checked_rows(db, table, "t.key = ?", (key,)):
        return row
    raise damaged(db, f"row {key} of the table {table} is not what was stored")


def checked_rows(
    db: "Database", table: str, condition: str, parameters: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """Read rows of a small table, known as `t`, and compare each with its checksum.

    Raises
    ------
    DamageError
        One differs, or has none.
    """
    rows = db.all(
        f"SELECT (SELECT sums FROM checks WHERE part = ? AND checks.key = t.key), t.* "
        f"FROM {table} AS t WHERE {condition}",
        (table, *parameters),
    )
    for sums, *row in rows:
        if sums is None or np.frombuffer(sums, SUM).tolist() != [row_sum(row)]:
            raise damaged(db, f"row {row[0]} of the table {table} is not what was stored")
    return [row[1:] for row in rows]
