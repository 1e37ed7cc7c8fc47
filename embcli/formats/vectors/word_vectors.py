"""Word vectors: word2vec's text and binary files, GloVe's text, and fastText's .vec."""

import os
from collections import Counter
from collections.abc import Iterator
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.errors import InputError, counted
from embcli.formats import Problem
from embcli.formats.inputs import Source
from embcli.formats.source import ByteStream, open_source
from embcli.formats.vectors import VectorBatch, VectorOptions
from embcli.formats.vectors.rows import check_shape, finite, rows_at_once
from embcli.formats.vectors.text_blocks import Block, is_number, parse_block, shown

# The parser's arrays for so much text fit into the second-level cache.
_BLOCK = 1 << 18
_LONGEST_LINE = 1 << 24
_LONGEST_TOKEN = 1 << 16
_LINES_LOOKED_AT = 100
_READ = 1 << 20
_FLOAT = np.dtype("<f4")


def parse_header(line: bytes) -> tuple[int, int] | None:
    """Read the header of word2vec's files, number of words and components; None if it is none."""
    fields = line.strip().split(b" ")
    if len(fields) != 2 or not all(field.isdigit() and len(field) < 19 for field in fields):
        return None
    return int(fields[0]), int(fields[1])


class _Reader:
    """What readers of word vectors have in common."""

    def __init__(self, path: str | os.PathLike[str], options: VectorOptions) -> None:
        self._source = Source(os.fspath(path), Path(path))
        self._options = options
        self.dim = 0
        self.count: int | None = None
        self.notes: list[str] = []

    def _check_header(self, rows: int, dim: int, bytes_each: int) -> None:
        """Refuse a header that promises nothing, or more than the file can hold."""
        check_shape(self._source.name, rows, dim)
        with self._source.path.open("rb") as file:  # type: ignore[union-attr]
            compressed = not file.read(1).isdigit()
        fewest = 0 if compressed else rows * (dim * bytes_each + 1)
        if fewest > self._source.size or dim > _LONGEST_LINE:
            raise InputError(
                f"{self._source.name}: its first line promises {counted(rows, 'vector')} of "
                f"{dim:,} components, too many for {self._source.size:,} bytes (truncated?)"
            )

    def _limited(self, declared: int | None) -> int | None:
        limit = self._options.limit
        return declared if limit is None or (declared or limit) < limit else limit

    def _decoded(self, tokens: list[bytes], places: list[int]) -> Iterator[str | Problem]:
        errors = self._options.encoding_errors
        for token, place in zip(tokens, places, strict=True):
            try:
                word = token.decode("utf-8", errors)
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                message = (
                    f"byte 0x{byte:02x} in {shown(token)} is not UTF-8 "
                    "(--encoding-errors replace or ignore)"
                )
                yield Problem(self._source.name, place, message)
            else:
                yield word or Problem(self._source.name, place, "the word is empty")

    def _batches(
        self, tokens: list[bytes], vectors: NDArray[np.float32], places: list[int], unit: str
    ) -> Iterator[VectorBatch | Problem]:
        words: list[str] = []
        rows: list[int] = []
        for row, word in enumerate(self._decoded(tokens, places)):
            if isinstance(word, Problem):
                yield word
            else:
                words.append(word)
                rows.append(row)
        if len(rows) < len(tokens):
            vectors, places = vectors[rows], [places[row] for row in rows]
        metas: list[dict[str, Any]] = [{} for _ in words]
        yield from finite(
            self._source.name, VectorBatch(words, vectors, words, metas, places), unit
        )


class TextReader(_Reader):
    """Read a word and its numbers per line, with or without word2vec's header.

    Fields are separated by spaces, or by tabs if the first vector's are. Where a word holds
    spaces itself, the last fields are the numbers. Without a header, most of the first lines
    tell how many.
    """

    def __init__(self, path: str | os.PathLike[str], options: VectorOptions) -> None:
        super().__init__(path, options)
        with open_source(self._source) as stream:
            lines = first_lines(stream, _LINES_LOOKED_AT + 1)
        header = parse_header(lines[0]) if lines else None
        self._declared = header and header[0]
        self._has_header = header is not None
        vectors = lines[1:] if header else lines
        first = vectors[0] if vectors else b""
        self._separator = b"\t" if b"\t" in first and b" " not in first else b" "
        if header:
            self._check_header(*header, 2)
            self.dim = header[1]
        else:
            self.dim = self._common_dim([line for line in vectors if line])
            check_shape(self._source.name, len(first), self.dim)
        self.count = self._limited(self._declared)

    def _common_dim(self, lines: list[bytes]) -> int:
        """How many numbers most lines end in, after the first field."""
        lengths = Counter(
            sum(1 for _ in takewhile(is_number, reversed(line.split(self._separator)[1:])))
            for line in lines
        )
        if not lengths:
            return 0
        dim = lengths.most_common(1)[0][0]
        if dim == 0:
            raise InputError(
                f"{self._source.name}: expected words with numbers after them, "
                f"found {shown(lines[0])}"
            )
        return dim

    def __iter__(self) -> Iterator[VectorBatch | Problem]:
        """Give batches; see `VectorReader`."""
        done, place = 0, 1 + self._has_header
        held: list[tuple[list[bytes], NDArray[np.float32], list[int]]] = []
        with open_source(self._source) as stream:
            for lines in _line_blocks(stream, skip_first=self._has_header):
                block = parse_block(lines, self.dim, self._separator)
                tokens = block.tokens
                places = list(range(place, place + len(tokens)))
                place += len(tokens)
                rows = self._wanted_rows(block, lines, done)
                done += len(rows)
                for row in sorted(block.problems.keys() & set(rows)):
                    yield Problem(self._source.name, places[row], block.problems[row])
                rows = [row for row in rows if row not in block.problems]
                if len(rows) < len(tokens):
                    tokens, places = [tokens[row] for row in rows], [places[row] for row in rows]
                vectors = block.vectors
                if len(rows) < len(block.whole):
                    vectors = vectors[np.searchsorted(block.whole, rows)]
                held.append((tokens, vectors, places))
                if sum(len(part) for part, _, _ in held) >= rows_at_once(self.dim):
                    yield from self._joined(held)
                    held.clear()
                if self._options.limit is not None and done >= self._options.limit:
                    break
        yield from self._joined(held)
        expected = self._declared if self._options.limit is None else self.count
        if expected is not None and self._declared is not None and done != expected:
            raise InputError(
                f"{self._source.name}: its first line promises {counted(self._declared, 'vector')}"
                f" of {self.dim} components, found {done:,}"
            )

    def _joined(
        self, held: list[tuple[list[bytes], NDArray[np.float32], list[int]]]
    ) -> Iterator[VectorBatch | Problem]:
        if held:
            tokens, vectors, places = zip(*held, strict=True)
            yield from self._batches(
                list(chain.from_iterable(tokens)),
                np.concatenate(vectors),
                list(chain.from_iterable(places)),
                "line",
            )

    def _wanted_rows(self, block: Block, lines: bytes, done: int) -> list[int]:
        """Which lines count: not blank ones, as the last may be, nor those beyond the limit."""
        suspects = [row for row in block.problems if not block.tokens[row]]
        blank: set[int] = set()
        if suspects:
            every = lines.split(b"\n")
            blank = {row for row in suspects if not every[row].strip()}
        rows = [row for row in range(len(block.tokens)) if row not in blank]
        return rows if self._options.limit is None else rows[: self._options.limit - done]


def _line_blocks(stream: ByteStream, *, skip_first: bool) -> Iterator[bytes]:
    """Cut a stream into blocks of whole lines, the last one of which gets its end."""
    rest = b""
    while data := stream.read(_BLOCK):
        cut = data.rfind(b"\n") + 1
        if not cut:
            rest += data
            if len(rest) > _LONGEST_LINE:
                raise InputError(f"{stream.name}: no line ends within {_LONGEST_LINE:,} bytes")
            continue
        lines, rest = rest + data[:cut], data[cut:]
        if skip_first:
            lines, skip_first = lines[lines.index(b"\n") + 1 :], False
        if lines:
            yield lines
    if rest and not skip_first:
        yield rest + b"\n"


def first_lines(stream: ByteStream, count: int) -> list[bytes]:
    """Read the first lines of a stream, without white space at their ends.

    Not so many where they are long; but one at least, up to the longest that is read.
    """
    data = b""
    while len(data) < _LONGEST_LINE and (more := stream.read(_BLOCK)):
        data += more
        if b"\n" in data:
            break
    *lines, last = data.split(b"\n")
    whole = lines or [last]
    if len(data) < _BLOCK and last:
        whole = [*lines, last]  # the stream has ended
    return [line.rstrip() for line in whole[:count]]


class BinaryReader(_Reader):
    """Read word2vec's binary file: a header line; then each word, a space, its float32 numbers."""

    def __init__(self, path: str | os.PathLike[str], options: VectorOptions) -> None:
        super().__init__(path, options)
        with open_source(self._source) as stream:
            first, newline, _ = stream.sample.partition(b"\n")
        header = parse_header(first) if newline else None
        if header is None:
            raise InputError(
                f"{self._source.name}: expected a first line with two numbers, of words and of "
                "components, as word2vec's binary files have"
            )
        self._check_header(*header, _FLOAT.itemsize)
        self._declared, self.dim = header
        self.count = self._limited(self._declared)

    def __iter__(self) -> Iterator[VectorBatch | Problem]:
        """Give batches; see `VectorReader`."""
        wanted = self.count or 0
        with open_source(self._source) as stream:
            entries = _Entries(stream, 4 * self.dim, self._declared)
            for start in range(0, wanted, step := rows_at_once(self.dim)):
                tokens, data = entries.take(min(step, wanted - start))
                vectors = np.frombuffer(data, _FLOAT).reshape(-1, self.dim)
                places = list(range(start + 1, start + 1 + len(tokens)))
                yield from self._batches(
                    tokens, vectors.astype(np.float32, copy=False), places, "word"
                )
            if wanted == self._declared:
                entries.check_end()


class _Entries:
    """Words and the bytes of their vectors, one after the other."""

    def __init__(self, stream: ByteStream, width: int, declared: int) -> None:
        self._stream = stream
        self._width = width
        self._declared = declared
        self._data = stream.read(_READ)
        self._at = self._data.index(b"\n") + 1
        self._done = 0

    def take(self, count: int) -> tuple[list[bytes], bytes]:
        """Read so many entries."""
        tokens: list[bytes] = []
        rows: list[bytes] = []
        data, at, width = self._data, self._at, self._width
        for _ in range(count):
            space = data.find(b" ", at)
            if space < 0 or space + 1 + width > len(data):
                data, at = self._more(data[at:]), 0
                space = data.find(b" ")
                if space < 0 or space + 1 + width > len(data):
                    raise self._truncated(len(tokens), data, space)
            end = space + 1 + width
            # Some writers put a line break after every vector.
            tokens.append(data[at:space].lstrip(b"\r\n"))
            rows.append(data[space + 1 : end])
            at = end
        self._data, self._at = data, at
        self._done += count
        return tokens, b"".join(rows)

    def check_end(self) -> None:
        """Refuse a file that goes on."""
        rest = self._data[self._at :] + self._stream.read(_READ)
        if rest.strip(b"\r\n"):
            raise InputError(
                f"{self._stream.name}: its first line promises "
                f"{counted(self._declared, 'vector')}, but there is more after these"
            )

    def _more(self, rest: bytes) -> bytes:
        needed = _LONGEST_TOKEN + self._width
        parts, length = [rest], len(rest)
        while length < needed and (part := self._stream.read(max(_READ, needed - length))):
            parts.append(part)
            length += len(part)
        return b"".join(parts)

    def _truncated(self, taken: int, data: bytes, space: int) -> InputError:
        number = self._done + taken + 1
        name = self._stream.name
        if space < 0 and len(data) >= _LONGEST_TOKEN:
            return InputError(f"{name}: word {number:,} has no end: the file is damaged before it")
        return InputError(
            f"{name}: it ends within entry {number:,} of {self._declared:,} (truncated?)"
        )


class TextWriter:
    """Write word2vec's text: a header, and per line an id and the shortest exact decimals.

    Parameters
    ----------
    path, dim, count, recipe
        See `VectorWriter`.
    header : bool
        GloVe's files have none.

    Notes
    -----
    An id may hold spaces, since readers that count from the end understand it, but no line break.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        dim: int,
        count: int,
        recipe: dict[str, Any],
        *,
        header: bool = True,
    ) -> None:
        self._file = open(path, "wb")
        if header:
            self._file.write(f"{count} {dim}\n".encode())

    def write(self, batch: VectorBatch) -> None:
        """Append a batch."""
        for id, row in zip(batch.ids, batch.vectors.astype(str).tolist(), strict=True):
            self._file.write(f"{_one_line(id)} {' '.join(row)}\n".encode())

    def close(self) -> None:
        """Complete the file."""
        self._file.close()


class GloveWriter(TextWriter):
    """Write GloVe's text: the same without a header."""

    def __init__(
        self, path: str | os.PathLike[str], dim: int, count: int, recipe: dict[str, Any]
    ) -> None:
        super().__init__(path, dim, count, recipe, header=False)


class BinaryWriter:
    """Write word2vec's binary file; see `BinaryReader`. No id may hold a space."""

    def __init__(
        self, path: str | os.PathLike[str], dim: int, count: int, recipe: dict[str, Any]
    ) -> None:
        self._file = open(path, "wb")
        self._file.write(f"{count} {dim}\n".encode())

    def write(self, batch: VectorBatch) -> None:
        """Append a batch."""
        rows = np.ascontiguousarray(batch.vectors, _FLOAT)
        for id, row in zip(batch.ids, rows, strict=True):
            if " " in id:
                raise InputError(
                    f"the id {id!r} has a space, where word2vec's binary format ends a word",
                    hint="another format: word2vec, npz, safetensors, parquet",
                )
            self._file.write(_one_line(id).encode() + b" " + row.tobytes())

    def close(self) -> None:
        """Complete the file."""
        self._file.close()


def _one_line(id: str) -> str:
    if "\n" in id or "\r" in id:
        raise InputError(
            f"the id {id!r} has a line break, which word2vec's and GloVe's formats cannot hold",
            hint="another format: npz, safetensors, jsonl, parquet",
        )
    return id
