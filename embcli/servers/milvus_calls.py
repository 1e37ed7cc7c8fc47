"""Calls of a Milvus server, and what is said if one fails."""

import logging
import os
import re
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from embcli.config import TIMEOUT_VARIABLE, seconds_to_wait
from embcli.errors import EmbcliError, StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from embcli.servers import Address

PORT = 19530
# For what a URL does not say.
TOKEN_VARIABLE, USER_VARIABLE, PASSWORD_VARIABLE = "MILVUS_TOKEN", "MILVUS_USER", "MILVUS_PASSWORD"
_OPTIONS = ("database", "secure", "token", "consistency")
_CONSISTENCIES = ("Strong", "Bounded", "Session", "Eventually")
_SECURE = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_OLDEST = (2, 3)
# Seconds for what reads or writes much, and for what waits for the server to be done.
_LONG, _LONGEST = 60.0, 3600.0
_LONGER = ("insert", "upsert", "query", "search", "delete")
_LONGEST_CALLS = ("load_collection", "flush", "create_index", "release_collection")


class Calls:
    """A client whose failures are told in one line.

    Who asks is said by the URL, with a user and a password or a token, else by the environment:
    by MILVUS_TOKEN, or MILVUS_USER and MILVUS_PASSWORD, which goes with a user of the URL, too.

    Parameters
    ----------
    address : Address
    timeout : float
        Seconds for the server to answer at all.

    Attributes
    ----------
    address : Address
    version : str
        As the server writes it.
    lite : bool
        Whether it is Milvus Lite.
    consistency : str or None
        Of searches, if the address says so.
    """

    def __init__(self, address: "Address", timeout: float) -> None:
        self.address = address
        self._timeout = timeout
        options = address.options
        unknown = options.keys() - set(_OPTIONS)
        if unknown:
            raise UsageError(
                f"{address}: unknown option {min(unknown)!r}",
                hint=f"there are: {', '.join(_OPTIONS)}",
            )
        self.consistency = options.get("consistency", "").capitalize() or None
        if self.consistency not in (None, *_CONSISTENCIES):
            raise UsageError(
                f"{address}: no consistency {options['consistency']!r}",
                hint=f"there are: {', '.join(_CONSISTENCIES)}",
            )
        if not address.host:
            raise UsageError(f"{address} names no host", hint="milvus://localhost:19530/COLLECTION")
        secure = _SECURE.get(options.get("secure", "false").lower())
        if secure is None:
            # Passwords do not go out in plain because of a slip of the pen.
            raise UsageError(f"{address}: secure is true or false, not {options['secure']!r}")
        token, self._secrets = _credentials(address, os.environ)
        host = f"[{address.host}]" if ":" in address.host else address.host
        self._was_answered = False
        self._reach(address.host, address.port or PORT)
        # What they say is said by the errors.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        os.environ.setdefault("GLOG_minloglevel", "3")
        with self.told():
            self._client: Any = self._connect(
                uri=f"{'https' if secure else 'http'}://{host}:{address.port or PORT}",
                token=token,
                db_name=options.get("database", ""),
            )
        self._give_up_soon()
        self.version = str(self("get_server_version")).strip()
        self._was_answered = True
        self.lite = self.version.startswith("milvus_lite")
        number = re.search(r"(\d+)\.(\d+)", self.version)
        self.number = (int(number[1]), int(number[2])) if number else _OLDEST
        if not self.lite and self.number < _OLDEST:
            self.close()
            raise StoreError(f"{address}: Milvus {self.version} is too old: it takes 2.3 or later")

    def __call__(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of `pymilvus.MilvusClient`."""
        timeout = self._timeout
        if self._was_answered:
            # It may be busy with what others asked for, also if they are gone.
            timeout = max(timeout, seconds_to_wait())
        if name in _LONGER:
            timeout = max(timeout, _LONG)
        elif name in _LONGEST_CALLS:
            timeout = max(timeout, _LONGEST)
        with self.told():
            return getattr(self._client, name)(*arguments, timeout=timeout, **options)

    def client(self) -> Any:
        """Give the client, for what does not reach the server."""
        return self._client

    def close(self) -> None:
        """End the connection."""
        with suppress(Exception):
            self._client.close()

    def _connect(self, **options: str) -> Any:
        """Connect; a server that has just been started may need a moment."""
        from pymilvus import MilvusClient

        logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)
        end = time.monotonic() + self._timeout
        while True:
            try:
                return MilvusClient(timeout=self._timeout, dedicated=True, **options)
            except Exception as error:
                starts = "server unavailable" in str(error) and not _is_refused(error)
                if time.monotonic() > end or not starts:
                    raise
            time.sleep(0.2)

    def _give_up_soon(self) -> None:
        """Stop the client from trying again, for as long as a call may take, if the server is gone.

        It asks this after every failure, to repair its connection; if a version of it does not,
        the end comes later.
        """
        handler = getattr(self._client, "_handler", None)
        repair = getattr(handler, "_on_rpc_error", None)
        if handler is None or repair is None:
            return

        def failed(error: Exception) -> Any:
            try:
                self._reach(self.address.host, self.address.port or PORT)
            except StoreError:
                raise error from None
            return repair(error)

        handler._on_rpc_error = failed

    @contextmanager
    def told(self) -> "Iterator[None]":
        """Turn whatever the client raises into a StoreError."""
        try:
            yield
        except EmbcliError:
            raise
        except Exception as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> StoreError:
        message = _said(error)
        for secret in self._secrets:
            message = message.replace(secret, "***")
        message = " ".join(message.split())[:300]
        lowered = message.lower()
        if _is_refused(error):
            return StoreError(
                f"{self.address}: user or password refused",
                hint=f"milvus://USER:PASSWORD@HOST/…, or ${USER_VARIABLE} and ${PASSWORD_VARIABLE}",
            )
        if "permission" in lowered and "den" in lowered:
            return StoreError(
                f"{self.address}: no permission ({message})",
                hint="an administrator grants privileges to a role of this user",
            )
        if "database not found" in lowered or "database not exist" in lowered:
            name = self.address.options.get("database")
            return StoreError(f"{self.address}: there is no database {name!r}")
        if any(word in lowered for word in ("disk", "memory quota", "no space")):
            return StoreError(f"{self.address}: the server has no room left ({message})")
        if re.search("unavailable|connect|deadline|timeout|channel|unimplemented", lowered):
            if not self._was_answered:
                return self._stranger(error)
            hint = "what was written stays; the same command again does the rest"
            if "deadline" in lowered:
                hint += f"; of a server that is busy {TIMEOUT_VARIABLE} waits for more seconds"
            return StoreError(
                f"{self.address}: the server does not answer any more ({message})", hint=hint
            )
        return StoreError(f"{self.address}: {message or type(error).__name__}")

    def _stranger(self, error: Exception) -> StoreError:
        """Tell of what can be reached, but has never answered as Milvus does."""
        # On connecting the client says why in a cause.
        reason = " ".join(_said(error.__cause__ or error).split()).lower()
        if re.search("handshake|certificate|ssl", reason):
            return StoreError(
                f"{self.address}: no TLS there, or no certificate that can be trusted",
                hint="secure=true in the URL is for servers that speak TLS",
            )
        said = "gives no answer" if "deadline" in reason else "does not answer as one does"
        return StoreError(
            f"{self.address}: what listens there {said}: no Milvus server, or not ready yet",
            hint=f"the port is {PORT} unless it was set; a server with TLS takes secure=true",
        )

    def _reach(self, host: str, port: int) -> None:
        """Find out soon, and in plain words, whether anything is there."""
        try:
            socket.create_connection((host, port), self._timeout).close()
        except TimeoutError:
            raise StoreError(f"{self.address}: no answer within {self._timeout:g} s") from None
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise StoreError(
                f"{self.address}: cannot be reached ({reason})", hint="is the server running?"
            ) from None


def _credentials(address: "Address", environ: "Mapping[str, str]") -> tuple[str, list[str]]:
    """Give the token to send, which may be a user with a password, and what is secret of it.

    What is said by the URL goes before what is said by the environment.
    """
    token, user, password = address.options.get("token"), address.user, address.password
    if not token and not user:
        token, user = environ.get(TOKEN_VARIABLE), environ.get(USER_VARIABLE)
    if not token and user and password is None:
        password = environ.get(PASSWORD_VARIABLE)
    secrets = [each for each in (token, password) if each]
    if token and ":" in token:
        secrets.append(token.partition(":")[2])
    return token or (f"{user}:{password or ''}" if user else ""), [s for s in secrets if s]


def _said(error: BaseException) -> str:
    """Give what an exception says, and gRPC in more than one line."""
    details = getattr(error, "details", None)
    return str(getattr(error, "message", "") or (details() if callable(details) else error))


def _is_refused(error: BaseException | None) -> bool:
    """Whether the server does not let anybody in; on connecting the client says why in a cause."""
    refusals = r"auth check failure|missing authorization|unauthenticated|password|invalid token"
    while error is not None:
        if re.search(refusals, _said(error), re.IGNORECASE):
            return True
        error = error.__cause__ if error.__cause__ is not error else None
    return False


def too_large(error: StoreError) -> bool:
    """Whether a call failed because its answer has too many bytes."""
    reasons = r"larger than max|resource_?exhausted|too large|exceeds? (the )?(max|limit)"
    return bool(re.search(reasons, error.message, re.IGNORECASE))


def is_kept_back(error: StoreError) -> bool:
    """Whether a call failed because this user may not see a collection, or it is not there."""
    reasons = r"no permission|can't find collection|collection not found"
    return bool(re.search(reasons, error.message, re.IGNORECASE))
