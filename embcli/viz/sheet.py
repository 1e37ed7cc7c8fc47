"""A figure of one large box: its ground, its margins, what is above it and what is beside it."""

import re
from collections.abc import Sequence
from textwrap import TextWrapper
from typing import TYPE_CHECKING, Any, NamedTuple

from embcli.viz.colours import FAINT, GROUND, INK
from embcli.viz.figure import (
    SMALL,
    TITLE,
    new_figure,
    shown,
    text_sizes,
    title_lines,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In inches.
EDGE = 0.15
_TITLE, _SAID = 0.2, 0.16
_NARROWEST = 4.5
GAP = 0.2
_ENTRY, _MARK = 0.19, 0.16
# Letters in an inch.
_LETTERS = 14


class Margins(NamedTuple):
    """What texts take around the box, in inches."""

    left: float = EDGE
    right: float = EDGE
    below: float = EDGE
    above: float = 0.0


class Sheet(NamedTuple):
    """A figure that has its size: places in inches from the lower left."""

    figure: "Figure"
    axes: "Axes"
    dark: bool
    left: float
    low: float
    across: float
    high: float

    def add_axes(self, left: float, low: float, across: float, high: float) -> "Axes":
        """Add axes at a place."""
        width, height = self.figure.get_size_inches()
        return self.figure.add_axes(
            (left / width, low / height, across / width, high / height),
            label=f"{len(self.figure.axes)}",
        )

    def write(self, text: str, left: float, low: float, size: float = SMALL, **how: Any) -> None:
        """Write a text at a place, faint unless told."""
        width, height = self.figure.get_size_inches()
        self.figure.text(
            left / width, low / height, text, fontsize=size, parse_math=False,
            **{"color": FAINT[self.dark], "va": "top", **how},
        )  # fmt: skip


def new_sheet(dark: bool, dpi: float = 150) -> tuple["Figure", "Axes"]:
    """Make a figure and its axes in the colours of a theme, to be sized by `lay_out`."""
    figure = new_figure(dpi=dpi)
    figure.set_facecolor(GROUND[dark])
    axes = figure.add_axes((0, 0, 1, 1))
    dress(axes, dark)
    return figure, axes


def dress(axes: "Axes", dark: bool) -> None:
    """Give axes the colours of a theme, and small numbers."""
    axes.set_facecolor(GROUND[dark])
    axes.tick_params(labelsize=SMALL, colors=FAINT[dark], labelcolor=INK[dark])
    axes.spines[["left", "right", "top", "bottom"]].set_color(FAINT[dark])
    axes.spines[["right", "top"]].set_visible(False)


def lay_out(
    figure: "Figure",
    axes: "Axes",
    box: tuple[float, float],
    margins: Margins,
    *,
    title: str,
    said: str,
    dark: bool,
) -> Sheet:
    """Make the figure as large as its box and texts take, and write what is above the box.

    Parameters
    ----------
    figure, axes : Figure and Axes
        As `new_sheet` makes them.
    box : tuple of float
        Width and height of the axes, in inches.
    margins : Margins
    title, said : str
        A headline, and a smaller line that says what there is to see; either may be empty.
    dark : bool

    Returns
    -------
    sheet : Sheet
    """
    width = max(margins.left + box[0] + margins.right, _NARROWEST)
    titles = title_lines(title, width - 2 * EDGE)
    lines = wrapped(said, SMALL, width - 2 * EDGE)
    top = EDGE + _TITLE * len(titles) + _SAID * len(lines) + (0.08 if titles and lines else 0)
    low = margins.below
    height = low + box[1] + margins.above + top + (0.12 if titles or lines else 0)
    figure.set_size_inches(width, height)
    axes.set_position((margins.left / width, low / height, box[0] / width, box[1] / height))
    sheet = Sheet(figure, axes, dark, margins.left, low, *box)
    sheet.write("\n".join(titles), EDGE, height - 0.12, TITLE, color=INK[dark])
    for line, text in enumerate(lines):
        sheet.write(text, EDGE, height - top + _SAID * (len(lines) - line))
    return sheet


def wrapped(text: str, size: float, across: float) -> list[str]:
    """Break a text into lines that are measured to be at most so many inches wide.

    Lines end at spaces, hyphens and underscores.
    """
    letters = max(int(across * _LETTERS), 4)
    while lines := _Wrapper(letters).wrap(shown(text, 1000)):
        if letters <= 4 or text_sizes(lines, size)[:, 0].max() <= across:
            break
        letters = max(int(0.93 * letters), 4)
    return lines


class _Wrapper(TextWrapper):
    def _split(self, text: str) -> list[str]:
        return [part for word in super()._split(text) for part in re.split("(?<=_)(?=[^_])", word)]


def legend_width(texts: Sequence[str]) -> float:
    """Measure what a legend with such texts takes beside the box, in inches."""
    return GAP + _MARK + float(text_sizes(texts, SMALL)[:, 0].max()) + EDGE if texts else 0.0


def legend_height(count: int) -> float:
    """Say how high the box has to be for a legend of so many entries, in inches."""
    return _ENTRY * count


def draw_legend(sheet: Sheet, entries: Sequence[tuple[str | None, str]]) -> None:
    """Write entries beside the box from its top: a dot of a colour, if there is one, and a text."""
    high = legend_height(len(entries))
    left = sheet.left + sheet.across + GAP
    axes = sheet.add_axes(left, sheet.low + sheet.high - high, _MARK, high)
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(entries), 0)
    for row, (colour, text) in enumerate(entries):
        if colour is not None:
            axes.plot(0.25, row + 0.5, "o", color=colour, markersize=5.5, markeredgewidth=0)
        axes.text(
            1, row + 0.5, text, fontsize=SMALL, va="center", parse_math=False,
            color=INK[sheet.dark] if colour is not None else FAINT[sheet.dark],
        )  # fmt: skip
