"""Plain text: a record per line, or per file."""

from collections.abc import Iterator
from functools import partial
from itertools import islice

from embcli.errors import InputError
from embcli.formats import Item, Problem
from embcli.formats.lines import numbered_lines, wrong_byte
from embcli.formats.source import ByteStream

_PIECE = 1 << 20


def read_lines(stream: ByteStream) -> Iterator[Item | Problem]:
    """Read a record per line; blank lines separate and are not records."""
    refuse_binary(stream)
    for line in numbered_lines(stream):
        if line.problem:
            yield line.problem
        elif (text := line.text.rstrip("\r\n")) and not text.isspace():
            yield Item(text, line.number)


def read_whole(stream: ByteStream) -> Iterator[Item | Problem]:
    """Read the file as one record."""
    refuse_binary(stream)
    # What may be read is more than what would fit: room is made as it comes.
    pieces = iter(partial(stream.read, _PIECE), b"")
    raw = b"".join(islice(pieces, stream.longest // _PIECE + 1))
    if len(raw) > stream.longest:
        yield Problem(stream.name, 1, stream.too_large("the file"))
        return
    try:
        yield Item(raw.decode(stream.encoding), 1)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        yield Problem(stream.name, line, wrong_byte(error))


def refuse_binary(stream: ByteStream) -> None:
    """Raise an `InputError` for what is no text."""
    if b"\0" in stream.sample:
        raise InputError("this is no text: there are NUL bytes in it")
