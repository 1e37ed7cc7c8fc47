"""The tree of a hierarchical clustering."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.errors import InputError, ModelError, counted
from embcli.viz.colours import FAINT, INK
from embcli.viz.figure import SMALL, TEXT, finite, fitted, number, save_figure, text_sizes
from embcli.viz.groups import Groups, grouped, legend_entries, readable
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

# More leaves are drawn as the last merges, with how many records are below each.
LEAVES = 200
_TRUNCATED = 100
# In inches.
_ACROSS, _LINE, _LEAST = 5.0, 0.15, 1.5
_NAME = 3.0
# SciPy draws a leaf in the middle of ten units.
_UNITS = 10.0


def dendrogram_figure(
    linkage: ArrayLike,
    names: Sequence[str],
    path: str | os.PathLike[str],
    *,
    groups: Sequence[str | None] | None = None,
    title: str = "",
    subtitle: str = "",
    distance_title: str = "distance",
    dark: bool = False,
    extra: str = "plot",
    force: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> None:
    """Draw which records are merged at which distance, leaves at the right.

    Parameters
    ----------
    linkage : float array, shape (n - 1, 4)
        As SciPy's `linkage` gives it.
    names : sequence of str, n of them, 2 or more
        Above 200 the last hundred merges are drawn, and of each branch below them how many
        records it has, with the name of the first.
    path : path
        A PNG, SVG or PDF file, by its ending; it appears when it is complete. The same tree gives
        the same bytes.
    groups : sequence of str or None, n of them, optional
        Names and branches have the colour of the group that all records below them are in.
    title, subtitle : str
    distance_title : str
        What the numbers in the third column are.
    dark : bool
    extra : str
        Of embcli's, the one that Matplotlib and SciPy come with.
    force : bool
        Replace a file that is there.
    note : callable
        Told if characters cannot be shown.

    Raises
    ------
    UsageError
        The ending is another one, a file is there, or the system refuses to write.
    InputError
        There are fewer than two names, not as many merges or groups as they take, or the merges
        are not a tree.
    ModelError
        Matplotlib or SciPy is not installed.
    """

    def draw() -> "Figure":
        try:
            return draw_dendrogram(
                linkage, names, groups=groups, title=title, subtitle=subtitle,
                distance_title=distance_title, dark=dark,
            )  # fmt: skip
        except ImportError as error:
            raise ModelError(
                "dendrograms take SciPy, which is not installed",
                hint=f"pip install 'embcli[{extra}]'",
            ) from error

    save_figure(draw, path, extra=extra, force=force, note=note)


def draw_dendrogram(
    linkage: ArrayLike,
    names: Sequence[str],
    *,
    groups: Sequence[str | None] | None = None,
    title: str = "",
    subtitle: str = "",
    distance_title: str = "distance",
    dark: bool = False,
) -> "Figure":
    """Make the figure that `dendrogram_figure` writes.

    Raises
    ------
    InputError
    """
    merges = _checked(linkage, names)
    of_rows = None if groups is None else grouped(groups, len(names), dark)
    nodes = _node_colours(merges, of_rows, dark)
    tree = _tree(merges, nodes)
    first = _first(merges)
    leaves: list[int] = tree["leaves"]
    texts = [_leaf(names, merges, first, leaf) for leaf in leaves]
    texts = [fitted(text, SMALL, _NAME) for text in texts]
    entries = [] if of_rows is None else legend_entries(of_rows, dark)
    high = max(_LINE * len(leaves), _LEAST, legend_height(len(entries)))
    figure, axes = new_sheet(dark)
    _draw(axes, tree, len(leaves), float(merges[:, 2].max()))
    for at, (leaf, text) in enumerate(zip(leaves, texts, strict=True)):
        colour = INK[dark] if of_rows is None else readable(nodes[leaf], dark)
        axes.annotate(
            text, (1, _UNITS * (at + 0.5)), (4, 0), xycoords=axes.get_yaxis_transform(),
            textcoords="offset points", fontsize=SMALL, color=colour, va="center",
            parse_math=False, annotation_clip=False,
        )  # fmt: skip
    axes.set_xlabel(
        fitted(distance_title, TEXT, _ACROSS), fontsize=TEXT, color=INK[dark], parse_math=False
    )
    wide = float(text_sizes(texts, SMALL)[:, 0].max()) + 0.1
    right = wide + max(0.2, legend_width([text for _, text in entries]))
    sheet = lay_out(
        figure, axes, (_ACROSS, high), Margins(0.25, right, 0.55), title=title,
        said="; ".join(filter(None, [subtitle, _said(len(names), len(leaves))])), dark=dark,
    )  # fmt: skip
    if entries:
        draw_legend(sheet._replace(across=sheet.across + wide), entries)
    return figure


def _checked(linkage: ArrayLike, names: Sequence[str]) -> Floats:
    if len(names) < 2:
        raise InputError(f"{counted(len(names), 'record')}: a tree takes at least two")
    merges: Floats = finite(linkage, "linkage", (len(names) - 1, 4))
    nodes = merges[:, :2]
    before = len(names) + np.arange(len(merges))[:, None]
    tree = np.array_equal(np.sort(nodes.ravel()), np.arange(2 * len(merges)))
    if not tree or (nodes >= before).any() or (merges[:, 2] < 0).any():
        raise InputError("linkage: each row merges two that are there and not merged yet")
    return merges


def _node_colours(merges: Floats, groups: Groups | None, dark: bool) -> list[str]:
    """Give the colour of every node, leaves first: of its records' group if that is one."""
    plain = FAINT[dark]
    if groups is None:
        return [plain] * (2 * len(merges) + 1)
    of_node = groups.of_row.tolist()
    for one, other in merges[:, :2].astype(np.int64).tolist():
        of_node.append(of_node[one] if of_node[one] == of_node[other] else -1)
    return [groups.colours[at] if at >= 0 else plain for at in of_node]


def _tree(merges: Floats, nodes: list[str]) -> dict[str, Any]:
    from scipy.cluster.hierarchy import dendrogram

    many = len(merges) + 1 > LEAVES
    how = {"truncate_mode": "lastp", "p": _TRUNCATED} if many else {}
    tree: dict[str, Any] = dendrogram(
        merges, no_plot=True, link_color_func=lambda node: nodes[node], **how
    )
    return tree


def _first(merges: Floats) -> list[int]:
    """Give the leftmost record below every node, leaves first."""
    first = list(range(len(merges) + 1))
    for one in merges[:, 0].astype(np.int64).tolist():
        first.append(first[one])
    return first


def _leaf(names: Sequence[str], merges: Floats, first: list[int], leaf: int) -> str:
    if leaf < len(names):
        return names[leaf]
    return f"({int(merges[leaf - len(names), 3]):,}) {names[first[leaf]]} …"


def _draw(axes: "Axes", tree: dict[str, Any], leaves: int, longest: float) -> None:
    from matplotlib.collections import LineCollection

    lines = [
        np.stack([distances, places], axis=1)
        for distances, places in zip(tree["dcoord"], tree["icoord"], strict=True)
    ]
    axes.add_collection(
        LineCollection(lines, colors=tree["color_list"], linewidths=0.9, joinstyle="miter")
    )
    axes.set_xlim(1.03 * longest or 1.0, 0)
    axes.set_ylim(_UNITS * leaves, 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(number)


def _said(records: int, leaves: int) -> str:
    said = counted(records, "record")
    if leaves < records:
        said += f", the last {leaves - 1:,} merges; in brackets, how many records a branch has"
    return said
