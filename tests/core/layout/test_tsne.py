import numpy as np
import pytest

from embcli.core.knn import knn_graph, nearest_of
from embcli.core.layout import tsne
from embcli.core.layout.quality import trustworthiness
from embcli.core.layout.tsne import tsne_layout, tsne_place
from embcli.errors import InputError
from tests.core.layout.conftest import degenerate, grouped

pytest.importorskip("openTSNE")


@pytest.fixture(scope="module")
def layout(groups):
    vectors, _, _ = groups
    return tsne_layout(vectors, knn_graph(vectors, 45).neighbours)


def test_groups_come_apart_and_the_same_again(groups, layout, monkeypatch):
    vectors, _, _ = groups
    assert layout.shape == (240, 2)
    assert trustworthiness(vectors, layout).value > 0.9
    told = []
    monkeypatch.setattr(tsne, "THREADS", 1)
    again = tsne_layout(
        vectors, knn_graph(vectors, 45).neighbours, advance=lambda *done: told.append(done)
    )
    np.testing.assert_array_equal(again, layout)
    assert told[-1] == (750, 750, 750)


def test_rows_are_placed_near_their_like_and_equal_ones_where_they_are(groups, layout):
    vectors, labels, _ = groups
    new, theirs = grouped(n=60, seed=7)
    before = layout.copy()
    placed = tsne_place(nearest_of(new, vectors, 15), layout)
    np.testing.assert_array_equal(layout, before)
    nearest = np.linalg.norm(placed[:, None] - layout, axis=2).argmin(axis=1)
    assert (labels[nearest] == theirs).mean() > 0.97
    again = nearest_of(vectors[:9], vectors, 15)
    np.testing.assert_array_equal(tsne_place(again, layout), layout[:9])
    assert tsne_place(nearest_of(new[:0], vectors, 15), layout).shape == (0, 2)


@pytest.mark.parametrize("name", degenerate())
def test_what_is_hard_gives_finite_coordinates(name, monkeypatch):
    monkeypatch.setattr(tsne, "_EARLY", (30, 12.0))
    monkeypatch.setattr(tsne, "_LATE", (30, 1.0))
    vectors = degenerate()[name]
    coordinates = tsne_layout(vectors, knn_graph(vectors, 90).neighbours)
    assert coordinates.shape == (len(vectors), 2)
    assert np.isfinite(coordinates).all()
    near = nearest_of(vectors[:2], vectors, 15)
    assert np.isfinite(tsne_place(near, coordinates)).all()


def test_three_dimensions_are_too_many(groups):
    vectors, _, graph = groups
    with pytest.raises(InputError, match="1 or 2 dimensions, not in 3"):
        tsne_layout(vectors, graph, dim=3)
