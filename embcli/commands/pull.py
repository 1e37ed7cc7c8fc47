"""`embcli pull`."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from embcli.errors import counted
from embcli.options import (
    COLLECTION,
    DB,
    CollectionName,
    Db,
    Out,
    OutputFormat,
    Quiet,
    Url,
    Where,
)
from embcli.output import Column, Output

PANEL = "Servers"
ORDER = 41
EXAMPLE = "embcli pull 'postgresql://me@localhost/research?table=papers'"
REPORT = tuple(
    Column(name, name)
    for name in ("collection", "records", "added", "replaced", "unchanged", "total", "seconds")
)


def command(
    url: Url,
    where: Where = None,
    storage: Annotated[
        Literal["float32", "float16"] | None,
        typer.Option(help="How a new collection here stores vectors; by default as it is there."),
    ] = None,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Put what was pushed to a server into a store.

    Records come with their vectors, chunks and metadata as they were pushed. Running it again
    brings what has changed; an interrupted pull is resumed by the same command.
    """
    from embcli.pipelines.encode import Listeners
    from embcli.pipelines.pull import pull
    from embcli.servers import Address

    output = Output(format, out, quiet)
    try:
        with output.progress("records") as advance:
            report = pull(
                url,
                db=db,
                collection=collection,
                where=where,
                storage=storage,
                listeners=Listeners(output.note, progress=advance),
            )
    except (KeyboardInterrupt, SystemExit):
        output.note("what was committed stays; the same command again does the rest")
        raise
    output.summary(
        f"{report}: {Address.parse(url)} → {collection!r} in {db} "
        f"({counted(report.total, 'record')})"
    )
    if format or out:
        row: dict[str, Any] = {"collection": collection, "url": str(Address.parse(url))}
        output.rows([row | asdict(report)], REPORT, "collection")
