"""Fitting maps between collections, and comparing the ways of fitting them."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from embcli.config import DEFAULT_DB
from embcli.core.alignment import METHODS, Pairs, method
from embcli.core.maps import Map, Transform, Unit
from embcli.errors import InputError, ModelError, UsageError, counted
from embcli.formats import Problem
from embcli.pipelines.align_measure import (
    LEAST_HELD_OUT,
    RETRIEVALS,
    Row,
    Split,
    measured,
    thinned,
    together,
)
from embcli.pipelines.align_plan import AUTO, Plan, fitter, told
from embcli.pipelines.pairwise import Advance, Note
from embcli.pipelines.sides import NONE, Side, note_coverage, open_sides, pair_up
from embcli.store import Store, StoredMap

# Tried by "auto": what is best with few pairs, with many, and in between.
CANDIDATES = ("procrustes", "ridge", "vecmap", "cca")
# The same without pairs; the second is for sentences.
UNPAIRED = ("unsupervised", "mini-vec2vec")


@dataclass(frozen=True, eq=False)
class Fitted:
    """A map that was kept, and what was measured on the way.

    Attributes
    ----------
    map : StoredMap
    rows : list of dict
        Of every method that was tried and every way of retrieving: how well it translates what
        was held out.
    """

    map: StoredMap
    rows: list[Row]


def fit(
    source: str,
    target: str,
    name: str,
    plan: Plan | None = None,
    *,
    pairs: str = "ids",
    db: str | os.PathLike[str] = DEFAULT_DB,
    db_b: str | os.PathLike[str] | None = None,
    replace: bool = False,
    note: Note = lambda message: None,
    on_problem: Callable[[Problem], None] = lambda problem: None,
    advance: Advance = lambda done, total, count: None,
) -> Fitted:
    """Fit a map from the space of a collection to that of another, and keep it in the store.

    Held-out figures are of a map that was fitted without them; the one that is kept is fitted to
    all pairs.

    Parameters
    ----------
    source, target : str
        Collections.
    name : str
        What to call the map.
    plan : Plan, optional
    pairs : str
        See `embcli.pipelines.sides.pair_up`.
    db : path
        The store of the source, and of the map.
    db_b : path, optional
        The store of the target, if it is another.
    replace : bool
        Take the place of a map of that name.
    note, on_problem, advance : callable
        Told what a user should know, of every line that could not be read, and how many methods
        were tried.

    Returns
    -------
    fitted : Fitted

    Raises
    ------
    UsageError, InputError, StoreError, ModelError
    """
    plan = plan or Plan()
    with Store.existing(db) as store:  # which brings an older store up to date
        store.maps.check_name(name, replace=replace)
    with open_sides(source, target, db=db, db_b=db_b, note=note) as (left, right):
        paired = pair_up(left, right, pairs, on_problem, note)
        note_coverage(paired, left, right, note)
        used = _selected(paired.pairs, plan, note)
        fitting = _without_pairs if paired.origin == NONE else _to_pairs
        chosen, map, rows, confidence = fitting(plan, used, note, advance)
        temperature = _temperature(map, used)
    facts: dict[str, Any] = {
        "options": told(chosen, plan),
        "auto": plan.method == AUTO,
        "refine": plan.refine,
        "rounds": plan.rounds,
        "robust": plan.robust,
        "holdout": plan.holdout,
        "select": plan.select,
        "seed": plan.seed,
        "collections": {"source": source, "target": target},
        "pairs": {
            "origin": paired.origin,
            "given": paired.given,
            "count": len(used.rows),
            "sources": len(np.unique(used.rows)),
        },
        "held_out": next(
            (row for row in rows if row["method"] == chosen and row["retrieval"] == "csls"), None
        ),
        "temperature": temperature,
        "confidence": confidence,
    }
    arguments = {"target": target, "map": name, "pairs": pairs, **asdict(plan)}
    with Store(db) as store, store.run("align fit", source, arguments) as counts:
        counts.update(facts["pairs"])
        kept = store.maps.add(
            name, finished(map, right), method=chosen, source=left.recipe,
            target=right.recipe, fit=facts, replace=replace,
        )  # fmt: skip
    for row in rows:
        row["chosen"] = row["method"] == chosen
    return Fitted(kept, rows)


def compare(
    source: str,
    target: str,
    methods: Sequence[str] = (),
    plan: Plan | None = None,
    *,
    pairs: str = "ids",
    test: str | None = None,
    retrievals: Sequence[str] = ("nn", "isf", "csls"),
    db: str | os.PathLike[str] = DEFAULT_DB,
    db_b: str | os.PathLike[str] | None = None,
    note: Note = lambda message: None,
    on_problem: Callable[[Problem], None] = lambda problem: None,
    advance: Advance = lambda done, total, count: None,
) -> list[Row]:
    """Fit maps by several methods to the same pairs, and translate the same sources with them.

    Parameters
    ----------
    source, target : str
        Collections.
    methods : sequence of str
        By default all that take pairs.
    plan : Plan, optional
        Its method is passed over.
    pairs : str
        What to fit to, see `embcli.pipelines.sides.pair_up`.
    test : str, optional
        What to measure with, likewise; by default a share of the pairs is held out.
    retrievals : sequence of str
        Of "nn", "isf", "csls".
    db, db_b, note, on_problem, advance
        As in `fit`.

    Returns
    -------
    rows : list of dict
        Of every method and every way of retrieving.
    """
    plan = plan or Plan()
    if test == NONE or (pairs == NONE and test is None):
        raise UsageError("there is nothing to measure with", hint="--test FILE, ids or texts")
    names = list(dict.fromkeys(methods))
    names = names or [m.name for m in METHODS.values() if m.paired == (pairs != NONE)]
    for name in names:
        if method(name).paired and pairs == NONE:
            raise UsageError(f"method {name!r} needs pairs")
    if pairs == NONE:
        plan.check_unpaired()
    with open_sides(source, target, db=db, db_b=db_b, note=note) as (left, right):
        paired = pair_up(left, right, pairs, on_problem, note)
        note_coverage(paired, left, right, note)
        used = _selected(paired.pairs, plan, note)
        if test is not None:
            gold = pair_up(left, right, test, on_problem, note)
            note_coverage(gold, left, right, note)
            known = np.isin(np.unique(gold.pairs.rows), used.rows).sum()
            if known:
                note(f"{known:,} of {counted(gold.covered, 'test source')} are fitted to, too")
            splits = [Split(used, gold.pairs)]
        else:
            splits = Split.several(used, plan.holdout, plan.seed)
            if not splits[0].measurable:
                raise InputError(
                    f"{counted(paired.covered, 'source')} with pairs: "
                    + ("too few to hold any out" if plan.holdout else "none is held out"),
                    hint="more pairs, --holdout .1, or --test FILE",
                )
        rows = list(_compared(names, plan, splits, note, advance, retrievals, unaligned=True))
        if all(row["method"] == "none" for row in rows):
            raise InputError(f"none of {', '.join(names)} can be fitted to these pairs")
        return rows


def choose(
    collection: str,
    k: int,
    *,
    seed: int = 0,
    db: str | os.PathLike[str] = DEFAULT_DB,
    note: Note = lambda message: None,
) -> list[Row]:
    """Choose the records of a collection that are most worth a pair, the most worth first.

    Parameters
    ----------
    collection : str
    k : int
        How many; all, if there are fewer.
    seed : int
    db : path
    note : callable

    Returns
    -------
    rows : list of dict
        ``rank``, ``id`` and ``text``.
    """
    from embcli.core.alignment.selection import select

    with Store(db, readonly=True) as store, store.snapshot():
        side = Side.load(store.collection(collection), note)
        chosen = select(side.vectors, min(k, len(side.keys)), seed=seed).tolist()
        records = side.collection.get_by_key(side.keys[chosen].tolist())
        found = [records[key] for key in side.keys[chosen].tolist()]
    return [
        {"rank": rank, "id": record.id, "text": record.text} for rank, record in enumerate(found, 1)
    ]


def finished(map: Map, target: Side) -> Map:
    """Scale to unit length what is led into a target's own space where all vectors have that."""
    one_sided = not map.target and target.recipe.normalized
    return Map(map.source.then(Transform.of(Unit()))) if one_sided else map


def _temperature(map: Map, pairs: Pairs) -> float | None:
    """Fit the temperature of the inverted softmax, for later evaluations, to what was fitted to."""
    if not len(pairs.rows):
        return None
    from embcli.core.alignment.retrieval import fitted_temperature

    thin = thinned(pairs)
    source, target = map.source.apply(thin.source), map.target.apply(thin.target)
    return fitted_temperature(source, target, thin.rows, thin.columns)


def _to_pairs(
    plan: Plan, pairs: Pairs, note: Note, advance: Advance
) -> tuple[str, Map, list[Row], None]:
    names = CANDIDATES if plan.method == AUTO else (plan.method,)
    splits = Split.several(pairs, plan.holdout, plan.seed)
    rows: list[Row] = []
    if splits[0].measurable:
        rows = list(_compared(names, plan, splits, note, advance))
        if not rows:
            raise InputError(f"none of {', '.join(names)} can be fitted to these pairs")
    else:
        count = len(np.unique(pairs.rows))
        reason = f"too few to hold {LEAST_HELD_OUT} out" if plan.holdout else "all to fit to"
        by = f"fitted by {names[0]}, " if plan.method == AUTO else ""
        note(f"{counted(count, 'source')}, {reason}: {by}no figures")
    dim = min(pairs.source.shape[1], pairs.target.shape[1])
    if len(pairs.rows) < dim and plan.refine is None:
        note(
            f"{counted(len(pairs.rows), 'pair')} for {dim:,} components: in most directions the "
            "map is arbitrary (--refine may help)"
        )
    chosen = _best(rows) if rows else names[0]
    return chosen, fitter(chosen, plan, note)(pairs), rows, None


def _without_pairs(
    plan: Plan, pairs: Pairs, note: Note, advance: Advance
) -> tuple[str, Map, list[Row], dict[str, Any]]:
    """Fit by one method after the other until the map is to be believed, or take the best."""
    from embcli.core.alignment.confidence import confidence

    plan.check_unpaired()
    able = [method.name for method in METHODS.values() if not method.paired]
    if plan.method not in (AUTO, *able):
        raise UsageError(
            f"method {plan.method!r} needs pairs", hint=f"--method {' or '.join(able)}"
        )
    found = []
    names = UNPAIRED if plan.method == AUTO else (plan.method,)
    for number, name in enumerate(names):
        advance(number, len(names), number)
        map = fitter(name, plan)(pairs)
        sure = confidence(pairs, map, seed=plan.seed)
        found.append((sure.ratio, name, map, sure))
        note(
            f"{name}: {'reliable' if sure.reliable else 'doubtful'}; mean CSLS of mutual nearest "
            f"neighbours {sure.score:.3f}, {sure.ratio:.2f} times what chance gives "
            f"({sure.share:.0%} of {sure.vectors:,} have one)"
        )
        if sure.reliable:
            break
    _, name, map, sure = max(found, key=lambda each: each[0])
    return name, map, [], sure._asdict()


def _selected(pairs: Pairs, plan: Plan, note: Note) -> Pairs:
    if plan.select is None or plan.select >= len(sources := np.unique(pairs.rows)):
        return pairs
    from embcli.core.alignment.selection import select

    chosen = sources[select(pairs.source[sources], plan.select, seed=plan.seed)]
    note(f"chose {counted(plan.select, 'source')} of {len(sources):,} to cover them all")
    return pairs.take(np.isin(pairs.rows, chosen))


def _compared(
    names: Sequence[str],
    plan: Plan,
    splits: Sequence[Split],
    note: Note,
    advance: Advance,
    retrievals: Sequence[str] = RETRIEVALS,
    unaligned: bool = False,
) -> Iterator[Row]:
    first = splits[0].train
    facts = {"pairs": len(first.rows), "splits": len(splits)}
    if unaligned and first.source.shape[1] == first.target.shape[1]:
        rows = [measured(Map(Transform()), split, retrievals) for split in splits]
        for row in together(rows):
            yield {"method": "none", **row, **facts, "pairs": 0, "two_sided": False, "seconds": 0.0}
    for number, name in enumerate(names):
        advance(number, len(names), number)
        started = time.perf_counter()
        try:
            maps = [fitter(name, plan)(split.train) for split in splits]
        except (InputError, UsageError, ModelError) as error:
            if len(names) == 1:
                raise
            note(f"{name}: {error.message}")
            continue
        seconds = round((time.perf_counter() - started) / len(splits), 3)
        each = [measured(map, split, retrievals) for map, split in zip(maps, splits, strict=True)]
        two_sided = bool(maps[0].target)
        for row in together(each):
            yield {"method": name, **row, **facts, "two_sided": two_sided, "seconds": seconds}


def _best(rows: Sequence[Row]) -> str:
    """Name the method with the greatest MRR under CSLS; of equals the first tried."""
    return str(max((r for r in rows if r["retrieval"] == "csls"), key=lambda r: r["MRR"])["method"])
