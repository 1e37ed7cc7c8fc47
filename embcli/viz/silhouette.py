"""Silhouettes of all records, cluster by cluster."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError, counted
from embcli.viz.colours import GROUND, INK, categorical, mix
from embcli.viz.figure import SMALL, TEXT, finite, fitted, number, save_figure, text_sizes
from embcli.viz.sheet import Margins, lay_out, new_sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# In inches.
_ACROSS = 5.5
_LEAST, _HIGH, _LINE = 2.2, 5.5, 0.15
_NAME, _GAP = 2.2, 0.1
# Of the height of the smallest cluster, between two.
_BETWEEN = 0.12
# More clusters are all of one colour, in two shades: their names stand beside them.
_COLOURED = 12


def silhouette_figure(
    values: ArrayLike,
    labels: ArrayLike,
    names: Sequence[str],
    path: str | os.PathLike[str],
    *,
    title: str = "",
    subtitle: str = "",
    dark: bool = False,
    extra: str = "plot",
    force: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> None:
    """Draw the silhouette of every record, from the greatest of its cluster to the least.

    Parameters
    ----------
    values : float array, shape (n,)
        From −1 to 1; NaN where it is not defined, which is in clusters of one. These are left out
        of the figure and of means, and counted above it.
    labels : int array, shape (n,)
        Which name is each record's; negative ones are noise, left out and counted.
    names : sequence of str
        Of the clusters, which are drawn in this order. Beside each are its mean and, if there
        is room, how many records it has. Clusters without records are left out.
    path : path
        A PNG, SVG or PDF file, by its ending; it appears when it is complete. The same values
        give the same bytes.
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
        There are not as many labels as values, one has no name, a value is not between −1 and 1,
        or no record is left.
    ModelError
        Matplotlib is not installed.
    """

    def draw() -> "Figure":
        return draw_silhouette(values, labels, names, title=title, subtitle=subtitle, dark=dark)

    save_figure(draw, path, extra=extra, force=force, note=note)


def draw_silhouette(
    values: ArrayLike,
    labels: ArrayLike,
    names: Sequence[str],
    *,
    title: str = "",
    subtitle: str = "",
    dark: bool = False,
) -> "Figure":
    """Make the figure that `silhouette_figure` writes.

    Raises
    ------
    InputError
    """
    known, of_row = _checked(values, labels, names)
    noise = int((np.asarray(labels) < 0).sum())
    alone = len(np.asarray(labels)) - noise - len(known)
    used = np.unique(of_row)
    parts = [np.sort(known[of_row == at])[::-1] for at in used.tolist()]
    figure, axes = new_sheet(dark)
    high = max(_LEAST, min(_HIGH, 0.6 * len(parts)), _LINE * len(parts))
    # Every cluster has a line's height at least, or its name would have none.
    heights = _heights(np.array([len(part) for part in parts]), high)
    _areas(axes, parts, heights, dark)
    mean = float(known.mean())
    axes.axvline(mean, color=INK[dark], linewidth=0.9, linestyle=(0, (4, 3)), zorder=3)
    texts = [fitted(names[at], SMALL, _NAME) for at in used.tolist()]
    said = [f"{_three(float(part.mean()))}  ({len(part):,})" for part in parts]
    below = _name(axes, texts, said, heights, dark)
    least = min(float(known.min()), 0.0)
    axes.set_xlim(least - 0.03, max(float(known.max()), 0.0) + 0.03)
    axes.set_ylim(float(heights.sum()), 0)
    lay_out(
        figure, axes, (_ACROSS, high),
        Margins(below[0] + 0.3, below[1] + 0.3, 0.55), title=title,
        said="; ".join(filter(None, [subtitle, _said(mean, known, len(parts), noise, alone)])),
        dark=dark,
    )  # fmt: skip
    axes.set_xlabel("silhouette", fontsize=TEXT, color=INK[dark])
    return figure


def _checked(values: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> tuple[Floats, Ints]:
    numbers = np.asarray(values, np.float64)
    of_row = np.asarray(labels)
    if numbers.ndim != 1 or of_row.shape != numbers.shape:
        raise InputError(
            f"silhouettes of shape {numbers.shape} and labels of shape {of_row.shape}: a figure "
            "takes one of each for every record"
        )
    if len(of_row) and of_row.max() >= len(names):
        raise InputError(f"a label is {of_row.max()}, and there are {counted(len(names), 'name')}")
    use = ~np.isnan(numbers) & (of_row >= 0)
    if not use.any():
        raise InputError("silhouettes: no record of a cluster has one")
    known: Floats = finite(numbers[use], "silhouettes")
    if np.abs(known).max() > 1 + 1e-6:
        raise InputError("silhouettes are between −1 and 1")
    return known, of_row[use].astype(np.int64)


def _heights(counts: Ints, high: float) -> Floats:
    """Share a height, in inches, among clusters by their sizes, none below a line of text."""
    heights = np.full(len(counts), _LINE)
    free = np.ones(len(counts), bool)
    while free.any():
        left = high - heights[~free].sum()
        wanted = left * counts / counts[free].sum()
        small = free & (wanted < _LINE)
        if not small.any():
            heights[free] = wanted[free]
            break
        free &= ~small
    return heights


def _areas(axes: "Axes", parts: list[Floats], heights: Floats, dark: bool) -> None:
    """Draw the silhouettes of clusters beneath each other, a step for each record."""
    colours = categorical(len(parts), dark)
    if len(parts) > _COLOURED:
        one = categorical(1, dark)[0]
        colours = [one, mix(one, GROUND[dark], 0.6)]
    tops = np.cumsum(heights) - heights
    for at, (part, top, high) in enumerate(zip(parts, tops, heights, strict=True)):
        gap = min(_BETWEEN * _LINE, 0.1 * high)
        edges = np.linspace(top + gap, top + high - gap, len(part) + 1)
        axes.stairs(
            part, edges, orientation="horizontal", fill=True, color=colours[at % len(colours)],
            linewidth=0,
        )  # fmt: skip
    axes.axvline(0, color=INK[dark], linewidth=0.6, zorder=2)


def _name(
    axes: "Axes", texts: list[str], said: list[str], heights: Floats, dark: bool
) -> tuple[float, float]:
    """Write names at the left, means and counts at the right; say what room that takes."""
    middles = np.cumsum(heights) - heights / 2
    axes.set_yticks(middles.tolist(), texts, fontsize=SMALL, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(number)
    for middle, text in zip(middles.tolist(), said, strict=True):
        axes.annotate(
            text, (1, middle), (6, 0), xycoords=axes.get_yaxis_transform(),
            textcoords="offset points", fontsize=SMALL, color=INK[dark], va="center",
            annotation_clip=False,
        )  # fmt: skip
    left, right = (
        float(text_sizes([text or " " for text in column], SMALL)[:, 0].max())
        for column in (texts, said)
    )
    return left, right


def _three(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def _said(mean: float, known: Floats, clusters: int, noise: int, alone: int) -> str:
    parts = [
        (
            f"mean {_three(mean)} (dashed) of {counted(len(known), 'record')} in "
            f"{counted(clusters, 'cluster')}"
        ),
        f"{(known < 0).mean():.0%} below 0",
    ]
    rest = [f"{noise:,} in no group"] if noise else []
    if alone:
        rest.append(f"{alone:,} alone in theirs")
    if rest:
        parts.append(f"{', '.join(rest)} {'is' if noise + alone == 1 else 'are'} left out")
    return "; ".join(parts)
