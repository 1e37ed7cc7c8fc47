"""Trees, as drawn."""

import sys

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from scipy.cluster.hierarchy import leaves_list, linkage

from embcli.errors import InputError, ModelError
from embcli.viz.dendrogram import LEAVES, dendrogram_figure, draw_dendrogram
from tests.viz.layout import check_layout


def tree(n, seed=0):
    return linkage(np.random.default_rng(seed).normal(size=(n, 3)), "average")


@pytest.mark.parametrize(("n", "dark"), [(2, False), (3, True), (40, True), (LEAVES, False)])
def test_every_record_is_a_leaf_and_every_merge_a_line(n, dark):
    merges = tree(n)
    figure = draw_dendrogram(
        merges, [f"text_{at}" for at in range(n)], title="A title " * 20, dark=dark
    )
    written = check_layout(figure)
    assert written[:n] == [f"text_{at}" for at in leaves_list(merges)]
    (lines,) = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    heights = sorted(segment[:, 0].max() for segment in lines.get_segments())
    assert np.allclose(heights, np.sort(merges[:, 2]))


def test_large_trees_are_cut_and_say_how_many_records_a_branch_has():
    merges = tree(LEAVES + 1)
    figure = draw_dendrogram(merges, [f"text {at}" for at in range(LEAVES + 1)])
    written = check_layout(figure)
    assert any("201 records, the last 99 merges; in brackets" in text for text in written)
    leaves = [text for text in written if "text " in text]
    assert len(leaves) == 100
    counts = [int(text[1:].split(")")[0]) if text[0] == "(" else 1 for text in leaves]
    assert sum(counts) == LEAVES + 1


def test_branches_have_the_colour_of_their_group():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(9, 2)) + far for far in (0, 50)])
    merges = linkage(points, "average")
    groups = ["near"] * 9 + ["far"] * 9
    figure = draw_dendrogram(merges, [str(at) for at in range(18)], groups=groups)
    assert {"far  9", "near  9"} <= set(check_layout(figure))
    (lines,) = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    _, counts = np.unique(lines.get_colors(), axis=0, return_counts=True)
    assert sorted(counts) == [1, 8, 8]
    many = draw_dendrogram(
        merges, [str(at) for at in range(18)], groups=[str(at) for at in range(18)]
    )
    assert "and 6 more" in check_layout(many)


def test_equal_records_and_odd_names():
    names = ["W" * 300, "$a_b$", "", "a\nb\0", "$\\frac{"]
    merges = linkage(np.zeros((5, 2)), "average")
    assert {"$a_b$", "a b", "$\\frac{"} <= set(
        check_layout(draw_dendrogram(merges, names, distance_title="$" * 300))
    )


def test_what_cannot_be_drawn():
    with pytest.raises(InputError, match="a tree takes at least two"):
        draw_dendrogram(np.zeros((0, 4)), ["a"])
    with pytest.raises(InputError, match=r"an array of shape \(1, 4\)"):
        draw_dendrogram(tree(3), ["a", "b"])
    for merges in ([[0, 0, 1, 2], [1, 3, 1, 3]], [[0, 3, 1, 2], [1, 2, 1, 3]],
                   [[0, 1, -1, 2], [2, 3, 1, 3]]):  # fmt: skip
        with pytest.raises(InputError, match="not merged yet"):
            draw_dendrogram(merges, ["a", "b", "c"])
    with pytest.raises(InputError, match="1 groups of 2 points"):
        draw_dendrogram(tree(2), ["a", "b"], groups=["a"])


def test_trees_take_scipy(home, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("scipy.cluster")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy.cluster", None)
    with pytest.raises(ModelError, match="take SciPy") as caught:
        dendrogram_figure([[0, 1, 0.5, 2]], ["a", "b"], "f.png", extra="cluster")
    assert caught.value.hint == "pip install 'embcli[cluster]'"
    assert [*home.iterdir()] == []
