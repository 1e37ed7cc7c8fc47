"""A collection in a table of PostgreSQL: a row for each vector."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from psycopg import ServerCursor

from embcli.servers import Header, Progress, ServerHit, Sought
from embcli.servers.postgres_index import Indexes
from embcli.servers.postgres_rows import COLUMNS, READ, from_rows, keys_of, to_rows
from embcli.servers.postgres_search import EFFORTS, Search
from embcli.servers.postgres_session import Session, literal
from embcli.servers.postgres_where import compile_node
from embcli.store.collection import Batch
from embcli.store.where import Node

_SUMS_AT_ONCE = 10_000
# Of advisory locks: they are numbers that everybody chooses for himself.
_PUSH = int.from_bytes(b"embc")


class PostgresCollection:
    """See `embcli.servers.ServerCollection`.

    Texts, sources, hashes and sums are in the row of a record's first chunk; metadata, by which
    rows are filtered, are in all. Metadata are kept as they were, too: jsonb has other numbers.

    Parameters
    ----------
    session : Session
    name : str
    table : str
        Quoted for SQL.
    header : Header
    """

    efforts: Sequence[int] = EFFORTS

    def __init__(self, session: Session, name: str, table: str, header: Header) -> None:
        self.name = name
        self.header = header
        self._session = session
        self._table = table
        self._chunked = header.chunking is not None
        self._indexes = Indexes(session, table, header.recipe.dim, header.dtype)

    def make(self) -> None:
        """Make the table; what the server says against it is raised as it is."""
        kind = "halfvec" if self.header.dtype == "float16" else "vector"
        with self._session.connection.transaction():
            self._session.connection.execute(
                f"CREATE TABLE {self._table} (key uuid, chunk integer, "
                "chunk_start integer NOT NULL, chunk_end integer NOT NULL, id text NOT NULL, "
                "text text, meta jsonb NOT NULL, stored_meta text, source text, hash text, "
                f"sum bigint, embedding {kind}({self.header.recipe.dim}) NOT NULL, "
                "PRIMARY KEY (key, chunk))",
                (),
            )
            self._set_comment(self.header)

    def claim(self) -> bool:
        """Take the table for one push, as long as the connection lasts.

        Returns
        -------
        taken : bool
            False if another push has it.
        """
        with self._session.guarded():
            found = self._session.row(
                "SELECT pg_try_advisory_lock(%s, to_regclass(%s)::oid::integer)",
                (_PUSH, self._table.replace("%%", "%")),
            )
        return found is not None and bool(found[0])

    def set_header(self, header: Header) -> None:
        """Keep another header."""
        with self._session.guarded():
            self._set_comment(header)
        self.header = header

    def counts(self) -> tuple[int, int]:
        """How many records and vectors there are."""
        with self._session.guarded():
            found = self._session.row(
                f"SELECT count(*) FILTER (WHERE chunk = 0), count(*) FROM {self._table}"
            )
        return (0, 0) if found is None else (found[0], found[1])

    def sums(self) -> Iterator[tuple[list[str], list[int]]]:
        """Stream the ids of all records, each with the sum it was written with.

        What lost it has one that no record has, and is written again.
        """
        query = f"SELECT id, coalesce(sum, -1) FROM {self._table} WHERE chunk = 0"
        with self._stream(query, []) as cursor:
            while rows := cursor.fetchmany(_SUMS_AT_ONCE):
                yield [id for id, _ in rows], [sum for _, sum in rows]

    def write(self, batch: Batch, sums: Sequence[int]) -> None:
        """Insert or replace records in one transaction.

        Raises
        ------
        InputError
            PostgreSQL cannot hold a record, which is named; nothing of the batch was written.
        """
        ids = batch.ids
        if batch.spans is not None:
            ids = [id for id, n in zip(ids, batch.counts.tolist(), strict=True) for _ in range(n)]
        connection = self._session.connection
        with self._session.guarded(ids), connection.transaction():
            # Readers go on; another push waits, so that a record is never there twice.
            connection.execute(f"LOCK TABLE {self._table} IN SHARE ROW EXCLUSIVE MODE", ())
            self._delete(batch.ids)
            # Without values, so that percent signs are themselves.
            table = self._table.replace("%%", "%")
            copy = f"COPY {table} ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"
            with connection.cursor() as cursor, cursor.copy(copy) as sink:
                sink.set_types(list(COLUMNS.values()))
                for row in to_rows(batch, sums, self.header.dtype):
                    sink.write_row(row)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete records; ids that are not there are passed over."""
        with self._session.guarded(), self._session.connection.transaction():
            self._delete(ids)

    def finish(self, fields: Sequence[str], progress: Progress) -> dict[str, Any]:
        """Index what was written; see `Indexes.make`."""
        return self._indexes.make(fields, progress)

    def is_indexed(self, fields: Sequence[str]) -> bool:
        """Whether there is all that `finish` makes, and valid."""
        return self._indexes.are_made(fields)

    def fetch(self, ids: Sequence[str]) -> Batch:
        """Fetch records with their vectors, in any order; ids that are not there are left out."""
        query = f"SELECT {READ} FROM {self._table} WHERE key = ANY(%s::uuid[]) ORDER BY key, chunk"
        with self._session.guarded(), self._session.connection.cursor(binary=True) as cursor:
            rows = cursor.execute(query, (keys_of(ids),)).fetchall()
        return self._batch(rows)

    def batches(self, n: int, where: Node | None = None) -> Iterator[Batch]:
        """Stream all records with their vectors as they are at one moment, each once."""
        condition, values = ("true", []) if where is None else self._condition(where)
        order = "ORDER BY key, chunk" if self._chunked else ""
        query = f"SELECT {READ} FROM {self._table} WHERE {condition} {order}"
        if self._chunked and where is not None:
            # A filter on metadata holds for all rows of a record, that on its text for the first.
            query = (
                f"SELECT {READ} FROM {self._table} WHERE key IN (SELECT key FROM {self._table} "
                f"WHERE chunk = 0 AND {condition}) {order}"
            )
        with self._stream(query, values) as cursor:
            left: list[tuple[Any, ...]] = []
            while rows := cursor.fetchmany(n):
                rows = left + rows
                # The last record may have more rows.
                cut = len(rows)
                if self._chunked:
                    cut = max((at for at, row in enumerate(rows) if row[5] == 0), default=0)
                left = rows[cut:]
                if cut:
                    yield self._batch(rows[:cut])
            if left:
                yield self._batch(left)

    def search(self, sought: Sought) -> list[list[ServerHit]]:
        """Find the nearest records of each vector; see `embcli.servers.postgres_search`."""
        condition, values = (None, []) if sought.where is None else self._condition(sought.where)
        return Search(
            self._session, self._table, self.header, self._indexes.nearest(), sought,
            None if condition is None else (condition, values),
        ).hits()  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """Tell what `embcli info` shows."""
        return self._indexes.facts()

    def _condition(self, where: Node) -> tuple[str, list[Any]]:
        return compile_node(where, self._table if self._chunked else None)

    def _delete(self, ids: Sequence[str]) -> None:
        self._session.connection.execute(
            f"DELETE FROM {self._table} WHERE key = ANY(%s::uuid[])", (keys_of(ids),)
        )

    def _batch(self, rows: Sequence[tuple[Any, ...]]) -> Batch:
        where = f"{self._session.address}: table {self._table}"
        return from_rows(rows, self.header.recipe.dim, self.header.dtype, self._chunked, where)

    def _set_comment(self, header: Header) -> None:
        self._session.connection.execute(
            f"COMMENT ON TABLE {self._table} IS {literal(header.json)}", ()
        )

    @contextmanager
    def _stream(self, query: str, values: Sequence[Any]) -> Iterator[ServerCursor[tuple[Any, ...]]]:
        """Open a cursor on a connection of its own: others are used while it is read."""
        with (
            self._session.guarded(),
            closing(self._session.another()) as connection,
            connection.transaction(),
        ):
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            # All rows will be fetched, not the first few.
            connection.execute("SET LOCAL cursor_tuple_fraction = 1")
            with connection.cursor("embcli", binary=True) as cursor:
                cursor.execute(query, values)
                yield cursor
