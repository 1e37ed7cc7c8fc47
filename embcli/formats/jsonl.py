"""JSON Lines: one JSON value per line."""

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from embcli.formats import Item, Problem
from embcli.formats.lines import numbered_lines
from embcli.formats.source import ByteStream


def read(stream: ByteStream) -> Iterator[Item | Problem]:
    """Read a record per line; blank lines are allowed, as everybody has them at the end."""
    for line in numbered_lines(stream):
        if line.problem:
            yield line.problem
            continue
        number, text = line.number, line.text.rstrip("\r\n")
        if not text or text.isspace():
            continue
        try:
            value = DECODER.decode(text)
        except json.JSONDecodeError as error:
            yield Problem(stream.name, number, f"not JSON: {error.msg} (column {error.colno})")
        except (ValueError, RecursionError) as error:
            yield Problem(stream.name, number, f"not JSON: {explain(error)}")
        else:
            yield as_item(stream.name, value, number)


def as_item(source: str, value: Any, line: int, key: str | None = None) -> Item | Problem:
    """Accept objects and strings as records."""
    if isinstance(value, dict | str):
        return Item(value, line, key)
    name = "null" if value is None else _JSON_NAMES[type(value)]
    return Problem(source, line, f"expected an object or a string, found {name}")


def explain(error: Exception) -> str:
    """Put an error that is not json's own into words."""
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


_JSON_NAMES = {list: "an array", bool: "true or false", int: "a number", float: "a number"}


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


DECODER = json.JSONDecoder(parse_constant=_refuse)
