"""What a map that is kept does: translation, geometry, backward compatibility."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from embcli.config import DEFAULT_DB
from embcli.core.alignment import Pairs
from embcli.core.maps import Map
from embcli.errors import UsageError
from embcli.formats import Problem
from embcli.pipelines.align_measure import Row, Split, measured
from embcli.pipelines.pairwise import Note
from embcli.pipelines.sides import NONE, note_coverage, open_sides, pair_up
from embcli.store import Store

if TYPE_CHECKING:
    from embcli.pipelines.compatibility import Report


def evaluate(
    name: str,
    pairs: str,
    *,
    source: str | None = None,
    target: str | None = None,
    geometry: bool = False,
    retrievals: Sequence[str] = ("nn", "isf", "csls"),
    db: str | os.PathLike[str] = DEFAULT_DB,
    db_b: str | os.PathLike[str] | None = None,
    note: Note = lambda message: None,
    on_problem: Callable[[Problem], None] = lambda problem: None,
) -> list[Row]:
    """Translate the sources of pairs through a map, among all vectors of the target.

    Parameters
    ----------
    name : str
        The map.
    pairs : str
        See `embcli.pipelines.sides.pair_up`.
    source, target : str, optional
        Collections in the spaces of the map; by default those it was fitted to.
    geometry : bool
        Measure what the map does to the space instead.
    retrievals : sequence of str
    db, db_b, note, on_problem
        As in `fit`.

    Returns
    -------
    rows : list of dict
        For every way of retrieving; or of the geometry ``measure`` and ``value``.

    Raises
    ------
    UsageError
        A collection is not in the space that the map is for.
    """
    with Store(db, readonly=True) as store:
        map = store.maps.get(name)
    fitted_to = map.fit.get("collections", {})
    names = source or fitted_to.get("source"), target or fitted_to.get("target")
    if None in names:
        raise UsageError(f"map {name!r} was not fitted here: give --source and --target")
    with open_sides(str(names[0]), str(names[1]), db=db, db_b=db_b, note=note) as sides:
        for side, recipe, which in zip(
            sides, (map.source, map.target), ("source", "target"), strict=True
        ):
            if side.recipe.hash != recipe.hash:
                raise UsageError(
                    f"map {name!r} has {recipe.model!r} as its {which}, and collection "
                    f"{side.name!r} is in the space of {side.recipe.model!r}",
                    hint=f"--{which} with a collection in that space; embcli maps info {name}",
                )
        if geometry:
            return _geometry(map.map, pair_up(*sides, NONE).pairs)
        gold = pair_up(*sides, pairs, on_problem, note)
        note_coverage(gold, *sides, note)
        if not gold.count:
            raise UsageError("--pairs none: there is nothing to measure with")
        if gold.origin == (map.fit.get("pairs") or {}).get("origin"):
            note(f"the map was fitted to {gold.origin}: of other pairs figures would be lower")
        none = gold.pairs.take(np.zeros(gold.count, np.bool_))
        heat = map.fit.get("temperature")
        return measured(map.map, Split(none, gold.pairs), retrievals, heat)


def evaluate_compatibility(
    name: str,
    old: str | None = None,
    *,
    queries: str | os.PathLike[str],
    judgments: str | os.PathLike[str],
    new: str | None = None,
    db: str | os.PathLike[str] = DEFAULT_DB,
    db_new: str | os.PathLike[str] | None = None,
    note: Note = lambda message: None,
    on_problem: Callable[[Problem], None] = lambda problem: None,
) -> "Report":
    """Judge searches of an old model's collection with queries of a new one, through a map.

    Parameters
    ----------
    name : str
        The map; either of its ends may be the old one.
    old : str, optional
        By default the collection that was the map's target.
    queries, judgments, new, db, db_new, note, on_problem
        See `embcli.pipelines.compatibility.compatibility`.
    """
    from embcli.pipelines.compatibility import compatibility

    with Store(db, readonly=True) as store:
        stored = store.maps.get(name)
        old = old or stored.fit.get("collections", {}).get("target")
        if old is None:
            raise UsageError(f"map {name!r} was not fitted here: give --old")
        space = store.collection(old).recipe
        if space.hash not in (stored.source.hash, stored.target.hash):
            raise UsageError(
                f"map {name!r} joins {stored.source.model!r} and {stored.target.model!r}, and "
                f"collection {old!r} is in another space, of {space.model!r}",
                hint=f"--old with a collection in either space; embcli maps info {name}",
            )
    map, new_space = stored.map, stored.source
    if space.hash == stored.source.hash != stored.target.hash:
        map, new_space = map.reversed(), stored.target
    return compatibility(
        map, new_space, old, queries=queries, judgments=judgments, new=new, db=db, db_new=db_new,
        note=note, on_problem=on_problem,
    )  # fmt: skip


def _geometry(map: Map, pairs: Pairs) -> list[Row]:
    from embcli.core.alignment.geometry import geometry

    found = geometry(map, pairs)
    return [
        {"measure": "orthogonality error", "value": found.orthogonality},
        {"measure": "distortion of cosines", "value": found.distortion},
        *(
            {"measure": f"hubness ({part}) of {where}", "value": getattr(hubs, part)}
            for where, hubs in {
                "the source": found.hubness_before,
                "the source, mapped": found.hubness_after,
                "the target, by cosine": found.hubness_nn,
                "the target, by CSLS": found.hubness_csls,
            }.items()
            for part in ("skewness", "antihubs")
        ),
    ]
