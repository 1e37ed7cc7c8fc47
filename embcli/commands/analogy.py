"""`embcli analogy`."""

from typing import Annotated, Literal

import typer

from embcli.options import COLLECTION, DB, CollectionName, Db, Out, OutputFormat, Quiet, Top
from embcli.output import Column, Output

PANEL = "Work"
ORDER = 17
EXAMPLE = "embcli analogy sputnik-1957 + wright-flyer-1903 - iron-bridge-1781"
COLUMNS = (
    Column("rank", "#", right=True, show=str),
    Column("score", "score", right=True),
    Column("id", "id", width=28),
    Column("text", "text", share=1),
)


def command(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="WORD [+|- WORD]...",
            help="Words, which are ids of records, with + or - between them; a word with spaces "
            "is quoted.",
        ),
    ],
    method: Annotated[
        Literal["3cosadd", "3cosmul"],
        typer.Option(
            "--method",
            help="Add and subtract cosines, or multiply and divide them, which keeps one large "
            "term from deciding alone.",
        ),
    ] = "3cosadd",
    ignore_case: Annotated[
        bool,
        typer.Option(
            "--ignore-case",
            "-i",
            help="Find words however they are capitalised, and no other forms of them.",
        ),
    ] = False,
    top: Top = 10,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Complete an analogy: king - man + woman.

    Finds the records nearest to all that is added and farthest from all that is taken away. The
    words given are not among them.
    """
    from embcli.pipelines.analogy import analogy, parse_terms

    output = Output(format, out, quiet)
    positive, negative = parse_terms(words)
    hits = analogy(
        positive,
        negative,
        db=db,
        collection=collection,
        method=method,
        k=top,
        ignore_case=ignore_case,
    )
    output.rows((hit.row() for hit in hits), COLUMNS)
