"""Points of a map: where they are on the sheet, how large, in which order."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

# More points are an image in an SVG or PDF file, where each takes 600 bytes.
RASTERIZED = 3_000
# Diameters in points (1/72 inch), and how opaque points are.
_THIN, _THICK = 0.9, 6.5
_FAINTEST, _FULL = 0.25, 0.9
# In inches: cells that tell how much of the map is filled, and room around what is outermost.
_CELL, _PAD = 0.12, 0.12


class Fit(NamedTuple):
    """Where a box of the sheet begins in the data, how much of them an inch is, and its size."""

    low: Floats
    unit: float
    box: tuple[float, float]

    def inches(self, points: Floats) -> Floats:
        """Give places in the box."""
        return (points - self.low) / self.unit

    def data(self, inches: Floats) -> Floats:
        """Give what is at places in the box."""
        return self.low + inches * self.unit

    def apply(self, axes: "Axes") -> None:
        """Set the limits of axes that are as large as the box."""
        high = self.data(np.array(self.box))
        axes.set_xlim(self.low[0], high[0])
        axes.set_ylim(self.low[1], high[1])


def check_points(points: ArrayLike, name: str = "points", flat: bool = False) -> Floats:
    """Give coordinates as float64.

    Raises
    ------
    InputError
        There is none, they are not of two or three numbers (`flat`: of two), or one is not finite.
    """
    places = np.asarray(points, np.float64)
    if places.ndim != 2 or places.shape[1] not in ((2,) if flat else (2, 3)):
        wanted = "two numbers each" if flat else "two or three numbers each"
        raise InputError(f"{name}: a map takes {wanted}, and got shape {places.shape}")
    if not len(places):
        raise InputError(f"{name}: a map takes at least one record")
    if not np.isfinite(places).all():
        raise InputError(f"{name}: not all numbers are finite")
    return places


def fit(points: Floats, size: tuple[float, float], least: float, pad: float = _PAD) -> Fit:
    """Choose a box for points (n, 2): as large as `size` allows, no side below `least` inches."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = high - low
    room = np.maximum(np.array(size), least) - 2 * pad
    # Squares overflow where numbers are huge, and nothing is left of tiny ones.
    scale = float(span.max()) or 1.0
    unit = scale * float((span / scale / room).max()) or 1.0
    box = np.maximum(span / unit + 2 * pad, least)
    return Fit((low + high) / 2 - box * unit / 2, unit, (float(box[0]), float(box[1])))


def draw_points(
    axes: "Axes",
    points: Floats,
    where: Fit,
    colours: Floats,
    *,
    grey: NDArray[np.bool_] | None = None,
    order: NDArray[np.int64] | None = None,
    seed: int = 0,
    near: Floats | None = None,
    size: tuple[float, float] | None = None,
) -> None:
    """Draw points, the smaller and thinner the more of them are in a place.

    Parameters
    ----------
    axes : Axes
    points : float64 array, shape (n, 2)
    where : Fit
    colours : float64 array, shape (n, 3)
    grey : bool array, shape (n,), optional
        Those that lie below all others.
    order : int64 array, shape (n,), optional
        Rows, the lowest first. Without, a random order, so that no group hides another.
    seed : int
        Of that order.
    near : float64 array, shape (n,), optional
        From 0, far away, to 1: farther ones are smaller.
    size : tuple of float, optional
        Diameter and opacity, as `density` gives them, if not those of the points themselves.
    """
    diameter, opaque = size or density(where.inches(points), where.box)
    if order is None:
        order = np.random.default_rng(seed).permutation(len(points))
        if grey is not None:
            order = order[np.argsort(~grey[order], kind="stable")]
    sizes = np.full(len(points), diameter**2)
    if near is not None:
        sizes *= (0.65 + 0.7 * near) ** 2
    axes.scatter(
        points[order, 0], points[order, 1], s=sizes[order], c=colours[order], alpha=opaque,
        linewidths=0, clip_on=False, zorder=2, rasterized=len(points) > RASTERIZED,
    )  # fmt: skip


def density(inches: Floats, box: tuple[float, float]) -> tuple[float, float]:
    """Choose a diameter, in points, and an opacity, by how much of the map is filled.

    Points that were spread evenly over the cells where some are would just touch, unless they are
    in so few cells that they could not be seen; where they cover each other they are thinner.
    """
    cells = np.unique(np.floor(inches / _CELL).astype(np.int64), axis=0)
    filled = len(cells) * (72 * _CELL) ** 2
    diameter = float(np.clip(0.85 * np.sqrt(filled / len(inches)), _THIN, _THICK))
    visible = 0.22 * 72 * np.sqrt(box[0] * box[1] / len(inches))
    diameter = max(diameter, min(visible, _THICK), _THICK / len(cells))
    ink = len(inches) * np.pi / 4 * diameter**2 / filled
    return diameter, float(np.clip(_FULL / np.sqrt(max(ink, 1.0)), _FAINTEST, _FULL))
