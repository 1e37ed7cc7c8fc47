import pytest


@pytest.fixture
def encoded(run, examples):
    assert run("encode", "examples/corpus.jsonl", "-q").code == 0


def test_figures_before_and_after(run, encoded):
    result = run("calibrate", "examples/beir")
    assert result.code == 0
    keys = [
        "calibration",
        "queries",
        "results",
        "ece",
        "brier",
        "precision",
        "recall",
        "f1",
        "kept",
    ]
    assert [list(row) for row in result.rows] == [keys, keys]
    assert [row["calibration"] for row in result.rows] == ["default", "fitted"]
    table = run("calibrate", "examples/beir", "-f", "table").out
    assert "ECE" in table
    back = run("calibrate", "--reset")
    assert (back.code, back.out) == (0, "")
    assert back.err == "'default': calibrated as built in\n"


def test_bad_input(run, encoded, home):
    assert run("calibrate", "nowhere").code == 3
    for words in ((), ("--split", "dev"), ("--reset", "examples/beir")):
        assert run("calibrate", *words).code == 2
    words = ("--qrels", "examples/beir/qrels/test.tsv", "--queries", "examples")
    assert "examples is a directory" in run("calibrate", *words).err
    assert run("calibrate", "--qrels", "x.tsv").err == "error: --qrels and --queries go together\n"
    (home / "q.txt").write_text("moon\n")
    (home / "j.tsv").write_text("1\tapollo-11-moon-1969-en\t1\nbroken line here now you see\n")
    result = run("calibrate", "--qrels", "j.tsv", "--queries", "q.txt")
    assert result.code == 3
    assert "skipped: j.tsv:2" in result.err
    assert result.rows[0]["queries"] == 1


def test_search_shows_probabilities(run, encoded):
    (row, *_) = run("search", "vaccine against smallpox", "--relevant").rows
    assert list(row) == ["rank", "id", "score", "text", "meta", "relevance"]
    table = run("search", "vaccine against smallpox", "--relevant", "-f", "table").out
    assert "relevance" in table
    nothing = run("search", "vaccine", "--relevant", "--threshold", "0.9")
    assert (nothing.code, nothing.out) == (1, "")


def test_search_composes(run, encoded):
    words = ("--plus", "mars:0.5", "--minus", "war", "--direction", "sun", "moon", "-k", "2")
    result = run("search", "landing", *words)
    assert len(result.rows) == 2
    assert result.err == "note: query + 0.5 × 'mars' − 1 × 'war' + 1 × 'moon' − 1 × 'sun'\n"
    assert len(run("search", "landing", "--given", "Rome", "--given", "Oslo").rows) == 10


def test_codes_can_be_insisted_on(run, encoded):
    refused = run("search", "moon", "--coded")
    assert refused.code == 2
    assert "has no codes; try: embcli compress --kind int8" in refused.err
    run("compress", "--kind", "int8")
    assert run("search", "moon", "--coded").out == run("search", "moon", "--exact").out
