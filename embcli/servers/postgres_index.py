"""The indexes of a collection's table: of vectors, of metadata as a whole and of single fields."""

import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import psycopg
from psycopg import errors

from embcli.errors import StoreError
from embcli.servers import Progress
from embcli.servers.postgres_session import Session, identifier
from embcli.servers.postgres_where import field_indexes
from embcli.store.where import parse_field

# pgvector's own defaults are 16 and 64; twice as long a build gives some recall.
_M, _EF_CONSTRUCTION = 16, 128
_MOST_INDEXED = {"vector": 2000, "halfvec": 4000}
_MEGABYTE = 1 << 20
# Bytes of a vector's neighbours and so on while an index is built.
_OVERHEAD = 1300
_MOST_MEMORY = 1024
_POLL = 0.5


@dataclass(frozen=True)
class Nearest:
    """How vectors are compared in a table.

    Attributes
    ----------
    kind : {"vector", "halfvec"}
        As which they are kept.
    indexed : {"vector", "halfvec"} or None
        As which they are indexed; None if they are not.
    rows : int
        About how many there are.
    options : list of str
        What the index was built with, such as ``m=16``.
    """

    kind: str
    indexed: str | None
    rows: int
    options: list[str]


class Indexes:
    """The indexes of one table.

    Parameters
    ----------
    session : Session
    table : str
        Quoted for SQL.
    dim : int
    dtype : {"float32", "float16"}
    """

    def __init__(self, session: Session, table: str, dim: int, dtype: str) -> None:
        self._session = session
        self._table = table
        self._dim = dim
        self._kind = "halfvec" if dtype == "float16" else "vector"

    def nearest(self) -> Nearest:
        """Find out how the table is searched."""
        with self._session.guarded():
            found = self._session.row(
                "SELECT greatest(t.reltuples, 0)::bigint, opcname, i.reloptions "
                "FROM pg_class AS t LEFT JOIN (pg_index JOIN pg_class AS i ON i.oid = indexrelid "
                "JOIN pg_am ON pg_am.oid = i.relam AND amname = 'hnsw' "
                "JOIN pg_opclass ON pg_opclass.oid = indclass[0] "
                "AND opcname IN ('vector_cosine_ops', 'halfvec_cosine_ops')) "
                "ON indrelid = t.oid AND indisvalid AND indpred IS NULL "
                "AND pg_get_indexdef(indexrelid, 1, true) = CASE opcname "
                "WHEN %s THEN 'embedding' ELSE %s END "
                "WHERE t.oid = to_regclass(%s) LIMIT 1",
                (f"{self._kind}_cosine_ops", f"(embedding::halfvec({self._dim}))", self._regclass),
            )
        rows, operators, options = found or (0, None, None)
        indexed = operators and operators.removesuffix("_cosine_ops")
        return Nearest(self._kind, indexed, rows, options or [])

    def make(self, fields: Sequence[str], progress: Progress) -> dict[str, Any]:
        """Make those that are not there yet.

        Parameters
        ----------
        fields : sequence of str
            Metadata fields.
        progress : callable

        Returns
        -------
        facts : dict
            ``index``: hnsw, or none above 4,000 dimensions; ``fields`` that are indexed.
        """
        if not self._nearest_is_sound():
            self._make_nearest(progress)
        with self._session.guarded():
            sound = self._sound()
            missing = {w: d for w, d in _definitions(fields).items() if _mark(w) not in sound}
            for number, (what, definition) in enumerate(missing.items()):
                progress("indexing fields", number, len(missing))
                self._run(what, definition)
            self._session.connection.execute(f"ANALYZE {self._table}", ())
        return {"index": "hnsw" if self._indexed_kind else "none", "fields": list(fields)}

    def are_made(self, fields: Sequence[str]) -> bool:
        """Whether all that `make` makes is there and valid."""
        with self._session.guarded():
            sound = self._sound()
        return self._nearest_is_sound() and all(_mark(w) in sound for w in _definitions(fields))

    def facts(self) -> dict[str, Any]:
        """Tell about sizes and indexes."""
        nearest = self.nearest()
        with self._session.guarded():
            found = self._session.row(
                "SELECT pg_total_relation_size(t), pg_table_size(t), pg_indexes_size(t) "
                "FROM to_regclass(%s) AS t",
                (self._regclass,),
            )
        total, table, indexes = found or (0, 0, 0)
        index = "none: every search compares with all vectors"
        if self._indexed_kind is not None:
            index = "not built yet: embcli push builds it"
        if nearest.indexed is not None:
            index = ", ".join([f"hnsw of {nearest.indexed}", *nearest.options]).replace("=", " ")
        return {"bytes": total, "table_bytes": table, "index_bytes": indexes, "index": index}

    @property
    def _regclass(self) -> str:
        return self._table.replace("%%", "%")

    @property
    def _indexed_kind(self) -> str | None:
        """As which vectors can be indexed: in half the bytes, if they have too many dimensions."""
        kinds = (self._kind, "halfvec")
        return next((kind for kind in kinds if self._dim <= _MOST_INDEXED[kind]), None)

    def _nearest_is_sound(self) -> bool:
        return self._indexed_kind is None or self.nearest().indexed is not None

    def _sound(self) -> set[str]:
        """Give the marks of those that are valid."""
        rows = self._session.connection.execute(
            "SELECT right(relname, 8) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
            "WHERE indrelid = to_regclass(%s) AND indisvalid",
            (self._regclass,),
        ).fetchall()
        return {mark for (mark,) in rows}

    def _run(self, what: str, definition: str) -> None:
        """Make an index; one that is there in its place is of no use."""
        mark = _mark(what)
        oid, table, old = self._session.row(
            "SELECT t.oid, relname, (SELECT array_agg(indexrelid::regclass::text) FROM pg_index "
            "JOIN pg_class AS i ON i.oid = indexrelid WHERE indrelid = t.oid "
            "AND right(i.relname, 9) = '_' || %s) FROM pg_class AS t WHERE t.oid = to_regclass(%s)",
            (mark, self._regclass),
        ) or (0, "", None)
        for index in old or []:
            self._session.connection.execute(f"DROP INDEX {index.replace('%', '%%')}", ())
        # With the number of the table, which may be renamed, and another get its name.
        name = f"{table.encode()[:32].decode(errors='ignore')}_{oid}_{mark}"
        self._session.connection.execute(
            f"CREATE INDEX {identifier(name)} ON {self._table} {definition}", ()
        )

    def _make_nearest(self, progress: Progress) -> None:
        kind = self._indexed_kind
        column = "embedding" if kind == self._kind else f"(embedding::{kind}({self._dim}))"
        definition = (
            f"USING hnsw ({column} {kind}_cosine_ops) "
            f"WITH (m = {_M}, ef_construction = {_EF_CONSTRUCTION})"
        )
        with self._session.guarded():
            counted = self._session.row(f"SELECT count(*) FROM {self._table}")
            rows = counted[0] if counted else 0
            self._give_memory(rows)
            try:
                self._build(definition, rows, progress)
            except errors.DiskFull as error:
                # What parallel workers share is in /dev/shm, which is small in containers.
                if "shared memory" not in str(error):
                    raise
                self._session.connection.execute("SET max_parallel_maintenance_workers = 0")
                self._build(definition, rows, progress)
            finally:
                with suppress(psycopg.Error):
                    self._session.connection.execute("RESET max_parallel_maintenance_workers")
                    self._session.connection.execute("RESET maintenance_work_mem")

    def _give_memory(self, rows: int) -> None:
        """Let the index be built in memory, where that takes no more than a gigabyte."""
        needed = rows * (4 * self._dim + _OVERHEAD) // _MEGABYTE + 16
        self._session.connection.execute(
            "SELECT set_config('maintenance_work_mem', %s, false) WHERE "
            "pg_size_bytes(current_setting('maintenance_work_mem')) < %s",
            (f"{min(needed, _MOST_MEMORY)}MB", min(needed, _MOST_MEMORY) * _MEGABYTE),
        )

    def _build(self, definition: str, rows: int, progress: Progress) -> None:
        """Build the index, and tell how far it is; interrupted, there is none."""
        failure: list[BaseException] = []
        connection = self._session.connection

        def build() -> None:
            try:
                self._run("hnsw", definition)
            except psycopg.Error as error:
                failure.append(error)

        thread = threading.Thread(target=build, name="index", daemon=True)
        progress("building the index", 0, rows)
        thread.start()
        try:
            self._watch(thread, rows, progress)
        except BaseException:
            connection.cancel_safe()
            raise
        finally:
            thread.join()
        if failure:
            raise failure[0]

    def _watch(self, thread: threading.Thread, rows: int, progress: Progress) -> None:
        thread.join(_POLL)
        if not thread.is_alive():
            return
        process = self._session.connection.info.backend_pid
        with suppress(StoreError, psycopg.Error), closing(self._session.connect()) as other:
            while thread.is_alive():
                done = other.execute(
                    "SELECT coalesce(tuples_done, 0) FROM pg_stat_progress_create_index "
                    "WHERE pid = %s",
                    (process,),
                ).fetchone()
                if done is not None:
                    progress("building the index", min(done[0], rows), rows)
                time.sleep(_POLL)
        # Without a second connection there is nothing to tell, but to wait for.
        while thread.is_alive():
            thread.join(_POLL)


def _definitions(fields: Sequence[str]) -> dict[str, str]:
    """Give all indexes but that of vectors, each with what it is of."""
    found = {"meta": "USING gin (meta jsonb_path_ops)"}
    for field in fields:
        for which, expression in enumerate(field_indexes(parse_field(field).names)):
            found[f"{field} {which}"] = f"({expression})"
    return found


def _mark(what: str) -> str:
    """Give the end of an index's name, by which it is found again."""
    return f"{crc32(what.encode()):08x}"
