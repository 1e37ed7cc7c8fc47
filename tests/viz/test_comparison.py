"""Measures of several spaces, as drawn."""

import numpy as np
import pytest

from embcli.errors import InputError
from embcli.viz.comparison import Measure, draw_comparison
from tests.viz.layout import check_layout

LAYERS = [f"layer {i}" for i in range(7)]


def measures(n=7, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Measure("effective rank", rng.uniform(10, 200, n)),
        Measure("silhouette", rng.uniform(-1, 1, n), True, errors=rng.uniform(0, 0.1, n)),
        Measure("uniformity", -rng.uniform(0, 4, n), better="low"),
        Measure("dimension", 1e6 * rng.uniform(0, 4, n), better=None),
        Measure("Davies–Bouldin", 1e-4 * rng.uniform(1, 4, n), True, "low"),
    ]


def points(axes):
    """What is drawn by points, and where the best are."""
    by_marker = {line.get_marker(): line for line in axes.lines if line.get_marker() in "o*"}
    return by_marker["o"], by_marker["*"]


def test_a_panel_for_each_measure():
    given = measures()
    figure = draw_comparison(LAYERS, given, title="t")
    drawn = {axes.get_title(loc="left").split(" ↑")[0].split(" ↓")[0]: axes for axes in figure.axes}
    assert [*drawn] == ["effective rank", "uniformity", "dimension", "silhouette", "Davies–Bouldin"]
    for measure in given:
        axes = drawn[measure.name]
        found, best = points(axes)
        assert np.array_equal(found.get_xdata(), np.arange(7))
        assert np.array_equal(found.get_ydata(), measure.values)
        wanted = {"high": [np.argmax(measure.values)], "low": [np.argmin(measure.values)],
                  None: []}[measure.better]  # fmt: skip
        assert best.get_xdata().tolist() == wanted
        said = axes.get_title(loc="right")
        assert said.endswith(f": layer {wanted[0]}") if wanted else not said
        # A panel with labels stands in the right half, and its points are filled.
        assert (axes.get_position().x0 > 0.5) == measure.labelled
        assert (found.get_markerfacecolor() == "white") != measure.labelled
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    errors = drawn["silhouette"].collections[0].get_segments()
    assert [high - low for (_, low), (_, high) in errors] == pytest.approx(2 * given[1].errors)
    written = check_layout(figure)
    # Once below each of two columns.
    assert all(written.count(name) == 2 for name in LAYERS)
    assert {"without labels", "with labels"} <= set(written)


@pytest.mark.parametrize("n", [1, 2, 7, 24, 60])
@pytest.mark.parametrize("name", ["l", "a rather long name of a collection"])
def test_nothing_overlaps(n, name):
    names = [f"{i} {name}" for i in range(n)]
    written = check_layout(draw_comparison(names, measures(n), title="A long title " * 12))
    for space in names:
        shown = space if len(space) <= 30 else space[:29] + "…"
        assert written.count(shown) == 2


def test_too_many_names_are_thinned_as_the_figure_says():
    written = check_layout(
        draw_comparison([f"step {i}" for i in range(130)], measures(130), title="t")
    )
    assert [w for w in written if w.startswith("step")] == 2 * [
        f"step {i}" for i in range(0, 130, 3)
    ]
    assert "arrow: where better values are; star: the best; one name in 3 is written" in written


def test_long_names_of_measures_leave_room_for_the_best():
    many = [
        Measure("W" * 80, [1.23456789e-5, 1], labelled=labelled, better="low")
        for labelled in (False, True)
    ]
    written = check_layout(draw_comparison(["M" * 90, "$x_$"], many, title="$"))
    assert f"best 1.23e−05: {'M' * 13}…" in written


def test_measures_of_one_kind_fill_both_columns():
    four = [Measure(f"m{i}", [1, 2]) for i in range(4)]
    figure = draw_comparison(["a", "b"], four, title="t")
    assert len({round(axes.get_position().x0, 6) for axes in figure.axes}) == 2
    assert check_layout(figure).count("without labels") == 2
    assert "with labels" not in check_layout(figure)
    figure = draw_comparison(["a", "b"], four[:3], title="t")
    assert len({round(axes.get_position().x0, 6) for axes in figure.axes}) == 1


def test_equal_and_missing_values():
    figure = draw_comparison(
        ["a", "b", "c"],
        [Measure("ties", [2, 1, 2]), Measure("gap", [np.nan, 1, 2]), Measure("none", [np.nan] * 3)],
        title="t",
        joined=False,
    )
    ties, gap, none = figure.axes
    assert points(ties)[1].get_xdata().tolist() == [0, 2]
    assert ties.get_title(loc="right") == "best 2: a +1"
    assert gap.get_title(loc="right") == "best 2: c"
    assert points(none)[1].get_xdata().tolist() == []
    assert none.get_title(loc="right") == "not measured"
    assert points(ties)[0].get_linewidth() == 0
    check_layout(figure)


def test_what_cannot_be_drawn():
    with pytest.raises(InputError, match=r"m: a figure of 2 spaces takes .* got shape \(3,\)"):
        draw_comparison(["a", "b"], [Measure("m", [1, 2, 3])], title="t")
    with pytest.raises(InputError, match=r"got shape \(1,\)"):
        draw_comparison(["a", "b"], [Measure("m", [1, 2], errors=[1])], title="t")
    with pytest.raises(InputError, match="m: a value is infinite"):
        draw_comparison(["a", "b"], [Measure("m", [1, np.inf])], title="t")
    for names, given in (([], [Measure("m", [])]), (["a"], [])):
        with pytest.raises(InputError, match="at least one space and one measure"):
            draw_comparison(names, given, title="t")
