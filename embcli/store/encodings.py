"""Encodings on disk: one for all vectors of a record, some hundred records to a blob."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.quantize import Codes
from embcli.store import checks
from embcli.store.database import Database
from embcli.store.segments import KEY


class EncodedBlock(NamedTuple):
    """Some encodings on their way out of the store.

    Attributes
    ----------
    keys : int64 array, shape (n,)
        The record each belongs to; 0 where it was deleted.
    codes : Codes
        Of the encodings, shape (n,).
    """

    keys: NDArray[np.int64]
    codes: Codes


class Encodings:
    """The encodings of a multi-vector collection's records.

    A changed text gets a new record key, so that an encoding is right as long as its record is
    there. Keys may be used again: whoever deletes a record must call `remove`.

    Parameters
    ----------
    db : Database
    collection : int
        Key of the collection.
    """

    def __init__(self, db: Database, collection: int) -> None:
        self._db = db
        self._collection = collection

    def add(self, keys: NDArray[np.int64], codes: Codes) -> None:
        """Store the encodings of some records as a row. Call inside a transaction."""
        bounds = int(keys.min()), int(keys.max())
        added = self._db.execute(
            "INSERT INTO encodings (collection, first, last, kind, keys, codes) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (self._collection, *bounds, codes.kind, keys.astype(KEY).tobytes(), codes.to_bytes()),
        )
        assert added.lastrowid is not None
        checks.seal(self._db, "encodings", added.lastrowid)

    def scan(self, size: int) -> Iterator[EncodedBlock]:
        """Stream the encodings, which have so many components; no block is empty."""
        rows = self._db.all(
            "SELECT key FROM encodings WHERE collection = ? ORDER BY key", (self._collection,)
        )
        for (row,) in rows:
            *_, kind, blob, codes = checks.checked_row(self._db, "encodings", row)
            keys = np.frombuffer(blob, KEY)
            yield EncodedBlock(keys, Codes.from_bytes(codes, kind, len(keys), size))

    def keys(self) -> NDArray[np.int64]:
        """List the records that have one, in no order."""
        rows = self._db.all("SELECT keys FROM encodings WHERE collection = ?", (self._collection,))
        keys = np.frombuffer(b"".join(blob for (blob,) in rows), KEY)
        return keys[keys > 0]

    def remove(self, keys: Iterable[int]) -> None:
        """Forget the encodings of records. Call inside a transaction."""
        gone = np.fromiter(keys, np.int64)
        if not len(gone):
            return
        rows = self._db.all(
            "SELECT key FROM encodings WHERE collection = ? AND first <= ? AND last >= ?",
            (self._collection, int(gone.max()), int(gone.min())),
        )
        for (row,) in rows:
            # What is not what was stored must not get a checksum that says so.
            checks.checked_row(self._db, "encodings", row)
            with self._db.blob("encodings", "keys", row, readonly=False) as blob:
                owners = np.frombuffer(blob.read(), KEY).copy()
                found = np.isin(owners, gone)
                if found.any():
                    owners[found] = 0
                    blob.seek(0)
                    blob.write(owners.tobytes())
            if found.any():
                checks.seal(self._db, "encodings", row)

    def drop_incomplete(self) -> None:
        """Delete the rows that hold deleted records. Call inside a transaction.

        The other records in them are encoded anew with those that have no encoding yet.
        """
        rows = self._db.all(
            "SELECT key, keys FROM encodings WHERE collection = ?", (self._collection,)
        )
        gone = [(row,) for row, blob in rows if not np.frombuffer(blob, KEY).all()]
        self._db.executemany("DELETE FROM encodings WHERE key = ?", gone)

    def clear(self) -> None:
        """Delete all encodings. Call inside a transaction."""
        self._db.execute("DELETE FROM encodings WHERE collection = ?", (self._collection,))
