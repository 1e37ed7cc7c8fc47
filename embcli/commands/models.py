"""`embcli models`."""

from embcli.options import Out, OutputFormat, Quiet
from embcli.output import Column, Output

PANEL = "Look"
ORDER = 22
EXAMPLE = "embcli models"
COLUMNS = (
    Column("name", "model"),
    Column("available", "here", show=lambda here: "yes" if here else "no"),
    Column("dim", "dim", right=True),
    Column("licence", "licence"),
    Column("description", "what it is", wrap=True),
)


def command(format: OutputFormat = None, out: Out = None, quiet: Quiet = False) -> None:
    """List the models that can be used here, without loading them."""
    from embcli.encoders import MODELS

    rows = (
        {
            "name": card.name,
            "available": card.available,
            "dim": card.dim,
            "licence": card.licence,
            "description": card.description,
        }
        for card in MODELS.values()
    )
    Output(format, out, quiet).rows(rows, COLUMNS, id="name")
