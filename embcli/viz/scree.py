"""How much of the variance each principal component explains."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError, counted
from embcli.viz.colours import FAINT, GROUND, INK, categorical
from embcli.viz.figure import SMALL, TEXT, finite, save_figure, text_sizes
from embcli.viz.sheet import Margins, lay_out, new_sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# In inches.
_BOX = (6.5, 3.4)
_MARGINS = Margins(left=0.95, right=0.8, below=0.55)
_APART = 0.08
_SHARES = (0.5, 0.8, 0.9)
# More components than this have no bar each, but an outline.
_BARS = 120
# A linear axis does not show what is smaller than this share of the largest.
_SMALL = 1 / 50
_NOTHING = 1e-5
# Up to so many components, each has its number.
_TICKS = 12


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
    # Not `twinx`, which would write the components twice.
    right = figure.add_axes((0, 0, 1, 1), label="sums", facecolor="none")
    places = np.arange(1, len(shares) + 1)
    _bars(axes, places, shares, log, dark)
    _sums(right, places, sums, log, dark)
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


def _bars(axes: "Axes", places: Ints, shares: Floats, log: bool, dark: bool) -> None:
    from matplotlib.ticker import MaxNLocator, NullFormatter

    colour = categorical(1, dark)[0]
    low, high = 0.0, float(shares.max())
    if log:
        # Shares of rounding are not drawn.
        low = 0.7 * float(shares[shares > _NOTHING * high].min())
        axes.set_xscale("log")
        axes.set_yscale("log")
    if len(shares) <= _BARS and not log:
        axes.bar(places, shares, width=0.8, color=colour, linewidth=0)
    else:
        edges = np.append(places - 0.5, places[-1] + 0.5)
        axes.stairs(np.maximum(shares, low), edges, baseline=low, fill=True, color=colour)
    axes.set_xlim(0.5, len(shares) + 0.5)
    axes.set_ylim(low, high * (1.6 if log else 1.08))
    if len(shares) <= _TICKS:
        axes.set_xticks(places.tolist())
    elif not log:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(lambda value, place: f"{value:,.0f}" if value >= 1 else "")
    axes.yaxis.set_major_formatter(_percent)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("component", fontsize=TEXT, color=INK[dark])
    axes.set_ylabel("variance explained", fontsize=TEXT, color=INK[dark])


def _sums(axes: "Axes", places: Ints, sums: Floats, log: bool, dark: bool) -> None:
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log" if log else "linear")
    axes.xaxis.set_major_locator(NullLocator())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0.5, len(sums) + 0.5)
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
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


def _mark(axes: "Axes", places: Ints, sums: Floats, reached: list[int], dark: bool) -> None:
    """Mark where the sum reaches shares, each text on the side of the line where there is room."""
    from matplotlib.patheffects import withStroke

    by_place: dict[int, list[str]] = {}
    for at, share in zip(reached, _SHARES, strict=False):
        by_place.setdefault(at, []).append(f"{share:.0%}")
    for at, said in by_place.items():
        place, height = float(places[at]), float(sums[at])
        axes.plot(place, height, "o", color=INK[dark], markersize=4.5, zorder=4)
        axes.plot(
            [place, place], [0, height], color=FAINT[dark], linewidth=0.7,
            linestyle=(0, (4, 3)), zorder=1,
        )  # fmt: skip
        text = f"{', '.join(said)} with {int(places[at]):,}"
        x, _ = axes.transData.transform((place, height))
        room = (axes.bbox.x1 - x) / axes.figure.dpi
        rightwards = room > float(text_sizes([text], SMALL)[0, 0]) + 2 * _APART
        axes.annotate(
            text, (place, height), (6 if rightwards else -6, -4 if rightwards else 5),
            textcoords="offset points", ha="left" if rightwards else "right",
            va="top" if rightwards else "bottom", fontsize=SMALL, color=INK[dark], zorder=5,
            path_effects=[withStroke(linewidth=2.5, foreground=GROUND[dark])],
        )  # fmt: skip


def _percent(value: float, place: object = None) -> str:
    return f"{100 * value:.3g}%"
