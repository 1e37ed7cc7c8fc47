"""How much of the variance each principal component explains."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError, counted
from embcli.viz.colours import FAINT, INK, categorical
from embcli.viz.figure import SMALL, TEXT, finite, save_figure, text_sizes
from embcli.viz.sheet import Margins, lay_out, new_sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

# In inches.
_BOX = (6.5, 3.4)
_MARGINS = Margins(left=0.7, right=0.75, below=0.55)
_APART = 0.08
_SHARES = (0.5, 0.8, 0.9)
# More components than this have no bar each, but an outline.
_BARS = 120
# A linear axis does not show what is smaller than this share of the largest.
_SMALL = 1 / 50


def scree_figure(
    variance_ratio: ArrayLike,
    path: str | os.PathLike[str],
    *,
    title: str = "",
    subtitle: str = "",
    log: bool | None = None,
    dark: bool = False,
    extra: str = "plot",
    force: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> None:
    """Draw the share of the variance that each component explains, and their sum so far.

    Parameters
    ----------
    variance_ratio : float array, shape (components,)
        Shares of the whole variance, the greatest first; their sum is less than 1 where
        components are missing. How many components it takes for 50, 80 and 90 % is marked where
        that is reached.
    path : path
        A PNG, SVG or PDF file, by its ending; it appears when it is complete. The same shares
        give the same bytes.
    title, subtitle : str
    log : bool, optional
        A logarithmic axis of components and bars. Without: where more than half of the bars would
        be less than a fiftieth as high as the first.
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
        There is no component, a share is negative or not finite, or their sum is 0 or above 1.
    ModelError
        Matplotlib is not installed.
    """

    def draw() -> "Figure":
        return draw_scree(variance_ratio, title=title, subtitle=subtitle, log=log, dark=dark)

    save_figure(draw, path, extra=extra, force=force, note=note)


def draw_scree(
    variance_ratio: ArrayLike,
    *,
    title: str = "",
    subtitle: str = "",
    log: bool | None = None,
    dark: bool = False,
) -> "Figure":
    """Make the figure that `scree_figure` writes.

    Raises
    ------
    InputError
    """
    shares: Floats = finite(variance_ratio, "shares of variance")
    total = float(shares.sum())
    if shares.min() < 0 or not 0 < total < 1 + 1e-6:
        raise InputError("shares of variance are not negative, and their sum is at most 1")
    if log is None:
        log = len(shares) > 10 and bool(np.median(shares) < _SMALL * shares[0])
    sums = np.minimum(np.cumsum(shares), 1.0)
    figure, axes = new_sheet(dark)
    right = axes.twinx()
    places = np.arange(1, len(shares) + 1)
    _bars(axes, places, shares, log, dark)
    _sums(right, places, sums, dark)
    reached = [
        int(np.searchsorted(sums, share - 1e-9)) for share in _SHARES if total > share - 1e-9
    ]
    said = f"{counted(len(shares), 'component')} explain{'s' * (len(shares) == 1)} {total:.1%}"
    lay_out(
        figure, axes, _BOX, _MARGINS, title=title,
        said="; ".join(filter(None, [subtitle, said])), dark=dark,
    )  # fmt: skip
    right.set_position(axes.get_position())
    _mark(right, places, sums, reached, dark)
    return figure


def _bars(axes: "Axes", places: NDArray[np.int64], shares: Floats, log: bool, dark: bool) -> None:
    from matplotlib.ticker import NullFormatter

    colour = categorical(1, dark)[0]
    low = 0.0
    if log:
        low = 0.7 * float(shares[shares > 0].min())
        axes.set_xscale("log")
        axes.set_yscale("log")
    if len(shares) <= _BARS and not log:
        axes.bar(places, shares, width=0.8, color=colour, linewidth=0)
    else:
        edges = np.append(places - 0.5, places[-1] + 0.5)
        axes.stairs(np.maximum(shares, low), edges, baseline=low, fill=True, color=colour)
    axes.set_xlim(0.5, len(shares) + 0.5)
    axes.set_ylim(low, float(shares.max()) * (1.6 if log else 1.08))
    axes.xaxis.set_major_formatter(lambda value, place: f"{value:,.0f}" if value >= 1 else "")
    axes.yaxis.set_major_formatter(_percent)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    if not log:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("component", fontsize=TEXT, color=INK[dark])
    axes.set_ylabel("variance explained", fontsize=TEXT, color=INK[dark])


def _sums(axes: "Axes", places: NDArray[np.int64], sums: Floats, dark: bool) -> None:
    axes.plot(
        places, sums, color=categorical(4, dark)[3], linewidth=1.6, zorder=3,
        marker="o" if len(sums) <= 30 else None, markersize=3.5, markeredgewidth=0,
    )  # fmt: skip
    axes.set_ylim(0, 1.04)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(_percent)
    axes.tick_params(labelsize=SMALL, colors=FAINT[dark], labelcolor=INK[dark])
    axes.set_ylabel("sum so far", fontsize=TEXT, color=INK[dark])
    for side in ("top", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["right"].set_color(FAINT[dark])


def _mark(
    axes: "Axes", places: NDArray[np.int64], sums: Floats, reached: list[int], dark: bool
) -> None:
    """Mark where the sum reaches shares, each text on the side of the line that is free."""
    to_inch = axes.transData.transform
    dpi = axes.figure.dpi
    for at, share in zip(reached, _SHARES, strict=False):
        place, height = float(places[at]), float(sums[at])
        axes.plot(place, height, "o", color=INK[dark], markersize=4.5, zorder=4)
        axes.plot(
            [place, place], [0, height], color=FAINT[dark], linewidth=0.7,
            linestyle=(0, (4, 3)), zorder=1,
        )  # fmt: skip
        text = f"{share:.0%} with {int(places[at]):,}"
        wide = text_sizes([text], SMALL)[0, 0]
        room = (axes.bbox.x1 - to_inch((place, height))[0]) / dpi
        rightwards = room > wide + 2 * _APART
        axes.annotate(
            text, (place, height), (6 if rightwards else -6, -4 if rightwards else 5),
            textcoords="offset points", ha="left" if rightwards else "right",
            va="top" if rightwards else "bottom", fontsize=SMALL, color=INK[dark], zorder=5,
        )  # fmt: skip


def _percent(value: float, place: object = None) -> str:
    return f"{100 * value:.3g} %"
