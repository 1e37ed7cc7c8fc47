"""JSON documents: an array of records, or an object that is or holds them; streamed."""

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from embcli.errors import InputError
from embcli.formats import Item, Problem
from embcli.formats.fields import guess_text_field
from embcli.formats.jsonl import DECODER, as_item, explain
from embcli.formats.lines import wrong_byte
from embcli.formats.source import SAMPLE_BYTES, ByteStream

_SPACE = " \t\n\r"
_LONGEST_TAIL = 16  # a number, literal or escape cut off by the end of the buffer is shorter
_MEMBERS_LOOKED_AT = 1000


def read(stream: ByteStream) -> Iterator[Item | Problem]:
    """Read the records of a JSON document.

    - An array: its elements.
    - An object that holds an array of objects: the elements of that array.
    - An object with a text field: one record.
    - An object of columns, {"text": {"0": ..., "1": ...}}: its rows.
    - Any other object: its values, named by their keys.

    Arrays, and objects of more than a thousand members, are streamed: one record is in memory
    at a time. What comes after a mistake cannot be read.
    """
    text = _Cursor(stream)
    try:
        start = text.peek()
        if start == "[":
            yield from _elements(text, stream.name)
        elif start == "{":
            yield from _members(text, stream.name)
        else:
            line = text.line_here()
            yield as_item(stream.name, text.value(), line)
        if text.peek():
            yield Problem(stream.name, text.line, "not JSON: more data after the end")
    except _Broken as broken:
        yield Problem(stream.name, broken.line, broken.message)
    except InputError as error:
        yield Problem(stream.name, text.line, error.message)


def _elements(text: "_Cursor", source: str) -> Iterator[Item | Problem]:
    for value, line in _array(text):
        yield as_item(source, value, line)


def _array(text: "_Cursor") -> Iterator[tuple[Any, int]]:
    """Yield the elements of an array with their lines."""
    text.skip("[")
    if text.peek() != "]":
        while True:
            line = text.line_here()
            yield text.value(), line
            if text.peek() != ",":
                break
            text.skip(",")
    text.skip("]")


def _members(text: "_Cursor", source: str) -> Iterator[Item | Problem]:
    first_line = text.line_here()
    held: list[_Member] = []
    for key, line in _keys(text):
        if text.peek() == "[":
            elements = _array(text)
            first = next(elements, None)
            if first is not None and _holds_records(first[0], held):
                yield as_item(source, *first)
                yield from (as_item(source, value, line) for value, line in elements)
                for _ in _keys(text, begun=True):
                    text.value()
                return
            value = [element for element, _ in (() if first is None else (first, *elements))]
        else:
            value = text.value()
        held.append(_Member(key, value, line))
        if len(held) > _MEMBERS_LOOKED_AT:
            yield from (as_item(source, m.value, m.line, m.key) for m in held)
            for key, line in _keys(text, begun=True):
                yield as_item(source, text.value(), line, key)
            return
    yield from _whole_object(held, source, first_line)


def _keys(text: "_Cursor", *, begun: bool = False) -> Iterator[tuple[str, int]]:
    """Yield the keys of an object with their lines; the caller takes each value."""
    if not begun:
        text.skip("{")
    more = text.peek() == "," if begun else text.peek() != "}"
    while more:
        if begun:
            text.skip(",")
        line = text.line_here()
        key = text.value()
        if not isinstance(key, str):
            raise _Broken(line, "not JSON: expected a property name in double quotes")
        text.skip(":")
        yield key, line
        begun = True
        more = text.peek() == ","
    text.skip("}")


@dataclass(frozen=True)
class _Member:
    key: str
    value: Any
    line: int


def _holds_records(first: Any, held: list[_Member]) -> bool:
    """Whether an array that begins with this element is the one that holds the records."""
    if not isinstance(first, dict):
        return False
    return (
        guess_text_field([first]) is not None
        or guess_text_field([{member.key: member.value for member in held}]) is None
    )


def _whole_object(held: list[_Member], source: str, line: int) -> Iterator[Item | Problem]:
    """Make out what an object is that was read to its end."""
    fields = {member.key: member.value for member in held}
    values = list(fields.values())
    are_objects = bool(values) and all(isinstance(value, dict) for value in values)
    are_texts = len(values) > 1 and all(isinstance(value, str) for value in values)
    if guess_text_field([fields]) is not None:
        yield Item(fields, line)
    elif are_objects and (columns := _columns(fields)) is not None:
        for key in columns:
            row = {name: column[key] for name, column in fields.items() if key in column}
            yield Item(row, line, str(key))
    elif len(values) == 1 and isinstance(values[0], list):
        yield from (as_item(source, value, line) for value in values[0])
    elif are_objects or are_texts:
        yield from (as_item(source, m.value, m.line, m.key) for m in held)
    else:
        yield Item(fields, line)


def _columns(fields: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Recognise a table written by columns, as pandas does: {"text": {"0": "a", "1": "b"}}."""
    if guess_text_field(list(fields.values())) is not None:
        return None
    text = guess_text_field([{name: next(iter(c.values()), None) for name, c in fields.items()}])
    return None if text is None else fields[text]


class _Broken(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


class _Cursor:
    """A place in a JSON text of which only a part is in memory.

    Attributes
    ----------
    line : int
        Line of the place, counted from 1.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(stream.encoding)()
        self._buffer = ""
        self._at = 0
        self._ended = False
        self._failed: UnicodeDecodeError | None = None
        self.line = 1

    def peek(self) -> str:
        """Next character that is not white space, or nothing at the end."""
        while True:
            start = self._at
            while self._at < len(self._buffer) and self._buffer[self._at] in _SPACE:
                self._at += 1
            self.line += self._buffer.count("\n", start, self._at)
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def line_here(self) -> int:
        """Line of the next character that is not white space."""
        self.peek()
        return self.line

    def skip(self, expected: str) -> None:
        """Pass over a character that must come next."""
        found = self.peek()
        if found != expected:
            shown = repr(found) if found else "the end"
            raise _Broken(self.line, f"not JSON: expected {expected!r}, found {shown}")
        self._at += 1

    def value(self) -> Any:
        """Read one JSON value."""
        if not self.peek():
            raise _Broken(self.line, "not JSON: the document ends too early")
        while True:
            try:
                value, end = DECODER.raw_decode(self._buffer, self._at)
                # A number may go on beyond the buffer: 1 may be the beginning of 1e+5.
                if end < len(self._buffer) - 2 or not self._more():
                    break
            except json.JSONDecodeError as error:
                cut_off = (
                    error.msg.startswith("Unterminated string")
                    or error.pos >= len(self._buffer) - _LONGEST_TAIL
                )
                if cut_off and self._more():
                    continue
                line = self.line + self._buffer.count("\n", self._at, error.pos)
                raise _Broken(line, f"not JSON: {error.msg}") from error
            except (ValueError, RecursionError) as error:
                raise _Broken(self.line, f"not JSON: {explain(error)}") from error
        self.line += self._buffer.count("\n", self._at, end)
        self._at = end
        return value

    def _more(self) -> bool:
        """Drop what lies behind and read on, twice as much each time a value asks again."""
        if self._ended:
            return False
        self._buffer = self._buffer[self._at :]
        self._at = 0
        if self._failed:
            line = self.line + self._buffer.count("\n")
            raise _Broken(line, wrong_byte(self._failed)) from self._failed
        chunk = self._stream.read(max(SAMPLE_BYTES, len(self._buffer)))
        self._ended = not chunk
        try:
            self._buffer += self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            # What comes before the wrong byte is read first.
            self._failed, self._ended = error, False
            self._buffer += error.object[: error.start].decode(error.encoding)
        return True
