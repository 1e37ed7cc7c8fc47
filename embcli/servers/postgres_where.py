r"""Filters as conditions on a table of PostgreSQL, see `embcli.store.where`.

They hold for the same records as in a store. What a value is there decides, as in SQLite: a text
is compared with texts as they are written, and with numbers if it is written like one; a missing
field and null are neither. It differs in corners: numbers are compared as decimals, not as 64-bit
integers and floats, so that large integers stay apart; where they are compared as texts, those that
jsonb writes with more than 308 characters (from 1e308, below 1e-306) are written so, and a float
that was written with an exponent and is a 64-bit integer (``1e16``) is written as one; objects, and
arrays that hold arrays, objects or numbers with exponents, are written as jsonb writes them, with
spaces, sorted keys and all digits, where they are compared with a text as a whole; a text is no
number if it is longer than 400 characters or its exponent has more than three digits.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from embcli.errors import UsageError
from embcli.servers.postgres_rows import keys_of
from embcli.servers.postgres_session import literal
from embcli.store.fields import Test
from embcli.store.where import Chain, Node

Sql = tuple[str, list[Any]]

_COLUMNS = {"records.id": "id", "records.text": "text", "records.source": "source"}
# Characters of a text that an index on it keeps: rows of indexes are limited.
_PREFIX = 256
_SPACE = r"[ \t\n\v\f\r]*"
_NUMBER = rf"^{_SPACE}[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{{1,3}})?{_SPACE}$"
_NOTHING = "(?=a)b"
_INTEGERS = (-(2**63), 2**63 - 1)
# A number as jsonb writes it, all digits: with no more than these it is no infinite float, nor 0.
_MOST_DIGITS = 308


def compile_node(node: Node, first: str | None) -> Sql:
    """Compile a filter into a condition on the rows of a collection's table.

    Parameters
    ----------
    node : Node
    first : str or None
        The table, quoted, if only the first row of each record has its text and source.

    Returns
    -------
    sql : str
        With ``%s`` for every value; true where the filter holds, else false or NULL.
    values : list

    Raises
    ------
    UsageError
        It asks for what is not on the server.
    """
    if isinstance(node, Chain):
        terms = [compile_node(term, first) for term in node.terms]
        joined = f" {node.word.upper()} ".join(sql for sql, _ in terms)
        return f"({joined})", [value for _, values in terms for value in values]
    test = node.test
    if test is None or (test.column is not None and test.column not in _COLUMNS):
        raise UsageError(
            "--where: clusters are in stores, not on servers",
            hint="search the store itself: embcli search -d FILE",
        )
    sql, values = _compile(test, _Value(test.names, test.column))
    if first and test.column in ("records.text", "records.source"):
        # Not a join: the rows are wanted in the order of an index.
        sql = f"((key IN (SELECT key FROM {first} WHERE chunk = 0 AND {sql})) IS TRUE)"
    return sql, values


def field_indexes(names: Sequence[str]) -> list[str]:
    """Give the expressions that indexes on a metadata field are of."""
    value = _Value(names, None)
    return [f"({value.number})", f"({value.prefix})"]


class _Value:
    """What a field is in a row, as SQL.

    Attributes
    ----------
    exists : str
        True where it is there and not null.
    text : str
        As it is compared with texts.
    number : str
        As it is compared with numbers; NULL where it is not written like one.
    prefix : str or None
        What an index may have of the text: its beginning, but of arrays and objects one bracket.
    """

    def __init__(self, names: Sequence[str], column: str | None) -> None:
        self.column = None if column is None else _COLUMNS[column]
        self.names = names
        if self.column is not None:
            self.json = ""
            self.exists = f"({self.column} IS NOT NULL)"
            self.text = f'({self.column} COLLATE "C")'
            self.number = _as_number(self.column)
            self.prefix = None
            return
        self.json = "meta" + "".join(f" -> {literal(name)}" for name in names)
        self.json = f"({self.json})"
        plain = f"({self.json} #>> '{{}}')"
        boolean = f"CASE WHEN {self.json} = 'true' THEN '1' ELSE '0' END"
        self.kind = f"jsonb_typeof({self.json})"
        self.exists = f"({self.kind} <> 'null')"
        self.text = _as_text(self.json)
        self.number = (
            f"CASE {self.kind} WHEN 'number' THEN {plain}::numeric "
            f"WHEN 'boolean' THEN ({boolean})::numeric "
            f"WHEN 'string' THEN {_as_number(plain)} END"
        )
        self.prefix = (
            f"((CASE {self.kind} WHEN 'array' THEN '[' WHEN 'object' THEN '{{' "
            f"WHEN 'boolean' THEN {boolean} WHEN 'null' THEN NULL "
            f"WHEN 'number' THEN left({_number_as_text(plain)}, {_PREFIX}) "
            f'ELSE left({plain}, {_PREFIX}) END) COLLATE "C")'
        )

    def containing(self, value: Any) -> str:
        """Give the JSON that metadata contain where the field is this."""
        for name in reversed(self.names):
            value = {name: value}
        return json.dumps(value, ensure_ascii=False)


def _compile(test: Test, value: _Value) -> Sql:
    if test.operator == "null":
        return (value.exists if test.negated else f"({value.exists} IS NOT TRUE)"), []
    _check(test.values)
    sql, values = _holds(test, value)
    # Unknown is what is not there, and nothing else.
    return (f"({value.exists} AND {sql} IS NOT TRUE)" if test.negated else sql), values


def _holds(test: Test, value: _Value) -> Sql:
    operator, values = test.operator, test.values
    if operator in ("=", "in"):
        return _equal(value, values)
    if operator == "!=":
        sql, bound = _equal(value, values)
        return f"({value.exists} AND {sql} IS NOT TRUE)", bound
    if operator == "between":
        low, high = _ordered(value, ">=", values[0]), _ordered(value, "<=", values[1])
        return f"({low[0]} AND {high[0]})", low[1] + high[1]
    if operator in ("<", "<=", ">", ">="):
        return _ordered(value, operator, values[0])
    if operator == "like":
        # Of other scripts SQLite takes letters as they are.
        pattern = _lower(values[0])
        return f"(lower({value.text}) LIKE %s::text ESCAPE '')", [pattern]
    if operator == "glob":
        return f"({value.text} ~ %s::text)", [glob_regex(values[0])]
    if operator == "contains":
        return _contains(value, values[0])
    raise UsageError(f"--where: {operator} cannot be evaluated by PostgreSQL")


def _equal(value: _Value, literals: Sequence[Any]) -> Sql:
    """Test for being equal to any of some values."""
    terms: list[Sql] = []
    booleans = [each for each in literals if isinstance(each, bool)]
    texts = [each for each in literals if isinstance(each, str)]
    numbers = [each for each in literals if not isinstance(each, bool | str)]
    terms += [("(meta @> %s::jsonb)", [value.containing(each)]) for each in booleans]
    if numbers:
        decimals = [_decimal(each) for each in numbers]
        terms.append((f"({value.number} = ANY(%s::numeric[]))", [decimals]))
    if texts and value.column == "id":
        terms.append(("(key = ANY(%s::uuid[]) AND id = ANY(%s::text[]))", [keys_of(texts), texts]))
    elif texts and value.prefix is None:
        terms.append((f"({value.text} = ANY(%s::text[]))", [texts]))
    elif texts:
        prefixes = [p for each in texts for p in {each[:_PREFIX], *_bracket(each)}]
        if all(re.match(r"[^\d\s\[{.+-]", each) for each in texts):
            # Only a text can be equal to them, and metadata are indexed by what they contain.
            whole = "meta @> ANY(%s::jsonb[])"
            bound = [prefixes, [value.containing(each) for each in texts]]
        else:
            whole, bound = f"{value.text} = ANY(%s::text[])", [prefixes, texts]
        terms.append((f"({value.prefix} = ANY(%s::text[]) AND {whole})", bound))
    return f"({' OR '.join(sql for sql, _ in terms)})", [v for _, bound in terms for v in bound]


def _ordered(value: _Value, operator: str, literal: Any) -> Sql:
    if not isinstance(literal, str):
        return f"({value.number} {operator} %s::numeric)", [_decimal(literal)]
    exact = f"{value.text} {operator} %s::text"
    if value.prefix is None:
        return f"({exact})", [literal]
    if operator in ("<", "<="):
        return f"({value.prefix} <= %s::text AND {exact})", [literal, literal]
    near = f'({value.prefix} >= %s::text OR {value.prefix} = ANY(\'{{"[","{{"}}\'::text[]))'
    return f"({near} AND {exact})", [literal[:_PREFIX], literal]


def _contains(value: _Value, literal: Any) -> Sql:
    inside = f"(strpos({value.text}, %s::text) > 0)"
    if value.column is not None:
        return inside, [str(literal)]
    element = "element.value"
    bound: Any = literal
    if isinstance(literal, bool):
        equal, bound = f"{element} = %s::jsonb", str(literal).lower()
    elif isinstance(literal, str):
        equal = f"jsonb_typeof({element}) <> 'boolean' AND {_as_text(element)} = %s::text"
    else:
        equal = f"{_number_of(element)} = %s::numeric"
        bound = _decimal(literal)
    array = f"CASE {value.kind} WHEN 'array' THEN {value.json} ELSE '[]' END"
    sql = (
        f"(CASE {value.kind} WHEN 'array' THEN EXISTS "
        f"(SELECT 1 FROM jsonb_array_elements({array}) AS element WHERE {equal}) "
        f"WHEN 'object' THEN jsonb_exists({value.json}, %s::text) ELSE {inside} END)"
    )
    return sql, [bound, str(literal), str(literal)]


def _number_of(json: str) -> str:
    """Give a JSON number; NULL of all else."""
    return f"(CASE jsonb_typeof({json}) WHEN 'number' THEN ({json} #>> '{{}}')::numeric END)"


def _as_text(json: str) -> str:
    """Give a JSON value as SQLite would cast it; of an array, as it is written without spaces."""
    number = _number_as_text(f"({json} #>> '{{}}')")
    return (
        f"((CASE jsonb_typeof({json}) WHEN 'null' THEN NULL "
        f"WHEN 'boolean' THEN CASE WHEN {json} = 'true' THEN '1' ELSE '0' END "
        f"WHEN 'array' THEN '[' || coalesce((SELECT string_agg(part.value::text, ',' "
        f"ORDER BY part.ordinality) FROM jsonb_array_elements(CASE jsonb_typeof({json}) "
        f"WHEN 'array' THEN {json} ELSE '[]' END) WITH ORDINALITY AS part), '') || ']' "
        f"WHEN 'number' THEN {number} "
        f"ELSE {json} #>> '{{}}' END) COLLATE \"C\")"
    )


def _number_as_text(plain: str) -> str:
    """Write a JSON number as SQLite does: integers of 64 bits, or floats with 15 digits.

    PostgreSQL casts floats to decimals of 15 digits, and writes as many as tell them apart. All
    that is immutable, as indexes take it.
    """
    number = f"{plain}::numeric"
    low, high = _INTEGERS
    return (
        # Most numbers are small integers, which is found out without a cast.
        f"CASE WHEN length({plain}) < 19 AND strpos({plain}, '.') = 0 THEN {plain} "
        f"WHEN length({plain}) > {_MOST_DIGITS} THEN {plain} "
        f"WHEN scale({number}) = 0 AND {number} BETWEEN {low} AND {high} THEN {plain} "
        f"ELSE regexp_replace({number}::float8::numeric::float8::text, "
        "'^(-?[0-9]+)(e|$)', '\\1.0\\2') END"
    )


def _as_number(text: str) -> str:
    """Give a text as the number that it is written like; else NULL."""
    return (
        f'CASE WHEN length({text}) <= 400 AND {text} COLLATE "C" ~ {literal(_NUMBER)} '
        f"THEN {text}::numeric END"
    )


def _decimal(number: float) -> str:
    return {"inf": "Infinity", "-inf": "-Infinity"}.get(repr(number), repr(number))


def _bracket(text: str) -> list[str]:
    return [text[0]] if text[:1] in ("[", "{") else []


def _lower(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


def _check(values: Sequence[Any]) -> None:
    for value in values:
        if isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
            raise UsageError(f"--where: {value[:40]!r} has a character that PostgreSQL cannot hold")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def glob_regex(pattern: str) -> str:
    """Write a pattern of GLOB as a regular expression of PostgreSQL.

    ``*`` is any text, ``?`` any character, ``[…]`` one of a set, with ranges, ``[^…]`` one that is
    not in it; a bracket that is not closed matches nothing.
    """
    parts, at = ["^"], 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "[":
            spans, inverted, at = _glob_set(pattern, at)
            if at < 0:
                return _NOTHING
            chars = "".join(f"{_escape(low)}-{_escape(high)}" for low, high in spans)
            if chars:
                parts.append(f"[{'^' if inverted else ''}{chars}]")
            else:
                parts.append("." if inverted else _NOTHING)
        else:
            parts.append({"*": ".*", "?": "."}.get(char) or _escape(char))
    return "".join(parts) + "$"


def _glob_set(pattern: str, at: int) -> tuple[list[tuple[str, str]], bool, int]:
    """Read a set of GLOB, as SQLite does; give where it ends, -1 if it does not."""
    inverted = pattern[at : at + 1] == "^"
    at += inverted
    spans: list[tuple[str, str]] = []
    before = ""
    begun = at
    while at < len(pattern) and (pattern[at] != "]" or at == begun):
        char, after = pattern[at], pattern[at + 1 : at + 2]
        if char == "-" and before and after not in ("", "]"):
            if before <= after:
                spans.append((before, after))
            before, at = "", at + 2
            continue
        spans.append((char, char))
        # What begins a set as a bracket begins no range.
        before, at = ("" if char == "]" else char), at + 1
    return spans, inverted, (at + 1 if at < len(pattern) else -1)


def _escape(char: str) -> str:
    return char if char.isascii() and char.isalnum() else f"\\U{ord(char):08x}"
