"""Two maps of the same records side by side, and what has moved."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError, counted
from embcli.viz.cloud import Fit, check_points, density, draw_points, fit
from embcli.viz.colours import FAINT, GROUND, INK, mix
from embcli.viz.figure import TEXT, fitted, number, save_figure
from embcli.viz.groups import grouped, legend_entries
from embcli.viz.scale import Scale, bar_width, draw_bar, linear
from embcli.viz.sheet import (
    Margins,
    draw_legend,
    lay_out,
    legend_height,
    legend_width,
    new_sheet,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

# In inches: of each map, and between the two.
SIZE = (4.6, 4.6)
_LEAST, _BETWEEN = 3.0, 1.2
# More records have no line each.
LINES = 300
_LINE_WIDTH = 0.6
_DPI = 200


def compare_figure(
    a: ArrayLike,
    b: ArrayLike,
    path: str | os.PathLike[str],
    *,
    titles: Sequence[str],
    groups: Sequence[str | None] | None = None,
    title: str = "",
    subtitle: str = "",
    dark: bool = False,
    seed: int = 0,
    extra: str = "plot",
    force: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> None:
    """Draw two maps of the same records at the same scale, with lines from one to the other.

    Parameters
    ----------
    a, b : float array, shape (n, 2)
        Row i of each is the same record; b is aligned with a already, as by Procrustes.
    path : path
        A PNG, SVG or PDF file, by its ending; it appears when it is complete. The same points
        give the same bytes.
    titles : sequence of str, 2 of them
        Of the maps.
    groups : sequence of str or None, n of them, optional
        The group of every record, as which it is coloured in both.
    title, subtitle : str
    dark : bool
    seed : int
        Of the order in which points are drawn, and of the 300 records that have a line where
        there are more, which the figure says. Lines are coloured by how far a record has moved,
        as a share of the width of both maps together; those that moved most are on top.
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
        There is no record; the maps, the groups or the titles are not as many as are needed; a
        number is not finite.
    ModelError
        Matplotlib is not installed.
    """

    def draw() -> "Figure":
        return draw_compare(
            a, b, titles=titles, groups=groups, title=title, subtitle=subtitle, dark=dark,
            seed=seed,
        )  # fmt: skip

    save_figure(draw, path, extra=extra, force=force, note=note)


def draw_compare(
    a: ArrayLike,
    b: ArrayLike,
    *,
    titles: Sequence[str],
    groups: Sequence[str | None] | None = None,
    title: str = "",
    subtitle: str = "",
    dark: bool = False,
    seed: int = 0,
) -> "Figure":
    """Make the figure that `compare_figure` writes.

    Raises
    ------
    InputError
    """
    if len(titles) != 2:
        raise InputError(f"{counted(len(titles), 'title')} of two maps")
    left, right = check_points(a, "first map", flat=True), check_points(b, "second map", flat=True)
    if left.shape != right.shape:
        raise InputError(f"maps of {len(left):,} and {len(right):,} records are not of the same")
    of_rows = grouped(groups if groups is not None else [""] * len(left), len(left), dark)
    entries = [] if groups is None else legend_entries(of_rows, dark)
    where = fit(np.concatenate([left, right]), SIZE, max(_LEAST, legend_height(len(entries)) + 1.5))
    moved = np.linalg.norm((right - left) / where.unit, axis=1) / max(where.box)
    scale = linear(0.0, float(moved.max()) or 1.0, "moved, of the width", dark)
    across, high = where.box
    both = Fit(np.zeros(2), 1.0, (2 * across + _BETWEEN, high))
    places = [where.inches(left), where.inches(right) + np.array([across + _BETWEEN, 0.0])]
    figure, axes = new_sheet(dark, _DPI)
    both.apply(axes)
    axes.set_axis_off()
    drawn = _lines(axes, places, moved, scale, seed)
    for start, points, name in zip((0, across + _BETWEEN), places, titles, strict=True):
        _panel(axes, start, where.box, name, dark)
        draw_points(
            axes, points, both, of_rows.of_rows(dark), grey=of_rows.of_row < 0, seed=seed,
            size=density(where.inches(left), where.box),
        )  # fmt: skip
    wide = max(bar_width(scale), legend_width([text for _, text in entries]))
    sheet = lay_out(
        figure, axes, both.box, Margins(right=wide, above=0.22), title=title,
        said="; ".join(filter(None, [subtitle, _said(moved, drawn)])), dark=dark,
    )  # fmt: skip
    if entries:
        draw_legend(sheet, entries)
        sheet = sheet._replace(high=sheet.high - legend_height(len(entries)) - 0.25)
    draw_bar(sheet, scale)
    return figure


def _lines(axes: "Axes", places: list[Floats], moved: Floats, scale: Scale, seed: int) -> int:
    """Join a sample of records, those that moved most on top; say how many."""
    from matplotlib.collections import LineCollection

    rows = np.arange(len(moved))
    if len(rows) > LINES:
        rows = np.random.default_rng(seed).choice(len(rows), LINES, replace=False)
    rows = rows[np.argsort(moved[rows], kind="stable")]
    axes.add_collection(
        LineCollection(
            list(np.stack([places[0][rows], places[1][rows]], axis=1)),
            colors=scale.colours(np.asarray(scale.norm(moved[rows]))), linewidths=_LINE_WIDTH,
            alpha=0.55, zorder=1,
        ),
        autolim=False,
    )  # fmt: skip
    return len(rows)


def _panel(axes: "Axes", start: float, box: tuple[float, float], name: str, dark: bool) -> None:
    """Frame one of the maps and write its title above."""
    from matplotlib.patches import Rectangle

    line = mix(FAINT[dark], GROUND[dark], 0.4)
    axes.add_patch(
        Rectangle((start, 0), *box, fill=False, edgecolor=line, linewidth=0.8, clip_on=False)
    )
    axes.annotate(
        fitted(name, TEXT, box[0]), (start + box[0] / 2, box[1]), (0, 5),
        textcoords="offset points", ha="center", va="bottom", fontsize=TEXT, color=INK[dark],
        parse_math=False, annotation_clip=False,
    )  # fmt: skip


def _said(moved: Floats, drawn: int) -> str:
    low, high = (number(float(f"{100 * value:.2g}")) for value in np.quantile(moved, [0.5, 0.9]))
    said = f"{counted(len(moved), 'record')}, of which half moved by {low} % of the width or less"
    said += f" and a tenth by {high} % or more"
    return f"{said}; lines for {drawn:,}, drawn at random" if drawn < len(moved) else said
