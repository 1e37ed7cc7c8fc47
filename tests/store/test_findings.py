"""Clusters, layouts and neighbours in the store: found again, filtered by, gone with records."""

import numpy as np
import pytest

from embcli import Recipe, Record, Store
from embcli.core.neighbours import Neighbours
from embcli.errors import NothingFoundError, StoreError, UsageError
from embcli.store import Cluster, Found, Graph, Members, Points


@pytest.fixture
def store(home):
    with Store("embcli.db") as store:
        yield store
        assert not store.inspect()


@pytest.fixture
def collection(store):
    return filled(store, "c")


def filled(store, name, n=6):
    recipe = Recipe({"model": "made up", "dim": 2, "normalized": False})
    collection = store.create_collection(name, recipe)
    records = [Record(f"r{i}", f"text {i}", {"cluster": "meta", "n": i}, "s:1") for i in range(n)]
    collection.add(records, np.eye(n, 2, dtype=np.float32) + 1)
    return collection


def clustered(store, collection, name="topics", labels=(0, 0, 1, 1, 1, -1)):
    keys = np.sort(collection.keys())
    members = Members(keys, np.array(labels), np.linspace(0, 1, len(keys), dtype=np.float32))
    clusters = [
        Cluster(n, f"named {n}", 2, int(keys[0]), 0.5, ["a", "ö"]) for n in sorted(set(labels))
    ]
    return collection.clusterings.add(
        Found(name, "made up", {"k": 2}, {"silhouette": 0.5}, clusters, members)
    )


def laid_out(collection, name="plane", dims=2):
    keys = np.sort(collection.keys())
    coordinates = np.arange(len(keys) * dims, dtype=np.float32).reshape(-1, dims)
    points = Points(keys, coordinates, np.zeros(len(keys), np.bool_))
    return collection.layouts.add(name, "made up", {"seed": 0}, {}, points)


def test_a_clustering_is_found_as_it_was_kept(store, collection):
    kept = clustered(store, collection)
    found = collection.clusterings.get()
    assert found == kept == collection.clusterings.get("topics")
    assert (found.method, found.arguments, found.measures) == (
        "made up", {"k": 2}, {"silhouette": 0.5},
    )  # fmt: skip
    assert [cluster.number for cluster in collection.clusterings.clusters(found)] == [-1, 0, 1]
    assert collection.clusterings.clusters(found)[1].keywords == ["a", "ö"]
    members = collection.clusterings.members(found)
    assert members.clusters.tolist() == [0, 0, 1, 1, 1, -1]
    assert members.strengths[-1] == 1
    with pytest.raises(NothingFoundError, match="there are: topics"):
        collection.clusterings.get("other")


def test_one_of_the_same_name_takes_its_place_and_the_last_one_is_the_default(store, collection):
    clustered(store, collection, "a")
    clustered(store, collection, "b")
    clustered(store, collection, "a", (1, 1, 1, 0, 0, 0))
    assert [each.name for each in collection.clusterings.all()] == ["b", "a"]
    assert collection.clusterings.get().name == "a"
    collection.clusterings.rename("b", "c")
    with pytest.raises(UsageError, match="already"):
        collection.clusterings.rename("c", "a")
    with pytest.raises(UsageError, match="not a possible name"):
        collection.clusterings.rename("c", "1 2")
    collection.clusterings.remove("a")
    assert collection.clusterings.get().name == "c"
    collection.clusterings.name_clusters(collection.clusterings.get(), {0: "other"})
    assert collection.clusterings.clusters(collection.clusterings.get())[1].name == "other"
    with pytest.raises(NothingFoundError, match="no cluster 9"):
        collection.clusterings.name_clusters(collection.clusterings.get(), {9: "other"})


def test_filters_know_the_last_clustering_and_others_by_name(store, collection):
    def found(where):
        wanted = collection.filter(where)
        return [id for key, id in collection.names().items() if wanted[key]]

    assert found('cluster = "meta"') == [f"r{i}" for i in range(6)]
    clustered(store, collection, "first-one", (1, 1, 1, 1, 0, 0))
    clustered(store, collection, "topics")
    other = filled(store, "other", 3)
    assert other.filter('cluster = "meta"').sum() == 3
    assert found("cluster = 1") == ["r2", "r3", "r4"]
    assert found("cluster in (0, -1) and n > 0") == ["r1", "r5"]
    assert found("not cluster = 1") == ["r0", "r1", "r5"]
    assert found("cluster.first-one = 0") == ["r4", "r5"]
    assert found("cluster is null") == []
    assert found('meta.cluster = "meta"') == [f"r{i}" for i in range(6)]
    with pytest.raises(UsageError, match=r"no clustering 'nothing' \(there are: first-one, topics"):
        collection.filter("cluster.nothing = 1")
    assert set(collection.labels("cluster").values()) == {"0", "1", "-1"}
    assert collection.values("cluster.first-one")[int(np.sort(collection.keys())[0])] == 1
    assert store.create_index("meta.cluster")
    assert [(each.field, each.records) for each in store.indexes()] == [("cluster", 9)]
    assert found("meta.cluster = 'meta' and cluster = 0") == ["r0", "r1"]


def test_metadata_named_cluster_is_metadata_where_there_are_no_clusters(store):
    recipe = Recipe({"model": "made up", "dim": 2, "normalized": False})
    collection = store.create_collection("c", recipe)
    meta = {"cluster": {"done": True, "tags": ["x"]}}
    collection.add([Record("a", "a", meta, "s:1")], np.ones((1, 2), np.float32))
    for where in ("cluster.done = true", 'cluster.tags contains "x"', 'cluster contains "done"'):
        assert collection.filter(where).sum() == 1
    clustered(store, collection, labels=(0,))
    assert collection.filter("meta.cluster.done = true").sum() == 1


def test_levels_go_with_what_they_are_levels_of(store, collection):
    keys = np.sort(collection.keys())
    strengths = np.ones(6, np.float32)

    def level(name, labels, parents=()):
        parents = dict(enumerate(parents))
        clusters = [
            Cluster(n, f"{name} {n}", 0, None, None, [], parents.get(n))
            for n in sorted(set(labels))
        ]
        return Found(
            name, "x", {}, {"nan": np.nan}, clusters, Members(keys, np.array(labels), strengths)
        )

    fine = level("t", (0, 0, 1, 1, 2, 2), (0, 0, 1))
    coarse = level("t-2", (0, 0, 0, 0, 1, 1))
    clusterings = collection.clusterings
    clusterings.add(level("other", (0, 0, 0, 0, 0, 0)))
    kept = clusterings.add(fine, [coarse])
    assert kept.measures == {"nan": None}
    assert [each.name for each in clusterings.all()] == ["other", "t", "t-2"]
    assert clusterings.get().name == "t"
    collection.add([Record("new", "new", {}, "s:2")], np.ones((1, 2), np.float32))
    key = collection.keys_by_id(["new"])["new"]
    clusterings.assign(kept, Members(np.array([key]), np.array([2]), np.ones(1, np.float32)))
    assert clusterings.members(clusterings.get("t-2")).clusters.tolist() == [0, 0, 0, 0, 1, 1, 1]
    with pytest.raises(UsageError, match="already"):
        clusterings.add(level("u", (0, 0, 1, 1, 2, 2)), [level("t-2", (0, 0, 0, 0, 1, 1))])
    assert [each.name for each in clusterings.all()] == ["other", "t", "t-2"]
    clusterings.rename("t", "s")
    assert [each.name for each in clusterings.all()] == ["other", "s", "s-2"]
    clusterings.remove("s")
    assert [each.name for each in clusterings.all()] == ["other"]
    with pytest.raises(StoreError, match="made anew"):
        clusterings.assign(kept, Members(np.array([key]), np.array([0]), np.ones(1, np.float32)))


def test_later_records_are_in_no_cluster_until_they_are_assigned(store, collection):
    clustering = clustered(store, collection)
    collection.add([Record("new", "new", {}, "s:2")], np.ones((1, 2), np.float32))
    assert len(collection.clusterings.members(clustering).keys) == 6
    key = collection.keys_by_id(["new"])["new"]
    assert collection.filter("cluster is null").sum() == 1
    collection.clusterings.assign(
        clustering, Members(np.array([key]), np.array([1]), np.array([0.5], np.float32))
    )
    assert collection.clusterings.members(clustering).clusters.tolist() == [0, 0, 1, 1, 1, -1, 1]
    assert [c.size for c in collection.clusterings.clusters(clustering)] == [1, 2, 4]


def test_what_was_found_of_a_record_goes_with_it(store, collection):
    clustering, layout = clustered(store, collection), laid_out(collection)
    collection.delete(["r0", "r5"])
    assert len(collection.clusterings.members(clustering).keys) == 4
    assert {c.medoid for c in collection.clusterings.clusters(clustering)} == {None}
    assert len(collection.layouts.points(layout).keys) == 4
    # The highest key is given again: not with what its former owner had.
    collection.add([Record("new", "new", {}, "s:2")], np.ones((1, 2), np.float32))
    assert len(collection.clusterings.members(clustering).keys) == 4
    assert len(collection.layouts.points(layout).keys) == 4


def test_records_deleted_meanwhile_are_passed_over(store, collection):
    keys = np.sort(collection.keys())
    collection.delete(["r2"])
    members = Members(keys, np.zeros(6, np.int64), np.ones(6, np.float32))
    kept = collection.clusterings.add(
        Found("late", "x", {}, {}, [Cluster(0, "n", 6, int(keys[2]), None, [])], members)
    )
    assert len(collection.clusterings.members(kept).keys) == 5
    assert collection.clusterings.clusters(kept)[0].medoid is None


@pytest.mark.parametrize("dims", [2, 3])
def test_a_layout_is_found_and_added_to(collection, dims):
    layout = laid_out(collection, dims=dims)
    assert collection.layouts.get() == layout == collection.layouts.find("plane")
    assert layout.dims == dims
    collection.add([Record("new", "new", {}, "s:2")], np.ones((1, 2), np.float32))
    key = collection.keys_by_id(["new"])["new"]
    collection.layouts.place(
        layout, Points(np.array([key]), np.full((1, dims), 7, np.float32), np.array([True]))
    )
    points = collection.layouts.points(layout)
    assert points.coordinates.shape == (7, dims)
    np.testing.assert_array_equal(points.coordinates[:6].ravel(), np.arange(6 * dims))
    np.testing.assert_array_equal(points.coordinates[6], 7)
    assert points.placed.tolist() == [False] * 6 + [True]
    again = laid_out(collection, dims=dims)
    assert collection.layouts.all() == [again]
    assert not collection.layouts.points(again).placed.any()
    collection.layouts.remove("plane")
    with pytest.raises(NothingFoundError, match="no layout yet"):
        collection.layouts.get()


def test_neighbours_are_kept_until_vectors_change(store, collection):
    keys = np.sort(collection.keys())
    near = Neighbours(
        np.array([[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4]]),
        np.linspace(1, 0, 12, dtype=np.float32).reshape(6, 2),
    )
    graphs = collection.graphs

    def keep():
        return graphs.put(Graph(keys, near, None), graphs.state())

    assert graphs.get(1) is None
    assert keep()
    np.testing.assert_array_equal(graphs.get(2).near.others, near.others)
    np.testing.assert_array_equal(graphs.get(1).near.cosines, near.cosines[:, :1])
    np.testing.assert_array_equal(graphs.get(1).keys, keys)
    assert graphs.get(3) is None
    state = graphs.state()
    collection.delete(["r5"])
    assert graphs.get(1) is None
    assert not graphs.put(Graph(keys, near, None), state)
    assert keep()
    collection.add([Record("new", "new", {}, "s:2")], np.ones((1, 2), np.float32))
    assert graphs.get(1) is None
    assert keep()
    store.vacuum()
    assert graphs.get(1) is None


def test_nothing_is_left_of_a_removed_collection(store, collection, home):
    clustered(store, collection)
    laid_out(collection)
    near = Neighbours(np.zeros((6, 1), np.int64), np.zeros((6, 1), np.float32))
    collection.graphs.put(Graph(np.sort(collection.keys()), near, 0.9), collection.graphs.state())
    assert collection.graphs.get(1).recall == 0.9
    store.remove_collection("c")
    tables = ("clusterings", "clusters", "assignments", "layouts", "points", "graphs")
    with Store("embcli.db", readonly=True) as reader:
        counts = " + ".join(f"(SELECT count(*) FROM {table})" for table in tables)
        (row,) = reader.sql(f"SELECT {counts} AS n").rows()
    assert row == {"n": 0}
