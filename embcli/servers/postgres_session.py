"""A connection to PostgreSQL, and what its failures mean."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote

import psycopg
from psycopg import errors
from psycopg.sql import Identifier, Literal

from embcli.config import TIMEOUT_VARIABLE, seconds_to_wait
from embcli.errors import InputError, StoreError, UsageError
from embcli.servers import Address

# Of PostgreSQL: where numbers may be infinite. Of pgvector: scans that go on while rows are
# filtered out.
_OLDEST, _OLDEST_VECTOR = 140000, (0, 8)
_AGAIN = "what was written stays; the same command again does the rest"
# Notices a server that is gone within a minute, however long it works on a query, and one that
# takes no more of what is sent (in milliseconds).
_KEEPALIVES = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_SETTINGS = {
    # What is compiled for a filter takes longer than the filter.
    "jit": "off",
    "standard_conforming_strings": "on",
    # The server looks, too: whoever's machine has died would keep its locks for hours.
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}
# Of a URL: the first is not libpq's, and the second no keyword of it but taken by it.
_OWN_OPTIONS = {"table", "ssl"}
_FORM = "postgresql://USER@HOST/DATABASE?table=NAME"


class Session:
    """A connection, whose failures are StoreErrors of one line.

    Attributes
    ----------
    address : Address
    connection : psycopg.Connection
        In autocommit mode.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self.address = address
        self._timeout = timeout
        self.connection = self.connect()

    def connect(self) -> "psycopg.Connection[tuple[Any, ...]]":
        """Open one more connection to the same database.

        Raises
        ------
        StoreError
            The server cannot be reached, or refuses.
        UsageError
            The URL is none that libpq takes.
        """
        _check_options(self.address)
        wanted: dict[str, Any] = {
            name: value for name, value in _KEEPALIVES.items() if name not in self.address.options
        }
        if "connect_timeout" not in self.address.options:
            # libpq takes whole seconds, two at least.
            wanted["connect_timeout"] = max(2, round(self._timeout))
        try:
            connection = psycopg.connect(
                _conninfo(self.address),
                autocommit=True,
                # A pooler in between may give every transaction another server process.
                prepare_threshold=None,
                client_encoding="utf8",
                fallback_application_name="embcli",
                **wanted,
            )
        except psycopg.ProgrammingError as error:
            said = _hidden(_line(str(error)), self.address)
            raise UsageError(f"{self.address}: {said}", hint=_FORM) from None
        except psycopg.Error as error:
            raise self._refused(error) from None
        try:
            with self.guarded():
                # Nought would be without end.
                wait = max(1, round(1000 * seconds_to_wait()))
                settings = {**_SETTINGS, "lock_timeout": f"{wait}ms"}
                connection.execute(
                    "SELECT set_config(name, value, false) "
                    "FROM unnest(%s::text[], %s::text[]) AS settings (name, value)",
                    (list(settings), list(settings.values())),
                )
        except StoreError:
            connection.close()
            raise
        return connection

    def check(self) -> str:
        """Find out whether the server can hold vectors; return what runs there.

        Raises
        ------
        StoreError
            It is too old, or has no pgvector.
        """
        with self.guarded():
            number, version, encoding, database = self.row(
                "SELECT current_setting('server_version_num')::int, "
                "current_setting('server_version'), current_setting('server_encoding'), "
                "current_database()"
            ) or (0, "", "", "")
            found = self.row(
                "SELECT extversion, nspname FROM pg_extension "
                "JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'vector'"
            )
        if number < _OLDEST:
            raise StoreError(f"{self.address}: PostgreSQL {version} is too old: it takes 14")
        if encoding != "UTF8":
            raise StoreError(
                f"{self.address}: the database is in {encoding}, and texts are in UTF-8",
                hint="CREATE DATABASE name TEMPLATE template0 ENCODING 'UTF8'",
            )
        if found is None:
            raise StoreError(
                f"{self.address}: the database {database!r} has no pgvector",
                hint="in it, once: CREATE EXTENSION vector",
            )
        if tuple(map(int, re.findall(r"\d+", found[0])))[:2] < _OLDEST_VECTOR:
            raise StoreError(
                f"{self.address}: pgvector {found[0]} is too old: it takes 0.8",
                hint="ALTER EXTENSION vector UPDATE, after a newer one is installed",
            )
        self._schema = found[1]
        self.prepare(self.connection)
        return f"PostgreSQL {version.split()[0]}, pgvector {found[0]}"

    def prepare(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        """Let a connection find the operators of pgvector, whatever schema they are in."""
        with self.guarded():
            connection.execute(
                "SELECT set_config('search_path', concat_ws(', ', "
                "nullif(current_setting('search_path'), ''), quote_ident(%s)), false)",
                (self._schema,),
            )

    def another(self) -> "psycopg.Connection[tuple[Any, ...]]":
        """Open a second connection that is ready for use, such as for a stream of rows."""
        connection = self.connect()
        self.prepare(connection)
        return connection

    def row(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Execute a statement and return the first row."""
        cursor = self.connection.execute(query, values)
        return cursor.fetchone()

    @contextmanager
    def guarded(
        self, ids: Sequence[str] = (), passed: tuple[type[psycopg.Error], ...] = ()
    ) -> Iterator[None]:
        """Make StoreErrors of the server's failures.

        Parameters
        ----------
        ids : sequence of str
            Of the rows that are being copied: one that the server refuses is named.
        passed : tuple of types
            Failures that are raised as they are.
        """
        try:
            yield
        except passed:
            raise
        except psycopg.Error as error:
            raise self._failure(error, ids) from None

    def _failure(self, error: psycopg.Error, ids: Sequence[str]) -> StoreError | InputError:
        said = _line(error.diag.message_primary or str(error))
        line = re.search(r"COPY .+, line (\d+)(?:, column (\w+))?", error.diag.context or "")
        if isinstance(error, errors.DataError | errors.ProgramLimitExceeded) and ids and line:
            row = min(int(line[1]), len(ids)) - 1
            return InputError(
                f"{self.address}: record {ids[row][:200]!r} cannot be stored in PostgreSQL: "
                f"{line[2] or 'row'}: {said}",
                hint="nothing of its batch was written",
            )
        if isinstance(error, errors.DiskFull | errors.OutOfMemory):
            return StoreError(f"{self.address}: {said}", hint=_AGAIN)
        if isinstance(error, errors.LockNotAvailable):
            return StoreError(
                f"{self.address}: another command has locked what is there",
                hint=f"wait for it to finish, or set {TIMEOUT_VARIABLE} to more seconds",
            )
        if isinstance(error, errors.InsufficientPrivilege):
            return StoreError(f"{self.address}: {said}", hint=self._grant(said))
        if isinstance(error, errors.ReadOnlySqlTransaction):
            return StoreError(
                f"{self.address}: {said}",
                hint="is it a standby? push to the primary, or to a database that is not read-only",
            )
        lost = (errors.AdminShutdown, errors.CrashShutdown, psycopg.InterfaceError)
        if isinstance(error, lost) or (
            isinstance(error, psycopg.OperationalError) and error.sqlstate is None
        ):
            return StoreError(f"{self.address}: the connection was lost ({said})", hint=_AGAIN)
        return StoreError(f"{self.address}: {said}")

    def _grant(self, said: str) -> str | None:
        """Tell who can give the permission that is missing."""
        user = Identifier(self.connection.info.user).as_string(None)
        found = re.search(r"(permission denied for|must be owner of) (\w+) (.+)", said)
        if found is None:
            return None
        kind, name = found[2], Identifier(found[3]).as_string(None)
        if found[1].startswith("must"):
            return (
                f"only the owner of a {kind} pushes to it: who is that lets others by "
                f"GRANT its owner's role TO {user}; or another name in the URL"
            )
        if kind == "schema":
            return (
                f"its owner, once: GRANT USAGE ON SCHEMA {name} TO {user}; and to push also CREATE"
            )
        if kind == "table":
            return (
                f"its owner, once: GRANT SELECT ON {name} TO {user}; to push it takes the owner's "
                "role itself"
            )
        return f"its owner, or a superuser, can GRANT it TO {user}"

    def _refused(self, error: psycopg.Error) -> StoreError | UsageError:
        said = _hidden(_line(str(error)), self.address)
        said = re.sub("^connection (failed|is bad): ", "", said)
        # Of the addresses of a host each is tried, and the last one tells as much as the others.
        socket = re.search(r'connection to server on socket "([^"]*)" failed: ', said)
        said = re.sub(r".*connection to server (at|on) [^:]*(::1)?[^:]* failed: ", "", said)
        said = re.sub(r" Is the server running .*", "", said)
        if socket:
            said = f"{socket[1]}: {said}"
        hint = None
        if re.match(r"invalid \S+ value|invalid integer value|invalid port number", said):
            return UsageError(f"{self.address}: {said}")
        if socket and "No such file" in said:
            hint = f"without a host it is the socket of a server here that is asked; else {_FORM}"
        elif "Connection refused" in said or "timeout" in said:
            hint = "is the server running, and does it listen there?"
        elif "password" in said or "no password supplied" in said:
            hint = "the user and the password of the URL, or $PGPASSWORD, or ~/.pgpass"
        elif re.search("database .* does not exist", said):
            hint = "CREATE DATABASE makes one"
        return StoreError(f"{self.address}: {said}", hint=hint)


def identifier(*names: str) -> str:
    """Quote names for SQL that is executed with values."""
    return Identifier(*names).as_string(None).replace("%", "%%")


def literal(text: str) -> str:
    """Quote a text for SQL that is executed with values, where no value can be bound."""
    return Literal(text).as_string(None).replace("%", "%%")


def _check_options(address: Address) -> None:
    """Refuse options that libpq does not know, before it says so in words of its own.

    Raises
    ------
    UsageError
    """
    if "://" not in address.url:
        raise UsageError(f"{address} lacks a slash", hint=_FORM)
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    for name in address.options:
        if name not in known | _OWN_OPTIONS:
            raise UsageError(
                f"{address}: there is no option {name!r}", hint=f"table, or one of libpq: {_FORM}"
            )
    seconds = address.options.get("connect_timeout")
    if seconds is not None and not re.fullmatch(r" *0*[1-9]\d* *", seconds):
        raise UsageError(
            f"{address}: connect_timeout takes whole seconds, one at least",
            hint="to wait for a server for ever is not provided for",
        )


def _conninfo(address: Address) -> str:
    """Write the URL for libpq: without what it does not know, and with what is odd quoted.

    In a password with an @ libpq would take what follows for a host, and say so.
    """
    start, _, options = address.url.partition("?")
    kept = [o for o in options.split("&") if o and unquote(o.partition("=")[0]) != "table"]
    _, _, rest = start.partition("://")
    if address.user is not None:
        who = quote(address.user, safe="")
        if address.password is not None:
            who += f":{quote(address.password, safe='')}"
        rest = f"{who}@{rest.rpartition('@')[2]}"
    return f"{address.scheme}://{rest}?{'&'.join(kept)}" if kept else f"{address.scheme}://{rest}"


def _hidden(text: str, address: Address) -> str:
    """Leave out passwords: what is wrong with a URL libpq says with the URL."""
    known = {each for each in (address.password, address.options.get("password")) if each}
    for secret in sorted(known | {quote(each, safe="") for each in known}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return text


def _line(text: str) -> str:
    return re.sub(r"\b(FATAL|ERROR|PANIC): +", "", " ".join(text.split()))
