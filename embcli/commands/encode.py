"""`embcli encode`."""

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from embcli.errors import counted
from embcli.options import (
    COLLECTION,
    DB,
    READING,
    CollectionName,
    Db,
    Model,
    Out,
    OutputFormat,
    Quiet,
)
from embcli.output import Column, Output, SkippedLog, pairs

PANEL = "Work"
ORDER = 10
EXAMPLE = "embcli encode examples/corpus.jsonl"
COLUMNS = (
    Column("id", "id", width=28),
    Column("text", "text", share=3),
    Column("meta", "metadata", share=2, show=pairs),
    Column("source", "source", share=1),
)
REPORT = tuple(
    Column(name, name)
    for name in ("collection", "encoded", "reused", "updated", "skipped", "truncated", "seconds")
)


def command(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES...",
            help="JSON Lines, JSON, CSV, TSV, text or Markdown files, compressed or not; "
            "directories; glob patterns; - for standard input.",
            show_default=False,
        ),
    ],
    text_field: Annotated[
        list[str] | None,
        typer.Option(help="Field with the text; several are joined.", rich_help_panel=READING),
    ] = None,
    id_field: Annotated[
        str | None, typer.Option(help="Field with the id.", rich_help_panel=READING)
    ] = None,
    line_ids: Annotated[
        bool, typer.Option("--line-ids", help="Ids are file:line.", rich_help_panel=READING)
    ] = False,
    meta_field: Annotated[
        list[str] | None,
        typer.Option(help="Field to keep as metadata; default all.", rich_help_panel=READING),
    ] = None,
    input_format: Annotated[
        Literal["jsonl", "json", "csv", "tsv", "text"] | None,
        typer.Option(help="Instead of finding out.", rich_help_panel=READING),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="Of the characters; default UTF-8.", rich_help_panel=READING),
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="Between CSV fields.", rich_help_panel=READING)
    ] = None,
    no_header: Annotated[
        bool,
        typer.Option(
            "--no-header",
            help="The first CSV row is data; columns are called 1, 2, ...",
            rich_help_panel=READING,
        ),
    ] = False,
    per: Annotated[
        Literal["line", "file"],
        typer.Option(help="What a record is in text files.", rich_help_panel=READING),
    ] = "line",
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete records that vanished from the files.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first record that cannot be stored.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the first records; store nothing.")
    ] = False,
    dtype: Annotated[
        Literal["float32", "float16"] | None,
        typer.Option(help="How a new collection stores vectors; float16 takes half the room."),
    ] = None,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    model: Model = None,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Encode files into the store.

    Running it again encodes only what is new, and brings metadata up to date; so an
    interrupted run is resumed by the same command. Records that cannot be read are reported
    and skipped, and the exit code is then 3.
    """
    from embcli.formats import ReadOptions
    from embcli.pipelines.encode import Listeners, encode, preview

    output = Output(format, out, quiet)
    skipped = SkippedLog()
    read = ReadOptions(
        format=input_format,
        encoding=encoding,
        header=not no_header,
        delimiter=delimiter,
        per=per,
        text_fields=tuple(text_field or ()),
        id_field=id_field,
        line_ids=line_ids,
        meta_fields=tuple(meta_field) if meta_field else None,
    )
    if dry_run:
        listeners = Listeners(output.note, skipped)
        records = preview(files, db=db, read=read, strict=strict, listeners=listeners)
        output.rows((record.row() for record in records), COLUMNS)
        skipped.close()
        raise typer.Exit(skipped.exit_code)
    try:
        with output.progress("records") as advance:
            report = encode(
                files,
                db=db,
                collection=collection,
                model=model,
                dtype=dtype,
                read=read,
                strict=strict,
                prune=prune,
                listeners=Listeners(output.note, skipped, advance),
            )
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
