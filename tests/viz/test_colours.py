"""Colours that groups are told apart by."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from embcli.viz.colours import GROUND, INK, categorical, luminance, mix, neutral, sequential

DARK = [False, True]


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def seen(colour, matrix):
    """CIELAB's lightness, red-green, yellow-blue: not the coordinates that they were chosen by."""
    linear = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
                       for c in to_rgb(colour)])  # fmt: skip
    linear = np.clip(matrix @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    f = np.cbrt(xyz @ linear / [0.9505, 1, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("dark", DARK)
def test_groups_can_be_told_apart(dark):
    # Viénot, Brettel and Mollon (1999): who has no green cones.
    blind = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    for matrix, count, least in ((np.eye(3), 20, 17), (blind, 8, 12)):
        colours = [*categorical(count, dark), neutral(dark)]
        lab = np.stack([seen(colour, matrix) for colour in colours])
        apart = np.linalg.norm(lab[:, None] - lab, axis=2)
        assert apart[np.triu_indices(count + 1, 1)].min() > least


@pytest.mark.parametrize("dark", DARK)
def test_colours_stand_out_from_the_ground(dark):
    for colour in categorical(200, dark):
        assert contrast(colour, GROUND[dark]) > 1.8
    assert contrast(INK[dark], GROUND[dark]) > 12
    assert 1.5 < contrast(neutral(dark), GROUND[dark]) < 3


def test_more_groups_leave_the_colours_of_others_alone():
    for dark in DARK:
        many = categorical(300, dark)
        assert len(set(many)) == 300
        for count in (0, 1, 8, 9, 77):
            assert categorical(count, dark) == many[:count]
        assert set(categorical(5000, dark)) >= set(many)
    # Okabe and Ito's.
    assert set(categorical(6)) == {
        "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7",
    }  # fmt: skip


def test_sequential_colours_are_viridis_and_rise_in_contrast():
    viridis = np.stack([to_rgb(colormaps["viridis"](at / 15)) for at in range(16)])
    for dark in DARK:
        stops = sequential(dark)
        for colour in stops:
            assert np.abs(viridis - to_rgb(colour)).max(axis=1).min() < 1 / 255
        steps = np.diff([contrast(colour, GROUND[dark]) for colour in stops])
        assert (steps > 0).all()


def test_mixtures():
    assert mix("#ff0000", "#0000ff", 1) == "#ff0000"
    assert mix("#ff0000", "#0000ff", 0) == "#0000ff"
    assert mix("#000000", "#ffffff", 0.6) == "#666666"


def test_colours_take_no_matplotlib():
    code = "import sys, embcli.viz.colours as c; c.categorical(40); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not any(name.startswith("matplotlib") for name in done.stdout.split())
