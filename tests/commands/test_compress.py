import json

import numpy as np
import pytest

from embcli import Recipe, Record, Store
from embcli.pipelines import compress as pipeline
from embcli.store.coding import Coding


def fill(n=4000, dim=64, name="default"):
    """Store vectors around centres, as real ones are."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(100, dim))[rng.integers(0, 100, n)] + rng.normal(size=(n, dim))
    recipe = Recipe({"model": "m", "dim": dim, "normalized": False, "maps": []})
    with Store("embcli.db") as store:
        collection = store.create_collection(name, recipe)
        collection.add([Record(f"r{i}", f"text {i}") for i in range(n)], vectors)


@pytest.fixture
def stored(home):
    fill()


def coding():
    with Store("embcli.db", readonly=True) as store:
        return store.collection("default").coding


def how(run):
    return run("collections", "info", "default").rows[0]["search"]


def test_it_is_chosen_by_recall_and_told(run, stored):
    assert how(run) == "exact: small enough"
    result = run("compress")
    assert result.code == 0
    found = coding()
    assert found.recall >= 0.995
    assert (found.sample, found.vectors, found.chosen) == (100, 4000, False)
    assert result.err == f"'default': {how(run)}\n"
    assert how(run).startswith(f"{found.kind}, {found.oversample}·k compared in full: recall@10 ")
    assert f"{found.kind}, " in run("info", "-f", "table").out
    (row,) = run("info", "-f", "ndjson").rows[2:3]
    assert row["facts"]["coding"]["kind"] == found.kind
    assert row["facts"]["coded"] == 4000


def test_the_user_has_the_last_word(run, stored):
    run("compress", "--kind", "bits1", "--oversample", "1")
    assert coding().kind == "bits1"
    assert coding().chosen
    assert coding().recall < 0.9
    with Store("embcli.db") as store:
        pipeline.keep_coded(store.collection("default"))
    assert coding().kind == "bits1"
    through_codes = run("search", "--like", "r7").rows
    exact = run("search", "--like", "r7", "--exact").rows
    assert through_codes != exact
    run("compress", "--kind", "none")
    assert coding() == Coding(None, vectors=4000, chosen=True)
    assert how(run) == "exact: as chosen"
    assert run("search", "--like", "r7").rows == exact
    run("compress", "--kind", "int8", "--sample", "20")
    assert run("search", "--like", "r7").rows == exact
    assert coding().sample == 20


def test_a_report_stores_nothing(run, stored, home):
    before = (home / "embcli.db").read_bytes()
    rows = run("compress", "--report", "--sample", "50").rows
    assert (home / "embcli.db").read_bytes() == before
    ladder = {row["code"]: row for row in rows}
    assert list(ladder) == [
        "float32", "float16", "int8", "bits4", "bits2", "bits1", "dims=32", "dims=16", "dims=8",
    ]  # fmt: skip
    assert [row["bytes"] for row in rows] == [256, 128, 68, 36, 20, 12, 128, 64, 32]
    assert ladder["float32"]["recall"] == 1
    recalls = [ladder[code]["recall"] for code in ("int8", "bits4", "bits2", "bits1")]
    assert recalls == sorted(recalls, reverse=True)
    for row in rows:
        assert row["recall"] <= row["verified"] <= 1
        assert row["seconds"] > 0
    assert "bytes/vector" in run("compress", "--report", "-f", "table").out


def test_the_recall_reported_is_that_of_searches(run, stored):
    (row,) = (r for r in run("compress", "--report", "--oversample", "2").rows
              if r["code"] == "bits2")  # fmt: skip
    with Store("embcli.db") as store:
        collection = store.collection("default")
        collection.set_coding(Coding("bits2", 2, chosen=True))
        collection.update_codes()
    hits = []
    for i in range(0, 4000, 80):
        both = [{r["id"] for r in run("search", "--like", f"r{i}", *options).rows}
                for options in ([], ["--exact"])]  # fmt: skip
        hits.append(len(both[0] & both[1]) / 10)
    assert np.mean(hits) == pytest.approx(row["verified"], abs=0.05)


def test_what_has_become_large_is_coded(home, monkeypatch):
    fill(2000)
    with Store("embcli.db") as store:
        collection = store.collection("default")
        assert pipeline.keep_coded(collection) == 0
        assert collection.coding is None
        monkeypatch.setattr("embcli.pipelines.compress.LARGE", 2000 * 64 * 4)
        assert pipeline.keep_coded(collection) == 2
        assert collection.coding.vectors == 2000
        assert pipeline.keep_coded(collection) == 0
        more = np.random.default_rng(1).normal(size=(2000, 64))
        collection.add([Record(f"s{i}", f"more {i}") for i in range(2000)], more)
        pipeline.keep_coded(collection)
        assert collection.coding.vectors == 4000


def test_codes_that_lose_too_much_are_not_used(home, monkeypatch, run):
    fill(2000)
    monkeypatch.setattr("embcli.pipelines.compress._AUTOMATIC", {"bits1": (1, 1)})
    assert "exact: recall@10 0." in run("compress").err
    assert coding().kind is None
    assert not coding().chosen


def test_collections_with_few_records(home, run):
    for n in (0, 1, 2, 12):
        fill(n, name=f"c{n}")
        assert run("compress", "-c", f"c{n}").code == 0
        assert run("compress", "-c", f"c{n}", "--report").code == 0


def test_sources_of_error(run, stored):
    assert run("compress", "--kind", "int7").code == 2
    assert run("compress", "--report", "--kind", "int8").code == 2
    assert run("compress", "-c", "none").code == 5
    assert run("compress", "-d", "no.db").code == 5
    assert json.loads(run("info", "-f", "ndjson").out.splitlines()[2])["what"] == "collection"
