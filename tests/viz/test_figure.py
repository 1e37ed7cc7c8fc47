"""What all figures of spaces and classes have in common."""

import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from embcli.errors import ModelError, UsageError
from embcli.viz.compare import compare_figure
from embcli.viz.comparison import Measure, comparison_figure
from embcli.viz.confusion import confusion_figure
from embcli.viz.dendrogram import dendrogram_figure
from embcli.viz.diagnose import health_figure
from embcli.viz.figure import new_figure
from embcli.viz.graph import graph_figure
from embcli.viz.heatmap import similarity_figure
from embcli.viz.map import map_figure
from embcli.viz.scatter import scatter_figure
from embcli.viz.scree import scree_figure
from embcli.viz.silhouette import silhouette_figure
from tests.viz.layout import check_layout


def confusion(path, name="one", **how):
    confusion_figure(
        [name, "other", "third"], [[3, 1, 0], [2, 2, 0], [0, 1, 5]], path, title="t", **how
    )


def comparison(path, name="one", **how):
    comparison_figure([name, "other"], [Measure("m", [1, 2])], path, title="t", **how)


def scatter(path, name="one", **how):
    scatter_figure([1, 2], [3, 4], [name, "other"], path, x_title="x", y_title="y", rho=1.0, **how)


def health(path, name="one", **how):
    rng = np.random.default_rng(0)
    health_figure(
        path, title="t", spectrum=[4, 2, 1], rank=2.5, cosines=rng.uniform(-1, 1, 50),
        occurrences=[0, 1, 2, 5], norms=rng.gamma(9, size=4), hubs=[(name, 5)], **how,
    )  # fmt: skip


def map_(path, name="one", **how):
    points = np.random.default_rng(0).normal(size=(40, 2))
    map_figure(points, path, groups=[name, "other", None, name] * 10, legend="map", **how)


def image(path, name="one", **how):
    points = np.random.default_rng(0).normal(size=(4000, 3))
    map_figure(points, path, values=points[:, 0], value_title=name, **how)


def compare(path, name="one", **how):
    compare_figure(np.eye(2), np.ones((2, 2)), path, titles=[name, "other"], **how)


def similarity(path, name="one", **how):
    similarity_figure([[1, 0.5], [0.5, 1]], [name, "other"], path, **how)


def dendrogram(path, name="one", **how):
    dendrogram_figure([[0, 1, 0.5, 2]], [name, "other"], path, **how)


def graph(path, name="one", **how):
    graph_figure(None, [[0, 1], [1, 2]], [0.5, 0.6], [name, "other", "third"], path, **how)


def scree(path, name="one", **how):
    scree_figure([0.5, 0.3], path, subtitle=name, **how)


def silhouette(path, name="one", **how):
    silhouette_figure([0.5, 0.3, 0.1], [0, 0, 1], [name, "other"], path, **how)


FIGURES = [
    confusion, comparison, scatter, health, map_, image, compare, similarity, dendrogram, graph,
    scree, silhouette,
]  # fmt: skip


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_same_numbers_give_the_same_bytes(home, figure, ending):
    for name in ("one", "other"):
        figure(home / f"{name}.{ending}")
    content = (home / f"one.{ending}").read_bytes()
    assert content == (home / f"other.{ending}").read_bytes()
    assert not any(mark in content for mark in (b"CreationDate", b"dc:date", b"Software"))


@pytest.mark.parametrize("figure", FIGURES)
def test_what_cannot_be_written(home, monkeypatch, figure):
    with pytest.raises(UsageError, match=r"ends in one of \.png, \.svg, \.pdf"):
        figure("f.gif")
    with pytest.raises(UsageError, match="cannot write"):
        figure("no/f.png")
    (home / "f.png").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        figure("f.png")
    assert (home / "f.png").read_text() == "mine"
    figure("f.png", force=True)
    assert (home / "f.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModelError, match="not installed") as caught:
        figure("g.png", extra="other")
    assert caught.value.hint == "pip install 'embcli[other]'"
    assert [path.name for path in home.iterdir()] == ["f.png"]


def test_the_order_of_classes_takes_scipy(home, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("scipy.cluster")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy.cluster", None)
    with pytest.raises(ModelError, match="takes SciPy"):
        confusion("f.png")
    assert [*home.iterdir()] == []
    confusion("f.png", ordered=False)


@pytest.mark.parametrize("figure", FIGURES[4:])
def test_drawings_of_control_characters_are_xml(home, figure):
    figure("f.svg", name="a\x00b\x1b", title="--\x08>")
    ElementTree.parse("f.svg")


@pytest.mark.parametrize("figure", FIGURES)
def test_characters_that_a_font_lacks_or_that_mean_something(home, figure):
    notes = []
    figure("f.png", name="護士", note=notes.append)
    assert notes == ["f.png: the font lacks characters of some words, which show as boxes"]
    # Would be formulas, one of them wrong.
    for name in ("$\\frac{$", "a$b$"):
        figure("g.png", name=name, note=notes.append, force=True)
    assert len(notes) == 1


def test_layouts_are_checked():
    figure = new_figure()
    figure.text(0.5, 0.5, "one")
    figure.text(0.1, 0.5, "elsewhere")
    assert check_layout(figure) == ["one", "elsewhere"]
    figure.text(0.51, 0.5, "other")
    with pytest.raises(AssertionError, match="'one' touches 'other'"):
        check_layout(figure)
    outside = new_figure()
    outside.text(0.99, 0.5, "outside")
    with pytest.raises(AssertionError, match="outside"):
        check_layout(outside)
