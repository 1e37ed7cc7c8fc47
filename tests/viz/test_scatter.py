"""One estimate against another, as drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text

from embcli.errors import InputError
from embcli.viz.scatter import draw_scatter, placed
from tests.viz.layout import check_layout

TITLES = {"x_title": "persistence", "y_title": "Fisher ratio"}


@pytest.mark.parametrize("kind", ["spread", "crowded", "equal", "line", "large", "many"])
def test_every_space_is_a_point_with_its_name(kind):
    n = 60 if kind == "many" else 12
    x, y = np.random.default_rng(0).normal(size=(2, n))
    if kind == "crowded":
        x, y = np.append(x[1:] * 1e-3, 9), np.append(y[1:] * 1e-3, 9)
    elif kind == "equal":
        x, y = np.zeros(n), np.full(n, -5.0)
    elif kind == "line":
        y = np.zeros(n)
    elif kind == "large":
        x, y = 1e12 * x, 1e-12 * y
    names = [f"space number {i}" for i in range(n)]
    figure = draw_scatter(x, y, names, rho=0.8571, title="A long title " * 9, **TITLES)
    (axes,) = figure.axes
    (line,) = axes.lines
    assert np.array_equal(line.get_xydata(), np.stack([x, y], axis=1))
    written = check_layout(figure)
    assert written[:n] == names
    assert {"persistence", "Fisher ratio", f"Spearman's ρ = 0.857 ({n} spaces)"} <= set(written)
    # No name lies on a point, each is joined to its own.
    renderer = figure.canvas.get_renderer()
    places = axes.transData.transform(line.get_xydata())
    segments = axes.collections[0].get_segments()
    for row, text in enumerate(axes.texts):
        box = Text.get_window_extent(text, renderer)
        assert not any(box.contains(*place) for place in places)
        assert np.allclose(segments[row], [(x[row], y[row]), text.get_position()])


def test_names_stay_with_their_points_where_there_is_room():
    points = np.array([[1.0, 1.0], [4.0, 4.0]])
    sizes = np.array([[0.8, 0.15], [0.9, 0.15]])
    centres = placed(points, sizes, 5.0)
    # At the right, on the same line.
    assert np.allclose(centres[0] - points[0], [0.4 + 0.08, 0])
    # There the other one would leave the frame.
    assert centres[1, 0] + 0.45 <= 5
    assert np.abs(centres[1] - points[1]).max() < 0.6


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.5, 4.5), st.floats(0.5, 4.5)), min_size=1, max_size=25),
    st.floats(0.1, 2),
)
def test_placed_names_are_apart(points, width):
    points = np.array(points)
    sizes = np.full((len(points), 2), [width, 0.15])
    centres = placed(points, sizes, 5.0)
    if centres is None:
        # No place for one: not so for few and short names.
        assert len(points) * width > 5
        return
    low, high = centres - sizes / 2, centres + sizes / 2
    assert low.min() >= 0
    assert high.max() <= 5
    for i in range(len(points)):
        others = np.arange(len(points)) != i
        assert np.all(((low[i] >= high[others]) | (high[i] <= low[others])).any(axis=1))
        assert np.all(((low[i] >= points) | (high[i] <= points)).any(axis=1))


def test_the_figure_grows_until_all_names_have_a_place():
    names = [f"{'W' * 24} {i}" for i in range(60)]
    zeros = np.zeros(60)
    small = draw_scatter(zeros[:3], zeros[:3], names[:3], rho=np.nan, **TITLES)
    large = draw_scatter(zeros, zeros, names, rho=np.nan, **TITLES)
    assert small.get_size_inches()[0] < large.get_size_inches()[0] < 30
    assert "Spearman's ρ is not defined (60 spaces)" in check_layout(large)


def test_characters_that_mean_something_elsewhere():
    figure = draw_scatter(
        [1, 2], [3, 4], ["$a_b$", "$\\frac{"], x_title="$x", y_title="$y$" * 90, rho=-1, title="$"
    )
    assert {"$a_b$", "$\\frac{", "$x", "$", "Spearman's ρ = −1 (2 spaces)"} <= set(
        check_layout(figure)
    )


def test_what_cannot_be_drawn():
    with pytest.raises(InputError, match="at least two spaces"):
        draw_scatter([1], [1], ["a"], rho=1, **TITLES)
    with pytest.raises(InputError, match=r"persistence: a figure takes an array of shape \(2,\)"):
        draw_scatter([1, 2, 3], [1, 2], ["a", "b"], rho=1, **TITLES)
    with pytest.raises(InputError, match="Fisher ratio: not all numbers are finite"):
        draw_scatter([1, 2], [1, np.inf], ["a", "b"], rho=1, **TITLES)
