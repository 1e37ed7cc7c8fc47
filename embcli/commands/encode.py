"""`embcli encode`."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from embcli.errors import UsageError, counted
from embcli.formats import MAX_RECORD_BYTES
from embcli.options import (
    COLLECTION,
    DB,
    MODEL,
    READING,
    CollectionName,
    Db,
    Device,
    Format,
    Model,
    Out,
    OutputFormat,
    Prompt,
    PromptName,
    Quiet,
    TrustRemoteCode,
    complete_vector_format,
)
from embcli.output import Column, Output, SkippedLog, pairs, whole

if TYPE_CHECKING:
    from embcli.encoders import Encoder, EncoderOptions
    from embcli.pipelines.encode import Listeners
    from embcli.pipelines.ray_engine import RayOptions
    from embcli.pipelines.shards import Plan
    from embcli.pipelines.shards.local import PartsReport

# In sentence-transformers' words.
POOLING = {
    "mean": "mean",
    "cls": "cls",
    "last": "lasttoken",
    "max": "max",
    "weighted-mean": "weightedmean",
    "none": "none",
}
TO_FILE = "Without a store"
IN_PARTS = "In parts (--to DIR/)"
PANEL = "Work"
ORDER = 10
EXAMPLE = "embcli encode examples/corpus.jsonl"
COLUMNS = (
    Column("id", "id", width=28),
    Column("text", "text", share=3),
    Column("meta", "metadata", share=2, show=pairs),
    Column("source", "source", share=1),
)
CHUNKS = (
    Column("id", "id", width=28),
    Column("number", "#", right=True),
    Column("start", "start", right=True),
    Column("end", "end", right=True),
    Column("tokens", "tokens", right=True),
    Column("text", "text", wrap=True, show=whole),
)
REPORT = tuple(
    Column(name, name)
    for name in ("collection", "encoded", "reused", "updated", "skipped", "truncated", "seconds")
)
PARTS = tuple(
    Column(name, name)
    for name in (
        "to", "parts", "existing", "missing", "encoded", "reused", "skipped", "truncated",
        "seconds",
    )
)  # fmt: skip


def command(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES...",
            help="JSON Lines, JSON, CSV, TSV, text or Markdown files, compressed or not; Parquet; "
            "pictures, for models that take them; directories; glob patterns; URLs; - for "
            "standard input.",
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
        Literal["jsonl", "json", "csv", "tsv", "text", "parquet"] | None,
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
    max_record_bytes: Annotated[
        int,
        typer.Option(
            metavar="BYTES",
            min=1024,
            max=1 << 40,
            help="A line, row or JSON value that is larger is named and passed over.",
            rich_help_panel=READING,
        ),
    ] = MAX_RECORD_BYTES,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete records that vanished from the files.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first record that cannot be stored.")
    ] = False,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="FILE|DIR/",
            help="Write vectors to a file that other tools read, or - for standard output, "
            "instead of the store; see embcli export. With a slash at its end: a directory, or "
            "a URL such as s3://bucket/parts/, of parts that embcli import gathers.",
            rich_help_panel=TO_FILE,
        ),
    ] = None,
    to_format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Of that file, instead of what its ending says.",
            autocompletion=complete_vector_format,
            rich_help_panel=TO_FILE,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace that file.", rich_help_panel=TO_FILE),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Processes that share the parts; each loads the model. Default 1; with Ray as "
            "many as its cluster has CPUs, or GPUs for models that take them.",
            rich_help_panel=IN_PARTS,
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            help="What shares out the parts: this machine, or Ray Data on a cluster whose nodes "
            "all see the files and DIR/.",
            rich_help_panel=IN_PARTS,
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Of the Ray cluster: auto for that of this machine, host:6379 or "
            "ray://host:10001; default one that is started for this run.",
            rich_help_panel=IN_PARTS,
        ),
    ] = None,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="N",
            help="GPUs of each of Ray's workers; .5 lets two share one. Default 1 if there are "
            "any.",
            rich_help_panel=IN_PARTS,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Only every N-th part from the I-th on, counted from 1: for array jobs.",
            rich_help_panel=IN_PARTS,
        ),
    ] = None,
    part_records: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Lines or rows in a part; default 10,000, or as it was planned.",
            rich_help_panel=IN_PARTS,
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Write the manifest, which says what is in which part, and stop.",
            rich_help_panel=IN_PARTS,
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the first records; store nothing.")
    ] = False,
    chunk: Annotated[
        str | None,
        typer.Option(
            metavar="UNIT=N[,overlap=N]",
            help="Cut texts, and find the best chunk of each: tokens=256,overlap=32, or "
            "sentences, paragraphs or characters instead of tokens.",
        ),
    ] = None,
    inspect_chunks: Annotated[
        bool,
        typer.Option("--inspect-chunks", help="Show the first records' chunks; store nothing."),
    ] = False,
    storage: Annotated[
        Literal["float32", "float16"] | None,
        typer.Option(help="How a new collection stores vectors; float16 takes half the room."),
    ] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(
            help="Precision of the computation; auto is the fastest that stays true to float32.",
            rich_help_panel=MODEL,
        ),
    ] = "auto",
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Most tokens to compute at once; default by device.", rich_help_panel=MODEL
        ),
    ] = None,
    prompt: Prompt = None,
    prompt_name: PromptName = None,
    query_prompt: Annotated[
        str | None,
        typer.Option(help="What searches put before queries.", rich_help_panel=MODEL),
    ] = None,
    dims: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Keep only the first dimensions, for Matryoshka models.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(
            help="Take token vectors after this layer; -1 is the last.", rich_help_panel=MODEL
        ),
    ] = None,
    pooling: Annotated[
        Literal["mean", "cls", "last", "max", "weighted-mean", "none"] | None,
        typer.Option(
            help="How token vectors become one; none keeps them all, for MaxSim searches.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Cut inputs to so many tokens.", rich_help_panel=MODEL),
    ] = None,
    normalize: Annotated[
        bool | None,
        typer.Option(help="Scale vectors to unit length, or do not.", rich_help_panel=MODEL),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit on the hub.", rich_help_panel=MODEL),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    model_kwargs: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="For transformers' model as they are.", rich_help_panel=MODEL
        ),
    ] = None,
    processor_kwargs: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="For its tokenizer.", rich_help_panel=MODEL),
    ] = None,
    config_kwargs: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="For its configuration.", rich_help_panel=MODEL),
    ] = None,
    db: Db = DB,
    collection: CollectionName = COLLECTION,
    model: Model = None,
    device: Device = None,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Encode files into the store.

    Running it again encodes only what is new, and brings metadata up to date; so an
    interrupted run is resumed by the same command. Records that cannot be read are reported
    and skipped, and the exit code is then 3.
    """
    from embcli.encoders import EncoderOptions
    from embcli.formats import ReadOptions
    from embcli.pipelines.encode import Listeners, encode, preview, preview_chunks

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
        max_record_bytes=max_record_bytes,
        size_option="--max-record-bytes",
    )
    options = EncoderOptions(
        device=device,
        dtype=dtype,
        batch_tokens=batch_tokens,
        revision=revision,
        trust_remote_code=trust_remote_code,
        prompt=prompt,
        prompt_name=prompt_name,
        query_prompt=query_prompt,
        dims=dims,
        layer=layer,
        pooling=POOLING[pooling] if pooling else None,
        max_tokens=max_tokens,
        normalize=normalize,
        model_kwargs=_json_object("--model-kwargs", model_kwargs),
        processor_kwargs=_json_object("--processor-kwargs", processor_kwargs),
        config_kwargs=_json_object("--config-kwargs", config_kwargs),
    )
    common: dict[str, Any] = {
        "db": db, "collection": collection, "model": model, "options": options, "chunk": chunk,
        "read": read, "strict": strict,
    }  # fmt: skip
    if dry_run or inspect_chunks:
        listeners = Listeners(output.note, skipped)
        if inspect_chunks:
            chunks = preview_chunks(files, listeners=listeners, **common)
            output.rows(map(vars, chunks), CHUNKS)
        else:
            records = preview(files, listeners=listeners, **common)
            output.rows((record.row() for record in records), COLUMNS)
        skipped.close()
        raise typer.Exit(skipped.exit_code)
    in_parts = to is not None and is_folder(to)
    for flag, given in (
        ("--workers", workers), ("--shard", shard), ("--part-records", part_records),
        ("--plan", plan), ("--engine", engine != "local"),
    ):  # fmt: skip
        if given and not in_parts:
            raise UsageError(f"{flag} is for encoding into parts", hint="--to DIR/")
    for flag, missing in (
        ("--address", address is None), ("--gpus-per-worker", gpus_per_worker is None),
    ):  # fmt: skip
        if engine != "ray" and not missing:
            raise UsageError(f"{flag} is for Ray", hint="--engine ray")
    if to is not None:
        wrong = [flag for flag, given in (
            ("--prune", prune), ("--storage", storage), ("--collection", collection != COLLECTION),
        ) if given]  # fmt: skip
        if wrong:
            raise UsageError(f"{wrong[0]} is for the store, and --to does without one")
        del common["collection"]
        if in_parts:
            for flag, given in (("--to-format", to_format), ("--force", force)):
                if given:
                    raise UsageError(f"{flag} is for a file, and {to} is a directory of parts")
            if plan and (workers or shard):
                raise UsageError("--plan only plans: leave out --workers and --shard")
            if engine == "ray" and (plan or shard):
                flag = "--plan" if plan else "--shard"
                raise UsageError(f"{flag} is for array jobs; Ray shares out the parts itself")
            ray = None
            if engine == "ray":
                from embcli.pipelines.ray_engine import RayOptions

                ray = RayOptions(address, workers, gpus_per_worker)
            work = _Parts(
                workers,
                None if shard is None else _shard(shard),
                part_records,
                plan,
                ray,
            )
            _encode_parts(to, files, output, skipped, work, bool(format or out), common)
            raise typer.Exit(skipped.exit_code)
        _encode_to(Path(to), files, output, skipped, to_format, force, bool(format or out), common)
        raise typer.Exit(skipped.exit_code)
    try:
        with output.progress("records") as advance:
            report = encode(
                files,
                storage=storage,
                prune=prune,
                listeners=Listeners(output.note, skipped, advance),
                **common,
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


@dataclass(frozen=True)
class _Parts:
    """How the work on parts is shared, and whether it is only planned."""

    workers: int | None
    shard: tuple[int, int] | None
    records: int | None
    only_plan: bool
    ray: "RayOptions | None"


def is_folder(target: str) -> bool:
    """Whether `--to` means a directory of parts, and not a file.

    Raises
    ------
    UsageError
        It is a URL of a file.
    """
    from embcli.formats.remote import is_url, without_secrets

    folder = target.endswith(("/", os.sep)) or os.path.isdir(target)
    if is_url(target) and not folder:
        shown = without_secrets(target)
        raise UsageError(f"{shown}: only parts are written to URLs", hint=f"--to {shown}/")
    return folder


def _shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard {text}: expected I/N, with I from 1 to N, as in 3/8")
    return int(number), int(count)


def _encode_parts(
    target: str,
    files: list[str],
    output: Output,
    skipped: SkippedLog,
    work: _Parts,
    formatted: bool,
    common: dict[str, Any],
) -> None:
    """Encode into a directory of parts, or plan that."""
    from embcli.core.optional import require
    from embcli.formats.remote import without_secrets
    from embcli.pipelines.encode import Listeners
    from embcli.pipelines.shards.local import PartsReport
    from embcli.pipelines.shards.plan import plan_parts

    strict, shown = common.pop("strict"), without_secrets(target)
    if work.ray is not None:
        from embcli.pipelines.ray_engine import check_ray

        check_ray(work.ray)
    elif not work.only_plan:
        # Before all inputs are read to plan.
        require("pyarrow", "--to DIR/", "arrow")
    with output.progress("records") as advance:
        listeners = Listeners(output.note, skipped, advance, skipped.more)
        plan, encoder = plan_parts(
            files, target, part_records=work.records, listeners=listeners, **common
        )
        if work.only_plan:
            encoder.close()
            report = PartsReport(parts=len(plan.parts))
        else:
            try:
                report = _share(plan, encoder, common["options"], work, strict, listeners)
            except (KeyboardInterrupt, SystemExit):
                output.note("parts that are complete stay; the same command again does the rest")
                raise
    skipped.close()
    if work.only_plan:
        output.summary(f"planned {counted(report.parts, 'part')} → {shown}")
    else:
        missing = f" ({report.missing:,} of {len(plan.parts):,} missing)" if report.missing else ""
        output.summary(f"{report} → {shown}{missing}")
    if formatted:
        output.rows([{"to": shown, **asdict(report)}], PARTS, "to")


def _share(
    plan: "Plan",
    encoder: "Encoder",
    options: "EncoderOptions",
    work: _Parts,
    strict: bool,
    listeners: "Listeners",
) -> "PartsReport":
    """Encode the parts that are asked for, with this machine or with Ray."""
    if work.ray is not None:
        from embcli.pipelines.ray_engine import encode_parts_with_ray

        encoder.close()  # Ray's workers have their own
        return encode_parts_with_ray(plan, options, work.ray, strict=strict, listeners=listeners)
    from embcli.pipelines.shards.local import encode_parts, shard_of

    return encode_parts(
        plan,
        encoder,
        options,
        numbers=shard_of(plan, work.shard),
        workers=work.workers or 1,
        strict=strict,
        listeners=listeners,
    )


def _encode_to(
    target: Path,
    files: list[str],
    output: Output,
    skipped: SkippedLog,
    format: str | None,
    force: bool,
    formatted: bool,
    common: dict[str, Any],
) -> None:
    """Encode without a store: rows to stdout, or vectors to a file."""
    from embcli.pipelines.encode import Listeners
    from embcli.pipelines.encode_to import Encoding, check_format, encode_to
    from embcli.pipelines.export import rows_of

    if str(target) == "-":
        if format not in (None, "jsonl"):
            raise UsageError(f"standard output takes jsonl, not {format}", hint="name a file")
        if not formatted:
            output.format = Format.ndjson
        encoding = Encoding(files, listeners=Listeners(output.note, skipped), **common)
        output.rows((row for batch in encoding for row in rows_of(batch)), COLUMNS[:3])
        skipped.close()
        return
    kind = check_format(target, format)
    with output.progress("records") as advance:
        listeners = Listeners(output.note, skipped, advance)
        encoding = Encoding(files, listeners=listeners, **common)
        report = encode_to(target, encoding, format=kind, force=force)
    skipped.close()
    output.summary(f"{report} → {target}")


def _json_object(flag: str, text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{flag}: this is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise UsageError(f"{flag}: expected a JSON object")
    return value
