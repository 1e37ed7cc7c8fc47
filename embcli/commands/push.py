"""`embcli push`."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

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
from embcli.output import Column, Output, SkippedLog

PANEL = "Servers"
ORDER = 40
EXAMPLE = "embcli push 'postgresql://me@localhost/research?table=papers'"
REPORT = tuple(
    Column(name, name)
    for name in (
        "collection", "records", "vectors", "written", "unchanged", "skipped", "deleted", "others",
        "recall", "filtered_recall", "seconds",
    )
)  # fmt: skip


def command(
    url: Url,
    where: Where = None,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Delete records there that are not in the collection here."),
    ] = False,
    storage: Annotated[
        Literal["float32", "float16"] | None,
        typer.Option(help="How a new collection there keeps vectors; float16 takes half the room."),
    ] = None,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Put a collection on a server: PostgreSQL with pgvector, or Milvus.

    What it means goes along, so that embcli search --db URL knows the model. Running it again
    writes only what has changed; so an interrupted push is resumed by the same command, and until
    then the collection is marked as loading. When all is there it is indexed, counted, compared on
    a sample, and the index is searched as far as a recall@10 of .95 takes, with filters too.
    """
    from embcli.pipelines.encode import Listeners
    from embcli.pipelines.push import push
    from embcli.servers import Address

    output = Output(format, out, quiet)
    skipped = SkippedLog()
    try:
        with output.progress("records") as advance:
            report = push(
                url,
                db=db,
                collection=collection,
                where=where,
                storage=storage,
                prune=prune,
                listeners=Listeners(output.note, skipped, advance),
            )
    except (KeyboardInterrupt, SystemExit):
        output.note("what was written stays; the same command again does the rest")
        raise
    skipped.close()
    output.summary(f"{report}: {collection!r} → {Address.parse(url)}")
    if format or out:
        row: dict[str, Any] = {"collection": collection, "url": str(Address.parse(url))}
        output.rows([row | asdict(report)], REPORT, "collection")
    raise typer.Exit(skipped.exit_code)
