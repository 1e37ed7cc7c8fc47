"""Filters for Milvus, and what it needs of metadata to evaluate them.

Milvus has one type for a value, and no unknown: what it makes of a field that is missing, or of
another type than what it is compared with, differs among its versions. So metadata are written
twice: as they are, which is what is read back, and as `FilterFields`, where every value stands as
a text and, if it can be one, as a number, as SQLite has them. On these, conditions mean what they
mean in a store.

What a server cannot evaluate (``like``, ``glob``, conditions on texts) becomes a condition that
holds wherever it does, and maybe elsewhere; the records that meet it are then read, and tested
here by `matching`.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from embcli.errors import UsageError
from embcli.store.fields import Condition

if TYPE_CHECKING:
    from embcli.store.where import Node

_NUMBER = re.compile(
    r"[ \t\n\v\f\r]*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?[ \t\n\v\f\r]*", re.ASCII
)
_LARGEST = 1.7976931348623157e308
_OPPOSITE = {"=": "!=", "!=": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_EVERY, _NONE = "chunk >= -2147483648", "chunk < -2147483648"
# Of rows as they are in stores.
_TABLE = (
    "CREATE TABLE records (key INTEGER PRIMARY KEY, id TEXT, text TEXT, source TEXT, meta TEXT)"
)


@dataclass(frozen=True)
class FilterFields:
    """Metadata of a record in the form that filters are evaluated on.

    Attributes
    ----------
    values : dict
        ``t.PATH`` is the text of a value, ``n.PATH`` the number, ``b.PATH`` true or false.
    lists : dict
        By path the elements of an array, or the keys of an object, as `_elements` writes them.
    """

    values: dict[str, Any]
    lists: dict[str, list[str]]


@dataclass(frozen=True)
class Expression:
    """A filter as Milvus evaluates it.

    Attributes
    ----------
    text : str
    exact : bool
        Whether it holds nowhere else than the filter does.
    """

    text: str
    exact: bool = True


class Flattener:
    """Makes `FilterFields`; SQLite says what is in metadata, as it does in stores."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:")

    def __call__(self, meta: str) -> FilterFields:
        """Take metadata, which are a JSON object, apart."""
        values: dict[str, Any] = {}
        lists: dict[str, list[str]] = {}
        if meta == "{}":
            return FilterFields(values, lists)
        paths: dict[int, str] = {}
        within: dict[int, list[str]] = {}
        tree = "SELECT id, parent, key, type, value, CAST(value AS TEXT) FROM json_tree(?)"
        for id, parent, key, kind, value, text in self._db.execute(tree, (meta,)):
            if parent is None:
                paths[id] = ""
                continue
            if parent in within:
                within[parent] += (
                    [f"k:{key}"] if isinstance(key, str) else _elements(kind, value, text)
                )
            if parent not in paths:
                continue
            path = _joined(paths[parent], str(key))
            # Of a key that is there twice, the first one counts.
            if kind == "null" or f"t.{path}" in values:
                continue
            values[f"t.{path}"] = text
            if kind in ("array", "object"):
                within[id] = lists.setdefault(path, [])
                if kind == "object":
                    paths[id] = path
            elif kind in ("true", "false"):
                values[f"b.{path}"] = kind == "true"
            number = _number(value)
            if number is not None:
                values[f"n.{path}"] = number
        return FilterFields(values, lists)


def compile_node(node: "Node", infix: bool) -> Expression:
    """Write a filter in the language of Milvus.

    Parameters
    ----------
    node : Node
        See `embcli.store.where.parse_where`.
    infix : bool
        Whether the server finds what is inside of texts: 2.3 does not.

    Raises
    ------
    UsageError
        It asks for clusters, which servers do not have.
    """
    if isinstance(node, Condition):
        return _Leaf(node, infix).expression()
    terms = [compile_node(term, infix) for term in node.terms]
    text = f" {node.word} ".join(f"({term.text})" for term in terms)
    return Expression(text, all(term.exact for term in terms))


def matching(node: "Node", rows: Iterable[Sequence[str]]) -> Iterator[bool]:
    """Tell which records meet a filter, as a store would.

    Parameters
    ----------
    node : Node
    rows : iterable of (id, text, source, meta)
    """
    db = sqlite3.connect(":memory:")
    db.execute(_TABLE)
    added = db.executemany("INSERT INTO records (id, text, source, meta) VALUES (?, ?, ?, ?)", rows)
    try:
        sql = f"SELECT key FROM records WHERE {node.sql}"
        found = {key for (key,) in db.execute(sql, node.parameters)}
    except (sqlite3.OperationalError, sqlite3.DataError) as error:
        raise UsageError(f"--where: too much for SQLite ({error})") from error
    return (key in found for key in range(1, added.rowcount + 1))


def literal(value: str | float) -> str:
    """Write a value so that it is one, whatever stands in it."""
    if not isinstance(value, str):
        return repr(value)
    for character, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r")):
        value = value.replace(character, escape)
    return f'"{value}"'


class _Leaf:
    """One condition."""

    def __init__(self, condition: Condition, infix: bool) -> None:
        test = condition.test
        if test is None or test.column not in (
            None,
            "records.id",
            "records.text",
            "records.source",
        ):
            raise UsageError(
                "--where: clusters are in stores, not on servers",
                hint="embcli pull copies a collection into a store",
            )
        self._test = test
        self._infix = infix

    def expression(self) -> Expression:
        if self._test.column is not None:
            return self._of_column(self._test.column)
        self._path = ""
        for name in self._test.names:
            self._path = _joined(self._path, name)
        self._there = self._exists("t")
        operator, values, negated = self._test.operator, self._test.values, self._test.negated
        if operator == "null":
            return Expression(self._there if negated else f"not {self._there}")
        if operator == "contains":
            return self._contains(values[0], negated)
        holds = self._either(operator, values)
        if holds is None:
            return Expression(self._there, exact=False)
        if negated or (operator == "!=" and not negated):
            # `holds` is then what must not be: != is made of =.
            if operator == "!=" and negated:
                return Expression(holds)
            return Expression(f"{self._there} and not ({holds})")
        return Expression(holds)

    def _either(self, operator: str, values: tuple[Any, ...]) -> str | None:
        """Write a test that is false where the field is missing; of != the opposite."""
        if operator in ("=", "!="):
            return self._compare("==", values[0])
        if operator in ("<", "<=", ">", ">="):
            return self._compare(operator, values[0])
        if operator == "between":
            return f"{self._compare('>=', values[0])} and {self._compare('<=', values[1])}"
        if operator == "in":
            return " or ".join(self._compare("==", value) for value in values)
        return None

    def _compare(self, operator: str, value: Any) -> str:
        if isinstance(value, bool):
            return f"({self._exists('b')} and {self._value('b')} == {str(value).lower()})"
        if isinstance(value, str):
            return f"({self._there} and {self._value('t')} {operator} {literal(value)})"
        number = _bounded(value)
        return f"({self._exists('n')} and {self._value('n')} {operator} {literal(number)})"

    def _contains(self, value: Any, negated: bool) -> Expression:
        inside = f"lists[{literal(self._path)}]"
        tokens = [f"k:{value}"]
        if isinstance(value, bool):
            tokens.append(f"b:{str(value).lower()}")
        else:
            tokens.append(f"s:{value}" if isinstance(value, str) else _number_token(value))
        among = " or ".join(f"json_contains({inside}, {literal(token)})" for token in tokens)
        holds = f"((exists {inside}) and ({among}))"
        # Of what is neither an array nor an object, the text is searched.
        searched = str(value)
        scalar = f"{self._there} and not (exists {inside})"
        if self._infix and not re.search(r"[%_\\\n\r]", searched):
            holds += f" or ({scalar} and {self._value('t')} like {literal(f'%{searched}%')})"
            return Expression(f"{self._there} and not ({holds})" if negated else holds)
        if negated:
            holds = f"(exists {inside}) and not ({among})"
        return Expression(f"({holds}) or ({scalar})", exact=False)

    def _of_column(self, column: str) -> Expression:
        operator, values, negated = self._test.operator, self._test.values, self._test.negated
        if operator == "null":
            return Expression(_EVERY if negated else _NONE)
        # Numbers are compared with ids as numbers, which takes SQLite.
        known = column != "records.text" and all(isinstance(value, str) for value in values)
        name = "record" if column == "records.id" else "source"
        if known and operator in _OPPOSITE:
            operator = _OPPOSITE[operator] if negated else operator
            return Expression(
                f"{name} {'==' if operator == '=' else operator} {literal(values[0])}"
            )
        if known and operator in ("between", "in"):
            holds = (
                f"{name} in [{', '.join(map(literal, values))}]"
                if operator == "in"
                else f"{name} >= {literal(values[0])} and {name} <= {literal(values[1])}"
            )
            return Expression(f"not ({holds})" if negated else holds)
        return Expression(_EVERY, exact=False)

    def _value(self, kind: str) -> str:
        return f"$meta[{literal(f'{kind}.{self._path}')}]"

    def _exists(self, kind: str) -> str:
        # 2.3 reads `exists a and b` as `exists (a and b)`.
        return f"(exists {self._value(kind)})"


def _joined(path: str, name: str) -> str:
    """Add a name to a path, in letters that no parser of filters stumbles over."""
    encoded = quote(name, safe="", errors="surrogatepass").replace(".", "%2E").replace("~", "%7E")
    return f"{path}.{encoded}" if path else encoded


def _elements(kind: str, value: Any, text: str | None) -> list[str]:
    """Write what an element of an array is found by: as a text, and as a number."""
    if kind in ("true", "false"):
        return [f"b:{kind}"]
    if kind == "null" or text is None:
        return []
    return [f"s:{text}"] + ([_number_token(value)] if kind in ("integer", "real") else [])


def _number_token(value: float) -> str:
    bounded = _bounded(value)
    return f"n:{int(bounded) if bounded == int(bounded) else bounded}"


def _number(value: Any) -> float | None:
    """Give what SQLite takes for a number if it is compared with one."""
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            return None
        value = float(value) if re.search("[.eE]", value) else int(value)
    return _bounded(value)


def _bounded(value: float) -> float:
    """Integers beyond 64 bits become floats, which are bounded: JSON has no infinity."""
    if isinstance(value, int) and -(2**63) < value < 2**63:
        return int(value)
    try:
        value = float(value)
    except OverflowError:
        value = _LARGEST if value > 0 else -_LARGEST
    return min(max(value, -_LARGEST), _LARGEST)
