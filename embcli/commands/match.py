"""`embcli match`."""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from embcli.errors import NothingFoundError, counted
from embcli.options import DB, Db, Out, OutputFormat, Quiet, Top, complete_collection
from embcli.output import Column, Output

PANEL = "Work"
ORDER = 16
EXAMPLE = "embcli match default default --where-a 'language = \"fr\"' --csls 10"
COLUMNS = (
    Column("a_id", "A", share=2),
    Column("b_id", "B", share=2),
    Column("score", "score", right=True),
    Column("rank", "#", right=True),
    Column("a_text", "text of A", share=3),
    Column("b_text", "text of B", share=3),
)
CSLS = Column("csls", "CSLS", right=True)
EDIT = (
    Column("edit", "edit", right=True),
    Column("edit_rank", "# by edit", right=True),
    Column("edit_best", "best by edit", share=2),
)


def command(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="The collection to find matches for.",
            autocompletion=complete_collection,
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B",
            help="The collection to find them in; may be the same.",
            autocompletion=complete_collection,
        ),
    ],
    method: Annotated[
        Literal["nearest", "mutual", "assignment"],
        typer.Option(
            "--method",
            help="The K nearest of every record of A; those that are among each other's K "
            "nearest; or one to one, with the greatest sum of cosines.",
        ),
    ] = "nearest",
    top: Top = 1,
    threshold: Annotated[
        float | None, typer.Option("--threshold", "-t", help="Least cosine.")
    ] = None,
    csls: Annotated[
        int | None,
        typer.Option(
            "--csls",
            metavar="K",
            min=1,
            help="Rank by CSLS with K neighbours (10 is usual), against hubs: records that are "
            "near to everything.",
        ),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(
            "--candidates",
            min=1,
            help="Assign among so many nearest of every record only; without being asked, 32, "
            "where there are more than 33 million pairs.",
        ),
    ] = None,
    edit: Annotated[
        bool,
        typer.Option(
            "--edit", help="Show what edit distance says, and which record it would choose."
        ),
    ] = False,
    where_a: Annotated[
        str | None,
        typer.Option(
            "--where-a", metavar="CONDITION", help="Only records of A whose metadata meet this."
        ),
    ] = None,
    where_b: Annotated[
        str | None,
        typer.Option(
            "--where-b", metavar="CONDITION", help="Only records of B whose metadata meet this."
        ),
    ] = None,
    db: Db = DB,
    db_b: Annotated[
        Path | None, typer.Option("--db-b", help="The store of B, if it is another.")
    ] = None,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Match the records of two collections that lie in one space.

    The score is the cosine; ties go by id, and no record matches itself. With --method assignment
    and --threshold, the sum is that of what cosines exceed the threshold by.

    With --edit, edit is the Levenshtein similarity of both texts, edit_rank the place of the match
    among all of B by that, and edit_best what strings alone would have chosen.
    """
    # Before NumPy is imported: threads share rows, and BLAS would only add more.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from embcli.pipelines.match import MatchOptions, match

    options = MatchOptions(method, top, threshold, csls, candidates, edit, where_a, where_b)
    output = Output(format, out, quiet)
    columns = [*COLUMNS[:4], *[CSLS] * (csls is not None), *EDIT * edit, *COLUMNS[4:]]
    with ExitStack() as bar:
        advance = bar.enter_context(output.progress("records"))

        def write(rows: Iterable[dict[str, Any]]) -> None:
            bar.close()
            output.rows(rows, columns, id="a_id")

        report = match(
            a, b, options, write=write, db=db, db_b=db_b, note=output.note, advance=advance
        )
    if not report.pairs:
        raise NothingFoundError(f"no record of {a!r} has a match in {b!r}")
    strings = ""
    if report.elsewhere is not None:
        strings = (
            f"; edit distance alone would have put {report.elsewhere:,} of "
            f"{report.best:,} best matches elsewhere"
        )
    output.summary(
        f"{report.matched:,} of {counted(report.of_a, 'record')} of {a!r} "
        f"matched with {b!r} ({report.of_b:,}){strings}"
    )
