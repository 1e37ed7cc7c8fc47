"""The filter language of ``--where``: a condition on metadata, compiled to SQL.

    category = "sport" and year >= 2020
    (lang in ("en", "de") or not draft = true) and title like "%cup%"
    tags contains "ai" and deleted is null

Names are metadata fields (``a.b`` reaches into objects, backquotes take any name); ``id``,
``text`` and ``source`` are the record's own, ``meta.id`` is the metadata field of that name.
Every value travels as a bound parameter.
"""

import re
from collections.abc import Callable
from typing import Any, NoReturn

from embcli.errors import UsageError

_TOKEN = re.compile(
    r"""
    \s* (?:
      (?P<string>"(?:[^"]|"")*"|'(?:[^']|'')*')
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<quoted>`[^`]+`)
    | (?P<name>[^\W\d](?:[\w-]*\w)?(?:\.\w(?:[\w-]*\w)?)*)
    | (?P<symbol><=|>=|!=|<>|==|[=<>(),])
    )
    """,
    re.VERBOSE,
)
_COLUMNS = {"id": "records.id", "text": "records.text", "source": "records.source"}
_COMPARISONS = {"==": "=", "<>": "!="} | {s: s for s in ("=", "!=", "<", "<=", ">", ">=")}
_DEEPEST = 100

Sql = tuple[str, list[Any]]


def compile_where(expression: str) -> Sql:
    """Compile a filter into a condition on the table ``records``.

    Parameters
    ----------
    expression : str

    Returns
    -------
    sql : str
        With a ``?`` for every value.
    parameters : list

    Raises
    ------
    UsageError
        The expression cannot be read; the message shows the place.
    """
    return _Parser(expression).parse()


def compile_field(name: str) -> Sql:
    """Compile the name of a field into an expression on the table ``records``.

    It is NULL where the field is missing, or is an array or an object. Parameters and results
    are as of `compile_where`.
    """
    try:
        return _Parser(name).parse_field()
    except UsageError as error:
        raise UsageError(
            f"{name!r} is not the name of a field",
            hint="author.name reaches into objects, backquotes take any name: `a b`",
        ) from error


class _Parser:
    """Recursive descent: or, and, not, comparison."""

    def __init__(self, expression: str) -> None:
        self._text = expression
        self._tokens = self._scan()
        self._at = 0
        self._depth = 0

    def parse(self) -> Sql:
        result = self._chain("or", lambda: self._chain("and", self._not))
        if self._kind() != "end":
            self._fail("'and' or 'or'")
        return result

    def parse_field(self) -> Sql:
        field = self._field()
        if self._kind() != "end":
            self._fail("the end")
        return field.scalar

    def _scan(self) -> list[tuple[str, str, int]]:
        tokens = []
        end = len(self._text.rstrip())
        position = 0
        while position < end:
            match = _TOKEN.match(self._text, position)
            if match is None or match.lastgroup is None:
                at = len(self._text) - len(self._text[position:].lstrip())
                raise UsageError(
                    f"--where: cannot read {self._text[at : at + 40]!r} (column {at + 1})",
                    hint='texts in quotes, odd names in backquotes: `a b` = "x"',
                )
            kind = match.lastgroup
            tokens.append((kind, match.group(kind), match.start(kind)))
            position = match.end()
        tokens.append(("end", "", end))
        return tokens

    def _kind(self) -> str:
        return self._tokens[self._at][0]

    def _word(self) -> str:
        """Return the token in lower case if it may be a keyword or symbol, else nothing."""
        kind, token, _ = self._tokens[self._at]
        return token.lower() if kind in ("name", "symbol") else ""

    def _next(self) -> str:
        token = self._tokens[self._at][1]
        self._at += 1
        return token

    def _accept(self, *words: str) -> bool:
        if self._word() in words:
            self._at += 1
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            self._fail(repr(word))

    def _fail(self, expected: str) -> NoReturn:
        _, token, position = self._tokens[self._at]
        found = repr(token) if token else "the end"
        raise UsageError(
            f"--where: expected {expected}, found {found} (column {position + 1})",
            hint="""for example: --where 'category = "sport" and year >= 2020'""",
        )

    def _chain(self, word: str, operand: Callable[[], Sql]) -> Sql:
        parts = [operand()]
        while self._accept(word):
            parts.append(operand())
        if len(parts) == 1:
            return parts[0]
        sql = f" {word.upper()} ".join(part for part, _ in parts)
        return f"({sql})", [value for _, values in parts for value in values]

    def _not(self) -> Sql:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UsageError(f"--where: nested more than {_DEEPEST} deep")
        if self._accept("not"):
            sql, values = self._not()
            result = f"NOT {sql}", values
        elif self._accept("("):
            result = self._chain("or", lambda: self._chain("and", self._not))
            self._expect(")")
        else:
            result = self._comparison()
        self._depth -= 1
        return result

    def _comparison(self) -> Sql:
        field = self._field()
        if self._word() in _COMPARISONS:
            return self._compare(field, _COMPARISONS[self._next()])
        if self._accept("is"):
            negated = "NOT " if self._accept("not") else ""
            self._expect("null")
            sql, values = field.value
            return f"({sql} IS {negated}NULL)", values
        negated = "NOT " if self._accept("not") else ""
        if self._accept("in"):
            return self._in(field, negated)
        if self._accept("between"):
            low, low_values = self._compare(field, ">=")
            self._expect("and")
            high, high_values = self._compare(field, "<=")
            return f"{negated}({low} AND {high})", low_values + high_values
        if self._word() in ("like", "glob"):
            operator = self._next().upper()
            sql, values = field.value
            return f"{negated}(CAST({sql} AS TEXT) {operator} ?)", [*values, self._string()]
        if self._accept("contains"):
            sql, values = field.contains(self._literal())
            return f"{negated}{sql}", values
        self._fail("a comparison (= != < <= > >= in between like glob contains is)")

    def _field(self) -> "_Field":
        kind = self._kind()
        if kind == "quoted":
            return _Field([self._next()[1:-1]])
        if kind != "name" or self._word() in ("and", "or", "not", "in", "is"):
            self._fail("a field name")
        name = self._next()
        if name in _COLUMNS:
            return _Field([], _COLUMNS[name])
        return _Field(name.removeprefix("meta.").split("."))

    def _compare(self, field: "_Field", operator: str) -> Sql:
        if self._word() == "null":
            self._fail("a value ('is null' finds missing fields)")
        return field.compare(operator, self._literal())

    def _in(self, field: "_Field", negated: str) -> Sql:
        self._expect("(")
        literals = [self._literal()]
        while self._accept(","):
            literals.append(self._literal())
        self._expect(")")
        texts = [literal for literal in literals if isinstance(literal, str)]
        parts = [field.compare("=", value) for value in literals if not isinstance(value, str)]
        if texts:
            sql, values = field.value
            marks = ", ".join("?" * len(texts))
            parts.append((f"CAST({sql} AS TEXT) IN ({marks})", [*values, *texts]))
        sql = " OR ".join(part for part, _ in parts)
        return f"{negated}({sql})", [value for _, values in parts for value in values]

    def _string(self) -> str:
        if self._kind() != "string":
            self._fail("a quoted pattern")
        token = self._next()
        return token[1:-1].replace(token[0] * 2, token[0])

    def _literal(self) -> Any:
        kind = self._kind()
        if kind == "string":
            return self._string()
        if kind == "number":
            token = self._next()
            exact = len(token) < 400 and not re.search(r"[.eE]", token)
            return int(token) if exact else float(token)
        if self._word() in ("true", "false"):
            return self._next().lower() == "true"
        self._fail("a value (a number, true, false or a quoted string)")


class _Field:
    """A column of the record or a path into its metadata."""

    def __init__(self, path: list[str], column: str | None = None) -> None:
        if any('"' in part for part in path):
            raise UsageError("--where: a field name cannot contain a double quote")
        self._path = "$" + "".join(f'."{part}"' for part in path)
        self._column = column

    @property
    def value(self) -> Sql:
        if self._column:
            return self._column, []
        return "json_extract(records.meta, ?)", [self._path]

    @property
    def scalar(self) -> Sql:
        """The value, unless it is an array or an object."""
        sql, values = self.value
        if self._column:
            return sql, values
        kind = "json_type(records.meta, ?)"
        return f"CASE WHEN {kind} NOT IN ('array', 'object') THEN {sql} END", [self._path, *values]

    def compare(self, operator: str, literal: Any) -> Sql:
        sql, values = self.value
        if isinstance(literal, bool):
            if self._column or operator not in ("=", "!="):
                raise UsageError("--where: true and false can only be tested with = and !=")
            sql = f"(nullif(json_type(records.meta, ?), 'null') {operator} ?)"
            return sql, [self._path, str(literal).lower()]
        if isinstance(literal, str):
            return f"(CAST({sql} AS TEXT) {operator} ?)", [*values, literal]
        # CAST gives the right side numeric affinity, so that "2020" is compared as a number.
        # Other text sorts above every number in SQLite, even infinity.
        condition = f"{sql} {operator} CAST(? AS NUMERIC)"
        if operator in (">", ">="):
            return f"({condition} AND {sql} <= CAST(9e999 AS NUMERIC))", [
                *values,
                _bindable(literal),
                *values,
            ]
        return f"({condition})", [*values, _bindable(literal)]

    def contains(self, literal: Any) -> Sql:
        """Test for an element of an array, a key of an object, or a part of a text."""
        sql, values = self.value
        if self._column:
            return f"(instr({sql}, ?) > 0)", [str(literal)]
        parameter: Any = literal
        if isinstance(literal, bool):
            equal, parameter = "type = ?", str(literal).lower()
        elif isinstance(literal, str):
            equal = "type NOT IN ('true', 'false') AND CAST(value AS TEXT) = ?"
        else:
            equal, parameter = "type IN ('integer', 'real') AND value = ?", _bindable(literal)
        return (
            f"(CASE json_type(records.meta, ?) "
            f"WHEN 'array' THEN EXISTS "
            f"(SELECT 1 FROM json_each(records.meta, ?) WHERE {equal}) "
            f"WHEN 'object' THEN EXISTS (SELECT 1 FROM json_each(records.meta, ?) WHERE key = ?) "
            f"ELSE instr({sql}, ?) > 0 END)",
            [self._path, self._path, parameter, self._path, str(literal), *values, str(literal)],
        )


def _bindable(number: float) -> float:
    """Integers SQLite cannot hold become the nearest float."""
    return number if -(2**63) <= number < 2**63 else float(number)
