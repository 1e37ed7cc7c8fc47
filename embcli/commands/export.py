"""`embcli export`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from embcli.errors import UsageError, counted
from embcli.options import COLLECTION, DB, CollectionName, Db, Format, Quiet, VectorFormat, Where
from embcli.output import Output

PANEL = "Keep"
ORDER = 26
EXAMPLE = "embcli export vectors.faiss"


def command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Its ending tells the format: .parquet, .arrow, .npy, .npz, .safetensors, .jsonl, "
            ".csv, .tsv (projector), .vec (word2vec text), .bin (word2vec binary), .h5, .faiss; "
            "- writes NDJSON to standard output.",
        ),
    ],
    format: VectorFormat = None,
    where: Where = None,
    mean: Annotated[
        bool,
        typer.Option(
            "--mean",
            help="Of texts in chunks one row with the mean of their vectors, instead of a row for "
            "each chunk.",
        ),
    ] = False,
    atlas: Annotated[
        bool,
        typer.Option(
            "--atlas",
            help="A Parquet file for Embedding Atlas instead, with texts, metadata, clusters, a "
            "layout and neighbours; the command that opens it is printed.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    quiet: Quiet = False,
) -> None:
    """Write a collection into a file that other tools read.

    Vectors are written as they are, with ids, and with texts and metadata where the format has
    room for them. The file appears when it is complete.

    What the vectors mean goes along in Parquet, Arrow, safetensors, npz, HDF5 and embcli stores:
    the file can be imported into the same space.
    """
    from embcli.pipelines.export import export, stream

    output = Output(Format.ndjson, None, quiet)
    if atlas:
        if format is not None or mean:
            raise UsageError("--atlas writes Parquet of whole records: no --format, no --mean")
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from embcli.pipelines.atlas import export_atlas

        with output.progress("records") as advance:
            records, opening = export_atlas(
                file,
                db=db,
                collection=collection,
                where=where,
                force=force,
                note=output.note,
                advance=advance,
            )
        output.summary(f"{collection!r} → {file}: {counted(records, 'record')}; to open it:")
        sys.stdout.write(f"{opening}\n")
        return
    if str(file) == "-":
        if format not in (None, "jsonl"):
            raise UsageError(f"standard output takes jsonl, not {format}", hint="name a file")
        rows = stream(db=db, collection=collection, where=where, mean=mean, note=output.note)
        output.rows(rows, ())
        return
    with output.progress("vectors") as advance:
        report = export(
            file,
            db=db,
            collection=collection,
            format=format,
            where=where,
            mean=mean,
            force=force,
            note=output.note,
            advance=advance,
        )
    vectors = counted(report.vectors, "vector")
    output.summary(f"{collection!r} → {file}: {vectors} of {report.dim:,} ({report.format})")
