"""From files to vectors in a store."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB, DEFAULT_MODEL
from embcli.encoders import Encoder, load_encoder
from embcli.errors import InputError, StoreError, counted
from embcli.formats import Problem, ReadOptions
from embcli.formats.inputs import Inputs, expand
from embcli.formats.reader import Reader
from embcli.store import Collection, Record, Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_RECORDS_AT_ONCE = 8192
_CHARACTERS_AT_ONCE = 1 << 23


@dataclass
class EncodeReport:
    """What an encode did, in numbers of records.

    Attributes
    ----------
    records : int
        Read and now in the collection: new, updated and unchanged ones together.
    encoded : int
        Of these, how many texts went through the encoder.
    reused : int
        How many needed no encoding, because the store had the vector of their text.
    updated : int
        How many were there before with another text, metadata or source.
    skipped : int
        Malformed or empty, and so not stored.
    malformed : int
        Those of the skipped that could not be read.
    truncated : int
        Texts cut to the model's maximum length.
    pruned : int
        Deleted because they vanished from the source.
    total : int
        Records in the collection afterwards.
    seconds : float
    """

    records: int = 0
    encoded: int = 0
    reused: int = 0
    updated: int = 0
    skipped: int = 0
    malformed: int = 0
    truncated: int = 0
    pruned: int = 0
    total: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        pruned = f", pruned {self.pruned:,}" if self.pruned else ""
        return (
            f"encoded {self.encoded:,}, reused {self.reused:,}, updated {self.updated:,}, "
            f"skipped {self.skipped:,}, truncated {self.truncated:,}{pruned} "
            f"in {self.seconds:.2f} s"
        )


@dataclass(frozen=True)
class Listeners:
    """Who is told what while an encode runs.

    Attributes
    ----------
    note : callable
        Told what was found out about the input.
    problem : callable
        Told of every record skipped.
    progress : callable
        Told after every batch: bytes read, bytes in all (0 if unknown), records done.
    """

    note: Callable[[str], None] = lambda message: None
    problem: Callable[[Problem], object] = lambda problem: None
    progress: Callable[[int, int, int], None] = lambda done, total, records: None


def encode(
    inputs: Paths,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    model: str | None = None,
    dtype: str | None = None,
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
    dtype : {"float32", "float16"}, optional
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
    found = _expand(inputs, db, listeners, may_be_empty=prune)
    reader = Reader(found.sources, read, listeners.note)
    sizes = sum(source.size for source in found.sources)
    encoder = load_encoder(model or _model_of(db, collection) or DEFAULT_MODEL)
    arguments = {
        "inputs": _as_list(inputs), "model": model, "strict": strict, "prune": prune,
        "read": asdict(read or ReadOptions()),
    }  # fmt: skip
    with Store(db) as store:
        target = store.create_collection(collection, encoder.recipe(), dtype)
        with store.run("encode", collection, arguments) as counts:
            report = EncodeReport()
            writer = _Writer(store, target, encoder, report, listeners, strict)
            for batch in _batches(chain(found.problems, reader)):
                writer.take(batch)
                store.index_texts()
                listeners.progress(reader.bytes_read, sizes, report.records)
            if prune and report.malformed:
                skipped = counted(report.malformed, "record")
                listeners.note(f"nothing pruned, because {skipped} had to be skipped")
            elif prune:
                report.pruned = target.prune(found.vanished_from(target.source_counts()))
            if writer.replaced:
                replaced = counted(writer.replaced, "record")
                listeners.note(f"{replaced} of the same id came from another file before")
            report.total = len(target)
            report.seconds = round(time.perf_counter() - started, 3)
            counts.update(asdict(report))
    return report


def preview(
    inputs: Paths,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    read: ReadOptions | None = None,
    strict: bool = False,
    listeners: Listeners | None = None,
    limit: int = 10,
) -> Iterator[Record]:
    """Read the first records as `encode` would store them, and store nothing.

    Parameters
    ----------
    inputs, db, read, strict, listeners
        As for `encode`; `db` need not exist.
    limit : int
        How many records.
    """
    listeners = listeners or Listeners()
    found = _expand(inputs, db, listeners)
    first: dict[str, Record] = {}
    for result in chain(found.problems, Reader(found.sources, read, listeners.note)):
        if isinstance(result, Record) and result.id in first:
            result = _repeated(result, first[result.id].source)
        if isinstance(result, Problem):
            if strict:
                raise _stop_at(result)
            listeners.problem(result)
            continue
        yield result
        first[result.id] = result
        if len(first) == limit:
            return


def _as_list(inputs: Paths) -> list[str]:
    if isinstance(inputs, str | os.PathLike):
        return [os.fspath(inputs)]
    return [os.fspath(path) for path in inputs]


def _expand(
    inputs: Paths,
    db: str | os.PathLike[str],
    listeners: Listeners,
    *,
    may_be_empty: bool = False,
) -> Inputs:
    found = expand(
        _as_list(inputs), os.path.dirname(os.path.abspath(db)), may_be_empty=may_be_empty
    )
    if found.ignored:
        files = counted(found.ignored, "file")
        listeners.note(f"passed over {files} that no reader of JSON, CSV or text is for")
    return found


def _model_of(db: str | os.PathLike[str], collection: str) -> str | None:
    """Return the model of a collection, if there is such a collection."""
    if not os.path.exists(db) or os.path.getsize(db) == 0:
        return None
    try:
        with Store(db, readonly=True) as store:
            return store.collection(collection).recipe.model
    except StoreError:
        return None  # opening the store for writing, next, says what is wrong if anything is


def _batches(results: Iterable[Record | Problem]) -> Iterator[list[Record | Problem]]:
    batch: list[Record | Problem] = []
    characters = 0
    for result in results:
        batch.append(result)
        if isinstance(result, Record):
            characters += len(result.text) + len(result.meta_json)
        if len(batch) >= _RECORDS_AT_ONCE or characters >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


class _Writer:
    """Takes batches of what was read through the encoder into the collection."""

    def __init__(
        self,
        store: Store,
        target: Collection,
        encoder: Encoder,
        report: EncodeReport,
        listeners: Listeners,
        strict: bool,
    ) -> None:
        self._target = target
        self._encoder = encoder
        self._report = report
        self._listeners = listeners
        self._strict = strict
        self._seen = store.seen_ids()
        self.replaced = 0

    def take(self, batch: Sequence[Record | Problem]) -> None:
        records: list[Record] = []
        for result in self._without_repeats(batch):
            if isinstance(result, Record):
                records.append(result)
                continue
            self._report.skipped += 1
            self._report.malformed += result.kind == "malformed"
            if self._strict:
                self._store(records)
                raise _stop_at(result)
            if result.id is not None and self._target.sources([result.id]):
                message = f"{result.message}; the one stored before stays (unless --prune)"
                result = replace(result, message=message)
            self._listeners.problem(result)
        self._store(records)

    def _without_repeats(self, batch: Sequence[Record | Problem]) -> Iterator[Record | Problem]:
        """Replace records whose id was read before in this run by problems."""
        first: dict[str, Record] = {}
        for result in batch:
            if isinstance(result, Record):
                first.setdefault(result.id, result)
        before = self._seen.add(first)
        earlier = self._target.sources(before)
        for result in batch:
            if isinstance(result, Record):
                source = earlier.get(result.id)
                if source is None and first[result.id] is not result:
                    source = first[result.id].source
                if source is not None:
                    yield _repeated(result, source)
                    continue
            yield result

    def _store(self, records: list[Record]) -> None:
        if not records:
            return
        vectors: dict[str, NDArray[np.float32]] = {}
        empty: set[str] = set()
        while True:
            self._encode(self._target.missing(records), vectors, empty)
            kept = [record for record in records if record.hash not in empty]
            written = self._target.write(kept, vectors)
            if written is not None:
                break
        for record in records:
            if record.hash in empty:
                self._report.skipped += 1
                source, _, line = record.source.rpartition(":")
                message = f"record {record.id!r} has nothing to encode"
                self._listeners.problem(Problem(source, int(line or 0), message, "empty"))
        self._report.records += len(kept)
        self._report.reused += len(kept) - len(vectors)
        self._report.encoded += len(vectors)
        self._report.updated += written.changed + written.refreshed
        self.replaced += written.replaced

    def _encode(
        self,
        records: Sequence[Record],
        vectors: dict[str, Any],
        empty: set[str],
    ) -> None:
        new = [r for r in records if r.hash not in vectors and r.hash not in empty]
        if not new:
            return
        cut_before = self._encoder.truncated
        for record, vector in zip(
            new, self._encoder.encode([r.text for r in new], "document"), strict=True
        ):
            if vector.any():
                vectors[record.hash] = vector
            else:
                empty.add(record.hash)
        self._report.truncated += self._encoder.truncated - cut_before


def _stop_at(problem: Problem) -> InputError:
    return InputError(str(problem), hint="without --strict such records are skipped and reported")


def _repeated(record: Record, first: str) -> Problem:
    source, _, line = record.source.rpartition(":")
    return Problem(source, int(line), f"id {record.id!r} was already read at {first}")
