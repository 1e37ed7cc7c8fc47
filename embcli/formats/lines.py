"""Decoded lines, each with its number, whatever the bytes are."""

from collections.abc import Iterator
from dataclasses import dataclass

from embcli.formats import Problem
from embcli.formats.source import ByteStream


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its end.

    `problem` is set where a byte was wrong, and `text` then has replacement characters; and where
    the line was too long, and `text` is then nothing but its end.
    """

    number: int
    text: str
    problem: Problem | None = None


def numbered_lines(stream: ByteStream) -> Iterator[Line]:
    """Yield the lines of a stream.

    Lines end in LF or CRLF; in CR where the beginning of the file has no LF.
    """
    for number, raw in enumerate(stream.lines(line_end(stream)), stream.first_line):
        if len(raw) > stream.longest:
            problem = Problem(stream.name, number, stream.too_large("this line"))
            yield Line(number, "\n", problem)
            continue
        try:
            yield Line(number, raw.decode(stream.encoding))
        except UnicodeDecodeError as error:
            problem = Problem(stream.name, number, wrong_byte(error))
            yield Line(number, raw.decode(stream.encoding, "replace"), problem)


def line_end(stream: ByteStream) -> bytes:
    """Tell what lines of a stream end in; a CR before LF is left to the reader."""
    return b"\r" if b"\r" in stream.sample and b"\n" not in stream.sample else b"\n"


def wrong_byte(error: UnicodeDecodeError) -> str:
    """Say which byte is wrong, and what to do about it."""
    byte = error.object[error.start]
    return (
        f"byte 0x{byte:02x} is not {error.encoding} "
        "(name the right --encoding, for example latin-1)"
    )
