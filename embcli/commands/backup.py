"""`embcli backup`."""

from pathlib import Path
from typing import Annotated

import typer

from embcli.options import DB, Db, Quiet
from embcli.output import Output, size

PANEL = "Keep"
ORDER = 32
EXAMPLE = "embcli backup copy.db"


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    db: Db = DB,
    quiet: Quiet = False,
) -> None:
    """Copy the store, even while others write to it.

    The copy is the store as it was at one moment. It is checked, and appears when it is complete.
    """
    from embcli.pipelines.export import backup

    output = Output(quiet=quiet)
    with output.progress("MiB") as advance:
        backup(file, db=db, force=force, advance=advance)
    length = f" ({size(file.stat().st_size)})" if file.is_file() else ""
    output.summary(f"{db} → {file}{length}")
