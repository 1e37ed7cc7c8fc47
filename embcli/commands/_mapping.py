"""What commands that fit and apply maps have in common."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from embcli.errors import counted
from embcli.options import Format, complete_collection, complete_map
from embcli.output import Column, Output, SkippedLog, plain


def short(value: Any) -> str:
    """Show a figure with four digits behind the point; the rest is as it is."""
    if not isinstance(value, float):
        return plain(value)
    return "0" if value == 0 else f"{value:.4f}" if abs(value) >= 5e-5 else f"{value:.1e}"


MEASURED = (
    Column("measure", "measure"),
    Column("set", "of", wrap=True),
    Column("before", "before", right=True, show=short),
    Column("after", "after", right=True, show=short),
    Column("n", "n", right=True, show="{:,}".format),
)
APPLIED = tuple(
    Column(name, name)
    for name in (
        "collection", "map", "records", "mapped", "unchanged", "updated", "skipped", "seconds",
    )
)  # fmt: skip

MapName = Annotated[
    str,
    typer.Argument(
        metavar="MAP", help="The map; embcli maps list names them.", autocompletion=complete_map
    ),
]
NewCollection = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="NEW",
        help="The collection to write; it is created if it does not exist.",
        autocompletion=complete_collection,
    ),
]
Storage = Annotated[
    Literal["float32", "float16"] | None,
    typer.Option(
        "--storage",
        help="How a new collection stores vectors; by default as the one that is mapped. float16 "
        "takes half the room.",
    ),
]


def apply(
    name: str,
    collection: str,
    to: str,
    db: Path,
    format: Format | None,
    out: Path | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Apply a map, say what was done, and end the command.

    Parameters
    ----------
    name, collection, to, db, **options
        As of `embcli.pipelines.align_apply.apply_map`.
    format, out, quiet
        Of the output: a row only where one of the first two asks for it.
    """
    from embcli.pipelines.align_apply import apply_map
    from embcli.pipelines.encode import Listeners

    output = Output(format, out, quiet)
    skipped = SkippedLog()
    try:
        with output.progress("records") as advance:
            report = apply_map(
                name, collection, to, db=db,
                listeners=Listeners(output.note, skipped, advance), **options,
            )  # fmt: skip
    except (KeyboardInterrupt, SystemExit):
        output.note("what was committed stays; the same command again does the rest")
        raise
    skipped.close()
    output.summary(f"{report} → {to!r} in {db} ({counted(report.total, 'record')})")
    if format or out:
        row = {"collection": to, "map": name, "db": str(db), **asdict(report)}
        output.rows([row], APPLIED, "collection")
    raise typer.Exit(skipped.exit_code)
