"""`embcli diagnose`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from embcli.errors import counted
from embcli.options import COLLECTION, DB, CollectionName, Db, Out, OutputFormat, Quiet
from embcli.output import Column, Output, ending, plain

PANEL = "Work"
ORDER = 21
EXAMPLE = "embcli diagnose"


def short(value: Any) -> str:
    """Show a figure with four digits behind the point at most."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else plain(value)
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4f}"


COLUMNS = (
    Column("finding", "finding"),
    Column("value", "value", right=True, show=short),
    Column("verdict", "verdict"),
    Column("detail", "what it says", wrap=True, share=1),
)


def in_words(row: dict[str, Any]) -> str:
    """Put what a finding says, some of the records and what helps into one column."""
    some = ", ".join(map(ending, row["examples"][:3]))
    parts = [row["detail"], f"such as {some}" if some else "", row["helps"] and f"→ {row['helps']}"]
    return "; ".join(filter(None, parts)).replace("; →", " →")


def command(
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Draw the spectrum, cosines, hubness and norms: .png, .svg or .pdf.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a figure that is there.")] = False,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold", "-t", min=0, max=1, help="The cosine of near-duplicates, at least."
        ),
    ] = 0.95,
    sample: Annotated[
        int,
        typer.Option(
            min=10, help="Records drawn for what compares all with each other; n shows how many."
        ),
    ] = 10_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything drawn at random.")] = 0,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Look at how sound a collection is, with the command that helps where it is not.

    Dimension, effective rank, norms, near-duplicates, isotropy, intrinsic dimension, hubs, empty,
    repeated and truncated texts, scripts. A verdict is "ok" or "look"; where a value says nothing
    by itself, there is none.
    """
    from embcli.pipelines.diagnose import diagnose, draw

    output = Output(format, out, quiet)
    if plot is not None:
        from embcli.viz.figure import check_figure

        check_figure(plot, extra="separability", force=force)
    health = diagnose(
        collection, sample=sample, threshold=threshold, seed=seed, db=db, note=output.note
    )
    if plot is not None:
        draw(health, plot, f"collection {collection!r}", output.note)
    rows = [finding.row() for finding in health.findings]
    if output.format == "table":
        rows = [row | {"detail": in_words(row)} for row in rows]
    output.rows(rows, COLUMNS, id="finding")
    looks = sum(finding.verdict == "look" for finding in health.findings)
    output.summary(
        f"{counted(looks, 'finding')} to look at" if looks else "nothing that asks to be looked at"
    )
