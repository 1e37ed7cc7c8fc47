"""The program: ``embcli`` and ``python -m embcli``."""

import signal
from typing import NoReturn


def entry_point() -> NoReturn:
    """Run as a program; Ctrl-C while it is still being imported ends it without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from embcli.cli import run_program

    run_program()


if __name__ == "__main__":
    entry_point()
