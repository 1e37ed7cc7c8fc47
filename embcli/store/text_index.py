"""The full-text index over the texts of records (FTS5, external content).

Triggers would write every text into the index as it comes, one by one, and make storing four
times slower. Instead new records are indexed in bulk after they have been stored. A new record's
key is above all others at the time, and the text under a key never changes (a changed text is a
new record with the old id), so everything up to the highest key in the index is in it, and
everything above is still to come: an interrupted command leaves nothing to repair.
"""

from collections.abc import Iterable

from embcli.store.database import Database

_RECORDS_AT_ONCE = 10_000


def catch_up(db: Database) -> int:
    """Index what is not indexed yet, in transactions of a second or so; return how many."""
    total = 0
    while (db.value("SELECT max(key) FROM records") or 0) > _last_indexed(db):
        with db.transaction():
            added = db.execute(
                """
                INSERT INTO records_fts (rowid, text)
                SELECT key, text FROM records WHERE key > ? ORDER BY key LIMIT ?
                """,
                (_last_indexed(db), _RECORDS_AT_ONCE),
            ).rowcount
        total += added
    return total


def remove(db: Database, keys: Iterable[int]) -> None:
    """Take records out of the index, before they leave the table. Call inside a transaction."""
    last = _last_indexed(db)
    indexed = [key for key in keys if key <= last]
    texts = db.all_in("SELECT key, text FROM records WHERE key IN ({})", (), indexed)
    db.executemany(
        "INSERT INTO records_fts (records_fts, rowid, text) VALUES ('delete', ?, ?)", texts
    )


def _last_indexed(db: Database) -> int:
    # docsize is the part of an FTS5 index with one row per document.
    return db.value("SELECT max(id) FROM records_fts_docsize") or 0
