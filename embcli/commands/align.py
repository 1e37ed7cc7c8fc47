"""`embcli align`."""

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from embcli.errors import counted
from embcli.options import (
    COLLECTION,
    COMMON,
    DB,
    CollectionName,
    Db,
    Out,
    OutputFormat,
    Quiet,
    Where,
    complete_collection,
    complete_map,
    example,
)
from embcli.output import Column, Output, SkippedLog

PANEL = "Work"
ORDER = 17
EXAMPLE = "embcli align apply MAP --to mapped"
APPLIED = tuple(
    Column(name, name)
    for name in (
        "collection", "map", "records", "mapped", "unchanged", "updated", "skipped", "seconds",
    )
)  # fmt: skip

app = typer.Typer(
    help="Fit maps between spaces, and apply them.", epilog=example(EXAMPLE), no_args_is_help=True
)


@app.command(epilog=example(EXAMPLE))
def apply(
    name: Annotated[
        str,
        typer.Argument(
            metavar="MAP", help="The map; embcli maps list names them.", autocompletion=complete_map
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="NEW",
            help="The collection to write; it is created if it does not exist.",
            autocompletion=complete_collection,
            rich_help_panel=COMMON,
        ),
    ],
    where: Where = None,
    storage: Annotated[
        Literal["float32", "float16"] | None,
        typer.Option(
            help="How a new collection stores vectors; by default as the one that is mapped. "
            "float16 takes half the room."
        ),
    ] = None,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Write what a map makes of a collection into a new one.

    Texts, metadata and chunks are copied. An application that was interrupted is completed by the
    same command, which also brings in what has changed since; what is there is passed over.
    """
    from embcli.pipelines.align_apply import apply_map
    from embcli.pipelines.encode import Listeners

    output = Output(format, out, quiet)
    skipped = SkippedLog()
    try:
        with output.progress("records") as advance:
            report = apply_map(
                name,
                collection,
                to,
                db=db,
                where=where,
                storage=storage,
                listeners=Listeners(output.note, skipped, advance),
            )
    except (KeyboardInterrupt, SystemExit):
        output.note("what was committed stays; the same command again does the rest")
        raise
    skipped.close()
    output.summary(f"{report} → {to!r} in {db} ({counted(report.total, 'record')})")
    if format or out:
        row = {"collection": to, "map": name, "db": str(db), **asdict(report)}
        output.rows([row], APPLIED, "collection")
    raise typer.Exit(skipped.exit_code)
