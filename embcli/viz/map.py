"""A map of points, coloured by group or by number, with names where their groups are."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError, counted
from embcli.viz.cloud import Fit, check_points, draw_points, fit
from embcli.viz.colours import INK, neutral, rgb
from embcli.viz.depth import PAD, View, draw_box, look
from embcli.viz.figure import SMALL, TEXT, fitted, measured, number, save_figure, text_sizes
from embcli.viz.groups import LISTED, Groups, grouped, legend_entries, readable
from embcli.viz.labels import densest, place_names, write_names
from embcli.viz.scale import Scale, bar_width, draw_bar, make_scale
from embcli.viz.sheet import (
    Margins,
    draw_legend,
    lay_out,
    legend_height,
    legend_width,
    new_sheet,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Legend = Literal["auto", "beside", "map", "none"]

# In inches: the map, its least side, the width of a name in it.
SIZE = (7.5, 6.5)
_LEAST = 3.0
_NAME = 1.5
# More names are not tried, because the map is full long before.
_TRIED = 300
# With more names in the map they are smaller.
_CROWDED, _CROWDED_SIZE = 30, 6.5
_LINES = 3
_DPI = 200


class _Look(NamedTuple):
    """As what points are coloured."""

    groups: Groups | None
    values: Floats | None
    scale: Scale | None


def map_figure(
    points: ArrayLike,
    path: str | os.PathLike[str],
    *,
    groups: Sequence[str | None] | None = None,
    values: ArrayLike | None = None,
    names: Mapping[str, str] | None = None,
    legend: Legend = "auto",
    title: str = "",
    subtitle: str = "",
    value_title: str = "",
    axes_titles: Sequence[str] | None = None,
    dark: bool = False,
    size: tuple[float, float] | None = None,
    seed: int = 0,
    extra: str = "plot",
    force: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> None:
    """Draw a map of records, each a point.

    Parameters
    ----------
    points : float array, shape (n, 2) or (n, 3)
        Both axes of a flat map have the same scale. Points are as small and as thin as their
        number takes, and drawn in a random order, so that no group hides another; those in no
        group, or without a value, lie below all others.
    path : path
        A PNG, SVG or PDF file, by its ending; it appears when it is complete. The same points
        give the same bytes. Above 3,000 points these are an image within an SVG or PDF file.
    groups : sequence of str or None, n of them, optional
        The group of every point, as which it is coloured if there are no values; None for grey.
    values : float array, shape (n,), optional
        The number as which every point is coloured; NaN for grey. The scale is one of logarithms
        or square roots where that takes away a long tail, which the figure says.
    names : mapping of str to str, optional
        What to write in the map for a group, at the densest place of its members; groups that
        it lacks have no name there. Names that have no room are left out, those of small groups
        first, which the figure says. A list beside the map has these names, too.
    legend : "auto", "beside", "map" or "none"
        Whether groups are listed beside the map, the first twelve with their counts, or their
        own names are written in it, if `names` are not. "auto" lists up to twelve groups.
    title, subtitle : str
    value_title : str
        What the values are.
    axes_titles : sequence of str, 2 or 3 of them, optional
        For axes that mean something, as principal components do; a flat map has numbers there,
        too. Without, no axes are drawn.
    dark : bool
    size : tuple of float, optional
        Greatest width and height of the map alone, in inches; (7.5, 6.5).
    seed : int
        Of the order in which points are drawn.
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
        There is no point; points are not of two or three finite numbers; there are not as many
        groups, values or titles as are needed; a value is infinite.
    ModelError
        Matplotlib is not installed.
    """

    def draw() -> "Figure":
        return draw_map(
            points, groups=groups, values=values, names=names, legend=legend, title=title,
            subtitle=subtitle, value_title=value_title, axes_titles=axes_titles, dark=dark,
            size=size, seed=seed,
        )  # fmt: skip

    save_figure(draw, path, extra=extra, force=force, note=note)


def draw_map(
    points: ArrayLike,
    *,
    groups: Sequence[str | None] | None = None,
    values: ArrayLike | None = None,
    names: Mapping[str, str] | None = None,
    legend: Legend = "auto",
    title: str = "",
    subtitle: str = "",
    value_title: str = "",
    axes_titles: Sequence[str] | None = None,
    dark: bool = False,
    size: tuple[float, float] | None = None,
    seed: int = 0,
) -> "Figure":
    """Make the figure that `map_figure` writes.

    Raises
    ------
    InputError
    """
    places = check_points(points)
    if axes_titles is not None and len(axes_titles) != places.shape[1]:
        raise InputError(f"{len(axes_titles)} titles of {places.shape[1]} axes")
    coloured = _look(groups, values, value_title, len(places), dark)
    entries = _entries(coloured, names, legend, dark)
    view = look(places) if places.shape[1] == 3 else None
    figure, axes = new_sheet(dark, _DPI)
    where = _where(places, view, size or SIZE, legend_height(len(entries)))
    where.apply(axes)
    on_sheet = view.points if view else places
    _draw(axes, on_sheet, where, view, coloured, seed, dark)
    margins = _axes(figure, axes, view, axes_titles, where.box, dark)
    wanted = _wanted(coloured.groups, names, _in_map(coloured, legend))
    unwritten = _name(axes, where, on_sheet, coloured, wanted, dark)
    right = max(margins.right, legend_width([text for _, text in entries]))
    if coloured.scale:
        right = bar_width(coloured.scale)
    sheet = lay_out(
        figure, axes, where.box, margins._replace(right=right), title=title,
        said="; ".join(filter(None, [subtitle, *_said(coloured, len(places), unwritten)])),
        dark=dark,
    )  # fmt: skip
    if entries:
        draw_legend(sheet, entries)
    elif coloured.scale:
        draw_bar(sheet, coloured.scale)
    return figure


def _look(
    groups: Sequence[str | None] | None,
    values: ArrayLike | None,
    value_title: str,
    rows: int,
    dark: bool,
) -> _Look:
    of_rows = None if groups is None else grouped(groups, rows, dark)
    if values is None:
        return _Look(of_rows, None, None)
    numbers = np.asarray(values, np.float64)
    if numbers.shape != (rows,):
        raise InputError(
            f"{value_title or 'values'}: {counted(rows, 'point')} take a number each, and not "
            f"shape {numbers.shape}"
        )
    known = not np.isnan(numbers).all()
    return _Look(of_rows, numbers, make_scale(numbers, value_title, dark) if known else None)


def _entries(
    coloured: _Look, names: Mapping[str, str] | None, legend: Legend, dark: bool
) -> list[tuple[str | None, str]]:
    """List the groups beside the map, largest first, and the grey points below."""
    groups = coloured.groups
    if groups is None or coloured.values is not None or legend in ("map", "none"):
        return []
    if legend == "auto" and len(groups.names) > LISTED:
        return []
    return legend_entries(groups, dark, names)


def _in_map(coloured: _Look, legend: Legend) -> bool:
    """Tell whether groups have their own names in the map."""
    if coloured.groups is None or legend != "auto":
        return legend == "map"
    return coloured.values is not None or len(coloured.groups.names) > LISTED


def _where(points: Floats, view: View | None, size: tuple[float, float], least: float) -> Fit:
    least = max(least, _LEAST)
    if view is None:
        return fit(points, size, least)
    return fit(np.concatenate([view.points, view.edges.reshape(-1, 2)]), size, least, PAD)


def _draw(
    axes: "Axes",
    points: Floats,
    where: Fit,
    view: View | None,
    coloured: _Look,
    seed: int,
    dark: bool,
) -> None:
    groups, values, scale = coloured
    grey = np.zeros(len(points), bool)
    if values is not None:
        grey = np.isnan(values)
        colours = np.tile(rgb(neutral(dark)), (len(points), 1))
        if scale is not None:
            colours = scale.of_rows(values, dark)
    elif groups is not None:
        grey, colours = groups.of_row < 0, groups.of_rows(dark)
    else:
        colours = grouped([""] * len(points), len(points), dark).of_rows(dark)
    if view is None:
        draw_points(axes, points, where, colours, grey=grey, seed=seed)
    else:
        draw_points(
            axes, points, where, view.fogged(colours, dark), near=view.near,
            order=np.argsort(view.near, kind="stable"),
        )  # fmt: skip


def _axes(
    figure: "Figure",
    axes: "Axes",
    view: View | None,
    titles: Sequence[str] | None,
    box: tuple[float, float],
    dark: bool,
) -> Margins:
    """Draw axes that mean something, and say what room they take."""
    from matplotlib.ticker import MaxNLocator

    if view is not None or titles is None:
        axes.set_axis_off()
        if view is not None:
            draw_box(axes, view, list(titles or [""] * 3), dark)
        return Margins()
    for axis, title, long in zip((axes.xaxis, axes.yaxis), titles, box, strict=True):
        axis.set_major_locator(MaxNLocator(max(int(long), 2)))
        axis.set_major_formatter(number)
        axis.set_label_text(
            fitted(title, TEXT, long), fontsize=TEXT, color=INK[dark], parse_math=False
        )
    width, height = figure.get_size_inches()
    axes.set_position((0, 0, box[0] / width, box[1] / height))
    numbers = measured(figure, axes.get_yticklabels())[:, 0].max()
    return Margins(left=0.45 + float(numbers), right=0.4, below=0.55)


def _wanted(
    groups: Groups | None, names: Mapping[str, str] | None, own: bool
) -> list[tuple[int, str]]:
    """Say which groups are to have which name in the map, largest first."""
    if groups is None:
        return []
    if names is None:
        return list(enumerate(groups.names)) if own else []
    return [(at, names[name]) for at, name in enumerate(groups.names) if name in names]


def _name(
    axes: "Axes",
    where: Fit,
    points: Floats,
    coloured: _Look,
    wanted: list[tuple[int, str]],
    dark: bool,
) -> str:
    """Write names in the map, and say how many of them if not all."""
    groups = coloured.groups
    size = SMALL if len(wanted) <= _CROWDED else _CROWDED_SIZE
    texts = [(at, "\n".join(_broken(name, size))) for at, name in wanted[:_TRIED]]
    texts = [(at, text) for at, text in texts if text]
    if groups is None or not texts:
        return ""
    order = np.argsort(groups.of_row, kind="stable")
    starts = np.searchsorted(groups.of_row[order], np.arange(len(groups.names) + 1))
    inches = where.inches(points)
    anchors = np.stack([densest(inches[order[starts[at] : starts[at + 1]]]) for at, _ in texts])
    written = [text for _, text in texts]
    sizes = text_sizes(written, size)
    centres = place_names(anchors, sizes, where.box, inches)
    colours = [
        INK[dark] if coloured.values is not None else readable(groups.colours[at], dark)
        for at, _ in texts
    ]
    write_names(
        axes, where, written, anchors, centres, sizes, colours=colours, size=size, dark=dark
    )
    there = int((~np.isnan(centres[:, 0])).sum())
    total = len(texts) + max(len(wanted) - _TRIED, 0)
    return f"{there:,} of {total:,} names have room" if there < total else ""


def _broken(name: str, size: float) -> list[str]:
    lines = wrapped(name, size, _NAME)
    return lines if len(lines) <= _LINES else [*lines[: _LINES - 1], f"{lines[_LINES - 1]}…"]


def _said(coloured: _Look, rows: int, unwritten: str) -> list[str]:
    groups, values, _ = coloured
    said = counted(rows, "record")
    if groups is not None:
        said += f" in {counted(len(groups.names), 'group')}"
    grey = ""
    if values is not None:
        lacking = int(np.isnan(values).sum())
        grey = f"grey: {lacking:,} without a value" if lacking else ""
    elif groups is not None and groups.without:
        grey = f"grey: {groups.without:,} in no group"
    return [part for part in (said, grey, unwritten) if part]
