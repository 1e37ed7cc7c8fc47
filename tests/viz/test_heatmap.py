"""Cosines of all pairs, as drawn."""

import numpy as np
import pytest

from embcli.errors import InputError
from embcli.viz.colours import luminance
from embcli.viz.heatmap import WRITTEN, draw_similarity
from tests.viz.layout import check_layout


def cosines(n, dim=8, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T


@pytest.mark.parametrize(
    ("n", "dark"), [(1, False), (2, True), (WRITTEN, False), (WRITTEN + 1, True), (170, False)]
)
def test_all_cosines_are_drawn_and_written_where_there_is_room(n, dark):
    matrix = cosines(n)
    names = [f"text_{at}" for at in range(n)]
    figure = draw_similarity(matrix, names, title="A title " * 20, dark=dark)
    written = check_layout(figure)
    assert np.array_equal(figure.axes[0].images[0].get_array(), matrix)
    step = 2 if n > 160 else 1
    for name in names[::step]:
        assert written.count(name) == 2
    assert (written.count("1.00") >= n) == (n <= WRITTEN)
    assert any("one name in 2" in text for text in written) == (step == 2)


def test_rows_are_in_the_order_that_is_given():
    matrix = cosines(4)
    figure = draw_similarity(matrix, list("abcd"), order=[2, 0, 3, 1])
    assert np.array_equal(
        figure.axes[0].images[0].get_array(), matrix[[2, 0, 3, 1]][:, [2, 0, 3, 1]]
    )
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list("cadb")


@pytest.mark.parametrize("dark", [False, True])
def test_numbers_stand_out_from_their_colour(dark):
    figure = draw_similarity(cosines(20, dim=3), [str(at) for at in range(20)], dark=dark)
    (image,) = figure.axes[0].images
    for text in figure.axes[0].texts:
        column, row = text.get_position()
        cosine = image.get_array()[row, column]
        red, green, blue, _ = image.cmap(image.norm(cosine), bytes=True)
        light = luminance(f"#{red:02x}{green:02x}{blue:02x}")
        white = text.get_color() == "white"
        assert (1.05 / (light + 0.05) if white else (light + 0.05) / 0.05) > 4.4
        assert float(text.get_text().replace("−", "-")) == pytest.approx(cosine, abs=0.0051)


def test_equal_rows_and_odd_names():
    names = ["W" * 300, "$a_b$", "", "a\nb\0", "$\\frac{"]
    assert {"$a_b$", "a b", "$\\frac{"} <= set(
        check_layout(draw_similarity(np.ones((5, 5)), names))
    )


def test_what_cannot_be_drawn():
    with pytest.raises(InputError, match="0 rows: cosines are drawn of 1 to 1,000"):
        draw_similarity(np.zeros((0, 0)), [])
    with pytest.raises(InputError, match=r"an array of shape \(2, 2\), and got shape \(2, 3\)"):
        draw_similarity(np.zeros((2, 3)), ["a", "b"])
    for bad in ([0, 0], [0], [0, 2]):
        with pytest.raises(InputError, match="every row of the matrix once"):
            draw_similarity(np.eye(2), ["a", "b"], order=bad)
