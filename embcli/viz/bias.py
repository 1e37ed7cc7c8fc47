"""Words along the direction of a bias, before and after it was removed."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError, counted
from embcli.viz.figure import (
    SMALL,
    TEXT,
    TITLE,
    bare,
    measured,
    new_figure,
    number,
    save_figure,
    shown,
    title_lines,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In inches.
_WIDTH = 8.0
_LEFT, _RIGHT = 1.45, 0.4
_HEIGHT = 2.6
_LINE = 0.15
_STEM = 0.28
_PAD = 0.06
# Of the longest projection.
_BEYOND = 1.06
_LONGEST, _LONGEST_END = 30, 22
# As shares of the longest projection: what is at zero but for rounding, and what to the eye.
_ZERO = 1e-6
_VISIBLE = 0.03


def projection_figure(
    words: Sequence[str],
    before: ArrayLike,
    after: ArrayLike,
    path: str | os.PathLike[str],
    *,
    title: str,
    positive: str,
    negative: str,
    labelled: int = 10,
    force: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> None:
    """Draw where words lie along a direction, before above and after below, joined by lines.

    Parameters
    ----------
    words : sequence of str, n of them
    before, after : float array, shape (n,)
        Their projections on the direction.
    path : path
        A PNG, SVG or PDF file, by its ending; it appears when it is complete. The same words give
        the same bytes.
    title : str
    positive, negative : str
        What words are like that lie far on that side.
    labelled : int
        How many words on each side to name, the outermost: above those of before, below those of
        after that are not at zero to the eye. The figure is as wide as that takes.
    force : bool
        Replace a file that is there.
    note : callable
        Told if characters cannot be shown.

    Raises
    ------
    UsageError
        The ending is another one, a file is there, or the system refuses to write.
    InputError
        There are no words, as many numbers as words are needed, or a number is not finite.
    ModelError
        Matplotlib is not installed.
    """

    def draw() -> "Figure":
        return draw_projections(
            words, before, after, title=title, positive=positive, negative=negative,
            labelled=labelled,
        )  # fmt: skip

    save_figure(draw, path, extra="debias", force=force, note=note)


def draw_projections(
    words: Sequence[str],
    before: ArrayLike,
    after: ArrayLike,
    *,
    title: str,
    positive: str,
    negative: str,
    labelled: int = 10,
) -> "Figure":
    """Make the figure that `projection_figure` writes.

    Raises
    ------
    InputError
    """
    rows = _checked(words, before, after)
    reach = float(np.abs(rows).max()) or 1.0
    named = [
        _outermost(values, labelled, share * reach)
        for values, share in zip(rows, (_ZERO, _VISIBLE), strict=True)
    ]
    marks = [_marks(words, *both, _ZERO * reach) for both in zip(rows, named, strict=True)]
    across = max(_WIDTH - _LEFT - _RIGHT, _LINE * max(map(len, marks)))
    lines = title_lines(title, across)
    figure = new_figure()
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-_BEYOND * reach, _BEYOND * reach)
    axes.set_ylim(0, 1)
    _points(axes, rows, sorted({*named[0], *named[1]}))
    inch = 2 * _BEYOND * reach / across
    labels = [
        _label(axes, of_row, height, inch) for of_row, height in zip(marks, (1, 0), strict=True)
    ]
    room = [_room(figure, of_row) for of_row in labels]
    _frame(figure, axes, across, room, len(lines))
    _names(axes, rows, room[1], positive, negative)
    axes.set_title(
        "\n".join(lines), fontsize=TITLE, loc="left", pad=72 * (room[0] + 2 * _PAD),
        parse_math=False,
    )  # fmt: skip
    return figure


def _checked(words: Sequence[str], before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    rows = [np.asarray(values, np.float64) for values in (before, after)]
    for name, values in zip(("before", "after"), rows, strict=True):
        if values.shape != (len(words),):
            raise InputError(
                f"{len(words):,} words and an array of shape {values.shape} for {name}: a figure "
                "takes a number for each word"
            )
        if not np.isfinite(values).all():
            raise InputError(f"the projection {name} is not finite for all words")
    if not len(words):
        raise InputError("a figure takes at least one word")
    return np.stack(rows)


def _outermost(values: NDArray[np.float64], count: int, least: float) -> list[int]:
    """Choose so many words a side, from left to right; none nearer to zero than `least`."""
    order = np.argsort(values, kind="stable")
    left = [int(row) for row in order[:count] if values[row] < -least]
    right = [int(row) for row in order[::-1][:count] if values[row] > least]
    return left + right[::-1]


def _spread(wanted: NDArray[np.float64], gap: float, reach: float) -> NDArray[np.float64]:
    """Move rising positions as little as can be, so that they lie `gap` apart within ±reach.

    Least squares: isotonic regression, by pooling neighbours, of positions less what the gaps
    before them take.
    """
    steps = gap * np.arange(len(wanted))
    blocks: list[tuple[float, int]] = []
    for value in (wanted - steps).tolist():
        mean, size = value, 1
        while blocks and blocks[-1][0] >= mean:
            before, count = blocks.pop()
            mean = (before * count + mean * size) / (count + size)
            size += count
        blocks.append((mean, size))
    pooled = np.repeat([mean for mean, _ in blocks], [size for _, size in blocks])
    spread: NDArray[np.float64] = np.clip(pooled, -reach, reach - steps[-1]) + steps
    return spread


def _marks(
    words: Sequence[str], values: NDArray[np.float64], named: list[int], zero: float
) -> list[tuple[float, str]]:
    """Say what to write where, from left to right: words, and how many of them are at zero."""
    marks = [(float(values[row]), _phrase(words[row], _LONGEST)) for row in named]
    at_zero = int((np.abs(values) <= zero).sum())
    if at_zero:
        marks.insert(
            sum(place < 0 for place, _ in marks), (0.0, f"{counted(at_zero, 'word')} at 0")
        )
    return marks


def _phrase(word: str, longest: int) -> str:
    """Write a word of a vocabulary, in which underscores join phrases: new_york."""
    return shown(word.replace("_", " "), longest)


def _points(axes: "Axes", rows: NDArray[np.float64], named: list[int]) -> None:
    """Draw every word's two points and the line between them, darker for those with a name."""
    from matplotlib.collections import LineCollection

    lines = np.stack([rows, np.broadcast_to([[1.0], [0.0]], rows.shape)], axis=-1).swapaxes(0, 1)
    dark = np.isin(np.arange(len(lines)), named)
    for which, color, width in ((~dark, "0.75", 0.5), (dark, "0.35", 0.7)):
        axes.add_collection(LineCollection(list(lines[which]), colors=color, linewidths=width))
    for height, values in zip((1.0, 0.0), rows, strict=True):
        axes.plot(
            values, np.full(len(values), height), "o", color="black", markersize=3.2,
            markeredgewidth=0, clip_on=False, zorder=3,
        )  # fmt: skip
    axes.axvline(0, color="black", linewidth=0.8, linestyle=(0, (4, 3)), zorder=2)


def _label(axes: "Axes", marks: list[tuple[float, str]], height: int, inch: float) -> list[Any]:
    """Write texts upright beyond their points and beside each other; `inch` is one of data."""
    if not marks:
        return []
    wanted = np.array([place for place, _ in marks])
    places = _spread(wanted, _LINE * inch, float(axes.get_xlim()[1]))
    return [
        axes.annotate(
            text,
            xy=(place, height),
            xytext=(moved, 72 * (_STEM if height else -_STEM)),
            textcoords=("data", "offset points"),
            rotation=90,
            rotation_mode="anchor",
            ha="left" if height else "right",
            va="center",
            fontsize=SMALL,
            parse_math=False,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "linewidth": 0.5, "color": "0.35", "shrinkA": 0, "shrinkB": 2,
                "relpos": (0.5, 0 if height else 1),
            },
        )
        for (place, text), moved in zip(marks, places.tolist(), strict=True)
    ]  # fmt: skip


def _room(figure: "Figure", labels: list[Any]) -> float:
    """Measure what labels take beyond the points, in inches."""
    return _STEM + float(measured(figure, labels)[:, 1].max()) if labels else _STEM / 2


def _frame(figure: "Figure", axes: "Axes", across: float, room: list[float], lines: int) -> None:
    """Make the figure as large as it must be, and put the axis below all labels."""
    above, below = room
    bottom, top = below + 0.85, above + 0.3 + 0.2 * lines
    width, height = _LEFT + across + _RIGHT, bottom + _HEIGHT + top
    figure.set_size_inches(width, height)
    axes.set_position((_LEFT / width, bottom / height, across / width, _HEIGHT / height))
    bare(axes, "left", "right", "top")
    axes.spines["bottom"].set_position(("outward", 72 * (below + _PAD)))
    axes.set_yticks([])
    # Not with a power of ten written beside the axis, where its end has its name.
    axes.xaxis.set_major_formatter(number)


def _names(
    axes: "Axes", rows: NDArray[np.float64], below: float, positive: str, negative: str
) -> None:
    """Name the two rows, the axis and its ends."""

    def write(
        text: str, place: tuple[float, float], offset: tuple[float, float], **how: Any
    ) -> None:
        axes.annotate(
            text, xy=place, xytext=offset, xycoords="axes fraction", textcoords="offset points",
            fontsize=TEXT, parse_math=False, **how,
        )  # fmt: skip

    for name, values, height in zip(("before", "after"), rows, (1, 0), strict=True):
        text = f"{name}\nmean |x| {np.abs(values).mean():.3g}"
        write(text, (0, height), (-8, 0), ha="right", va="center")
    down = -72 * (below + _PAD) - 22
    write(f"← {_phrase(negative, _LONGEST_END)}", (0, 0), (0, down), ha="left", va="top")
    write(f"{_phrase(positive, _LONGEST_END)} →", (1, 0), (0, down), ha="right", va="top")
    write("projection on the bias direction, x", (0.5, 0), (0, down - 16), ha="center", va="top")
