"""`embcli models`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from embcli.options import DB, Db, Out, OutputFormat, Quiet, complete_model, example
from embcli.output import Column, Output, ending, pairs, plain, size

PANEL = "Look"
ORDER = 22
EXAMPLE = "embcli models"
COLUMNS = (
    Column("name", "model", wrap=True, show=ending),
    Column("available", "here", show=lambda here: "yes" if here else "no"),
    Column("dim", "dim", right=True, show=lambda n: "" if n is None else str(n)),
    Column("max_tokens", "tokens", right=True, show=lambda n: "all" if n is None else str(n)),
    Column("bytes", "size", right=True, show=lambda n: "" if n is None else size(n)),
    Column("description", "what it is", wrap=True),
)
DETAILS = (Column("fact", "fact"), Column("value", "value", wrap=True))

app = typer.Typer(
    help="List the models that can be used here, and describe them, without loading them.",
    epilog=example(EXAMPLE),
    invoke_without_command=True,
)


@app.callback()
def list_(
    context: typer.Context,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """List the models that can be used here, without loading them.

    These are the embedded ones, those fetched from the Hugging Face hub, and the directories
    that the store has used.
    """
    if context.invoked_subcommand is None:
        from embcli.encoders.catalogue import list_models

        rows = map(vars, list_models(_directories(db)))
        Output(format, out, quiet).rows(rows, COLUMNS, id="name")


@app.command(epilog=example("embcli models info static"))
def info(
    name: Annotated[
        str,
        typer.Argument(
            help="A model that is here: its name, directory or id on the hub.",
            autocompletion=complete_model,
        ),
    ],
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a model on the hub.")
    ] = None,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Describe a model: dimensions, most tokens, prompts, size, licence."""
    from embcli.encoders.catalogue import describe

    row = describe(name, revision)
    output = Output(format, out, quiet)
    if output.format != "table":
        output.rows([row], (), id="name")
        return
    shown = {key: value for key, value in row.items() if value not in (None, {})}
    if "bytes" in shown:
        shown["size"] = size(shown.pop("bytes"))
    output.rows(
        [
            {
                "fact": key.replace("_", " "),
                "value": pairs(value) if isinstance(value, dict) else plain(value),
            }
            for key, value in shown.items()
        ],
        DETAILS,
    )


def _directories(db: Path) -> list[str]:
    """Directories of models that the store has used."""
    if not os.path.exists(db):
        return []
    from embcli.errors import StoreError
    from embcli.store import Store

    try:
        with Store(db, readonly=True) as store:
            models = dict.fromkeys(space.model for space in store.spaces())
    except StoreError:
        return []  # what is wrong with the store is no matter here
    return [model for model in models if os.path.isabs(model)]
