"""A fixed view of three dimensions, drawn in two."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.viz.colours import FAINT, GROUND, INK, mix, rgb
from embcli.viz.figure import TEXT, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

_ELEVATION, _AZIMUTH = np.deg2rad(22.0), np.deg2rad(-60.0)
# Of a colour, what remains at the far end.
_FOG = 0.5
_LONGEST = 40
# In points, between an edge and its title.
_ASIDE = 4
# In inches, for the titles of axes.
PAD = 0.35
# Corners of edges that have a title: the lower front one, the lower right one, the left one.
_TITLED = [((0, 0, 0), (1, 0, 0)), ((1, 0, 0), (1, 1, 0)), ((0, 0, 0), (0, 0, 1))]


class View(NamedTuple):
    """Points as seen from the front, to the right and a little above, without perspective.

    Attributes
    ----------
    points : float64 array, shape (n, 2)
    near : float64 array, shape (n,)
        From 0, far away, to 1.
    edges : float64 array, shape (9, 2, 2)
        Of the box around the points, those that are behind or below them.
    titled : float64 array, shape (3, 2, 2)
        The edges along which the titles of the axes stand.
    """

    points: Floats
    near: Floats
    edges: Floats
    titled: Floats

    def fogged(self, colours: Floats, dark: bool) -> Floats:
        """Let colours (n, 3) of what is far away fade into the ground."""
        share = (_FOG + (1 - _FOG) * self.near)[:, None]
        return share * colours + (1 - share) * rgb(GROUND[dark])


def look(points: Floats) -> View:
    """See points of shape (n, 3) in two dimensions."""
    ce, se, ca, sa = (
        function(angle) for angle in (_ELEVATION, _AZIMUTH) for function in (np.cos, np.sin)
    )
    screen = np.array([[-sa, ca, 0], [-se * ca, -se * sa, ce]]).T
    towards = np.array([ce * ca, ce * sa, se])
    low, high = points.min(axis=0), points.max(axis=0)
    depth = points @ towards
    reach = float(np.ptp(depth))
    near = (depth - depth.min()) / reach if reach > 0 else np.ones(len(points))
    corners = [np.array(corner) for corner in np.ndindex(2, 2, 2)]
    edges = [
        (one, other)
        for one in corners
        for other in corners
        # The nearest corner, and what leads to it, would be before the points.
        if (other - one).sum() == 1
        and np.abs(other - one).sum() == 1
        and not any((end == [1, 0, 1]).all() for end in (one, other))
    ]
    return View(
        points @ screen,
        near,
        (low + np.array(edges) * (high - low)) @ screen,
        (low + np.array(_TITLED) * (high - low)) @ screen,
    )


def draw_box(axes: "Axes", view: View, titles: list[str], dark: bool) -> None:
    """Draw the edges of the box behind the points, and the titles of its axes along three."""
    from matplotlib.collections import LineCollection

    line = mix(FAINT[dark], GROUND[dark], 0.45)
    axes.add_collection(
        LineCollection(list(view.edges), colors=line, linewidths=0.6, zorder=1), autolim=False
    )
    for title, (one, other), side in zip(titles, view.titled, (-1, -1, 1), strict=True):
        angle = np.arctan2(*(other - one)[::-1])
        aside = (-side * _ASIDE * np.sin(angle), side * _ASIDE * np.cos(angle))
        axes.annotate(
            shown(title, _LONGEST), (one + other) / 2, aside, textcoords="offset points",
            fontsize=TEXT, color=INK[dark], parse_math=False, ha="center",
            va="bottom" if side > 0 else "top", rotation=float(np.degrees(angle)),
            rotation_mode="anchor", annotation_clip=False,
        )  # fmt: skip
