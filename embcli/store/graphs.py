"""The nearest neighbours of a collection's records, kept until its vectors change."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.store import checks
from embcli.store.database import Database
from embcli.store.segments import KEY

if TYPE_CHECKING:
    from embcli.core.neighbours import Neighbours

_OTHERS, _COSINES = np.dtype("<i4"), np.dtype("<f4")
# SQLite limits a value to a billion bytes.
_LARGEST = 900_000_000


class Graph(NamedTuple):
    """Nearest neighbours.

    Attributes
    ----------
    keys : int64 array, shape (n,)
        Of the records, rising.
    near : Neighbours
        Of every record, as places in `keys`; the record itself is none.
    recall : float or None
        Which share of the true neighbours a sample was found to have; None if all are exact.
    seed : int
        Of an approximate one.
    """

    keys: NDArray[np.int64]
    near: "Neighbours"
    recall: float | None
    seed: int = 0


class Graphs:
    """The one graph of a collection that is kept; triggers delete it when vectors change.

    Parameters
    ----------
    db : Database
    collection : int
        Its key.
    """

    def __init__(self, db: Database, collection: int) -> None:
        self._db = db
        self._collection = collection

    def get(self, k: int) -> Graph | None:
        """Read the graph if it has `k` neighbours a record, or as many as there can be."""
        number = self._db.value("SELECT key FROM graphs WHERE collection = ?", (self._collection,))
        if number is None:
            return None
        from embcli.core.neighbours import Neighbours

        try:
            row = checks.checked_row(self._db, "graphs", number)
        except checks.DamageError:
            return None  # it is made again
        _, _, width, recall, seed, keys, others, cosines, _ = row
        found = np.frombuffer(keys, KEY).astype(np.int64)
        if width < min(k, len(found) - 1):
            return None
        shape = len(found), width
        near = Neighbours(
            np.frombuffer(others, _OTHERS).reshape(shape)[:, :k].astype(np.int64),
            np.frombuffer(cosines, _COSINES).reshape(shape)[:, :k].astype(np.float32),
        )
        return Graph(found, near, recall, seed)

    def state(self) -> str:
        """Give what is the same as long as the vectors are."""
        digest = sha256()
        rows = self._db.all(
            "SELECT key, slots, hashes FROM segments WHERE collection = ? ORDER BY key",
            (self._collection,),
        )
        for key, slots, hashes in rows:
            digest.update(b"%d" % key)
            digest.update(slots)
            digest.update(hashes)
        return digest.hexdigest()

    def put(self, graph: Graph, state: str) -> bool:
        """Keep a graph in the place of the one there, in one transaction.

        Parameters
        ----------
        graph : Graph
        state : str
            When the vectors were read.

        Returns
        -------
        kept : bool
            False if they have changed since, or if it is too large.
        """
        others = np.ascontiguousarray(graph.near.others, _OTHERS)
        if others.nbytes > _LARGEST:
            return False
        with self._db.transaction():
            if self.state() != state:
                return False
            self._db.execute("DELETE FROM graphs WHERE collection = ?", (self._collection,))
            added = self._db.execute(
                "INSERT INTO graphs (collection, k, recall, seed, keys, others, cosines, created) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self._collection, others.shape[1], graph.recall, graph.seed,
                    np.ascontiguousarray(graph.keys, KEY).tobytes(), others.tobytes(),
                    np.ascontiguousarray(graph.near.cosines, _COSINES).tobytes(),
                    datetime.now(UTC).isoformat(timespec="milliseconds"),
                ),
            )  # fmt: skip
            assert added.lastrowid is not None
            checks.seal(self._db, "graphs", added.lastrowid)
        return True
