"""Numbers as colours, and the bar beside a figure that says which is which."""

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError
from embcli.viz.colours import INK, neutral, rgb, sequential
from embcli.viz.figure import TEXT, fitted, number, text_sizes
from embcli.viz.sheet import EDGE, GAP, Sheet, dress

if TYPE_CHECKING:
    from matplotlib.colors import Colormap, Normalize

Floats = NDArray[np.float64]

# In inches.
_BAR, _LONG, _NUMBERS = 0.14, 3.0, 0.62
_WIDEST = 2.2
# From this skewness on, logarithms or square roots are drawn if theirs is half of it or less.
_SKEWED = 2.0


class Scale(NamedTuple):
    """How numbers become colours, and what the bar says of it."""

    norm: "Normalize"
    colours: "Colormap"
    title: str
    kind: Literal["", "square-root scale", "log scale"] = ""

    def of_rows(self, values: Floats, dark: bool) -> Floats:
        """Give red, green and blue of every value, float64 (n, 3); grey where it is NaN."""
        known = ~np.isnan(values)
        colours = np.tile(rgb(neutral(dark)), (len(values), 1))
        colours[known] = self.colours(np.asarray(self.norm(values[known])))[:, :3]
        return colours


def make_scale(values: ArrayLike, title: str, dark: bool) -> Scale:
    """Choose how numbers are shown as colours.

    Logarithms if all are positive, else square roots if none is negative, where that takes away
    most of a long tail; else the numbers as they are.

    Parameters
    ----------
    values : float array, shape (n,)
        NaN where there is none; some value at least.
    title : str
        What they are.
    dark : bool

    Raises
    ------
    InputError
        A value is infinite.
    """
    from matplotlib.colors import LogNorm, PowerNorm

    numbers = np.asarray(values, np.float64)
    if np.isinf(numbers).any():
        raise InputError(f"{title or 'values'}: a number is infinite")
    known = numbers[~np.isnan(numbers)]
    low, high = float(known.min()), float(known.max())
    if low > 0 and _tamed(known, np.log(known)):
        return Scale(LogNorm(low, high), colour_map(dark), title, "log scale")
    if low >= 0 and _tamed(known, np.sqrt(known)):
        return Scale(PowerNorm(0.5, 0, high), colour_map(dark), title, "square-root scale")
    return linear(low, high, title, dark)


def linear(low: float, high: float, title: str, dark: bool) -> Scale:
    """Make a scale of numbers as they are."""
    from matplotlib.colors import Normalize

    if low == high:
        # A bar needs a length.
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    return Scale(Normalize(low, high), colour_map(dark), title)


def colour_map(dark: bool) -> "Colormap":
    """Make Matplotlib's map of `sequential`."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("sequential", sequential(dark))


def bar_width(scale: Scale) -> float:
    """Measure what a bar of colours takes beside the box, in inches."""
    texts = [text for text in (fitted(scale.title, TEXT, _WIDEST), scale.kind) if text]
    named = float(text_sizes(texts, TEXT)[:, 0].max()) if texts else 0.0
    return GAP + max(_BAR + _NUMBERS, named) + EDGE


def draw_bar(sheet: Sheet, scale: Scale) -> None:
    """Draw a bar of colours beside the box, from its top, below its title."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.ticker import NullFormatter

    left, top = sheet.left + sheet.across + GAP, sheet.low + sheet.high
    name = fitted(scale.title, TEXT, _WIDEST)
    if name:
        sheet.write(name, left, top, TEXT, color=INK[sheet.dark])
        top -= 0.2
    if scale.kind:
        sheet.write(scale.kind, left, top)
        top -= 0.18
    top -= 0.1
    long = min(_LONG, top - sheet.low)
    axes = sheet.add_axes(left, top - long, _BAR, long)
    bar = sheet.figure.colorbar(
        ScalarMappable(scale.norm, scale.colours), cax=axes, ticks=_ticks(scale)
    )
    dress(axes, sheet.dark)
    bar.outline.set_visible(False)
    axes.yaxis.set_major_formatter(number)
    axes.yaxis.set_minor_formatter(NullFormatter())


def _ticks(scale: Scale) -> list[float] | None:
    """Choose what is written beside a bar of logarithms: 1, 2 and 5 of every power of ten."""
    low, high = scale.norm.vmin, scale.norm.vmax
    if scale.kind != "log scale" or low is None or high is None:
        return None
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    leading = (1, 2, 5) if len(powers) <= 5 else (1,)
    every = -(-len(powers) // 8)
    ticks = [float(f"{digit}e{power}") for power in powers[::every] for digit in leading]
    return [tick for tick in ticks if low <= tick <= high]


def _tamed(values: Floats, changed: Floats) -> bool:
    before = _skewness(values)
    return before > _SKEWED and abs(_skewness(changed)) <= before / 2


def _skewness(values: Floats) -> float:
    centred = values - values.mean()
    spread = float(centred.std())
    return float((centred**3).mean()) / spread**3 if spread > 0 else 0.0
