import json

import pytest


def test_summary_and_guess_are_on_stderr(run, corpus):
    result = run("encode", "corpus.jsonl")
    assert (result.code, result.out) == (0, "")
    guess, summary = result.err.splitlines()
    assert guess == "note: corpus.jsonl: text = text, id = id, metadata = kind, year"
    assert summary.startswith("encoded 5, reused 0, updated 0, skipped 0, truncated 0 in ")
    assert summary.endswith(" → 'default' in embcli.db (5 records)")


def test_from_standard_input(run, corpus):
    assert run("encode", "-", stdin=corpus.read_bytes()).code == 0
    assert run("show", "cat").rows[0]["source"] == "stdin:1"
    run("encode", "-", "-c", "lines", stdin="one\ntwo\n")
    assert run("show", "stdin:2", "-c", "lines").rows[0]["text"] == "two"


def test_malformed_records_give_exit_code_3_and_ten_names(run, home):
    lines = ['{"text": "good"}'] + ["bad"] * 25
    (home / "a.jsonl").write_text("\n".join(lines))
    result = run("encode", "a.jsonl", "-q")
    assert result.code == 3
    shown = result.err.splitlines()
    assert shown[0] == "skipped: a.jsonl:2: not JSON: Expecting value (column 1)"
    assert shown[10] == "skipped: 15 more"
    assert len(shown) == 11
    assert len(run("search", "x").rows) == 1


def test_empty_texts_are_reported_and_are_no_failure(run, home):
    (home / "a.jsonl").write_text('{"id": 1, "text": ""}\n{"id": 2, "text": "x"}\n')
    result = run("encode", "a.jsonl")
    assert result.code == 0
    assert "skipped: a.jsonl:1: record '1' has no text" in result.err
    assert "skipped 1" in result.err


def test_strict(run, home):
    (home / "a.jsonl").write_text('{"text": "good"}\nbad\n{"text": "late"}\n')
    result = run("encode", "a.jsonl", "--strict", "-q")
    assert result.code == 3
    assert result.err.startswith("error: a.jsonl:2: not JSON: Expecting value (column 1); try: ")
    assert [row["text"] for row in run("search", "x").rows] == ["good"]


def test_dry_run_shows_records_and_stores_nothing(run, corpus, home):
    result = run("encode", "corpus.jsonl", "--dry-run")
    assert result.code == 0
    assert result.rows[0] == {
        "id": "cat",
        "text": "A cat sleeps on the warm sofa.",
        "meta": {"kind": "pet", "year": 2019},
        "source": "corpus.jsonl:1",
    }
    assert len(result.rows) == 5
    assert not (home / "embcli.db").exists()
    corpus.write_text("bad\n" + corpus.read_text())
    assert run("encode", "corpus.jsonl", "--dry-run").code == 3


def test_options_for_reading(run, home):
    (home / "a.csv").write_bytes("nr|Text|note\n1|caf\xe9|x\n".encode("latin-1"))
    words = ["encode", "a.csv", "--encoding", "latin-1", "--delimiter", "|", "--id-field", "nr"]
    assert run(*words, "--text-field", "Text", "--meta-field", "note").code == 0
    (row,) = run("show", "1").rows
    assert (row["text"], row["meta"]) == ("café", {"note": "x"})
    run("encode", "a.csv", "--encoding", "latin-1", "--no-header", "--line-ids", "-c", "rows")
    assert run("show", "a.csv:2", "-c", "rows").rows[0]["meta"] == {"1": 1, "3": "x"}


def test_whole_files(run, home):
    (home / "a.md").write_text("# One\n\ntwo\n")
    run("encode", "a.md", "--per", "file")
    assert run("show", "a.md").rows[0]["text"] == "# One\n\ntwo\n"


def test_prune(run, corpus):
    run("encode", "corpus.jsonl")
    corpus.write_text("".join(corpus.read_text().splitlines(keepends=True)[:2]))
    assert "pruned 3" in run("encode", "corpus.jsonl", "--prune").err


def test_progress_only_on_a_terminal(run, corpus, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "records" in run("encode", "corpus.jsonl", tty=True).err
    assert "\x1b" in run("encode", "corpus.jsonl", tty=True).err
    assert "\x1b" not in run("encode", "corpus.jsonl").err
    assert run("encode", "corpus.jsonl", "-q", tty=True).err == ""


@pytest.mark.parametrize("model", ["static", "hash"])
def test_every_model(run, corpus, model):
    assert run("encode", "corpus.jsonl", "-m", model).code == 0
    assert run("search", "a cat on a sofa", "-k", "1").rows[0]["id"] == "cat"


def test_unknown_model(run, corpus):
    result = run("encode", "corpus.jsonl", "-m", "bert-colossal")
    assert result.code == 4
    assert result.err == (
        "error: model 'bert-colossal' is not embedded (there are: static, hash) and not on this "
        "machine, and HF_HUB_OFFLINE forbids to fetch it; "
        "try: HF_HUB_OFFLINE=0 hf download sentence-transformers/bert-colossal\n"
    )


def test_control_characters_in_data_do_not_reach_the_terminal(run, home, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    evil = "\x1b[31mred\x07\u202egnp.exe\x9b2J"
    (home / "a.jsonl").write_text(json.dumps({"id": evil, "text": evil, evil: 1}) + "\n[]\n")
    shown = run("encode", "a.jsonl").err
    for words in (["search", "x"], ["search", "x", "--full"], ["show", evil]):
        shown += run(*words, "-f", "table").out
    shown += run("show", evil + "?").err
    for character in "\x1b\x07\u202e\x9b":
        assert character not in shown
    assert run("show", evil).rows[0]["text"] == evil
