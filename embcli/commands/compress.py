"""`embcli compress`."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from embcli.errors import UsageError
from embcli.options import COLLECTION, DB, CollectionName, Db, Out, OutputFormat, Quiet
from embcli.output import Column, Output

PANEL = "Keep"
ORDER = 32
EXAMPLE = "embcli compress --report"
COLUMNS = (
    Column("code", "code"),
    Column("bytes", "bytes/vector", right=True, show="{:,.0f}".format),
    Column("recall", "recall@10", right=True, show="{:.3f}".format),
    Column("verified", "verified", right=True, show="{:.3f}".format),
    Column("seconds", "seconds", right=True, show="{:.4f}".format),
)


class Kind(StrEnum):
    """The codes there are; the numerics know them by these names."""

    int8 = "int8"
    bits4 = "bits4"
    bits2 = "bits2"
    bits1 = "bits1"
    none = "none"


def command(
    kind: Annotated[
        Kind | None,
        typer.Option(
            "--kind",
            help="The code, or none to search exactly. By default the fastest whose recall@10 is "
            "at least .995 on a sample.",
        ),
    ] = None,
    oversample: Annotated[
        int | None,
        typer.Option(
            "--oversample", min=1, help="For K results, compare the best N times K in full."
        ),
    ] = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report", help="Only measure what every code would cost and give; store nothing."
        ),
    ] = False,
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="Queries to try, made of records.")
    ] = 100,
    seed: Annotated[int, typer.Option("--seed", help="Chooses them.")] = 0,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Keep compact codes beside the vectors, so that large collections are searched faster.

    The codes find candidates, the full vectors decide: scores stay exact, and the recall is
    estimated on a sample and shown by embcli info. Large collections are coded without being
    asked; embcli search --exact does without the codes.
    """
    from embcli.pipelines import compress

    output = Output(format, out, quiet)
    if report:
        if kind is not None:
            raise UsageError("--report measures every kind: leave out --kind")
        rungs = compress.report(db, collection, oversample=oversample, sample=sample, seed=seed)
        output.rows([asdict(rung) for rung in rungs], COLUMNS, id="code")
        return
    info = compress.compress(
        db, collection, kind=kind, oversample=oversample, sample=sample, seed=seed
    )
    output.summary(f"{collection!r}: {compress.explain(info)}")
