import csv
import inspect
import io
import json

import pytest

from embcli.commands import eval, search

DEFAULT = ["nDCG@10", "AP@100", "RR@10", "R@100", "P@10"]
RETRIEVAL = ("eval", "retrieval", "examples/beir")


@pytest.fixture(autouse=True)
def beir(examples):
    return examples / "beir"


def test_keys_are_stable(run):
    rows = run(*RETRIEVAL).rows
    assert [row["measure"] for row in rows] == DEFAULT
    assert all(list(row) == ["measure", "value", "queries"] for row in rows)
    assert {row["queries"] for row in rows} == {8}
    assert rows[3]["value"] == 1.0
    assert 0.7 < rows[0]["value"] < 0.9


def test_what_was_done_is_said(run):
    first = run(*RETRIEVAL)
    assert "note: encoded 33, reused 0" in first.err
    assert "→ 'beir' in embcli.db (33 records)" in first.err
    again = run(*RETRIEVAL)
    assert again.err == "note: searching collection 'beir' as it is (33 records)\n"
    assert again.out == first.out
    assert run(*RETRIEVAL, "-q").err == ""
    named = run(*RETRIEVAL, "-c", "mine", "-m", "hash", "-d", "other.db")
    assert "→ 'mine' in other.db" in named.err


def test_per_query(run, beir):
    result = run(*RETRIEVAL, "--per-query", "--measure", "P@10", "--measure", "RR")
    rows = result.rows
    queries = [
        json.loads(line)["_id"] for line in (beir / "queries.jsonl").read_text().splitlines()
    ]
    assert [row["query_id"] for row in rows] == [*queries, "all"] * 2
    assert [row["measure"] for row in rows] == ["P@10"] * 9 + ["RR"] * 9
    assert all(list(row) == ["query_id", "measure", "value", "queries"] for row in rows)
    assert sum(row["value"] for row in rows[:8]) / 8 == pytest.approx(rows[8]["value"])
    assert [row["queries"] for row in rows[:9]] == [None] * 8 + [8]


def test_comparison(run):
    assert run(*RETRIEVAL, "-c", "hash", "-m", "hash", "--run", "hash.run").code == 0
    result = run(*RETRIEVAL, "--against", "hash.run", "--measure", "nDCG@10", "--measure", "R@100")
    assert list(result.rows[0]) == [
        "measure", "value", "queries", "against", "difference", "wins", "ties", "losses", "p_t",
        "p_randomization", "permutations",
    ]  # fmt: skip
    first, last = result.rows
    assert first["difference"] == pytest.approx(first["value"] - first["against"])
    assert first["wins"] + first["ties"] + first["losses"] == 8
    assert first["permutations"] == 2 ** (first["wins"] + first["losses"])
    assert (last["difference"], last["p_t"], last["p_randomization"]) == (0, 1, 1)
    assert "note: randomization tests of 1 to" in result.err
    rows = run(*RETRIEVAL, "--against", "hash.run", "--per-query", "--measure", "P@10").rows
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert all(row["difference"] == row["value"] - row["against"] for row in rows[:8])
    assert (rows[0]["p_t"], rows[8]["wins"] is None) == (None, False)


def test_a_run_is_written_and_read(run, home):
    searched = run(*RETRIEVAL, "--run", "static.run")
    lines = (home / "static.run").read_text().splitlines()
    assert len(lines) == 8 * 33
    assert lines[0].split()[:2] == ["volcanoes", "Q0"]
    assert lines[0].split()[3:] == ["1", lines[0].split()[4], "embcli"]
    read = run(*RETRIEVAL, "--from-run", "static.run", "-d", "none.db")
    assert (read.out, read.err) == (searched.out, "")
    assert not (home / "none.db").exists()


@pytest.mark.parametrize("words", [(), ("--per-query",), ("--against", "static.run")])
def test_every_format(run, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run(*RETRIEVAL, "--run", "static.run")
    rows = run(*RETRIEVAL, *words, "-f", "ndjson").rows
    assert json.loads(run(*RETRIEVAL, *words, "-f", "json").out) == rows
    as_csv = list(csv.DictReader(io.StringIO(run(*RETRIEVAL, *words, "-f", "csv").out)))
    as_tsv = run(*RETRIEVAL, *words, "-f", "tsv").out.splitlines()
    ids = run(*RETRIEVAL, *words, "-f", "ids").out.splitlines()
    for row, record, line, id in zip(rows, as_csv, as_tsv[1:], ids, strict=True):
        assert list(record) == list(row)
        assert float(record["value"]) == row["value"]
        assert line.count("\t") == len(row) - 1
        assert id == row.get("query_id", row["measure"])
    table = run(*RETRIEVAL, *words, tty=True).out
    assert "─" in table
    assert "…" not in table


def test_malformed_lines_are_skipped_named_and_exit_code_3(run, home):
    path = home / "examples" / "beir" / "qrels" / "test.tsv"
    expected = run(*RETRIEVAL).rows
    path.write_text(path.read_text() + "hearts\n" * 12)
    result = run(*RETRIEVAL)
    assert result.code == 3
    assert result.rows == expected
    assert "skipped: examples/beir/qrels/test.tsv:35: expected query-id, corpus-id" in result.err
    assert "skipped: 2 more" in result.err
    strict = run(*RETRIEVAL, "--strict")
    assert (strict.code, strict.out) == (3, "")
    assert strict.err.startswith("error: examples/beir/qrels/test.tsv:35: ")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["examples"], 3, "error: examples/qrels/test.tsv: no such file (in BEIR's layout"),
        (["examples/beir", "--split", "dev"], 3, "error: examples/beir/qrels/dev.tsv: no such"),
        (["examples/beir", "--qrels", "no.tsv"], 3, "error: no.tsv: cannot be opened (No such"),
        (["examples/beir", "--measure", "nDCG@ten"], 2, "error: 'nDCG@ten' is no measure"),
        (["examples/beir", "-k", "20"], 2, "error: --top 20 is not deep enough for AP@100, R@100"),
        (["examples/beir", "--from-run", "no.run"], 3, "error: no.run: cannot be opened"),
        (["examples/beir", "--from-run", "x", "-k", "9"], 2, "error: with --from-run nothing is"),
        (["examples/beir", "--against", "no.run"], 3, "error: no.run: cannot be opened"),
        (["examples/beir", "-m", "none/such"], 4, "error: "),
        ([], 2, "error: Missing argument 'BEIR_DIR'"),
    ],
)
def test_failures_are_one_line(run, words, code, message):
    result = run("eval", "retrieval", *words)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith(message)
    assert result.err.count("\n") == 1


def test_a_run_that_cannot_be_written(run):
    result = run(*RETRIEVAL, "--run", "no/such/run", "-q")
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: cannot write no/such/run (No such file or directory)\n"


def test_every_option_of_the_search_can_be_evaluated(run):
    """What `search` learns, `eval retrieval` has to hand on."""
    of_search = set(inspect.signature(search.command).parameters)
    about_one_query = {"query", "like", "like_file", "queries"}
    about_one_query |= {"plus", "minus", "direction", "given"}
    about_display = {"full", "width", "explain"}
    wanted = of_search - about_one_query - about_display
    assert wanted <= set(inspect.signature(eval.retrieval).parameters)
    few, none = (run(*RETRIEVAL, "--threshold", least).rows for least in ("0.3", "1.1"))
    assert few[3]["value"] > none[3]["value"] == 0


def test_other_judgments(run, beir, home):
    (home / "mine.txt").write_text("hearts 0 barnard-heart-transplant-1967 1\n")
    rows = run(*RETRIEVAL, "--qrels", "mine.txt", "--measure", "Success@5").rows
    assert rows == [{"measure": "Success@5", "value": 1.0, "queries": 1}]
    (beir / "qrels" / "test.tsv").rename(beir / "qrels" / "dev.tsv")
    assert len(run(*RETRIEVAL, "--split", "dev").rows) == 5
