"""The way from a model to a collection in another space, through maps of the store."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.core.maps import Map, NotInvertibleError, Transform
from embcli.encoders.recipe import Recipe
from embcli.errors import NothingFoundError, UsageError
from embcli.store import Collection, Store
from embcli.store.maps import Ends

if TYPE_CHECKING:
    from embcli.pipelines.ranking import Ranking

# More ways than an error lists are not looked for.
_LISTED = 5


class _Edge(NamedTuple):
    """One side of a map: it leads from a space to where the map compares."""

    name: str
    side: str
    inner: Recipe
    outer: Recipe

    def other(self, space: str) -> Recipe | None:
        """Tell where it leads from a space, in either direction; None if it does not touch it."""
        if space == self.inner.hash:
            return self.outer
        return self.inner if space == self.outer.hash else None


# From the collection outwards: every side, and the space it leads to from there.
_Path = tuple[tuple[_Edge, Recipe], ...]


@dataclass(frozen=True, eq=False)
class Via:
    """A way from the space of queries to a collection in another one.

    Attributes
    ----------
    names : tuple of str
        The maps taken, from the queries on.
    query : Recipe
        The space that queries are encoded into.
    map : Map
        What leads them, and where it must also the stored vectors, to where both are compared.
    asked : bool
        Whether somebody asked for this way or its model; it is the collection's own otherwise.
    stages : tuple of Map
        The maps one by one, if one of them treats single texts in a way of their own.
    within_one : bool
        Whether all maps change one model's space alone, rather than lead to another model's.
    """

    names: tuple[str, ...]
    query: Recipe
    map: Map
    asked: bool
    stages: tuple[Map, ...] = ()
    within_one: bool = False

    def lead(
        self, vectors: NDArray[np.float32], texts: Sequence[str] | None = None
    ) -> NDArray[np.float32]:
        """Lead vectors of queries to where they are compared; of unit length, shape (n, dim).

        Parameters
        ----------
        vectors : float32 array, shape (n, dim)
        texts : sequence of str, optional
            What they are of, if that is known.

        Raises
        ------
        NothingFoundError
            Nothing is left of the one that there is.
        """
        led: NDArray[np.floating] = vectors.astype(np.float64)
        for map in self.stages or (self.map,):
            mapped = map.source.apply(led)
            if self.within_one:
                mapped[map.source.vanished(led, mapped)] = 0
            if map.edits is not None and texts is not None:
                mapped = map.edits.apply(texts, led, mapped)
            led = mapped
        led = unit(led).astype(np.float32)
        if len(led) == 1 and not led.any():
            raise NothingFoundError(f"{self} leaves nothing of the query")
        return led

    @cached_property
    def within(self) -> Callable[[NDArray[np.floating]], NDArray[np.floating]] | None:
        """What is done to stored vectors before they are compared; None where nothing is.

        Blocks of float32 stay that; what is given in float64 is mapped in that.
        """
        exact = self.map.target
        if not exact:
            return None
        quick = exact.rounded()

        def apply(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
            transform = quick if vectors.dtype == np.float32 else exact
            mapped = transform.apply(vectors)
            if self.within_one:
                mapped[transform.vanished(vectors, mapped)] = 0
            return mapped

        return apply

    def check(self, ranking: "Ranking | None", *, given: bool, exact: bool | None) -> None:
        """Refuse what cannot be done where stored vectors are mapped on their way.

        Raises
        ------
        UsageError
        """
        if not self.map.target:
            return
        reason = f"{self} compares in a space of its own"
        if exact is False:
            raise UsageError(f"{reason}, and codes are of the collection's: not with --coded")
        if ranking is not None and ranking.relevant:
            raise UsageError(f"{reason}, and --relevant knows the collection's")
        if given:
            raise UsageError(f"{reason}: not with --given")

    def __str__(self) -> str:
        names = " and ".join(map(repr, self.names))
        return f"{'map' if len(self.names) == 1 else 'the chain of maps'} {names}"


def find_via(
    store: Store,
    collection: Collection,
    names: Sequence[str],
    model: str | None,
    note: Callable[[str], None] = lambda message: None,
) -> Via | None:
    """Find the way from a model to a collection that is in another space.

    Parameters
    ----------
    store : Store
    collection : Collection
    names : sequence of str
        The maps to take, in any order; without any, the only way there is.
    model : str, optional
        By default what is at the other end of `names`, or the model whose mapped vectors the
        collection has.
    note : callable
        Told which maps are taken where nobody named them.

    Returns
    -------
    via : Via or None
        None where there is no way.

    Raises
    ------
    UsageError
        There are several ways, or the maps named are none.
    StoreError
        There is no map of a name.
    """
    space = collection.recipe
    edges = [edge for ends in store.maps.ends() for edge in _edges(ends)]
    if not names:
        edges = _different(edges)
    via: Via | None
    if names:
        via = _named(store, collection, edges, list(dict.fromkeys(names)), model)
    elif model in (None, space.model):
        return None if space.base is None else _own(store, edges, space)
    elif (other := _other_side(edges, space, model)) is not None:
        via = _compose(store, ((other, other.inner),), asked=True)
    else:
        found = (
            path for path in _paths(edges, space) if _is_end(end := path[-1][1]) and
            end.model == model
        )  # fmt: skip
        ways = list(islice(_composed(store, found), _LISTED + 1))
        if len(ways) > 1:
            listed = "; ".join(" → ".join(way.names) for way in ways[:_LISTED])
            more = "; …" if len(ways) > _LISTED else ""
            raise UsageError(
                f"several ways lead from {model!r} to collection {collection.name!r}: "
                f"{listed}{more}",
                hint=" ".join(f"--via {name}" for name in ways[0].names),
            )
        via = ways[0] if ways else None
        if via is not None:
            note(f"queries of {model!r} go through {via} to collection {collection.name!r}")
    if via is not None and (via.query.multivector or space.multivector):
        raise UsageError(
            f"{via} is for one vector a text, not for one a token, as in a multi-vector collection"
        )
    return via


def _own(store: Store, edges: Sequence[_Edge], space: Recipe) -> Via | None:
    """Find the way of the model whose vectors were mapped into a space."""
    path: list[tuple[_Edge, Recipe]] = []
    while space.base is not None:
        back = [
            edge
            for edge in edges
            if edge.side == "target" and edge.outer.hash == space.hash
            and edge.inner.hash == space.base.hash
        ]  # fmt: skip
        if not back:
            return None
        space = space.base
        path.append((back[0], space))
    (via,) = _composed(store, iter([tuple(path)]), asked=False)
    return via


def _other_side(edges: Sequence[_Edge], space: Recipe, model: str) -> _Edge | None:
    """Find the side of the map that a collection's vectors came through that is for a model."""
    if space.base is None:
        return None
    sides = [e for e in edges if e.outer.hash == space.hash and e.inner.model == model]
    return sides[0] if sides and _is_end(sides[0].inner) else None


def _named(
    store: Store,
    collection: Collection,
    edges: Sequence[_Edge],
    names: Sequence[str],
    model: str | None,
) -> Via:
    for name in set(names) - {edge.name for edge in edges}:
        store.maps.get(name)  # which says what there is instead
    space = collection.recipe
    if len(names) == 1:
        only = store.maps.get(names[0])
        if {only.source.hash, only.target.hash} == {space.hash}:
            # One model's space on both sides, as of two languages: queries are of the source.
            if only.map.edits is not None:
                raise UsageError(
                    f"map {only.name!r} treats single words in a way of their own, which needs "
                    "mapped vectors to be kept",
                    hint=f"embcli debias apply {only.name} -c {collection.name} --to NAME",
                )
            led = only.map.on_source()
            return Via((only.name,), space, led, asked=True, within_one=only.changes_one_space)
    own = [edge for edge in edges if edge.name in names]
    paths = [
        path
        for path in _paths(own, space)
        if _is_end(path[-1][1]) and {edge.name for edge, _ in path} == set(names)
    ]
    if not paths:
        raise _wrong_space(collection, edges, names)
    if len(paths) > 1 and model is not None:
        paths = [path for path in paths if path[-1][1].model == model] or paths
    elif len(paths) > 1:
        # The collection's own model needs no --via.
        paths = [path for path in paths if path[-1][1].hash != space.root.hash] or paths
    if len(names) == 1 and len({path[-1][1].hash for path in paths}) == 1:
        # Likewise, where the collection was mapped already.
        paths = [path for path in paths if path[-1][0].side == "source"][:1] or paths
    if len(paths) > 1:
        models = ", ".join(sorted({repr(path[-1][1].model) for path in paths}))
        raise UsageError(
            f"--via {' --via '.join(names)} leads to several spaces ({models}), or in several ways",
            hint="--model NAME, or fewer maps",
        )
    try:
        return _compose(store, paths[0], asked=True)
    except NotInvertibleError as error:
        raise UsageError(
            f"{' and '.join(map(repr, names))} cannot be put behind each other: {error.message}"
        ) from None


def _wrong_space(
    collection: Collection, edges: Sequence[_Edge], names: Sequence[str]
) -> UsageError:
    space = collection.recipe
    others = sorted({e.name for e in edges if e.other(space.hash) is not None} - set(names))
    hint = f"--via {others[0]}" if others else "embcli align fit --source A --target B"
    touched = [end for e in edges if e.name in names for end in (e.inner, e.outer)]
    ends = {end.hash: end for end in touched if _is_end(end)}
    models = " and ".join(repr(end.model) for end in ends.values())
    joins = f"map {names[0]!r} joins" if len(names) == 1 else f"maps {', '.join(names)} join"
    message = (
        f"{joins} the spaces of {models}, and collection {collection.name!r} is in another one, "
        f"of {space.model!r}"
    )
    if space.hash in ends:
        message = f"{joins} no other space to that of collection {collection.name!r}"
    alike = [end for end in ends.values() if end.model == space.model]
    if alike and space.hash not in ends:
        message += f" ({'; '.join(alike[0].differences(space))})"
    return UsageError(message, hint=hint)


def _edges(ends: Ends) -> Iterator[_Edge]:
    yield _Edge(ends.name, "source", ends.source, ends.space)
    if ends.two_sided:
        yield _Edge(ends.name, "target", ends.target, ends.space)


def _different(edges: Sequence[_Edge]) -> list[_Edge]:
    """Leave out sides of maps that another name has, too: they lead to the same space."""
    found: dict[tuple[str, ...], _Edge] = {}
    for edge in edges:
        own = edge.outer.base is not None
        key = (edge.inner.hash, edge.outer.hash, edge.side, "" if own else edge.name)
        found.setdefault(key, edge)
    return list(found.values())


def _paths(edges: Sequence[_Edge], space: Recipe, before: _Path = ()) -> Iterator[_Path]:
    """Give all ways out of a space that come to no space twice."""
    seen = {space.hash} | {edge.inner.hash for edge, _ in before}
    seen |= {edge.outer.hash for edge, _ in before}
    for edge in edges:
        other = edge.other(space.hash)
        if other is not None and other.hash not in seen:
            path = (*before, (edge, other))
            yield path
            yield from _paths(edges, other, path)


def _composed(store: Store, paths: Iterator[_Path], *, asked: bool = True) -> Iterator[Via]:
    """Compose what can be."""
    for path in paths:
        try:
            yield _compose(store, path, asked)
        except NotInvertibleError:
            continue


def _compose(store: Store, path: _Path, asked: bool) -> Via:
    """Put the sides of a path, which begins at the collection, into one map from its end."""
    whole, stages = Map(Transform()), []
    all_outwards = within_one = True
    for edge, space in reversed(path):
        stored = store.maps.get(edge.name)
        map, within_one = stored.map, within_one and stored.changes_one_space
        side = Map(getattr(map, edge.side))
        outwards = space.hash == edge.inner.hash
        whole = whole.then(side if outwards else side.reversed())
        stages.append(replace(side, edits=map.edits))
        all_outwards &= outwards
    if all(map.edits is None for map in stages):
        stages = []
    elif not all_outwards:
        raise NotInvertibleError("a map treats single words in a way of their own")
    names = dict.fromkeys(edge.name for edge, _ in reversed(path))
    return Via(
        tuple(names), path[-1][1], whole.on_source(), asked, tuple(stages),
        within_one and all_outwards,
    )  # fmt: skip


def _is_end(space: Recipe) -> bool:
    """Whether an encoder may lead there, rather than a map alone."""
    return space.base is None
