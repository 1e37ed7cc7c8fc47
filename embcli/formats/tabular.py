"""CSV and TSV (RFC 4180)."""

import csv
from collections import Counter
from collections.abc import Iterator
from typing import Any

from embcli.errors import InputError, UsageError, counted
from embcli.formats import Item, Problem
from embcli.formats.lines import Line, numbered_lines
from embcli.formats.source import ByteStream

_DELIMITERS = (",", ";", "\t", "|")
_ROWS_SNIFFED = 50
# Lines are read again after a quote that does not close: so many times what has been read, and
# this much besides. From then on no row may have several lines, or a file could take forever.
_AGAIN, _AGAIN_AT_LEAST = 8, 1 << 20


def read(
    stream: ByteStream, *, delimiter: str | None = None, header: bool = True
) -> Iterator[Item | Problem]:
    """Read a record per row.

    A row that cannot be parsed costs that row only: reading goes on at the next line. Numbers
    that are written the way Python writes them become numbers; empty fields become null.

    Parameters
    ----------
    stream : ByteStream
    delimiter : str, optional
        Found out from the first rows if None.
    header : bool
        Whether the first row names the columns; they are called "1", "2", ... if not.
    """
    if delimiter == "\\t":  # what people type in a shell
        delimiter = "\t"
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '\r\n"'):
        raise UsageError(f"the delimiter must be one character, not {delimiter!r}")
    if delimiter is None:
        delimiter = sniff_delimiter(stream.sample.decode(stream.encoding, "replace"))
    names: list[str] | None = None
    for row in rows(stream, delimiter):
        if isinstance(row, Problem):
            yield row
            continue
        line, fields = row
        if names is None:
            names = _names(fields) if header else [str(i + 1) for i in range(len(fields))]
            if header:
                continue
        if len(fields) != len(names):
            message = f"expected {counted(len(names), 'field')}, found {len(fields)}"
            yield Problem(stream.name, line, message)
        else:
            values = dict(zip(names, map(_value, fields), strict=True))
            yield Item(values, line)


def sniff_delimiter(sample: str) -> str:
    """Find the delimiter that cuts the first rows into the same number of fields."""

    def regularity(delimiter: str) -> tuple[int, int]:
        lines = sample.splitlines(keepends=True)[:_ROWS_SNIFFED]
        # The last line of a sample may be cut off.
        complete = lines[:-1] or lines
        try:
            widths = [len(row) for row in csv.reader(complete, delimiter=delimiter) if row]
        except csv.Error:
            return 0, 0
        if not widths or widths[0] < 2:
            return 0, 0
        return sum(width == widths[0] for width in widths), widths[0]

    return max(_DELIMITERS, key=regularity)


def _names(fields: list[str]) -> list[str]:
    names = [field.strip() or str(i + 1) for i, field in enumerate(fields)]
    repeated = {name for name, count in Counter(names).items() if count > 1}
    if repeated:
        raise InputError(
            f"two columns are called {min(repeated)!r} (is the first row a header? if not: "
            "--no-header)"
        )
    return names


def _value(field: str) -> Any:
    """Turn a field into a number if that loses nothing."""
    if not field:
        return None
    if not (field[-1].isdecimal() and field.isascii()):
        return field
    for kind in (int, float):
        try:
            number = kind(field)
        except ValueError:
            continue
        if str(number) == field:
            return number
    return field


def rows(stream: ByteStream, delimiter: str) -> Iterator[tuple[int, list[str]] | Problem]:
    """Read the fields of every row and the line where it begins, the header among them."""
    csv.field_size_limit(2 * stream.longest + 2)  # `_Feed` stops before
    feed = _Feed(stream)
    width = 0
    while True:
        reader = csv.reader(feed, delimiter=delimiter, strict=True)
        try:
            for row in reader:
                width = width or len(row)
                if delimiter == "\t" and feed.holds_rows(width):
                    break  # and read again, line by line
                line, problem = feed.finish_row()
                if problem:
                    yield problem
                elif row:
                    yield line, row
            else:
                return
        except csv.Error as error:
            if isinstance(error, _RowTooLargeError) and delimiter != "\t":
                yield feed.pass_over(delimiter)
                continue
            if delimiter != "\t":
                line, _ = feed.restart_after_first()
                yield Problem(stream.name, line, _explain(error))
                continue
        # Many TSV files do not quote at all: a quote that does not close is a quote, and so is
        # one that would only close in another row.
        line, text = feed.restart_after_first()
        yield line, text.rstrip("\r\n").split("\t")


def _explain(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a quoted field is never closed"
    if isinstance(error, _EndlessError):
        return "a quoted field never seems to close"
    return f"not CSV: {error}"


class _RowTooLargeError(csv.Error):
    """A row goes on, within quotes, and is larger than rows may be."""


class _EndlessError(csv.Error):
    """Lines were read again too often."""


class _Feed:
    """Lines for a csv.reader, remembering those of the row being read."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._lines = numbered_lines(stream)
        self._longest = stream.longest
        self._taken: list[Line] = []
        self._again: list[Line] = []
        # Characters: of the row, of all lines, and of those read again.
        self._size = self._read = self._reread = 0

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        if self._taken and self._size > self._longest:
            raise _RowTooLargeError
        if self._taken and self._reread > _AGAIN_AT_LEAST + _AGAIN * self._read:
            raise _EndlessError
        line = self._next()
        self._taken.append(line)
        self._size += len(line.text)
        return line.text

    def _next(self) -> Line:
        if self._again:
            line = self._again.pop()
            self._reread += len(line.text)
        else:
            line = next(self._lines)
            self._read += len(line.text)
        return line

    def holds_rows(self, width: int) -> bool:
        """Whether a line of the row just read, other than its first, looks like a row itself."""
        return any(line.text.count("\t") == width - 1 for line in self._taken[1:])

    def finish_row(self) -> tuple[int, Problem | None]:
        """Forget the lines of the row just read; return its number and what is wrong with it."""
        number = self._taken[0].number if self._taken else 0
        problem = next((line.problem for line in self._taken if line.problem), None)
        if problem is None and self._size > self._longest:
            problem = Problem(self._stream.name, number, self._stream.too_large("this row"))
        self._taken.clear()
        self._size = 0
        return number, problem

    def pass_over(self, delimiter: str) -> Problem:
        """Read to the end of a row that is too large, holding no more of it; say what it is.

        Where there is no end, the lines that are held are offered again.
        """
        first, last = self._taken[0].number, self._taken[-1].number
        beyond = last
        while True:
            try:
                line = self._next()
            except StopIteration:
                self.restart_after_first()
                lost = f" (lines {last + 1:,} to {beyond:,} are passed over)"
                message = f"a quoted field is never closed{lost if beyond > last else ''}"
                return Problem(self._stream.name, first, message)
            beyond = line.number
            try:
                # What was read so far ended within quotes.
                next(csv.reader(['"' + line.text], delimiter=delimiter, strict=True))
            except csv.Error as error:
                if "unexpected end of data" in str(error):
                    continue
            self._taken.clear()
            self._size = 0
            return Problem(self._stream.name, first, self._stream.too_large("this row"))

    def restart_after_first(self) -> tuple[int, str]:
        """Offer the lines of the row that failed again, all but the first, which is returned."""
        first, *rest = self._taken
        self._again.extend(reversed(rest))
        self._taken.clear()
        self._size = 0
        return first.number, first.text
