"""Two estimates of the same spaces against each other, every space by its name."""

import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError
from embcli.viz.figure import (
    SMALL,
    TEXT,
    TITLE,
    bare,
    finite,
    fitted,
    new_figure,
    number,
    save_figure,
    shown,
    text_sizes,
    title_lines,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

# In inches.
_SIDE, _LEFT, _RIGHT, _BELOW = 5.0, 0.85, 0.3, 0.7
# About a point, and between texts.
_POINT, _APART = 0.05, 0.03
# How far from its point a name may be, in turn, as a share of the side at most; directions.
_RING, _FAR, _DIRECTIONS = 0.09, 0.4, 16
_GROWTH = 1.25
_LONGEST = 30


def scatter_figure(
    x: ArrayLike,
    y: ArrayLike,
    names: Sequence[str],
    path: str | os.PathLike[str],
    *,
    x_title: str,
    y_title: str,
    rho: float,
    title: str = "",
    extra: str = "separability",
    force: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> None:
    """Draw one estimate against the other, a named point for each space.

    Parameters
    ----------
    x, y : float array, shape (n,)
        Two estimates of n spaces, 2 or more.
    names : sequence of str, n of them
        All are written, beside each other; the figure is as large as that takes.
    path : path
        A PNG, SVG or PDF file, by its ending; it appears when it is complete. The same values
        give the same bytes.
    x_title, y_title : str
    rho : float
        Their rank correlation by Spearman; NaN if it is not defined.
    title : str
    extra : str
        Of embcli's, the one that Matplotlib comes with.
    force : bool
        Replace a file that is there.
    note : callable
        Told if characters cannot be shown.

    Raises
    ------
    UsageError
        The ending is another one, a file is there, or the system refuses to write.
    InputError
        There are fewer than two names, not as many numbers as names, or one is not finite.
    ModelError
        Matplotlib is not installed.
    """

    def draw() -> "Figure":
        return draw_scatter(x, y, names, x_title=x_title, y_title=y_title, rho=rho, title=title)

    save_figure(draw, path, extra=extra, force=force, note=note)


def draw_scatter(
    x: ArrayLike,
    y: ArrayLike,
    names: Sequence[str],
    *,
    x_title: str,
    y_title: str,
    rho: float,
    title: str = "",
) -> "Figure":
    """Make the figure that `scatter_figure` writes.

    Raises
    ------
    InputError
    """
    if len(names) < 2:
        raise InputError("a correlation takes at least two spaces")
    points = np.stack(
        [finite(x, x_title, (len(names),)), finite(y, y_title, (len(names),))], axis=1
    )
    figure = new_figure()
    labels = [shown(name, _LONGEST) for name in names]
    sizes = text_sizes(labels, SMALL)
    low, span = _reach(points)
    side = _SIDE
    while (places := placed((points - low) / span * side, sizes, side)) is None:
        side *= _GROWTH
    axes = _frame(figure, side, title_lines(title, side), _said(rho, len(names)))
    axes.set_xlim(low[0], low[0] + span[0])
    axes.set_ylim(low[1], low[1] + span[1])
    axes.plot(*points.T, "o", color="black", markersize=5, markeredgewidth=0, zorder=3)
    _write_names(axes, labels, points, places / side * span + low)
    for axis, name in ((axes.xaxis, x_title), (axes.yaxis, y_title)):
        axis.set_major_formatter(number)
        axis.set_label_text(fitted(name, TEXT, side), fontsize=TEXT, parse_math=False)
    return figure


def placed(points: Floats, sizes: Floats, side: float) -> Floats | None:
    """Find a place for every name: near its point, within the frame, on no other name or point.

    The nearest free place in turn, those with the fewest neighbours first.

    Parameters
    ----------
    points : float array, shape (n, 2)
    sizes : float array, shape (n, 2)
        Widths and heights of the names, in the same unit.
    side : float
        Of the frame, which begins at 0.

    Returns
    -------
    centres : float64 array, shape (n, 2), or None
        None if there is no place for one.
    """
    near = (np.abs(points[:, None] - points).max(axis=2) < side / 8).sum(axis=1)
    angles = 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    rounds = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rings = np.arange(_POINT + _APART, _FAR * side, _RING)
    taken: list[Floats] = [np.hstack([points - _POINT, points + _POINT])]
    centres = np.empty_like(points)
    for at in np.argsort(near, kind="stable"):
        half = sizes[at] / 2
        # A name touches its ring with the side or corner that is next to the point.
        offsets = (rings[:, None, None] * rounds + rounds.round(12) * half).reshape(-1, 2)
        tried = points[at] + offsets
        boxes = np.hstack([tried - half - _APART, tried + half + _APART])
        others = np.concatenate(taken)
        apart = (boxes[:, None, :2] >= others[:, 2:]) | (boxes[:, None, 2:] <= others[:, :2])
        within = np.all((boxes >= 0) & (boxes <= side), axis=1)
        free = within & np.all(apart.any(axis=2), axis=1)
        if not free.any():
            return None
        first = int(np.argmax(free))
        centres[at] = tried[first]
        taken.append(boxes[first][None])
    return centres


def _said(rho: float, n: int) -> str:
    value = "is not defined" if math.isnan(rho) else f"= {number(round(rho, 3))}"
    return f"Spearman's ρ {value} ({n:,} spaces)"


def _frame(figure: "Figure", side: float, title: list[str], said: str) -> "Axes":
    """Make the figure as large as it must be, and write what is above its axes."""
    width, height = _LEFT + side + _RIGHT, _BELOW + side + 0.5 + 0.2 * len(title)
    figure.set_size_inches(width, height)
    axes = figure.add_axes((_LEFT / width, _BELOW / height, side / width, side / height))
    bare(axes)
    for text, size, up in (("\n".join(title), TITLE, 0.36), (said, TEXT, 0.12)):
        figure.text(
            _LEFT / width, (_BELOW + side + up) / height, text, fontsize=size, va="bottom",
            parse_math=False,
        )  # fmt: skip
    return axes


def _write_names(axes: "Axes", labels: list[str], points: Floats, places: Floats) -> None:
    """Write names, on white, over the lines that lead to their points."""
    from matplotlib.collections import LineCollection

    lines = list(np.stack([points, places], axis=1))
    axes.add_collection(LineCollection(lines, colors="0.6", linewidths=0.5, zorder=1))
    for label, (x, y) in zip(labels, places.tolist(), strict=True):
        axes.text(
            x, y, label, ha="center", va="center", fontsize=SMALL, parse_math=False, zorder=2,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip


def _reach(points: Floats) -> tuple[Floats, Floats]:
    """Choose where the axes begin and how far they reach, with room at both ends."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, np.maximum(np.abs(high), 1.0))
    return (low + high - 1.3 * span) / 2, 1.3 * span
