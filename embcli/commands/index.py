"""`embcli index`."""

from dataclasses import asdict
from typing import Annotated

import typer

from embcli.errors import UsageError
from embcli.options import DB, Db, Out, OutputFormat, Quiet
from embcli.output import Column, Output

PANEL = "Keep"
ORDER = 33
EXAMPLE = "embcli index category year"
COLUMNS = (
    Column("field", "field"),
    Column("records", "records", right=True, show="{:,}".format),
)


def command(
    fields: Annotated[
        list[str] | None,
        typer.Argument(metavar="FIELD…", help="Metadata fields, written as --where does."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", "-l", help="List the fields indexed.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Drop the indexes on these fields.")] = False,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Index metadata fields, so that filters on them need not read every record.

    What filters mean does not change. Worth it from some hundred thousand records on; costs some
    of the time of every encode after. The indexes are over all collections.
    """
    from embcli.store import Store

    if list_ == bool(fields) or (list_ and drop):
        raise UsageError("give metadata fields, or --list", hint=EXAMPLE)
    output = Output(format, out, quiet)
    if list_:
        with Store(db, readonly=True) as store, store.snapshot():
            output.rows([asdict(info) for info in store.indexes()], COLUMNS, id="field")
        return
    with Store.existing(db) as store:
        for field in fields or ():
            done = store.drop_index(field) if drop else store.create_index(field)
            if drop:
                output.summary(f"{field}: dropped" if done else f"{field}: was not indexed")
            else:
                output.summary(f"{field}: indexed" if done else f"{field}: was indexed already")
        if not drop:
            for info in store.indexes():
                if not info.records:
                    output.note(f"no record has the field {info.field}")
