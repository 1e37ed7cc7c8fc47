"""`embcli calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from embcli.errors import UsageError
from embcli.options import (
    COLLECTION,
    DB,
    CollectionName,
    Db,
    Device,
    Model,
    Out,
    OutputFormat,
    Prompt,
    PromptName,
    Quiet,
    TrustRemoteCode,
)
from embcli.output import Column, Output, SkippedLog

PANEL = "Work"
ORDER = 14
EXAMPLE = "embcli calibrate examples/beir"
COLUMNS = (
    Column("calibration", "calibration"),
    Column("queries", "queries", right=True),
    Column("results", "results", right=True),
    Column("ece", "ECE", right=True),
    Column("brier", "Brier", right=True),
    Column("precision", "precision", right=True),
    Column("recall", "recall", right=True),
    Column("f1", "F1", right=True),
    Column("kept", "kept", right=True, show="{:.1f}".format),
)


def command(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[BEIR_DIR]",
            help="A folder in BEIR's layout with queries.jsonl and qrels/SPLIT.tsv.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Which judgments: those in qrels/SPLIT.tsv, by default qrels/test.tsv."),
    ] = None,
    qrels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Judgments in another file, as BEIR or TREC have them."),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Their queries in another file: JSON Lines with _id or id and text, or a text "
            "file with a query per line.",
        ),
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Go back to what is built in; takes no judgments.")
    ] = False,
    prompt: Prompt = None,
    prompt_name: PromptName = None,
    trust_remote_code: TrustRemoteCode = False,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    model: Model = None,
    device: Device = None,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Learn from relevance judgments how cosines become probabilities of relevance.

    What is learned is kept with the collection, for embcli search --relevant, and compared with
    what is built in: how far probabilities are from frequencies (expected calibration error,
    Brier score), and how well lists end where relevance ends (means over queries). Records
    without judgment count as not relevant.
    """
    from dataclasses import asdict

    from embcli.pipelines.evaluate import find_file
    from embcli.pipelines.queries import QueryOptions
    from embcli.pipelines.relevance import calibrate

    if reset == (folder is not None or qrels is not None or queries is not None):
        raise UsageError("give a BEIR_DIR, --qrels and --queries, or --reset")
    if folder is None and split is not None:
        raise UsageError("--split chooses among the judgments of a BEIR_DIR")
    if folder is not None:
        qrels = qrels or find_file(folder, f"qrels/{split or 'test'}.tsv")
        queries = queries or str(find_file(folder, "queries.jsonl"))
    output = Output(format, out, quiet)
    skipped = SkippedLog()
    qualities = calibrate(
        qrels,
        queries,
        db=db,
        collection=collection,
        options=QueryOptions(
            model=model,
            device=device,
            prompt=prompt,
            prompt_name=prompt_name,
            trust_remote_code=trust_remote_code,
        ),
        problem=skipped,
        note=output.note,
    )
    skipped.close()
    if qrels is None:
        output.summary(f"{collection!r}: calibrated as built in")
    else:
        output.rows([asdict(quality) for quality in qualities], COLUMNS, id="calibration")
    raise typer.Exit(skipped.exit_code)
