"""Where names stand in a map: at the densest place of what they name, beside each other."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embcli.viz.cloud import Fit
from embcli.viz.colours import FAINT, GROUND

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.text import Text

Floats = NDArray[np.float64]

# Members of a group whose densities are compared.
_SAMPLE = 400
# Of Scott's rule, which is for one hill; groups have several.
_NARROW = 0.4
# In inches: between texts, between rings of places that are tried, and how far they may be.
_APART, _RING, _FAR = 0.04, 0.08, 1.6
_DIRECTIONS = 24
# Cells in which there are points or not, in inches; what to cover all of a name's cells costs,
# and any of them.
_CELL, _COVER, _COVER_ANY = 0.05, 0.6, 0.15
# Places that are tried at once.
_CHUNK = 64
# Of a line, the shortest.
_LINE = 0.1


def densest(points: Floats, seed: int = 0) -> Floats:
    """Find the member of a group about which most of the group is.

    Unlike the mean it is a place of the group, however that is bent. Densities are a Gaussian
    kernel's, in a sample of at most 400 members.

    Parameters
    ----------
    points : float64 array, shape (n, d)
        At least one.
    seed : int
        Of the sample.

    Returns
    -------
    place : float64 array, shape (d,)
    """
    if len(points) > _SAMPLE:
        points = points[np.random.default_rng(seed).choice(len(points), _SAMPLE, replace=False)]
    width = _NARROW * float(points.std(axis=0).mean()) * len(points) ** (-1 / 6)
    if not width > 0:
        first: Floats = points[0]
        return first
    square = ((points[:, None] - points) ** 2).sum(axis=2)
    place: Floats = points[int(np.argmax(np.exp(-square / (2 * width**2)).sum(axis=1)))]
    return place


def place_names(
    anchors: Floats, sizes: Floats, box: tuple[float, float], points: Floats, *,
    clear: float | None = None,
) -> Floats:  # fmt: skip
    """Find a free place for every name, in turn: those that come first are nearest.

    Of the places where a name touches no other one and stays within the box, it gets the one with
    the least distance to its anchor and the fewest points below it.

    Parameters
    ----------
    anchors : float64 array, shape (n, 2)
        Where names belong, in inches from the lower left of the box.
    sizes : float64 array, shape (n, 2)
        Widths and heights of the names, in inches.
    box : tuple of float
        Width and height.
    points : float64 array, shape (m, 2)
        All that is drawn, in inches.
    clear : float, optional
        Points have this radius, and no name may cover one. Without, a name may lie on them.

    Returns
    -------
    centres : float64 array, shape (n, 2)
        Of the names; NaN where there is no free place at most 1.6 inches away.
    """
    angles = 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    rounds = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rings = np.arange((clear or 0) + _APART, _FAR, _RING)
    sums = _covered(points, box)
    centres = np.full_like(anchors, np.nan)
    taken = np.zeros((0, 4))
    if clear is not None:
        taken = np.hstack([points - clear, points + clear])
    for at, (anchor, size) in enumerate(zip(anchors, sizes, strict=True)):
        half = size / 2 + _APART
        # A name touches its ring with the side or corner that is next to the anchor.
        offsets = (rings[:, None, None] * rounds + rounds.round(12) * half).reshape(-1, 2)
        if clear is None:
            near = np.array([0.0, 0.3, 0.6, 1.0])[:, None, None] * rounds * half
            offsets = np.concatenate([near.reshape(-1, 2), offsets])
        tried = anchor + offsets
        boxes = np.hstack([tried - half, tried + half])
        within = np.flatnonzero(np.all((boxes[:, :2] >= 0) & (boxes[:, 2:] <= box), axis=1))
        offsets, tried, boxes = offsets[within], tried[within], boxes[within]
        away = np.linalg.norm(np.maximum(np.abs(offsets) - size / 2, 0), axis=1)
        below = _share(sums, boxes)
        cost = away + 0.1 * np.linalg.norm(offsets, axis=1) + _COVER * below
        cost += _COVER_ANY * (below > 0)
        best = _first_free(boxes, np.argsort(cost, kind="stable"), taken)
        if best is not None:
            centres[at] = tried[best]
            taken = np.concatenate([taken, boxes[best][None]])
    return centres


def _first_free(boxes: Floats, order: NDArray[np.int64], taken: Floats) -> int | None:
    """Find the first of boxes (n, 4) in an order that overlaps none of those taken (m, 4)."""
    if not len(boxes):
        return None
    reached = (taken[:, 2:] > boxes[:, :2].min(axis=0)) & (taken[:, :2] < boxes[:, 2:].max(axis=0))
    taken = taken[reached.all(axis=1)]
    for start in range(0, len(order), _CHUNK):
        some = order[start : start + _CHUNK]
        tried = boxes[some, None]
        apart = (tried[..., :2] >= taken[:, 2:]) | (tried[..., 2:] <= taken[:, :2])
        free = np.flatnonzero(np.all(apart.any(axis=2), axis=1))
        if len(free):
            return int(some[free[0]])
    return None


def _covered(points: Floats, box: tuple[float, float]) -> Floats:
    """Sum up, from the lower left, in how many cells there are points."""
    cells = np.ceil(np.array(box) / _CELL).astype(np.int64) + 1
    filled = np.zeros(cells + 1)
    at = np.clip(np.floor(points / _CELL).astype(np.int64), 0, cells - 1)
    filled[at[:, 0] + 1, at[:, 1] + 1] = 1
    sums: Floats = filled.cumsum(axis=0).cumsum(axis=1)
    return sums


def _share(sums: Floats, boxes: Floats) -> Floats:
    """Say which share of each box (n, 4) has points below it."""
    left, low = np.floor(boxes[:, :2] / _CELL).astype(np.int64).T
    right, high = np.floor(boxes[:, 2:] / _CELL).astype(np.int64).T + 1
    inside = sums[right, high] - sums[left, high] - sums[right, low] + sums[left, low]
    share: Floats = inside / ((right - left) * (high - low))
    return share


def write_names(
    axes: "Axes",
    where: Fit,
    texts: Sequence[str],
    anchors: Floats,
    centres: Floats,
    sizes: Floats,
    *,
    colours: Sequence[str],
    size: float,
    dark: bool,
) -> None:
    """Write names where `place_names` has put them, with a line from those that are not near.

    Names without a place are left out. `anchors`, `centres` and `sizes` are in inches.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.patheffects import Stroke

    half = sizes / 2
    apart = np.abs(anchors - centres) - half
    led = np.flatnonzero(np.max(apart, axis=1) > _LINE)
    # A line ends at the side of the name.
    ends = centres[led] + (anchors - centres)[led] * np.min(
        half[led] / np.maximum(np.abs(anchors - centres)[led], 1e-9), axis=1, keepdims=True
    )
    lines = np.stack([where.data(anchors[led]), where.data(ends)], axis=1)
    halo = Stroke(linewidth=2, foreground=GROUND[dark], alpha=0.8)
    axes.add_collection(
        LineCollection(
            list(lines), colors=FAINT[dark], linewidths=0.7, zorder=4, capstyle="round",
            path_effects=[halo, Stroke(linewidth=0.7)],
        ),
        autolim=False,
    )  # fmt: skip
    for text, colour, (x, y) in zip(texts, colours, where.data(centres).tolist(), strict=True):
        if not np.isnan(x):
            name = _haloed(GROUND[dark])(
                x, y, text, ha="center", va="center", fontsize=size, color=colour, zorder=5,
                linespacing=1.05, parse_math=False, transform=axes.transData, clip_on=False,
            )  # fmt: skip
            axes.add_artist(name)


@cache
def _haloed(ground: str) -> "type[Text]":
    """Make texts whose halos are all below their letters.

    With a path effect, the halo of a line covers what reaches down from the line above.
    """
    from matplotlib.patheffects import Normal, Stroke
    from matplotlib.text import Text

    halo = Stroke(linewidth=3.2, foreground=ground, alpha=0.9)

    class Haloed(Text):
        def draw(self, renderer: "RendererBase") -> None:
            for effect in (halo, Normal()):
                self.set_path_effects([effect])
                super().draw(renderer)

    return Haloed
