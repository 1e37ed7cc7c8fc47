"""Plain text: a record per line, or per file."""

from collections.abc import Iterator

from embcli.formats import Item, Problem
from embcli.formats.lines import numbered_lines, wrong_byte
from embcli.formats.source import ByteStream


def read_lines(stream: ByteStream) -> Iterator[Item | Problem]:
    """Read a record per line; blank lines separate and are not records."""
    for line in numbered_lines(stream):
        if isinstance(line, Problem):
            yield line
        elif (text := line[1].rstrip("\r\n")) and not text.isspace():
            yield Item(text, line[0])


def read_whole(stream: ByteStream) -> Iterator[Item | Problem]:
    """Read the file as one record."""
    raw = stream.read()
    try:
        yield Item(raw.decode(stream.encoding), 1)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        yield Problem(stream.name, line, wrong_byte(error))
