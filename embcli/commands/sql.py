"""`embcli sql`."""

import sys
from typing import Annotated, Any

import typer

from embcli.options import COLLECTION, DB, CollectionName, Db, Format, Out, OutputFormat, Quiet
from embcli.output import Column, Output, plain

PANEL = "Keep"
ORDER = 33
EXAMPLE = 'embcli sql "SELECT id, vector(id) AS vector FROM corpus LIMIT 3"'
_SHOWN = 3


def command(
    statement: Annotated[
        str, typer.Argument(metavar="SQL", help="One statement; - reads it from standard input.")
    ],
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Query the store in SQL, without writing to it.

    Beside SQLite's own functions there are vector(id) and vector(id, collection), the vector of a
    record; cosine(a, b) of two vectors; and vector_json(v), a vector as JSON. The view corpus has
    the records of all collections.
    """
    from embcli.store import Store

    output = Output(format, out, quiet)
    if statement == "-":
        statement = sys.stdin.read() if sys.stdin else ""
    with Store(db, readonly=True) as store:
        query = store.sql(statement, collection)
        columns = [Column(name, name, show=show) for name in query.columns]
        rows = query.rows()
        if output.format is Format.ids:
            rows = ({"id": next(iter(row.values()))} for row in rows)
        output.rows(rows, columns)


def show(value: Any) -> str:
    """Show a value in a cell of a table; of vectors, how they begin."""
    if isinstance(value, list):
        first = ", ".join(f"{number:.3f}" for number in value[:_SHOWN])
        more = ", …" if len(value) > _SHOWN else ""
        return f"[{first}{more}] {len(value)}-d"
    if isinstance(value, dict):
        return f"<{len(value['encoded']) * 3 // 4 - value['encoded'].count('='):,} bytes>"
    return plain(value)
