import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest

from embcli import Store
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def encoded(run, corpus):
    run("encode", "corpus.jsonl")


def vectors(*ids, collection="default"):
    with Store("embcli.db", readonly=True) as store:
        return store.collection(collection).vectors(ids)


def test_rows_and_columns(run):
    result = run("sql", "SELECT id, length(text) AS n, NULL AS none FROM corpus ORDER BY id")
    assert result.code == 0
    assert result.rows[0] == {"id": "bank", "n": 33, "none": None}
    assert len(result.rows) == 5
    twice = run("sql", "SELECT 1 AS a, 2 AS a, 3 AS a").rows
    assert twice == [{"a": 1, "a_2": 2, "a_3": 3}]


def test_every_format(run):
    statement = "SELECT id, text FROM corpus WHERE id = 'cat'"
    assert json.loads(run("sql", statement, "-f", "json").out)[0]["id"] == "cat"
    text = "A cat sleeps on the warm sofa."
    assert run("sql", statement, "-f", "csv").out == f"id,text\ncat,{text}\n"
    assert run("sql", statement, "-f", "tsv").out == f"id\ttext\ncat\t{text}\n"
    assert run("sql", statement, "-f", "ids").out == "cat\n"
    assert "sofa" in run("sql", statement, "-f", "table").out
    assert run("sql", "-", stdin=statement).rows[0]["id"] == "cat"
    assert run("sql", "SELECT 1 WHERE 0").code == 0


def test_vectors(run):
    (row,) = run("sql", "SELECT vector('cat') AS v, vector_json(vector('cat')) AS j").rows
    (cat,) = vectors("cat")
    assert np.array_equal(np.array(row["v"], np.float32), cat)
    assert np.array_equal(np.array(json.loads(row["j"]), np.float32), cat)
    assert run("sql", "SELECT vector('nobody') AS v").rows == [{"v": None}]
    assert "] 256-d" in run("sql", "SELECT vector('cat') AS v", "-f", "table").out


def test_cosine_is_that_of_a_search(run):
    hits = run("search", "--like", "cat", "-k", "4").rows
    found = run(
        "sql",
        "SELECT id, cosine(vector(id), vector('cat')) AS score FROM records "
        "WHERE id != 'cat' ORDER BY score DESC",
    ).rows
    assert [row["id"] for row in found] == [hit["id"] for hit in hits]
    assert [row["score"] for row in found] == pytest.approx(
        [hit["score"] for hit in hits], abs=1e-8
    )


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("cosine('[1, 0]', '[1, 1]')", 0.5**0.5),
        ("cosine('[1, 0]', '[-2, 0]')", -1),
        ("cosine('[0, 0]', '[1, 0]')", None),
        ("cosine(NULL, '[1, 0]')", None),
        ("vector_json(NULL)", None),
        ("1e999", "inf"),
        ("vector(NULL)", None),
    ],
)
def test_values(run, expression, value):
    assert run("sql", f"SELECT {expression} AS x").rows[0]["x"] == pytest.approx(value)


def test_vectors_of_other_collections_and_of_chunks(run):
    run("encode", "corpus.jsonl", "-c", "cut", "--chunk", "characters=15")
    run("encode", "corpus.jsonl", "-c", "half", "--storage", "float16")
    rows = run("sql", "SELECT vector('cat', 'cut') AS cut, vector('cat', 'half') AS half").rows
    (mean,) = vectors("cat", collection="cut")
    cut = np.array(rows[0]["cut"])
    assert cut / np.linalg.norm(cut) == pytest.approx(mean, abs=1e-6)
    (half,) = vectors("cat", collection="half")
    assert np.array_equal(np.array(rows[0]["half"], np.float32), half)
    assert run("sql", "SELECT vector('cat') AS v", "-c", "half").rows[0]["v"] == rows[0]["half"]


def test_other_blobs_are_base64_as_in_sqlite_utils(run):
    (row,) = run("sql", "SELECT slots FROM segments").rows
    keys = np.frombuffer(base64.b64decode(row["slots"]["encoded"]), "<i8")
    assert row["slots"]["$base64"]
    assert sorted(keys.tolist()) == [1, 2, 3, 4, 5]
    assert "<40 bytes>" in run("sql", "SELECT slots FROM segments", "-f", "table").out


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) AS n FROM records_fts WHERE records_fts MATCH 'rates'",
        "SELECT count(*) AS n FROM json_each('[4]')",
        (
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 3) "
            "SELECT max(x) - 2 AS n FROM c"
        ),
        "SELECT count(*) AS n FROM pragma_table_info('records') WHERE name = 'id'",
    ],
)
def test_what_reading_takes(run, statement):
    run("search", "rates", "--lexical")
    assert run("sql", statement).rows == [{"n": 1 if "rates" not in statement else 2}]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM records", "UPDATE records SET text = ''", "DROP TABLE records",
        "INSERT INTO records (id) VALUES ('x')", "CREATE TABLE t (a)", "CREATE TEMP TABLE t (a)",
        "ATTACH 'other.db' AS other", "DETACH main", "PRAGMA user_version = 9",
        "PRAGMA journal_mode = DELETE", "PRAGMA query_only = 0", "PRAGMA writable_schema = 1",
        "PRAGMA wal_checkpoint", "VACUUM", "VACUUM INTO 'other.db'", "REINDEX", "ANALYZE", "BEGIN",
        "SAVEPOINT s", "SELECT load_extension('x')", "ALTER TABLE records ADD COLUMN x",
        "WITH x AS (SELECT 1) DELETE FROM records",
    ],
)  # fmt: skip
def test_nothing_but_reading(run, home, statement):
    before = (home / "embcli.db").read_bytes()
    result = run("sql", statement)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: embcli sql only reads"), result.err
    assert result.err.count("\n") == 1
    assert (home / "embcli.db").read_bytes() == before
    assert not (home / "other.db").exists()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELEC 1", 'error: SQL: near "SELEC": syntax error'),
        ("SELECT * FROM nope", "error: SQL: no such table: nope"),
        ("SELECT nope(1)", "error: SQL: no such function: nope; try: cosine"),
        ("SELECT 1; SELECT 2", "error: SQL: You can only execute one statement"),
        ("", "error: the statement gives no columns"),
        ("SELECT ?", "error: SQL: Incorrect number of bindings"),
        ("SELECT cosine(id, '[1]') FROM records", "error: a vector is a blob of float32"),
        ("SELECT cosine('[1]', '[1, 2]')", "error: cosine(): one vector has 1 components"),
        ("SELECT vector('cat', 'nope')", "error: vector(): there is no collection 'nope'"),
        ("SELECT cosine('{', '[1]')", "error: a vector is a blob"),
        ("SELECT 'a\nb' FRM x", "error: SQL: near"),
    ],
)
def test_mistakes_are_one_line(run, statement, message):
    result = run("sql", statement)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(message), result.err
    assert result.err.count("\n") == 1


def test_no_store(run):
    assert run("sql", "SELECT 1", "-d", "none.db").code == 5
    with closing(sqlite3.connect("plain.db")) as db:
        db.execute("CREATE TABLE t (a)")
    assert run("sql", "SELECT 1", "-d", "plain.db").code == 5


def test_a_store_open_for_writing_is_not_asked(home):
    from embcli.errors import StoreError

    with Store("embcli.db") as store, pytest.raises(StoreError):
        store.sql("SELECT 1")


def test_an_endless_statement_can_be_stopped():
    numbers = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
    process = subprocess.Popen(
        [sys.executable, "-m", "embcli", "sql", f"{numbers} SELECT sum(x) FROM c"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == "interrupted\n"
    assert process.returncode == 130
