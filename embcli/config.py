"""Environment variables, defaults and paths."""

import os
from collections.abc import Mapping

from embcli.errors import UsageError

DB_VARIABLE = "EMBCLI_DB"
DEBUG_VARIABLE = "EMBCLI_DEBUG"
TIMEOUT_VARIABLE = "EMBCLI_TIMEOUT"
# How much memory there is, where what the system says is not what is wanted: 8G.
MEMORY_VARIABLE = "EMBCLI_MEMORY"

DEFAULT_DB = "embcli.db"
DEFAULT_COLLECTION = "default"
DEFAULT_MODEL = "static"
DEFAULT_TIMEOUT = 30.0

# What URLs of servers begin with.
SERVERS = ("postgresql", "postgres", "milvus")


def names_server(text: object) -> bool:
    """Whether this is the URL of a server, rather than the path of a file.

    One slash is enough: paths lose the other.
    """
    scheme, slash, _ = str(text).partition(":/")
    return bool(slash) and scheme.lower() in SERVERS


def debug(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether tracebacks are wanted."""
    return environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def seconds_to_wait(environ: Mapping[str, str] = os.environ) -> float:
    """How long to wait for another process that writes to the store.

    Raises
    ------
    UsageError
        The environment says something else than a number of seconds.
    """
    text = environ.get(TIMEOUT_VARIABLE, "")
    if not text:
        return DEFAULT_TIMEOUT
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise UsageError(f"{TIMEOUT_VARIABLE} is {text!r}: expected a number of seconds")
    return seconds
