"""``python -m embcli``."""

from embcli.cli import entry_point

entry_point()
