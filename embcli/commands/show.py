"""`embcli show`."""

from typing import Annotated

import typer

from embcli.options import COLLECTION, DB, CollectionName, Db, Out, OutputFormat, Quiet
from embcli.output import Column, Output, pairs, read_ids, whole

PANEL = "Look"
ORDER = 20
EXAMPLE = "embcli show tambora-1815"
COLUMNS = (
    Column("id", "id", wrap=True),
    Column("text", "text", share=3, wrap=True, show=whole),
    Column("meta", "metadata", share=1, wrap=True, show=pairs),
    Column("source", "source", share=1, wrap=True),
)


def command(
    ids: Annotated[
        list[str],
        typer.Argument(
            metavar="ID...",
            help="Records to show; - reads an id per line from standard input, as -f ids "
            "writes them.",
        ),
    ],
    vectors: Annotated[bool, typer.Option("--vectors", help="Give the vectors too.")] = False,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Show records by id, in the order asked for."""
    from embcli.store import Store

    if ids == ["-"]:
        ids = read_ids()
    output = Output(format, out, quiet)
    with Store(db, readonly=True) as store, store.snapshot():
        source = store.collection(collection)
        rows = [record.row() for record in source.get(ids)]
        if vectors:
            for row, vector in zip(rows, source.vectors(ids).tolist(), strict=True):
                row["vector"] = vector
    output.rows(rows, COLUMNS)
