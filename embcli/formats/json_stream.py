"""JSON documents: an array of records, or an object that is or holds them; streamed."""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from embcli.errors import InputError
from embcli.formats import Item, Problem
from embcli.formats.fields import guess_text_field
from embcli.formats.jsonl import DECODER, explain
from embcli.formats.jsonl import as_item as item_of
from embcli.formats.lines import wrong_byte
from embcli.formats.source import SAMPLE_BYTES, ByteStream

_SPACE = " \t\n\r"
_LONGEST_TAIL = 16  # a number, literal or escape cut off by the end of the buffer is shorter
_MEMBERS_LOOKED_AT = 1000
# Where strings begin and end, and what is nested.
_OUTSIDE, _INSIDE = re.compile(r'["\[\]{}]'), re.compile(r'["\\]')


def read(stream: ByteStream) -> Iterator[Item | Problem]:
    """Read the records of a JSON document.

    - An array: its elements.
    - An object that holds an array of objects: the elements of that array.
    - An object with a text field: one record.
    - An object of columns, {"text": {"0": ..., "1": ...}}: its rows.
    - Any other object: its values, named by their keys.

    Arrays, and objects of more than a thousand members, are streamed: one record is in memory
    at a time. A value that is too large is passed over; an object that has to be in memory as a
    whole ends there. What comes after a mistake cannot be read.
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


@dataclass(frozen=True)
class _TooLarge:
    """In the place of a value that was passed over."""

    message: str


def as_item(source: str, value: Any, line: int, key: str | None = None) -> Item | Problem:
    """Accept objects and strings as records."""
    if isinstance(value, _TooLarge):
        return Problem(source, line, value.message)
    return item_of(source, value, line, key)


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
    size = 0
    for key, line in _keys(text):
        size = text.hold(size, len(key))
        if text.peek() == "[":
            elements = _array(text)
            first = next(elements, None)
            if first is not None and _holds_records(first[0], held):
                yield as_item(source, *first)
                yield from (as_item(source, value, line) for value, line in elements)
                for _ in _keys(text, begun=True):
                    text.value()
                return
            value = []
            for element, _ in chain([] if first is None else [first], elements):
                value.append(element)
                size = text.hold(size, text.length)
        else:
            value = text.value()
            size = text.hold(size, text.length)
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
    kept = [value for value in values if not isinstance(value, _TooLarge)]
    are_objects = bool(kept) and all(isinstance(value, dict) for value in kept)
    are_texts = len(kept) > 1 and all(isinstance(value, str) for value in kept)
    lost = _lost(values)
    whole = Item(fields, line) if lost is None else as_item(source, lost, line)
    if guess_text_field([fields]) is not None:
        yield whole
    elif lost is None and are_objects and (columns := _columns(fields)) is not None:
        for key in columns:
            row = {name: column[key] for name, column in fields.items() if key in column}
            yield Item(row, line, str(key))
    elif len(values) == 1 and isinstance(values[0], list):
        yield from (as_item(source, value, line) for value in values[0])
    elif are_objects or are_texts:
        yield from (as_item(source, m.value, m.line, m.key) for m in held)
    else:
        yield whole


def _lost(values: list[Any]) -> _TooLarge | None:
    """Find what was passed over among values and the elements of those that are arrays."""
    parts = (part for value in values for part in (value if isinstance(value, list) else [value]))
    return next((part for part in parts if isinstance(part, _TooLarge)), None)


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
    length : int
        Of the value that was read last, in characters; 1 if it was passed over.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(stream.encoding)()
        self._buffer = ""
        self._at = 0
        self._ended = False
        self._failed: UnicodeDecodeError | None = None
        self._longest = stream.longest
        self.line = 1
        self.length = 0

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

    def hold(self, size: int, more: int) -> int:
        """Add to the size of what has to stay in memory, which may be as large as a record."""
        if size + more > self._longest:
            message = self._stream.too_large("what is not an array of records, and is read whole,")
            raise _Broken(self.line, message)
        return size + more

    def value(self) -> Any:
        """Read one JSON value, or pass over one that is too large."""
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
                if cut_off and len(self._buffer) - self._at > self._longest:
                    return self._pass_over()
                if cut_off and self._more():
                    continue
                line = self.line + self._buffer.count("\n", self._at, error.pos)
                raise _Broken(line, f"not JSON: {error.msg}") from error
            except (ValueError, RecursionError) as error:
                raise _Broken(self.line, f"not JSON: {explain(error)}") from error
        self.length = end - self._at
        self._advance(end)
        if self.length > self._longest:
            self.length = 1
            return _TooLarge(self._stream.too_large("this JSON value"))
        return value

    def _pass_over(self) -> _TooLarge:
        """Pass over a string, an array or an object, however long, holding little of it."""
        line, depth, quoted = self.line, 0, False
        while True:
            found = (_INSIDE if quoted else _OUTSIDE).search(self._buffer, self._at)
            mark = found[0] if found else ""
            end = found.end() if found else len(self._buffer)
            if mark == "\\":
                end += 1  # with what is escaped
            if found is None or end > len(self._buffer):
                self._advance(found.start() if found else end)
                if not self._more():
                    raise _Broken(line, "not JSON: the document ends too early")
                continue
            self._advance(end)
            if mark == '"':
                quoted = not quoted
            elif mark in "[{":
                depth += 1
            elif mark in "]}":
                depth -= 1
            if depth <= 0 and not quoted:
                self.length = 1
                return _TooLarge(self._stream.too_large("this JSON value"))

    def _advance(self, end: int) -> None:
        self.line += self._buffer.count("\n", self._at, end)
        self._at = end

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
