"""Which classes are taken for which, as a map of all pairs."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError, ModelError, counted
from embcli.viz.figure import (
    SMALL,
    TEXT,
    TITLE,
    finite,
    measured,
    new_figure,
    save_figure,
    shown,
    title_lines,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Up to so many classes, their counts are written and cells are as large as that takes.
COUNTED = 20
# More have no name each.
NAMED = 160
# In inches.
_CELL, _DIGIT = 0.42, 0.065
_LINE = 0.125
_LEAST, _NARROWEST = 2.4, 5.0
_PAD = 0.08
_BAR = 0.16
# In points.
_CROWDED = 6.5
_LONGEST = 40
# From this share on, white has the greater contrast.
_DARK = 0.512
_SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


def confusion_figure(
    names: Sequence[str],
    counts: ArrayLike,
    path: str | os.PathLike[str],
    *,
    title: str,
    ordered: bool = True,
    extra: str = "separability",
    force: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> None:
    """Draw for each class, in a row, what its records were taken for.

    Parameters
    ----------
    names : sequence of str, C of them
        Of the classes, 2 or more. Above `NAMED` every second, third, … is written only, which
        the figure says.
    counts : int array, shape (C, C)
        How many records of the class of the row were taken for that of the column. Colours are
        shares of the row, on a scale of square roots, which shows rare confusions; up to
        `COUNTED` classes the counts are written, too. Beside a row is its recall.
    path : path
        A PNG, SVG or PDF file, by its ending; it appears when it is complete. The same counts
        give the same bytes.
    title : str
    ordered : bool
        Put classes that are confused beside each other (`confused_order`); else as they come.
    extra : str
        Of embcli's, the one that Matplotlib and SciPy come with.
    force : bool
        Replace a file that is there.
    note : callable
        Told if characters cannot be shown.

    Raises
    ------
    UsageError
        The ending is another one, a file is there, or the system refuses to write.
    InputError
        There are fewer than two classes, not as many rows and columns as names, no records, or a
        number is negative or not finite.
    ModelError
        Matplotlib is not installed, or SciPy, which finds the order.
    """

    def draw() -> "Figure":
        try:
            return draw_confusion(names, counts, title=title, ordered=ordered)
        except ImportError as error:
            raise ModelError(
                "the order of classes takes SciPy, which is not installed",
                hint=f"pip install 'embcli[{extra}]'",
            ) from error

    save_figure(draw, path, extra=extra, force=force, note=note)


def draw_confusion(
    names: Sequence[str], counts: ArrayLike, *, title: str, ordered: bool = True
) -> "Figure":
    """Make the figure that `confusion_figure` writes.

    Raises
    ------
    InputError
    """
    matrix = _checked(names, counts)
    order = confused_order(matrix) if ordered else np.arange(len(names))
    matrix = matrix[np.ix_(order, order)]
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    cell = _cell(matrix)
    figure = new_figure()
    axes = figure.add_axes((0, 0, 1, 1))
    scale = _heat(axes, shares, cell)
    if len(matrix) <= COUNTED:
        _write_counts(axes, matrix, shares)
    step = -(-len(names) // NAMED)
    recalls = [
        _share(*of_class) for of_class in zip(np.diagonal(matrix), matrix.sum(axis=1), strict=True)
    ]
    room = _names(figure, axes, [names[at] for at in order], recalls, step)
    side = cell * len(matrix)
    lines = title_lines(title, max(side, _NARROWEST - 0.5))
    _frame(figure, axes, side, room, scale, lines, _said(matrix, step))
    return figure


def confused_order(counts: ArrayLike) -> Ints:
    """Order classes so that those which are confused are neighbours.

    Hierarchical clustering by average linkage, pairs the nearer the greater the mean share of
    records of either that were taken for the other, with the leaves in optimal order (so far as
    there are at most `NAMED`, beyond which that takes long).

    Parameters
    ----------
    counts : int array, shape (C, C)
        How many records of the class of the row were taken for that of the column.

    Returns
    -------
    order : int64 array, shape (C,)
    """
    from scipy.cluster.hierarchy import (
        leaves_list,
        linkage,
    )
    from scipy.spatial.distance import squareform

    matrix = np.asarray(counts, np.float64)
    if len(matrix) < 3:
        return np.arange(len(matrix))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    apart = 1 - (shares + shares.T) / 2
    np.fill_diagonal(apart, 0)
    tree = linkage(
        squareform(apart, checks=False), "average", optimal_ordering=len(matrix) <= NAMED
    )
    return np.asarray(leaves_list(tree), np.int64)


def _checked(names: Sequence[str], counts: ArrayLike) -> Floats:
    if len(names) < 2:
        raise InputError(f"{counted(len(names), 'class')}: confusions take at least two classes")
    matrix: Floats = finite(counts, "counts of confusions", (len(names), len(names)))
    if matrix.min() < 0 or not matrix.any():
        raise InputError("counts of confusions are not negative, and some are above 0")
    return matrix


def _cell(matrix: Floats) -> float:
    """Choose how large a cell is, in inches."""
    n = len(matrix)
    if n > COUNTED:
        return _LINE * min(1.0, NAMED / n)
    return max(_CELL, _LEAST / n, _DIGIT * (len(f"{matrix.max():,.0f}") + 1))


def _heat(axes: "Axes", shares: Floats, cell: float) -> "Normalize":
    from matplotlib.colors import PowerNorm

    scale = PowerNorm(0.5, 0, 1)
    axes.imshow(shares, cmap="Blues", norm=scale, aspect="auto", interpolation="nearest")
    if cell >= _LINE:
        between, ends = np.arange(len(shares) - 1) + 0.5, (-0.5, len(shares) - 0.5)
        axes.hlines(between, *ends, colors="0.85", linewidths=0.3)
        axes.vlines(between, *ends, colors="0.85", linewidths=0.3)
    return scale


def _write_counts(axes: "Axes", matrix: Floats, shares: Floats) -> None:
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            axes.text(
                column, row, f"{count:,.0f}", ha="center", va="center", fontsize=SMALL,
                color="white" if shares[row, column] >= _DARK else "black",
            )  # fmt: skip


def _names(
    figure: "Figure", axes: "Axes", names: list[str], recalls: list[str], step: int
) -> tuple[float, float, float]:
    """Write names at the left and below, recalls at the right; say what room that takes."""
    size = SMALL if len(names) <= COUNTED else _CROWDED
    places = range(0, len(names), step)
    labels = [shown(names[at], _LONGEST) for at in places]
    for axis, turned in ((axes.xaxis, 90), (axes.yaxis, 0)):
        axis.set_ticks(list(places), labels, fontsize=size, rotation=turned, parse_math=False)
        axis.set_tick_params(length=0, pad=72 * _PAD / 2)
    beside: dict[str, Any] = {
        "xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "fontsize": size,
        "ha": "left", "va": "center", "annotation_clip": False,
    }  # fmt: skip
    written = [axes.annotate(recalls[at], (1, at), (72 * _PAD, 0), **beside) for at in places]
    heading = axes.annotate(
        "recall", (1, 1), (72 * _PAD, 72 * _PAD / 2), xycoords="axes fraction",
        textcoords="offset points", fontsize=size, ha="left", va="bottom", color="0.35",
    )  # fmt: skip
    right = measured(figure, [*written, heading])[:, 0].max()
    left = measured(figure, axes.get_yticklabels())[:, 0].max()
    below = measured(figure, axes.get_xticklabels())[:, 1].max()
    return float(left), float(below), float(right)


def _share(right: float, total: float) -> str:
    """Write a share, which is 100 % if it is all of them only."""
    if not total:
        return "–"
    return f"{right / total if right == total else min(right / total, 0.99):.0%}"


def _said(matrix: Floats, step: int) -> str:
    total, right = matrix.sum(), np.trace(matrix)
    said = (
        f"{right:,.0f} of {counted(int(total), 'record')} of {len(matrix):,} classes right "
        f"({right / total:.1%})"
    )
    return said if step == 1 else f"{said}; one name in {step} is written"


def _frame(
    figure: "Figure",
    axes: "Axes",
    side: float,
    room: tuple[float, float, float],
    scale: "Normalize",
    title: list[str],
    said: str,
) -> None:
    """Make the figure as large as it must be, with a bar of colours at the right."""
    from matplotlib.cm import ScalarMappable

    left, below, right = (inches + 2 * _PAD for inches in room)
    left, below = left + 0.3, below + 0.25
    top = 0.65 + 0.2 * len(title)
    bar = left + side + right + 0.15
    width, height = max(bar + _BAR + 0.75, _NARROWEST), below + side + top
    figure.set_size_inches(width, height)
    axes.set_position((left / width, below / height, side / width, side / height))
    long = min(side, 3.0)
    low = below + side - long
    colours = figure.add_axes((bar / width, low / height, _BAR / width, long / height))
    drawn = figure.colorbar(ScalarMappable(scale, "Blues"), cax=colours, ticks=list(_SHARES))
    drawn.set_ticklabels([f"{share:.0%}" for share in _SHARES], fontsize=SMALL)
    colours.set_title("of the row", fontsize=SMALL, loc="left")

    def write(text: str, x: float, y: float, size: float, **how: Any) -> None:
        figure.text(x / width, y / height, text, fontsize=size, parse_math=False, **how)

    write("taken for", left + side / 2, 0.1, TEXT, ha="center", va="bottom")
    write("class", 0.1, below + side / 2, TEXT, ha="left", va="center", rotation=90)
    write(said, 0.1, height - top + 0.35, TEXT, ha="left", va="bottom", color="0.35")
    write("\n".join(title), 0.1, height - 0.1, TITLE, ha="left", va="top")
