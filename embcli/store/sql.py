"""Read-only SQL over a store, with functions for vectors."""

import base64
import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.errors import UsageError
from embcli.store.database import Database
from embcli.store.segments import SLOTS, Segments

_STEPS_BETWEEN_SIGNALS = 100_000
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_DENIED_FUNCTIONS = {"load_extension", "fts5", "fts3_tokenizer"}
# That only tell something, and take no argument or the name of a table.
_PRAGMAS = {
    "application_id", "collation_list", "compile_options", "data_version", "database_list",
    "encoding", "foreign_key_list", "freelist_count", "function_list", "index_info", "index_list",
    "index_xinfo", "journal_mode", "page_count", "page_size", "table_info", "table_list",
    "table_xinfo", "user_version",
}  # fmt: skip
_WITH_ARGUMENT = {
    "foreign_key_list", "index_info", "index_list", "index_xinfo", "table_info", "table_list",
    "table_xinfo",
}  # fmt: skip
_PRAGMA_TABLES = [f"pragma_{name}" for name in sorted(_PRAGMAS)]
_VECTOR = np.dtype("<f4")


class Query:
    """One statement that reads, and its results.

    Parameters
    ----------
    db : Database
        Read-only, and used for nothing else from now on.
    sql : str
    collection : str
        Whose vectors ``vector(id)`` gives.

    Attributes
    ----------
    columns : list of str
        Names of the columns of results, none twice.

    Raises
    ------
    UsageError
        The statement cannot be understood, or does more than reading.
    StoreError
        The store cannot be read.

    Notes
    -----
    ``vector(id [, collection])`` is the vector of a record as a blob of little-endian float32,
    the mean of its chunks if there are several, NULL if there is no such record.
    ``cosine(a, b)`` compares two vectors, blobs of that kind or texts with JSON arrays of
    numbers; NULL if one is NULL or is all zeros. ``vector_json(blob)`` writes a vector as JSON.
    """

    def __init__(self, db: Database, sql: str, collection: str) -> None:
        self._db = db
        self._collection = collection
        self._error: UsageError | None = None
        self._vectors: dict[str, _Vectors] = {}
        self._dims = {dim for (dim,) in db.all("SELECT DISTINCT dim FROM spaces")}
        connection = db.connection
        for name, count, function in (
            ("vector", 1, self._vector),
            ("vector", 2, self._vector),
            ("cosine", 2, _cosine),
            ("vector_json", 1, _vector_json),
        ):
            connection.create_function(name, count, self._reporting(function), deterministic=True)
        # A virtual table is declared as if it were created when it is first used.
        for table in ("records_fts", "json_each", "json_tree", *_PRAGMA_TABLES):
            with suppress(sqlite3.Error):
                connection.execute(f"SELECT 1 FROM {table} LIMIT 0")
        connection.set_authorizer(self._authorize)
        # Otherwise Ctrl-C would wait for the next row.
        connection.set_progress_handler(lambda: 0, _STEPS_BETWEEN_SIGNALS)
        with self._failures():
            self._cursor = connection.execute(sql)
        self.columns = _distinct([column[0] for column in self._cursor.description or ()])
        if not self.columns:
            raise UsageError("the statement gives no columns", hint='embcli sql "SELECT ..."')

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the results, with vectors as lists of numbers and other blobs in base64."""
        while True:
            with self._failures():
                row = self._cursor.fetchone()
            if row is None:
                return
            yield dict(zip(self.columns, map(self._value, row), strict=True))

    def _value(self, value: Any) -> Any:
        if not isinstance(value, bytes):
            # JSON has no word for infinity.
            return str(value) if isinstance(value, float) and not math.isfinite(value) else value
        if len(value) // 4 in self._dims and len(value) % 4 == 0:
            vector = np.frombuffer(value, _VECTOR)
            if np.isfinite(vector).all():
                return _shortest(vector)
        return {"$base64": True, "encoded": base64.b64encode(value).decode()}

    def _vector(self, id: Any, collection: Any = None) -> bytes | None:
        name = self._collection if collection is None else str(collection)
        if name not in self._vectors:
            self._vectors[name] = _Vectors(self._db, name)
        return None if id is None else self._vectors[name].find(str(id))

    def _reporting(self, function: Any) -> Any:
        """Keep what a function of ours complains of: SQLite only tells that it did."""

        def call(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except UsageError as error:
                self._error = error
                raise

        return call

    def _authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action in _ALLOWED:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and second not in _DENIED_FUNCTIONS:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_PRAGMA and first is not None:
            name = first.lower()
            if name in _PRAGMAS and (second is None or name in _WITH_ARGUMENT):
                return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    def _failures(self) -> "_Failures":
        return _Failures(self)

    def failure(self, error: sqlite3.Error | sqlite3.Warning) -> BaseException:
        """Make an error of SQLite's one that whoever wrote the statement can act on."""
        if self._error is not None:
            return self._error
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_INTERRUPT:
            return KeyboardInterrupt()
        refused = "not authorized" in str(error) or "prohibited" in str(error)
        if refused or code in (sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY):
            return UsageError(
                f"embcli sql only reads ({error})",
                hint="sqlite3 or sqlite-utils, on a copy of the store",
            )
        if code is not None and code & 0xFF not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH):
            return self._db.explained(error) or UsageError(f"SQL: {error}")
        if "no such function" in str(error):
            return UsageError(f"SQL: {error}", hint="cosine(a, b), vector(id), vector_json(v)")
        return UsageError(f"SQL: {' '.join(str(error).split())}")


class _Failures:
    """Turns the errors of SQLite into ours."""

    def __init__(self, query: Query) -> None:
        self._query = query

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, sqlite3.Error | sqlite3.Warning):
            raise self._query.failure(error) from error


class _Vectors:
    """The vectors of one collection, by id, read one at a time."""

    def __init__(self, db: Database, name: str) -> None:
        row = db.one(
            "SELECT c.key, s.dim, c.dtype, c.chunking FROM collections AS c "
            "JOIN spaces AS s ON s.key = c.space WHERE c.name = ?",
            (name,),
        )
        if row is None:
            raise UsageError(
                f"vector(): there is no collection {name!r}", hint="embcli collections list"
            )
        self._db = db
        self._key, dim, dtype, self._chunking = row
        self._segments = Segments(db, self._key, dim, dtype)

    def find(self, id: str) -> bytes | None:
        row = self._db.one(
            "SELECT key, segment, slot FROM records WHERE collection = ? AND id = ?",
            (self._key, id),
        )
        if row is None:
            return None
        key, *place = row
        places = [place]
        if self._chunking is not None:
            places = self._db.all("SELECT segment, slot FROM chunks WHERE record = ?", (key,))
        wanted = np.array([segment * SLOTS + slot for segment, slot in places], np.int64)
        vectors = self._segments.gather(wanted, np.full(len(wanted), key))
        mean: NDArray[np.float64] = vectors.mean(axis=0, dtype=np.float64)
        return mean.astype(_VECTOR).tobytes()


def _cosine(left: Any, right: Any) -> float | None:
    if left is None or right is None:
        return None
    a, b = _read(left), _read(right)
    if len(a) != len(b):
        raise UsageError(f"cosine(): one vector has {len(a):,} components, the other {len(b):,}")
    lengths = float(np.sqrt((a @ a) * (b @ b)))
    return min(1.0, max(-1.0, float(a @ b) / lengths)) if lengths else None


def _vector_json(value: Any) -> str | None:
    return None if value is None else json.dumps(_shortest(_read(value).astype(_VECTOR)))


def _read(value: Any) -> NDArray[np.float64]:
    """Read a vector out of a blob of float32, or of JSON."""
    if isinstance(value, bytes) and len(value) % 4 == 0:
        return np.frombuffer(value, _VECTOR).astype(np.float64)
    if isinstance(value, str):
        try:
            vector = np.array(json.loads(value), np.float64)
        except (ValueError, TypeError):
            vector = np.empty((0, 0))
        if vector.ndim == 1:
            return vector
    raise UsageError(
        "a vector is a blob of float32 or a JSON array of numbers", hint="vector(id), not id"
    )


def _shortest(vector: NDArray[np.floating]) -> list[float]:
    """Write float32 numbers with the digits that tell them apart, and no more."""
    return [float(text) for text in vector.astype(np.float32).astype(str)]


def _distinct(names: list[str]) -> list[str]:
    """Add numbers to names that were there before."""
    seen: dict[str, None] = {}
    for name in names:
        unique, number = name, 2
        while unique in seen:
            unique, number = f"{name}_{number}", number + 1
        seen[unique] = None
    return list(seen)
