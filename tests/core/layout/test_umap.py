import os
import subprocess
import sys

import numpy as np
import pytest

from embcli.core.knn import knn_graph, nearest_of
from embcli.core.layout.place import distances, strengths, weighted_place
from embcli.core.layout.quality import preservation, trustworthiness
from embcli.core.layout.umap import umap_layout, umap_place
from embcli.errors import ModelError
from tests.core.layout.conftest import degenerate, grouped

pytest.importorskip("numba")


@pytest.fixture(scope="module")
def layout(groups):
    vectors, _, graph = groups
    return umap_layout(vectors, graph)


def test_groups_come_apart_and_neighbours_stay(groups, layout):
    vectors, labels, _ = groups
    assert layout.dtype == np.float32
    assert layout.shape == (240, 2)
    assert trustworthiness(vectors, layout).value > 0.9
    apart = np.linalg.norm(layout[:, None] - layout, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (labels[apart.argmin(axis=1)] == labels).mean() > 0.98


@pytest.mark.ci
def test_the_fuzzy_graph_is_that_of_umap_learn(groups):
    module = pytest.importorskip("umap.umap_")
    _, _, graph = groups
    apart = distances(graph)
    own = np.zeros((len(apart), 1), np.float32)
    sigmas, rhos = module.smooth_knn_dist(np.hstack([own, apart]), 15.0)
    theirs = np.exp(-np.maximum(apart - rhos[:, None], 0) / sigmas[:, None])
    np.testing.assert_allclose(strengths(apart, 15, connected=True), theirs, atol=1e-4)
    sigmas, rhos = module.smooth_knn_dist(apart, 14.0, local_connectivity=0.0)
    assert not rhos.any()
    theirs = np.exp(-apart / sigmas[:, None])
    np.testing.assert_allclose(strengths(apart, 14, connected=False), theirs, atol=1e-4)


def test_a_layout_is_the_same_in_another_process_with_one_thread(groups, layout, tmp_path):
    vectors, _, graph = groups
    np.savez(tmp_path / "in.npz", vectors=vectors, others=graph.others, cosines=graph.cosines)
    script = (
        "import numpy as np\n"
        "from embcli.core.layout.umap import umap_layout\n"
        "from embcli.core.neighbours import Neighbours\n"
        "data = np.load('in.npz')\n"
        "graph = Neighbours(data['others'], data['cosines'])\n"
        "np.save('out.npy', umap_layout(data['vectors'], graph))\n"
    )
    paths = os.pathsep.join(filter(None, sys.path))
    env = os.environ | {"NUMBA_NUM_THREADS": "1", "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=env, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), layout)
    assert not np.array_equal(umap_layout(vectors, graph, seed=1), layout)


def test_three_dimensions_keep_more(groups, layout):
    vectors, _, graph = groups
    told = []
    solid = umap_layout(vectors, graph, dim=3, epochs=200, advance=lambda *done: told.append(done))
    assert solid.shape == (240, 3)
    assert preservation(graph, solid, 10).value > preservation(graph, layout, 10).value
    assert told == [(epoch, 200, epoch) for epoch in range(1, 201)]


@pytest.mark.ci
def test_new_rows_are_placed_as_umap_learn_does(groups):
    umap = pytest.importorskip("umap")
    vectors, _, _ = groups
    new = grouped(n=60, seed=5)[0]
    theirs = umap.UMAP(n_neighbors=15, metric="cosine", random_state=0, n_epochs=200, n_jobs=1).fit(
        vectors
    )
    old = theirs.embedding_
    found = nearest_of(new, vectors, 15)
    placed = umap_place(found, old)
    extent = np.ptp(old, axis=0).max()
    apart = np.linalg.norm(placed - theirs.transform(new), axis=1)
    assert np.median(apart) < 0.02 * extent
    # No further than what their own chance makes of it.
    assert np.quantile(apart, 0.95) < 0.1 * extent
    np.testing.assert_array_equal(placed, umap_place(found, old))


def test_rows_placed_are_near_their_like_and_equal_ones_where_they_are(groups, layout):
    vectors, labels, _ = groups
    new, theirs = grouped(n=80, seed=7)
    near = nearest_of(new, vectors, 15)
    for placed in (umap_place(near, layout), weighted_place(near, layout)):
        nearest = np.linalg.norm(placed[:, None] - layout, axis=2).argmin(axis=1)
        assert (labels[nearest] == theirs).mean() > 0.97
    again = nearest_of(vectors[:9], vectors, 15)
    np.testing.assert_array_equal(umap_place(again, layout), layout[:9])
    np.testing.assert_array_equal(weighted_place(again, layout), layout[:9])
    # What is placed with it does not matter.
    alone = umap_place(nearest_of(new[:1], vectors, 15), layout)
    np.testing.assert_allclose(alone, umap_place(near, layout)[:1], atol=1e-5)
    none = nearest_of(new[:0], vectors, 15)
    assert umap_place(none, layout).shape == weighted_place(none, layout).shape == (0, 2)


@pytest.mark.parametrize("name", degenerate())
def test_what_is_hard_gives_finite_coordinates(name):
    vectors = degenerate()[name]
    graph = knn_graph(vectors, 14).neighbours
    coordinates = umap_layout(vectors, graph, epochs=30)
    assert coordinates.shape == (len(vectors), 2)
    assert np.isfinite(coordinates).all()
    near = nearest_of(vectors[:2], vectors, 5)
    assert np.isfinite(umap_place(near, coordinates)).all()
    assert np.isfinite(weighted_place(near, coordinates)).all()


@pytest.mark.ci
def test_densmap_keeps_densities():
    pytest.importorskip("umap")
    rng = np.random.default_rng(0)
    wide = np.concatenate([np.full(150, 0.02), np.full(150, 0.4)])
    vectors = np.eye(2, 16)[np.repeat([0, 1], 150)] + wide[:, None] * rng.normal(size=(300, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    graph = knn_graph(vectors, 20).neighbours

    def widths(coordinates):
        return [np.std(part, axis=0).mean() for part in np.split(coordinates, 2)]

    dense = umap_layout(vectors, graph, density=True)
    narrow, broad = widths(dense)
    plain = widths(umap_layout(vectors, graph))
    assert broad / narrow > 1.5 * plain[1] / plain[0]
    for name in ("4 rows", "all equal", "three points, forty times each"):
        hard = degenerate()[name]
        graph = knn_graph(hard, 14).neighbours
        assert np.isfinite(umap_layout(hard, graph, epochs=30, density=True)).all()


def test_without_numba_the_error_names_the_extra(groups, monkeypatch):
    vectors, _, graph = groups
    monkeypatch.setattr("embcli.core.optional.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="UMAP takes Numba") as error:
        umap_layout(vectors, graph)
    assert error.value.hint == "pip install 'embcli[plot]'"
    monkeypatch.setattr(
        "embcli.core.optional.find_spec", lambda name: None if name == "umap" else name
    )
    with pytest.raises(ModelError, match="densMAP takes umap-learn"):
        umap_layout(vectors, graph, density=True)
