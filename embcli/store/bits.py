"""Turn single bits back: a checksum that differs tells which one it was.

Among all contents that differ from what is there in one bit, the one that was stored is the only
one with its checksum (another has it with a probability of 2⁻⁴⁰ or so). What is damaged in more
than that, or is too large to be tried, stays as it is.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

import numpy as np

from embcli.store import checks
from embcli.store.checks import GROUP, SUM, digest
from embcli.store.database import Database
from embcli.store.fields import quoted_name
from embcli.store.inspection import Damage

# A second's work or two for each; where many are damaged it is not by single bits.
_LARGEST = 1 << 17
_SECONDS = 60.0
_MOST_OF_SEGMENT = 4
_RECORD = "collection, id, hash, source, meta, text"


def turned_back(content: bytes, is_right: Callable[[bytearray], bool]) -> bytes | None:
    """Find the content that differs in one bit and is right; None if there is none."""
    if len(content) > _LARGEST:
        return None
    tried = bytearray(content)
    for place in range(len(tried)):
        for bit in range(8):
            tried[place] ^= 1 << bit
            if is_right(tried):
                return bytes(tried)
            tried[place] ^= 1 << bit
    return None


def turn_back(db: Database, damage: Damage) -> int:
    """Turn back what can be turned back of damaged rows, records and segments in a minute.

    Call inside a transaction.

    Returns
    -------
    count : int
        How many bits.
    """
    tables = ("spaces", "collections", "maps", "clusterings", "layouts")
    tasks = [
        partial(_row, db, table, key) for table in tables for key in damage.rows.get(table, ())
    ]
    for mend, damaged in ((_record, damage.records), (_segment, damage.segments)):
        tasks += [partial(mend, db, key) for keys in damaged.values() for key in keys]
    end = time.monotonic() + _SECONDS
    return sum(task() for task in takewhile(lambda task: time.monotonic() < end, tasks))


def _one_bit(left: int, right: int) -> bool:
    """Whether two checksums differ in one bit, so that it is they that were damaged."""
    return (left ^ right).bit_count() == 1


def _row(db: Database, table: str, key: int) -> int:
    columns = [column[1] for column in db.all(f"PRAGMA table_info({table})")]
    row = [_raw(db, table, column, key) for column in columns]
    sums = checks.get(db, table, [key]).get(key, np.empty(0, SUM)).tolist()
    if len(sums) != 1:
        return 0
    if _one_bit(checks.row_sum(_decoded(row)), sums[0]):
        checks.seal(db, table, key)
        return 1
    for place, column in enumerate(columns[1:], 1):
        for value in _values(row[place]):
            tried = _decoded([*row[:place], value, *row[place + 1 :]])
            if checks.row_sum(tried) == sums[0]:
                sql = f'UPDATE {table} SET "{column}" = ? WHERE key = ?'
                db.execute(sql, (tried[place], key))
                return 1
    return 0


class _Text(bytes):
    """A text as the file has it, which need not be UTF-8 any more."""


def _raw(db: Database, table: str, column: str, key: int) -> Any:
    """Read a value; a text as its bytes."""
    name = quoted_name(column)
    kind, value = db.one(
        f"SELECT typeof({name}), CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) "
        f"ELSE {name} END FROM {table} WHERE key = ?",
        (key,),
    )
    return _Text(value) if kind == "text" else value


def _decoded(row: Sequence[Any]) -> list[Any]:
    return [
        value.decode("utf-8", "backslashreplace") if isinstance(value, _Text) else value
        for value in row
    ]


def _values(value: Any) -> Iterator[Any]:
    """Give every value that differs in one bit."""
    if isinstance(value, int):
        yield from (value ^ (1 << bit) for bit in range(48))
    elif isinstance(value, bytes) and len(value) <= _LARGEST >> 3:
        for place in range(8 * len(value)):
            changed = bytearray(value)
            changed[place >> 3] ^= 1 << (place & 7)
            yield type(value)(changed)


def record_turned_back(key: int, content: Sequence[Any], stored: Any) -> list[Any] | None:
    """Find what a record was that differs in one bit, its checksum among them.

    Parameters
    ----------
    key : int
    content : sequence
        Collection, id, hash, source, meta, text; texts that are no UTF-8 any more as bytes.
    stored : int
        The checksum.

    Returns
    -------
    right : list or None
        The same and the checksum; None if it is not known.
    """
    if not isinstance(stored, int) or not all(isinstance(v, str | bytes) for v in content[1:]):
        return None
    parts = [value if isinstance(value, bytes) else str(value).encode() for value in content]
    joined = b"\0".join(parts)
    found = digest(joined, key) >> 1
    if _one_bit(found, stored):
        return [content[0], *(part.decode() for part in parts[1:]), found]
    right = turned_back(joined, lambda tried: digest(tried, key) >> 1 == stored)
    if right is None:
        return None
    values: list[Any] = []
    start = 0
    for part in parts:  # not by the NULs between: texts may hold some
        values.append(right[start : start + len(part)].decode())
        start += len(part) + 1
    return [int(values[0]), *values[1:], stored]


def _record(db: Database, key: int) -> int:
    *content, stored = (
        _raw(db, "records", column, key) for column in (*_RECORD.split(", "), "sum")
    )
    right = record_turned_back(key, content, stored)
    if right is None:
        return 0
    names = ", ".join(f"{column} = ?" for column in (*_RECORD.split(", "), "sum"))
    db.execute(f"UPDATE records SET {names} WHERE key = ?", (*right, key))
    return 1


def _segment(db: Database, key: int) -> int:
    slots, hashes, vectors = db.one(
        "SELECT slots, hashes, vectors FROM segments WHERE key = ?", (key,)
    )
    sums = checks.get(db, "segments", [key]).get(key, np.empty(0, SUM)).tolist()
    held = len(slots) // 8
    if not held or len(vectors) % held or len(sums) != 2 + -(-held // GROUP):
        return 0
    size = GROUP * (len(vectors) // held)
    parts: list[tuple[str, int, bytes, int]] = [
        ("slots", 0, slots, key),
        ("hashes", 0, hashes, key),
        *(
            ("vectors", start, vectors[start : start + size], 0)
            for start in range(0, len(vectors), size)
        ),
    ]
    wrong = [n for n, part in enumerate(parts) if digest(part[2], part[3]) != sums[n]]
    if len(wrong) > _MOST_OF_SEGMENT:
        return 0
    count = 0
    for number in wrong:
        right = _part(db, key, parts[number], sums[number])
        if right is not None:
            sums[number] = right
            count += 1
    if count:
        checks.put(db, "segments", key, sums)
    return count


def _part(db: Database, key: int, part: tuple[str, int, bytes, int], stored: int) -> int | None:
    """Turn a bit of a part of a segment back, or of its checksum; return what this is then."""
    column, start, content, seed = part
    found = digest(content, seed)
    if _one_bit(found, stored):
        return found
    right = turned_back(content, lambda tried: digest(tried, seed) == stored)
    if right is None:
        return None
    with db.blob("segments", column, key, readonly=False) as blob:
        blob.seek(start)
        blob.write(right)
    return stored
