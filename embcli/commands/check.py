"""`embcli check`."""

from dataclasses import asdict

from embcli.options import DB, Db, Out, OutputFormat, Quiet
from embcli.output import Column, Output

PANEL = "Keep"
ORDER = 33
EXAMPLE = "embcli check"
COLUMNS = (
    Column("part", "part"),
    Column("checked", "checked", right=True, show="{:,}".format),
    Column("damaged", "damaged", right=True, show="{:,}".format),
    Column("details", "what is left", wrap=True),
)


def command(
    db: Db = DB, format: OutputFormat = None, out: Out = None, quiet: Quiet = False
) -> None:
    """Compare everything in the store with its checksums.

    Says what is damaged and what is left of it; exit code 5 if anything is. Nothing is changed.
    """
    from embcli.pipelines.check import check, damaged_error

    output = Output(format, out, quiet)
    with output.progress("records and vectors") as advance:
        parts = check(db, advance=advance)
    output.rows(map(asdict, parts), COLUMNS, id="part")
    if any(part.damaged for part in parts):
        raise damaged_error(db, parts)
    left_out = [part.details for part in parts if part.details]
    output.summary(f"{db} is sound{', but for what was ' if left_out else ''}{', '.join(left_out)}")
