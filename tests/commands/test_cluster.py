"""`embcli cluster` and `embcli clusters`."""

import csv
import io
import json
import sys

import numpy as np
import pytest

from embcli import Recipe, Record, Store
from embcli.core.clustering.agreement import agreement
from tests.conftest import SHARED

WORDS = {
    "pets": ["cat", "dog", "kitten", "puppy", "hamster"],
    "money": ["bank", "bond", "interest", "loan", "tax"],
    "sea": ["ship", "harbour", "sailor", "anchor", "wave"],
}


def texts_and_vectors(each=20, dim=12, seed=0):
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.standard_normal((dim, dim)))[0][:3]
    records, vectors = [], []
    for number, (topic, words) in enumerate(WORDS.items()):
        for i in range(each):
            text = f"The {rng.choice(words)} and the {rng.choice(words)} of day {i}"
            meta = {"topic": topic, "year": 2000 + i}
            if topic != "sea" and i % 2:
                meta["known"] = topic
            records.append(Record(f"{topic}{i}", text, meta, f"x.jsonl:{i}"))
            vectors.append(directions[number] + 0.15 * rng.standard_normal(dim))
    return records, np.array(vectors, np.float32)


@pytest.fixture
def stored(home):
    records, vectors = texts_and_vectors()
    with Store("embcli.db") as store:
        recipe = Recipe({"model": "made up", "dim": vectors.shape[1], "normalized": False})
        store.create_collection("default", recipe).add(records, vectors)


def test_clusters_are_found_named_kept_and_compared(run, stored):
    result = run("cluster", "-k", "3", "--label", "topic")
    assert result.code == 0
    assert [row["size"] for row in result.rows] == [20, 20, 20]
    for row in result.rows:
        topic = row["medoid"].rstrip("0123456789")
        assert set(row["keywords"][:3]) <= set(WORDS[topic])
        assert row["name"] == ", ".join(row["keywords"][:3])
        assert 0.8 < row["cohesion"] < 1
    assert "V 1.0000, ARI 1.0000, NMI 1.0000, purity 1.0000" in result.err
    assert "3 clusters of 60 records, kept as 'kmeans'" in result.err
    assert run("clusters", "show", "kmeans").rows == result.rows
    (listed,) = run("clusters", "list").rows
    assert (listed["name"], listed["clusters"], listed["v_measure"]) == ("kmeans", 3, 1)
    assert listed["arguments"]["seed"] == 0


def test_the_same_seed_gives_the_same_clusters_and_auto_finds_how_many(run, stored):
    first = run("cluster", "--show", "records")
    assert "3 clusters, chosen by silhouette" in first.err
    assert first.out == run("cluster", "--show", "records").out
    curve = run("cluster", "--show", "curve").rows
    assert [row["k"] for row in curve if row["chosen"]] == [3]
    assert max(curve, key=lambda row: row["value"])["k"] == 3
    assert len(run("clusters", "list").rows) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["-M", "gmm", "-k", "3"],
        ["-M", "agglomerative", "-k", "3"],
        ["-M", "agglomerative", "--threshold", "2.5"],
        ["-M", "leiden"],
    ],
    ids=" ".join,
)
def test_every_method_finds_what_is_plainly_there(run, stored, words):
    assert run("cluster", *words, "--label", "topic").code == 0
    assert run("clusters", "list").rows[-1]["v_measure"] > 0.7


def test_density_is_looked_for_in_a_reduction(run, stored):
    result = run("cluster", "-M", "hdbscan", "--label", "topic", "--neighbours", "10")
    (row,) = run("clusters", "list").rows
    assert (result.code, row["v_measure"]) == (0, 1)
    assert row["arguments"]["reduced to"] == 5
    assert run("cluster", "-M", "hdbscan", "--min-size", "50").code == 3


def test_clusters_can_be_filtered_by_exported_and_deleted(run, stored):
    run("cluster", "-k", "3", "--name", "topics")
    rows = run("clusters", "members", "topics", "--cluster", "1").rows
    assert len(rows) == 20
    strengths = [row["strength"] for row in rows]
    assert strengths == sorted(strengths, reverse=True)
    ids = {row["id"] for row in rows}
    found = run("search", "--like", rows[0]["id"], "--where", "cluster = 1", "-k", "30")
    assert {row["id"] for row in found.rows} == ids - {rows[0]["id"]}
    assert found.out == run(
        "search", "--like", rows[0]["id"], "--where", "cluster.topics = 1", "-k", "30"
    ).out  # fmt: skip
    table = list(csv.DictReader(io.StringIO(run("clusters", "members", "-f", "csv").out)))
    assert len(table) == 60
    assert {row["id"] for row in table if row["cluster"] == "1"} == ids
    assert run("clusters", "members", "--cluster", "9").code == 1
    assert run("clusters", "label", "1", "the second").code == 0
    assert run("clusters", "show").rows[1]["name"] == "the second"
    assert run("clusters", "rename", "topics", "subjects").code == 0
    assert run("clusters", "rm", "subjects").code == 2
    assert run("clusters", "rm", "subjects", "--yes").code == 0
    result = run("clusters", "show")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "embcli cluster -c default" in result.err


def test_levels_are_clusterings_of_their_own(run, stored):
    result = run("cluster", "-k", "6", "--levels", "3,2")
    assert "kept as 'kmeans', 'kmeans-3', 'kmeans-2'" in result.err
    fine = {row["id"]: row["cluster"] for row in run("clusters", "members", "kmeans").rows}
    coarse = {row["id"]: row["cluster"] for row in run("clusters", "members", "kmeans-3").rows}
    parents = {row["cluster"]: row["parent"] for row in result.rows}
    assert all(parents[fine[id]] == coarse[id] for id in fine)
    assert len(set(coarse.values())) == 3
    # The finest is the last one.
    assert run("clusters", "show").rows == result.rows
    assert len(run("cluster", "-k", "8", "--levels", "auto", "-n", "x").rows) == 8
    assert [row["clusters"] for row in run("clusters", "list").rows][-2:] == [8, 2]


def test_records_that_come_later_are_assigned_on_request(run, stored):
    run("cluster", "-k", "3")
    numbers = {row["id"]: row["cluster"] for row in run("clusters", "members").rows}
    _, vectors = texts_and_vectors(seed=0)
    with Store("embcli.db") as store:
        later = [Record(f"new{i}", "new", {}, "y:1") for i in range(3)]
        store.collection("default").add(later, vectors[[0, 20, 40]])
    assert len(run("clusters", "members").rows) == 60
    assert "3 records assigned" in run("clusters", "assign").err
    after = {row["id"]: row["cluster"] for row in run("clusters", "members").rows}
    assert numbers.items() <= after.items()
    assert [after[f"new{i}"] for i in range(3)] == [
        numbers[f"{topic}0"] for topic in ("pets", "money", "sea")
    ]


def test_only_records_of_the_filter_are_assigned(run, stored):
    run("cluster", "-k", "2", "--where", 'topic != "sea"', "-n", "part")
    assert "0 records assigned" in run("clusters", "assign", "part").err
    assert len(run("clusters", "members", "part").rows) == 40
    again = run("cluster", "-k", "2", "--where", "cluster = 0", "-n", "part")
    assert (again.code, "another --name" in again.err) == (2, True)


def test_a_mixture_is_chosen_as_it_is_fitted(run, stored):
    words = ["cluster", "-M", "gmm", "--criterion", "bic", "--covariance", "diag", "--dims", "4"]
    (chosen,) = [row for row in run(*words, "--show", "curve").rows if row["chosen"]]
    (row,) = run("clusters", "list").rows
    assert row["arguments"]["covariance"] == "diag"
    assert row["arguments"]["bic"] == pytest.approx(chosen["value"])


def test_approximate_neighbours_change_no_clusters(run, stored):
    run("neighbors", "--approximate", "-k", "15", "-q")
    first = run("cluster", "-M", "leiden", "--show", "records").out
    with Store("embcli.db") as store:
        assert store.collection("default").graphs.get(15).recall is None
    assert run("cluster", "-M", "leiden", "--show", "records").out == first


def test_outliers_and_duplicates_are_listed(run, stored):
    _, vectors = texts_and_vectors()
    with Store("embcli.db") as store:
        odd = Record("odd", "odd", {}, "y:1")
        twin = Record("twin", "twin", {}, "y:2")
        away = -vectors[0] - vectors[20] - vectors[40]
        store.collection("default").add([odd, twin], np.stack([away, vectors[5]]))
    rows = run("cluster", "-k", "3", "--outliers", "--top", "5").rows
    assert rows[0]["id"] == "odd"
    assert rows[0]["kind"] == "outlier"
    (duplicate,) = [row for row in rows if row["kind"] == "duplicate" and row["score"] > 0.9999]
    assert (duplicate["id"], duplicate["of"]) == ("twin", "pets5")
    assert run("clusters", "outliers", "--top", "5").rows == rows


def test_any_program_names_clusters_and_keywords_stay_where_it_fails(run, stored):
    script = (
        "import os, sys; text = sys.stdin.read(); number = os.environ['EMBCLI_CLUSTER']; "
        "sys.exit('no idea') if number == '1' else print(number, len(text) > 100)"
    )
    result = run("cluster", "-k", "3", "--label-command", f'{sys.executable} -c "{script}"')
    names = [row["name"] for row in result.rows]
    assert names[0] == "0 True"
    assert names[2] == "2 True"
    assert names[1] == ", ".join(result.rows[1]["keywords"][:3])
    assert "no idea" in result.err


def test_new_clusters_beside_known_classes(run, stored):
    result = run("cluster", "--known", "known", "-k", "3", "--label", "topic")
    assert result.code == 0
    assert [row["name"] for row in result.rows[:2]] == ["money", "pets"]
    assert "accuracy of all 1.0000, accuracy of old 1.0000, accuracy of new 1.0000" in result.err
    (row,) = run("clusters", "list").rows
    assert row["measures"]["new clusters"] == 1
    named = run("cluster", "--known", "known", "-k", "3", "--label-command", "echo NAME").rows
    assert [row["name"] for row in named] == ["money", "pets", "NAME"]
    assert run("cluster", "--known", "known", "-M", "leiden").code == 2
    assert "takes no --dims" in run("cluster", "--known", "known", "-M", "gmm", "--dims", "3").err
    assert run("cluster", "--known", "nothing").code == 3


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-k", "many"], 2, "-k takes a number or auto"),
        (["-k", "61"], 3, "61 clusters of 60 records"),
        (["-M", "leiden", "-k", "3"], 2, "method 'leiden' takes no -k"),
        (["-M", "agglomerative"], 2, "takes either -k N or --threshold"),
        (["-M", "nothing"], 2, "no method 'nothing'"),
        (["--label", "nothing"], 3, "no record of collection 'default' has a field 'nothing'"),
        (["-k", "3", "--name", "1 2"], 2, "not a possible name"),
        (["-k", "3", "--show", "curve"], 2, "--show curve"),
        (["--levels", "x"], 2, "--levels takes whole numbers"),
        (["--where", "year > 3000"], 3, "no record of collection 'default' passes --where"),
        (["-c", "other"], 5, "no collection 'other'"),
        (["--criterion", "bic"], 2, "k-means has no likelihood"),
        (["--levels", "0"], 2, "--levels are of at least 2 clusters"),
        (["-M", "leiden", "--resolution", "inf"], 2, "--resolution is a number above 0"),
        (["-M", "leiden", "--show", "curve"], 2, "--show curve"),
        (["-k", "3", "--label-command", " "], 2, "blank"),
        (["--seed", "5000000000"], 2, "--seed"),
    ],
)
def test_what_cannot_be_is_said_on_one_line_and_nothing_is_kept(run, stored, words, code, message):
    result = run("cluster", *words)
    assert (result.code, result.out, result.err.count("\n")) == (code, "", 1)
    assert message in result.err
    assert run("clusters", "list").rows == []


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_too_few_records_or_all_the_same(run, home, count):
    with Store("embcli.db") as store:
        recipe = Recipe({"model": "made up", "dim": 4, "normalized": False})
        collection = store.create_collection("default", recipe)
        collection.add(
            [Record(f"r{i}", "text", {}, "x:1") for i in range(count)],
            np.ones((count, 4), np.float32),
        )
    for words in (["cluster"], ["cluster", "-M", "leiden"], ["plot"], ["neighbors"]):
        result = run(*words)
        assert (result.code, result.out) == (3, "")
        assert result.err.count("\n") == 1
        assert "is empty" in result.err or "takes three" in result.err or "the same" in result.err


def test_an_interrupt_leaves_the_store_as_it_was(run, stored, home, monkeypatch):
    before = (home / "embcli.db").read_bytes()

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("embcli.core.clustering.kmeans.kmeans", interrupted)
    assert run("cluster", "-k", "3").code == 130
    assert (home / "embcli.db").read_bytes() == before
    assert run("clusters", "list").rows == []


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the project's shared data folder")
def test_intents_of_customers_come_together(run):
    assert run("encode", SHARED / "banking77" / "test.csv").code == 0
    run("cluster", "-k", "77", "--label", "category", "-q")
    run("cluster", "-M", "hdbscan", "--label", "category", "-q")
    kmeans, dense = run("clusters", "list").rows
    assert kmeans["v_measure"] > 0.73
    assert dense["noise"] < 0.3
    assert dense["v_measure"] > kmeans["v_measure"] - 0.05
    members = run("clusters", "members", "kmeans").rows
    truth = [row["meta"]["category"] for row in members]
    _, classes = np.unique(truth, return_inverse=True)
    again = agreement(np.array([row["cluster"] for row in members]), classes)
    assert again.v_measure == pytest.approx(kmeans["v_measure"])
    assert json.loads(json.dumps(kmeans["measures"]))["ari"] == pytest.approx(again.ari)
