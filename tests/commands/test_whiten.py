"""Whitening a space, and what it does to search and to judgments of similarity."""

import csv
import json
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from embcli import Store
from embcli.errors import UsageError
from tests.conftest import store_words

METHODS = ("center", "abtt", "pca", "zca")
DIM = 16


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def vectors_of(collection, ids):
    with Store("embcli.db", readonly=True) as store:
        return store.collection(collection).vectors(list(ids)).astype(np.float64)


@pytest.fixture
def cone(home):
    """Vectors of words in a narrow cone, at any length."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, DIM)) * np.geomspace(2, 0.1, DIM) + 2
    rows *= rng.uniform(0.5, 4, (300, 1))
    words = [f"w{n}" for n in range(300)]
    store_words(home / "embcli.db", "words", words, rows.astype(np.float32))
    return words


@pytest.mark.parametrize("method", METHODS)
def test_a_cone_is_widened(cone, run, method):
    fit = run("whiten", "fit", "-c", "words", "-n", "white", "-M", method)
    assert fit.code == 0, fit.err
    rows = {row["measure"]: row for row in fit.rows}
    assert rows["mean cosine"]["before"] > 0.5
    assert abs(rows["mean cosine"]["after"]) < 0.02
    assert rows["IsoScore"]["after"] > rows["IsoScore"]["before"]
    assert rows["effective rank"]["after"] > rows["effective rank"]["before"]
    assert 0 < rows["overlap@10"]["after"] < 1
    assert rows["overlap@10"]["n"] == 300
    applied = run("whiten", "apply", "white", "-c", "words", "--to", "new", "-f", "json")
    assert json.loads(applied.out)[0]["mapped"] == 300
    before, after = unit(vectors_of("words", cone)), vectors_of("new", cone)
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1, atol=1e-6)
    cosines = (after @ after.T)[np.triu_indices(300, 1)]
    assert cosines.mean() == pytest.approx(rows["mean cosine"]["after"], abs=1e-5)
    if method == "center":
        expected = unit(before - before.mean(axis=0))
        np.testing.assert_allclose(after, expected, atol=1e-5)
    with Store("embcli.db", readonly=True) as store:
        assert store.collection("new").recipe.normalized
        kept = store.maps.get("white")
    assert kept.method == method
    assert kept.fit["fitted"]["vectors"] == 300
    assert kept.fit["measured"] == fit.rows


def test_dims_and_components(cone, run):
    assert run("whiten", "fit", "-c", "words", "-n", "few", "-M", "pca", "--dims", 5).code == 0
    assert run("whiten", "apply", "few", "-c", "words", "--to", "few").code == 0
    assert vectors_of("few", cone).shape == (300, 5)
    top = ("-M", "abtt", "--components", 3)
    assert run("whiten", "fit", "-c", "words", "-n", "top", *top).code == 0
    assert run("whiten", "apply", "top", "-c", "words", "--to", "top").code == 0
    values = np.linalg.svd(vectors_of("top", cone), compute_uv=False)
    assert (values > 1e-4).sum() == DIM - 3


def test_shrinkage_is_said_and_kept(cone, run):
    fit = run("whiten", "fit", "-c", "words", "-n", "white", "-M", "zca")
    assert "as Ledoit and Wolf estimate it" in fit.err
    with Store("embcli.db", readonly=True) as store:
        estimated = store.maps.get("white").fit["fitted"]["shrinkage"]
        rows = store.collection("words").matrix()[1]
    from sklearn.covariance import ledoit_wolf_shrinkage

    assert estimated == pytest.approx(ledoit_wolf_shrinkage(unit(rows.astype(float))), rel=1e-6)
    told = run("whiten", "fit", "-c", "words", "-n", "other", "-M", "zca", "--shrinkage", 0)
    assert "Ledoit" not in told.err
    with Store("embcli.db", readonly=True) as store:
        assert store.maps.get("other").fit["fitted"]["shrinkage"] == 0


@pytest.mark.parametrize("method", METHODS)
def test_the_whitened_collection_is_searched_as_through_the_map(examples, run, method):
    assert run("encode", "examples/corpus.jsonl").code == 0
    assert run("whiten", "fit", "-n", "white", "-M", method).code == 0
    assert run("whiten", "apply", "white", "--to", "new").code == 0
    hits = run("search", "a storm at sea", "-c", "new").rows
    through = run("search", "a storm at sea", "--via", "white").rows
    assert [hit["id"] for hit in hits] == [hit["id"] for hit in through]
    for one, other in zip(hits, through, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    # A record is found by its own text: both go the same way.
    text = run("show", hits[0]["id"]).rows[0]["text"]
    (itself, *_) = run("search", text, "-c", "new").rows
    assert (itself["id"], itself["score"]) == (hits[0]["id"], pytest.approx(1, abs=1e-5))
    assert "unchanged 324" in run("whiten", "apply", "white", "--to", "new").err


def test_chunks_are_what_is_fitted_to(home, run):
    names, things = ("cat", "king", "sea", "law"), ("house", "north", "world", "moon", "city")
    sentences = [f"The {name} sleeps in the {thing}." for name in names for thing in things]
    with open("long.jsonl", "w") as file:
        for n in range(0, len(sentences), 4):
            file.write(json.dumps({"id": f"r{n}", "text": " ".join(sentences[n : n + 4])}) + "\n")
    assert run("encode", "long.jsonl", "--chunk", "sentences=1").code == 0
    fit = run("whiten", "fit", "-n", "white", "-M", "zca")
    assert fit.code == 0, fit.err
    with Store("embcli.db", readonly=True) as store:
        count = store.collection("default").count_vectors()
        assert count == len(sentences)
        assert store.maps.get("white").fit["fitted"]["vectors"] == count


def test_texts_and_scores_in_a_file(cone, run):
    """Words of imported vectors are looked up; a pair one of which is not there is left out."""
    from scipy.stats import spearmanr

    rng = np.random.default_rng(1)
    pairs = rng.choice(300, (40, 2))
    scores = rng.random(40).round(3)
    with open("pairs.tsv", "w") as file:
        file.write("first\tsecond\tscore\n")
        for (a, b), score in zip(pairs, scores, strict=True):
            file.write(f"w{a}\tw{b}\t{score}\n")
        file.write("w1\tabsent\t0.5\nw1\tw2\tmuch\n")
    fit = run("whiten", "fit", "-c", "words", "-n", "white", "-M", "zca", "--sts", "pairs.tsv")
    assert fit.code == 3  # one line could not be read
    assert "pairs.tsv:43" in fit.err
    assert "1 pair left out, such as with 'absent'" in fit.err
    row = fit.rows[-1]
    assert (row["measure"], row["set"], row["n"]) == ("Spearman", "pairs.tsv", 40)
    assert run("whiten", "apply", "white", "-c", "words", "--to", "new").code == 0
    for collection, value in (("words", row["before"]), ("new", row["after"])):
        rows = unit(vectors_of(collection, cone))
        cosines = (rows[pairs[:, 0]] * rows[pairs[:, 1]]).sum(axis=1)
        assert value == pytest.approx(spearmanr(cosines, scores).statistic, abs=2e-4)


def test_vectors_of_zeros_are_left_out(home, run):
    rows = np.random.default_rng(0).normal(1, 1, (30, 6)).astype(np.float32)
    rows[4] = 0
    store_words("embcli.db", "words", [f"w{n}" for n in range(30)], rows)
    fit = run("whiten", "fit", "-c", "words", "-n", "white", "-M", "center")
    assert "1 vector of zeros left out" in fit.err
    assert {row["n"] for row in fit.rows} == {29}
    # What points nowhere is not shifted into a direction.
    applied = run("whiten", "apply", "white", "-c", "words", "--to", "new")
    assert "skipped: w4: the map makes a vector of zeros of record 'w4'" in applied.err
    assert "mapped 29, unchanged 0, updated 0, skipped 1" in applied.err


def test_what_was_not_whitening_is_not_applied(cone, run):
    run("debias", "fit", "-c", "words", "-n", "fair", "--away", "w1")
    refused = run("whiten", "apply", "fair", "-c", "words", "--to", "new")
    assert (refused.code, refused.out) == (2, "")
    assert "map 'fair' was made by projection, and whitens nothing" in refused.err
    run("whiten", "fit", "-c", "words", "-n", "white")
    assert run("debias", "apply", "white", "-c", "words", "--to", "new").code == 2


def test_a_map_stays_unless_forced(cone, run):
    first = ("whiten", "fit", "-c", "words", "-n", "white")
    assert run(*first).code == 0
    again = run(*first, "-M", "zca")
    assert again.code == 2
    assert "there is a map 'white' already" in again.err
    assert run(*first, "-M", "zca", "--force").code == 0
    with Store("embcli.db", readonly=True) as store:
        assert store.maps.get("white").method == "zca"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("-n", "x", "-M", "magic"), 2, "no method 'magic' (there are: center, abtt, pca, zca)"),
        (("-n", "x", "-M", "zca", "--dims", "3"), 2, "takes no --dims (those that do: pca)"),
        (("-n", "x", "--shrinkage", "0.1"), 2, "takes no --shrinkage (those that do: pca, zca)"),
        (("-n", "x", "-M", "pca", "--dims", "17"), 3, "17 dimensions cannot be kept of 16"),
        (("-n", "x", "--components", "16"), 3, "without 16, nothing is left"),
        (("-n", "x", "-c", "nothing"), 5, "has no collection 'nothing'"),
        (("-n", "x", "-c", "two"), 3, "at least 3 vectors"),
        (("-n", "x", "-c", "alike"), 3, "all vectors point the same way"),
        (("-n", "a b"), 2, "not a possible name"),
        (("-n", "x", "--sts", "no.csv"), 3, "no.csv"),
        (("-n", "x", "--sts", "analogies.txt"), 3, "these are analogies"),
        (("-n", "x", "--sts", "absent.csv"), 1, "vectors of 0 pairs of absent.csv"),
    ],
)
def test_bad_input_is_one_line_and_keeps_nothing(cone, run, words, code, message):
    store_words("embcli.db", "two", ["a", "b"], np.eye(2, dtype=np.float32))
    store_words("embcli.db", "alike", list("abcde"), np.ones((5, 4), np.float32))
    with open("analogies.txt", "w") as file:
        file.write("a b c d\n")
    with open("absent.csv", "w") as file:
        file.write("x,y,1\nz,u,2\n")
    result = run("whiten", "fit", *(() if "-c" in words else ("-c", "words")), *words)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert result.err.count("\n") == 1
    with closing(sqlite3.connect("embcli.db")) as database:
        assert database.execute("SELECT count(*) FROM maps").fetchone() == (0,)


def test_tokens_and_empty_collections_are_refused(home, run, corpus):
    assert run("encode", corpus, "-m", "static", "--pooling", "none", "-c", "tokens").code == 0
    assert run("encode", corpus).code == 0
    with Store("embcli.db") as store:
        store.collection("default").clear()
    tokens = run("whiten", "fit", "-c", "tokens", "-n", "x")
    assert (tokens.code, "a vector for every token" in tokens.err) == (2, True)
    empty = run("whiten", "fit", "-n", "x")
    assert (empty.code, "is empty" in empty.err) == (3, True)


def test_methods_are_listed(run):
    rows = run("whiten", "methods").rows
    assert [row["name"] for row in rows] == list(METHODS)
    assert {row["name"]: row["options"] for row in rows}["pca"] == ["dims", "shrinkage"]


def test_words_of_google_news(gnews, run, shared):
    """After all-but-the-top, they agree better with SimLex, and worse with WordSim."""
    shutil.copy(gnews, "embcli.db")
    sets = ("wordsim353.tsv", "simlex999.txt")
    files = [word for name in sets for word in ("--sts", shared / "words" / name)]
    fit = run("whiten", "fit", "-c", "gnews", "-n", "top", *files)
    rows = {row["set"]: row for row in fit.rows if row["measure"] == "Spearman"}
    expected = {"wordsim353.tsv": (0.6927, 0.6769), "simlex999.txt": (0.4333, 0.4496)}
    for name, figures in expected.items():
        assert (rows[name]["before"], rows[name]["after"]) == pytest.approx(figures, abs=5e-4)
    isoscore = next(row for row in fit.rows if row["measure"] == "IsoScore")
    assert (isoscore["before"], isoscore["after"]) == pytest.approx((0.526, 0.622), abs=2e-3)


def test_sentences_under_the_static_table(home, run, shared):
    """What whitening does to STS-B depends on what it is fitted to; before, it is as published."""
    with (shared / "ag_news" / "test.csv").open(newline="") as file:
        texts = [f"{title} {text}" for _, title, text in csv.reader(file)][:3000]
    with open("news.txt", "w") as file:
        file.writelines(" ".join(text.split()) + "\n" for text in texts)
    assert run("encode", "news.txt").code == 0
    sts = ("--sts", shared / "stsb" / "stsb-en-test.csv")
    found = {}
    for method in ("abtt", "zca"):
        fit = run("whiten", "fit", "-n", method, "-M", method, *sts)
        assert fit.code == 0, fit.err
        found[method] = fit.rows[-1]
        assert found[method]["n"] == 1379
        assert found[method]["before"] == pytest.approx(0.7588, abs=1e-3)
    assert found["abtt"]["after"] == pytest.approx(0.7615, abs=2e-3)
    assert found["zca"]["after"] == pytest.approx(0.7605, abs=2e-3)


def test_no_plan_is_made_of_nonsense():
    from embcli.pipelines.whiten import Plan

    for method, wrong in (
        ("abtt", {"components": 0}),
        ("pca", {"dims": 1}),
        ("zca", {"shrinkage": float("nan")}),
    ):
        with pytest.raises(UsageError):
            Plan(method, **wrong)
