"""A connection to the SQLite file: opening, transactions, and errors a user can act on."""

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from embcli import notices
from embcli.config import TIMEOUT_VARIABLE
from embcli.errors import StoreError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

APPLICATION_ID = int.from_bytes(b"embc", "big")
# The number of steps in schema.py, which is not imported here: it brings in sqlite-utils, and
# reading a store must not pay for that. A test compares the two.
VERSION = 9
PAGE_SIZE = 16384

_T = TypeVar("_T")

_VARIABLES_AT_ONCE = 1000
_ROWS_AT_ONCE = 1 << 14
_MMAP_BYTES = 1 << 40
_CACHE_KIB = 1 << 16
_WAL_PAGES = 4096
_PAGES_AT_ONCE = 1024
# SQLite waits so long at a time for another process: Ctrl-C is heard in between.
_SECONDS_AT_ONCE = 0.5
_SAID_AFTER = 2.0
# Not SQLITE_BUSY_SNAPSHOT: there is nothing to wait for.
_WAITED_FOR = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY)
_CONTENTS = (
    "SELECT 'records', count(*), total(key) FROM records "
    "UNION ALL SELECT 'segments', count(*), total(length(vectors)) FROM segments"
)


class Database:
    """An open store file.

    Parameters
    ----------
    path : Path
    readonly : bool
        Open without any means to write; never creates or migrates.
    timeout : float
        Seconds to wait for another writer.

    Raises
    ------
    StoreError
        The file is missing, is not a store, is from a newer embcli, or cannot be opened.

    Notes
    -----
    A file that is deleted or replaced while it is open goes on to be read as it was. Whoever
    writes to it is stopped at the next commit, since nobody would ever read what is written.
    """

    def __init__(self, path: Path, *, readonly: bool, timeout: float) -> None:
        self.path = path
        self.readonly = readonly
        self.timeout = timeout
        # Whoever uses this may change the working directory.
        real = os.path.realpath(path)
        self._names = (real, f"{real}-wal", f"{real}-shm")
        self._files: list[tuple[int, int] | None] | None = None
        if readonly and not os.path.exists(path):
            raise StoreError(f"there is no store at {path}", hint=f"embcli encode FILE --db {path}")
        if os.path.isdir(path):
            raise StoreError(f"{path} is a directory, not a store")
        if os.path.exists(path) and not os.path.isfile(path):
            raise StoreError(f"{path} is a device, a pipe or a socket, not a store")
        with self._translated():
            self._connection = _connect(path, readonly, min(timeout, _SECONDS_AT_ONCE))
            try:
                self._check()
            except BaseException:
                self._connection.close()
                raise
        self._files = [_identity(name) for name in self._names]

    def _check(self) -> None:
        application = self.value("PRAGMA application_id")
        version = self.value("PRAGMA user_version")
        tables = self.value("SELECT count(*) FROM sqlite_master")
        if application != APPLICATION_ID and (tables or self.readonly):
            raise StoreError(
                f"{self.path} is not an embcli store", hint="name another file with --db"
            )
        if version > VERSION:
            raise StoreError(
                f"{self.path} was written by a newer embcli "
                f"(store version {version}, this one knows {VERSION})",
                hint="pip install -U embcli",
            )
        if version < VERSION:
            if self.readonly:
                raise StoreError(
                    f"{self.path} has store version {version} and must be upgraded to {VERSION}",
                    hint="any command that writes does it, for example: embcli vacuum",
                )
            self._migrate()
        if not self.readonly:
            self.execute("PRAGMA synchronous = NORMAL")
            # Ids may come in any order: pages of their index are then written again and again,
            # and least often if they may wait.
            self.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")

    def _migrate(self) -> None:
        with _without_pandas():
            from sqlite_utils import Database as SchemaDatabase

        from embcli.store.schema import STEPS

        if self.value("SELECT count(*) FROM sqlite_master") == 0:
            self.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        self.execute("PRAGMA journal_mode = WAL")
        with self.transaction():
            # Read again under the lock: another process may have been faster.
            for step in STEPS[self.value("PRAGMA user_version") :]:
                step(SchemaDatabase(self._connection, execute_plugins=False))
            self.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        with self._translated():
            return self._patiently(lambda: self._connection.execute(sql, parameters))

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for every row."""
        with self._translated():
            self._connection.executemany(sql, rows)

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Every row of a query, as tuples."""
        with self._translated():
            return self._patiently(lambda: self._connection.execute(sql, parameters).fetchall())

    def arrays(
        self, sql: str, parameters: Sequence[Any], dtypes: "Sequence[type[np.generic]]"
    ) -> "list[NDArray[Any]]":
        """Read columns of numbers, some rows at a time, as an array each.

        Parameters
        ----------
        sql : str
            Its first column is a key above 0, by which rows are ordered; it ends in a comparison
            ``key > ? … LIMIT ?``, which are its last two parameters.
        parameters : sequence
            Those before.
        dtypes : sequence of dtype
            Of every column.
        """
        import numpy as np

        found: list[list[NDArray[Any]]] = [[np.empty(0, dtype)] for dtype in dtypes]
        last = 0
        while rows := self.all(sql, (*parameters, last, _ROWS_AT_ONCE)):
            for column, values, dtype in zip(found, zip(*rows, strict=True), dtypes, strict=True):
                column.append(np.array(values, dtype))
            last = rows[-1][0]
        return [np.concatenate(column) for column in found]

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """First row of a query, or None."""
        with self._translated():
            return self._patiently(lambda: self._connection.execute(sql, parameters).fetchone())

    def _patiently(self, do: Callable[[], _T]) -> _T:
        """Do what may have to wait for another process; say so if that takes long."""
        began: float | None = None
        said = False
        while True:
            started = time.monotonic()
            try:
                return do()
            except sqlite3.OperationalError as error:
                began = started if began is None else began
                waited = time.monotonic() - began
                code = getattr(
                    error, "sqlite_errorcode", None
                )  # of text that is no UTF-8 there is none
                if code not in _WAITED_FOR or waited >= self.timeout:
                    raise
            if waited >= _SAID_AFTER and not said:
                notices.tell(
                    f"waiting: {self.path} is being written by another process "
                    f"(for {self.timeout:g} s at most)"
                )
                said = True
            time.sleep(0.01)

    def value(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """First column of the first row, or None."""
        row = self.one(sql, parameters)
        return row and row[0]

    def all_in(self, sql: str, parameters: Sequence[Any], values: Iterable[Any]) -> Iterator[Any]:
        """Rows of a query that ends in ``IN ({})``, asked in portions SQLite accepts."""
        remaining = iter(values)
        while portion := list(islice(remaining, _VARIABLES_AT_ONCE)):
            marks = ",".join("?" * len(portion))
            yield from self.all(sql.format(marks), (*parameters, *portion))

    @contextmanager
    def transaction(self, *, immediate: bool = True) -> Iterator[None]:
        """Write inside one transaction: everything, or nothing."""
        self.execute("BEGIN IMMEDIATE" if immediate else "BEGIN")
        try:
            yield
            if immediate:
                self.check_place()
            self.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def check_place(self) -> None:
        """Make sure that the file is still the one of this name.

        Raises
        ------
        StoreError
            It was deleted or replaced: what is written goes nowhere.
        """
        here, *beside = map(_identity, self._names)
        if self._files is None or here == self._files[0]:
            return
        if here is not None and beside == self._files[1:]:
            # Else SQLite would take our log for that of the file which is there now.
            for name in self._names[1:]:
                with suppress(OSError):
                    os.unlink(name)
        what = "deleted" if here is None else "replaced by another file"
        raise StoreError(
            f"{self.path} was {what} while it was written to: what this command has written "
            "is lost",
            hint="the same command again, and embcli backup to copy a store that is in use",
        )

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read the store as it is now throughout, whatever is written meanwhile.

        Within another snapshot, or a transaction, that one's moment is kept.
        """
        if self._connection.in_transaction:
            yield
            return
        self.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def backup(self, path: Path, advance: Callable[[int, int], None]) -> None:
        """Copy the file as it is now, while others may write, and check the copy.

        Parameters
        ----------
        path : Path
            A new file.
        advance : callable
            Told how many bytes are copied, and how many there are.

        Raises
        ------
        StoreError
            The copy cannot be written, is damaged, or is not what was copied.
        """
        size = self.value("PRAGMA page_size")

        def progress(status: int, remaining: int, total: int) -> None:
            advance((total - remaining) * size, total * size)

        # SQLite goes on with the snapshot this connection has: it need not begin again when
        # another process writes.
        with self._translated(), self.snapshot():
            facts = self.all(_CONTENTS)
            with closing(sqlite3.connect(path, isolation_level=None)) as copy:
                try:
                    self._connection.backup(copy, pages=_PAGES_AT_ONCE, progress=progress)
                except sqlite3.OperationalError as error:
                    raise StoreError(
                        f"{self.path} cannot be copied ({error})",
                        hint="check that the disk of the copy has room",
                    ) from error
                damage = copy.execute("PRAGMA integrity_check(1)").fetchall()
                if damage != [("ok",)]:
                    raise StoreError(f"the copy of {self.path} is damaged ({damage[0][0]})")
                if copy.execute(_CONTENTS).fetchall() != facts:
                    raise StoreError(f"the copy is not what is in {self.path}")

    @contextmanager
    def blob(
        self, table: str, column: str, row: int, *, readonly: bool = True
    ) -> Iterator[sqlite3.Blob]:
        """Open one blob for incremental reading or writing in place."""
        with (
            self._translated(),
            self._connection.blobopen(table, column, row, readonly=readonly) as blob,
        ):
            yield blob

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection itself, whose errors nobody translates."""
        return self._connection

    def explained(self, error: BaseException) -> StoreError | None:
        """Make an error of SQLite's one that a user can act on, if it is one of the file."""
        code = getattr(error, "sqlite_errorcode", None)
        explanation = _EXPLANATIONS.get(code & 0xFF) if code is not None else None
        if any(sign in str(error) for sign in _SIGNS_OF_DAMAGE):
            explanation = _EXPLANATIONS[sqlite3.SQLITE_CORRUPT]
        if explanation is None:
            return None
        what, hint = explanation
        return StoreError(f"{self.path} {what} ({error})", hint=hint)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            explained = self.explained(error)
            if explained is None and any(text in str(error) for text in _UNREADABLE):
                what, hint = _EXPLANATIONS[sqlite3.SQLITE_CORRUPT]
                explained = StoreError(f"{self.path} {what} ({error})", hint=hint)
            if explained is None:
                raise
            raise explained from error


# What SQLite calls an error of the statement, though ours have none.
_SIGNS_OF_DAMAGE = (
    "no such table", "no such column", "unsupported file format", "cannot open value of type",
)  # fmt: skip
# Texts and JSON were sound when they were written; in a user's own SQL they need not be.
_UNREADABLE = ("malformed JSON", "Could not decode to UTF-8")
_EXPLANATIONS: dict[int, tuple[str, str | None]] = {
    sqlite3.SQLITE_BUSY: (
        "is being written by another process",
        f"wait for it to finish, or set {TIMEOUT_VARIABLE} to more seconds",
    ),
    sqlite3.SQLITE_LOCKED: (
        "is being written by another process",
        "wait for it to finish, then run the same command again",
    ),
    sqlite3.SQLITE_READONLY: ("is read-only", "check the permissions of the file and its folder"),
    sqlite3.SQLITE_IOERR: ("cannot be read or written", "check the disk"),
    sqlite3.SQLITE_CORRUPT: (
        "is damaged",
        "embcli repair --out NEW.db, which copies what can be read",
    ),
    sqlite3.SQLITE_FULL: ("cannot grow: the disk is full", "free some room; nothing was lost"),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "check that its folder exists and is yours"),
    sqlite3.SQLITE_NOTADB: ("is not an SQLite database", "name another file with --db"),
    sqlite3.SQLITE_PERM: ("may not be opened", "check the permissions of the file"),
    sqlite3.SQLITE_TOOBIG: ("cannot hold a value this large", None),
}


def _identity(path: str) -> tuple[int, int] | None:
    """Tell which file has this name; None if there is none."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _connect(path: Path, readonly: bool, timeout: float) -> sqlite3.Connection:
    if not readonly:
        return sqlite3.connect(path, timeout=timeout, isolation_level=None)
    if os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK):
        # Whoever leaves last clears the write-ahead log away, which takes the right to write.
        connection = _open_uri(path, "mode=rw", timeout)
        connection.execute("PRAGMA query_only = 1")
    else:
        connection = _open_unwritable(path, timeout)
    connection.execute(f"PRAGMA mmap_size = {_MMAP_BYTES}")
    return connection


def _open_unwritable(path: Path, timeout: float) -> sqlite3.Connection:
    connection = _open_uri(path, "mode=ro", timeout)
    try:
        connection.execute("PRAGMA user_version")
    except sqlite3.OperationalError as error:
        connection.close()
        # A WAL store in a folder we may not write has no place for its index; with no log
        # pending, nobody else can be changing it either.
        codes = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        log = Path(f"{path}-wal")
        if error.sqlite_errorcode & 0xFF not in codes or (log.exists() and log.stat().st_size):
            raise
        return _open_uri(path, "immutable=1", timeout)
    return connection


def _open_uri(path: Path, mode: str, timeout: float) -> sqlite3.Connection:
    uri = f"file:{quote(os.fsencode(path))}?{mode}"
    return sqlite3.connect(uri, timeout=timeout, isolation_level=None, uri=True)


@contextmanager
def _without_pandas() -> Iterator[None]:
    """Keep sqlite-utils from importing pandas, where that is installed: it takes half a second.

    It looks whether it is there, to know its types, which nobody writes here.
    """
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["pandas"]
