"""Cosines of all pairs of a small set."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError, counted
from embcli.viz.colours import INK, luminance
from embcli.viz.figure import SMALL, finite, fitted, measured, save_figure
from embcli.viz.scale import Scale, bar_width, draw_bar, linear
from embcli.viz.sheet import Margins, lay_out, new_sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Up to so many rows their cosines are written.
WRITTEN = 20
# More are refused: nothing could be read.
MOST = 1000
# More have no name each.
_NAMED = 160
# In inches.
_CELL, _LINE, _LEAST = 0.4, 0.125, 2.4
_NAME = 2.6
_PAD = 0.06
# In points.
_CROWDED = 6.5


def similarity_figure(
    matrix: ArrayLike,
    names: Sequence[str],
    path: str | os.PathLike[str],
    *,
    order: ArrayLike | None = None,
    title: str = "",
    subtitle: str = "",
    dark: bool = False,
    extra: str = "plot",
    force: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> None:
    """Draw the cosines of all pairs as colours, with their numbers where there is room.

    Parameters
    ----------
    matrix : float array, shape (n, n)
        Cosines, the same on both sides of the diagonal. Colours begin at the least of them and
        end at the greatest of different rows.
    names : sequence of str, n of them
        Above 160 every second, third, … is written only, which the figure says.
    path : path
        A PNG, SVG or PDF file, by its ending; it appears when it is complete. The same cosines
        give the same bytes.
    order : int array, shape (n,), optional
        The rows from top to bottom, such as `scipy.cluster.hierarchy.leaves_list` gives them.
    title, subtitle : str
    dark : bool
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
        There are no rows or more than 1,000, not as many rows and columns as names, a number is
        not finite, or `order` does not have every row once.
    ModelError
        Matplotlib is not installed.
    """

    def draw() -> "Figure":
        return draw_similarity(
            matrix, names, order=order, title=title, subtitle=subtitle, dark=dark
        )

    save_figure(draw, path, extra=extra, force=force, note=note)


def draw_similarity(
    matrix: ArrayLike,
    names: Sequence[str],
    *,
    order: ArrayLike | None = None,
    title: str = "",
    subtitle: str = "",
    dark: bool = False,
) -> "Figure":
    """Make the figure that `similarity_figure` writes.

    Raises
    ------
    InputError
    """
    if not 0 < len(names) <= MOST:
        raise InputError(f"{counted(len(names), 'row')}: cosines are drawn of 1 to {MOST:,}")
    cosines: Floats = finite(matrix, "cosines", (len(names), len(names)))
    rows = _order(order, len(names))
    cosines = cosines[np.ix_(rows, rows)]
    different = cosines[~np.eye(len(cosines), dtype=bool)] if len(cosines) > 1 else cosines.ravel()
    scale = linear(float(different.min()), float(different.max()), "cosine", dark)
    figure, axes = new_sheet(dark)
    axes.imshow(
        cosines,
        cmap=scale.colours,
        norm=scale.norm,
        aspect="auto",
        interpolation="nearest",
    )
    if len(cosines) <= WRITTEN:
        _write(axes, cosines, scale)
    step = -(-len(names) // _NAMED)
    left, below = _names(figure, axes, [names[at] for at in rows.tolist()], step, dark)
    cell = max(_CELL, _LEAST / len(names)) if len(names) <= WRITTEN else _LINE
    side = max(cell * len(names) / step, _LEAST)
    texts = [subtitle, _said(different, len(names), step)]
    sheet = lay_out(
        figure, axes, (side, side), Margins(left, bar_width(scale), below), title=title,
        said="; ".join(filter(None, texts)), dark=dark,
    )  # fmt: skip
    draw_bar(sheet, scale)
    return figure


def _order(order: ArrayLike | None, rows: int) -> Ints:
    if order is None:
        return np.arange(rows)
    given = np.asarray(order)
    if given.shape != (rows,) or not np.array_equal(np.sort(given), np.arange(rows)):
        raise InputError("an order has every row of the matrix once")
    return given.astype(np.int64)


def _write(axes: "Axes", cosines: Floats, scale: Scale) -> None:
    """Write every cosine in black or white, whichever stands out more."""
    from matplotlib.colors import to_hex

    for (row, column), cosine in np.ndenumerate(cosines):
        light = luminance(to_hex(scale.colours(float(scale.norm(cosine)))))
        axes.text(
            column, row, f"{cosine:.2f}".replace("-", "−").replace("0.", "."), ha="center",
            va="center", fontsize=SMALL, color="black" if light > 0.179 else "white",
        )  # fmt: skip


def _names(
    figure: "Figure", axes: "Axes", names: list[str], step: int, dark: bool
) -> tuple[float, float]:
    """Write names at the left and below; say what room that takes."""
    size = SMALL if len(names) <= WRITTEN else _CROWDED
    places = range(0, len(names), step)
    labels = [fitted(names[at], size, _NAME) for at in places]
    for axis, turned in ((axes.xaxis, 90), (axes.yaxis, 0)):
        axis.set_ticks(
            list(places), labels, fontsize=size, rotation=turned, parse_math=False,
            color=INK[dark],
        )  # fmt: skip
        axis.set_tick_params(length=0, pad=72 * _PAD)
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)
    left = measured(figure, axes.get_yticklabels())[:, 0].max()
    below = measured(figure, axes.get_xticklabels())[:, 1].max()
    return float(left) + 2 * _PAD + 0.1, float(below) + 2 * _PAD + 0.1


def _said(different: Floats, rows: int, step: int) -> str:
    said = f"cosines of {counted(rows, 'record')}"
    if rows > 1:
        mean = f"{different.mean():.3f}".replace("-", "−")
        said += f", mean of different ones {mean}"
    return said if step == 1 else f"{said}; one name in {step} is written"
