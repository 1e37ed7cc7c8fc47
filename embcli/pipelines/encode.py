"""From files to vectors in a store."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB, DEFAULT_MODEL
from embcli.encoders import CHANGES, MODELS, Encoder, EncoderOptions, load_encoder, options_of
from embcli.errors import InputError, StoreError, UsageError, counted
from embcli.formats import Problem, ReadOptions
from embcli.formats.images import load_image
from embcli.formats.inputs import Inputs, expand
from embcli.formats.reader import Reader
from embcli.formats.remote import without_secrets
from embcli.pipelines.chunking import Chunker, Chunking, Span, pieces
from embcli.pipelines.compress import keep_coded
from embcli.store import Chunks, Record, Store, Written
from embcli.store.chunks import TOKENS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embcli.encoders.recipe import Recipe
    from embcli.encoders.tokens import Tokens

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_RECORDS_AT_ONCE = 8192
_CHARACTERS_AT_ONCE = 1 << 23
# A costly encoder begins with little, to find out how fast it is.
_FIRST_CHARACTERS = 1 << 14
_FEWEST_CHARACTERS = 1 << 13
_SECONDS_AT_ONCE = 3.0
_CHARACTERS_PER_IMAGE = 1 << 11
_PIXELS_AT_ONCE = 1 << 27
# Where every token has a vector, these take some hundred bytes for each character.
_CHARACTERS_OF_TOKENS = 1 << 18


@dataclass
class EncodeReport:
    """What an encode did, in numbers of records.

    Attributes
    ----------
    records : int
        Read and now in the collection: new, updated and unchanged ones together.
    encoded : int
        Of these, how many texts or pictures went through the encoder.
    chunks : int
        Into how many chunks these were cut, if they were.
    tokens : int
        How many vectors of tokens these got, in a multi-vector collection.
    reused : int
        How many needed no encoding, because the store had the vector of their text.
    updated : int
        How many were there before with another text, metadata or source.
    skipped : int
        Malformed or empty, and so not stored.
    malformed : int
        Those of the skipped that could not be read.
    truncated : int
        Texts, or chunks of texts, cut to the model's maximum length.
    pruned : int
        Deleted because they vanished from the source.
    total : int
        Records in the collection afterwards.
    seconds : float
    """

    records: int = 0
    encoded: int = 0
    chunks: int = 0
    tokens: int = 0
    reused: int = 0
    updated: int = 0
    skipped: int = 0
    malformed: int = 0
    truncated: int = 0
    pruned: int = 0
    total: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        chunks = f" in {counted(self.chunks, 'chunk')}" if self.chunks else ""
        chunks += f" as {counted(self.tokens, 'token')}" if self.tokens else ""
        pruned = f", pruned {self.pruned:,}" if self.pruned else ""
        return (
            f"encoded {self.encoded:,}{chunks}, reused {self.reused:,}, "
            f"updated {self.updated:,}, skipped {self.skipped:,}, "
            f"truncated {self.truncated:,}{pruned} in {self.seconds:.2f} s"
        )


@dataclass(frozen=True)
class Listeners:
    """Who is told what while an encode runs.

    Attributes
    ----------
    note : callable
        Told what was found out about the input and the model.
    problem : callable
        Told of every record skipped.
    progress : callable
        Told after every batch: bytes read, bytes in all (0 if unknown), records done.
    more : callable
        Told how many more were skipped that are not named, and how many of these are malformed.
    """

    note: Callable[[str], None] = lambda message: None
    problem: Callable[[Problem], object] = lambda problem: None
    progress: Callable[[int, int, int], None] = lambda done, total, records: None
    more: Callable[[int, int], object] = lambda skipped, malformed: None


@dataclass(frozen=True)
class ChunkRow:
    """A chunk as `encode` would cut it; `tokens` is None where the model has none."""

    id: str
    number: int
    start: int
    end: int
    tokens: int | None
    text: str


def encode(
    inputs: Paths,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    model: str | None = None,
    options: EncoderOptions | None = None,
    chunk: str | None = None,
    storage: str | None = None,
    read: ReadOptions | None = None,
    strict: bool = False,
    prune: bool = False,
    listeners: Listeners | None = None,
) -> EncodeReport:
    """Encode files into a collection of a store.

    Records are committed in batches as they come; a run that was interrupted is resumed by
    running it again, since a text whose vector is stored is not encoded again.

    Parameters
    ----------
    inputs : path or sequence of paths
        Files, directories, glob patterns, or "-" for standard input.
    db : path
        Created if it does not exist.
    collection : str
        Created if it does not exist.
    model : str, optional
        The collection's own if it exists, else "static".
    options : EncoderOptions, optional
        How to load and change the model; what is left out is as in the collection, if it exists.
    chunk : str, optional
        Cut texts, as in ``tokens=256,overlap=32``: see `embcli.pipelines.chunking.Chunking`. As
        in the collection, if it exists.
    storage : {"float32", "float16"}, optional
        How a new collection stores vectors.
    read : ReadOptions, optional
    strict : bool
        Stop at the first record that cannot be stored.
    prune : bool
        Delete records that came from these inputs before and are not in them any more; not
        done when part of the input could not be read.
    listeners : Listeners, optional

    Returns
    -------
    report : EncodeReport

    Raises
    ------
    InputError
        An input does not exist; or, if `strict`, the first record that cannot be stored.
    ModelError, StoreError, UsageError
    """
    started = time.perf_counter()
    listeners = listeners or Listeners()
    encoder, chunking = prepare(db, collection, model, options, chunk, listeners)
    found = find_inputs(inputs, db, listeners, images=encoder.takes_images, may_be_empty=prune)
    reader = Reader(found.sources, read, listeners.note)
    sizes = sum(source.size for source in found.sources)
    arguments = {
        "inputs": list(map(without_secrets, _as_list(inputs))), "model": model,
        "strict": strict, "prune": prune,
        "chunk": chunk, "read": asdict(read or ReadOptions()),
    }  # fmt: skip
    # Closed at once, whatever happens: what is left to the garbage collector stays open meanwhile.
    with closing(encoder), closing(iter(reader)) as records, Store(db) as store:
        chunker = None if chunking is None else Chunker(chunking, encoder)
        recipe = encoder.recipe()
        cut = TOKENS if recipe.multivector else chunking.json if chunking else None
        target = store.create_collection(collection, recipe, storage, cut)
        with store.run("encode", collection, arguments) as counts:
            report = EncodeReport()
            noted = False
            batches = Batches(chain(found.problems, records), encoder)
            seen = store.seen_ids()
            with BatchWriter(seen, target, encoder, chunker, report, listeners, strict) as writer:
                for batch in chain(batches, [None]):
                    # The encoder works on a batch while the one before is written.
                    if writer.take(batch):
                        store.index_texts()
                        if not noted and (notes := encoder.space_notes()):
                            noted = True
                            store.note_space(encoder.recipe().hash, **notes)
                        listeners.progress(reader.bytes_read, sizes, report.records)
                    batches.pace(writer.pace)
            if prune and report.malformed:
                skipped = counted(report.malformed, "record")
                listeners.note(f"nothing pruned, because {skipped} had to be skipped")
            elif prune:
                report.pruned = target.prune(found.vanished_from(target.source_counts()))
            if writer.replaced:
                replaced = counted(writer.replaced, "record")
                listeners.note(f"{replaced} of the same id came from another file before")
            keep_coded(target)
            report.total = len(target)
            report.seconds = round(time.perf_counter() - started, 3)
            counts.update(asdict(report) | encoder.facts())
    return report


def preview(
    inputs: Paths,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    model: str | None = None,
    options: EncoderOptions | None = None,
    chunk: str | None = None,
    read: ReadOptions | None = None,
    strict: bool = False,
    listeners: Listeners | None = None,
    limit: int = 10,
) -> Iterator[Record]:
    """Read the first records as `encode` would store them, and store nothing.

    Parameters
    ----------
    inputs, db, collection, model, options, chunk, read, strict, listeners
        As for `encode`; `db` need not exist.
    limit : int
        How many records.
    """
    listeners = listeners or Listeners()
    encoder, _ = prepare(db, collection, model, options, chunk, listeners)
    found = find_inputs(inputs, db, listeners, images=encoder.takes_images)
    first: dict[str, Record] = {}
    for result in chain(found.problems, Reader(found.sources, read, listeners.note)):
        if isinstance(result, Record) and result.id in first:
            result = _repeated(result, first[result.id].source)
        if isinstance(result, Problem):
            if strict:
                raise stop_at(result)
            listeners.problem(result)
            continue
        yield result
        first[result.id] = result
        if len(first) == limit:
            return


def preview_chunks(
    inputs: Paths,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    model: str | None = None,
    options: EncoderOptions | None = None,
    chunk: str | None = None,
    read: ReadOptions | None = None,
    strict: bool = False,
    listeners: Listeners | None = None,
    limit: int = 10,
) -> Iterator[ChunkRow]:
    """Cut the first records as `encode` would, and store nothing.

    Parameters
    ----------
    inputs, db, collection, model, options, chunk, read, strict, listeners
        As for `encode`; `db` need not exist.
    limit : int
        How many records.

    Raises
    ------
    UsageError
        It is not said how to cut.
    """
    encoder, chunking = prepare(db, collection, model, options, chunk, listeners or Listeners())
    if chunking is None:
        raise UsageError("say how to cut the texts", hint="--chunk tokens=256,overlap=32")
    chunker, tokenizer = Chunker(chunking, encoder), encoder.tokenizer()
    for record in preview(
        inputs,
        db=db,
        collection=collection,
        model=model,
        options=options,
        read=read,
        strict=strict,
        listeners=listeners,
        limit=limit,
    ):
        spans = chunker.spans(record.text)
        for number, (start, end) in enumerate(spans):
            text = record.text[start:end]
            tokens = None
            if tokenizer is not None:
                own = len(tokenizer.encode(text, add_special_tokens=False).ids)
                tokens = own + encoder.tokens_around
            yield ChunkRow(record.id, number, start, end, tokens, text)


def _as_list(inputs: Paths) -> list[str]:
    if isinstance(inputs, str | os.PathLike):
        return [os.fspath(inputs)]
    return [os.fspath(path) for path in inputs]


def find_inputs(
    inputs: Paths,
    db: str | os.PathLike[str],
    listeners: Listeners,
    *,
    images: bool,
    may_be_empty: bool = False,
) -> Inputs:
    """Find the files to read, whose names are relative to the folder of the store."""
    base = os.path.dirname(os.path.abspath(db))
    found = expand(_as_list(inputs), base, may_be_empty=may_be_empty, images=images)
    if found.ignored:
        files = counted(found.ignored, "file")
        listeners.note(f"passed over {files} that no reader is for")
    if found.parts:
        folders = counted(found.parts, "folder")
        listeners.note(f"passed over {folders} of parts that an encode made (see: embcli import)")
    if found.pictures:
        pictures = counted(found.pictures, "picture")
        listeners.note(f"passed over {pictures}: this model takes none (see: embcli models)")
    return found


def prepare(
    db: str | os.PathLike[str],
    collection: str | None,
    model: str | None,
    options: EncoderOptions | None,
    chunk: str | None,
    listeners: Listeners,
) -> tuple[Encoder, Chunking | None]:
    """Find the encoder and the chunking: as asked for, else as in the collection, if any."""
    options = replace(options or EncoderOptions(), store=os.fspath(db))
    if model is not None and model not in MODELS and os.path.isdir(model):
        model = os.path.abspath(model)
    recipe, stored = (None, None) if collection is None else _stored(db, collection)
    if recipe is not None and recipe.base is not None:
        raise UsageError(
            f"collection {collection!r} has mapped vectors, which no model makes",
            hint="encode into the collection that was mapped, then map that again: embcli align "
            "apply, debias apply or whiten apply",
        )
    if recipe is not None and model in (None, recipe.model):
        model = recipe.model
        stored_options = options_of(recipe, trusted=options.trust_remote_code)
        options = _completed(options, stored_options)
    encoder = load_encoder(model or DEFAULT_MODEL, options, listeners.note)
    spec = Chunking.from_json(stored) if stored and stored != TOKENS else None
    if chunk is not None:
        spec = Chunking.parse(chunk)
    if spec is not None and encoder.recipe().multivector:
        raise UsageError(
            "--chunk is for one vector a chunk, and with --pooling none there is one a token",
            hint="leave out one of them, and use another --collection",
        )
    return encoder, spec


def _stored(db: str | os.PathLike[str], collection: str) -> "tuple[Recipe | None, str | None]":
    """Return the recipe and the chunking of a collection, if there is such a collection."""
    if not os.path.exists(db) or os.path.getsize(db) == 0:
        return None, None
    try:
        with Store(db, readonly=True) as store:
            found = store.collection(collection)
            return found.recipe, found.chunking
    except StoreError:
        return None, None  # opening the store for writing says what is wrong if anything is


def _completed(options: EncoderOptions, stored: EncoderOptions) -> EncoderOptions:
    """Take what the options leave open from those of the collection."""
    empty = EncoderOptions()
    left_open = {
        field.name: getattr(stored, field.name)
        for field in fields(options)
        if field.name in CHANGES and getattr(options, field.name) == getattr(empty, field.name)
    }
    if options.prompt_name is not None:
        left_open.pop("prompt", None)
    return replace(options, **left_open)


class Batches:
    """Groups what is read into batches that are encoded and committed together.

    For a costly encoder they are as large as goes through it in a few seconds: that is how much
    work an interruption may lose.
    """

    def __init__(self, results: Iterable[Record | Problem], encoder: Encoder) -> None:
        self._results = results
        tokens = encoder.recipe().multivector
        self._limit = _CHARACTERS_OF_TOKENS if tokens else _CHARACTERS_AT_ONCE
        self._most = _FIRST_CHARACTERS if encoder.costly else self._limit

    def __iter__(self) -> Iterator[list[Record | Problem]]:
        batch: list[Record | Problem] = []
        characters = pixels = 0
        for result in self._results:
            batch.append(result)
            if isinstance(result, Record):
                characters += _weight(result)
                if result.image is not None:
                    pixels += result.meta["width"] * result.meta["height"]
            full = characters >= self._most or pixels >= _PIXELS_AT_ONCE
            if full or len(batch) >= _RECORDS_AT_ONCE:
                yield batch
                batch, characters, pixels = [], 0, 0
        if batch:
            yield batch

    def pace(self, characters_per_second: float | None) -> None:
        """Adapt the size of batches to how fast they are encoded."""
        if characters_per_second is not None:
            wanted = int(characters_per_second * _SECONDS_AT_ONCE)
            wanted = max(_FEWEST_CHARACTERS, min(wanted, 4 * self._most))
            self._most = min(wanted, self._limit)


def _weight(record: Record) -> int:
    """Tell what encoding a record costs, in characters."""
    if record.image is not None:
        return _CHARACTERS_PER_IMAGE
    return len(record.text) + len(record.meta_json)


@dataclass
class _Work:
    """Records that need vectors, on their way through the encoder.

    `spans` are how their texts are cut, if they are; `failed` says of those that will get no
    vector why. `vectors` has a row for each record, or for each of its chunks; or for each record
    its tokens.
    """

    records: list[Record]
    spans: list[list[Span]] | None
    failed: dict[str, str]
    vectors: "Future[NDArray[np.float32] | list[Tokens]]"


class Seen(Protocol):
    """A set of ids, such as `SeenIds`."""

    def add(self, ids: Iterable[str]) -> set[str]:
        """Add ids, and return those that were in already."""


class Target(Protocol):
    """Where records go with their vectors: a `Collection`, or what stands in for one."""

    def sources(self, ids: Iterable[str]) -> dict[str, str]:
        """Look up where records came from; ids that are not there are left out."""

    def missing(self, records: Sequence[Record]) -> list[Record]:
        """Which records need vectors, one per distinct text."""

    def write(
        self, records: Sequence[Record], vectors: "Mapping[str, NDArray[np.float32] | Chunks]"
    ) -> Written | None:
        """Take records, or none of them if vectors are missing."""


class BatchWriter:
    """Takes batches of what was read through the encoder to where they go.

    A costly encoder works in a thread of its own: while a batch goes through it, the next one is
    read and the one before is written, so that it never waits for files or the store.
    """

    def __init__(
        self,
        seen: Seen,
        target: Target,
        encoder: Encoder,
        chunker: Chunker | None,
        report: EncodeReport,
        listeners: Listeners,
        strict: bool,
    ) -> None:
        self._target = target
        self._encoder = encoder
        self._chunker = chunker
        self._report = report
        self._listeners = listeners
        self._strict = strict
        self._seen = seen
        self._thread = ThreadPoolExecutor(1, "encoder") if encoder.costly else None
        self._per_token = encoder.recipe().multivector
        self._under_way: tuple[list[Record], _Work] | None = None
        self.replaced = 0
        self.pace: float | None = None

    def __enter__(self) -> "BatchWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._encoder.cancel()
            if not issubclass(kind, Exception | GeneratorExit):
                self._listeners.note("stopping as soon as the model lets go")
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def take(self, batch: Sequence[Record | Problem] | None) -> bool:
        """Begin to encode a batch, and write the one before; None is the end of all batches.

        Returns
        -------
        written : bool
            Whether a batch was written.
        """
        if batch is None:
            return self._finish()
        records: list[Record] = []
        for result in self._without_repeats(batch):
            if isinstance(result, Record):
                records.append(result)
                continue
            if self._strict:
                self._begin(records)
                self._finish()
            elif result.id is not None and self._target.sources([result.id]):
                message = f"{result.message}; the one stored before stays (unless --prune)"
                result = replace(result, message=message)
            self._skip(result)
        return self._begin(records)

    def _finish(self) -> bool:
        """Write what is under way, if anything is."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            self._write(*under_way)
        return under_way is not None

    def _skip(self, problem: Problem) -> None:
        self._report.skipped += 1
        self._report.malformed += problem.kind == "malformed"
        if self._strict:
            raise stop_at(problem)
        self._listeners.problem(problem)

    def _without_repeats(self, batch: Sequence[Record | Problem]) -> Iterator[Record | Problem]:
        """Replace records whose id was read before in this run by problems."""
        first: dict[str, Record] = {}
        for result in batch:
            if isinstance(result, Record):
                first.setdefault(result.id, result)
        before = self._seen.add(first)
        earlier = self._target.sources(before)
        if self._under_way is not None:
            earlier |= {record.id: record.source for record in self._under_way[0]}
        for result in batch:
            if isinstance(result, Record):
                source = earlier.get(result.id)
                if source is None and first[result.id] is not result:
                    source = first[result.id].source
                if source is not None:
                    yield _repeated(result, source)
                    continue
            yield result

    def _begin(self, records: list[Record]) -> bool:
        """Hand a batch to the encoder, then write the one before."""
        if not records:
            return False
        new = self._target.missing(records)
        if self._under_way is not None:
            coming = {record.hash for record in self._under_way[1].records}
            new = [record for record in new if record.hash not in coming]
        work = self._submit(new)
        written = self._finish()
        self._under_way = records, work
        return self._finish() if self._thread is None else written

    def _submit(self, records: Sequence[Record]) -> _Work:
        """Prepare what the encoder takes, and hand it over."""
        failed: dict[str, str] = {}
        taken: list[Record] = []
        inputs: list[list[Any]] = []
        spans: list[list[Span]] = []
        for record in records:
            if record.image is not None:
                try:
                    inputs.append([load_image(record.image)])
                except InputError as error:
                    failed[record.hash] = error.message
                    continue
                spans.append([(0, len(record.text))])
            elif self._chunker is None:
                inputs.append([record.text])
            else:
                spans.append(self._chunker.spans(record.text))
                inputs.append(pieces(record.text, spans[-1]))
            taken.append(record)
        flat = list(chain.from_iterable(inputs))
        weight = sum(map(_weight, taken))
        if self._thread is not None:
            vectors = self._thread.submit(self._encode, flat, weight)
        else:
            vectors = Future()
            vectors.set_result(self._encode(flat, weight))
        return _Work(taken, spans if self._chunker is not None else None, failed, vectors)

    def _encode(self, inputs: list[Any], weight: int) -> "NDArray[np.float32] | list[Tokens]":
        """Encode texts and pictures, which may be mixed."""
        import numpy as np

        started = time.perf_counter()
        if self._per_token:
            tokens = self._encoder.encode_tokens(inputs)
            if inputs:
                self.pace = weight / (time.perf_counter() - started)
            return tokens
        is_text = np.fromiter((isinstance(item, str) for item in inputs), np.bool_, len(inputs))
        vectors = np.empty((len(inputs), self._encoder.dim), np.float32)
        for chosen in (is_text, ~is_text):
            if chosen.any():
                some = [inputs[i] for i in np.flatnonzero(chosen).tolist()]
                vectors[chosen] = self._encoder.encode(some)
        if inputs:
            self.pace = weight / (time.perf_counter() - started)
        return vectors

    def _write(self, records: Sequence[Record], work: _Work) -> None:
        vectors: dict[str, NDArray[np.float32] | Chunks] = {}
        failed: dict[str, str] = {}
        while True:
            self._collect(work, vectors, failed)
            kept = [record for record in records if record.hash not in failed]
            written = self._target.write(kept, vectors)
            if written is not None:
                break
            # Another process changed the store meanwhile, or what was to come from the batch
            # before turned out to have nothing in it.
            missing = self._target.missing(kept)
            work = self._submit([record for record in missing if record.hash not in vectors])
        for record in records:
            if record.hash in failed:
                self._skip(_failure(record, failed[record.hash]))
        self._report.records += len(kept)
        self._report.reused += len(kept) - len(vectors)
        self._report.encoded += len(vectors)
        parts = sum(isinstance(v, Chunks) and len(v.spans) for v in vectors.values())
        if self._per_token:
            self._report.tokens += parts
        else:
            self._report.chunks += parts
        self._report.truncated = self._encoder.truncated
        self._report.updated += written.changed + written.refreshed
        self.replaced += written.replaced

    def _collect(
        self,
        work: _Work,
        vectors: "dict[str, NDArray[np.float32] | Chunks]",
        failed: dict[str, str],
    ) -> None:
        """Wait for the encoder, and sort its rows by what they belong to."""
        import numpy as np

        rows = work.vectors.result()
        failed |= work.failed
        if isinstance(rows, list):
            for record, tokens in zip(work.records, rows, strict=True):
                if len(tokens.spans):
                    vectors[record.hash] = Chunks(*tokens)
                else:
                    failed[record.hash] = ""
            return
        start = 0
        for i, record in enumerate(work.records):
            end = start + (1 if work.spans is None else len(work.spans[i]))
            own = rows[start:end]
            start = end
            if not own.any():
                failed[record.hash] = ""
            elif work.spans is None:
                vectors[record.hash] = own[0]
            else:
                vectors[record.hash] = Chunks(own, np.array(work.spans[i], np.int64))


def _failure(record: Record, reason: str) -> Problem:
    source, _, line = record.source.rpartition(":")
    if reason:
        return Problem(source, int(line or 0), reason)
    return Problem(source, int(line or 0), f"record {record.id!r} has nothing to encode", "empty")


def stop_at(problem: Problem) -> InputError:
    """Say that a record stops everything."""
    return InputError(str(problem), hint="without --strict such records are skipped and reported")


def _repeated(record: Record, first: str) -> Problem:
    source, _, line = record.source.rpartition(":")
    return Problem(source, int(line), f"id {record.id!r} was already read at {first}")
