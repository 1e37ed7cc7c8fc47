"""`embcli collections`."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embcli.errors import UsageError
from embcli.options import (
    DB,
    Db,
    Out,
    OutputFormat,
    Quiet,
    complete_collection,
    example,
)
from embcli.output import Column, Output, ending, moment, size

if TYPE_CHECKING:
    from embcli.store import CollectionInfo

PANEL = "Keep"
ORDER = 30
EXAMPLE = "embcli collections list"
COLUMNS = (
    Column("name", "collection"),
    Column("records", "records", right=True, show="{:,}".format),
    Column("model", "model", wrap=True, show=ending),
    Column("dim", "dim", right=True),
    Column("bytes", "vectors", right=True, show=size),
    Column("search", "search", wrap=True),
    Column("created", "created (UTC)", show=moment),
)

app = typer.Typer(
    help="List, describe, rename and delete collections.",
    epilog=example(EXAMPLE),
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="A collection.", autocompletion=complete_collection)]


def described(info: "CollectionInfo") -> dict[str, Any]:
    """Give a collection as commands show it: with how it is searched, and why."""
    from embcli.pipelines.compress import explain

    return {**asdict(info), "search": explain(info)}


@app.command("list", epilog=example("embcli collections list"))
def list_(db: Db = DB, format: OutputFormat = None, out: Out = None, quiet: Quiet = False) -> None:
    """List the collections of a store."""
    from embcli.store import Store

    output = Output(format, out, quiet)
    with Store(db, readonly=True) as store, store.snapshot():
        rows = [described(info) for info in store.collections()]
    output.rows(rows, COLUMNS, id="name")
    if not rows:
        output.note(f"{db} has no collections yet")


@app.command(epilog=example("embcli collections info default"))
def info(
    name: Name = "default",
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Describe a collection: its size, its files, its fields, and the recipe of its space."""
    from embcli.store import Store

    output = Output(format, out, quiet)
    with Store(db, readonly=True) as store, store.snapshot():
        collection = store.collection(name)
        summary = next(info for info in store.collections() if info.name == name)
        row = {
            **described(summary),
            "recipe": dict(collection.recipe.settings),
            "sources": collection.source_counts(),
            "fields": collection.field_counts(),
        }
    output.facts(row)


@app.command(epilog=example("embcli collections rename default history"))
def rename(
    name: Name,
    new: Annotated[str, typer.Argument(help="Its new name.")],
    db: Db = DB,
    quiet: Quiet = False,
) -> None:
    """Rename a collection."""
    from embcli.store import Store

    with Store.existing(db) as store:
        store.rename_collection(name, new)
    Output(quiet=quiet).summary(f"{name!r} is now {new!r}")


@app.command(epilog=example("embcli collections rm default --yes"))
def rm(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    db: Db = DB,
    quiet: Quiet = False,
) -> None:
    """Delete a collection with its records and vectors."""
    from embcli.store import Store

    with Store.existing(db) as store:
        count = len(store.collection(name))
        if not yes:
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise UsageError(
                    f"not deleting {name!r} ({count:,} records) without being asked to",
                    hint=f"embcli collections rm {name} --yes",
                )
            if not typer.confirm(f"Delete {name!r} with {count:,} records?", err=True):
                raise UsageError("nothing deleted")
        store.remove_collection(name)
    Output(quiet=quiet).summary(f"deleted {name!r} ({count:,} records)")
