import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from embcli import Recipe, Record, Store
from embcli.errors import StoreError
from embcli.pipelines.dedup import dedup
from embcli.pipelines.pairwise import announced
from embcli.store import Chunks

# Degrees on a circle: b and c are near a (8°), d is near c only, e and f are equal.
ANGLES = {"a": 0, "b": 8, "c": -8, "d": -16, "e": 90, "f": 90, "g": 180}
TEXTS = {"a": "aa", "b": "bbbb", "c": "c", "d": "dddddd", "e": "ee", "f": "ee", "g": "g"}
META = {
    "a": {"year": 2001, "tags": [1]},
    "b": {"year": "1999"},
    "c": {"year": "unknown"},
    "e": {"day": {"of": "2020-01-02"}},
    "f": {"day": {"of": "2020-11-01"}},
}
NEAR = str(np.cos(np.radians(10)))


def on_circle(degrees):
    angle = np.radians(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1).astype(np.float32)


@pytest.fixture
def circle(home):
    recipe = Recipe({"model": "m", "dim": 2, "normalized": True, "maps": []})
    with Store("embcli.db") as store:
        records = [Record(id, TEXTS[id], META.get(id, {})) for id in ANGLES]
        store.create_collection("default", recipe).add(records, on_circle([*ANGLES.values()]))


def groups(run, *options):
    """Ids by group, the kept one first, the others sorted."""
    found = {}
    for row in run("dedup", "-t", NEAR, *options).rows:
        assert row["keep"] == (row["group"] not in found)
        found.setdefault(row["group"], []).append(row["id"])
    assert list(found) == list(range(1, len(found) + 1))
    return ["".join([kept, *sorted(others)]) for kept, *others in found.values()]


def test_groups_around_the_kept_record(run, circle):
    result = run("dedup", "-t", NEAR)
    assert [list(row) for row in result.rows[:1]] == [
        ["group", "keep", "id", "score", "text", "meta"]
    ]
    assert [(r["group"], r["keep"], r["id"]) for r in result.rows] == [
        (1, True, "a"), (1, False, "b"), (1, False, "c"), (2, True, "e"), (2, False, "f"),
    ]  # fmt: skip
    assert [r["score"] for r in result.rows] == pytest.approx(
        [1, np.cos(np.radians(8)), np.cos(np.radians(8)), 1, 1], abs=1e-6
    )
    assert result.rows[0]["meta"] == META["a"]
    assert result.err == "2 groups with 3 duplicates, 42.9% of 7 records\n"


def test_chains_connect_what_is_far_apart(run, circle):
    assert groups(run, "--linkage", "single") == ["abcd", "ef"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("first", ["abc", "ef"]),
        ("last", ["ba", "dc", "fe"]),
        ("longest", ["ba", "dc", "ef"]),
        ("shortest", ["cad", "ef"]),
        ("max:year", ["cad", "ef"]),  # texts come after numbers, b is not near c
        ("min:year", ["ba", "cd", "ef"]),
        ("max:day.of", ["abc", "fe"]),
        ("min:day.of", ["abc", "ef"]),
        ("max:text", ["dc", "ba", "ef"]),
    ],
)
def test_who_is_kept(run, circle, rule, expected):
    assert sorted(groups(run, "--keep", rule)) == sorted(expected)


@pytest.mark.parametrize(
    "words",
    [
        ("--keep", "best"),
        ("--keep", "max:"),
        ("--keep", "max:nothing"),
        ("--keep", "max:tags"),
        ("--keep", "max:a b"),
        ("--keep", "min:year or"),
        ("-t", "0"),
        ("-t", "1.1"),
        ("--linkage", "complete"),
        ("--where", "year >"),
    ],
)
def test_wrong_options(run, circle, words):
    result = run("dedup", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1


def test_nothing_found(run, circle):
    few = ("--where", 'id in ("a", "d", "e", "g")')
    result = run("dedup", "-t", NEAR, *few)
    assert (result.code, result.out) == (1, "")
    assert result.err == "error: no duplicates among 4 records\n"
    assert run("dedup", "--where", 'id = "nobody"').code == 1
    assert run("dedup", "-t", NEAR, "-f", "json", *few).out == "[]\n"
    assert run("dedup", "-c", "none").code == 5


def test_only_records_that_pass_are_compared(run, circle):
    assert groups(run, "--where", 'id != "a"') == ["cd", "ef"]
    assert groups(run, "--where", 'id in ("b", "e", "f")') == ["ef"]


def test_other_formats(run, circle):
    assert run("dedup", "-t", NEAR, "-f", "ids").out == "b\nc\nf\n"
    table = run("dedup", "-t", NEAR, tty=True).out
    assert table.count("keep") == 2
    assert table.count("drop") == 3
    rows = list(csv.DictReader(io.StringIO(run("dedup", "-t", NEAR, "-f", "csv").out)))
    assert [row["id"] for row in rows] == list("abcef")
    assert run("dedup", "-t", NEAR, "-q").err == ""


def test_delete(run, circle):
    before = run("dedup", "-t", NEAR).rows
    result = run("dedup", "-t", NEAR, "--delete", "-o", "gone.json")
    assert result.code == 0
    assert result.err.endswith("of 7 records; deleted 3\n")
    assert json.loads(Path("gone.json").read_text()) == before
    assert run("dedup", "-t", NEAR).code == 1
    assert run("show", "a", "d", "e", "g").code == 0
    assert run("show", "b").code == 1
    with Store("embcli.db", readonly=True) as store:
        (last,) = store.runs(1)
    assert (last.command, last.status) == ("dedup", "done")
    assert last.counts == {"records": 7, "groups": 2, "deleted": 3}
    assert last.arguments["threshold"] == float(NEAR)


def test_nothing_is_deleted_unless_the_results_were_written(run, circle):
    result = run("dedup", "-t", NEAR, "--delete", "-o", "no/such/folder")
    assert result.code == 2
    assert groups(run) == ["abc", "ef"]


@pytest.mark.parametrize("id", ["a", "b", "f"])
def test_nothing_is_deleted_if_a_record_was_changed_meanwhile(circle, id):
    def write(rows):
        assert list(rows)
        with Store("embcli.db") as store:
            store.collection("default").delete(["g"])  # so that f has the highest key, used again
            store.collection("default").add([Record(id, "another text")], on_circle([45]))

    with pytest.raises(StoreError, match="changed meanwhile"):
        dedup(threshold=float(NEAR), delete=True, write=write)
    with Store("embcli.db") as store:
        assert len(store.collection("default")) == 6
        assert store.runs(1)[0].status == "failed"


def test_records_of_chunks_are_compared_by_their_means(run, home):
    recipe = Recipe({"model": "m", "dim": 2, "normalized": True, "maps": []})
    spans = np.array([[0, 1], [1, 2]])
    records = {"a": [-30, 30], "b": [-2, 3], "c": [30, 90]}
    with Store("embcli.db") as store:
        collection = store.create_collection("default", recipe, chunking='{"words":1}')
        made = [Record(id, f"{id}{id}") for id in records]
        collection.write(made, {r.hash: Chunks(on_circle(records[r.id]), spans) for r in made})
        keys, means = collection.matrix()
        np.testing.assert_allclose(means, collection.vectors(["a", "b", "c"]), atol=1e-7)
        assert list(collection.ids_by_key(keys.tolist()).values()) == ["a", "b", "c"]
    result = run("dedup")
    assert [row["id"] for row in result.rows] == ["a", "b"]
    assert "note: 'default' keeps chunks" in result.err


def test_equal_texts_without_any_direction(run, home):
    recipe = Recipe({"model": "m", "dim": 2, "normalized": True, "maps": []})
    with Store("embcli.db") as store:
        records = [Record(id, text) for id, text in ("a?", "b!", "c?", "d.")]
        store.create_collection("default", recipe).add(records, np.zeros((4, 2)))
    assert [(r["id"], r["score"]) for r in run("dedup").rows] == [("a", 1), ("c", 1)]


def test_deleted_records_and_half_precision(run, home):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 16)).astype(np.float32)
    vectors[2000:] = vectors[:1000] * 3
    recipe = Recipe({"model": "m", "dim": 16, "normalized": False, "maps": []})
    with Store("embcli.db") as store:
        collection = store.create_collection("default", recipe, "float16")
        collection.add([Record(f"{i:04}", f"text {i}") for i in range(3000)], vectors)
        collection.delete(f"{i:04}" for i in range(0, 1000, 2))
        collection.compact()
    rows = run("dedup", "-t", "0.9999").rows
    pairs = [(rows[i]["id"], rows[i + 1]["id"]) for i in range(0, len(rows), 2)]
    assert pairs == [(f"{i:04}", f"{i + 2000:04}") for i in range(1, 1000, 2)]


def test_long_work_is_announced_once():
    times = iter([0.0, 1.0, 3.0, 4.0])
    notes, steps = [], []
    step = announced(lambda *s: steps.append(s), notes.append, "comparing", lambda: next(times))
    for done in (1, 2, 3):
        step(done, 1000, done)
    assert notes == ["comparing: about 25 min"]
    assert len(steps) == 3
    times = iter([0.0, 3.0])
    announced(lambda *s: None, notes.append, "short", lambda: next(times))(500, 1000, 5)
    assert len(notes) == 1


@pytest.mark.slow
def test_equal_documents_of_npl(run, shared):
    texts = {}
    with (shared / "beir/npl/corpus.jsonl").open() as lines:
        for line in lines:
            record = json.loads(line)
            texts[record["_id"]] = record["text"].strip()
    assert len(texts) - len(set(texts.values())) == 16
    run("encode", shared / "beir/npl/corpus.jsonl")
    rows = run("dedup", "-t", "1").rows
    dropped = [row["id"] for row in rows if not row["keep"]]
    assert len(dropped) == 16
    assert len({texts[id] for id in texts.keys() - set(dropped)}) == len(texts) - 16
    assert {row["score"] for row in rows} == {1}
    # Almost equal ones come only after all equal ones.
    near = run("dedup").rows
    assert {row["id"] for row in rows} <= {row["id"] for row in near}
    assert 16 < sum(not row["keep"] for row in near) < 60


@pytest.mark.slow
def test_pairs_at_the_default_threshold_mean_the_same(run, shared, home):
    with (shared / "stsb/stsb-en-dev.csv").open() as lines:
        pairs = [(one, two, float(score)) for one, two, score in csv.reader(lines)]
    with open("pairs.jsonl", "w") as file:
        for number, (one, two, _) in enumerate(pairs):
            for side, text in enumerate((one, two)):
                file.write(json.dumps({"id": f"{number}-{side}", "text": text}) + "\n")
    run("encode", "pairs.jsonl")
    group = {row["id"]: row["group"] for row in run("dedup").rows}
    together = [
        score
        for number, (_, _, score) in enumerate(pairs)
        if group.get(f"{number}-0", 0) == group.get(f"{number}-1", -1)
    ]
    assert len(together) > 40
    assert np.mean(np.array(together) >= 4) > 0.8
    assert np.mean(np.array([score for _, _, score in pairs]) >= 4) < 0.35
