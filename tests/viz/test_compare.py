"""Two maps side by side, as drawn."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection

from embcli.errors import InputError
from embcli.viz.compare import LINES, draw_compare
from tests.viz.layout import check_layout


def maps(n, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, 2))
    return a, a + rng.normal(scale=0.3, size=(n, 2))


@pytest.mark.parametrize(
    ("n", "dark"), [(1, False), (5, True), (LINES, False), (LINES + 1, True), (3000, False)]
)
def test_both_maps_and_lines_between_them(n, dark):
    a, b = maps(n)
    figure = draw_compare(
        a, b, titles=["UMAP", "t-SNE"], groups=[f"g{at % 14}" for at in range(n)],
        title="A title " * 20, dark=dark,
    )  # fmt: skip
    written = check_layout(figure)
    assert {"UMAP", "t-SNE"} <= set(written)
    (lines,) = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    assert len(lines.get_segments()) == min(n, LINES)
    assert any(f"lines for {LINES}" in text for text in written) == (n > LINES)


def test_lines_lead_to_the_same_record_at_the_same_scale():
    a, b = maps(20)
    figure = draw_compare(a, b, titles=["a", "b"])
    check_layout(figure)
    left, right = [
        c.get_offsets() for c in figure.axes[0].collections if isinstance(c, PathCollection)
    ]
    # Drawn in the same order.
    order = [int(np.argmin(np.abs(a[:, 0] - a[:, 0].mean() - x))) for x in
             (left[:, 0] - left[:, 0].mean()) * np.std(a[:, 0]) / np.std(left[:, 0])]  # fmt: skip
    assert sorted(order) == [*range(20)]
    unit = np.std(a, axis=0) / np.std(left, axis=0)
    assert np.isclose(*unit)
    offset = right - left - (b - a)[order] / unit
    assert np.allclose(offset, offset[0])
    (lines,) = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    segments = np.array(lines.get_segments())
    pairs = {tuple(pair.ravel().round(9)) for pair in np.stack([left, right], axis=1)}
    assert {tuple(segment.ravel().round(9)) for segment in segments} == pairs
    # Those that moved most are drawn last.
    moved = np.linalg.norm(segments[:, 1] - segments[:, 0] - offset[0], axis=1)
    assert (np.diff(moved) > -1e-9).all()


def test_what_has_moved_is_said():
    a = np.array([[0, 0], [10, 0], [0, 10], [10, 10.0]])
    same = check_layout(draw_compare(a, a, titles=["a", "b"]))
    assert any("half moved by 0 % of the width or less" in text for text in same)
    far = " ".join(
        check_layout(draw_compare(a, a + np.array([1.0, 0]), titles=["$a_b$", "\\frac{$"]))
    )
    # The frame is a little wider than the points.
    assert "half moved by 8.6 % of the width" in far


def test_what_cannot_be_drawn():
    with pytest.raises(InputError, match="maps of 3 and 2 records"):
        draw_compare(np.zeros((3, 2)), np.zeros((2, 2)), titles=["a", "b"])
    with pytest.raises(InputError, match="second map: a map takes two numbers each"):
        draw_compare(np.zeros((3, 2)), np.zeros((3, 3)), titles=["a", "b"])
    with pytest.raises(InputError, match="first map: a map takes at least one record"):
        draw_compare(np.zeros((0, 2)), np.zeros((0, 2)), titles=["a", "b"])
    with pytest.raises(InputError, match="1 title of two maps"):
        draw_compare(np.zeros((3, 2)), np.zeros((3, 2)), titles=["a"])
