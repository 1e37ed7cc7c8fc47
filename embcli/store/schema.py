"""The tables of a store, as numbered steps that build or upgrade one.

A store's ``user_version`` is the number of steps it has been through. Released steps are never
edited; a change of schema is a new step at the end of `STEPS`.
"""

from collections.abc import Callable

from sqlite_utils import Database

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


STEPS: tuple[Step, ...] = (step_1_foundation,)
