"""One part: from its slice of the inputs to a file that is there or not."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from xxhash import xxh3_128

import embcli
from embcli.encoders import Encoder, EncoderOptions, load_encoder, options_of
from embcli.errors import InputError, ModelError, UsageError
from embcli.formats import Problem
from embcli.formats.reader import Reader
from embcli.formats.slices import changed, read_slice
from embcli.formats.source import named
from embcli.pipelines.chunking import Chunker, Chunking
from embcli.pipelines.encode import Batches, BatchWriter, EncodeReport, Listeners, stop_at
from embcli.pipelines.shards.files import PartFile
from embcli.pipelines.shards.folder import Folder, as_json, open_folder, read_json
from embcli.pipelines.shards.plan import FORMAT, Plan
from embcli.store import Record

_PROBLEMS_NAMED = 10
_READ_AT_ONCE = 1 << 20


@dataclass
class PartReport:
    """What was written into a part.

    Attributes
    ----------
    number : int
        From 0.
    rows : int
        Records.
    vectors : int
        As many, or more where texts are cut or every token has one.
    encoded : int
        Texts or pictures that went through the encoder.
    skipped : int
        Malformed, empty or repeated within the part, and so not in it.
    malformed : int
        Those of the skipped that could not be read.
    problems : list of Problem
        The first of the skipped.
    truncated : int
        Texts, or chunks of texts, cut to the model's maximum length.
    seconds : float
    bytes : int
        Of the file.
    sum : str
        XXH3 of the file, 128 bits in hexadecimal.
    notes : dict
        What is to be noted of the space, as arguments of `Store.note_space`.
    existed : bool
        It was there, and nothing was done.
    """

    number: int
    rows: int = 0
    vectors: int = 0
    encoded: int = 0
    skipped: int = 0
    malformed: int = 0
    problems: list[Problem] = field(default_factory=list)
    truncated: int = 0
    seconds: float = 0.0
    bytes: int = 0
    sum: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    existed: bool = False


def part_name(number: int) -> str:
    """Name the file of a part."""
    return f"part-{number:05d}.parquet"


def report_name(number: int) -> str:
    """Name what is written beside a part."""
    return f"part-{number:05d}.json"


def open_encoder(
    plan: Plan,
    options: EncoderOptions | None = None,
    *,
    device: str | None = None,
    trust_remote_code: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> Encoder:
    """Load the encoder of a plan.

    Parameters
    ----------
    plan : Plan
    options : EncoderOptions, optional
        How to load and run it, as it was planned with; what the recipe says, if None.
    device : str, optional
        In the place of that of `options`.
    trust_remote_code : bool
        Run code that comes with the model, if `options` is None.
    note : callable

    Raises
    ------
    ModelError
        The model or this embcli is not that of the plan.
    """
    if plan.version != embcli.__version__:
        raise ModelError(
            f"{plan.name} was planned by embcli {plan.version}, and this is {embcli.__version__}",
            hint=f"pip install embcli=={plan.version}, or another --to",
        )
    if options is None:
        options = options_of(plan.recipe, trusted=trust_remote_code)
    if device is not None:
        options = replace(options, device=device)
    encoder = load_encoder(plan.recipe.model, replace(options, store=plan.store), note)
    _check_space(plan, encoder)
    return encoder


def _check_space(plan: Plan, encoder: Encoder) -> None:
    recipe = encoder.recipe()
    if recipe.hash != plan.recipe.hash:
        raise ModelError(
            f"the model {recipe.model!r} here is not the one that {plan.name} was planned for "
            f"({'; '.join(plan.recipe.differences(recipe))})",
            hint="the same files of the model on every machine",
        )


def open_chunker(plan: Plan, encoder: Encoder) -> Chunker | None:
    """Make what cuts texts as planned; None if they are not cut."""
    if plan.chunking is None:
        return None
    return Chunker(Chunking.from_json(plan.chunking), encoder)


def find_part(plan: Plan, number: int) -> PartReport | None:
    """Look whether a part is there; None if it is not, or not complete.

    Raises
    ------
    UsageError
        It is of another plan, or in another space.
    """
    folder = open_folder(plan.folder)
    report = read_report(plan, number, folder)
    if report is None or folder.size(part_name(number)) != report.bytes:
        return None
    return report


def read_report(plan: Plan, number: int, folder: Folder) -> PartReport | None:
    """Read what is known of a part that was written; see `find_part`."""
    try:
        found = read_json(folder, report_name(number))
    except InputError:
        return None  # its writer was stopped by a full disk, or worse
    if found is None or "plan" not in found:
        return None
    if (found.get("plan"), found.get("recipe")) != (plan.hash, plan.recipe.hash):
        raise UsageError(
            f"{folder.name}/{part_name(number)} is a part of something else, of another model "
            "or of other inputs",
            hint="another --to, or delete it",
        )
    return _as_report(found, number)


def _as_report(found: dict[str, Any], number: int) -> PartReport | None:
    """Read back what `_described` gave; None if it is damaged, or that of another part."""
    empty = asdict(PartReport(number))
    del empty["existed"]
    known: dict[str, Any] = {name: found.get(name) for name in empty}
    sound = known["number"] == number and all(
        isinstance(known[name], int | float if isinstance(value, float) else type(value))
        for name, value in empty.items()
    )
    if not sound:
        return None
    try:
        problems = [Problem(**problem) for problem in found["problems"]]
    except TypeError:
        return None
    if not all(isinstance(problem.line, int) for problem in problems):
        return None
    return PartReport(**{**known, "problems": problems})


def encode_part(
    plan: Plan,
    number: int,
    encoder: Encoder,
    *,
    chunker: Chunker | None = None,
    strict: bool = False,
    listeners: Listeners | None = None,
) -> PartReport:
    """Encode the records of a part into its file, unless it is there.

    The file appears under its name when it and what is known of it are complete. Whoever does a
    part once more at the same time does no harm.

    Parameters
    ----------
    plan : Plan
    number : int
        From 0.
    encoder : Encoder
        As `open_encoder` gives it; it may be used for any number of parts.
    chunker : Chunker, optional
        As `open_chunker` gives it; made if None and texts are to be cut.
    strict : bool
        Stop at the first record that cannot be encoded.
    listeners : Listeners, optional
        Progress is told in records of this part.

    Returns
    -------
    report : PartReport

    Raises
    ------
    InputError
        An input is not what it was when it was cut; or, if `strict`, a record cannot be encoded.
    ModelError
        The encoder is not that of the plan.
    UsageError
        There is a part of something else under this name, or it cannot be written.
    """
    existing = find_part(plan, number)
    if existing is not None:
        if strict and existing.skipped:
            raise stop_at(existing.problems[0])
        return replace(existing, existed=True)
    _check_space(plan, encoder)
    started = time.perf_counter()
    folder = open_folder(plan.folder, make=True)
    report = PartReport(number)
    draft = None
    said = False
    try:
        draft = folder.draft(part_name(number))
        report = _write(plan, number, encoder, chunker, strict, listeners or Listeners(), draft)
        report.seconds = round(time.perf_counter() - started, 3)
        report.bytes, report.sum = sum_up(draft)
        if find_part(plan, number) is None:
            said = True
            folder.write(report_name(number), as_json(_described(plan, report)))
            folder.commit(draft, part_name(number))
            return _settled(plan, report, folder)
    except (OSError, UsageError) as error:
        # Another process that was faster has tidied up; or the disk is full.
        if said and draft is not None and not draft.exists():
            return _settled(plan, replace(report, sum=""), folder)  # the file is not this one
        if find_part(plan, number) is None:
            if isinstance(error, UsageError):
                raise
            reason = error.strerror or str(error)
            raise UsageError(
                f"cannot write {folder.name}/{part_name(number)} ({reason})"
            ) from error
    finally:
        if draft is not None:
            folder.drop(draft)
    return replace(find_part(plan, number) or report, existed=True)


def _settled(plan: Plan, report: PartReport, folder: Folder) -> PartReport:
    """Let what is said of a part be of the file that is there.

    Of two processes that end a part at the same moment one may be the last to write the file, or
    the only one, and the other the last to say what it is: their files may differ. Whoever finds
    that it was not alone looks, after everything it writes, until the two agree.
    """
    known = read_report(plan, report.number, folder)
    if known is not None and known.sum == report.sum:
        return report
    ours = report.sum
    while True:
        with folder.local(part_name(report.number)) as path:
            size, found = sum_up(path)
        if known is not None and (known.bytes, known.sum) == (size, found):
            return replace(known, existed=found != ours)
        report = replace(report, bytes=size, sum=found)
        folder.write(report_name(report.number), as_json(_described(plan, report)))
        known = read_report(plan, report.number, folder)


def _write(
    plan: Plan,
    number: int,
    encoder: Encoder,
    chunker: Chunker | None,
    strict: bool,
    listeners: Listeners,
    draft: Path,
) -> PartReport:
    """Write the draft of a part."""
    report = PartReport(number)
    counts = EncodeReport()
    chunker = chunker or open_chunker(plan, encoder)
    facts = {
        "recipe": plan.settings, "chunking": plan.chunking, "plan": plan.hash, "part": number,
    }  # fmt: skip
    several = chunker is not None or plan.recipe.multivector
    truncated = encoder.truncated

    def take(problem: Problem) -> None:
        if len(report.problems) < _PROBLEMS_NAMED:
            report.problems.append(problem)

    own = replace(listeners, problem=take)
    file = PartFile(draft, plan.recipe.dim, several, facts)
    records = _records(plan, number, listeners)
    try:
        with (
            closing(records),
            BatchWriter(file, file, encoder, chunker, counts, own, strict) as writer,
        ):
            batches = Batches(records, encoder)
            for batch in chain(batches, [None]):
                writer.take(batch)
                listeners.progress(0, 0, counts.records)
                batches.pace(writer.pace)
        file.close()
    except BaseException:
        file.abort()
        raise
    report.rows, report.vectors = counts.records, file.rows
    report.encoded, report.truncated = counts.encoded, encoder.truncated - truncated
    report.skipped, report.malformed = counts.skipped, counts.malformed
    report.notes = encoder.space_notes()
    return report


def _records(
    plan: Plan, number: int, listeners: Listeners
) -> Generator[Record | Problem, None, None]:
    """Read what a part holds."""
    # What is found out about files was said when they were cut.
    quiet = Reader([], plan.read)
    for piece in plan.parts[number]:
        input = plan.inputs[piece.input]
        source, mark = input.source, input.source.mark
        by_lines = input.layout is not None and input.layout.unit == "lines"
        # Slices of lines have their own checksums.
        if source.size != input.size or not (by_lines or input.is_as_planned()):
            raise changed(source)
        with named(source):
            if piece.slice is None or input.layout is None:
                yield from Reader([source], plan.read, listeners.note, all_or_nothing=True)
            else:
                yield from read_slice(source, input.layout, piece.slice, plan.read, quiet)
        if not by_lines and source.mark != mark:
            raise changed(source)


def sum_up(path: Path) -> tuple[int, str]:
    """Count the bytes of a file, and take their checksum."""
    digest, size = xxh3_128(), 0
    with path.open("rb") as file:
        while chunk := file.read(_READ_AT_ONCE):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _described(plan: Plan, report: PartReport) -> dict[str, Any]:
    """Say of a part what is written beside it."""
    known = {
        "format": FORMAT, "embcli": plan.version, "plan": plan.hash, "recipe": plan.recipe.hash,
    }  # fmt: skip
    described = known | asdict(report)
    del described["existed"]
    return described
