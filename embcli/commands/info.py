"""`embcli info`."""

from dataclasses import asdict
from typing import Any

from embcli.options import DB, Db, Out, OutputFormat, Quiet
from embcli.output import Column, Output, facts

PANEL = "Look"
ORDER = 21
EXAMPLE = "embcli info"
COLUMNS = (
    Column("what", "what"),
    Column("name", "name"),
    Column("fact", "fact"),
    Column("value", "value", wrap=True),
)


def command(
    db: Db = DB, format: OutputFormat = None, out: Out = None, quiet: Quiet = False
) -> None:
    """Show what is in a store: its size, spaces, collections and last runs."""
    from embcli.store import Store

    output = Output(format, out, quiet)
    with Store(db, readonly=True) as store, store.snapshot():
        rows: list[dict[str, Any]] = [
            {"what": "store", "name": str(db), "facts": store.facts()},
            *({"what": "space", "name": space.space, "facts": space.recipe}
              for space in store.spaces()),
            *({"what": "collection", "name": collection.name, "facts": asdict(collection)}
              for collection in store.collections()),
            *({"what": "run", "name": str(run.key), "facts": asdict(run)} for run in store.runs()),
        ]  # fmt: skip
    if output.format == "table":
        rows = [
            {"what": "", "name": "", **fact} if number else {**row, **fact}
            for row in rows
            for number, fact in enumerate(facts(row["facts"]))
        ]
    output.rows(rows, COLUMNS, id="name")
