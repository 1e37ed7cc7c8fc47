"""JSON documents: an array of records, or an object that is or holds them; streamed."""

import codecs
import json
from collections.abc import Iterator
from typing import Any

from embcli.errors import InputError
from embcli.formats import Item, Problem
from embcli.formats.fields import guess_text_field
from embcli.formats.jsonl import DECODER, as_item, explain
from embcli.formats.lines import wrong_byte
from embcli.formats.source import SAMPLE_BYTES, ByteStream

_SPACE = " \t\n\r"
_LONGEST_TAIL = 16  # a number, literal or escape cut off by the end of the buffer is shorter
_PAIRS_LOOKED_AT = 1000


def read(stream: ByteStream) -> Iterator[Item | Problem]:
    """Read the records of a JSON document, holding only one of them in memory at a time.

    - An array: its elements.
    - An object with a text field: one record.
    - An object that holds an array of objects: the elements of that array.
    - Any other object: its values, named by their keys.
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
    text.skip("[")
    if text.peek() != "]":
        while True:
            line = text.line_here()
            yield as_item(source, text.value(), line)
            if text.peek() != ",":
                break
            text.skip(",")
    text.skip("]")


def _members(text: "_Cursor", source: str) -> Iterator[Item | Problem]:
    first_line = text.line_here()
    text.skip("{")
    held: dict[str, tuple[Any, int]] = {}
    streaming = False
    more = text.peek() != "}"
    while more:
        line = text.line_here()
        key = text.value()
        if not isinstance(key, str):
            raise _Broken(line, "not JSON: expected a property name in double quotes")
        text.skip(":")
        if text.peek() == "[" and not streaming and text.begins_objects():
            fields = {name: value for name, (value, _) in held.items()}
            if guess_text_field([fields]) is None:
                yield from _elements(text, source)
                yield from _rest_after_array(text, source)
                return
        value = text.value()
        if streaming:
            yield as_item(source, value, line, key)
        else:
            held[key] = (value, line)
            if len(held) > _PAIRS_LOOKED_AT:
                streaming = True
                yield from _as_mapping(held, source)
        more = text.peek() == ","
        if more:
            text.skip(",")
    text.skip("}")
    if not streaming and held:
        fields = {name: value for name, (value, _) in held.items()}
        values = list(fields.values())
        if guess_text_field([fields]) is None and (
            all(isinstance(v, dict) for v in values)
            or (len(values) > 1 and all(isinstance(v, str) for v in values))
        ):
            yield from _as_mapping(held, source)
        else:
            yield Item(fields, first_line)
    elif not streaming:
        yield Item({}, first_line)


def _as_mapping(held: dict[str, tuple[Any, int]], source: str) -> Iterator[Item | Problem]:
    for key, (value, line) in held.items():
        yield as_item(source, value, line, key)


def _rest_after_array(text: "_Cursor", source: str) -> Iterator[Item | Problem]:
    """Read past what follows the array of records in its object."""
    while text.peek() == ",":
        text.skip(",")
        line = text.line_here()
        if not isinstance(text.value(), str):
            raise _Broken(line, "not JSON: expected a property name in double quotes")
        text.skip(":")
        if text.peek() == "[" and text.begins_objects():
            yield from _elements(text, source)
        else:
            text.value()
    text.skip("}")


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

    def begins_objects(self) -> bool:
        """Whether an array that starts here has an object as its first element."""
        while True:
            rest = self._buffer[self._at + 1 :].lstrip(_SPACE)
            if rest:
                return rest[0] == "{"
            if not self._more():
                return False

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
        chunk = self._stream.read(max(SAMPLE_BYTES, len(self._buffer)))
        self._ended = not chunk
        try:
            self._buffer += self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(error.encoding)
            line = self.line + (self._buffer + before).count("\n")
            raise _Broken(line, wrong_byte(error)) from error
        return True
