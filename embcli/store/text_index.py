"""The full-text index over the texts of records (FTS5, external content).

Triggers would write every text into the index as it comes, one by one, and make storing four
times slower. Instead new records are indexed in bulk after they have been stored. A new record's
key is above all others at the time, and the text under a key never changes (a changed text is a
new record with the old id), so everything up to the highest key in the index is in it, and
everything above is still to come: an interrupted command leaves nothing to repair.

The index knows no collections, so that a search counts in how many records of the whole store a
word is, and how long these are on average; what it finds is of one collection.
"""

import sqlite3
from collections.abc import Iterable, Sequence

from embcli.store.database import Database

# Each costs about as much as a query of its own; texts as long as this are no queries.
MOST_WORDS = 500

_RECORDS_AT_ONCE = 10_000
# That of the index (see schema.py), but for the stemmer: the index does that to a query's words.
_TOKENIZER = "unicode61 remove_diacritics 2"
# CROSS JOIN: first the index, then the records that it names; the other way round is slow.
_MATCHING = """
    SELECT records.id, -bm25(records_fts) AS score
      FROM records_fts CROSS JOIN records ON records.key = records_fts.rowid
     WHERE records_fts MATCH ? AND records.collection = ?
"""


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


def missing(db: Database) -> int:
    """How many records are not indexed yet."""
    return int(db.value("SELECT count(*) FROM records WHERE key > ?", (_last_indexed(db),)))


def words(queries: Sequence[str]) -> list[list[str]]:
    """Take queries apart as the index does texts: the different words of each, as they come.

    What is an operator, a quote or a column's name in the language of FTS5 is a word or a
    separator here.
    """
    found: list[dict[str, None]] = [{} for _ in queries]
    db = sqlite3.connect(":memory:")
    try:
        db.execute(f"CREATE VIRTUAL TABLE query USING fts5(text, tokenize='{_TOKENIZER}')")
        db.execute("CREATE VIRTUAL TABLE term USING fts5vocab(query, instance)")
        db.executemany(
            "INSERT INTO query (rowid, text) VALUES (?, ?)",
            # Bytes of a command line that are no characters have no place in SQLite.
            ((n, text.encode("utf-8", "replace").decode()) for n, text in enumerate(queries)),
        )
        for number, word in db.execute("SELECT doc, term FROM term ORDER BY doc, offset"):
            found[number][word] = None
    finally:
        db.close()
    return [list(distinct) for distinct in found]


def search(
    db: Database,
    collection: int,
    words: Sequence[str],
    k: int,
    condition: tuple[str, Sequence[object]] | None = None,
) -> list[tuple[str, float]]:
    """Find the records that have any of these words and the greatest BM25 score.

    Parameters
    ----------
    db : Database
    collection : int
        Key of the collection.
    words : sequence of str
        As `words` gives them; the first `MOST_WORDS` count.
    k : int
        Most records.
    condition : (str, sequence), optional
        What records must meet besides: SQL on the table ``records`` and its parameters.

    Returns
    -------
    found : list of (id, score)
        By falling score, ties by id. Scores are positive: SQLite's own with the sign changed,
        k1 = 1.2 and b = 0.75.

    References
    ----------
    Robertson, Zaragoza (2009), "The Probabilistic Relevance Framework: BM25 and Beyond".
    """
    if not words:
        return []
    sql, parameters = condition or ("TRUE", ())
    return db.all(
        f"{_MATCHING} AND {sql} ORDER BY score DESC, records.id LIMIT ?",
        (_expression(words), collection, *parameters, k),
    )


def scores(
    db: Database, collection: int, words: Sequence[str], ids: Iterable[str]
) -> dict[str, float]:
    """Score these records as `search` does; those without any of the words are left out."""
    if not words:
        return {}
    sql = f"{_MATCHING} AND records.id IN ({{}})"
    return dict(db.all_in(sql, (_expression(words), collection), ids))


def remove(db: Database, keys: Iterable[int]) -> None:
    """Take records out of the index, before they leave the table. Call inside a transaction."""
    last = _last_indexed(db)
    indexed = [key for key in keys if key <= last]
    texts = db.all_in("SELECT key, text FROM records WHERE key IN ({})", (), indexed)
    db.executemany(
        "INSERT INTO records_fts (records_fts, rowid, text) VALUES ('delete', ?, ?)", texts
    )


def _expression(words: Sequence[str]) -> str:
    return " OR ".join(f'"{word}"' for word in words[:MOST_WORDS])


def _last_indexed(db: Database) -> int:
    # docsize is the part of an FTS5 index with one row per document.
    return db.value("SELECT max(id) FROM records_fts_docsize") or 0
