"""PostgreSQL with pgvector: a table for each collection, which says in its comment what it holds.

``postgresql://USER:PASSWORD@HOST:PORT/DATABASE?table=[SCHEMA.]NAME``; whatever else stands there is
libpq's, as are ``$PGPASSWORD`` and ``~/.pgpass``. A dot in the name of a collection that is not
from there is a part of the name.
"""

from types import TracebackType
from typing import Any, Self

from psycopg import errors

from embcli.errors import StoreError, UsageError
from embcli.servers import Address, Header
from embcli.servers.postgres_collection import PostgresCollection
from embcli.servers.postgres_rows import TYPES
from embcli.servers.postgres_session import Session, identifier

# Of vector and halfvec.
_MOST_DIMENSIONS = 16000
# PostgreSQL cuts longer names.
_LONGEST_NAME = 63
_OTHER_NAME = "DROP TABLE, and embcli push again; or another name in the URL"
_MARK = '{"embcli_collection"'


class PostgresServer:
    """A connection to a database; see `embcli.servers.Server`."""

    def __init__(self, address: Address, timeout: float) -> None:
        self.address = address
        self.named = address.options.get("table") or None
        # Names that are of a schema and a table, and these two.
        self._places: dict[str, list[str]] = {}
        if self.named is not None:
            self._places[self.named] = self.named.split(".", 1)
            self._table(self.named)
        self._session = Session(address, timeout)
        try:
            self.product = self._session.check()
        except StoreError:
            self.close()
            raise

    def collections(self) -> list[str]:
        """List the collections that embcli made: those of other schemas with their schema."""
        with self._session.guarded():
            rows = self._session.connection.execute(
                "SELECT CASE WHEN pg_table_is_visible(pg_class.oid) AND strpos(relname, '.') = 0 "
                "THEN relname ELSE nspname || '.' || relname END AS name, nspname, relname "
                "FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
                "WHERE relkind IN ('r', 'p') "
                "AND starts_with(obj_description(pg_class.oid, 'pg_class'), %s) ORDER BY 1",
                (_MARK,),
            ).fetchall()
        self._places |= {name: [schema, table] for name, schema, table in rows}
        return [name for name, _, _ in rows]

    def collection(self, name: str) -> PostgresCollection | None:
        """Open a collection; None if there is none.

        Raises
        ------
        StoreError
            It was not made by embcli, or was altered.
        """
        table = self._table(name)
        with self._session.guarded():
            found = self._session.row(
                "SELECT obj_description(oid, 'pg_class'), (SELECT jsonb_object_agg(attname, "
                "jsonb_build_array(typname, atttypmod)) FROM pg_attribute "
                "JOIN pg_type ON pg_type.oid = atttypid "
                "WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped) "
                "FROM pg_class WHERE oid = to_regclass(%s)",
                [table.replace("%%", "%")],
            )
        if found is None:
            return None
        where = f"{self.address}: table {name}"
        header = Header.from_json(found[0], where)
        _check_columns(found[1] or {}, header, where)
        return PostgresCollection(self._session, name, table, header)

    def create(self, name: str, header: Header) -> PostgresCollection:
        """Make a collection, marked as loading; or open the one that another push just made.

        Raises
        ------
        UsageError
            pgvector cannot hold as many dimensions, or the name is impossible.
        StoreError
            There is a table of this name that is none of embcli's, or holds something else.
        """
        if header.recipe.dim > _MOST_DIMENSIONS:
            raise UsageError(
                f"pgvector holds vectors of at most {_MOST_DIMENSIONS:,} dimensions, "
                f"and these have {header.recipe.dim:,}"
            )
        made = PostgresCollection(self._session, name, self._table(name), header)
        try:
            with self._session.guarded(passed=(errors.UniqueViolation, errors.DuplicateTable)):
                made.make()
        except (errors.UniqueViolation, errors.DuplicateTable):
            return self._made_meanwhile(name, header)
        return made

    def _made_meanwhile(self, name: str, header: Header) -> PostgresCollection:
        where = f"{self.address}: table {name}"
        found = self.collection(name)
        if found is None:
            raise StoreError(f"{where}: there is something else of this name", hint=_OTHER_NAME)
        there = found.header
        if (there.recipe.hash, there.chunking) != (header.recipe.hash, header.chunking):
            raise StoreError(f"{where}: another push has just made it", hint=_OTHER_NAME)
        return found

    def drop(self, name: str) -> None:
        """Delete a collection."""
        with self._session.guarded():
            self._session.connection.execute(f"DROP TABLE {self._table(name)}", ())

    def _table(self, name: str) -> str:
        """Give the table that is called so, quoted for SQL that is executed with values.

        Raises
        ------
        UsageError
            No table can be called so.
        """
        names = self._places.get(name, [name])
        for each in names:
            if not each or "\0" in each or len(each.encode("utf-8", "replace")) > _LONGEST_NAME:
                raise UsageError(
                    f"{name!r} is no name of a table: it takes 1 to {_LONGEST_NAME} bytes, "
                    "in a URL after the name of a schema and a dot if wanted"
                )
        return identifier(*names)

    def close(self) -> None:
        """End the connection."""
        self._session.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _check_columns(columns: dict[str, Any], header: Header, where: str) -> None:
    """Refuse a table that does not hold what its header says.

    Parameters
    ----------
    columns : dict
        From names to a type and its modifier, which for vectors is how many dimensions they have.
    header : Header
    where : str

    Raises
    ------
    StoreError
    """
    kind = "halfvec" if header.dtype == "float16" else "vector"
    expected = [(name, type, -1) for name, type in TYPES.items()]
    for name, type, size in [*expected, ("embedding", kind, header.recipe.dim)]:
        wanted, found = f"{type}({size})" if size > 0 else type, "not there"
        if name in columns:
            has, modifier = columns[name]
            found = f"{has}({modifier})" if modifier > 0 else has
        if found != wanted:
            raise StoreError(
                f"{where} was altered: its column {name!r} is {found}, expected {wanted}",
                hint=_OTHER_NAME,
            )
