"""`embcli import`."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from embcli.errors import InputError, UsageError, counted
from embcli.options import (
    COLLECTION,
    DB,
    MODEL,
    READING,
    CollectionName,
    Db,
    Out,
    OutputFormat,
    Quiet,
    TrustRemoteCode,
)
from embcli.output import Column, Output, SkippedLog

PANEL = "Work"
ORDER = 12
GATHERED = tuple(
    Column(name, name)
    for name in (
        "collection", "parts", "gathered", "existing", "records", "added", "replaced", "repeated",
        "skipped", "seconds",
    )
)  # fmt: skip
EXAMPLE = "embcli import examples/words.vec -c words"
REPORT = tuple(
    Column(name, name)
    for name in (
        "collection", "records", "dim", "added", "replaced", "unchanged", "repeated", "skipped",
        "seconds",
    )
)  # fmt: skip


def command(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES...",
            help="Word vectors (word2vec's text and binary, GloVe, fastText's .vec), .npy, .npz, "
            ".safetensors, JSON Lines, CSV, the Embedding Projector's TSV, Parquet, Arrow, HDF5, "
            "FAISS, llm's database, another store. Text may be compressed. Or a directory, or a "
            "URL, of parts that embcli encode --to DIR/ made.",
            show_default=False,
        ),
    ],
    input_format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of the files, instead of finding out from their content: npy, npz, safetensors, "
            "jsonl, csv, projector, word2vec, word2vec-binary, glove, parquet, arrow, hdf5, "
            "faiss, llm, embcli.",
            rich_help_panel=READING,
        ),
    ] = None,
    sidecar: Annotated[
        Path | None,
        typer.Option(
            help="File with ids, texts and metadata in the order of the vectors: JSON Lines, CSV, "
            "or an id a line.",
            readable=False,
            rich_help_panel=READING,
        ),
    ] = None,
    vector_field: Annotated[
        str | None,
        typer.Option(
            help="Field, array or columns with the vector, by name or prefix.",
            rich_help_panel=READING,
        ),
    ] = None,
    id_field: Annotated[
        str | None, typer.Option(help="Field with the id.", rich_help_panel=READING)
    ] = None,
    text_field: Annotated[
        list[str] | None,
        typer.Option(help="Field with the text; several are joined.", rich_help_panel=READING),
    ] = None,
    source_collection: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which collection of another store, or of llm's database.",
            rich_help_panel=READING,
        ),
    ] = None,
    encoding_errors: Annotated[
        Literal["strict", "replace", "ignore"],
        typer.Option(help="Words that are not UTF-8.", rich_help_panel=READING),
    ] = "strict",
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Only the first so many; of words the most frequent.",
            rich_help_panel=READING,
        ),
    ] = None,
    skip_malformed: Annotated[
        bool,
        typer.Option(
            "--skip-malformed",
            help="Leave out records that cannot be used, instead of storing nothing.",
            rich_help_panel=READING,
        ),
    ] = False,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The files share a space, which is called this; by default every file has its "
            "own.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Do not encode some texts again to see that --model made the vectors.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
    storage: Annotated[
        Literal["float32", "float16"] | None,
        typer.Option(help="How a new collection stores vectors; float16 takes half the room."),
    ] = None,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="The model that made the vectors: they are searched in words then, and encode "
            "adds to them.",
        ),
    ] = None,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Import vectors made elsewhere, with texts and metadata where there are any.

    A malformed file leaves the store as it was, and the exit code is 3. An import that was
    interrupted is completed by the same command; records that are there with the same vector, text
    and metadata stay as they are, and others of the same id are replaced.
    """  # fmt: skip
    from embcli.formats.vectors import VectorOptions
    from embcli.pipelines.encode import Listeners
    from embcli.pipelines.import_ import import_vectors

    output = Output(format, out, quiet)
    skipped = SkippedLog()
    if any(map(_has_parts, files)):
        for flag, given in (
            ("--input-format", input_format), ("--sidecar", sidecar),
            ("--vector-field", vector_field), ("--id-field", id_field),
            ("--text-field", text_field), ("--source-collection", source_collection),
            ("--limit", limit), ("--skip-malformed", skip_malformed), ("--space", space),
            ("--trust", trust), ("--model", model),
        ):  # fmt: skip
            if given:
                raise UsageError(f"{flag} is for files of vectors, and parts say what they are")
        if len(files) > 1:
            raise UsageError("one directory of parts at a time")
        _gather(files[0], db, collection, storage, output, skipped, bool(format or out))
        raise typer.Exit(skipped.exit_code)
    options = VectorOptions(
        format=input_format,
        sidecar=sidecar,
        vector_field=vector_field,
        id_field=id_field,
        text_fields=tuple(text_field or ()),
        encoding_errors=encoding_errors,
        limit=limit,
        collection=source_collection,
    )
    try:
        with output.progress("records") as advance:
            report = import_vectors(
                files,
                db=db,
                collection=collection,
                model=model,
                space=space,
                trust=trust,
                trust_remote_code=trust_remote_code,
                options=options,
                storage=storage,
                skip_malformed=skip_malformed,
                listeners=Listeners(output.note, skipped, advance),
            )
    except InputError:
        skipped.close()
        raise
    except (KeyboardInterrupt, SystemExit):
        output.note("what was committed stays; the same command again does the rest")
        raise
    skipped.close()
    output.summary(f"{report} → {collection!r} in {db} ({counted(report.total, 'record')})")
    if format or out:
        output.rows(
            [{"collection": collection, "db": str(db), **asdict(report)}], REPORT, "collection"
        )
    raise typer.Exit(skipped.exit_code)


def _has_parts(name: str) -> bool:
    """Whether this is a directory or URL of parts; a directory of anything else is an error.

    Raises
    ------
    InputError
    """
    from embcli.formats.remote import is_url

    if is_url(name):
        from embcli.pipelines.shards.folder import open_folder
        from embcli.pipelines.shards.plan import MANIFEST

        folder = open_folder(name)
        if folder.size(MANIFEST) is None:
            raise InputError(
                f"{folder.name}: there is no {MANIFEST} in it, and files of vectors are not read "
                "from URLs",
                hint="a copy on this machine, or the folder of parts",
            )
        return True
    if os.path.isdir(name) and not os.path.exists(os.path.join(name, "manifest.json")):
        raise InputError(
            f"{name}: is a directory, and no manifest.json is in it",
            hint="name the files of vectors, or: embcli encode FILES... --to DIR/",
        )
    return os.path.isdir(name)


def _gather(
    folder: str,
    db: Path,
    collection: str,
    storage: str | None,
    output: Output,
    skipped: SkippedLog,
    formatted: bool,
) -> None:
    """Put parts into the store."""
    from embcli.formats.remote import without_secrets
    from embcli.pipelines.encode import Listeners
    from embcli.pipelines.shards.gather import gather_parts

    try:
        with output.progress("records") as advance:
            report = gather_parts(
                folder,
                db=db,
                collection=collection,
                storage=storage,
                listeners=Listeners(output.note, skipped, advance, skipped.more),
            )
    except (KeyboardInterrupt, SystemExit):
        output.note("what was committed stays; the same command again does the rest")
        raise
    skipped.close()
    output.summary(f"{report} → {collection!r} in {db} ({counted(report.total, 'record')})")
    if formatted:
        row = {"collection": collection, "db": str(db), **asdict(report)}
        output.rows([row], GATHERED, "collection")
    if report.missing:
        again = f"{without_secrets(folder).rstrip('/')}/"
        raise InputError(
            report.missing_parts(), hint=f"the embcli encode ... --to {again} that began them"
        )
