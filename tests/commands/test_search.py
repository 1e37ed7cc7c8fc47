import pytest


@pytest.fixture
def encoded(run, corpus):
    run("encode", "corpus.jsonl")


def ids(result):
    return [row["id"] for row in result.rows]


def test_keys_are_stable(run, encoded):
    (row,) = run("search", "interest rates", "-k", "1").rows
    assert list(row) == ["rank", "id", "score", "text", "meta"]
    row = run("search", "--queries", "-", "-k", "1", stdin="one\n").rows[0]
    assert list(row) == ["query_id", "query", "rank", "id", "score", "text", "meta"]


def test_nothing_found_is_exit_code_1(run, encoded):
    result = run("search", "x", "--where", 'kind = "none"')
    assert (result.code, result.out) == (1, "")
    assert result.err == "error: nothing found in collection 'default'\n"
    assert run("search", "x", "--threshold", "1.5", "-f", "json").out == "[]\n"


def test_where_and_threshold(run, encoded):
    assert ids(run("search", "money", "--where", 'year >= 2021 and kind != "pet"')) == ["bank"]
    result = run("search", "x", "--where", "kind = pet")
    assert result.code == 2
    assert "expected a value" in result.err
    assert "found 'pet' (column 8)" in result.err


def test_many_queries(run, encoded, home):
    lines = '{"_id": "q1", "text": "pets"}\n{"_id": "q2", "text": "taxes and laws"}\n'
    (home / "q.jsonl").write_text(lines)
    rows = run("search", "--queries", "q.jsonl", "-k", "2").rows
    assert [(row["query_id"], row["rank"]) for row in rows] == [
        ("q1", 1), ("q1", 2), ("q2", 1), ("q2", 2)
    ]  # fmt: skip
    assert rows[2]["id"] == "tax"
    rows = run("search", "-", "-k", "1", stdin="pets\n\ntaxes and laws\n").rows
    assert [(row["query_id"], row["query"]) for row in rows] == [
        ("1", "pets"), ("3", "taxes and laws")
    ]  # fmt: skip
    assert "query" in run("search", "-", "-f", "table", stdin="pets\n").out


def test_like(run, encoded):
    assert ids(run("search", "--like", "bond", "-k", "1")) == ["bank"]
    result = run("search", "--like", "nobody")
    assert result.code == 1
    assert result.err == "error: collection 'default' has no record 'nobody'\n"


def test_texts_in_the_table(run, encoded, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    words = ("search", "interest rates", "-k", "1", "-f", "table")
    assert "…" in run(*words).out
    full = run(*words, "--full").out
    assert "…" not in full
    assert "kind:" in full
    assert "rates rose." in full
    cut = run(*words, "--width", "5").out
    assert "Bond…" in cut


def test_insisting_on_a_model(run, encoded):
    assert run("search", "x", "-m", "static").code == 0
    result = run("search", "x", "-m", "hash")
    assert result.code == 2
    assert "encoded with 'static', not 'hash'; try: embcli encode FILE --model hash" in result.err
