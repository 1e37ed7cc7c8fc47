"""A graph of near neighbours, as drawn."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError, counted
from embcli.viz.cloud import Fit, check_points, fit
from embcli.viz.colours import FAINT, GROUND, INK, mix
from embcli.viz.figure import SMALL, fitted, save_figure, shown, text_sizes
from embcli.viz.groups import grouped, legend_entries, readable
from embcli.viz.labels import place_names, write_names
from embcli.viz.sheet import (
    Margins,
    draw_legend,
    lay_out,
    legend_height,
    legend_width,
    new_sheet,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# In inches.
SIZE = (7.0, 6.0)
_LARGEST, _GROWTH = 16.0, 1.25
_LEAST, _PAD = 3.0, 0.35
_NAME = 1.8
# More names are those of the nodes with the most edges only.
_NAMED = 150
# In points.
_NODE, _SMALL_NODE = 6.0, 3.0
_THIN, _THICK = 0.35, 2.6
# Rounds of the layout.
_ROUNDS = 300


def graph_figure(
    points: ArrayLike | None,
    edges: ArrayLike,
    weights: ArrayLike,
    names: Sequence[str],
    path: str | os.PathLike[str],
    *,
    groups: Sequence[str | None] | None = None,
    title: str = "",
    subtitle: str = "",
    weight_title: str = "cosine",
    dark: bool = False,
    seed: int = 0,
    extra: str = "plot",
    force: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> None:
    """Draw records as nodes and which of them are near each other as lines.

    Parameters
    ----------
    points : float array, shape (n, 2), or None
        Where nodes are. Without, they are placed by `spring_layout`.
    edges : int array, shape (m, 2)
        Rows that are joined; those given both ways are drawn once, those to themselves not.
    weights : float array, shape (m,)
        Of the edges, such as cosines: the greater, the thicker and darker.
    names : sequence of str, n of them
        All are written up to 150, else those of the nodes with the most edges; the figure grows
        until they have room.
    path : path
        A PNG, SVG or PDF file, by its ending; it appears when it is complete. The same graph
        gives the same bytes.
    groups : sequence of str or None, n of them, optional
        As which nodes are coloured.
    title, subtitle : str
    weight_title : str
        What weights are.
    dark : bool
    seed : int
        Of the layout.
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
        There is no node; points, weights or groups are not as many as are needed; an edge has no
        such row; a number is not finite.
    ModelError
        Matplotlib is not installed.
    """

    def draw() -> "Figure":
        return draw_graph(
            points, edges, weights, names, groups=groups, title=title, subtitle=subtitle,
            weight_title=weight_title, dark=dark, seed=seed,
        )  # fmt: skip

    save_figure(draw, path, extra=extra, force=force, note=note)


def draw_graph(
    points: ArrayLike | None,
    edges: ArrayLike,
    weights: ArrayLike,
    names: Sequence[str],
    *,
    groups: Sequence[str | None] | None = None,
    title: str = "",
    subtitle: str = "",
    weight_title: str = "cosine",
    dark: bool = False,
    seed: int = 0,
) -> "Figure":
    """Make the figure that `graph_figure` writes.

    Raises
    ------
    InputError
    """
    pairs, strengths = _edges(edges, weights, len(names))
    places = (
        spring_layout(len(names), pairs, strengths, seed=seed)
        if points is None
        else check_points(points, flat=True)
    )
    if len(places) != len(names):
        raise InputError(f"{counted(len(places), 'point')} of {counted(len(names), 'name')}")
    of_rows = None if groups is None else grouped(groups, len(names), dark)
    entries = [] if of_rows is None else legend_entries(of_rows, dark)
    named = _named(pairs, len(names))
    texts = [fitted(names[at], SMALL, _NAME) for at in named.tolist()]
    sizes = text_sizes([text or " " for text in texts], SMALL)
    diameter = _NODE if len(names) <= _NAMED else _SMALL_NODE
    where, centres = _roomy(places, named, sizes, diameter, legend_height(len(entries)))
    figure, axes = new_sheet(dark)
    axes.set_axis_off()
    where.apply(axes)
    _lines(axes, places, pairs, strengths, dark)
    plain = grouped([""] * len(names), len(names), dark)
    axes.scatter(
        places[:, 0], places[:, 1], s=diameter**2, c=(of_rows or plain).of_rows(dark),
        linewidths=0.8, edgecolors=GROUND[dark], clip_on=False,
        # Above the lines to names, below names.
        zorder=4.5,
    )  # fmt: skip
    colours = [INK[dark]] * len(texts)
    if of_rows is not None:
        shades = [*(readable(colour, dark) for colour in of_rows.colours), INK[dark]]
        colours = [shades[at] for at in of_rows.of_row[named].tolist()]
    write_names(
        axes, where, texts, where.inches(places[named]), centres, sizes, colours=colours,
        size=SMALL, dark=dark,
    )  # fmt: skip
    unwritten = len(names) - len(texts) + int(np.isnan(centres[:, 0]).sum())
    said = [subtitle, _said(len(names), strengths, weight_title, unwritten)]
    sheet = lay_out(
        figure, axes, where.box, Margins(right=max(0.15, legend_width([t for _, t in entries]))),
        title=title, said="; ".join(filter(None, said)), dark=dark,
    )  # fmt: skip
    if entries:
        draw_legend(sheet, entries)
    return figure


def spring_layout(
    nodes: int, edges: NDArray[np.int64], weights: ArrayLike, *, seed: int = 0
) -> Floats:
    """Place nodes so that those which are joined are near each other, and others are not.

    Fruchterman and Reingold's forces: nodes repel each other by the inverse of their distance,
    edges pull by its square times their weight; a weak pull to the middle keeps parts that
    nothing joins together. Steps become shorter with every round.

    Parameters
    ----------
    nodes : int
    edges : int array, shape (m, 2)
    weights : float array, shape (m,)
    seed : int
        Of where nodes begin.

    Returns
    -------
    points : float64 array, shape (nodes, 2)

    Notes
    -----
    A round costs O(nodes²): meant for some hundred nodes.

    References
    ----------
    Fruchterman and Reingold (1991), Graph Drawing by Force-directed Placement.
    """
    points = np.random.default_rng(seed).normal(size=(nodes, 2)) * np.sqrt(nodes) / 2
    pulls = np.asarray(weights, np.float64)
    pulls = np.clip(pulls / max(float(np.abs(pulls).max(initial=0)), 1e-12), 0.05, 1)
    one, other = edges.T
    for step in np.linspace(1, 0.01, _ROUNDS).tolist():
        apart = points[:, None] - points
        square = (apart**2).sum(axis=2) + 1e-4
        forces = (apart / square[..., None]).sum(axis=1) - 0.05 * points
        along = points[one] - points[other]
        drawn = along * (pulls * np.linalg.norm(along, axis=1))[:, None]
        for axis in (0, 1):
            forces[:, axis] -= np.bincount(one, drawn[:, axis], nodes)
            forces[:, axis] += np.bincount(other, drawn[:, axis], nodes)
        lengths = np.maximum(np.linalg.norm(forces, axis=1, keepdims=True), 1e-12)
        points = points + forces / lengths * np.minimum(lengths, step)
    placed: Floats = points
    return placed


def _edges(edges: ArrayLike, weights: ArrayLike, nodes: int) -> tuple[Ints, Floats]:
    """Give every pair once, with its greatest weight, weakest first."""
    if not nodes:
        raise InputError("a graph takes at least one node")
    pairs = np.asarray(edges).reshape(-1, 2) if np.size(edges) == 0 else np.asarray(edges)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InputError(f"edges are two rows each, not of shape {pairs.shape}")
    strengths = np.asarray(weights, np.float64)
    if strengths.shape != (len(pairs),) or not np.isfinite(strengths).all():
        raise InputError(f"{counted(len(pairs), 'edge')} take a finite number each as weight")
    if len(pairs) and not (pairs.min() >= 0 and pairs.max() < nodes):
        raise InputError(f"an edge is of a row that is none of {nodes:,}")
    pairs = np.sort(pairs.astype(np.int64), axis=1)
    use = pairs[:, 0] < pairs[:, 1]
    pairs, strengths = pairs[use], strengths[use]
    order = np.lexsort((-strengths, pairs[:, 1], pairs[:, 0]))
    pairs, strengths = pairs[order], strengths[order]
    new = np.ones(len(pairs), bool)
    new[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    pairs, strengths = pairs[new], strengths[new]
    weakest = np.argsort(strengths, kind="stable")
    return pairs[weakest], strengths[weakest]


def _named(pairs: Ints, nodes: int) -> Ints:
    """Choose whose names are written: of those with the most edges."""
    degrees = np.bincount(pairs.ravel(), minlength=nodes)
    return np.argsort(-degrees, kind="stable")[:_NAMED]


def _roomy(
    points: Floats, named: Ints, sizes: Floats, diameter: float, least: float
) -> tuple[Fit, Floats]:
    """Let the box grow until every name has a place, or it is as large as can be."""
    size = np.array(SIZE)
    while True:
        where = fit(points, (float(size[0]), float(size[1])), max(least, _LEAST), _PAD)
        inches = where.inches(points)
        centres = place_names(inches[named], sizes, where.box, inches, clear=diameter / 144)
        if not np.isnan(centres).any() or size.max() * _GROWTH > _LARGEST:
            return where, centres
        size = size * _GROWTH


def _lines(axes: "Axes", points: Floats, pairs: Ints, strengths: Floats, dark: bool) -> None:
    """Draw edges, strong ones over weak ones."""
    from matplotlib.collections import LineCollection

    if not len(pairs):
        return
    low, high = float(strengths[0]), float(strengths[-1])
    shares = (strengths - low) / (high - low) if high > low else np.ones(len(strengths))
    axes.add_collection(
        LineCollection(
            list(points[pairs]),
            linewidths=_THIN + (_THICK - _THIN) * shares**1.5,
            colors=[mix(FAINT[dark], GROUND[dark], 0.25 + 0.6 * s) for s in shares.tolist()],
            capstyle="round",
            zorder=1,
        ),
        autolim=False,
    )


def _said(nodes: int, strengths: Floats, weight_title: str, unwritten: int) -> str:
    said = f"{counted(nodes, 'node')}, {counted(len(strengths), 'edge')}"
    if len(strengths):
        low, high = (f"{value:.2f}".replace("-", "−") for value in strengths[[0, -1]].tolist())
        said += f", thicker by {shown(weight_title, 30)} ({low} to {high})"
    return f"{said}; {unwritten:,} names have no room" if unwritten else said
