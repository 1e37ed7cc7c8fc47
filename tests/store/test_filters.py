"""Indexes on metadata fields: filters mean the same, and read nothing but the index."""

import json
import sqlite3

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embcli import Recipe, Record, Store
from embcli.errors import UsageError
from embcli.store import filters
from embcli.store.fields import Field
from embcli.store.where import compile_where, name_of, parse_field

RECIPE = Recipe({"model": "m", "dim": 1, "normalized": True, "maps": []})
# Names that only quoting keeps apart, and that are words of SQL or of the filter language.
NAMES = ["p", "P", "a.b", "`a.b`", "`it's ? \\ records.x`", "meta.id", "é"]
PATHS = [["p"], ["P"], ["a", "b"], ["a.b"], ["it's ? \\ records.x"], ["id"], ["é"]]


def write(collection, metas):
    records = [Record(str(n), "text", meta) for n, meta in enumerate(metas)]
    collection.add(records, np.ones((len(records), 1), np.float32))


def scanned(store, collection, expression):
    """The keys that one statement finds which no index can serve."""
    sql, parameters = compile_where(expression)
    rows = store._db.all(
        f"SELECT key FROM records NOT INDEXED WHERE collection = ? AND {sql} ORDER BY key",
        (collection._key, *parameters),
    )
    return [key for (key,) in rows]


def found(collection, expression):
    return np.flatnonzero(collection.filter(expression)).tolist()


TEXTS = ["", "a", "A", "é", "3", " 3", "3.0", "-1", "1e2", "2020", "0x10", "Inf", "true", "a\0b",
         "9223372036854775808", "[1]", "9e999", "0.3"]  # fmt: skip
NUMBERS = [0, 1, -1, 3, 2020, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 10**30, 0.5, 3.0, -0.0, 1e300,
           0.1 + 0.2, 0.3]  # fmt: skip
values = st.one_of(
    st.sampled_from(TEXTS), st.sampled_from(NUMBERS), st.booleans(), st.none(),
    st.just([1, "a"]), st.just({"k": 1}), st.integers(-3, 3), st.text(max_size=3).filter(
        lambda text: not any(0xD800 <= ord(c) < 0xE000 for c in text)
    ),
)  # fmt: skip


@st.composite
def metas(draw):
    meta = {}
    for path in draw(st.lists(st.sampled_from(PATHS), unique_by=tuple, max_size=4)):
        value = draw(values)
        if len(path) == 2:
            value, path = {path[1]: value}, path[:1]
        meta[path[0]] = value
    return meta


def quoted(text):
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


literals = st.one_of(
    st.sampled_from(TEXTS).map(quoted), st.sampled_from([n for n in NUMBERS if n >= 0]).map(str),
    st.sampled_from(["true", "false", "-1", "9e999", "-3.5"]),
)  # fmt: skip
plain = literals.filter(lambda literal: literal not in ("true", "false"))


@st.composite
def comparisons(draw):
    name = draw(st.sampled_from(NAMES))
    negated = draw(st.sampled_from(["", "not "]))
    kind = draw(st.sampled_from(["compare", "in", "between", "null", "like", "contains"]))
    if kind == "compare":
        operator = draw(st.sampled_from(["=", "!=", "<", "<=", ">", ">="]))
        value = draw(literals if operator in ("=", "!=") else plain)
        return f"{negated}{name} {operator} {value}"
    if kind == "in":
        several = draw(st.lists(literals, min_size=1, max_size=4))
        return f"{name} {negated}in ({', '.join(several)})"
    if kind == "between":
        return f"{name} {negated}between {draw(plain)} and {draw(plain)}"
    if kind == "null":
        return f"{name} is {negated}null"
    if kind == "like":
        pattern = draw(st.sampled_from(["3%", "%", "A", "%.%"]))
        return f"{name} {negated}{draw(st.sampled_from(['like', 'glob']))} {quoted(pattern)}"
    return f"{name} {negated}contains {draw(literals)}"


expressions = st.recursive(
    comparisons(),
    lambda inner: st.builds(
        lambda sign, word, left, right: f"{sign}({left} {word} {right})",
        st.sampled_from(["", "not "]), st.sampled_from(["and", "or"]), inner, inner,
    ),
    max_leaves=4,
)  # fmt: skip


@given(
    rows=st.lists(metas(), min_size=1, max_size=12),
    others=st.lists(metas(), max_size=3),
    wheres=st.lists(expressions, min_size=1, max_size=8),
    indexed=st.sets(st.sampled_from(NAMES)),
    few=st.sampled_from([0, filters._FEW]),
    at_once=st.sampled_from([2, filters._KEYS_AT_ONCE]),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_indexes_change_nothing(home, monkeypatch, rows, others, wheres, indexed, few, at_once):
    monkeypatch.setattr(filters, "_FEW", few)
    monkeypatch.setattr(filters, "_KEYS_AT_ONCE", at_once)
    (home / "f.db").unlink(missing_ok=True)
    with Store(home / "f.db") as store:
        other = store.create_collection("other", RECIPE)
        collection = store.create_collection("c", RECIPE)
        write(other, others)
        write(collection, rows)
        expected = [scanned(store, collection, where) for where in wheres]
        assert [found(collection, where) for where in wheres] == expected
        for name in indexed:
            assert store.create_index(name)
        assert {info.field for info in store.indexes()} == indexed
        assert [found(collection, where) for where in wheres] == expected
        write(collection, rows[::-1])  # the indexes follow
        assert [found(collection, where) for where in wheres] == [
            scanned(store, collection, where) for where in wheres
        ]


@pytest.fixture
def store(home):
    with Store("embcli.db") as store:
        collection = store.create_collection("default", RECIPE)
        write(collection, [{"n": n, "s": f"s{n % 7}", "b": n % 2 == 0} for n in range(500)])
        store.create_index("n")
        store.create_index("s")
        store.create_index("b")
        yield store


SIMPLE = [
    "n = 3", "n < 30", "n <= 30", "n > 30", "n >= 30", "n != 30", "n in (1, 2)", 's = "s3"',
    's in ("s1", "s2")', 's > "s2"', 's <= "s2"', 's between "s1" and "s4"', "n between 3 and 40",
    "n is null", "n is not null", "b = true", "b != true", 's like "s%"', "not n = 3",
    'n = "30"', "s = 3", "not n in (1, true)", "not b = false", "s not in (1, 's2')",
]  # fmt: skip


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 40), reason="this SQLite reads the records")
@pytest.mark.parametrize("where", SIMPLE)
def test_simple_conditions_read_the_index_alone(store, monkeypatch, where):
    """The plan names the index, and its program neither seeks a record nor parses JSON."""
    asked = []
    value = store._db.value

    def noting(sql, parameters=()):
        asked.append((sql, parameters))
        return value(sql, parameters)

    collection = store.collection("default")
    expected = scanned(store, collection, where)
    monkeypatch.setattr(store._db, "value", noting)
    assert found(collection, where) == expected
    queries = [(sql, p) for sql, p in asked if "group_concat" in sql]
    assert queries
    for sql, parameters in queries:
        (plan,) = store._db.all(f"EXPLAIN QUERY PLAN {sql}", parameters)
        assert "USING INDEX meta $." in plan[3] or "USING COVERING INDEX meta $." in plan[3]
        program = store._db.all(f"EXPLAIN {sql}", parameters)
        tables = {row[2] for row in program if row[1] == "OpenRead" and "k(" not in str(row[5])}
        assert not [row for row in program if row[1] == "Column" and row[2] in tables]
        assert not [row for row in program if "json" in str(row[5]) and row[1] != "OpenRead"]


def test_an_index_narrows_what_is_parsed(store, monkeypatch):
    collection = store.collection("default")
    where = 'm is null and n < 10 and s like "s%"'
    read = []
    monkeypatch.setattr(
        filters.Filter, "_scan", lambda self, node: read.append(node) or pytest.fail("scanned")
    )
    assert len(found(collection, where)) == 10
    assert collection.unindexed(where) == ["m"]
    assert collection.unindexed('n = 1 and text = "x" and t contains "x" and s is null') == []
    assert collection.unindexed("`a b` = 1 or meta.id = 2 or a.b = 3") == [
        "`a b`", "meta.id", "a.b",
    ]  # fmt: skip


def test_making_and_dropping(store):
    assert [(info.field, info.records) for info in store.indexes()] == [
        ("b", 500), ("n", 500), ("s", 500),
    ]  # fmt: skip
    assert not store.create_index("n")
    assert store.drop_index("n")
    assert not store.drop_index("n")
    assert len(found(store.collection("default"), "n < 10")) == 10
    assert [info.field for info in store.indexes()] == ["b", "s"]
    for wrong in ("id", "text", "a b", "", 'a"b', "`a", "and"):
        with pytest.raises(UsageError):
            store.create_index(wrong)


@pytest.mark.parametrize("path", PATHS)
def test_names_are_read_as_they_are_written(path):
    dollar = Field(path).path
    assert parse_field(name_of(dollar)).path == dollar


def test_metadata_in_a_store_are_json(store):
    """What the oracle of these tests relies on."""
    (meta,) = store._db.one("SELECT meta FROM records LIMIT 1")
    assert json.loads(meta) == {"n": 0, "s": "s0", "b": True}


@pytest.mark.parametrize("name", ["back\\slash", "line\nbreak", "tab\t", "\x1f", "\\u0041", "\x7f"])
def test_names_that_json_escapes_are_found(home, name):
    with Store("a.db") as store:
        collection = store.create_collection("default", RECIPE)
        write(collection, [{name: 5}, {name: 6}, {"back": {"slash": 5}}])
        assert found(collection, f"`{name}` = 5") == [1]
        store.create_index(f"`{name}`")
        assert found(collection, f"`{name}` >= 5") == [1, 2]
        (index,) = store.indexes()
        assert parse_field(index.field).path == parse_field(f"`{name}`").path
