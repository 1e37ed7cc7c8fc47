"""`embcli repair`."""

from pathlib import Path
from typing import Annotated

import typer

from embcli.options import DB, Db, Quiet
from embcli.output import Output

PANEL = "Keep"
ORDER = 34
EXAMPLE = "embcli repair"


def command(
    new: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Leave the store as it is, and repair a copy."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    seal: Annotated[
        bool,
        typer.Option(
            "--seal",
            help="Take what the store says of its collections and models as right where it is "
            "damaged and nothing else tells.",
        ),
    ] = False,
    db: Db = DB,
    quiet: Quiet = False,
) -> None:
    """Put a damaged store in order: encode again what is lost.

    Where a single bit was turned over, its checksum tells which, and it is turned back. Vectors
    that are lost are made again from the texts in the store, codes and indexes from what they
    follow from. Records that are damaged themselves, or whose vectors no model here makes,
    go to a file beside the store, which `encode` or `import` reads; maps that are damaged, too;
    clusters and layouts that are damaged are dropped. If the file's structure is damaged, so that
    not all of it can be read, `--out` copies what can be.
    """
    from embcli.pipelines.encode import Listeners
    from embcli.pipelines.repair import repair

    output = Output(quiet=quiet)
    with output.progress("records") as advance:
        listeners = Listeners(output.note, progress=advance)
        report = repair(db, new, force=force, seal=seal, listeners=listeners)
    for collection, file in report.files.items():
        output.note(
            f"taken out of {collection!r}: {file}; when looked at: embcli encode {file} "
            f"-c {collection}, or embcli import, if there are vectors in it"
        )
    output.summary(
        f"{new or db}: bits turned back {report.bits:,}, encoded again {report.encoded:,}, "
        f"set aside {report.set_aside:,}; it is sound now"
    )
