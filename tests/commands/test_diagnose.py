"""A collection's health on one page."""

import json

import numpy as np
import pytest

from tests.conftest import store_words
from tests.models import tiny_bert


def findings(result):
    assert result.code == 0, result.err
    return {row["finding"]: row for row in result.rows}


def test_a_sound_collection_has_nothing_to_look_at(home, run):
    rng = np.random.default_rng(0)
    store_words("embcli.db", "good", [f"w{i}" for i in range(300)],
                rng.standard_normal((300, 64)).astype(np.float32))  # fmt: skip
    result = run("diagnose", "-c", "good")
    assert not [name for name, row in findings(result).items() if row["verdict"] == "look"]
    assert "nothing that asks" in result.err


def test_what_is_wrong_is_named_with_what_helps(home, run):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((200, 32)) * 0.1
    rows[:, 0] += 2  # all point one way
    rows[:, 5] = 0
    rows[:, 6] = rows[:, 7]
    rows[10:20] = rows[9]
    rows[0] = 0
    store_words("embcli.db", "bad", [f"w{i}" for i in range(200)], rows.astype(np.float32))
    result = run("diagnose", "-c", "bad", "--plot", "health.png")
    found = findings(result)
    assert found["mean cosine (anisotropy)"]["verdict"] == "look"
    assert "whiten fit -c bad" in found["mean cosine (anisotropy)"]["helps"]
    assert found["dead or duplicate dimensions"]["value"] == 2
    assert "1 vector of zeros" in found["norms"]["detail"]
    assert found["near-duplicates"]["value"] > 10 / 199
    assert "dedup -c bad" in found["near-duplicates"]["helps"]
    assert set(found["near-duplicates"]["examples"]) <= {f"w{i}" for i in range(200)}
    with open("health.png", "rb") as file:
        assert file.read(4) == b"\x89PNG"
    table = run("diagnose", "-c", "bad", "-f", "table").out
    assert "→ embcli dedup" in " ".join(table.split())


def test_texts_are_looked_at(home, run):
    texts = ["A cat sleeps here now."] * 2 + [f"Dogs number {i} bark." for i in range(20)]
    texts += [f"Кошка номер {i} спит." for i in range(8)]
    with open("t.jsonl", "w") as file:
        for i, text in enumerate(texts):
            file.write(json.dumps({"id": f"t{i}", "text": text}) + "\n")
    assert run("encode", "t.jsonl").code == 0
    found = findings(run("diagnose"))
    assert found["repeated texts"]["value"] == 1
    assert found["scripts"]["value"] == 2
    assert "Latin 73.3%, Cyrillic 26.7%" in found["scripts"]["detail"]
    assert found["scripts"]["verdict"] == "look"
    assert found["empty texts"]["value"] == 0
    assert found["truncated texts"]["verdict"] == "ok"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("-c", "few"), 3, "three at least are needed"),
        (("-c", "none"), 5, "no collection 'none'"),
        (("-c", "many", "--plot", "x.gif"), 2, "x.gif"),
    ],
)
def test_what_cannot_be_diagnosed(home, run, words, code, message):
    rng = np.random.default_rng(0)
    for name, n in (("few", 2), ("many", 30)):
        rows = rng.standard_normal((n, 4)).astype(np.float32)
        store_words("embcli.db", name, [f"w{i}" for i in range(n)], rows)
    result = run("diagnose", *words)
    assert (result.code, result.out) == (code, "")
    assert message in result.err


def test_truncation_is_of_this_collection_as_it_is(home, run, monkeypatch):
    """What is suggested runs, and runs of a collection that is gone do not count."""
    tiny_bert(home / "model")
    for text in ("a long text " * 200, "short"):
        with open("t.jsonl", "w") as file:
            for i in range(5):
                file.write(json.dumps({"id": f"t{i}", "text": f"{text} {i}"}) + "\n")
        assert run("encode", "t.jsonl", "-m", home / "model").code == 0
        row = findings(run("diagnose"))["truncated texts"]
        assert row["value"] == (5 if text.startswith("a long") else 0)
        if row["helps"]:
            words = row["helps"].replace("FILES", "t.jsonl").split()
            assert run(*words[1:]).code == 0
        assert run("collections", "rm", "default", "--yes").code == 0
    store_words("embcli.db", "made", [f"w{i}" for i in range(50)],
                np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32))  # fmt: skip
    row = findings(run("diagnose", "-c", "made"))["truncated texts"]
    assert (row["value"], row["verdict"]) == (None, "")
