"""Graphs, as drawn."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection

import embcli.viz.graph
from embcli.errors import InputError
from embcli.viz.graph import draw_graph, spring_layout
from tests.viz.layout import check_layout


def ring(n):
    return np.stack([np.arange(n), (np.arange(n) + 1) % n], axis=1)


@pytest.mark.parametrize(("n", "dark"), [(1, False), (2, True), (30, False), (80, True)])
def test_every_node_is_a_point_with_its_name(n, dark):
    names = [f"node_{at} of a graph" for at in range(n)]
    points = np.random.default_rng(0).normal(size=(n, 2))
    figure = draw_graph(
        points, ring(n), np.linspace(-0.1, 1, n), names, groups=[f"g{at % 20}" for at in range(n)],
        title="A title " * 20, dark=dark,
    )  # fmt: skip
    written = check_layout(figure)
    assert set(names) <= set(written)
    (nodes,) = [c for c in figure.axes[0].collections if isinstance(c, PathCollection)]
    assert np.array_equal(nodes.get_offsets(), points)
    lines = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    assert all(line.get_zorder() < nodes.get_zorder() for line in lines)


def test_edges_are_drawn_once_the_strongest_thickest():
    edges = [[0, 1], [1, 0], [2, 2], [1, 2], [0, 1]]
    figure = draw_graph(np.eye(3)[:, :2], edges, [0.5, 0.9, 1.0, 0.6, 0.2], list("abc"))
    lines = figure.axes[0].collections[0]
    assert isinstance(lines, LineCollection)
    ends = [np.sort(segment, axis=0).tolist() for segment in lines.get_segments()]
    assert ends == [[[0, 0], [0, 1]], [[0, 0], [1, 1]]]
    thin, thick = lines.get_linewidths()
    assert thin < thick
    assert "3 nodes, 2 edges, thicker by cosine (0.60 to 0.90)" in check_layout(figure)


def test_nodes_that_are_joined_are_placed_together():
    cliques = np.array(
        [[a + 6 * c, b + 6 * c] for c in range(4) for a in range(6) for b in range(a)]
    )
    bridges = np.array([[0, 6], [6, 12], [12, 18], [18, 0]])
    edges = np.concatenate([cliques, bridges])
    points = spring_layout(24, edges, np.ones(len(edges)))
    assert np.array_equal(points, spring_layout(24, edges, np.ones(len(edges))))
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    same = np.arange(24)[:, None] // 6 == np.arange(24) // 6
    assert apart[same].max() < apart[~same].min() * 1.5
    assert apart[same & ~np.eye(24, dtype=bool)].mean() < apart[~same].mean() / 3
    # A path is laid out straight: its ends are farthest apart.
    path = spring_layout(12, ring(12)[:-1], np.ones(11))
    apart = np.linalg.norm(path[:, None] - path, axis=2)
    assert apart[0, -1] == apart.max()


@pytest.mark.parametrize("points", [None, np.zeros((5, 2))])
def test_graphs_without_edges_and_odd_names(points):
    names = ["W" * 300, "$a_b$", "", "a\nb\0", "$\\frac{"]
    written = check_layout(draw_graph(points, [], [], names, groups=["a", None, "b", "b", "b"]))
    assert {"$a_b$", "a b", "$\\frac{", "5 nodes, 0 edges"} <= set(written)


def test_names_of_large_graphs_are_those_of_the_nodes_with_the_most_edges(monkeypatch):
    monkeypatch.setattr(embcli.viz.graph, "_NAMED", 15)
    edges = np.stack([np.arange(1, 40), np.zeros(39, np.int64)], axis=1)
    figure = draw_graph(
        np.random.default_rng(0).normal(size=(40, 2)), edges, np.ones(39),
        [f"n{at}" for at in range(40)],
    )  # fmt: skip
    written = check_layout(figure)
    assert "n0" in written
    left_out = 40 - sum(text.startswith("n") and text[1:].isdigit() for text in written)
    assert left_out >= 25
    assert any(f"{left_out} names have no room" in text for text in written)


def test_what_cannot_be_drawn():
    with pytest.raises(InputError, match="at least one node"):
        draw_graph(None, [], [], [])
    with pytest.raises(InputError, match="two rows each"):
        draw_graph(None, [[0, 1, 2]], [1], ["a"])
    with pytest.raises(InputError, match="1 edge take a finite number each"):
        draw_graph(None, [[0, 1]], [np.nan], ["a", "b"])
    with pytest.raises(InputError, match="none of 2"):
        draw_graph(None, [[0, 2]], [1], ["a", "b"])
    with pytest.raises(InputError, match="3 points of 2 names"):
        draw_graph(np.zeros((3, 2)), [], [], ["a", "b"])
