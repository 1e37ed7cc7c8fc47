"""Which parts went into a collection, by their checksums, so that they are not read again.

Losing this is harmless: what is in a part and in the collection stays as it is when it comes again.
So rows that are not what was written are passed over, `salvage` does not copy the table, and
`repair`, which may have deleted records, empties it.
"""

from embcli.store.checks import digest
from embcli.store.database import Database


class Gathered:
    """The parts of one collection."""

    def __init__(self, db: Database, collection: int) -> None:
        self._db = db
        self._collection = collection

    def sums(self) -> set[str]:
        """Checksums of all parts that went in completely."""
        rows = self._db.all(
            "SELECT part, sum FROM gathered WHERE collection = ?", (self._collection,)
        )
        return {part for part, sum in rows if sum == self._sum(part)}

    def add(self, part: str) -> None:
        """Note that a part went in."""
        with self._db.transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO gathered (collection, part, sum) VALUES (?, ?, ?)",
                (self._collection, part, self._sum(part)),
            )

    def clear(self) -> None:
        """Forget them. Call inside a transaction."""
        self._db.execute("DELETE FROM gathered WHERE collection = ?", (self._collection,))

    def _sum(self, part: object) -> int:
        return digest(f"{self._collection}\0{part}".encode("utf-8", "replace")) >> 1
