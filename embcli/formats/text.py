"""Plain text: a record per line, or per file."""

from collections.abc import Iterator

from embcli.errors import InputError
from embcli.formats import Item, Problem, too_large
from embcli.formats.lines import numbered_lines, wrong_byte
from embcli.formats.source import ByteStream


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
    raw = stream.read(stream.longest + 1)
    if len(raw) > stream.longest:
        yield Problem(stream.name, 1, too_large("the file", stream.longest))
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
