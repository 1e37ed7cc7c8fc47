"""The filter language of ``--where``: a condition on metadata, compiled to SQL.

    category = "sport" and year >= 2020
    (lang in ("en", "de") or not draft = true) and title like "%cup%"
    tags contains "ai" and deleted is null

Names are metadata fields (``a.b`` reaches into objects, backquotes take any name); ``id``,
``text`` and ``source`` are the record's own, ``meta.id`` is the metadata field of that name.
``cluster`` is the number of the record's cluster in the last clustering of its collection, -1 in
none, and ``cluster.NAME`` that in the clustering of this name; in a collection without clusterings
they are metadata, too.
Every value travels as a bound parameter.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from embcli.errors import UsageError
from embcli.store.fields import Condition, Field, Sql, cluster_sql, names_at

_TOKEN = re.compile(
    r"""
    \s* (?:
      (?P<string>"(?:[^"]|"")*"|'(?:[^']|'')*')
    | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
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
_NONE: Mapping[str, int] = {}


@dataclass(frozen=True)
class Chain:
    """Conditions joined by one word."""

    word: str
    terms: "tuple[Node, ...]"

    @property
    def sql(self) -> str:
        """The condition on the table ``records``."""
        return f"({f' {self.word.upper()} '.join(term.sql for term in self.terms)})"

    @property
    def parameters(self) -> list[Any]:
        """A value for every ``?``."""
        return [value for term in self.terms for value in term.parameters]

    def negated(self) -> "Chain":
        """Give the condition that holds where this one is false: De Morgan, also with NULL."""
        word = "or" if self.word == "and" else "and"
        return Chain(word, tuple(term.negated() for term in self.terms))


Node = Condition | Chain


def compile_where(expression: str, clusterings: Mapping[str, int] = _NONE) -> Sql:
    """Compile a filter into a condition on the table ``records``.

    Parameters
    ----------
    expression : str
    clusterings : mapping from str to int
        The collection's clusterings by name, with their keys, the last one at the end.

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
    node = parse_where(expression, clusterings)
    return node.sql, node.parameters


def parse_where(expression: str, clusterings: Mapping[str, int] = _NONE) -> Node:
    """Take a filter apart; see `compile_where`."""
    return _Parser(expression, clusterings=clusterings).parse()


def parse_field(
    name: str, *, or_column: bool = False, clusterings: Mapping[str, int] = _NONE
) -> Field:
    """Read the name of a metadata field as it is written in a filter.

    Raises
    ------
    UsageError
        It is no such name, or that of a column where it must not be.
    """
    return _Parser(name, f"field {name!r}", clusterings).field(or_column)


def name_of(path: str) -> str:
    """Write the name of a metadata field as `parse_field` reads it."""
    joined = ".".join(names_at(path))
    for name in (joined, f"meta.{joined}"):
        try:
            if parse_field(name).path == path:
                return name
        except UsageError:
            continue
    return f"`{joined}`"


class _Parser:
    """Recursive descent: or, and, not, comparison."""

    def __init__(
        self, expression: str, what: str = "--where", clusterings: Mapping[str, int] = _NONE
    ) -> None:
        self._text = expression
        self._what = what
        self._clusterings = clusterings
        self._tokens = self._scan()
        self._at = 0
        self._depth = 0

    def field(self, or_column: bool) -> Field:
        field = self._field()
        if self._kind() != "end":
            self._fail("the end")
        if field.column and not or_column:
            raise UsageError(
                f"{self._text.strip()} is no metadata field",
                hint=f"of metadata it is: meta.{self._text.strip()}",
            )
        return field

    def parse(self) -> Node:
        result = self._chain("or", lambda: self._chain("and", self._not))
        if self._kind() != "end":
            self._fail("'and' or 'or'")
        return result

    def _scan(self) -> list[tuple[str, str, int]]:
        tokens = []
        end = len(self._text.rstrip())
        position = 0
        while position < end:
            match = _TOKEN.match(self._text, position)
            if match is None or match.lastgroup is None:
                at = len(self._text) - len(self._text[position:].lstrip())
                raise UsageError(
                    f"{self._what}: cannot read {self._text[at : at + 40]!r} (column {at + 1})",
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
            f"{self._what}: expected {expected}, found {found} (column {position + 1})",
            hint="""for example: --where 'category = "sport" and year >= 2020'"""
            if self._what == "--where"
            else "odd names in backquotes: '`a b`'",
        )

    def _chain(self, word: str, operand: Callable[[], Node]) -> Node:
        terms = [operand()]
        while self._accept(word):
            terms.append(operand())
        return terms[0] if len(terms) == 1 else Chain(word, tuple(terms))

    def _not(self) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UsageError(f"{self._what}: nested more than {_DEEPEST} deep")
        result: Node
        if self._accept("not"):
            result = self._not().negated()
        elif self._accept("("):
            result = self._chain("or", lambda: self._chain("and", self._not))
            self._expect(")")
        else:
            result = self._comparison()
        self._depth -= 1
        return result

    def _comparison(self) -> Condition:
        field = self._field()
        if self._word() in _COMPARISONS:
            return self._compare(field, _COMPARISONS[self._next()])
        if self._accept("is"):
            negated = self._accept("not")
            self._expect("null")
            return field.is_null(negated)
        negated = self._accept("not")
        condition = self._predicate(field)
        return condition.negated() if negated else condition

    def _predicate(self, field: Field) -> Condition:
        if self._accept("in"):
            return self._in(field)
        if self._accept("between"):
            low = self._value()
            self._expect("and")
            return field.between(low, self._value())
        if self._word() in ("like", "glob"):
            return field.matches(self._next().upper(), self._string())
        if self._accept("contains"):
            return field.contains(self._literal())
        self._fail("a comparison (= != < <= > >= in between like glob contains is)")

    def _field(self) -> Field:
        kind = self._kind()
        if kind == "quoted":
            return Field([self._next()[1:-1]])
        if kind != "name" or self._word() in ("and", "or", "not", "in", "is"):
            self._fail("a field name")
        name = self._next()
        if name in _COLUMNS:
            return Field([], _COLUMNS[name])
        first, _, which = name.partition(".")
        if first == "cluster" and self._clusterings:
            return self._cluster(name, which)
        return Field(name.removeprefix("meta.").split("."))

    def _cluster(self, name: str, which: str) -> Field:
        which = which or [*self._clusterings][-1]
        if which not in self._clusterings:
            raise UsageError(
                f"{self._what}: no clustering {which!r} (there are: "
                f"{', '.join(self._clusterings)})",
                hint=f"of metadata it is: meta.{name}",
            )
        return Field([], cluster_sql(self._clusterings[which]))

    def _compare(self, field: Field, operator: str) -> Condition:
        return field.compare(operator, self._value())

    def _value(self) -> Any:
        if self._word() == "null":
            self._fail("a value ('is null' finds missing fields)")
        return self._literal()

    def _in(self, field: Field) -> Condition:
        self._expect("(")
        literals = [self._literal()]
        while self._accept(","):
            literals.append(self._literal())
        self._expect(")")
        return field.among(literals)

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
