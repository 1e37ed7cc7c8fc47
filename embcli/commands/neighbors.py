"""`embcli neighbors`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from embcli.errors import UsageError, counted
from embcli.options import COLLECTION, DB, CollectionName, Db, OutputFormat, Quiet, Seed, Where
from embcli.output import Column, Output, short

PANEL = "Work"
ORDER = 23
EXAMPLE = "embcli neighbors -k 5 -o knn.npz"
COLUMNS = (
    Column("id", "id", share=1),
    Column("rank", "rank", right=True),
    Column("neighbour", "neighbour", share=1),
    Column("score", "cosine", right=True, show=short),
)


def command(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE.npz",
            help="NumPy arrays: ids, neighbours (rows of ids, shape (n, k)), cosines, and recall, "
            "NaN where neighbours are exact. Without, a row for every record and neighbour is "
            "written to standard output.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("--top", "-k", min=1, help="Neighbours of a record.")] = 15,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--approximate",
            help="Compare every record with every other, or with those of near cells, which finds "
            "most neighbours; by default exact where that takes about a minute.",
            show_default=False,
        ),
    ] = None,
    where: Where = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    seed: Seed = 0,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    format: OutputFormat = None,
    quiet: Quiet = False,
) -> None:
    """Find the nearest neighbours of every record, by cosine.

    The graph is kept in the store until vectors change; 'embcli plot' and 'embcli cluster' take it
    from there. A record is not among its own neighbours.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from embcli.pipelines.memory import NEEDS
    from embcli.pipelines.neighbours import rows_of, write_arrays
    from embcli.pipelines.subject import neighbours_of, open_subject

    output = Output(format, None, quiet)
    if out is not None:
        if out.suffix.lower() != ".npz":
            raise UsageError(f"neighbours are written into an .npz file, not {os.fspath(out)!r}")
        if out.exists() and not force:
            raise UsageError(f"{out} is there already", hint="--force")
    need = NEEDS["neighbours"]
    with open_subject(
        db, collection, where=where, seed=seed, need=need, note=output.note
    ) as subject:
        with output.progress("records") as advance:
            graph = neighbours_of(
                subject,
                k,
                approximate=None if exact is None else not exact,
                seed=seed,
                note=output.note,
                advance=advance,
            )
        if out is None:
            output.rows(rows_of(subject, graph), COLUMNS)
            return
        write_arrays(out, subject, graph, force=force)
        found = counted(len(subject), "record")
        output.summary(f"{graph.near.others.shape[1]} neighbours of {found} → {out}")
