"""A map in characters."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from embcli.errors import InputError
from embcli.viz.terminal import terminal_map

CODE = re.compile("\x1b\\[\\d+m")


def dots(lines):
    """Where dots of braille are set, rows and columns of them."""
    width = max(map(len, lines))
    grid = np.zeros((4 * len(lines), 2 * width), bool)
    # As Unicode numbers the dots of a cell.
    order = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (3, 0), (3, 1)]
    for row, line in enumerate(lines):
        for column, mark in enumerate(line):
            for bit, (down, right) in enumerate(order):
                if mark != " " and (ord(mark) - 0x2800) >> bit & 1:
                    grid[4 * row + down, 2 * column + right] = True
    return np.argwhere(grid)


def test_every_point_is_a_dot_where_it_belongs():
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(60, 2)) * (3, 1)
    found = dots(terminal_map(points, width=60, height=10))
    # The brute way: 39 steps up, of which the upper 120 across would be too many.
    scale = min(119 / np.ptp(points[:, 0]), 39 / np.ptp(points[:, 1]))
    steps = np.rint((points - points.min(0) / 2 - points.max(0) / 2) * scale + (59.5, 19.5))
    wanted = {(39 - int(up), int(across)) for across, up in steps}
    assert {tuple(dot) for dot in found.tolist()} == wanted
    # A square stays one.
    corners = dots(terminal_map([[0, 0], [1, 1]], width=60, height=10))
    assert np.ptp(corners, axis=0).tolist() == [39, 39]


def test_the_group_of_most_points_has_the_cell():
    points = [[0, 0], [0.01, 0], [0.02, 0], [10, 5]]
    lines = terminal_map(points, ["few", "many", "many", None], width=40, height=10, colour=False)
    assert "".join(lines[:10]).replace(" ", "") == ".a"
    assert lines[9][0] == "a"
    assert lines[10] == "a many 2  b few 1  . others 1"
    coloured = terminal_map(points, ["few", "many", "many", None], width=40, height=10)
    assert coloured[9].startswith("\x1b[34m")
    assert re.search("\x1b\\[90m[^ ]\x1b\\[0m$", coloured[0])
    # Two groups of one each: the first by name.
    assert terminal_map([[0, 0]] * 2, ["b", "a"], width=9, height=1, colour=False)[0].strip() == "a"


def test_names_are_shown_and_not_obeyed():
    groups = ["\x1b[2J\x1b]0;title\x07", "界" * 50, "line\nend"]
    lines = terminal_map(np.eye(3)[:, :2], groups, width=30, height=4, colour=False)
    assert not any(set(line) & set("\x1b\x07\n") for line in lines)
    assert all(cell_len(line) <= 30 for line in lines)
    plain = terminal_map(np.eye(3)[:, :2], groups, width=30, height=4, colour=False, unicode=False)
    assert all(line.isascii() and len(line) <= 30 for line in plain)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.floats(-1e300, 1e300)] * 2, st.none() | st.text(max_size=9)), min_size=1
    ),
    st.integers(2, 90),
    st.integers(1, 20),
    st.booleans(),
    st.booleans(),
)
def test_no_line_is_too_wide_and_no_point_is_lost(rows, width, height, colour, unicode):
    points = [row[:2] for row in rows]
    groups = [row[2] for row in rows]
    lines = terminal_map(points, groups, width=width, height=height, colour=colour, unicode=unicode)
    bare = [CODE.sub("", line) for line in lines]
    assert all(cell_len(line) <= width for line in bare)
    assert (bare == lines) is not (colour and any(group is not None for group in groups))
    assert any(line.strip() for line in bare[:height])
    assert all("\x1b" not in line for line in bare)


def test_what_cannot_be_drawn():
    for points, groups in (([], None), ([[0, np.nan]], None), ([[0, 0]], []), ([0, 1], None)):
        with pytest.raises(InputError):
            terminal_map(points, groups, width=20, height=5)
