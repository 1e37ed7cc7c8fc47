"""`embcli layouts`."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from embcli.options import COLLECTION, DB, CollectionName, Db, Out, OutputFormat, Quiet, example
from embcli.output import Column, Output, moment, short

PANEL = "Keep"
ORDER = 33
EXAMPLE = "embcli layouts list"
COLUMNS = (
    Column("name", "layout"),
    Column("method", "method"),
    Column("dims", "dims", right=True),
    Column("chosen", "of", wrap=True),
    Column("records", "records", right=True, show="{:,}".format),
    Column("placed", "placed later", right=True, show="{:,}".format),
    Column("created", "created (UTC)", show=moment),
)
PLACES = (
    Column("id", "id"),
    Column("x", "x", right=True, show=short),
    Column("y", "y", right=True, show=short),
    Column("z", "z", right=True, show=short),
    Column("placed", "placed later"),
)

app = typer.Typer(
    help="List, write out and delete the layouts that 'embcli plot' keeps.",
    epilog=example(EXAMPLE),
    no_args_is_help=True,
)


@app.command("list", epilog=example("embcli layouts list"))
def list_(
    collection: CollectionName = COLLECTION,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """List the layouts of a collection, the last one at the end."""
    from embcli.store import Store

    output = Output(format, out, quiet)
    with Store(db, readonly=True) as store:
        layouts = store.collection(collection).layouts
        rows = []
        for layout in layouts.all():
            points = layouts.points(layout)
            rows.append(
                {
                    "name": layout.name,
                    "method": layout.method,
                    "dims": layout.dims,
                    "chosen": _chosen(layout.arguments),
                    "records": len(points.keys),
                    "placed": int(points.placed.sum()),
                    "created": layout.created,
                    "arguments": layout.arguments,
                }
            )
    output.rows(rows, COLUMNS, id="name")
    if not rows:
        output.note(f"{collection!r} has none yet; try: embcli plot -c {collection}")


def _chosen(arguments: Mapping[str, Any]) -> str:
    sample, where = arguments.get("sample"), arguments.get("where")
    parts = [f"a sample of {sample:,}"] if sample is not None else []
    return ", ".join([*parts, *([where] if where is not None else [])])


@app.command(epilog=example("embcli layouts show umap -f csv"))
def show(
    name: Annotated[
        str | None, typer.Argument(help="A layout; the last one if none is named.")
    ] = None,
    collection: CollectionName = COLLECTION,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Write ids and coordinates of a layout."""
    from embcli.store import Store

    output = Output(format, out, quiet)
    with Store(db, readonly=True) as store, store.snapshot():
        source = store.collection(collection)
        layout = source.layouts.get(name)
        points = source.layouts.points(layout)
        ids = source.ids_by_key(points.keys.tolist())
    axes = ("x", "y", "z")[: layout.dims]
    rows = (
        {"id": ids[key], **dict(zip(axes, place, strict=True)), "placed": placed}
        for key, place, placed in zip(*(column.tolist() for column in points), strict=True)
    )
    columns = [column for column in PLACES if column.key != "z" or layout.dims == 3]
    output.rows(rows, columns)


@app.command(epilog=example("embcli layouts rm umap"))
def rm(
    name: Annotated[str, typer.Argument(help="A layout.")],
    collection: CollectionName = COLLECTION,
    db: Db = DB,
    quiet: Quiet = False,
) -> None:
    """Delete a layout; 'embcli plot' makes it again."""
    from embcli.store import Store

    with Store.existing(db) as store:
        store.collection(collection).layouts.remove(name)
    Output(quiet=quiet).summary(f"deleted layout {name!r}")
