import pytest

from embcli import load_encoder


@pytest.fixture
def encoded(run, corpus):
    run("encode", "corpus.jsonl")


def test_show_in_the_order_asked_for(run, encoded):
    rows = run("show", "tax", "cat").rows
    assert [row["id"] for row in rows] == ["tax", "cat"]
    assert list(rows[0]) == ["id", "text", "meta", "source"]
    assert rows[0]["source"] == "corpus.jsonl:5"


def test_show_vectors(run, encoded):
    (row,) = run("show", "cat", "--vectors").rows
    expected = load_encoder("static").encode(["A cat sleeps on the warm sofa."])[0]
    assert row["vector"] == expected.tolist()


def test_show_unknown(run, encoded):
    result = run("show", "cat", "nobody")
    assert (result.code, result.out) == (1, "")
    assert "no record 'nobody'" in result.err


def test_info(run, encoded):
    rows = run("info").rows
    assert [row["what"] for row in rows] == ["store", "space", "collection", "run"]
    store, space, collection, last = (row["facts"] for row in rows)
    assert (store["records"], store["vectors"]) == (5, 5)
    assert space["recipe"]["pooling"] == "mean"
    assert (collection["records"], collection["bytes"]) == (5, 5 * 256 * 4)
    assert (last["command"], last["status"], last["counts"]["encoded"]) == ("encode", "done", 5)
    table = run("info", "-f", "table").out
    assert "embcli.db" in table
    assert "encoded: 5" in " ".join(table.split())


def test_models(run):
    rows = {row["name"]: row for row in run("models").rows}
    assert rows["static"]["available"] is True
    assert rows["static"]["dim"] == load_encoder("static").dim
    assert rows["hash"]["dim"] == load_encoder("hash").dim
    assert "yes" in run("models", "-f", "table").out


def test_collections(run, encoded):
    run("encode", "corpus.jsonl", "-c", "second", "-m", "hash")
    names = [row["name"] for row in run("collections", "list").rows]
    assert names == ["default", "second"]
    (row,) = run("collections", "info", "second").rows
    assert row["recipe"]["model"] == "hash"
    assert row["sources"] == {"corpus.jsonl": 5}
    assert row["fields"] == {"kind": 5, "year": 4}
    assert "kind: 5, year: 4" in run("collections", "info", "second", "-f", "table").out
    result = run("collections", "rename", "second", "other")
    assert (result.code, result.err) == (0, "'second' is now 'other'\n")
    assert run("search", "a cat", "-c", "other").code == 0
    assert run("collections", "rename", "other", "default").code == 2


def test_a_collection_is_not_deleted_by_accident(run, encoded):
    result = run("collections", "rm", "default")
    assert result.code == 2
    assert "not deleting 'default' (5 records)" in result.err
    result = run("collections", "rm", "default", stdin="n\n", tty=True)
    assert result.code == 2
    assert result.err.endswith("error: nothing deleted\n")
    assert run("collections", "info", "default").code == 0
    result = run("collections", "rm", "default", stdin="y\n", tty=True)
    assert result.code == 0
    result = run("collections", "list")
    assert (result.out, result.err) == ("", "note: embcli.db has no collections yet\n")
    assert "it is empty" in run("search", "x").err


def test_vacuum_makes_the_file_smaller(run, examples, home):
    run("encode", "examples/corpus.jsonl")
    run("encode", "examples/corpus.jsonl", "-c", "second", "-m", "hash")
    run("collections", "rm", "second", "--yes")
    before = (home / "embcli.db").stat().st_size
    result = run("vacuum")
    assert result.code == 0
    assert (home / "embcli.db").stat().st_size < before / 2
    assert "embcli.db: " in result.err
    assert run("search", "a storm").code == 0
