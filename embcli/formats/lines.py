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
    newline = b"\r" if b"\r" in stream.sample and b"\n" not in stream.sample else b"\n"
    for number, raw in enumerate(stream.lines(newline), 1):
        if len(raw) > stream.longest:
            problem = Problem(stream.name, number, stream.too_large("this line"))
            yield Line(number, "\n", problem)
            continue
        try:
            yield Line(number, raw.decode(stream.encoding))
        except UnicodeDecodeError as error:
            problem = Problem(stream.name, number, wrong_byte(error))
            yield Line(number, raw.decode(stream.encoding, "replace"), problem)


def wrong_byte(error: UnicodeDecodeError) -> str:
    """Say which byte is wrong, and what to do about it."""
    byte = error.object[error.start]
    return (
        f"byte 0x{byte:02x} is not {error.encoding} "
        "(name the right --encoding, for example latin-1)"
    )
