"""Fitting maps between collections, and comparing the ways of fitting them."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from embcli.config import DEFAULT_DB
from embcli.core.alignment import METHODS, Fit, Method, Pairs, method
from embcli.core.maps import Map, Transform, Unit
from embcli.errors import InputError, ModelError, UsageError, counted
from embcli.formats import Problem
from embcli.pipelines.pairwise import Advance, Note
from embcli.pipelines.sides import NONE, Paired, Side, open_sides, pair_up
from embcli.store import Store, StoredMap

if TYPE_CHECKING:
    from embcli.pipelines.compatibility import Report

AUTO = "auto"
# Tried by "auto": what is best with few pairs, with many, and in between.
CANDIDATES = ("procrustes", "ridge", "vecmap", "cca")
# The same without pairs; the second is for sentences.
UNPAIRED = ("unsupervised", "mini-vec2vec")
RETRIEVALS = ("nn", "csls")
REFINEMENTS = ("mutual", "self-learning")
# Fewer held-out sources would say nothing.
_LEAST_HELD_OUT = 10
# Of fewer sources, holding ten out would leave too little to fit to.
_FEWEST_TO_SPLIT = 30
# Of few pairs a share is too small to tell methods apart: then several are held out in turn.
_ENOUGH_HELD_OUT = 500
_MOST_SPLITS = 5
# More say no more, and each is compared with all targets.
_MOST_HELD_OUT = 2000
# Sources that CSLS looks at around every candidate; see `measured`.
_MOST_AROUND = 20_000
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How to fit a map.

    Attributes
    ----------
    method : str
        A key of `embcli.core.alignment.METHODS`, or "auto": of some methods the one that
        translates held-out pairs best.
    options : mapping of str to str
        What the method is told, as written on a command line.
    refine : {"mutual", "self-learning"}, optional
        Induce a dictionary by a rotation and rotate again, round by round; other methods are then
        fitted to the last one.
    rounds : int, optional
        Most rounds of that; by default, as many as help.
    robust : bool
        Find pairs that do not belong together, and fit without them.
    select : int, optional
        Fit to so many of the sources only, chosen to cover all.
    holdout : float
        Share of the sources that is kept aside to measure with, at most `_MOST_HELD_OUT`.
    seed : int

    Raises
    ------
    UsageError
        There is no such method, or a number is out of its range.
    """

    method: str = AUTO
    options: Mapping[str, str] = field(default_factory=dict)
    refine: str | None = None
    rounds: int | None = None
    robust: bool = False
    select: int | None = None
    holdout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method != AUTO:
            parsed_options(method(self.method), self.options)
        elif self.options:
            raise UsageError("--option goes with a --method")
        if self.refine not in (None, *REFINEMENTS):
            raise UsageError(f"no refinement {self.refine!r} (there are: {', '.join(REFINEMENTS)})")
        if not 0 <= self.holdout < 1:
            raise UsageError(f"--holdout is a share from 0 to below 1, not {self.holdout:g}")
        if min(self.select or 1, self.rounds or 1) < 1 or 0 in (self.select, self.rounds):
            raise UsageError("--select and --rounds must be at least 1")
        if self.rounds is not None and self.refine is None:
            raise UsageError("--rounds is for --refine")
        if self.seed < 0:
            raise UsageError(f"--seed must be at least 0, not {self.seed}")


def parsed_options(method: Method, given: Mapping[str, str]) -> dict[str, Any]:
    """Read what a method is told; each value is of the type of its default.

    Raises
    ------
    UsageError
        The method cannot be told that, or the value is not of the type.
    """
    known = {name: default for name, default in method.options.items() if name != "seed"}
    parsed: dict[str, Any] = {}
    for name, text in given.items():
        if name not in known:
            raise UsageError(
                f"method {method.name!r} has no option {name!r} (it has: "
                f"{', '.join(f'{key}={value}' for key, value in known.items()) or 'none'})"
            )
        parsed[name] = _parsed(name, text, known[name])
    return parsed


def _parsed(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise UsageError(f"option {name} is true or false, not {text!r}")
        return text.lower() == "true"
    if isinstance(default, str) and default != AUTO:
        return text
    try:
        if isinstance(default, int):
            return int(text)
        number = float(text)
        if np.isfinite(number):
            return number
    except ValueError:
        pass
    if isinstance(default, str):
        return text
    raise UsageError(f"option {name} is a number like {default}, not {text!r}")


@dataclass(frozen=True, eq=False)
class Split:
    """Pairs to fit to, and pairs to measure with that have none of their sources."""

    train: Pairs
    test: Pairs

    @classmethod
    def several(cls, pairs: Pairs, share: float, seed: int) -> "list[Split]":
        """Keep a share of the sources aside, with all their pairs; of few pairs one after another.

        Returns
        -------
        splits : list of Split
            As many disjoint ones as make `_ENOUGH_HELD_OUT` sources together, at most
            `_MOST_SPLITS`.
        """
        sources = np.unique(pairs.rows)
        # Equal vectors go together: what was fitted to one would be measured with the other.
        same: dict[bytes, int] = {}
        twins = np.array(
            [same.setdefault(pairs.source[row].tobytes(), row) for row in sources.tolist()],
            np.int64,
        )
        groups = np.random.default_rng(seed).permutation(np.unique(twins))
        size = min(round(len(groups) * share), _MOST_HELD_OUT)
        if share and len(groups) >= _FEWEST_TO_SPLIT:
            size = max(size, _LEAST_HELD_OUT)
        if not size:
            return [cls(pairs, pairs.take(np.zeros(len(pairs.rows), np.bool_)))]
        count = min(-(-_ENOUGH_HELD_OUT // size), len(groups) // size, _MOST_SPLITS)
        of_pairs = twins[np.searchsorted(sources, pairs.rows)]
        masks = [np.isin(of_pairs, groups[n * size : (n + 1) * size]) for n in range(count)]
        return [cls(pairs.take(~aside), pairs.take(aside)) for aside in masks]

    @property
    def measurable(self) -> bool:
        """Whether there is enough to measure with."""
        return len(np.unique(self.test.rows)) >= _LEAST_HELD_OUT


def told(name: str, plan: Plan) -> dict[str, Any]:
    """Give all that a method is told, defaults included."""
    chosen = method(name)
    given = parsed_options(chosen, plan.options) if plan.method == name else {}
    seed = {"seed": plan.seed} if "seed" in chosen.options else {}
    return chosen.options | given | seed


def fitter(name: str, plan: Plan) -> Callable[[Pairs], Map]:
    """Give the function that fits as planned, by one method."""
    fit: Fit = partial(method(name).fit, **told(name, plan))
    if plan.robust:
        fit = _robust(fit, plan)
    return _refined(fit, plan, name == "procrustes") if plan.refine is not None else fit


def _robust(fit: Fit, plan: Plan) -> Fit:
    from embcli.core.alignment.robust import robust

    return lambda pairs: robust(pairs, fit, seed=plan.seed).map


def _refined(fit: Fit, plan: Plan, rotation: bool) -> Fit:
    """Refine by Procrustes, which needs few pairs, then fit to the pairs that were found."""
    from embcli.core.alignment.refinement import refine

    refining = partial(refine, kind=plan.refine or "mutual", seed=plan.seed)
    if plan.rounds is not None:
        refining = partial(refining, rounds=plan.rounds)

    def fitted(pairs: Pairs) -> Map:
        found = refining(pairs, fit if rotation else method("procrustes").fit)
        if rotation:
            return found.map
        induced = found.dictionary
        return fit(pairs._replace(rows=induced.rows, columns=induced.columns))

    return fitted


def measured(
    map: Map,
    split: Split,
    retrievals: Sequence[str] = RETRIEVALS,
    temperature: float | None = None,
) -> list[Row]:
    """Translate held-out sources, all targets being candidates.

    Returns
    -------
    rows : list of dict
        For every way of retrieving ``P@1``, ``P@5``, ``P@10``, ``MRR``, how many ``sources`` were
        translated, how many ``candidates`` there were, and among how many sources CSLS and the
        inverted softmax look at each candidate: at most `_MOST_AROUND`, drawn at random.
    """
    from embcli.core.alignment.evaluation import translation

    test = _thinned(split.test)
    pairs = split.train._replace(source=test.source)
    if len(test.source) < len(split.test.source):
        pairs = pairs.take(np.zeros(len(pairs.rows), np.bool_))  # whose rows these are not
    rows = []
    for retrieval in retrievals:
        scores = translation(
            map, pairs, (test.rows, test.columns), retrieval=retrieval, temperature=temperature
        )
        rows.append(
            {
                "retrieval": retrieval,
                **{f"P@{k}": value for k, value in scores.precision.items()},
                "MRR": scores.mrr,
                "sources": len(scores.sources),
                "candidates": len(test.target),
                "around": len(test.source),
            }
        )
    return rows


def _thinned(pairs: Pairs) -> Pairs:
    """Draw sources that are in no pair, if there are too many to compare all with all targets."""
    if len(pairs.source) <= _MOST_AROUND:
        return pairs
    used = np.unique(pairs.rows)
    others = np.setdiff1d(np.arange(len(pairs.source)), used)
    more = max(_MOST_AROUND - len(used), 0)
    drawn = np.random.default_rng(0).choice(others, min(more, len(others)), replace=False)
    kept = np.sort(np.concatenate([used, drawn]))
    return pairs._replace(source=pairs.source[kept], rows=np.searchsorted(kept, pairs.rows))


@dataclass(frozen=True, eq=False)
class Fitted:
    """A map that was kept, and what was measured on the way.

    Attributes
    ----------
    map : StoredMap
    rows : list of dict
        Of every method that was tried and every way of retrieving: how well it translates what
        was held out.
    paired : Paired
    """

    map: StoredMap
    rows: list[Row]
    paired: Paired


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
    return Fitted(kept, rows, paired)


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
    if pairs == NONE and (plan.refine or plan.robust or plan.select is not None):
        raise UsageError("--refine, --robust and --select need pairs")
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


def note_coverage(paired: Paired, source: Side, target: Side, note: Note) -> None:
    """Say how much of what was given both collections have."""
    if paired.origin == NONE:
        return
    if paired.count < paired.given:
        note(
            f"{paired.origin}: {paired.count:,} of {counted(paired.given, 'pair')} have both sides "
            f"in {source.name!r} and {target.name!r} ({paired.covered:,} of "
            f"{counted(paired.sources, 'source')})"
        )
    else:
        note(f"{paired.origin}: {counted(paired.count, 'pair')}")


def finished(map: Map, target: Side) -> Map:
    """Scale to unit length what is led into a target's own space where all vectors have that."""
    one_sided = not map.target and target.recipe.normalized
    return Map(map.source.then(Transform.of(Unit()))) if one_sided else map


def _temperature(map: Map, pairs: Pairs) -> float | None:
    """Fit the temperature of the inverted softmax, for later evaluations, to what was fitted to."""
    if not len(pairs.rows):
        return None
    from embcli.core.alignment.retrieval import fitted_temperature

    thin = _thinned(pairs)
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
        reason = f"too few to hold {_LEAST_HELD_OUT} out" if plan.holdout else "all to fit to"
        by = f"fitted by {names[0]}, " if plan.method == AUTO else ""
        note(f"{counted(count, 'source')}, {reason}: {by}no figures")
    dim = min(pairs.source.shape[1], pairs.target.shape[1])
    if len(pairs.rows) < dim and plan.refine is None:
        note(
            f"{counted(len(pairs.rows), 'pair')} for {dim:,} components: in most directions the "
            "map is arbitrary (--refine may help)"
        )
    chosen = _best(rows) if rows else names[0]
    return chosen, fitter(chosen, plan)(pairs), rows, None


def _without_pairs(
    plan: Plan, pairs: Pairs, note: Note, advance: Advance
) -> tuple[str, Map, list[Row], dict[str, Any]]:
    """Fit by one method after the other until the map is to be believed, or take the best."""
    from embcli.core.alignment.confidence import confidence

    if plan.refine or plan.robust or plan.select is not None:
        raise UsageError("--refine, --robust and --select need pairs; without, methods refine maps")
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
        for row in _together(rows):
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
        for row in _together(each):
            yield {"method": name, **row, **facts, "two_sided": two_sided, "seconds": seconds}


def _together(each: Sequence[list[Row]]) -> Iterator[Row]:
    """Average what was measured with several splits over all their sources."""
    for rows in zip(*each, strict=True):
        sources = sum(row["sources"] for row in rows)
        figures = (name for name in rows[0] if name == "MRR" or name.startswith("P@"))
        yield {
            **rows[0],
            **{name: sum(row[name] * row["sources"] for row in rows) / sources for name in figures},
            "sources": sources,
        }


def _best(rows: Sequence[Row]) -> str:
    """Name the method with the greatest MRR under CSLS; of equals the first tried."""
    return str(max((r for r in rows if r["retrieval"] == "csls"), key=lambda r: r["MRR"])["method"])


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


def evaluate(
    name: str,
    pairs: str,
    *,
    source: str | None = None,
    target: str | None = None,
    retrievals: Sequence[str] = ("nn", "isf", "csls"),
    db: str | os.PathLike[str] = DEFAULT_DB,
    db_b: str | os.PathLike[str] | None = None,
    note: Note = lambda message: None,
    on_problem: Callable[[Problem], None] = lambda problem: None,
) -> tuple[list[Row], list[Row]]:
    """Translate the sources of pairs through a map, among all vectors of the target.

    Parameters
    ----------
    name : str
        The map.
    pairs : str
        See `embcli.pipelines.sides.pair_up`.
    source, target : str, optional
        Collections in the spaces of the map; by default those it was fitted to.
    retrievals : sequence of str
    db, db_b, note, on_problem
        As in `fit`.

    Returns
    -------
    scores : list of dict
        For every way of retrieving.
    geometry : list of dict
        What the map does to the space: ``measure``, ``value``.

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
        gold = pair_up(*sides, pairs, on_problem, note)
        note_coverage(gold, *sides, note)
        if not gold.count:
            raise UsageError("--pairs none: there is nothing to measure with")
        if gold.origin == (map.fit.get("pairs") or {}).get("origin"):
            note(f"the map was fitted to {gold.origin}: of other pairs figures would be lower")
        none = gold.pairs.take(np.zeros(gold.count, np.bool_))
        heat = map.fit.get("temperature")
        rows = measured(map.map, Split(none, gold.pairs), retrievals, heat)
        return rows, _geometry(map.map, gold.pairs)


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
