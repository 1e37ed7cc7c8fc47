"""Conditions on metadata fields, as SQL, and which parts of an index hold what meets them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any
from zlib import crc32

from embcli.errors import UsageError

Sql = tuple[str, list[Any]]

_INDEX = "meta "
# Of a value's type: 1 and 5 if it is true or false, else 0, which an index keeps in no bytes.
_BOOLEAN = "instr('truefalse', json_type({}, {}))"


@dataclass(frozen=True)
class Test:
    """What a condition says, for those who evaluate it without this table.

    Attributes
    ----------
    names : tuple of str
        The path into the metadata; empty with a column.
    column : str or None
        ``records.id``, ``records.text`` or ``records.source``, or other SQL.
    operator : str
        A comparison, or null, between, in, like, glob or contains.
    values : tuple of str, bool, int or float
    negated : bool
        Whether the condition holds where the test is false, and not where it is unknown.
    """

    names: tuple[str, ...]
    column: str | None
    operator: str
    values: tuple[Any, ...]
    negated: bool = False


@dataclass(frozen=True)
class Condition:
    """A test of one field.

    Attributes
    ----------
    sql : str
        On the table ``records``, with a ``?`` for every value.
    parameters : list
    path : str or None
        The field, if an index on it helps.
    parts : sequence of (str, list)
        Conditions that need no more than the index on the field, most of them a stretch of it.
        One of them holds wherever `sql` does, and nowhere else.
    opposite : sequence of (str, list)
        The same for ``NOT``, which holds nowhere where `sql` is NULL.
    narrow : bool
        Whether few records can be expected to meet it.
    test : Test or None
        What it says.
    """

    sql: str
    parameters: list[Any]
    path: str | None = None
    parts: Sequence[Sql] = ()
    opposite: Sequence[Sql] = ()
    narrow: bool = False
    test: Test | None = None

    def negated(self) -> "Condition":
        """Give the test that holds where this one is false."""
        sql = f"NOT {self.sql}"
        test = self.test and replace(self.test, negated=not self.test.negated)
        return Condition(sql, self.parameters, self.path, self.opposite, self.parts, test=test)


class Field:
    """A column of the record or a path into its metadata.

    Paths become part of the SQL, because an index on an expression is used only where the very
    expression is; values never do.

    Parameters
    ----------
    names : sequence of str
        The path; empty with a column.
    column : str, optional
        What the record has instead, as SQL.

    Raises
    ------
    UsageError
        A name cannot be part of a path.
    """

    def __init__(self, names: Sequence[str], column: str | None = None) -> None:
        if any('"' in name or "\0" in name for name in names):
            raise UsageError("a field name cannot contain a double quote")
        self.names = tuple(names)
        # SQLite compares names as they stand in the JSON, escapes and all.
        self.path = "$" + "".join(f".{json.dumps(name, ensure_ascii=False)}" for name in names)
        self.column = column
        self._value = column or f"json_extract(records.meta, {_quoted(self.path)})"

    @property
    def index(self) -> str:
        """Name of the index on this field."""
        # Names differ by more than case in SQLite, and fields need not.
        return f"{_INDEX}{self.path} {crc32(self.path.encode('utf-8', 'replace')):08x}"

    @property
    def index_sql(self) -> str:
        """The statement that makes the index: values, and whether they are true or false.

        It begins with the collection, so that no other is read.
        """
        path = _quoted(self.path)
        return (
            f"CREATE INDEX IF NOT EXISTS {quoted_name(self.index)} ON records "
            f"(collection, json_extract(meta, {path}), {_BOOLEAN.format('meta', path)})"
        )

    @property
    def label(self) -> str:
        """The value as text, as it is written, as SQL; NULL where it is an array or an object."""
        if self.column is not None:
            return f"CAST({self.column} AS TEXT)"
        path = _quoted(self.path)
        kind = f"json_type(records.meta, {path})"
        return (
            f"CASE {kind} WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' "
            f"WHEN 'text' THEN {self._value} WHEN 'integer' THEN CAST({self._value} AS TEXT) "
            f"WHEN 'real' THEN CAST({self._value} AS TEXT) END"
        )

    @property
    def scalar(self) -> str:
        """The value as SQL, NULL where it is an array or an object."""
        if self.column:
            return self.column
        return f"CASE WHEN {self._type} NOT IN ('array', 'object') THEN {self._value} END"

    def is_null(self, negated: bool) -> Condition:
        """Test whether the field is missing or null."""
        null, other = ((f"({self._value} IS {n}NULL)", list[Any]()) for n in ("", "NOT "))
        if negated:
            null, other = other, null
        test = self._test("null", negated=negated)
        return Condition(*null, self._indexed, [null], [other], test=test)

    def compare(self, operator: str, literal: Any) -> Condition:
        """Compare with a value.

        Parameters
        ----------
        operator : {"=", "!=", "<", "<=", ">", ">="}
        literal : str, bool, int or float
        """
        test = self._test(operator, literal)
        if isinstance(literal, bool):
            return replace(self._compare_boolean(operator, literal), test=test)
        sql, values = self._comparison(operator, literal)
        if operator == "!=":
            return self._condition(test, sql, values, None)
        text = isinstance(literal, str)
        within = f"{self._value} {operator} ?"
        if operator in ("<", "<=") and text:
            within += f" AND {self._value} >= ''"
        elif operator in (">", ">=") and not text:
            within += f" AND {self._value} < ''"
        narrow = operator == "="
        return self._condition(test, sql, values, (within, values), of_texts=text, narrow=narrow)

    def between(self, low: Any, high: Any) -> Condition:
        """Compare with two values, both included."""
        if isinstance(low, bool) or isinstance(high, bool):
            raise UsageError("--where: true and false can only be tested with = and !=")
        above, below = self._comparison(">=", low), self._comparison("<=", high)
        sql, values = f"({above[0]} AND {below[0]})", above[1] + below[1]
        test, text = self._test("between", low, high), isinstance(low, str)
        if text != isinstance(high, str):
            return self._condition(test, sql, values, None)
        within = f"{self._value} >= ? AND {self._value} <= ?"
        return self._condition(test, sql, values, (within, values), of_texts=text)

    def among(self, literals: Sequence[Any]) -> Condition:
        """Test for being equal to any of some values."""
        booleans = [self.compare("=", each) for each in literals if isinstance(each, bool)]
        texts: list[Any] = [each for each in literals if isinstance(each, str)]
        numbers: list[Any] = [
            _bindable(each) for each in literals if not isinstance(each, str | bool)
        ]
        as_number: Sql = (
            " OR ".join(self._comparison("=", each)[0] for each in numbers), numbers
        )  # fmt: skip
        as_text: Sql = (f"CAST({self._value} AS TEXT) IN ({_marks(texts)})", texts)
        tests: list[Sql] = [(each.sql, each.parameters) for each in booleans]
        parts = [part for each in booleans for part in each.parts]
        if numbers or texts:
            parts.append((f"{self._value} IN ({_marks(numbers + texts)})", numbers + texts))
        if numbers:
            tests.append(as_number)
            parts.append((f"{self._value} >= '' AND ({as_number[0]})", numbers))
        if texts:
            tests.append(as_text)
            parts.append((f"{self._value} < '' AND {as_text[0]}", texts))
        sql = f"({' OR '.join(test for test, _ in tests)})"
        values = [value for _, of_test in tests for value in of_test]
        covered = [*([as_number] if numbers else []), *([as_text] if texts else [])]
        covered += [part for each in booleans for part in each.parts]
        neither = " AND ".join([f"{self._value} IS NOT NULL", *(f"NOT ({c})" for c, _ in covered)])
        opposite = (neither, [value for _, of_part in covered for value in of_part])
        test = self._test("in", *literals)
        return Condition(sql, values, self._indexed, parts, [opposite], narrow=True, test=test)

    def matches(self, operator: str, pattern: str) -> Condition:
        """Compare with a pattern by LIKE or GLOB."""
        test = self._test(operator.lower(), pattern)
        return self._condition(test, f"(CAST({self._value} AS TEXT) {operator} ?)", [pattern], None)

    def contains(self, literal: Any) -> Condition:
        """Test for an element of an array, a key of an object, or a part of a text."""
        test = self._test("contains", literal)
        if self.column:
            return Condition(f"(instr({self._value}, ?) > 0)", [str(literal)], test=test)
        parameter: Any = literal
        if isinstance(literal, bool):
            equal, parameter = "type = ?", str(literal).lower()
        elif isinstance(literal, str):
            equal = "type NOT IN ('true', 'false') AND CAST(value AS TEXT) = ?"
        else:
            equal, parameter = "type IN ('integer', 'real') AND value = ?", _bindable(literal)
        inside = f"json_each(records.meta, {_quoted(self.path)})"
        return Condition(
            f"(CASE {self._type} "
            f"WHEN 'array' THEN EXISTS (SELECT 1 FROM {inside} WHERE {equal}) "
            f"WHEN 'object' THEN EXISTS (SELECT 1 FROM {inside} WHERE key = ?) "
            f"ELSE instr({self._value}, ?) > 0 END)",
            [parameter, str(literal), str(literal)],
            test=test,
        )

    def _test(self, operator: str, *values: Any, negated: bool = False) -> Test:
        return Test(self.names, self.column, operator, values, negated)

    @property
    def _indexed(self) -> str | None:
        return None if self.column else self.path

    @property
    def _type(self) -> str:
        return f"json_type(records.meta, {_quoted(self.path)})"

    @property
    def _boolean(self) -> str:
        return _BOOLEAN.format("records.meta", _quoted(self.path))

    def _comparison(self, operator: str, literal: Any) -> Sql:
        if isinstance(literal, str):
            return f"(CAST({self._value} AS TEXT) {operator} ?)", [literal]
        # CAST gives the right side numeric affinity, so that "2020" is compared as a number.
        # Other text sorts above every number in SQLite, even infinity.
        condition = f"{self._value} {operator} CAST(? AS NUMERIC)"
        if operator in (">", ">="):
            condition += f" AND {self._value} <= CAST(9e999 AS NUMERIC)"
        return f"({condition})", [_bindable(literal)]

    def _compare_boolean(self, operator: str, literal: bool) -> Condition:
        if self.column or operator not in ("=", "!="):
            raise UsageError("--where: true and false can only be tested with = and !=")
        which = 1 if literal else 5
        equal = f"{self._value} = {int(literal)} AND {self._boolean} = {which}"
        other = f"{self._value} IS NOT NULL AND {self._boolean} != {which}"
        same: list[Sql] = [(equal, [])]
        different: list[Sql] = [(other, [])]
        if operator == "!=":
            same, different = different, same
        sql = f"(nullif({self._type}, 'null') {operator} ?)"
        return Condition(sql, [str(literal).lower()], self._indexed, same, different)

    def _condition(
        self,
        test: Test,
        sql: str,
        values: list[Any],
        within: Sql | None,
        *,
        of_texts: bool = False,
        narrow: bool = False,
    ) -> Condition:
        """Make a condition of a test, and of a stretch of the index among texts or numbers.

        An index has numbers before texts. Those of the other kind are tested one by one: a number
        can be equal to a text, but most fields have values of one kind only.
        """
        exists = f"{self._value} IS NOT NULL"
        whole = (f"{exists} AND {sql}", values)
        rest = (f"{self._value} {'<' if of_texts else '>='} '' AND {sql}", values)
        parts = [whole] if within is None else [within, rest]
        opposite = [(f"{exists} AND NOT {sql}", values)]
        return Condition(sql, values, self._indexed, parts, opposite, narrow, test)


def cluster_sql(clustering: int) -> str:
    """Give the number of a record's cluster in the clustering of this key, as SQL."""
    which = f"clustering = {clustering} AND record = records.key"
    return f"(SELECT cluster FROM assignments WHERE {which})"


def field_at(path: str) -> Field:
    """Make a field of its path."""
    return Field(names_at(path))


def names_at(path: str) -> list[str]:
    """Take a path apart."""
    names = path[3:-1].split('"."')
    try:
        return [json.loads(f'"{name}"', strict=False) for name in names]
    except ValueError:  # of an index that an older version made, which did not escape
        return names


def indexed_path(index: str) -> str | None:
    """Tell the path from the name of an index on a field; None if it is another index."""
    return index[len(_INDEX) : -9] if index.startswith(f"{_INDEX}$") else None


def quoted_name(name: str) -> str:
    """Quote a name for SQL."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _quoted(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _bindable(number: float) -> float:
    """Integers SQLite cannot hold become the nearest float, or infinite."""
    if -(2**63) <= number < 2**63:
        return number
    try:
        return float(number)
    except OverflowError:
        return inf if number > 0 else -inf
