"""Inputs cut into parts: runs of records, one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from xxhash import xxh3_128

from embcli.formats import ReadOptions
from embcli.formats.inputs import IMAGE, Source
from embcli.formats.reader import Reader
from embcli.formats.slices import Layout, Slice, cut_lines, cut_rows, survey
from embcli.formats.source import checksum, named
from embcli.pipelines.encode import Listeners


@dataclass(frozen=True)
class Input:
    """A file or URL whose records are shared out.

    Attributes
    ----------
    name : str
    size : int
        In bytes.
    mark : str
        See `Source.mark`: where it is the same, the content is taken to be.
    sum : str
        Checksum of all bytes, as of `checksum`.
    path, url : str or None
    layout : Layout or None
        None if it cannot be cut.
    """

    name: str
    size: int
    mark: str
    sum: str
    path: str | None
    url: str | None
    layout: Layout | None

    @property
    def source(self) -> Source:
        """The input as readers take it."""
        return Source(self.name, None if self.path is None else Path(self.path), self.url)

    def is_as_planned(self) -> bool:
        """Whether it is what it was; it is read only where its mark differs."""
        source = self.source
        if source.size != self.size:
            return False
        mark = source.mark
        if mark and mark == self.mark:
            return True
        # Many parts may be of one file. Where nothing tells of changes there is no knowing.
        return (_checksum_once(source, mark) if mark else checksum(source)) == self.sum


@lru_cache(maxsize=256)
def _checksum_once(source: Source, mark: str) -> str:
    return checksum(source)


@dataclass(frozen=True)
class Piece:
    """What a part has of an input, by the input's number: a slice, or all if None."""

    input: int
    slice: Slice | None


def cut(
    inputs: Sequence[Input], read: ReadOptions, most: int, listeners: Listeners
) -> tuple[tuple[Input, ...], tuple[tuple[Piece, ...], ...]]:
    """Cut inputs into parts; all of them are read once.

    Parameters
    ----------
    inputs : sequence of Input
        Without layouts and sums.
    read : ReadOptions
    most : int
        Lines, rows or files in a part; what cannot be cut is one part.
    listeners : Listeners
        Progress is told in bytes.

    Returns
    -------
    inputs : tuple of Input
        With both.
    parts : tuple of tuple of Piece
    """
    reader = Reader([], read, listeners.note)
    found: list[Input] = []
    for input in inputs:
        single = _is_single(input.source, read)
        with named(input.source):
            layout = None if single else survey(input.source, read, reader)
        if layout is None and not single:
            listeners.note(f"{input.name} cannot be cut: it is one part")
        found.append(replace(input, layout=layout))
    sums: list[str] = []
    parts = tuple(_packed(found, read, most, listeners, sums))
    inputs = [replace(input, sum=sum) for input, sum in zip(found, sums, strict=True)]
    return tuple(inputs), parts


def _is_single(source: Source, read: ReadOptions) -> bool:
    """Whether a file is one record."""
    if source.path is not None and source.format == IMAGE:
        return True
    return read.per == "file" and (read.format or source.format) == "text"


def _packed(
    inputs: Sequence[Input],
    read: ReadOptions,
    most: int,
    listeners: Listeners,
    sums: list[str],
) -> Iterator[tuple[Piece, ...]]:
    """Put slices into parts, as long as they have room, and note the sums of inputs."""
    part: list[Piece] = []
    room = most
    total, done = sum(input.size for input in inputs), 0
    for number, input in enumerate(inputs):
        by_lines = input.layout is not None and input.layout.unit == "lines"
        whole = xxh3_128()
        for piece, count in _pieces(number, input, read, room, most, whole):
            if part and count > room:
                yield tuple(part)
                part, room = [], most
            part.append(piece)
            room -= count
            if room <= 0:
                yield tuple(part)
                part, room = [], most
            done += piece.slice.size if piece.slice else 0
            listeners.progress(done, total, 0)
        sums.append(whole.hexdigest() if by_lines else checksum(input.source))
        done += 0 if by_lines else input.size
        listeners.progress(done, total, 0)
    if part:
        yield tuple(part)


def _pieces(
    number: int, input: Input, read: ReadOptions, room: int, most: int, whole: xxh3_128
) -> Iterator[tuple[Piece, int]]:
    """Cut an input, and count what each piece takes of the room of a part."""
    layout, source = input.layout, input.source
    if layout is None:
        yield Piece(number, None), 1 if _is_single(source, read) else most
        return
    cut = (
        cut_lines(source, layout, room, most, whole)
        if layout.unit == "lines"
        else cut_rows(layout, room, most)
    )
    for part in cut:
        yield Piece(number, part), part.count
