"""Checksums of what was found in collections: clusters, the records in them, and points.

There is a row for every record, and triggers delete it with the record: so each has a sum of its
own, in a column, and NumPy makes and compares those of whole columns.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embcli.store import checks

if TYPE_CHECKING:
    from embcli.store.database import Database

# What belongs to rows of these tables, which has its checksums in a column `sum`.
FINDINGS = {"clusterings": ("clusters", "assignments"), "layouts": ("points",)}
# What these sum up. The first two are the primary key; the first is whose rows they are.
COLUMNS = {
    "clusters": ("clustering", "number", "name", "medoid", "cohesion", "keywords", "parent"),
    "assignments": ("clustering", "record", "cluster", "strength"),
    "points": ("layout", "record", "x", "y", "z", "placed"),
}

_REALS = ("strength", "x", "y", "z")
_ROWS_AT_ONCE = 1 << 14
_LOWEST = -(1 << 63)
_GAMMA, _FIRST, _SECOND = (
    np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def cluster_sum(*row: Any) -> int:
    """Sum up a row of `clusters`, in 62 bits.

    The medoid is added, so that a trigger can take it away again.
    """
    medoid: int | None = row[3]
    return (checks.row_sum((*row[:3], *row[4:])) >> 2) + (medoid or 0)


def column_sums(columns: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Sum up every row of some columns of numbers.

    Parameters
    ----------
    columns : sequence of arrays, shape (n,)
        Integers, truth values, or floats, of which NaN stands for NULL.

    Returns
    -------
    sums : int64 array, shape (n,)

    Notes
    -----
    Each number is taken as the 64 bits that SQLite keeps of it, -0.0 as 0.0. They are added by XOR
    to the sum of those before, which is then mixed as SplitMix64 does. This loses nothing: rows
    that differ in one number never have the same sum, others in one case of 2^64.

    References
    ----------
    Steele, Lea and Flood (2014), Fast splittable pseudorandom number generators.
    """
    total = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        if column.dtype.kind == "f":
            numbers = column.astype(np.float64) + 0.0
            numbers[np.isnan(numbers)] = np.nan  # of which there are many
            total ^= numbers.view(np.uint64)
        else:
            total ^= column.astype(np.int64).view(np.uint64)
        total += _GAMMA
        for shift, factor in ((np.uint64(30), _FIRST), (np.uint64(27), _SECOND)):
            total ^= total >> shift
            total *= factor
        total ^= total >> np.uint64(31)
    return total.view(np.int64)


def seal_clusters(db: "Database | sqlite3.Connection", clustering: int) -> None:
    """Keep the checksums of the clusters of a clustering. Call inside a transaction."""
    names = ", ".join(COLUMNS["clusters"])
    rows = db.execute(
        f"SELECT {names} FROM clusters WHERE clustering = ?", (clustering,)
    ).fetchall()
    db.executemany(
        "UPDATE clusters SET sum = ? WHERE clustering = ? AND number = ?",
        [(cluster_sum(*row), *row[:2]) for row in rows],
    )


def seal_findings(connection: sqlite3.Connection) -> None:
    """Keep checksums of all clusterings and layouts, as they are. Call inside a transaction."""
    for (key,) in connection.execute("SELECT key FROM clusterings").fetchall():
        seal_clusters(connection, key)
    for table in ("assignments", "points"):
        owner, record, *_ = COLUMNS[table]
        sql = f"UPDATE {table} SET sum = ? WHERE {owner} = ? AND {record} = ?"
        for rows in portions(lambda sql, last: connection.execute(sql, last).fetchall(), table):
            columns, _ = _columns(table, rows)
            keys = (row[:2] for row in rows)
            sums = column_sums(columns).tolist()
            connection.executemany(sql, ((sum, *key) for sum, key in zip(sums, keys, strict=True)))


def portions(
    read: Callable[[str, Sequence[Any]], list[Any]], table: str
) -> Iterator[list[tuple[Any, ...]]]:
    """Read rows of what was found, some at a time, each with its checksum at the end.

    Parameters
    ----------
    read : callable
        Gives the rows of SQL with parameters.
    table : {"clusters", "assignments", "points"}
    """
    first, second, *_ = COLUMNS[table]
    sql = (
        f"SELECT {', '.join(COLUMNS[table])}, sum FROM {table} "
        f"WHERE ({first}, {second}) > (?, ?) ORDER BY {first}, {second} LIMIT ?"
    )
    last: tuple[Any, ...] = (_LOWEST, _LOWEST)
    while rows := read(sql, (*last, _ROWS_AT_ONCE)):
        yield rows
        # In a damaged table keys may fall, which SQLite's own check tells, or be no numbers.
        if not all(isinstance(key, int) for key in rows[-1][:2]) or rows[-1][:2] <= last:
            return
        last = rows[-1][:2]


def differing(table: str, rows: Sequence[tuple[Any, ...]]) -> list[bool]:
    """Tell which of some rows, as `portions` gives them, are not what was stored."""
    try:
        if table == "clusters":
            return [cluster_sum(*row[:-1]) != row[-1] for row in rows]
        columns, sums = _columns(table, rows)
        differ: list[bool] = (column_sums(columns) != sums).tolist()
        return differ
    except (ValueError, TypeError, OverflowError):
        if len(rows) == 1:
            return [True]
        return [each for row in rows for each in differing(table, [row])]


def _columns(
    table: str, rows: Sequence[tuple[Any, ...]]
) -> tuple[list[NDArray[Any]], NDArray[np.int64]]:
    """Make arrays of rows, and of their checksums."""
    *columns, sums = zip(*rows, strict=True)
    kinds = (_kind(name) for name in COLUMNS[table])
    found = [np.array(each, kind) for each, kind in zip(columns, kinds, strict=True)]
    return found, np.array(sums, np.int64)


def _kind(column: str) -> type[np.generic]:
    return np.float64 if column in _REALS else np.int64


def checked_columns(db: "Database", table: str, key: int, what: str) -> list[NDArray[Any]]:
    """Read the rows of one clustering or layout and compare them with their checksums.

    Parameters
    ----------
    db : Database
    table : {"assignments", "points"}
    key : int
        Of the clustering or layout.
    what : str
        What they are called if they are damaged.

    Returns
    -------
    columns : list of arrays, shape (n,)
        Those in `COLUMNS` but the first, in int64 and float64, ordered by record.

    Raises
    ------
    DamageError
        One differs.
    """
    owner, *names = COLUMNS[table]
    with checks.understanding(db, what):
        *columns, sums = db.arrays(
            f"SELECT {', '.join(names)}, sum FROM {table} "
            f"WHERE {owner} = ? AND record > ? ORDER BY record LIMIT ?",
            (key,),
            [*map(_kind, names), np.int64],
        )
    if (column_sums([np.full(len(sums), key), *columns]) != sums).any():
        raise checks.damaged(db, f"{what} are not what was stored")
    return columns
