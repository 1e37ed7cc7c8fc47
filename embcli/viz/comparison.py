"""Measures of several spaces side by side: layers, dimensions, collections."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError
from embcli.viz.figure import (
    SMALL,
    TEXT,
    TITLE,
    bare,
    fitted,
    measured,
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
_WIDTH, _HEIGHT = 3.7, 0.85
_LEFT, _RIGHT, _ABOVE, _BELOW = 0.85, 0.25, 0.42, 0.15
_LINE, _GAP = 0.15, 0.12
# More spaces have no name each.
_NAMED = 60
_LONGEST, _LONGEST_BEST = 30, 14
_HEADINGS = {False: "without labels", True: "with labels"}
_ARROWS = {"high": " ↑", "low": " ↓", None: ""}


class Measure(NamedTuple):
    """One measure of all spaces.

    Attributes
    ----------
    name : str
    values : float array, shape (n,)
        NaN where it could not be measured.
    labelled : bool
        Whether it takes classes.
    better : "high", "low" or None
        Which end is the good one; None if neither is.
    errors : float array, shape (n,), optional
        Half the height of a bar at every value, such as a standard deviation.
    """

    name: str
    values: ArrayLike
    labelled: bool = False
    better: Literal["high", "low"] | None = "high"
    errors: ArrayLike | None = None


def comparison_figure(
    names: Sequence[str],
    measures: Sequence[Measure],
    path: str | os.PathLike[str],
    *,
    title: str,
    joined: bool = True,
    extra: str = "separability",
    force: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> None:
    """Draw measures of the same spaces, a panel each, those without labels beside those with.

    Parameters
    ----------
    names : sequence of str, n of them
        Of the spaces, in the order of the axis that all panels share. Above 60 every second,
        third, … is written only, which the figure says.
    measures : sequence of Measure
        In each panel the best value is marked, and said with its space; the arrow beside the name
        points to where better values are.
    path : path
        A PNG, SVG or PDF file, by its ending; it appears when it is complete. The same values
        give the same bytes.
    title : str
    joined : bool
        Join the points by lines: the spaces follow from each other, as layers do.
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
        There are no spaces, no measures, not as many values as spaces, or a value is infinite.
    ModelError
        Matplotlib is not installed.
    """

    def draw() -> "Figure":
        return draw_comparison(names, measures, title=title, joined=joined)

    save_figure(draw, path, extra=extra, force=force, note=note)


def draw_comparison(
    names: Sequence[str], measures: Sequence[Measure], *, title: str, joined: bool = True
) -> "Figure":
    """Make the figure that `comparison_figure` writes.

    Raises
    ------
    InputError
    """
    values = [_checked(names, measure) for measure in measures]
    if not measures or not names:
        raise InputError("a comparison takes at least one space and one measure")
    columns = _columns(measures)
    step = -(-len(names) // _NAMED)
    across = max(_WIDTH, _LINE * len(names) / step)
    width = len(columns) * (_LEFT + across + _RIGHT)
    lines = title_lines(title, width - 1)
    figure = new_figure(width)
    labels = [shown(name, _LONGEST) for name in names]
    panels = [
        [_panel(figure, measures[at], values[at], labels, joined) for at in column]
        for column in columns
    ]
    for panels_of_column in panels:
        _name_spaces(figure, panels_of_column, labels, step, across)
    _place(figure, panels, across, len(lines))
    for column, (first, *_) in zip(columns, panels, strict=True):
        _head(first, _HEADINGS[measures[column[0]].labelled])
    _write_title(figure, lines, step)
    return figure


def _checked(names: Sequence[str], measure: Measure) -> Floats:
    arrays = [
        np.asarray(values, np.float64)
        for values in (measure.values, measure.errors)
        if values is not None
    ]
    for array in arrays:
        if array.shape != (len(names),):
            raise InputError(
                f"{measure.name}: a figure of {len(names):,} spaces takes a value for each, and "
                f"got shape {array.shape}"
            )
        if np.isinf(array).any():
            raise InputError(f"{measure.name}: a value is infinite")
    return arrays[0]


def _columns(measures: Sequence[Measure]) -> list[list[int]]:
    """Put measures without labels left and others right; of one kind, halves."""
    kinds = [[at for at, m in enumerate(measures) if m.labelled is kind] for kind in (False, True)]
    filled = [kind for kind in kinds if kind]
    if len(filled) > 1 or len(measures) < 4:
        return filled
    half = -(-len(measures) // 2)
    return [filled[0][:half], filled[0][half:]]


def _panel(
    figure: "Figure", measure: Measure, values: Floats, labels: list[str], joined: bool
) -> "Axes":
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_axes((0, 0, 1, 1), label=f"{len(figure.axes)}")
    color = "tab:blue" if measure.labelled else "0.25"
    places = np.arange(len(values))
    if measure.errors is not None:
        axes.errorbar(
            places, values, np.nan_to_num(np.asarray(measure.errors, np.float64)), fmt="none",
            ecolor="0.6", elinewidth=0.8, capsize=1.5, zorder=2,
        )  # fmt: skip
    axes.plot(
        places, values, marker="o", color=color, markersize=4, linewidth=1.0 if joined else 0,
        markerfacecolor=color if measure.labelled else "white", zorder=3,
    )  # fmt: skip
    best = _best(measure, values)
    axes.plot(best, values[best], marker="*", color="tab:red", markersize=11, linewidth=0, zorder=4)
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.margins(y=0.15)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(number)
    axes.grid(axis="x", color="0.9", linewidth=0.5)
    bare(axes)
    said = _said_best(measure, values, best, labels)
    axes.set_title(said, fontsize=SMALL, loc="right", pad=4, color="tab:red", parse_math=False)
    arrow = _ARROWS[measure.better]
    taken = text_sizes([said + arrow], SMALL)[0, 0] + 2 * _GAP
    name = fitted(measure.name, SMALL, _WIDTH - taken) + arrow
    axes.set_title(name, fontsize=SMALL, loc="left", pad=4, parse_math=False)
    return axes


def _best(measure: Measure, values: Floats) -> NDArray[np.int64]:
    """Find all places of the best value; none if no value is better than another."""
    known = values[~np.isnan(values)]
    if measure.better is None or not len(known):
        return np.zeros(0, np.int64)
    return np.flatnonzero(values == (known.max() if measure.better == "high" else known.min()))


def _said_best(measure: Measure, values: Floats, best: NDArray[np.int64], labels: list[str]) -> str:
    if np.isnan(values).all():
        return "not measured"
    if not len(best):
        return ""
    more = f" +{len(best) - 1}" if len(best) > 1 else ""
    value = number(float(f"{values[best[0]]:.3g}"))
    return f"best {value}: {shown(labels[best[0]], _LONGEST_BEST)}{more}"


def _name_spaces(
    figure: "Figure", column: list["Axes"], labels: list[str], step: int, across: float
) -> None:
    """Write the names below the last panel of a column, upright unless they fit side by side."""
    for axes in column[:-1]:
        axes.set_xticks(range(0, len(labels), step), [])
    last = column[-1]
    written = labels[::step]
    last.set_xticks(range(0, len(labels), step), written, fontsize=SMALL, parse_math=False)
    widest = measured(figure, last.get_xticklabels())[:, 0].max()
    if widest + _GAP > across * step / len(labels):
        last.tick_params(axis="x", labelrotation=90)


def _place(figure: "Figure", panels: list[list["Axes"]], across: float, lines: int) -> None:
    """Make the figure as high as it must be, and put the panels beneath each other."""
    below = [float(measured(figure, column[-1].get_xticklabels())[:, 1].max()) for column in panels]
    top = 0.55 + 0.2 * lines
    pitch = _ABOVE + _HEIGHT
    high = max(pitch * len(column) + under for column, under in zip(panels, below, strict=True))
    width = len(panels) * (_LEFT + across + _RIGHT)
    height = top + high + _BELOW + 0.1
    figure.set_size_inches(width, height)
    for place, column in enumerate(panels):
        left = place * (_LEFT + across + _RIGHT) + _LEFT
        for row, axes in enumerate(column):
            low = height - top - (row + 1) * pitch
            axes.set_position((left / width, low / height, across / width, _HEIGHT / height))


def _head(axes: "Axes", text: str) -> None:
    axes.annotate(
        text, (0, 1), (0, 22), xycoords="axes fraction", textcoords="offset points",
        fontsize=TEXT, weight="bold", va="bottom", annotation_clip=False,
    )  # fmt: skip


def _write_title(figure: "Figure", lines: list[str], step: int) -> None:
    width, height = figure.get_size_inches()

    def write(text: str, down: float, size: float, **how: Any) -> None:
        figure.text(
            0.1 / width, 1 - down / height, text, fontsize=size, va="top", parse_math=False, **how
        )

    write("\n".join(lines), 0.1, TITLE)
    said = "arrow: where better values are; star: the best" + (
        "" if step == 1 else f"; one name in {step} is written"
    )
    write(said, 0.18 + 0.2 * len(lines), SMALL, color="0.35")
