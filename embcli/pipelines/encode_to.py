"""From files to vectors without a store: into a file, or out of a pipe."""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from embcli.config import DEFAULT_DB
from embcli.encoders import EncoderOptions
from embcli.errors import InputError, UsageError
from embcli.formats import ReadOptions
from embcli.formats.inputs import Inputs
from embcli.formats.reader import Reader
from embcli.formats.target import complete_files
from embcli.formats.vectors import WRITERS, VectorBatch, files_beside, find_class, format_of
from embcli.formats.vectors.embcli_store import chunk_rows
from embcli.formats.vectors.writing import write_vectors
from embcli.pipelines.chunking import Chunker
from embcli.pipelines.encode import (
    Batches,
    BatchWriter,
    EncodeReport,
    Listeners,
    Paths,
    find_inputs,
    prepare,
)  # fmt: skip
from embcli.store import Chunks, Record, Written

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Encoding:
    """Files on their way to vectors, in the batches of `encode`, without a store.

    Parameters
    ----------
    inputs, model, options, chunk, read, strict, listeners
        As of `embcli.pipelines.encode.encode`; the default model is "static".
    db : path
        Names of files are relative to its folder. It need not exist, and is not changed.

    Attributes
    ----------
    recipe : dict
        What the vectors mean.
    dim : int
    report : EncodeReport
        Up to the batch that was given last.
    """

    def __init__(
        self,
        inputs: Paths,
        *,
        db: str | os.PathLike[str] = DEFAULT_DB,
        model: str | None = None,
        options: EncoderOptions | None = None,
        chunk: str | None = None,
        read: ReadOptions | None = None,
        strict: bool = False,
        listeners: Listeners | None = None,
    ) -> None:
        self._listeners = listeners or Listeners()
        self._encoder, chunking = prepare(db, None, model, options, chunk, self._listeners)
        self._chunker = None if chunking is None else Chunker(chunking, self._encoder)
        self._found: Inputs = find_inputs(
            inputs, db, self._listeners, images=self._encoder.takes_images
        )
        self._read = read
        self._strict = strict
        self.recipe: dict[str, Any] = json.loads(self._encoder.recipe().json)
        self.dim = self._encoder.dim
        self.report = EncodeReport()

    def check_is_no_input(self, path: str | os.PathLike[str]) -> None:
        """Refuse to write over what is read.

        Raises
        ------
        UsageError
        """
        for source in self._found.sources:
            if source.path and os.path.exists(path) and os.path.samefile(path, source.path):
                raise UsageError(f"{os.fspath(path)} is an input", hint="--to another name")

    def __iter__(self) -> Iterator[VectorBatch]:
        started = time.perf_counter()
        sources = self._found.sources
        reader = Reader(sources, self._read, self._listeners.note)
        size = sum(source.size for source in sources)
        rows = _Rows()
        encoder, listeners = self._encoder, self._listeners
        records = iter(reader)
        batches = Batches(chain(self._found.problems, records), encoder)
        with (
            closing(encoder),
            closing(records),
            BatchWriter(
                rows, rows, encoder, self._chunker, self.report, listeners, self._strict
            ) as writer,
        ):
            for batch in chain(batches, [None]):
                writer.take(batch)
                yield from rows.take()
                self.report.total = self.report.records
                self.report.seconds = round(time.perf_counter() - started, 3)
                listeners.progress(reader.bytes_read, size, self.report.records)
                batches.pace(writer.pace)


def encode_to(
    target: str | os.PathLike[str],
    encoding: Encoding,
    *,
    format: str | None = None,
    force: bool = False,
) -> EncodeReport:
    """Encode files into a file of vectors, which appears when it is complete.

    Parameters
    ----------
    target : path
    encoding : Encoding
    format : str, optional
        A key of `embcli.formats.vectors.WRITERS`; what the ending says if None.
    force : bool
        Replace files that are there.

    Raises
    ------
    InputError
        There is nothing to write; or, if strict, the first record that cannot be encoded.
    ModelError, UsageError
    """
    kind = check_format(target, format)
    beside = files_beside(target, kind)
    for path in (target, *beside):
        encoding.check_is_no_input(path)
    with complete_files(target, beside, force=force) as path:
        rows = write_vectors(
            path, kind, encoding, dim=encoding.dim, count=None, recipe=encoding.recipe
        )
        if rows == 0:
            raise InputError("nothing was written: there is no record to encode")
    return encoding.report


def check_format(target: str | os.PathLike[str], format: str | None) -> str:
    """Tell the format, and make sure that it can be written; see `encode_to`."""
    kind = format or format_of(target)
    find_class(WRITERS, kind)
    return kind


class Sink:
    """Stands in for a collection, and for its set of ids: what is written is handed on.

    Of vectors it keeps those of the batch before. A text that repeats later is encoded again.
    """

    def __init__(self) -> None:
        self._sources: dict[str, str] = {}
        self._before: dict[str, NDArray[np.float32] | Chunks] = {}

    def add(self, ids: Iterable[str]) -> set[str]:
        """Add ids, and return those that were in already."""
        wanted = list(ids)
        known = {id for id in wanted if id in self._sources}
        self._sources |= {id: "" for id in wanted if id not in known}
        return known

    def sources(self, ids: Iterable[str]) -> dict[str, str]:
        """Look up where records came from that were written."""
        return {id: source for id in ids if (source := self._sources.get(id))}

    def missing(self, records: Sequence[Record]) -> list[Record]:
        """Which records need vectors, one per distinct text."""
        needed = {record.hash: record for record in records if record.hash not in self._before}
        return list(needed.values())

    def write(
        self, records: Sequence[Record], vectors: "Mapping[str, NDArray[np.float32] | Chunks]"
    ) -> Written | None:
        """Hand on a batch of records, unless vectors are missing."""
        known = {**self._before, **vectors}
        if any(record.hash not in known for record in records):
            return None
        self._before = {record.hash: known[record.hash] for record in records}
        self._sources |= {record.id: record.source for record in records}
        if records:
            self.hand_on(records, [known[record.hash] for record in records])
        return Written(added=len(records))

    def hand_on(
        self, records: Sequence[Record], made: "Sequence[NDArray[np.float32] | Chunks]"
    ) -> None:
        """Take records with their vectors, one or more of each."""
        raise NotImplementedError


class _Rows(Sink):
    """Makes batches of what is written, a row for each vector."""

    def __init__(self) -> None:
        super().__init__()
        self._ready: list[VectorBatch] = []
        self._count = 0

    def hand_on(
        self, records: Sequence[Record], made: "Sequence[NDArray[np.float32] | Chunks]"
    ) -> None:
        """Keep a batch until it is taken."""
        rows: list[Record] = []
        matrices: list[NDArray[np.float32]] = []
        for record, vectors in zip(records, made, strict=True):
            if isinstance(vectors, Chunks):
                rows += chunk_rows(record, vectors.spans.tolist())
                matrices.append(vectors.vectors)
            else:
                rows.append(record)
                matrices.append(vectors[None])
        self._ready.append(self._batch(rows, np.concatenate(matrices)))

    def take(self) -> Iterator[VectorBatch]:
        """Give what was written since the last time."""
        ready, self._ready = self._ready, []
        yield from ready

    def _batch(self, rows: list[Record], vectors: "NDArray[np.float32]") -> VectorBatch:
        first, self._count = self._count + 1, self._count + len(rows)
        return VectorBatch(
            [row.id for row in rows],
            vectors,
            [row.text for row in rows],
            [row.meta for row in rows],
            list(range(first, self._count + 1)),
        )
