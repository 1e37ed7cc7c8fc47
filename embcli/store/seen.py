"""Which ids a command has come across, on disk so that millions need no memory."""

from collections.abc import Iterable

from embcli.store.database import Database


class SeenIds:
    """A set of ids that lives as long as the connection, in SQLite's temporary file."""

    def __init__(self, db: Database) -> None:
        self._db = db
        db.execute("CREATE TEMP TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY) WITHOUT ROWID")
        db.execute("DELETE FROM seen")

    def add(self, ids: Iterable[str]) -> set[str]:
        """Add ids, and return those that were in already."""
        wanted = list(ids)
        rows = self._db.all_in("SELECT id FROM seen WHERE id IN ({})", (), wanted)
        known = {id for (id,) in rows}
        with self._db.transaction(immediate=False):  # no lock on the store for a temporary table
            self._db.executemany(
                "INSERT INTO seen (id) VALUES (?)", ((id,) for id in wanted if id not in known)
            )
        return known
