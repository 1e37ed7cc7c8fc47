"""`embcli plot`, `embcli layouts`, `embcli neighbors` and `embcli export --atlas`."""

import json
import os
import shutil
from contextlib import closing

import numpy as np
import pytest

from embcli import Recipe, Record, Store
from tests.commands.test_cluster import stored, texts_and_vectors

__all__ = ["stored"]

PNG = b"\x89PNG\r\n\x1a\n"


def coordinates(run, name=None):
    rows = run("layouts", "show", *([name] if name else [])).rows
    return {row["id"]: (row["x"], row["y"]) for row in rows}


def add(ids, rows, seed=0):
    _, vectors = texts_and_vectors(seed=seed)
    with Store("embcli.db") as store:
        records = [Record(id, "later", {"topic": "later"}, "y:1") for id in ids]
        store.collection("default").add(records, vectors[rows])


def test_a_map_is_drawn_kept_and_drawn_again_without_computing(run, stored, home, monkeypatch):
    result = run("plot", "-o", "map.png", "--color", "topic")
    assert (result.code, result.out) == (0, "")
    assert result.err == "60 records → map.png\n"
    assert (home / "map.png").read_bytes().startswith(PNG)
    before = coordinates(run, "umap")
    assert len(before) == 60

    def computed(*arguments, **options):
        raise AssertionError("laid out again")

    monkeypatch.setattr("embcli.core.layout.umap.umap_layout", computed)
    assert run("plot", "-o", "map.svg", "--color", "year", "--dark").code == 0
    assert "year" in (home / "map.svg").read_text()
    assert run("plot", "-o", "map.svg").code == 2
    assert run("plot", "-o", "map.svg", "--force").code == 0
    assert coordinates(run) == before
    rows = run("plot").rows
    assert {row["id"]: (row["x"], row["y"]) for row in rows} == before


def test_later_records_are_placed_and_others_stay(run, stored):
    run("plot", "-q")
    before = coordinates(run)
    add(["twin", "near"], [0, 25])
    result = run("plot")
    assert "2 records placed in the layout 'umap'" in result.err
    after = coordinates(run)
    assert before.items() <= after.items()
    np.testing.assert_allclose(after["twin"], before["pets0"], atol=1e-4)
    money = np.array([before[f"money{i}"] for i in range(20)])
    assert np.abs(after["near"] - money).max(axis=1).min() < np.ptp(money, axis=0).max()
    (row,) = run("layouts", "list").rows
    assert (row["name"], row["records"], row["placed"]) == ("umap", 62, 2)
    assert "--fresh" not in result.err
    add([f"more{i}" for i in range(20)], np.arange(20))
    assert "--fresh makes it anew" in run("plot").err
    assert "placed" not in run("plot", "--fresh").err
    assert run("layouts", "list").rows[0]["placed"] == 0


@pytest.mark.parametrize("method", ["pca", "tsne", "localmap"])
def test_every_method_lays_out_the_same_way_twice_and_places(run, stored, method):
    first = run("plot", "-M", method)
    assert first.code == 0
    assert first.out == run("plot", "-M", method, "--fresh").out
    add(["twin"], [0])
    run("plot", "-M", method)
    after = coordinates(run, method)
    np.testing.assert_allclose(after["twin"], after["pets0"], rtol=1e-3, atol=1e-3)


def test_what_is_chosen_has_a_layout_of_its_own(run, stored):
    run("plot", "-M", "pca")
    assert len(run("plot", "-M", "pca", "--where", 'topic = "sea"').rows) == 20
    some = run("plot", "-M", "pca", "--sample", "30").rows
    assert len(some) == 30
    assert some == run("plot", "-M", "pca", "--sample", "30").rows
    assert len(run("layouts", "list").rows) == 3
    assert len(run("plot", "-M", "pca").rows) == 60
    assert len(run("plot", "-M", "pca", "--dims", "3").rows[0]) == 4
    assert [row["name"] for row in run("layouts", "list").rows][-1] == "pca-3d"
    assert run("plot", "-M", "pca", "--dims", "3", "-o", "deep.png").code == 0
    assert run("layouts", "rm", "pca").code == 0
    assert run("layouts", "rm", "pca").code == 1


def test_the_report_says_how_much_is_kept(run, stored):
    rows = {row["measure"]: row["value"] for row in run("plot", "--report").rows}
    assert 0.9 < rows["trustworthiness"] <= 1
    assert set(rows) >= {"trustworthiness", "continuity"}


def test_clusters_colour_and_name_a_map_once_there_are_some(run, stored, home):
    run("cluster", "-k", "3", "-q")
    names = [row["name"] for row in run("clusters", "show").rows]
    assert run("plot", "-M", "pca", "-o", "map.svg", "--label").code == 0
    drawn = (home / "map.svg").read_text()
    assert all(name.split(",")[0] in drawn for name in names)
    shown = run("plot", "-M", "pca", tty=True)
    assert all(name.split(",")[0] in shown.out for name in names)
    assert "⣿" in shown.out or any("\u2800" < letter <= "\u28ff" for letter in shown.out)
    assert "--out FILE.png" in shown.err
    assert run("plot", "-M", "pca", "--color", "cluster.other").code == 1
    assert run("plot", "-M", "pca", "--color", "none", "-o", "plain.pdf").code == 0


def test_a_page_has_everything_in_it(run, stored, home):
    run("cluster", "-k", "3", "-q")
    result = run("plot", "-M", "pca", "-o", "map.html", "--color", "topic")
    assert (result.code, result.err) == (0, "60 records → map.html\n")
    page = (home / "map.html").read_text()
    for text in ("pets0", "kmeans", "topic", "year", "Content-Security-Policy"):
        assert text in page
    assert run("plot", "-M", "pca", "-o", "map.html").code == 2


@pytest.mark.parametrize("kind", ["similarity", "dendrogram", "graph", "scree", "silhouette"])
def test_other_kinds(run, stored, home, kind):
    color = () if kind in ("similarity", "scree") else ("--color", "topic")
    result = run("plot", "--kind", kind, "-o", f"{kind}.png", *color)
    assert (result.code, result.err) == (0, f"60 records → {kind}.png\n")
    assert (home / f"{kind}.png").read_bytes().startswith(PNG)


def test_two_collections_side_by_side(run, stored, home):
    records, vectors = texts_and_vectors()
    with Store("embcli.db") as store:
        recipe = store.collection("default").recipe
        store.create_collection("other", recipe).add(records[5:], -vectors[5:, ::-1])
    result = run("plot", "--kind", "compare", "-M", "pca", "-c", "default", "-c", "other", "-o",
                 "two.svg", "--color", "topic")  # fmt: skip
    assert (result.code, result.out) == (0, "")
    assert "55 records of both" in (home / "two.svg").read_text()
    assert result.err == "55 records → two.svg\n"
    some = run("plot", "--kind", "compare", "-M", "pca", "-c", "default", "-c", "other", "-o",
               "some.svg", "--color", "topic", "--sample", "30")  # fmt: skip
    assert some.err == "30 records → some.svg\n"
    assert "30 records of both" in (home / "some.svg").read_text()
    assert run("plot", "--kind", "compare", "-o", "x.png").code == 2


def test_a_named_layout_is_drawn_again_by_its_name_and_not_replaced(run, stored, monkeypatch):
    before = run("plot", "-n", "mine", "-M", "pca").out

    def computed(*arguments, **options):
        raise AssertionError("laid out")

    monkeypatch.setattr("embcli.core.layout.umap.umap_layout", computed)
    assert run("plot", "-n", "mine").out == before
    other = run("plot", "-n", "mine", "-M", "umap")
    assert (other.code, "method pca, not umap" in other.err) == (2, True)
    assert run("plot", "-n", "not a name").code == 2
    assert run("plot", "-n", "mine", "-M", "pca", "--dims", "3", "--fresh").code == 0
    assert run("layouts", "list").rows[0]["dims"] == 3


def test_metadata_of_any_kind_and_number_in_a_page(run, home):
    with Store("embcli.db") as store:
        recipe = Recipe({"model": "made up", "dim": 4, "normalized": False})
        vectors = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
        metas = [
            {"kmeans": "mine", "tags": ["x"], "big": 10**400, **{f"f{j:02}": i for j in range(45)}}
            for i in range(30)
        ]
        store.create_collection("default", recipe).add(
            [Record(f"r{i}", "text", meta, "x:1") for i, meta in enumerate(metas)], vectors
        )
    run("cluster", "-k", "2", "-q")
    result = run("plot", "-M", "pca", "-o", "map.html", "--color", "f00")
    assert (result.code, result.err.count("\n")) == (0, 2)
    assert "the 40 most frequent of 47 fields" in result.err
    page = (home / "map.html").read_text()
    assert '"cluster.kmeans"' in page
    assert '"tags"' not in page
    assert "(fields: " in (error := run("plot", "-M", "pca", "--color", "tags").err)
    assert "tags" not in error.partition("(fields")[2]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-o", "map.gif"], 2, "a figure ends in one of .png, .svg, .pdf"),
        (["-o", "no/map.png"], 2, "cannot write no/map.png"),
        (["-M", "nothing"], 2, "no method 'nothing'"),
        (["-M", "pca", "--min-dist", "0.2"], 2, "method 'pca' takes no --min-dist"),
        (["-M", "tsne", "--dims", "3"], 2, "t-SNE lays out in two dimensions"),
        (["--kind", "scree"], 2, "--kind scree is drawn into a file"),
        (["--kind", "scree", "-o", "x.html"], 2, "pages are of flat maps"),
        (["-c", "default", "-c", "other"], 2, "--kind map takes one collection"),
        (["--kind", "graph", "--color", "year", "-o", "x.png"], 2, "'year' has numbers"),
        (["--kind", "scree", "--color", "topic", "-o", "x.png"], 2, "takes no --color"),
        (["--kind", "graph", "--fresh", "-o", "x.png"], 2, "takes no --fresh"),
        (["--kind", "silhouette", "-o", "x.png"], 2, "a silhouette plot is of groups"),
        (["-M", "pca", "-o", "x.png", "--color", "nothing"], 3, "has a field 'nothing'"),
        (["-c", "other"], 5, "no collection 'other'"),
    ],
)
def test_what_cannot_be_is_said_on_one_line(run, stored, home, words, code, message):
    result = run("plot", *words)
    assert (result.code, result.out, result.err.count("\n")) == (code, "", 1)
    assert message in result.err
    assert not list(home.glob("x.*"))


def test_a_store_that_cannot_be_written_is_drawn_all_the_same(run, stored, home, monkeypatch):
    from embcli.errors import StoreError

    def existing(path):
        raise StoreError(f"{path} is read-only")

    monkeypatch.setattr(Store, "existing", existing)
    result = run("plot", "-M", "pca", "-o", "map.png")
    assert result.code == 0
    assert "not kept for the next time: embcli.db is read-only" in result.err
    assert run("layouts", "list").rows == []


def test_neighbours_are_exact_kept_and_written(run, stored, home, monkeypatch):
    _, vectors = texts_and_vectors()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -1)
    result = run("neighbors", "-k", "4", "-o", "knn.npz")
    assert (result.code, result.err) == (0, "4 neighbours of 60 records → knn.npz\n")
    with np.load("knn.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["neighbours"], np.argsort(-cosines)[:, :4])
        np.testing.assert_allclose(arrays["cosines"], -np.sort(-cosines)[:, :4], atol=1e-6)
        ids = arrays["ids"].tolist()
    assert ids[0] == "pets0"

    def computed(*arguments, **options):
        raise AssertionError("compared again")

    monkeypatch.setattr("embcli.pipelines.subject.knn_graph", computed)
    rows = run("neighbors", "-k", "2").rows
    assert len(rows) == 120
    assert rows[0] == {
        "id": "pets0", "rank": 1, "neighbour": ids[int(np.argmax(cosines[0]))],
        "score": pytest.approx(cosines[0].max(), abs=1e-5),
    }  # fmt: skip
    assert run("neighbors", "-o", "knn.npz").code == 2
    assert run("neighbors", "-o", "knn.csv").code == 2


def test_embedding_atlas_gets_places_neighbours_and_clusters(run, stored, home):
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    run("cluster", "-k", "3", "-q")
    run("plot", "-q", "-o", "map.png")
    result = run("export", "map.parquet", "--atlas")
    assert result.out.startswith("embedding-atlas map.parquet --text text")
    table = parquet.read_table("map.parquet")
    assert table.num_rows == 60
    assert {"id", "text", "projection_x", "projection_y", "topic", "cluster.kmeans"} <= {
        *table.column_names
    }
    assert table["projection_x"][0].as_py() == pytest.approx(coordinates(run)["pets0"][0])
    assert run("export", "map.npz", "--atlas").code == 2


def test_an_older_store_is_upgraded_before_it_is_drawn(run, stored, home):
    import sqlite3

    shutil.copy("embcli.db", "old.db")
    with closing(sqlite3.connect("old.db")) as db, db:
        later = (
            "clusterings", "clusters", "assignments", "layouts", "points", "graphs", "checks",
            "gathered",
        )  # fmt: skip
        for table in later:
            db.execute(f"DROP TABLE {table}")
        for (name,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            if not name.startswith("codes"):
                db.execute(f"DROP TRIGGER {name}")
        for table in ("records", "queries"):
            db.execute(f"ALTER TABLE {table} DROP COLUMN sum")
        db.execute("PRAGMA user_version = 6")
    db.close()
    assert run("plot", "-M", "pca", "-d", "old.db").code == 0
    assert json.loads(run("layouts", "list", "-d", "old.db").out)["name"] == "pca"
    assert os.path.exists("old.db")
