"""`embcli info`."""

from dataclasses import asdict
from typing import Any

from embcli.commands.collections import COLUMNS as COLLECTIONS
from embcli.commands.collections import described
from embcli.options import DB, Db, Out, OutputFormat, Quiet
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


def command(
    db: Db = DB, format: OutputFormat = None, out: Out = None, quiet: Quiet = False
) -> None:
    """Show what is in a store: its size, spaces, collections and last runs."""
    from embcli.store import Store

    output = Output(format, out, quiet)
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
