import csv
import sys

import numpy as np
import pytest

from embcli import Recipe, Record, Store
from embcli.core import space_similarity
from embcli.pipelines import align_distance

MEASURES = list(align_distance.MEASURES)


def add(name, vectors, ids=None, db="embcli.db"):
    recipe = Recipe({"model": name, "dim": vectors.shape[1], "normalized": False, "maps": []})
    ids = ids or [f"r{i:04}" for i in range(len(vectors))]
    with Store(db) as store:
        records = [Record(id, f"text {id}", {}) for id in ids]
        store.create_collection(name, recipe).add(records, vectors.astype(np.float32))


@pytest.fixture
def spaces(home):
    """A space of 120 records, the same one turned, and another one of other dimension."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(120, 8))
    add("a", a)
    add("turned", 2 * a @ np.linalg.qr(rng.normal(size=(8, 8)))[0])
    other = np.tanh(a @ rng.normal(size=(8, 5)))
    add("other", other)
    return a, other


def values(result):
    assert result.code == 0, result.err
    return {row["measure"]: row["value"] for row in result.rows}


def test_a_space_and_the_same_one_turned(run, spaces):
    result = run("align", "distance", "a", "turned")
    assert list(values(result)) == MEASURES
    one = dict.fromkeys(("cka", "cka-debiased", "rsa", "rsa-pearson", "neighbours"), 1)
    assert values(result) == pytest.approx(
        {**one, "eigenvectors": 0, "gromov-wasserstein": 0}, abs=2e-3
    )
    assert list(result.rows[0]) == ["measure", "value", "meaning", "records"]
    assert {row["records"] for row in result.rows} == {120}
    assert result.err == ""


def test_figures_are_those_of_the_numerics(run, spaces):
    a, b = (side.astype(np.float32) for side in spaces)
    found = values(run("align", "distance", "a", "other", "--neighbours", "5"))
    assert found["cka"] == pytest.approx(space_similarity.linear_cka(a, b), abs=1e-5)
    assert found["rsa"] == pytest.approx(space_similarity.rsa(a, b)[0], abs=1e-5)
    assert found["neighbours"] == pytest.approx(
        space_similarity.neighbour_overlap(a, b, 5), abs=1e-5
    )
    assert 0 < found["rsa"] < 1


def test_a_sample_is_said_and_seeded(run, spaces):
    words = ("align", "distance", "a", "other", "--sample", "50")
    result = run(*words)
    assert "made of 50 of 120 records, seed 0; --sample takes more" in result.err
    of = {row["measure"]: row["records"] for row in result.rows}
    assert of["cka"] == of["cka-debiased"] == 120
    assert {of[name] for name in MEASURES[2:]} == {50}
    assert run(*words).rows == result.rows
    other = values(run(*words, "--seed", "1"))
    assert other["cka"] == values(result)["cka"]
    assert other["rsa"] != values(result)["rsa"]
    assert run(*words, "--measure", "cka").err == ""
    assert run(*words, "-q").err == ""


def test_only_shared_ids_count(run, spaces):
    """In another store, in another order, with records that A does not have."""
    a, _ = spaces
    ids = [f"r{i:04}" for i in range(140)][::-1]
    vectors = np.concatenate([np.ones((20, 8)), a[::-1]])
    add("b", vectors, ids, db="second.db")
    result = run("align", "distance", "a", "b", "--db-b", "second.db", "--measure", "rsa")
    (row,) = result.rows
    assert (row["measure"], row["value"], row["records"]) == ("rsa", 1, 120)


def test_no_shared_ids(run, spaces):
    add("far", np.eye(9), [f"x{i}" for i in range(9)])
    result = run("align", "distance", "a", "far")
    assert (result.code, result.out) == (3, "")
    assert "have 0 ids in common: comparing their spaces takes at least 5" in result.err
    assert "120 records" in result.err
    assert "embcli encode" in result.err


def test_more_neighbours_than_records(run, spaces):
    result = run("align", "distance", "a", "other", "--neighbours", "120")
    assert (result.code, result.out) == (3, "")
    assert "121 with 120 neighbours, and there are 120 vectors" in result.err


def test_without_pot(run, spaces, monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    monkeypatch.setattr(
        align_distance, "find_spec", lambda name: None if name == "ot" else object()
    )
    result = run("align", "distance", "a", "other")
    assert list(values(result)) == MEASURES[:-1]
    assert "without the Gromov–Wasserstein distance" in result.err
    result = run("align", "distance", "a", "other", "--measure", "gromov-wasserstein")
    assert result.code == 4
    assert "pip install 'embcli[align]'" in result.err


def test_wrong_usage(run, spaces):
    result = run("align", "distance", "a", "other", "--measure", "cosine")
    assert result.code == 2
    assert "no measure 'cosine' (there are: cka, cka-debiased, rsa" in result.err
    assert run("align", "distance", "a", "other", "--sample", "4").code == 2
    result = run("align", "distance", "a", "none")
    assert result.code == 5
    assert "no collection 'none'" in result.err


def test_what_is_not_defined_is_left_empty(run, spaces):
    add("point", np.ones((120, 3)))
    found = values(run("align", "distance", "a", "point"))
    assert found["cka"] is None
    assert found["rsa"] is None


def test_formats(run, spaces):
    few = ("align", "distance", "a", "other", "--measure", "cka", "--measure", "neighbours")
    table = run(*few, tty=True).out
    assert "what it says" in table
    assert run(*few, "-f", "ids").out == "cka\nneighbours\n"
    rows = [*csv.DictReader(run(*few, "-f", "csv").out.splitlines())]
    assert [row["measure"] for row in rows] == ["cka", "neighbours"]
    assert "0.084 by chance" in rows[1]["meaning"]  # 10 of 119
    assert run(*few, "-o", "out.json").out == ""


def test_two_models(run, corpus):
    run("encode", "corpus.jsonl")
    run("encode", "corpus.jsonl", "-c", "hashed", "-m", "hash")
    found = values(run("align", "distance", "default", "hashed", "--neighbours", "2"))
    assert 0 < found["cka"] < 1
