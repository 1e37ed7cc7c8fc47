"""`embcli info`."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from embcli.commands.collections import COLUMNS as COLLECTIONS
from embcli.commands.collections import described
from embcli.config import DEFAULT_DB, names_server
from embcli.options import DbOrUrl, Out, OutputFormat, Quiet
from embcli.output import Column, Output, Table, ending, moment, pairs, size

PANEL = "Look"
ORDER = 21
EXAMPLE = "embcli info"
STORE = (
    Column("name", "store"),
    Column("bytes", "size", right=True, show=size),
    Column("records", "records", right=True, show="{:,}".format),
    Column("vectors", "vectors", right=True, show="{:,}".format),
    Column("version", "version", right=True),
)
SPACES = (
    Column("space", "space", show=lambda hash: str(hash)[:12]),
    Column("model", "model", wrap=True, show=ending),
    Column("dim", "dim", right=True),
    Column("collections", "collections", right=True),
)
RUNS = (
    Column("started", "run (UTC)", show=moment),
    Column("command", "command"),
    Column("collection", "collection"),
    Column("status", "status"),
    Column("counts", "counts", wrap=True, show=lambda counts: pairs(_told(counts))),
)


def _number(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


SERVER = (
    Column("name", "server", wrap=True),
    Column("product", "what", wrap=True),
)
THERE = (
    Column("name", "collection"),
    Column("state", "state", wrap=True),
    Column("records", "records", right=True, show=_number),
    Column("vectors", "vectors", right=True, show=_number),
    Column("model", "model", wrap=True, show=lambda model: ending(model or "")),
    Column("dim", "dim", right=True),
    Column("dtype", "type"),
)
FACTS = (
    Column("collection", "collection"),
    Column("fact", "fact"),
    Column("value", "value", wrap=True, show=str),
)


def command(
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL",
            help="Of a server instead of a store, see embcli push.",
            show_default=False,
        ),
    ] = None,
    db: DbOrUrl = DEFAULT_DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Show what is in a store: its size, spaces, collections and last runs.

    Of a server, what collections were pushed to it, whether they are complete, and how they are
    indexed.
    """
    output = Output(format, out, quiet)
    if url is not None or names_server(db):
        _show_server(url or db, output)
    else:
        _show_store(db, output)


def _show_server(url: str, output: Output) -> None:
    from embcli.pipelines.server_info import describe

    facts, collections = describe(url)
    if output.format == "table":
        known = [
            {"collection": each["name"], "fact": name.replace("_", " "), "value": value}
            for each in collections
            for name, value in (each["facts"] or {}).items()
            if value not in (None, [], "")
        ]
        tables = [Table([facts], SERVER), Table(collections, THERE), Table(known, FACTS)]
        output.tables(tables)
        return
    output.rows(
        [
            {"what": "server", "name": facts["name"], "facts": facts},
            *({"what": "collection", "name": c["name"], "facts": c} for c in collections),
        ],
        (),
        id="name",
    )


def _show_store(db: str, output: Output) -> None:
    from embcli.store import Store

    with Store(db, readonly=True) as store, store.snapshot():
        facts = {"name": str(db), **store.facts()}
        spaces = [asdict(space) for space in store.spaces()]
        collections = [described(collection) for collection in store.collections()]
        runs = [asdict(run) for run in store.runs()]
    if output.format == "table":
        output.tables(
            [
                Table([facts], STORE),
                Table(spaces, SPACES),
                Table(collections, COLLECTIONS),
                Table(runs, RUNS),
            ]
        )
        return
    everything: list[dict[str, Any]] = [
        {"what": "store", "name": str(db), "facts": facts},
        *({"what": "space", "name": space["space"], "facts": space} for space in spaces),
        *({"what": "collection", "name": c["name"], "facts": c} for c in collections),
        *({"what": "run", "name": str(run["key"]), "facts": run} for run in runs),
    ]
    output.rows(everything, (), id="name")


def _told(counts: dict[str, Any]) -> dict[str, Any]:
    """Leave out what did not happen."""
    return {key: value for key, value in counts.items() if value}
