"""The embeddings.db of Simon Willison's ``llm``."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from hashlib import md5
from typing import Any
from urllib.parse import quote

import numpy as np

from embcli.errors import InputError, UsageError
from embcli.formats import Problem
from embcli.formats.vectors import VectorBatch, VectorOptions
from embcli.formats.vectors.rows import check_shape, finite, rows_at_once

_VALUE = np.dtype("<f4")
_SCHEMA = """
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY, "migration_set" TEXT, "name" TEXT, "applied_at" TEXT
);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE TABLE "collections" ("id" INTEGER PRIMARY KEY, "name" TEXT, "model" TEXT);
CREATE UNIQUE INDEX "idx_collections_name" ON "collections" ("name");
CREATE TABLE "embeddings" (
   "collection_id" INTEGER REFERENCES "collections"("id"), "id" TEXT, "embedding" BLOB,
   "content" TEXT, "content_blob" BLOB, "content_hash" BLOB, "metadata" TEXT,
   "updated" INTEGER, PRIMARY KEY ("collection_id", "id")
);
CREATE INDEX "idx_embeddings_content_hash" ON "embeddings" ("content_hash");
"""
# What llm would do to an older file; it must not do it to this one.
_STEPS = (
    "m001_create_tables", "m002_foreign_key", "m003_add_updated", "m004_store_content_hash",
    "m005_add_content_blob",
)  # fmt: skip


class LlmReader:
    """Reads one collection, in the order of its rows.

    A record without stored content has no text.
    """

    recipe: dict[str, Any] | None = None

    def __init__(self, path: str | os.PathLike[str], options: VectorOptions) -> None:
        self._path = os.fspath(path)
        self._limit = -1 if options.limit is None else options.limit
        uri = f"file:{quote(os.fsencode(path))}?mode=ro"
        with self._damage():
            self._db = sqlite3.connect(uri, uri=True)
        try:
            with self._damage():
                self._key, model = self._find(options.collection)
                rows, width = self._db.execute(
                    "SELECT count(*), (SELECT length(embedding) FROM embeddings "
                    "WHERE collection_id = ?1 ORDER BY rowid LIMIT 1) "
                    "FROM embeddings WHERE collection_id = ?1",
                    (self._key,),
                ).fetchone()
            self.dim = (width or 0) // _VALUE.itemsize
            check_shape(self._path, rows, self.dim)
        except BaseException:
            self._db.close()
            raise
        self.count: int | None = rows if self._limit < 0 else min(rows, self._limit)
        self.notes = [f"llm's model was {model!r}"]

    def __iter__(self) -> Iterator[VectorBatch | Problem]:
        place = 1
        with self._damage():
            rows = self._db.execute(
                "SELECT id, embedding, content, metadata FROM embeddings WHERE collection_id = ? "
                "ORDER BY rowid LIMIT ?",
                (self._key, self._limit),
            )
            while portion := rows.fetchmany(rows_at_once(self.dim)):
                yield from self._convert(portion, place)
                place += len(portion)

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError) as error:
            raise InputError(f"{self._path}: cannot be read ({error})") from None

    def _find(self, wanted: str | None) -> tuple[int, str]:
        found = {
            str(name): (key, model)
            for key, name, model in self._db.execute("SELECT id, name, model FROM collections")
        }
        names = ", ".join(found) or "none"
        if wanted is None and len(found) == 1:
            wanted = next(iter(found))
        if wanted is None and found:
            raise UsageError(
                f"{self._path} has several collections ({names})", hint="--source-collection NAME"
            )
        if wanted not in found:
            raise InputError(
                f"{self._path} has no collection {wanted or ''!r} (there are: {names})"
            )
        return found[wanted]

    def _convert(self, rows: list[Any], first: int) -> Iterator[VectorBatch | Problem]:
        kept = []
        for place, (id, blob, content, meta) in enumerate(rows, first):
            length = len(blob) / _VALUE.itemsize if isinstance(blob, bytes) else 0
            if length != self.dim:
                message = f"row {place}: {id!r} has {length:g} components, not {self.dim:,}"
                yield Problem(self._path, 0, message)
                continue
            kept.append((str(id), blob, str(content or ""), self._meta(id, meta), place))
        if not kept:
            return
        ids, blobs, texts, metas, places = (list(column) for column in zip(*kept, strict=True))
        vectors = np.frombuffer(b"".join(blobs), _VALUE).reshape(-1, self.dim).astype(np.float32)
        yield from finite(self._path, VectorBatch(ids, vectors, texts, metas, places))

    def _meta(self, id: str, text: str | None) -> dict[str, Any]:
        try:
            meta = json.loads(text) if text else {}
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{self._path}: metadata of {id!r}: {error}") from None
        return meta if isinstance(meta, dict) else {"metadata": meta}


class LlmWriter:
    """Writes a file that ``llm similar`` and ``llm embed-multi`` go on with.

    They look up the model of the collection by its name, which is the one in the recipe.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        dim: int,
        count: int | None,
        recipe: dict[str, Any],
        name: str = "default",
    ) -> None:
        with closing(sqlite3.connect(path)) as db:
            db.executescript(_SCHEMA)
        self._db = sqlite3.connect(path)
        now = datetime.now(UTC)
        self._updated = int(time.time())
        self._db.executemany(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
            "VALUES ('llm.embeddings', ?, ?)",
            ((step, str(now)) for step in _STEPS),
        )
        self._db.execute(
            "INSERT INTO collections (id, name, model) VALUES (1, ?, ?)",
            (name, recipe.get("model", "")),
        )

    def write(self, batch: VectorBatch) -> None:
        """Append a batch."""
        vectors = np.ascontiguousarray(batch.vectors, _VALUE)
        self._db.executemany(
            "INSERT INTO embeddings (collection_id, id, embedding, content, content_hash, "
            "metadata, updated) VALUES (1, ?, ?, ?, ?, ?, ?)",
            (
                (id, vector.tobytes(), text, md5(text.encode(), usedforsecurity=False).digest(),
                 json.dumps(meta) if meta else None, self._updated)
                for id, vector, text, meta in zip(
                    batch.ids, vectors, batch.texts, batch.metas, strict=True
                )
            ),
        )  # fmt: skip

    def close(self) -> None:
        """Complete the file."""
        self._db.commit()
        self._db.close()
