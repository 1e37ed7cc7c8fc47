import pytest

from embcli.pipelines import search


@pytest.fixture
def encoded(run, corpus):
    run("encode", "corpus.jsonl")


def test_index_list_and_drop(run, encoded):
    result = run("index", "kind", "year")
    assert (result.code, result.out) == (0, "")
    assert result.err.splitlines() == ["kind: indexed", "year: indexed"]
    assert run("index", "--list").rows == [
        {"field": "kind", "records": 5},
        {"field": "year", "records": 4},
    ]
    assert "year" in run("index", "--list", "-f", "table").out
    assert "was indexed already" in run("index", "kind").err
    assert run("index", "--drop", "kind", "nothing").err.splitlines() == [
        "kind: dropped",
        "nothing: was not indexed",
    ]
    assert [row["field"] for row in run("index", "--list").rows] == ["year"]


def test_hits_are_the_same(run, encoded):
    where = 'kind != "x" and year >= 1900'
    before = run("search", "history", "-w", where).out
    assert before
    run("index", "kind", "year")
    assert run("search", "history", "-w", where).out == before
    assert run("search", "history", "--lexical", "-w", where).code in (0, 1)


def test_a_field_that_no_record_has(run, encoded):
    assert "no record has the field yaer" in run("index", "yaer").err


def test_an_encode_keeps_indexes_up_to_date(run, encoded, home):
    run("index", "kind")
    (home / "more.jsonl").write_text('{"id": "new", "text": "one more", "kind": "fresh"}\n')
    run("encode", "more.jsonl")
    assert [row["id"] for row in run("search", "more", "-w", 'kind = "fresh"').rows] == ["new"]


def test_a_slow_filter_names_the_command(run, encoded, monkeypatch):
    query = ("search", "history", "-w", "`kind` != 'x' and year > 1")
    assert "embcli index" not in run(*query).err
    monkeypatch.setattr(search, "_PATIENCE", 0)
    assert "faster: embcli index kind year" in run(*query).err
    run("index", "kind", "year")
    assert "embcli index" not in run(*query).err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give metadata fields, or --list"),
        (("--drop",), "give metadata fields, or --list"),
        (("--list", "kind"), "give metadata fields, or --list"),
        (("--list", "--drop"), "give metadata fields, or --list"),
        (("id",), "id is no metadata field"),
        (("a b",), "expected the end, found 'b'"),
    ],
)
def test_usage(run, encoded, arguments, message):
    result = run("index", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_without_a_store(run):
    assert run("index", "kind").code == 5
    assert run("index", "--list").code == 5
