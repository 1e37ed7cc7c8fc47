"""Layouts of a collection: computed once, kept, and added to as records come."""

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.core.knn import nearest_of
from embcli.core.layout.pca import Pca, pca_layout, pca_place
from embcli.core.neighbours import Neighbours
from embcli.errors import UsageError, counted
from embcli.pipelines.pairwise import Advance, Note
from embcli.pipelines.subject import NEIGHBOURS, Subject, neighbours_of
from embcli.store import Layout, Points
from embcli.store.names import check_word

Floats = NDArray[np.float32]

# What is added before a layout is worth making anew.
_ADDED = 0.2


@dataclass(frozen=True)
class Method:
    """A way of laying out.

    Attributes
    ----------
    summary : str
    options : tuple of str
        Of `LayoutPlan`, those that it takes.
    neighbours : int
        Of every record, that it looks at.
    """

    summary: str
    options: tuple[str, ...]
    neighbours: int


METHODS = {
    "umap": Method("UMAP: neighbourhoods", ("neighbours", "min_dist"), 15),
    "pca": Method("principal components: the axes of greatest variance", (), 0),
    "tsne": Method("t-SNE: close neighbourhoods", ("perplexity",), 90),
    "localmap": Method("LocalMAP: clusters that come apart", (), 60),
    "densmap": Method("densMAP: UMAP that keeps densities", ("neighbours", "min_dist"), 15),
}


@dataclass(frozen=True)
class LayoutPlan:
    """How to lay out.

    Attributes
    ----------
    method : str
        A key of `METHODS`.
    dims : {2, 3}
    neighbours : int, optional
        The record itself counted, as is usual with UMAP.
    min_dist, perplexity : float, optional
    seed : int

    Raises
    ------
    UsageError
        The method is unknown, is told what it does not take, or a number is out of range.
    """

    method: str = "umap"
    dims: int = 2
    neighbours: int | None = None
    min_dist: float | None = None
    perplexity: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"no method {self.method!r} (there are: {', '.join(METHODS)})")
        for option in ("neighbours", "min_dist", "perplexity"):
            if getattr(self, option) is not None and option not in METHODS[self.method].options:
                able = [name for name, method in METHODS.items() if option in method.options]
                raise UsageError(
                    f"method {self.method!r} takes no --{option.replace('_', '-')} (those that "
                    f"do: {', '.join(able)})"
                )
        if self.dims not in (2, 3):
            raise UsageError(f"--dims is 2 or 3, not {self.dims}")
        if self.method == "tsne" and self.dims == 3:
            raise UsageError("t-SNE lays out in two dimensions", hint="--method umap")
        if self.neighbours is not None and self.neighbours < 2:
            raise UsageError(f"--neighbours is at least 2, not {self.neighbours}")
        if self.min_dist is not None and not 0 <= self.min_dist <= 1:
            raise UsageError(f"--min-dist is from 0 to 1, not {self.min_dist:g}")
        if self.perplexity is not None and not 1 < self.perplexity <= 100:
            raise UsageError(f"--perplexity is above 1 and at most 100, not {self.perplexity:g}")

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes a layout what it is."""
        defaults = {"neighbours": NEIGHBOURS, "min_dist": 0.1, "perplexity": 30.0}
        given = {
            name: defaults[name] if getattr(self, name) is None else getattr(self, name)
            for name in METHODS[self.method].options
        }
        return {"method": self.method, "dims": self.dims, **given, "seed": self.seed}


def plan_of(layout: Layout) -> LayoutPlan:
    """Give the plan that a layout was made by."""
    known = {field.name for field in fields(LayoutPlan)}
    return LayoutPlan(**{name: v for name, v in layout.arguments.items() if name in known})


@dataclass(frozen=True, eq=False)
class Laid:
    """Where the records of a subject lie.

    Attributes
    ----------
    layout : str
        Its name.
    coordinates : float32 array, shape (n, dims)
    placed : int
        How many came later and were placed among the others.
    facts : dict
        What is known of the layout; of principal components their shares of the variance.
    """

    layout: str
    coordinates: Floats
    placed: int
    facts: dict[str, Any]


def laid_out(
    subject: Subject,
    plan: LayoutPlan,
    name: str | None = None,
    *,
    fresh: bool = False,
    note: Note = lambda message: None,
    advance: Advance = lambda done, total, count: None,
) -> Laid:
    """Look up where records lie, or lay them out and keep it.

    Parameters
    ----------
    subject : Subject
    plan : LayoutPlan
    name : str, optional
        Of the layout; by default that of the method, with what makes it another than usual.
    fresh : bool
        Lay out anew, even if that was done before.
    note, advance : callable

    Returns
    -------
    laid : Laid

    Raises
    ------
    UsageError
        There is a layout of that name that was made in another way, or it is no possible name.

    Notes
    -----
    Where a layout of that name was made in the same way, records that came later are placed in
    it, and those that were there stay where they are.
    """
    arguments = {**plan.arguments, **subject.chosen}
    layouts = subject.collection.layouts
    if name is None:
        name = _name(plan, subject.chosen)
    else:
        check_word(name, "a layout")
    found = layouts.find(name)
    if found is not None and not fresh:
        if found.arguments != arguments:
            raise UsageError(
                f"layout {name!r} was made in another way ({_differences(found, arguments)})",
                hint="another --name, or --fresh to replace it",
            )
        points = layouts.points(found)
        if np.isin(points.keys, subject.keys).sum() >= 3:
            return _added(subject, plan, found, points, note)
    coordinates, facts = _computed(subject, plan, note, advance)
    points = Points(subject.keys, coordinates, np.zeros(len(subject), np.bool_))
    subject.write_if_possible(
        lambda store, source: source.layouts.add(name, plan.method, arguments, facts, points), note
    )
    return Laid(name, coordinates, 0, facts)


def _name(plan: LayoutPlan, chosen: dict[str, Any]) -> str:
    """Name a layout by its method and, if it is not the usual one, by all that makes it so."""
    name = plan.method if plan.dims == 2 else f"{plan.method}-3d"
    usual = LayoutPlan(plan.method, plan.dims).arguments
    unusual = {**plan.arguments, **chosen}
    if unusual == usual:
        return name
    digest = hashlib.sha256(json.dumps(unusual, sort_keys=True).encode()).hexdigest()
    return f"{name}-{digest[:8]}"


def _differences(layout: Layout, arguments: dict[str, Any]) -> str:
    names = [*layout.arguments, *(name for name in arguments if name not in layout.arguments)]
    return ", ".join(
        f"{name} {layout.arguments.get(name)}, not {arguments.get(name)}"
        for name in names
        if layout.arguments.get(name) != arguments.get(name)
    )


def _computed(
    subject: Subject, plan: LayoutPlan, note: Note, advance: Advance
) -> tuple[Floats, dict[str, Any]]:
    vectors, dims, seed = subject.unit, plan.dims, plan.seed
    if plan.method == "pca":
        pca = pca_layout(vectors, dims)
        return pca.coordinates, {
            "components": pca.components.tolist(),
            "mean": pca.mean.tolist(),
            "variance_ratio": pca.variance_ratio[:dims].tolist(),
        }
    settings = plan.arguments
    # The graph is kept: no smaller one than others ask for.
    wanted = max(METHODS[plan.method].neighbours, settings.get("neighbours", 0), NEIGHBOURS)
    graph = neighbours_of(subject, wanted, seed=seed, note=note, advance=advance).near
    if plan.method in ("umap", "densmap"):
        from embcli.core.layout.umap import umap_layout

        few = settings["neighbours"] - 1
        near = Neighbours(graph.others[:, :few], graph.cosines[:, :few])
        return (
            umap_layout(
                vectors, near, dim=dims, min_dist=settings["min_dist"],
                density=plan.method == "densmap", seed=seed, advance=advance,
            ),
            {},
        )  # fmt: skip
    if plan.method == "tsne":
        from embcli.core.layout.tsne import tsne_layout

        return (
            tsne_layout(
                vectors, graph, perplexity=settings["perplexity"], seed=seed, advance=advance
            ),
            {},
        )
    from embcli.core.layout.localmap import localmap_layout

    return localmap_layout(vectors, graph, dim=dims, seed=seed), {}


def _added(subject: Subject, plan: LayoutPlan, layout: Layout, points: Points, note: Note) -> Laid:
    """Give where the records lie, with those that came later placed among the others."""
    there = np.isin(subject.keys, points.keys)
    coordinates = np.empty((len(subject), layout.dims), np.float32)
    coordinates[there] = points.coordinates[np.searchsorted(points.keys, subject.keys[there])]
    placed = int(points.placed[np.isin(points.keys, subject.keys)].sum())
    if not there.all():
        new = np.flatnonzero(~there)
        # What was placed itself says less of the layout than what it was made of.
        made = there & ~np.isin(subject.keys, points.keys[points.placed])
        old = np.flatnonzero(made if made.any() else there)
        coordinates[new] = _placed(subject, plan, layout, coordinates, new, old)
        placed += len(new)
        added = Points(subject.keys[new], coordinates[new], np.ones(len(new), np.bool_))
        subject.write_if_possible(lambda store, source: source.layouts.place(layout, added), note)
        note(f"{counted(len(new), 'record')} placed in the layout {layout.name!r} that is there")
    if placed > _ADDED * len(subject):
        note(
            f"{placed:,} of {counted(len(subject), 'record')} came after the layout "
            f"{layout.name!r} was made; --fresh makes it anew"
        )
    return Laid(layout.name, coordinates, placed, layout.facts)


def _placed(
    subject: Subject,
    plan: LayoutPlan,
    layout: Layout,
    coordinates: Floats,
    new: NDArray[np.int64],
    old: NDArray[np.int64],
) -> Floats:
    vectors = subject.unit
    if plan.method == "pca":
        known = (np.array(layout.facts[what]) for what in ("components", "mean", "variance_ratio"))
        return pca_place(Pca(coordinates, *known), vectors[new])
    settings = plan.arguments
    k = min(settings.get("neighbours", NEIGHBOURS), len(old))
    near = nearest_of(vectors[new], vectors[old], k)
    if plan.method == "umap":
        from embcli.core.layout.umap import umap_place

        return umap_place(near, coordinates[old], min_dist=settings["min_dist"], seed=plan.seed)
    if plan.method == "tsne":
        from embcli.core.layout.tsne import tsne_place

        return tsne_place(near, coordinates[old])
    from embcli.core.layout.place import weighted_place

    return weighted_place(near, coordinates[old])
