"""Pictures of a collection: where its records lie, and what else is to be seen of them."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.core.layout.quality import quality
from embcli.errors import InputError, UsageError, counted
from embcli.pipelines.layouts import Laid, LayoutPlan
from embcli.pipelines.pairwise import Advance, Note
from embcli.pipelines.subject import NEIGHBOURS, Subject, drawn, neighbours_of
from embcli.viz.groups import is_scale

Row = dict[str, Any]

# Fields of the metadata that a page offers.
_FIELDS = 40
_SIMILARITIES, _LEAVES, _NODES = 200, 5000, 1000
_EDGES = 5


@dataclass(frozen=True, eq=False)
class Colouring:
    """What points are coloured by.

    Attributes
    ----------
    title : str
    groups : list of str or None, n of them, optional
    values : float64 array, shape (n,), optional
        Instead of groups; NaN where there is none.
    """

    title: str
    groups: list[str | None] | None = None
    values: NDArray[np.float64] | None = None

    @property
    def column(self) -> Sequence[str | float | None]:
        """What every record is coloured by."""
        if self.values is None:
            return self.groups or []
        return [None if np.isnan(value) else value for value in self.values.tolist()]


@dataclass(frozen=True, eq=False)
class Look:
    """How pictures look.

    Attributes
    ----------
    colour : Colouring, optional
    names : bool, optional
        Write names of groups into the map; by default where there are too many for a legend.
    title : str, optional
        By default the collection's name.
    dark, force : bool
        Dark ground; replace files that are there.
    """

    colour: Colouring | None = None
    names: bool | None = None
    title: str | None = None
    dark: bool = False
    force: bool = False


def colouring(subject: Subject, color: str | None) -> Colouring | None:
    """Read what records are coloured by: a field, or "cluster", or clusters if there are any.

    Raises
    ------
    InputError
        No record has the field.
    NothingFoundError
        There are no clusters, or not such ones.
    """
    clusterings = subject.collection.clusterings
    if color is None:
        if not clusterings.all():
            return None
        color = "cluster"
    if color == "none":
        return None
    if color == "cluster" or color.startswith("cluster."):
        there = {each.name for each in clusterings.all()}
        name = color.partition(".")[2] or None
        if there if name is None else name in there:
            column = f"cluster.{name or clusterings.get().name}"
            return Colouring(column, groups=_clusters(subject, name))
        if not there or color not in _fields(subject):
            clusterings.get(name)
    values = subject.collection.values(color)
    of_rows = [values.get(key) for key in subject.keys.tolist()]
    known = {value for value in of_rows if value is not None}
    if is_scale(known):
        numbers = [np.nan if value is None else float(value) for value in of_rows]
        return Colouring(color, values=np.array(numbers))
    return Colouring(color, groups=subject.classes(color))


def grouping(subject: Subject, color: str | None, kind: str) -> Colouring | None:
    """Read what records are coloured by, where only groups can be shown.

    Raises
    ------
    UsageError
        It is a scale of numbers.
    """
    colour = colouring(subject, color)
    if colour is not None and colour.groups is None:
        raise UsageError(
            f"--kind {kind} shows groups, and {colour.title!r} has numbers",
            hint="--color none, or a field with classes",
        )
    return colour


def draw_map(
    subject: Subject,
    laid: Laid,
    path: Path,
    plan: LayoutPlan,
    look: Look,
    note: Note = lambda message: None,
) -> None:
    """Draw a map into a PNG, SVG or PDF file, or write a page that can be moved and searched."""
    colour = look.colour
    title = subject.side.name if look.title is None else look.title
    if path.suffix.lower() in (".html", ".htm"):
        subtitle = f"{len(subject):,} records, {_said(plan)}"
        _write_page(subject, laid, path, colour, title, subtitle, look, note)
        return
    from embcli.viz.map import map_figure

    axes = None
    if plan.method == "pca":
        shares = laid.facts["variance_ratio"]
        axes = [f"component {i} ({share:.1%})" for i, share in enumerate(shares, 1)]
    groups = None if colour is None else colour.groups
    names = None
    if look.names and groups is not None:
        names = {group: group for group in groups if group is not None}
    map_figure(
        laid.coordinates, path, groups=groups, values=None if colour is None else colour.values,
        names=names, legend="beside" if look.names is False else "auto", title=title,
        subtitle=_said(plan), value_title="" if colour is None else colour.title,
        axes_titles=axes, dark=look.dark, force=look.force, note=note,
    )  # fmt: skip


def _write_page(
    subject: Subject,
    laid: Laid,
    path: Path,
    colour: Colouring | None,
    title: str,
    subtitle: str,
    look: Look,
    note: Note,
) -> None:
    from embcli.viz.labels import densest
    from embcli.viz.page import write_page

    columns: dict[str, Sequence[str | float | None]] = {}
    if colour is not None:
        columns[colour.title] = colour.column
    for clustering, of_records in cluster_columns(subject).items():
        columns.setdefault(clustering, of_records)
    records = subject.collection.get_by_key(subject.keys.tolist())
    ordered = [records[key] for key in subject.keys.tolist()]
    fields = _fields(subject)
    if len(fields) > _FIELDS:
        note(f"the page has the {_FIELDS} most frequent of {len(fields):,} fields")
    for name in fields[:_FIELDS]:
        values = [_scalar(record.meta.get(name)) for record in ordered]
        columns.setdefault(name, _as_scale(values) or values)
    names = []
    if look.names is not False and colour is not None and colour.groups is not None:
        members: dict[str, list[int]] = {}
        for row, group in enumerate(colour.groups):
            if group is not None:
                members.setdefault(group, []).append(row)
        for group, rows in sorted(members.items(), key=lambda each: -len(each[1])):
            x, y = densest(laid.coordinates[rows].astype(np.float64)).tolist()
            names.append((x, y, group))
    write_page(
        path, laid.coordinates, ids=[record.id for record in ordered],
        texts=[record.text for record in ordered], columns=columns,
        color=None if colour is None else colour.title, names=names, title=title,
        subtitle=subtitle, dark=look.dark, force=look.force, note=note,
    )  # fmt: skip


def draw_similarity(subject: Subject, path: Path, look: Look, note: Note) -> None:
    """Draw the cosines of all pairs of a few records."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    from embcli.viz.heatmap import similarity_figure

    _check_few(subject, _SIMILARITIES, "similarity")
    cosines = np.clip(subject.unit.astype(np.float64) @ subject.unit.T.astype(np.float64), -1, 1)
    order = leaves_list(linkage(subject.unit, "average", optimal_ordering=True))
    similarity_figure(
        cosines, _names(subject), path, order=order, title=_title(subject, look),
        dark=look.dark, force=look.force, note=note,
    )  # fmt: skip


def draw_dendrogram(subject: Subject, path: Path, look: Look, note: Note) -> None:
    """Draw which records are merged at which distance, by Ward's criterion."""
    from scipy.cluster.hierarchy import linkage

    from embcli.viz.dendrogram import dendrogram_figure

    _check_few(subject, _LEAVES, "dendrogram")
    colour = look.colour
    dendrogram_figure(
        linkage(subject.unit.astype(np.float64), "ward"), _names(subject), path,
        groups=None if colour is None else colour.groups, title=_title(subject, look),
        subtitle="Ward's criterion", dark=look.dark, force=look.force, note=note,
    )  # fmt: skip


def draw_graph(subject: Subject, path: Path, k: int, look: Look, seed: int, note: Note) -> None:
    """Draw a few records as nodes, joined to their nearest."""
    from embcli.viz.graph import graph_figure

    _check_few(subject, _NODES, "graph")
    near = neighbours_of(subject, k, note=note).near
    rows = np.repeat(np.arange(len(subject)), near.others.shape[1])
    colour = look.colour
    graph_figure(
        None, np.stack([rows, near.others.ravel()], axis=1), near.cosines.ravel(),
        _names(subject), path, groups=None if colour is None else colour.groups,
        title=_title(subject, look), subtitle=f"{near.others.shape[1]} nearest of each",
        dark=look.dark, seed=seed, force=look.force, note=note,
    )  # fmt: skip


def draw_scree(subject: Subject, path: Path, look: Look, note: Note) -> None:
    """Draw how much of the variance each principal component has."""
    from embcli.core.layout.pca import pca_layout
    from embcli.viz.scree import scree_figure

    ratio = pca_layout(subject.unit, 1).variance_ratio[: len(subject) - 1]
    scree_figure(
        ratio, path, title=_title(subject, look),
        subtitle=f"principal components of {len(subject):,} unit vectors", dark=look.dark,
        force=look.force, note=note,
    )  # fmt: skip


def draw_silhouette(subject: Subject, path: Path, look: Look, note: Note) -> None:
    """Draw how much nearer records are to their group than to the next."""
    from embcli.core.separability.neighbourhood import silhouette
    from embcli.viz.silhouette import silhouette_figure

    colour = look.colour
    if colour is None or colour.groups is None:
        raise UsageError(
            "a silhouette plot is of groups: --color cluster, or a field with classes",
            hint=f"embcli cluster -c {subject.side.name}",
        )
    counts = Counter(group for group in colour.groups if group is not None)
    # Those of several members first: what is compared is the next group of these.
    names = sorted(counts, key=lambda name: (counts[name] == 1, name))
    several = sum(count > 1 for count in counts.values())
    if several < 2:
        raise InputError(f"{colour.title}: a silhouette plot takes two groups of two records each")
    number = {name: place for place, name in enumerate(names)}
    labels = np.array([-1 if group is None else number[group] for group in colour.groups])
    values = np.full(len(labels), np.nan)
    inside = np.flatnonzero((labels >= 0) & (labels < several))
    values[inside] = silhouette(subject.unit[inside], labels[inside]).of_records
    silhouette_figure(
        values, labels, names, path, title=_title(subject, look),
        subtitle=f"silhouettes by {colour.title}, cosine", dark=look.dark, force=look.force,
        note=note,
    )  # fmt: skip


def in_common(
    subjects: Sequence[Subject], sample: int | None, seed: int
) -> tuple[list[Subject], list[NDArray[np.int64]]]:
    """Find the records of two collections that have the same ids.

    Parameters
    ----------
    subjects : sequence of Subject, 2 of them
    sample : int, optional
        Keep so many of them only, drawn at random.
    seed : int

    Returns
    -------
    subjects : list of Subject
        Those given or, with a sample, these records alone.
    rows : list of int64 array, each of shape (n,)
        In either, the rows of what they have in common.

    Raises
    ------
    InputError
        They have fewer than three ids in common.
    """
    first, second = subjects
    row_of_id = second.side.row_of_id
    both = [(row, row_of_id[id]) for row, id in enumerate(first.side.ids) if id in row_of_id]
    if len(both) < 3:
        raise InputError(
            f"{first.side.name!r} and {second.side.name!r} have {counted(len(both), 'id')} in "
            "common, and it takes three at least"
        )
    rows = [np.array(column, np.int64) for column in zip(*both, strict=True)]
    if sample is None or sample >= len(both):
        return list(subjects), rows
    chosen = drawn(first.keys[rows[0]], sample, seed)
    rows = [column[chosen] for column in rows]
    some = []
    for subject, column in zip(subjects, rows, strict=True):
        digest = hashlib.sha256(subject.keys[np.sort(column)].tobytes()).hexdigest()
        some.append(subject.take(np.sort(column), sample=sample, drawn=digest[:16]))
    return some, [np.searchsorted(np.sort(column), column) for column in rows]


def draw_comparison(
    subjects: Sequence[Subject],
    rows: Sequence[NDArray[np.int64]],
    laid: Sequence[Laid],
    path: Path,
    look: Look,
    note: Note,
) -> None:
    """Draw two layouts of the same records side by side, the second turned onto the first."""
    from embcli.viz.compare import compare_figure

    first, second = subjects
    a, b = (of.coordinates[some].astype(np.float64) for of, some in zip(laid, rows, strict=True))
    colour = look.colour
    groups = None
    if colour is not None and colour.groups is not None:
        groups = [colour.groups[row] for row in rows[0].tolist()]
    compare_figure(
        a, turned(b, a), path, titles=[first.side.name, second.side.name], groups=groups,
        title="" if look.title is None else look.title,
        subtitle=f"{len(a):,} records of both", dark=look.dark, force=look.force, note=note,
    )  # fmt: skip


def turned(moved: NDArray[np.float64], fixed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift, turn, mirror and scale points onto others (Procrustes), both of shape (n, 2)."""
    a, b = fixed - fixed.mean(axis=0), moved - moved.mean(axis=0)
    u, s, vt = np.linalg.svd(b.T @ a)
    spread = float((b**2).sum())
    scale = float(s.sum()) / spread if spread > 0 else 1.0
    placed: NDArray[np.float64] = scale * b @ (u @ vt) + fixed.mean(axis=0)
    return placed


def reported(subject: Subject, laid: Laid, seed: int, note: Note, advance: Advance) -> list[Row]:
    """Measure how much of the neighbourhoods a layout keeps."""
    near = neighbours_of(subject, NEIGHBOURS, seed=seed, note=note, advance=advance).near
    return [
        {"measure": measure.name, "value": measure.value, "n": measure.n}
        for measure in quality(subject.unit, near, laid.coordinates, seed=seed)
    ]


def coordinate_rows(subject: Subject, laid: Laid) -> list[Row]:
    """Give ids and coordinates, in the order stored."""
    axes = ("x", "y", "z")[: laid.coordinates.shape[1]]
    return [
        {"id": id, **dict(zip(axes, place, strict=True))}
        for id, place in zip(subject.side.ids, laid.coordinates.tolist(), strict=True)
    ]


def cluster_columns(subject: Subject) -> dict[str, list[str | None]]:
    """Name the cluster of every record in each clustering, the last one first.

    Columns are called as filters call them, ``cluster.NAME``.
    """
    found = subject.collection.clusterings.all()[::-1]
    return {f"cluster.{each.name}": _clusters(subject, each.name) for each in found}


def _clusters(subject: Subject, name: str | None) -> list[str | None]:
    """Name the cluster of every record; None for noise, and for what came later."""
    clusterings = subject.collection.clusterings
    clustering = clusterings.get(name)
    names: Mapping[int, str] = clusterings.names(clustering)
    keys, numbers, _ = clusterings.members(clustering)
    of_key = dict(zip(keys.tolist(), numbers.tolist(), strict=True))
    found = (of_key.get(key, -1) for key in subject.keys.tolist())
    return [names[number] if number >= 0 else None for number in found]


def _fields(subject: Subject) -> list[str]:
    return list(subject.collection.field_counts(scalar=True))


def _as_scale(values: Sequence[str | float | None]) -> list[float | None] | None:
    """Give numbers where values are a scale, though written as texts, as `colouring` does."""
    numbers: list[float | None] = []
    for value in values:
        try:
            numbers.append(None if value is None else float(value))
        except (ValueError, OverflowError):
            return None
    return numbers if is_scale(numbers) else None


def _scalar(value: Any) -> str | float | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str | int | float) else None


def _names(subject: Subject) -> list[str]:
    """Name records by their texts; by their ids where these are empty."""
    ids = subject.side.ids
    return [text.strip() or id for text, id in zip(subject.texts(), ids, strict=True)]


def _title(subject: Subject, look: Look) -> str:
    return subject.side.name if look.title is None else look.title


def _said(plan: LayoutPlan) -> str:
    titles = {
        "umap": "UMAP", "pca": "principal components", "tsne": "t-SNE", "localmap": "LocalMAP",
        "densmap": "densMAP",
    }  # fmt: skip
    return titles[plan.method]


def _check_few(subject: Subject, most: int, kind: str) -> None:
    if len(subject) > most:
        raise UsageError(
            f"--kind {kind} is of {most:,} records at most, and there are {len(subject):,}",
            hint=f"--sample {most}, or --where",
        )
