"""Filters on PostgreSQL find the records that they find in a store."""

import json
import random
import sqlite3

import numpy as np
import pytest

from embcli.errors import UsageError
from embcli.servers import Header, Sought, connect
from embcli.store.where import compile_where, parse_where
from tests.engines.postgres_server import batch, database, quiet, recipe, server  # noqa: F401

pytestmark = pytest.mark.engines

TEXTS = [
    "", "a", "A", "ab", "Ärger", "ärger", "ß%_", "3", " 4 ", "-1", "+5", "1e2", ".5", "5.", "0x10",
    "3a", "1 2", "[", "[x]", "{", "true", "null", "it's \"q\"", "back\\slash", "%s", "\n", "😀b",
    "2024-01-31", "x" * 300, "x" * 300 + "y", "١",
]  # fmt: skip
NUMBERS = [0, 1, 2, 3, -1, 5, 100, 4, 0.5, 1.5, -0.25, 1.0, 2**53 + 1, 2**62, -(2**63)]
# Written with exponents, or with fewer digits than they have.
FLOATS = [1e300, -1e22, 1e-7, 1.5e-9, 2**63, -(2**63) - 1, 0.1 + 0.2, 0.0001, 1e15, -0.0,
          123456.789, 999999999999999.9, 1e307]  # fmt: skip
SCALARS = [*TEXTS, *NUMBERS, True, False, None]
FIELDS = ["p", "q", "o.x", "o.y", "`odd ' %s name`", "missing", "t", "meta.id"]
COLUMNS = ["id", "text", "source"]


def made_meta(choose):
    meta = {}
    for name in ("p", "q", "odd ' %s name", "id"):
        if choose.random() < 0.8:
            meta[name] = choose.choice(SCALARS)
    if choose.random() < 0.7:
        meta["o"] = choose.choice([{"x": choose.choice(SCALARS), "y": choose.choice(NUMBERS)}, [1]])
    if choose.random() < 0.7:
        items = [choose.choice(SCALARS) for _ in range(choose.randrange(4))]
        meta["t"] = choose.choice([items, {"a": 1, "3": 2}, "ab3"])
    return meta


def written(literal):
    if isinstance(literal, bool):
        return str(literal).lower()
    if isinstance(literal, str):
        return '"' + literal.replace('"', '""') + '"'
    return repr(literal)


def made_filter(choose, depth=0):
    kind = choose.random()
    if depth < 3 and kind < 0.35:
        word = choose.choice(["and", "or"])
        return f"({made_filter(choose, depth + 1)} {word} {made_filter(choose, depth + 1)})"
    if depth < 3 and kind < 0.5:
        return f"not {made_filter(choose, depth + 1)}"
    column = choose.random() < 0.2
    field = choose.choice(COLUMNS if column else FIELDS)
    literals = [written(choose.choice([*TEXTS, *NUMBERS])) for _ in range(3)]
    boolean = written(choose.random() < 0.5)
    patterns = ["%a%", "_", "%Ä%", "[%", "\\%", "x%y", "%3", "%,%", '%"%', "%%"]
    globs = ["*a*", "?", "[a-z]*", "[^a-z]*", "[]x]*", "[", "*[0-9]", "[z-a]", "[-a]*", "x*y", "Ä*"]
    negation = choose.choice(["", "not "])
    tests = [
        *(f"{operator} {literals[0]}" for operator in ("=", "!=", "<", "<=", ">", ">=")),
        f"{negation}between {literals[0]} and {literals[1]}",
        f"{negation}in ({', '.join(literals)}" + ("" if column else f", {boolean}") + ")",
        f"{negation}like {written(choose.choice(patterns))}",
        f"{negation}glob {written(choose.choice(globs))}",
        f"{negation}contains {choose.choice([*literals, boolean])}",
        f"is {negation}null",
    ]
    if not column:
        tests.append(f"{choose.choice(['=', '!='])} {boolean}")
    return f"{field} {choose.choice(tests)}"


@pytest.fixture(scope="module")
def records():
    choose = random.Random(2)
    return [(f"{n}{choose.choice(TEXTS[:20])}", choose.choice(TEXTS), made_meta(choose))
            for n in range(250)]  # fmt: skip


@pytest.fixture(scope="module")
def local(records):
    """What a store's SQLite makes of a filter."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE records (id TEXT, text TEXT, source TEXT, meta TEXT)")
    connection.executemany(
        "INSERT INTO records VALUES (?, ?, ?, ?)",
        [
            (id, text, f"file:{row}", json.dumps(meta, ensure_ascii=False))
            for row, (id, text, meta) in enumerate(records)
        ],
    )

    def found(expression):
        sql, values = compile_where(expression)
        return {id for (id,) in connection.execute(f"SELECT id FROM records WHERE {sql}", values)}

    yield found
    connection.close()


@pytest.fixture(scope="module", params=["whole", "chunked", "indexed"])
def remote(request, server, database, records):  # noqa: F811
    """A table of them, whole or in two chunks each, and one with indexes on the fields."""
    chunked = request.param == "chunked"
    n = len(records)
    spans = [np.array([(0, 1), (1, 2)])] * n if chunked else None
    vectors = np.random.default_rng(0).normal(size=(2 * n if chunked else n, 4))
    ids, texts, metas = zip(*records, strict=True)
    metas = [json.dumps(meta, ensure_ascii=False) for meta in metas]
    server.execute("CREATE SCHEMA IF NOT EXISTS filters", database=database)
    with connect(server.url(database, table=f"filters.{request.param}")) as host:
        header = Header(recipe(4), chunking="words" if chunked else None)
        made = host.create(host.named, header)
        made.write(batch(ids, vectors, texts=texts, metas=metas, spans=spans), range(n))
        made.finish(FIELDS if request.param == "indexed" else [], quiet)
        if request.param == "indexed":
            # Tables as small as this one are read as a whole else.
            host._session.connection.execute("SET enable_seqscan = off")
        yield made


def found(remote, expression):
    """Every row of a record passes, or none."""
    from embcli.servers.postgres_where import compile_node

    first = remote._table if remote._chunked else None
    sql, values = compile_node(parse_where(expression), first)
    rows = remote._session.connection.execute(
        f"SELECT id, count(*) FROM {remote._table} WHERE {sql} GROUP BY id", values
    ).fetchall()
    assert all(count == (2 if remote._chunked else 1) for _, count in rows)
    return {id for id, _ in rows}


def test_filters_are_those_of_a_store(remote, local):
    choose = random.Random(3)
    sizes = []
    for _ in range(1500):
        expression = made_filter(choose)
        expected = local(expression)
        assert found(remote, expression) == expected, expression
        sizes.append(len(expected))
    # Most of them tell something.
    assert sum(0 < size < 250 for size in sizes) > 700


def test_numbers_are_texts_as_a_store_writes_them(server, database):  # noqa: F811
    """Every number against every text that a number may be, and parts of these."""
    ids = [f"n{row}" for row in range(len(FLOATS) + len(NUMBERS))]
    metas = [json.dumps({"x": number, "l": [number]}) for number in [*FLOATS, *NUMBERS]]
    store = sqlite3.connect(":memory:")
    store.execute("CREATE TABLE records (id TEXT, text TEXT, source TEXT, meta TEXT)")
    store.executemany("INSERT INTO records VALUES (?, '', '', ?)", zip(ids, metas, strict=True))
    texts = [t for (t,) in store.execute("SELECT CAST(meta ->> 'x' AS TEXT) FROM records")]
    assert {"1.0e+300", "-1.0e+22", "0.3", "9.22337203685478e+18"} <= set(texts)
    expressions = [
        f'{field} {test} "{text}"'
        for text in {*texts, "10", "e", "1e+22", "9.2"}
        for field, test in [("x", "="), ("x", "<"), ("x", ">="), ("x", "contains"), ("x", "like"),
                            ("l", "contains")]
    ]  # fmt: skip
    expressions += [f"x contains {part}" for part in (10, 1e22, 0.1, 1e-7)]
    expressions += ['x between "1" and 100', 'x like "%e%"', 'x glob "*.0e*"', 'x > "1"']
    with connect(f"{server.url(database)}?options=-csearch_path%3Dpublic") as host:
        made = host.create("floats", Header(recipe(2)))
        made.write(batch(ids, np.ones((len(ids), 2)), metas=metas), range(len(ids)))
        made.finish(["x"], quiet)
        try:
            for setting in ("on", "off"):
                host._session.connection.execute(f"SET enable_seqscan = {setting}")
                for expression in expressions:
                    sql, values = compile_where(expression)
                    query = f"SELECT id FROM records WHERE {sql}"
                    expected = {id for (id,) in store.execute(query, values)}
                    assert found(made, expression) == expected, expression
        finally:
            host.drop("floats")
            store.close()


@pytest.mark.parametrize(
    ("expression", "oracle"),
    [
        ('p = "a"', "meta @@ '$.p == \"a\"'"),
        ("q >= 3 and q < 200 and q not like '%e%'",
         """meta @@ '$.q >= 3 && $.q < 200' OR meta->>'q' IN ('3', ' 4 ', '5.', '+5')"""),
        ("p = true", "meta->'p' = 'true'"),
        ("o.y is not null", "meta#>>'{o,y}' IS NOT NULL"),
        ("missing is null and p is null", "meta->>'p' IS NULL"),
        ('id > "2" and id <= "3"', "id COLLATE \"C\" > '2' AND id COLLATE \"C\" <= '3'"),
        ('t contains "ab"', """meta->'t' @> '["ab"]' OR (meta->>'t' LIKE '%%ab%%'
            AND jsonb_typeof(meta->'t') = 'string')"""),
    ],
)  # fmt: skip
def test_filters_agree_with_postgresql_itself(remote, expression, oracle):
    rows = remote._session.connection.execute(f"SELECT id FROM {remote._table} WHERE {oracle}", ())
    expected = {id for (id,) in rows}
    assert expected
    assert found(remote, expression) == expected


def test_streams_and_searches_are_filtered(remote, local):
    for expression in ("p = 3", 'text like "%a%" or q > 1', "not (p is null)"):
        node, expected = parse_where(expression), local(expression)
        for n in (1, 7, 1000):
            streamed = [id for each in remote.batches(n, node) for id in each.ids]
            assert len(streamed) == len(expected)
            assert set(streamed) == expected
        for exact in (False, True):
            hits = remote.search(Sought(np.ones((1, 4), np.float32), 1000, where=node, exact=exact))
            assert {hit.id for hit in hits[0]} == expected
            assert len(hits[0]) == len(expected)


def test_a_number_of_many_digits_fits_into_an_index(server, database):  # noqa: F811
    with connect(f"{server.url(database)}?options=-csearch_path%3Dpublic") as host:
        made = host.create("digits", Header(recipe(2)))
        try:
            metas = [f'{{"x": {"7123456890" * 1000}}}', '{"x": 5}']
            made.write(batch(["many", "few"], np.ones((2, 2)), metas=metas), [1, 2])
            made.finish(["x"], quiet)
            assert found(made, 'x like "7123%"') == {"many"}
            assert found(made, 'x > "6"') == {"many"}
            assert found(made, 'x <= "6"') == {"few"}
        finally:
            host.drop("digits")


def test_an_index_on_a_field_is_used(server, database):  # noqa: F811
    from embcli.servers.postgres_where import compile_node

    with connect(server.url(database)) as host:
        made = host.create("many", Header(recipe(2)))
        metas = [json.dumps({"year": n % 500, "day": f"d{n % 700:03d}"}) for n in range(5000)]
        ids = [str(n) for n in range(5000)]
        made.write(batch(ids, np.ones((5000, 2)), metas=metas), range(5000))
        made.finish(["year", "day"], quiet)
        for expression in ("year = 3", "year < 4", 'day = "d003"', 'day >= "d698"',
                           'day in ("d001", "d002")'):  # fmt: skip
            sql, values = compile_node(parse_where(expression), None)
            plan = host._session.connection.execute(
                f"EXPLAIN SELECT id FROM many WHERE {sql}", values
            ).fetchall()
            assert "Index Scan" in str(plan), (expression, plan)
        host.drop("many")


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_what_no_text_can_be_is_refused(remote, text):
    with pytest.raises(UsageError, match="PostgreSQL cannot hold"):
        found(remote, f'p = "{text}"')


def test_clusters_are_in_stores(remote):
    node = parse_where("cluster = 3 or p = 1", {"topics": 7})
    with pytest.raises(UsageError, match="clusters are in stores"):
        list(remote.batches(10, node))
