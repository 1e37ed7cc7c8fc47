"""`embcli maps`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from embcli.errors import UsageError
from embcli.options import DB, Db, Out, OutputFormat, Quiet, complete_map, example
from embcli.output import Column, Output, ending, moment, plain

PANEL = "Keep"
ORDER = 31
EXAMPLE = "embcli maps list"
COLUMNS = (
    Column("name", "map"),
    Column("method", "method"),
    Column("source", "from", wrap=True),
    Column("target", "to", wrap=True),
    Column("dim", "dim", right=True),
    Column("pairs", "pairs", right=True, show=plain),
    Column("p_at_1", "P@1", right=True, show=plain),
    Column("created", "created (UTC)", show=moment),
)

app = typer.Typer(
    help="List, describe, keep and combine maps between spaces.",
    epilog=example(EXAMPLE),
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="A map.", autocompletion=complete_map)]
To = Annotated[str, typer.Option("--to", help="Name of the new map.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a map of that name.")]


@app.command("list", epilog=example("embcli maps list"))
def list_(db: Db = DB, format: OutputFormat = None, out: Out = None, quiet: Quiet = False) -> None:
    """List the maps of a store, with the P@1 of pairs that were held out."""
    from embcli.pipelines.maps import row_of
    from embcli.store import Store

    output = Output(format, out, quiet)
    with Store(db, readonly=True) as store:
        rows = [row_of(map) for map in store.maps.all()]
    if output.format == "table":
        for row in rows:  # what models are called need not tell them apart
            for side, collection in (row["collections"] or {}).items():
                row[side] = f"{collection} ({ending(row[side])})"
    output.rows(rows, COLUMNS, id="name")
    if not rows:
        output.note(f"{db} has no maps yet")


@app.command(epilog=example("embcli maps info upgrade"))
def info(
    name: Name,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Describe a map: both spaces, what it does, how it was fitted and how well."""
    from embcli.pipelines.maps import details_of
    from embcli.store import Store

    output = Output(format, out, quiet)
    with Store(db, readonly=True) as store:
        row = details_of(store.maps.get(name))
    output.facts(row)


@app.command(epilog=example("embcli maps rename upgrade hash-static"))
def rename(
    name: Name,
    new: Annotated[str, typer.Argument(help="Its new name.")],
    db: Db = DB,
    quiet: Quiet = False,
) -> None:
    """Rename a map."""
    from embcli.store import Store

    with Store.existing(db) as store:
        store.maps.rename(name, new)
    Output(quiet=quiet).summary(f"{name!r} is now {new!r}")


@app.command(epilog=example("embcli maps rm upgrade --yes"))
def rm(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    db: Db = DB,
    quiet: Quiet = False,
) -> None:
    """Delete a map. Collections that were mapped by it stay."""
    from embcli.store import Store

    output = Output(quiet=quiet)
    with Store.existing(db) as store:
        store.maps.get(name)
        if lost := store.maps.needing(name):
            output.note(
                f"{', '.join(lost)}: without map {name!r}, no query can be encoded for what it made"
            )
        if not yes:
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise UsageError(
                    f"not deleting map {name!r} without being asked to",
                    hint=f"embcli maps rm {name} --yes",
                )
            if not typer.confirm(f"Delete map {name!r}?", err=True):
                raise UsageError("nothing deleted")
        store.maps.remove(name)
    output.summary(f"deleted map {name!r}")


@app.command(epilog=example("embcli maps export upgrade -o new.safetensors"))
def export(
    name: Name,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The safetensors file; a JSON file goes beside it.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    db: Db = DB,
    quiet: Quiet = False,
) -> None:
    """Write a map to a safetensors file, and what is known of it to a JSON file beside it."""
    from embcli.pipelines.maps import export_map

    files = export_map(name, out, db=db, force=force)
    Output(quiet=quiet).summary(f"map {name!r} → {files[0]}, {files[1].name}")


@app.command("import", epilog=example("embcli maps import upgrade.safetensors --name again"))
def import_(
    file: Annotated[Path, typer.Argument(help="What 'embcli maps export' wrote.")],
    name: Annotated[
        str | None, typer.Option("--name", help="What to call it, if not what it was called.")
    ] = None,
    force: Force = False,
    db: Db = DB,
    quiet: Quiet = False,
) -> None:
    """Read a map that was exported, from this store or another."""
    from embcli.pipelines.maps import import_map

    map = import_map(file, name, db=db, replace=force)
    Output(quiet=quiet).summary(f"map {map.name!r}: {map.source.model} → {map.target.model}")


@app.command(epilog=example("embcli maps compose upgrade onward --to both"))
def compose(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MAP...",
            help="Maps, each beginning where the one before ends.",
            autocompletion=complete_map,
        ),
    ],
    to: To,
    force: Force = False,
    db: Db = DB,
    quiet: Quiet = False,
) -> None:
    """Make one map of several."""
    from embcli.pipelines.maps import compose_maps

    map = compose_maps(names, to, db=db, replace=force)
    Output(quiet=quiet).summary(f"map {map.name!r}: {map.source.model} → {map.target.model}")


@app.command(epilog=example("embcli maps invert onward --to back"))
def invert(name: Name, to: To, force: Force = False, db: Db = DB, quiet: Quiet = False) -> None:
    """Make the way back: a map from the target into the source's own space, if there is one."""
    from embcli.pipelines.maps import invert_map

    map = invert_map(name, to, db=db, replace=force)
    Output(quiet=quiet).summary(f"map {map.name!r}: {map.source.model} → {map.target.model}")
