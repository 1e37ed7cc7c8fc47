"""`embcli dedup`."""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Annotated, Any, Literal

import typer

from embcli.errors import NothingFoundError, counted
from embcli.options import (
    COLLECTION,
    DB,
    CollectionName,
    Db,
    Format,
    Out,
    OutputFormat,
    Quiet,
    Where,
)
from embcli.output import Column, Output, pairs

PANEL = "Work"
ORDER = 15
EXAMPLE = "embcli dedup --threshold 0.8"
COLUMNS = (
    Column("group", "group", right=True),
    Column("keep", "", show=lambda keep: "keep" if keep else "drop"),
    Column("score", "score", right=True),
    Column("id", "id", share=2),
    Column("text", "text", share=3),
    Column("meta", "metadata", share=1, show=pairs),
)


def command(
    threshold: Annotated[
        float, typer.Option("--threshold", "-t", min=0, max=1, help="Least cosine.")
    ] = 0.95,
    linkage: Annotated[
        Literal["star", "single"],
        typer.Option(
            "--linkage",
            help="What makes a group: all are near the one that is kept (star), or a chain of "
            "near ones connects them (single).",
        ),
    ] = "star",
    keep: Annotated[
        str,
        typer.Option(
            "--keep",
            metavar="RULE",
            help="Which one stays: first, last, longest, shortest, max:FIELD or min:FIELD.",
        ),
    ] = "first",
    where: Where = None,
    delete: Annotated[
        bool,
        typer.Option(
            "--delete", help="Delete the others, in one transaction, once the results are written."
        ),
    ] = False,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Find near-duplicates in a collection, and keep one of each group.

    The score is the cosine with the record that is kept. Every pair of records is compared, and
    what is found is exact. With -f ids only the ids of those not kept are written.

    In groups of the default kind a record is kept if nothing near it is kept before it, and no two
    that are kept are near each other. Chains of near records can connect what is far apart.
    """
    # Before NumPy is imported: threads share rows, and BLAS would only add more.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from embcli.pipelines.dedup import dedup

    output = Output(format, out, quiet)

    with ExitStack() as bar:
        advance = bar.enter_context(output.progress("records"))

        def write(rows: Iterable[dict[str, Any]]) -> None:
            bar.close()
            if output.format is Format.ids:
                rows = (row for row in rows if not row["keep"])
            output.rows(rows, COLUMNS)

        report = dedup(
            db,
            collection,
            write=write,
            threshold=threshold,
            linkage=linkage,
            keep=keep,
            where=where,
            delete=delete,
            note=output.note,
            advance=advance,
        )
    if not report.groups:
        raise NothingFoundError(f"no duplicates among {counted(report.records, 'record')}")
    share = report.duplicates / report.records
    output.summary(
        f"{counted(report.groups, 'group')} with {counted(report.duplicates, 'duplicate')}, "
        f"{share:.1%} of {counted(report.records, 'record')}"
        + (f"; deleted {report.deleted:,}" if delete else "")
    )
