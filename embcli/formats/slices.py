"""Parts of files that are read by themselves, and give the same records as the whole."""

import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

import numpy as np
from xxhash import xxh3_64, xxh3_128

from embcli.errors import InputError, UnreadableError
from embcli.formats import Item, Problem, ReadOptions, jsonl, text
from embcli.formats.fields import FieldMap, map_fields
from embcli.formats.inputs import Source
from embcli.formats.lines import line_end
from embcli.formats.reader import PARQUET, Looked, Reader, detect_format, look_at
from embcli.formats.source import ByteStream, open_bytes, open_source
from embcli.store.records import Record

_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Layout:
    """How the records of a file lie, found out once from how it begins.

    Attributes
    ----------
    kind : {"jsonl", "text", "parquet"}
    unit : {"lines", "rows"}
        Where it may be cut.
    encoding : str
    start : int
        Bytes before the first line; or 0.
    rows : int
        Of a table; 0 if lines have not been counted.
    fields : FieldMap
    """

    kind: str
    unit: Literal["lines", "rows"]
    encoding: str
    start: int
    rows: int
    fields: FieldMap


@dataclass(frozen=True)
class Slice:
    """Some lines or rows of a file.

    Attributes
    ----------
    start, size : int
        In bytes; both 0 of rows.
    first : int
        Number of the first line or row, from 1.
    count : int
        How many lines or rows.
    sum : str
        XXH3 of the bytes, 64 bits in hexadecimal; empty of rows.
    """

    start: int
    size: int
    first: int
    count: int
    sum: str = ""


def survey(source: Source, options: ReadOptions, reader: Reader) -> Layout | None:
    """Find out how a file may be cut; None if it can only be read as a whole.

    Parameters
    ----------
    source : Source
    options : ReadOptions
    reader : Reader
        With the same options; it says what was found out.
    """
    is_table = (options.format or source.format) == PARQUET
    look = _survey_rows if is_table else _survey_lines
    try:
        layout = look(source, options, reader)
    except UnreadableError:
        raise
    except InputError:
        return None  # whoever reads it as a whole says the same, and what came before
    if layout is not None and layout.fields.note:
        reader.say(source.name, layout.fields.note)
    return layout


def _survey_rows(source: Source, options: ReadOptions, reader: Reader) -> Layout:
    with closing(reader.open_table(source)) as table:
        fields = _fields(table.items(), options)
        return Layout(PARQUET, "rows", "", 0, table.rows, fields)


def _survey_lines(source: Source, options: ReadOptions, reader: Reader) -> Layout | None:
    with open_source(
        source, options.encoding, options.max_record_bytes, options.size_option
    ) as stream:
        kind = options.format or detect_format(source.format, stream)
        by_line = kind == "jsonl" or (kind == "text" and options.per == "line")
        if not by_line or not stream.can_be_cut or line_end(stream) != b"\n":
            return None
        fields = _fields(reader.items(kind, stream), options)
        return Layout(kind, "lines", stream.encoding, stream.marked, 0, fields)


def _fields(items: Iterator[Item | Problem], options: ReadOptions) -> FieldMap:
    """Find out which fields are what.

    Raises
    ------
    InputError
        The file cannot be read that far, or it cannot be told.
    """
    looking = look_at(items)
    while True:
        try:
            next(looking)
        except StopIteration as end:
            looked: Looked = end.value
            if looked.failure:
                raise looked.failure from None
            return map_fields(looked.sample, options)


def cut_lines(
    source: Source, layout: Layout, room: int, most: int, whole: xxh3_128 | None = None
) -> Iterator[Slice]:
    """Cut a file at the ends of lines; it is read once.

    Parameters
    ----------
    source : Source
    layout : Layout
    room : int
        Lines of the first slice.
    most : int
        Lines of the others.
    whole : xxh3_128, optional
        Fed with the whole file.
    """
    whole = whole or xxh3_128()
    start, first, count, size, wanted = layout.start, 1, 0, 0, room
    digest = xxh3_64()
    ended = True
    with open_bytes(source) as raw:
        whole.update(raw.read(start))
        while chunk := raw.read(_AT_ONCE):
            whole.update(chunk)
            ended = chunk.endswith(b"\n")
            view = memoryview(chunk)
            while count + (lines := chunk.count(b"\n", len(chunk) - len(view))) >= wanted:
                places = np.flatnonzero(np.frombuffer(view, np.uint8) == ord("\n"))
                end = int(places[wanted - count - 1]) + 1
                digest.update(view[:end])
                size += end
                yield Slice(start, size, first, wanted, digest.hexdigest())
                start, first, count, size, wanted = start + size, first + wanted, 0, 0, most
                digest.reset()
                view = view[end:]
            digest.update(view)
            size += len(view)
            count += lines
    if size:
        yield Slice(start, size, first, count + (not ended), digest.hexdigest())


def cut_rows(layout: Layout, room: int, most: int) -> Iterator[Slice]:
    """Cut a table; see `cut_lines`."""
    first = 1
    sizes = repeat(most)
    wanted = room
    while first <= layout.rows:
        count = min(wanted, layout.rows - first + 1)
        yield Slice(0, 0, first, count)
        first, wanted = first + count, next(sizes)


def read_slice(
    source: Source, layout: Layout, part: Slice, options: ReadOptions, reader: Reader
) -> Iterator[Record | Problem]:
    """Read a part of a file: the same records and problems as a `Reader` gives of it.

    Raises
    ------
    InputError
        The file is not what it was when it was cut.
    """
    if layout.unit == "rows":
        with closing(reader.open_table(source)) as table:
            if table.rows != layout.rows:
                raise changed(source)
            rows = table.items(part.first - 1, part.count)
            yield from _records(source, layout, part.first, rows)
        return
    with open_bytes(source) as raw:
        raw.seek(part.start)
        window = _Window(raw, part.size)
        stream = ByteStream.of_lines(
            source.name,
            io.BufferedReader(window, _AT_ONCE),
            layout.encoding,
            part.first,
            options.max_record_bytes,
            options.size_option,
        )
        read = jsonl.read if layout.kind == "jsonl" else text.read_lines
        yield from _records(source, layout, part.first, read(stream))
        if window.left or window.digest.hexdigest() != part.sum:
            raise changed(source)


def _records(
    source: Source, layout: Layout, first: int, items: Iterator[Item | Problem]
) -> Iterator[Record | Problem]:
    line = first
    try:
        for item in items:
            line = item.line + 1
            if isinstance(item, Problem):
                yield item
            else:
                yield layout.fields.record(item, source.name, f"{source.name}:{item.line}")
    except UnreadableError:
        raise
    except InputError as error:
        yield Problem(source.name, line, error.message)


def changed(source: Source) -> InputError:
    """Say that a file is another than the one that was cut."""
    return InputError(
        f"{source.name} is not what it was when its parts were planned", hint="another --to"
    )


class _Window(io.RawIOBase):
    """So many bytes of a stream from here on, and their checksum."""

    def __init__(self, stream: io.BufferedReader, size: int) -> None:
        self._stream = stream
        self.left = size
        self.digest = xxh3_64()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(min(len(buffer), self.left))
        buffer[: len(data)] = data
        self.digest.update(data)
        self.left -= len(data)
        return len(data)
