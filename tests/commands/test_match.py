import csv
import json
import sys

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from embcli import Recipe, Record, Store
from embcli.pipelines import match as pipeline

ENGLISH = ["The cat sleeps on the sofa.", "Interest rates rose again.", "The dog barks loudly."]
OTHERS = [
    "The dog is barking.", "A cat is asleep on a couch.", "Banks raised their interest rates.",
    "The map sleeps on the sofa.",
]  # fmt: skip


def write(name, texts, **meta):
    lines = [json.dumps({"id": f"{name}{i}", "text": text, "n": i} | meta)
             for i, text in enumerate(texts)]  # fmt: skip
    with open(f"{name}.jsonl", "w") as file:
        file.write("\n".join(lines))


@pytest.fixture
def two(run, home):
    for name, texts in (("a", ENGLISH), ("b", OTHERS)):
        write(name, texts)
        assert run("encode", f"{name}.jsonl", "-c", name).code == 0


def add(name, vectors, db="embcli.db", **settings):
    recipe = Recipe(
        {"model": "m", "dim": vectors.shape[1], "normalized": False, "maps": []} | settings
    )
    with Store(db) as store:
        records = [Record(f"{name}{i:05}", f"{name} {i}", {"n": i}) for i in range(len(vectors))]
        store.create_collection(name, recipe).add(records, vectors)


def pairs(result):
    return [(row["a_id"], row["b_id"]) for row in result.rows]


def test_nearest(run, two):
    result = run("match", "a", "b")
    assert list(result.rows[0]) == ["a_id", "b_id", "score", "rank", "a_text", "b_text"]
    assert pairs(result) == [("a0", "b1"), ("a1", "b2"), ("a2", "b0")]
    assert result.err == "3 of 3 records of 'a' matched with 'b' (4)\n"
    like = run("search", ENGLISH[1], "-c", "b", "-k", "2").rows
    rows = [r for r in run("match", "a", "b", "-k", "2").rows if r["a_id"] == "a1"]
    assert [(r["b_id"], r["rank"]) for r in rows] == [(like[0]["id"], 1), (like[1]["id"], 2)]
    assert [r["score"] for r in rows] == pytest.approx([r["score"] for r in like], abs=1e-6)
    assert run("match", "a", "b", "-f", "ids").out == "a0\na1\na2\n"
    assert "text of A" in run("match", "a", "b", tty=True).out


def test_what_strings_alone_would_say(run, two):
    result = run("match", "a", "b", "--edit", "--where-b", "n < 3", "-k", "3")
    texts = dict(zip([f"b{i}" for i in range(3)], OTHERS, strict=False))
    for row in result.rows:
        similar = {
            id: Levenshtein.normalized_similarity(row["a_text"], text)
            for id, text in texts.items()
        }  # fmt: skip
        assert row["edit"] == pytest.approx(similar[row["b_id"]])
        assert row["edit_best"] == max(similar, key=similar.get)
        assert row["edit_best_score"] == pytest.approx(max(similar.values()))
        assert row["edit_rank"] == 1 + sum(s > similar[row["b_id"]] for s in similar.values())
    best = run("match", "a", "b", "--edit")
    assert (best.rows[0]["b_id"], best.rows[0]["edit_best"]) == ("b1", "b3")
    assert "edit distance alone would have put 2 of 3 best matches elsewhere" in best.err
    assert "# by edit" in run("match", "a", "b", "--edit", "-f", "table").out


def test_filters_and_threshold(run, two):
    assert pairs(run("match", "a", "b", "--where-b", "n != 1"))[0] == ("a0", "b3")
    assert pairs(run("match", "a", "b", "--where-a", "n = 2")) == [("a2", "b0")]
    scores = [row["score"] for row in run("match", "a", "b").rows]
    assert len(run("match", "a", "b", "-t", sorted(scores)[1]).rows) == 2
    for words in (("-t", "0.999"), ("--where-a", "n > 9"), ("--where-b", "n > 9")):
        for method in pipeline.METHODS:
            result = run("match", "a", "b", *words, "--method", method, "--edit")
            assert (result.code, result.out) == (1, "")
            assert result.err == "error: no record of 'a' has a match in 'b'\n"


def test_no_record_matches_itself(run, two):
    for method in ("nearest", "mutual", "assignment"):
        found = pairs(run("match", "b", "b", "--method", method, "--edit"))
        assert found
        assert all(a != b for a, b in found)
    both = pairs(run("match", "b", "b", "--method", "mutual"))
    assert {pair[::-1] for pair in both} == set(both)
    rows = run("match", "b", "b", "--edit", "--where-a", "n > 1").rows
    assert all(row["edit_best"] != row["a_id"] for row in rows)
    assert pairs(run("match", "b", "b", "--db-b", "./embcli.db")) == pairs(run("match", "b", "b"))


def test_another_store(run, two):
    run("encode", "b.jsonl", "-c", "a", "-d", "other.db")
    found = run("match", "a", "a", "--db-b", "other.db")
    assert pairs(found) == pairs(run("match", "a", "b"))
    assert run("match", "a", "a", "--db-b", "none.db").code == 5


def test_methods_on_vectors(run, home):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 8)).astype(np.float32)
    b = (a[:250][rng.permutation(250)] + 0.8 * rng.normal(size=(250, 8))).astype(np.float32)
    add("a", a)
    add("b", b)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    scores = unit[0].astype(np.float64) @ unit[1].T.astype(np.float64)
    mutual = {
        (f"a{i:05}", f"b{j:05}")
        for i, j in enumerate(scores.argmax(axis=1).tolist())
        if scores[:, j].argmax() == i
    }
    assert set(pairs(run("match", "a", "b", "--method", "mutual"))) == mutual
    back = pairs(run("match", "b", "a", "--method", "mutual"))
    assert {pair[::-1] for pair in back} == mutual

    dense = run("match", "a", "b", "--method", "assignment")
    assert "note" not in dense.err
    assert len({a for a, _ in pairs(dense)}) == len({b for _, b in pairs(dense)}) == 250
    assert dense.err.startswith("250 of 300 records")
    total = sum(row["score"] for row in dense.rows)
    every = run("match", "a", "b", "--method", "assignment", "--candidates", "300")
    assert "note" not in every.err
    assert sum(row["score"] for row in every.rows) == pytest.approx(total)
    few = run("match", "a", "b", "--method", "assignment", "--candidates", "1")
    assert "note: assigned among the 1 nearest of every record" in few.err
    assert f"{250 - len(few.rows)} records of the smaller side found no partner" in few.err
    assert 150 < len(few.rows) < 250
    # With a threshold the candidates are complete, and so is the result.
    near = [run("match", "a", "b", "--method", "assignment", "-t", "0.9", *more)
            for more in ((), ("--candidates", "40"))]  # fmt: skip
    assert sorted(pairs(near[0])) == sorted(pairs(near[1]))
    assert "note" not in near[1].err
    csls = run("match", "a", "b", "--csls", "10").rows
    assert "csls" in csls[0]
    plain = run("match", "a", "b").rows
    assert len({row["b_id"] for row in csls}) > len({row["b_id"] for row in plain})


def test_many_pairs_are_assigned_among_candidates(run, two, monkeypatch):
    monkeypatch.setattr(pipeline, "LARGEST", 11)
    monkeypatch.setattr(pipeline, "CANDIDATES", 2)
    result = run("match", "a", "b", "--method", "assignment")
    assert "among the 2 nearest of every record, not among all 3 × 4 pairs" in result.err
    assert len(result.rows) == 3


def test_other_spaces_are_refused(run, two):
    run("encode", "b.jsonl", "-c", "hashed", "-m", "hash")
    result = run("match", "a", "hashed")
    assert (result.code, result.out) == (2, "")
    assert "collections 'a' and 'hashed' are in different spaces (" in result.err
    assert "embcli encode FILES -m static -c NAME" in result.err
    assert run("match", "a", "nothing").code == 5


@pytest.mark.parametrize(
    "words",
    [
        ("--method", "best"),
        ("--method", "assignment", "-k", "2"),
        ("--method", "assignment", "--csls", "10"),
        ("--candidates", "5"),
        ("--csls", "0"),
        ("--where-b", "n >"),
    ],
)
def test_wrong_options(run, two, words):
    result = run("match", "a", "b", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "words"), [("scipy", ("--method", "assignment")), ("rapidfuzz", ("--edit",))]
)
def test_missing_packages_are_named(run, two, monkeypatch, module, words):
    monkeypatch.setattr(pipeline, "find_spec", lambda name: None if name == module else True)
    result = run("match", "a", "b", *words)
    assert result.code == 4
    assert "try: pip install 'embcli[match]'" in result.err


def test_neither_package_is_needed_for_the_nearest(run, two, monkeypatch):
    import subprocess

    code = (
        "import sys; from embcli.cli import main; main(sys.argv[1:]); "
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    for words in (["match", "a", "b", "--method", "mutual"], ["dedup", "-c", "b", "-t", ".5"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
        )
        assert not {"scipy", "rapidfuzz", "torch", "sklearn"} & set(done.stderr.split())


@pytest.mark.slow
def test_meaning_finds_more_than_strings(run, shared, home):
    """Pairs of sentences that people say are equal, and captions of the same pictures."""
    with (shared / "stsb/stsb-en-test.csv").open() as lines:
        equal = [pair for *pair, score in csv.reader(lines) if float(score) >= 4.5]
    captions = [(shared / f"multi30k/test_2016.{i}.en").read_text().splitlines()[:500]
                for i in (1, 2)]  # fmt: skip
    for name, (one, two) in {"stsb": zip(*equal, strict=True), "captions": captions}.items():
        for side, texts in ((f"{name}-a", one), (f"{name}-b", two)):
            with open(f"{side}.jsonl", "w") as file:
                for number, text in enumerate(texts):
                    file.write(json.dumps({"id": f"{number:03}", "text": text.strip()}) + "\n")
            run("encode", f"{side}.jsonl", "-c", side)

    def right(name, *options, by="b_id"):
        rows = run("match", f"{name}-a", f"{name}-b", *options).rows
        return sum(row["a_id"] == row[by] for row in rows) / len(rows)

    assert right("stsb") == pytest.approx(0.883, abs=0.01)
    assert right("stsb", "--edit", by="edit_best") == pytest.approx(0.833, abs=0.01)
    assert right("stsb", "--method", "mutual") > 0.95
    plain = right("captions")
    assert plain > 2 * right("captions", "--edit", by="edit_best")
    assert right("captions", "--csls", "10") > plain
    assert right("captions", "--method", "assignment") > plain
    assert right("captions", "--method", "mutual") > plain + 0.15
