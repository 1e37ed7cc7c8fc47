"""Components and their variances, as drawn."""

import numpy as np
import pytest

from embcli.errors import InputError
from embcli.viz.scree import draw_scree
from tests.viz.layout import check_layout


@pytest.mark.parametrize(
    ("n", "dark"), [(1, False), (2, True), (12, False), (13, True), (50, False), (384, True)]
)
def test_shares_and_their_sums(n, dark):
    shares = 0.7 ** np.arange(n) * 0.3
    figure = draw_scree(shares, title="A title " * 30, dark=dark)
    written = check_layout(figure)
    assert any(f"{shares.sum():.1%}" in text for text in written)
    sums = np.cumsum(shares)
    assert np.allclose(figure.axes[1].lines[0].get_ydata(), sums)
    for share in (0.5, 0.8, 0.9):
        marked = [text for text in written if f"{share:.0%}" in text and " with " in text]
        if sums[-1] > share:
            (text,) = marked
            assert text.endswith(f"with {np.argmax(sums > share) + 1}")
        else:
            assert marked == []


def test_components_that_reach_several_shares():
    assert "50%, 80%, 90% with 1" in check_layout(draw_scree([0.95, 0.05]))
    assert "50%, 80% with 2" in check_layout(draw_scree([0.4, 0.4, 0.2]))


@pytest.mark.parametrize("log", [None, True, False])
def test_a_logarithmic_axis_where_bars_would_not_be_seen(log):
    steep = np.append(0.5 ** np.arange(1, 60), 1e-33)
    for shares, needed in ((steep, True), (np.full(60, 1 / 60), False)):
        figure = draw_scree(shares, log=log)
        check_layout(figure)
        scale = "log" if (needed if log is None else log) else "linear"
        assert figure.axes[0].get_yscale() == scale
        if scale == "log" and needed:
            # Rounding is not what the axis is for.
            assert figure.axes[0].get_ylim()[0] > 1e-7


def test_what_cannot_be_drawn():
    for bad in ([0.5, -0.1], [0, 0], [0.8, 0.8]):
        with pytest.raises(InputError, match="not negative, and their sum is at most 1"):
            draw_scree(bad)
    with pytest.raises(InputError, match="at least one number"):
        draw_scree([])
    with pytest.raises(InputError, match="not all numbers are finite"):
        draw_scree([np.nan])
