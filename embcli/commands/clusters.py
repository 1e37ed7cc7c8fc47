"""`embcli clusters`."""

import os
import sys
from typing import Annotated

import typer

from embcli.commands._clusters import ODD, RECORDS, cluster_columns, show_measures
from embcli.errors import UsageError, counted
from embcli.options import COLLECTION, DB, CollectionName, Db, Out, OutputFormat, Quiet, example
from embcli.output import Column, Output, moment, plain

PANEL = "Keep"
ORDER = 32
EXAMPLE = "embcli clusters list"
COLUMNS = (
    Column("name", "name"),
    Column("method", "method"),
    Column("clusters", "n", right=True),
    Column("noise", "noise", right=True, show=lambda n: "" if n is None else f"{n:.0%}"),
    Column("silhouette", "silh.", right=True, show=lambda n: "" if n is None else f"{n:.2f}"),
    Column("v_measure", "V", right=True, show=lambda n: "" if n is None else f"{n:.2f}"),
    Column("created", "created (UTC)", show=moment),
)

app = typer.Typer(
    help="List, show, name and delete the clusters that 'embcli cluster' keeps.",
    epilog=example(EXAMPLE),
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="A clustering.")]
NameOrLast = Annotated[
    str | None, typer.Argument(help="A clustering; the last one if none is named.")
]


@app.command("list", epilog=example("embcli clusters list"))
def list_(
    collection: CollectionName = COLLECTION,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """List the clusterings of a collection, the last one at the end."""
    from embcli.pipelines.cluster_report import clustering_rows
    from embcli.store import Store

    output = Output(format, out, quiet)
    with Store(db, readonly=True) as store:
        rows = clustering_rows(store.collection(collection))
    output.rows(rows, COLUMNS, id="name")
    if not rows:
        output.note(f"{collection!r} has none yet; try: embcli cluster -c {collection}")


@app.command(epilog=example("embcli clusters show topics"))
def show(
    name: NameOrLast = None,
    collection: CollectionName = COLLECTION,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Show the clusters of a clustering: names, sizes, cohesion, the text in the middle."""
    from embcli.pipelines.cluster_report import cluster_rows
    from embcli.store import Store

    output = Output(format, out, quiet)
    with Store(db, readonly=True) as store:
        source = store.collection(collection)
        clustering = source.clusterings.get(name)
        rows = cluster_rows(source, source.clusterings.clusters(clustering))
    output.rows(rows, cluster_columns(rows), id="cluster")
    show_measures(output, clustering.measures)


@app.command(epilog=example("embcli clusters members topics --cluster 0 -f csv"))
def members(
    name: NameOrLast = None,
    cluster: Annotated[
        int | None,
        typer.Option("--cluster", help="Only this one, its firmest members first; -1 is noise."),
    ] = None,
    collection: CollectionName = COLLECTION,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """List records with their clusters and how firmly they belong there."""
    from embcli.pipelines.cluster_report import record_rows
    from embcli.store import Store

    output = Output(format, out, quiet)
    with Store(db, readonly=True) as store, store.snapshot():
        source = store.collection(collection)
        output.rows(record_rows(source, source.clusterings.get(name), cluster), RECORDS)


@app.command(epilog=example("embcli clusters outliers topics --top 5"))
def outliers(
    name: NameOrLast = None,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="How many of either.")] = 20,
    collection: CollectionName = COLLECTION,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """List the records that are farthest from their cluster, and those that are there twice."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from embcli.pipelines.cluster_report import odd_rows
    from embcli.store import Store

    output = Output(format, out, quiet)
    with (
        output.progress("records") as advance,
        Store(db, readonly=True) as store,
        store.snapshot(),
    ):
        source = store.collection(collection)
        rows = odd_rows(
            source, source.clusterings.get(name), top, note=output.note, advance=advance
        )
    output.rows(rows, ODD)
    if not rows:
        output.note("there are none")


@app.command(epilog=example("embcli clusters assign topics"))
def assign(
    name: NameOrLast = None,
    collection: CollectionName = COLLECTION,
    db: Db = DB,
    quiet: Quiet = False,
) -> None:
    """Put records that came later into the clusters whose means are nearest."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from embcli.pipelines.cluster_report import assign_new

    output = Output(quiet=quiet)
    clustering, assigned = assign_new(name, collection, db=db, note=output.note)
    output.summary(f"{clustering.name!r}: {counted(assigned, 'record')} assigned")


@app.command(epilog=example("embcli clusters label 0 'things of the sea'"))
def label(
    cluster: Annotated[int, typer.Argument(help="Number of the cluster.")],
    text: Annotated[str, typer.Argument(help="Its new name.")],
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="The clustering; the last one by default.")
    ] = None,
    collection: CollectionName = COLLECTION,
    db: Db = DB,
    quiet: Quiet = False,
) -> None:
    """Name a cluster."""
    from embcli.store import Store

    text = plain(text).strip()
    if not text:
        raise UsageError("a name is needed")
    with Store.existing(db) as store:
        source = store.collection(collection)
        clustering = source.clusterings.get(name)
        source.clusterings.name_clusters(clustering, {cluster: text})
    Output(quiet=quiet).summary(f"cluster {cluster} of {clustering.name!r} is now {text!r}")


@app.command(epilog=example("embcli clusters rename topics subjects"))
def rename(
    name: Name,
    new: Annotated[str, typer.Argument(help="Its new name.")],
    collection: CollectionName = COLLECTION,
    db: Db = DB,
    quiet: Quiet = False,
) -> None:
    """Rename a clustering, and its coarser levels with it."""
    from embcli.store import Store

    with Store.existing(db) as store:
        store.collection(collection).clusterings.rename(name, new)
    Output(quiet=quiet).summary(f"{name!r} is now {new!r}")


@app.command(epilog=example("embcli clusters rm topics --yes"))
def rm(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    collection: CollectionName = COLLECTION,
    db: Db = DB,
    quiet: Quiet = False,
) -> None:
    """Delete a clustering and its coarser levels. Records stay."""
    from embcli.store import Store

    with Store.existing(db) as store:
        source = store.collection(collection)
        source.clusterings.get(name)
        if not yes:
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise UsageError(
                    f"not deleting clusters {name!r} without being asked to",
                    hint=f"embcli clusters rm {name} -c {collection} -d {db} --yes",
                )
            if not typer.confirm(f"Delete clusters {name!r}?", err=True):
                raise UsageError("nothing deleted")
        source.clusterings.remove(name)
    Output(quiet=quiet).summary(f"deleted clusters {name!r}")


@app.command(epilog=example("embcli clusters methods"))
def methods(format: OutputFormat = None, out: Out = None, quiet: Quiet = False) -> None:
    """List the ways of clustering, with what each takes."""
    from embcli.pipelines.cluster_plan import METHODS, flag

    rows = [
        {"name": name, "summary": method.summary, "options": [flag(o) for o in method.options]}
        for name, method in METHODS.items()
    ]
    columns = (
        Column("name", "method"),
        Column("summary", "how", wrap=True, share=3),
        Column("options", "options", wrap=True, share=2, show=", ".join),
    )
    Output(format, out, quiet).rows(rows, columns, id="name")
