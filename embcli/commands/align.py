"""`embcli align`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from embcli.options import DB, Db, Out, OutputFormat, Quiet, complete_collection, example
from embcli.output import Column, Output

PANEL = "Work"
ORDER = 17
EXAMPLE = "embcli align distance default hashed"
DISTANCES = (
    Column("measure", "measure"),
    Column("value", "value", right=True),
    Column("meaning", "what it says", wrap=True),
    Column("records", "n", right=True, show="{:,}".format),
)

app = typer.Typer(
    help="Compare the spaces of two collections.", epilog=example(EXAMPLE), no_args_is_help=True
)


@app.callback()
def _align() -> None:
    """Keep the name of the only command."""


@app.command(epilog=example("embcli align distance default hashed"))
def distance(
    a: Annotated[
        str,
        typer.Argument(metavar="A", help="A collection.", autocompletion=complete_collection),
    ],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B",
            help="Another one, with records of the same ids.",
            autocompletion=complete_collection,
        ),
    ],
    measure: Annotated[
        list[str] | None,
        typer.Option(
            "--measure",
            help="cka, cka-debiased, rsa, rsa-pearson, neighbours, eigenvectors or "
            "gromov-wasserstein; may be given several times. By default all of them.",
        ),
    ] = None,
    neighbours: Annotated[
        int,
        typer.Option("--neighbours", metavar="K", min=1, help="How many nearest to look at."),
    ] = 10,
    sample: Annotated[
        int,
        typer.Option(
            "--sample",
            metavar="N",
            min=5,
            max=10_000,
            help="Of more records than this, measures that compare each with every other get so "
            "many; Gromov–Wasserstein gets 500 at most, CKA gets all.",
        ),
    ] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws the sample.")] = 0,
    db: Db = DB,
    db_b: Annotated[
        Path | None, typer.Option("--db-b", help="The store of B, if it is another.")
    ] = None,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Tell how alike two spaces are, by the records that both collections have.

    No map is fitted, and dimensions may differ: what is compared is how the same records lie to
    each other.
    """
    from embcli.pipelines.align_distance import align_distance

    output = Output(format, out, quiet)
    with output.progress("measures") as advance:
        figures = align_distance(
            a,
            b,
            measures=measure or (),
            neighbours=neighbours,
            sample=sample,
            seed=seed,
            db=db,
            db_b=db_b,
            note=output.note,
            advance=advance,
        )
    output.rows(map(asdict, figures), DISTANCES, id="measure")
