"""Environment variables, defaults and paths."""

import os
from collections.abc import Mapping

DB_VARIABLE = "EMBCLI_DB"
DEBUG_VARIABLE = "EMBCLI_DEBUG"
# How much memory there is, where what the system says is not what is wanted: 8G.
MEMORY_VARIABLE = "EMBCLI_MEMORY"

DEFAULT_DB = "embcli.db"
DEFAULT_COLLECTION = "default"
DEFAULT_MODEL = "static"


def debug(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether tracebacks are wanted."""
    return environ.get(DEBUG_VARIABLE, "") not in ("", "0")
