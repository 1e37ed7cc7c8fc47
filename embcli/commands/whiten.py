"""`embcli whiten`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from embcli.commands._mapping import MEASURED, MapName, NewCollection, Storage
from embcli.commands._mapping import apply as apply_map
from embcli.options import (
    COLLECTION,
    DB,
    CollectionName,
    Db,
    Out,
    OutputFormat,
    Quiet,
    Where,
    example,
)
from embcli.output import Column, Output, SkippedLog

PANEL = "Work"
ORDER = 19
EXAMPLE = "embcli whiten fit --name white --method zca"

app = typer.Typer(
    help="Spread the vectors of a space more evenly, by a map.",
    epilog=example(EXAMPLE),
    no_args_is_help=True,
)


def complete_method() -> list[str]:
    """Offer the methods there are."""
    from embcli.core.whitening import METHODS

    return list(METHODS)


@app.command(epilog=example(EXAMPLE))
def fit(
    name: Annotated[str, typer.Option("--name", "-n", help="What to call the map.")],
    collection: CollectionName = COLLECTION,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-M",
            help="center, abtt, pca or zca: 'embcli whiten methods' says what they do.",
            autocompletion=complete_method,
        ),
    ] = "abtt",
    components: Annotated[
        int | None,
        typer.Option(
            "--components",
            min=1,
            metavar="D",
            help="How many principal components abtt takes away; by default a hundredth of the "
            "dimensions.",
        ),
    ] = None,
    dims: Annotated[
        int | None,
        typer.Option(
            "--dims", min=2, metavar="K", help="How many dimensions pca keeps; by default all."
        ),
    ] = None,
    shrinkage: Annotated[
        float | None,
        typer.Option(
            "--shrinkage",
            min=0,
            max=1,
            help="How far pca and zca draw the variance along each axis towards their mean, so "
            "that small ones are not blown up: none is stretched, against the mean, more than "
            "1/√shrinkage. 0 whitens fully, 1 only centres; by default the estimate of Ledoit & "
            "Wolf (2004).",
        ),
    ] = None,
    sts: Annotated[
        list[Path] | None,
        typer.Option(
            "--sts",
            metavar="FILE",
            help="Measure how cosines agree with these scores: a text, another and a number on "
            "each line, with tabs or commas between; several times for several files.",
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", min=20, help="Measure so many records at most.")
    ] = 10_000,
    force: Annotated[bool, typer.Option("--force", help="Replace a map of that name.")] = False,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", help="Where texts are encoded, as PyTorch names it: cpu, cuda, mps."
        ),
    ] = None,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Fit a map that makes a space more isotropic, and keep it in the store.

    It is fitted to the directions of all vectors of the collection. Nothing changes until 'embcli
    whiten apply' writes a new collection, or 'embcli search --via' takes the map. Shown is what was
    measured before and after: the mean cosine of records, which is high in a narrow cone; IsoScore,
    1 where all directions are used alike; the effective rank (RankMe); how many of the ten nearest
    neighbours stay; and what --sts asks for.

    More isotropic is not better by itself: for models that were trained to tell texts apart by
    cosine, it can be worse. --sts shows it.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from embcli.pipelines.queries import QueryOptions
    from embcli.pipelines.whiten import Plan
    from embcli.pipelines.whiten import fit as fit_map

    output = Output(format, out, quiet)
    skipped = SkippedLog()
    with output.progress("vectors") as advance:
        fitted = fit_map(
            collection,
            name,
            Plan(method, components, dims, shrinkage),
            sts=sts or (),
            sample=sample,
            db=db,
            options=QueryOptions(device=device),
            replace=force,
            note=output.note,
            problem=skipped,
            advance=advance,
        )
    skipped.close()
    if output.format == "ids":
        output.rows([{"name": name}], (), id="name")
    else:
        output.rows(fitted.rows, MEASURED, id="measure")
    output.summary(
        f"map {name!r} by {fitted.map.method}; to use it: embcli whiten apply {name} -c "
        f"{collection} --to NEW"
    )
    raise typer.Exit(skipped.exit_code)


@app.command(epilog=example("embcli whiten apply white --to whitened"))
def apply(
    name: MapName,
    to: NewCollection,
    collection: CollectionName = COLLECTION,
    where: Where = None,
    storage: Storage = None,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Write what a map makes of a collection into a new one; the original stays as it is.

    Texts, metadata, sources and chunks are copied, and vectors have unit length. The same command
    completes a run that was interrupted. Queries of the new collection are encoded, and mapped as
    its records were.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from embcli.pipelines.whiten import check_whitening

    check_whitening(name, db)
    apply_map(
        name,
        collection,
        to,
        db,
        format,
        out,
        quiet,
        where=where,
        storage=storage,
        command="whiten apply",
    )


@app.command(epilog=example("embcli whiten methods"))
def methods(
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """List the ways to make a space isotropic, with what each takes."""
    from embcli.core.whitening import METHODS

    rows = [
        {"name": method.name, "summary": method.summary, "options": list(method.options)}
        for method in METHODS.values()
    ]
    columns = (
        Column("name", "method"),
        Column("options", "options", show=lambda names: ", ".join(f"--{name}" for name in names)),
        Column("summary", "how", wrap=True),
    )
    Output(format, out, quiet).rows(rows, columns, id="name")
