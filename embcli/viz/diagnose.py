"""The health of a space on one page: its spectrum, cosines, hubs and norms."""

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
    finite,
    new_figure,
    number,
    save_figure,
    shown,
    title_lines,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

# In inches.
_WIDTH, _HEIGHT = 4.3, 2.4
_LEFT, _RIGHT, _ABOVE, _BELOW = 0.85, 0.35, 0.65, 0.6
_LINE, _BOTTOM = 0.17, 0.1
# Of hubs: how many are named, and how long their names are.
_HUBS, _LONGEST = 5, 56
_BINS = 60
# Norms that differ by less, as a share of the greatest, are the same.
_SAME = 1e-3
# Above a curve, where its mark has its name, as a share of the height.
_ROOM = 0.18
_BAR, _MARK = "0.6", "tab:red"


def health_figure(
    path: str | os.PathLike[str],
    *,
    title: str,
    spectrum: ArrayLike,
    rank: float,
    cosines: ArrayLike,
    occurrences: ArrayLike,
    norms: ArrayLike,
    hubs: Sequence[tuple[str, int]] = (),
    mean_cosine: float | None = None,
    extra: str = "separability",
    force: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> None:
    """Draw a space's spectrum, the cosines of its pairs, its hubs and its norms.

    Parameters
    ----------
    path : path
        A PNG, SVG or PDF file, by its ending; it appears when it is complete. The same numbers
        give the same bytes.
    title : str
    spectrum : float array, shape (dim,)
        Variances along the principal components, the greatest first, as shares of which they are
        drawn. Those of 0 have no place on a logarithmic axis, and are counted.
    rank : float
        The effective rank, which is marked.
    cosines : float array, shape (pairs,)
        Of all pairs of different vectors, or of a sample.
    occurrences : int array, shape (n,)
        How often each vector is among the k nearest of another. Drawn is which share of vectors
        comes up at least so often, beside what that would be (Poisson) if chance chose
        neighbours.
    norms : float array, shape (n,)
        A sentence instead of a histogram if they are all the same.
    hubs : sequence of (str, int)
        Names of the vectors that come up most, and how often: the first five are listed.
    mean_cosine : float, optional
        Of all pairs, which is marked; else the mean of those that are given.
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
        An array is empty or not finite; a variance, count or norm is negative; no vector is a
        neighbour of another.
    ModelError
        Matplotlib is not installed.
    """

    def draw() -> "Figure":
        return draw_health(
            title=title, spectrum=spectrum, rank=rank, cosines=cosines, occurrences=occurrences,
            norms=norms, hubs=hubs, mean_cosine=mean_cosine,
        )  # fmt: skip

    save_figure(draw, path, extra=extra, force=force, note=note)


def draw_health(
    *,
    title: str,
    spectrum: ArrayLike,
    rank: float,
    cosines: ArrayLike,
    occurrences: ArrayLike,
    norms: ArrayLike,
    hubs: Sequence[tuple[str, int]] = (),
    mean_cosine: float | None = None,
) -> "Figure":
    """Make the figure that `health_figure` writes.

    Raises
    ------
    InputError
    """
    variances, counts, lengths = (
        _not_negative(values, name)
        for values, name in ((spectrum, "spectrum"), (occurrences, "occurrences"), (norms, "norms"))
    )
    pairs: Floats = finite(cosines, "cosines")
    if not counts.any():
        raise InputError("occurrences: no vector is a neighbour of another")
    for value, name in ((rank, "effective rank"), (mean_cosine or 0.0, "mean cosine")):
        finite(value, name, ())
    lines = title_lines(title, 2 * _WIDTH)
    named = [f"{count:,} × {shown(name, _LONGEST)}" for name, count in hubs[:_HUBS]]
    figure = new_figure()
    panels = _panels(figure, len(lines), len(named))
    _spectrum(panels[0], variances, rank)
    _cosines(panels[1], pairs, float(pairs.mean()) if mean_cosine is None else mean_cosine)
    _occurrences(panels[2], counts, named, [count for _, count in hubs[:_HUBS]])
    _norms(panels[3], lengths)
    width, height = figure.get_size_inches()
    figure.text(
        0.1 / width, 1 - 0.1 / height, "\n".join(lines), fontsize=TITLE, va="top", parse_math=False
    )
    return figure


def _not_negative(values: ArrayLike, name: str) -> Floats:
    array: Floats = finite(values, name)
    if array.min() < 0:
        raise InputError(f"{name}: a number is negative")
    return array


def _panels(figure: "Figure", title: int, hubs: int) -> list["Axes"]:
    """Place four panels, with room below for the lines that name hubs."""
    pitch = _ABOVE + _HEIGHT + _BELOW
    top, bottom = 0.15 + 0.2 * title, _BOTTOM + _LINE * (hubs + 1 if hubs else 0)
    width, height = 2 * (_LEFT + _WIDTH + _RIGHT), top + 2 * pitch + bottom
    figure.set_size_inches(width, height)
    panels = []
    for row, column in np.ndindex(2, 2):
        left = column * width / 2 + _LEFT
        low = height - top - (row + 1) * pitch + _BELOW
        panels.append(
            figure.add_axes(
                (left / width, low / height, _WIDTH / width, _HEIGHT / height),
                label=f"{row} {column}",
            )
        )
        bare(panels[-1])
    return panels


def _head(axes: "Axes", name: str, finding: str, x: str, y: str) -> None:
    """Write what a panel shows, what there is to see, and what its axes are."""
    how: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(name, (0, 1), (0, 22), fontsize=TEXT, weight="bold", va="bottom", **how)
    axes.annotate(finding, (0, 1), (0, 8), fontsize=SMALL, color="0.35", va="bottom", **how)
    axes.set_xlabel(x, fontsize=SMALL)
    axes.set_ylabel(y, fontsize=SMALL)


def _mark(axes: "Axes", place: float, text: str) -> None:
    """Draw an upright line and name it above all curves, towards the middle."""
    axes.axvline(place, color=_MARK, linewidth=1.0, linestyle=(0, (4, 3)))
    low, high = axes.get_xlim()
    left = place < (low + high) / 2
    axes.annotate(
        text, (place, 0.98), (4 if left else -4, 0), xycoords=axes.get_xaxis_transform(),
        textcoords="offset points", ha="left" if left else "right", va="top", fontsize=SMALL,
        color=_MARK,
    )  # fmt: skip


def _instead(axes: "Axes", text: str) -> None:
    """Write a sentence where there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0, 1.0, text, fontsize=TEXT, va="top", transform=axes.transAxes)


def _spectrum(axes: "Axes", variances: Floats, rank: float) -> None:
    ordered = np.sort(variances)[::-1]
    dim, total = len(ordered), ordered.sum()
    if not total:
        _head(axes, "Spectrum", "", "", "")
        return _instead(axes, "all vectors are equal: there is no variance")
    shares = ordered / total
    half = int(np.searchsorted(np.cumsum(shares), 0.5)) + 1
    none = int((ordered == 0).sum())
    axes.set_yscale("log")
    _plain(axes.yaxis)
    axes.plot(np.arange(1, dim - none + 1), shares[: dim - none], ".-", color="black",
              linewidth=1.0, markersize=3 if dim > 50 else 6)  # fmt: skip
    low, high = axes.get_ylim()
    low = min(low, high / 10)
    axes.set_ylim(low, high * (high / low) ** _ROOM)
    axes.set_xlim(0, 1.02 * max(dim, 2))
    _mark(axes, rank, f"effective rank {number(round(rank, 1))} of {dim:,}")
    finding = f"half of the variance in {counted(half, 'component')}"
    if none:
        finding += f"; {none:,} of {dim:,} have none"
    _head(axes, "Spectrum", finding, "principal component", "share of variance")


def _cosines(axes: "Axes", cosines: Floats, mean: float) -> None:
    low, high = np.quantile(cosines, [0.025, 0.975])
    _histogram(axes, cosines)
    axes.axvline(0, color="0.35", linewidth=0.6)
    _mark(axes, mean, f"mean {number(round(mean, 3))}")
    finding = (
        f"95% from {number(round(low, 3))} to {number(round(high, 3))}; "
        f"{counted(len(cosines), 'pair')}"
    )
    _head(axes, "Cosines of pairs", finding, "cosine", "pairs")


def _occurrences(axes: "Axes", counts: Floats, named: list[str], hubs: list[int]) -> None:
    n, k, most = len(counts), counts.mean(), counts.max()
    ordered = np.sort(counts)
    values = np.unique(ordered[ordered > 0])
    shares = 1 - np.searchsorted(ordered, values) / n
    chance = by_chance(float(k), n)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain(axes.xaxis, axes.yaxis)
    axes.plot(np.arange(1, len(chance) + 1), chance, color="0.6", linewidth=1.0,
              linestyle=(0, (4, 3)), label=f"by chance ({k:.4g} on average)")  # fmt: skip
    axes.plot(values, shares, ".-", color="black", linewidth=1.0, markersize=4, label="found")
    if hubs:
        tail = 1 - np.searchsorted(ordered, hubs) / n
        axes.plot(hubs, tail, "*", color=_MARK, markersize=9, label="listed below")
    axes.set_xlim(0.8, 1.3 * max(most, 10))
    axes.set_ylim(0.5 / n, 2)
    axes.legend(loc="lower left", fontsize=SMALL, frameon=False)
    finding = (
        f"{(counts == 0).mean():.1%} are nobody's neighbour; one is a neighbour of {most:,.0f}"
    )
    _head(axes, "k-occurrence", finding, "neighbour of at least so many", "share of vectors")
    if named:
        axes.annotate(
            "\n".join(["comes up most:", *named]), (0, 0), (0, -72 * _BELOW + 8),
            xycoords="axes fraction", textcoords="offset points", fontsize=SMALL, va="top",
            parse_math=False,
        )  # fmt: skip


def by_chance(k: float, n: int) -> Floats:
    """Give the shares of n vectors that come up at least 1, 2, … times if chance chooses.

    The tail of a Poisson distribution of mean k, as far as it is half a vector or more.
    """
    reach = int(k + 20 * np.sqrt(k) + 40)
    steps = np.log(k) - np.log(np.arange(1, reach + 1))
    chances = np.exp(np.cumsum(steps) - k)
    tail = np.cumsum(chances[::-1])[::-1]
    return np.asarray(tail[tail >= 0.5 / n])


def _norms(axes: "Axes", norms: Floats) -> None:
    n, low, high, median = len(norms), norms.min(), norms.max(), float(np.median(norms))
    if high - low <= _SAME * high:
        _head(axes, "Norms", "", "", "")
        return _instead(
            axes, f"all {counted(n, 'vector')} have norm {number(float(f'{median:.4g}'))}"
        )
    _histogram(axes, norms)
    _mark(axes, median, f"median {number(float(f'{median:.3g}'))}")
    zeros = int((norms == 0).sum())
    finding = f"from {low:.3g} to {high:.3g}; {counted(n, 'vector')}"
    if zeros:
        finding += f", {zeros:,} of zeros only"
    _head(axes, "Norms", finding, "norm", "vectors")


def _plain(*logarithmic: "Axis") -> None:
    """Write plain numbers at powers of ten only."""
    from matplotlib.ticker import NullFormatter

    for axis in logarithmic:
        axis.set_major_formatter(number)
        axis.set_minor_formatter(NullFormatter())


def _histogram(axes: "Axes", values: Floats) -> None:
    low, high = values.min(), values.max()
    if low == high:
        low, high = low - 0.5, high + 0.5
    heights, edges = np.histogram(values, bins=_BINS, range=(low, high))
    axes.stairs(heights, edges, fill=True, color=_BAR)
    axes.set_xlim(low - 0.02 * (high - low), high + 0.02 * (high - low))
    axes.set_ylim(0, heights.max() * (1 + _ROOM))
    axes.xaxis.set_major_formatter(number)
    axes.yaxis.set_major_formatter(lambda count, place: f"{count:,.0f}")
