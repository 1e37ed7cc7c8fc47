"""The tables of a store, as numbered steps that build or upgrade one.

A store's ``user_version`` is the number of steps it has been through. Released steps are never
edited; a change of schema is a new step at the end of `STEPS`.
"""

from collections.abc import Callable

from sqlite_utils import Database

from embcli.encoders.recipe import Recipe
from embcli.store import checks, finding_checks

Step = Callable[[Database], None]


def step_1_foundation(db: Database) -> None:
    """Spaces, collections, records, segments, maps, runs, full-text index, view."""
    db.table("spaces").create(
        {"key": int, "hash": str, "model": str, "dim": int, "recipe": str, "created": str},
        pk="key",
        not_null={"hash", "model", "dim", "recipe", "created"},
    )
    db.table("spaces").create_index(["hash"], unique=True)

    db.table("collections").create(
        {"key": int, "name": str, "space": int, "dtype": str, "created": str},
        pk="key",
        not_null={"name", "space", "dtype", "created"},
        foreign_keys=[("space", "spaces", "key")],
    )
    db.table("collections").create_index(["name"], unique=True)

    # `text` comes last: a filter on `meta` then never walks the overflow pages of long texts.
    db.table("records").create(
        {
            "key": int,
            "collection": int,
            "id": str,
            "hash": str,
            "segment": int,
            "slot": int,
            "source": str,
            "meta": str,
            "text": str,
        },
        pk="key",
        not_null={"collection", "id", "hash", "segment", "slot", "source", "meta"},
        foreign_keys=[("collection", "collections", "key")],
    )
    db.table("records").create_index(["collection", "id"], unique=True)

    db.table("segments").create(
        {
            "key": int,
            "collection": int,
            "count": int,
            "slots": bytes,
            "hashes": bytes,
            "vectors": bytes,
        },
        pk="key",
        not_null={"collection", "count", "slots", "hashes", "vectors"},
        foreign_keys=[("collection", "collections", "key")],
    )
    db.table("segments").create_index(["collection"])

    db.table("maps").create(
        {
            "key": int,
            "name": str,
            "source": int,
            "target": int,
            "kind": str,
            "parameters": bytes,
            "fit": str,
            "created": str,
        },
        pk="key",
        not_null={"name", "source", "target", "kind", "parameters", "fit", "created"},
        foreign_keys=[("source", "spaces", "key"), ("target", "spaces", "key")],
    )
    db.table("maps").create_index(["name"], unique=True)

    db.table("runs").create(
        {
            "key": int,
            "command": str,
            "collection": str,
            "arguments": str,
            "started": str,
            "finished": str,
            "status": str,
            "counts": str,
            "versions": str,
        },
        pk="key",
        not_null={"command", "arguments", "started", "status", "versions"},
    )

    # Without triggers, which would make writing four times slower: see store/text_index.py.
    db.table("records").enable_fts(["text"], tokenize="porter unicode61 remove_diacritics 2")

    db.create_view(
        "corpus",
        """
        SELECT collections.name AS collection, records.id, records.text, records.meta,
               records.source, spaces.model, spaces.dim
          FROM records
          JOIN collections ON collections.key = records.collection
          JOIN spaces ON spaces.key = collections.space
        """,
    )


def step_2_chunks(db: Database) -> None:
    """Several vectors a record, vectors of queries, and what is known of a space's model."""
    # NULL: one vector a record, which then has no rows in `chunks`.
    db.table("collections").add_column("chunking", str)
    # sqlite-utils does not make tables without rowids, which hold each row only once.
    db.execute(
        """
        CREATE TABLE chunks (
            record INTEGER NOT NULL REFERENCES records(key),
            number INTEGER NOT NULL,
            start INTEGER NOT NULL,
            "end" INTEGER NOT NULL,
            segment INTEGER NOT NULL,
            slot INTEGER NOT NULL,
            PRIMARY KEY (record, number)
        ) WITHOUT ROWID
        """
    )

    db.table("spaces").add_column("light", int)
    db.table("spaces").add_column("files", str)

    # `key` tells the age; a rowid without a name may change when the file is vacuumed.
    db.table("queries").create(
        {"key": int, "space": int, "hash": str, "vector": bytes},
        pk="key",
        not_null={"space", "hash", "vector"},
        foreign_keys=[("space", "spaces", "key")],
    )
    db.table("queries").create_index(["space", "hash"], unique=True)

    # Names of models are no part of a space's identity any more. Should two spaces turn out to
    # be one, the second keeps its old hash and serves its collections as before.
    for key, recipe in db.execute("SELECT key, recipe FROM spaces").fetchall():
        db.execute(
            "UPDATE OR IGNORE spaces SET hash = ? WHERE key = ?",
            (Recipe.from_json(recipe).hash, key),
        )


def step_3_codes(db: Database) -> None:
    """Compact codes beside the segments, and how collections use them."""
    # NULL: nothing was decided yet, and there are no codes.
    db.table("collections").add_column("coding", str)
    db.table("codes").create(
        {"segment": int, "kind": str, "codes": bytes},
        pk="segment",
        not_null={"kind", "codes"},
        foreign_keys=[("segment", "segments", "key")],
    )
    # Whoever changes vectors cannot leave codes behind that do not fit them. This costs little:
    # it happens once for a thousand vectors.
    for name, event in (("changed", "UPDATE OF vectors"), ("deleted", "DELETE")):
        db.execute(
            f"CREATE TRIGGER codes_of_{name}_segments AFTER {event} ON segments "
            "BEGIN DELETE FROM codes WHERE segment = old.key; END"
        )


def step_4_calibration(db: Database) -> None:
    """Keep what turns cosines into probabilities of relevance."""
    # NULL: nothing was found out yet.
    db.table("collections").add_column("calibration", str)


def step_5_encodings(db: Database) -> None:
    """One encoding for all vectors of a record, some hundred records a row."""
    # `first` and `last` bound the keys of the records, so that a deleted one is found.
    db.table("encodings").create(
        {
            "key": int,
            "collection": int,
            "first": int,
            "last": int,
            "kind": str,
            "keys": bytes,
            "codes": bytes,
        },
        pk="key",
        not_null={"collection", "first", "last", "kind", "keys", "codes"},
        foreign_keys=[("collection", "collections", "key")],
    )
    db.table("encodings").create_index(["collection", "first", "last"])


def step_6_maps(db: Database) -> None:
    """Where a map leads, which need not be the space of its target."""
    # Nothing wrote maps before.
    db.table("maps").add_column("space", int, not_null_default=0)


def step_7_clusters_and_layouts(db: Database) -> None:
    """Keep what is found in collections: clusters, layouts, nearest neighbours."""
    db.table("clusterings").create(
        {
            "key": int,
            "collection": int,
            "name": str,
            "method": str,
            "arguments": str,
            "measures": str,
            "created": str,
            "base": int,
        },
        pk="key",
        not_null={"collection", "name", "method", "arguments", "measures", "created"},
        foreign_keys=[("collection", "collections", "key"), ("base", "clusterings", "key")],
    )
    db.table("clusterings").create_index(["collection", "name"], unique=True)
    db.execute(
        """
        CREATE TABLE clusters (
            clustering INTEGER NOT NULL REFERENCES clusterings(key),
            number INTEGER NOT NULL,
            name TEXT NOT NULL,
            medoid INTEGER REFERENCES records(key),
            cohesion REAL,
            keywords TEXT NOT NULL,
            parent INTEGER,
            PRIMARY KEY (clustering, number)
        ) WITHOUT ROWID
        """
    )
    db.table("clusters").create_index(["medoid"])
    db.execute(
        """
        CREATE TABLE assignments (
            clustering INTEGER NOT NULL REFERENCES clusterings(key),
            record INTEGER NOT NULL REFERENCES records(key),
            cluster INTEGER NOT NULL,
            strength REAL NOT NULL,
            PRIMARY KEY (clustering, record)
        ) WITHOUT ROWID
        """
    )

    db.table("layouts").create(
        {
            "key": int,
            "collection": int,
            "name": str,
            "method": str,
            "dims": int,
            "arguments": str,
            "facts": str,
            "created": str,
        },
        pk="key",
        not_null={"collection", "name", "method", "dims", "arguments", "facts", "created"},
        foreign_keys=[("collection", "collections", "key")],
    )
    db.table("layouts").create_index(["collection", "name"], unique=True)
    db.execute(
        """
        CREATE TABLE points (
            layout INTEGER NOT NULL REFERENCES layouts(key),
            record INTEGER NOT NULL REFERENCES records(key),
            x REAL NOT NULL,
            y REAL NOT NULL,
            z REAL,
            placed INTEGER NOT NULL,
            PRIMARY KEY (layout, record)
        ) WITHOUT ROWID
        """
    )

    db.table("graphs").create(
        {
            "key": int,
            "collection": int,
            "k": int,
            "recall": float,
            "seed": int,
            "keys": bytes,
            "others": bytes,
            "cosines": bytes,
            "created": str,
        },
        pk="key",
        not_null={"collection", "k", "keys", "others", "cosines", "created"},
        foreign_keys=[("collection", "collections", "key")],
    )
    db.table("graphs").create_index(["collection"], unique=True)

    # Keys of records are used again: nothing of a deleted one may be left. In a collection without
    # clusters and layouts this costs two looks into an empty index.
    db.execute(
        """
        CREATE TRIGGER findings_of_deleted_records AFTER DELETE ON records BEGIN
            DELETE FROM assignments WHERE record = old.key AND clustering IN
                (SELECT key FROM clusterings WHERE collection = old.collection);
            UPDATE clusters SET medoid = NULL WHERE medoid = old.key;
            DELETE FROM points WHERE record = old.key AND layout IN
                (SELECT key FROM layouts WHERE collection = old.collection);
            DELETE FROM graphs WHERE collection = old.collection;
        END
        """
    )
    for event, row in (("INSERT", "new"), ("UPDATE OF slots, vectors", "new"), ("DELETE", "old")):
        db.execute(
            f"CREATE TRIGGER graph_after_{event.partition(' ')[0].lower()} AFTER {event} "
            f"ON segments BEGIN DELETE FROM graphs WHERE collection = {row}.collection; END"
        )


def step_8_checks(db: Database) -> None:
    """Checksums of what answers are made of; what is there is taken as it is."""
    db.execute(
        """
        CREATE TABLE checks (
            part TEXT NOT NULL,
            key INTEGER NOT NULL,
            sums BLOB NOT NULL,
            PRIMARY KEY (part, key)
        ) WITHOUT ROWID
        """
    )
    for table in ("records", "queries"):
        db.table(table).add_column("sum", int)
    for table in (part for parts in finding_checks.FINDINGS.values() for part in parts):
        db.execute(f"ALTER TABLE {table} ADD COLUMN sum INTEGER NOT NULL DEFAULT 0")
    # Before the medoid itself is taken away, see `findings_of_deleted_records`.
    db.execute(
        "CREATE TRIGGER medoids_of_deleted_records BEFORE DELETE ON records "
        "BEGIN UPDATE clusters SET sum = sum - old.key WHERE medoid = old.key; END"
    )
    for table in ("segments", "codes", *checks.ROWS):
        key = "segment" if table == "codes" else "key"
        db.execute(
            f"CREATE TRIGGER checks_of_deleted_{table} AFTER DELETE ON {table} "
            f"BEGIN DELETE FROM checks WHERE part = '{table}' AND key = old.{key}; END"
        )
    db.execute(
        "CREATE TRIGGER checks_of_segments_of_deleted_collections AFTER DELETE ON collections "
        "BEGIN DELETE FROM checks WHERE part = 'segments of' AND key = old.key; END"
    )
    checks.seal_all(db.conn)


def step_9_gathered_parts(db: Database) -> None:
    """Remember which parts of a shared encode went into which collection."""
    db.execute(
        """
        CREATE TABLE gathered (
            collection INTEGER NOT NULL REFERENCES collections(key),
            part TEXT NOT NULL,
            sum INTEGER NOT NULL,
            PRIMARY KEY (collection, part)
        ) WITHOUT ROWID
        """
    )
    # Keys of collections are used again.
    db.execute(
        "CREATE TRIGGER parts_of_deleted_collections AFTER DELETE ON collections "
        "BEGIN DELETE FROM gathered WHERE collection = old.key; END"
    )


STEPS: tuple[Step, ...] = (
    step_1_foundation,
    step_2_chunks,
    step_3_codes,
    step_4_calibration,
    step_5_encodings,
    step_6_maps,
    step_7_clusters_and_layouts,
    step_8_checks,
    step_9_gathered_parts,
)
