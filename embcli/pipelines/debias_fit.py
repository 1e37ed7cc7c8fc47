"""Fitting maps that take a bias, or a labelled attribute, out of a space."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_DB
from embcli.core.cosine import pair_cosines, unit
from embcli.core.debiasing.subspace import direct_bias, projections
from embcli.core.maps import Edits, Linear, Map, Transform, Unit
from embcli.errors import InputError, UsageError, counted
from embcli.formats.bias_spec import BiasSpec, kept_spec
from embcli.pipelines.debias_erase import Made, Row, erasing, of_label, probed
from embcli.pipelines.debias_plan import AWAY, LABEL, METHODS, WORDS, Plan
from embcli.pipelines.debias_words import Bias, check_sklearn, held_out, neutral, texts_of
from embcli.pipelines.lexicon import Lexicon
from embcli.pipelines.pairwise import Note
from embcli.pipelines.queries import QueryOptions
from embcli.pipelines.sides import Side
from embcli.store import Store, StoredMap

_SAMPLE = 10_000
# Fewer records of a side are no classes.
_LEAST_BIASED = 10
_SAME = 1e-6
_STRENGTH = 0.2


@dataclass(frozen=True, eq=False)
class Fitted:
    """A map that was kept, and what was measured on the way.

    Attributes
    ----------
    map : StoredMap
    rows : list of dict
        Each a ``measure`` on a ``set``, ``before`` and ``after``, of ``n`` things.
    """

    map: StoredMap
    rows: list[Row]


def fit(
    collection: str,
    name: str,
    plan: Plan,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    ignore_case: bool = False,
    options: QueryOptions | None = None,
    replace: bool = False,
    note: Note = lambda message: None,
) -> Fitted:
    """Fit a map that takes something out of the space of a collection, and keep it in the store.

    Parameters
    ----------
    collection : str
        Whose space it is. Soft, inlp and leace read its vectors; the words of a spec are looked
        up in it, or encoded by its model.
    name : str
        What to call the map.
    plan : Plan
    db : path
    ignore_case : bool
        See `embcli.pipelines.lexicon.Lexicon`.
    options : QueryOptions, optional
        How words are encoded.
    replace : bool
        Take the place of a map of that name.
    note : callable
        Told what a user should know.

    Returns
    -------
    fitted : Fitted
        What is said of probes is of vectors that a map was not fitted to: with words the one that
        is kept; with a label one that was fitted to the others, the one kept being fitted to all.

    Raises
    ------
    InputError
        Too few words or records, one class, or a subspace of more components than there are.
    UsageError, StoreError, ModelError
    """
    with Store.existing(db) as store:
        store.maps.check_name(name, replace=replace)
    with Store(db, readonly=True) as store, store.snapshot():
        source = store.collection(collection)
        lexicon = Lexicon(store, source, ignore_case=ignore_case, options=options, note=note)
        made = _FITTERS[plan.concept](plan, lexicon, note)
        sample = source.sample(_SAMPLE)
        recipe = source.recipe
    change = _change(made.transform, sample)
    rows = [*made.rows, change]
    facts = {
        "options": plan.told(),
        "spec": plan.spec and kept_spec(plan.spec),
        "collections": {"source": collection},
        "concept": made.facts,
        "measured": rows,
    }
    map = Map(made.transform, made.transform, made.edits, made.scaled)
    arguments = {"map": name, **plan.told()}
    with Store(db) as store, store.run("debias fit", collection, arguments) as counts:
        counts.update({"rows": len(rows)})
        kept = store.maps.add(
            name, map, method=plan.chosen.name, source=recipe, target=recipe, fit=facts,
            replace=replace,
        )  # fmt: skip
    return Fitted(kept, rows)


def check_debiasing(name: str, db: str | os.PathLike[str] = DEFAULT_DB) -> None:
    """Refuse a map that leads elsewhere, rather than changing one space.

    Raises
    ------
    UsageError
    StoreError
        There is no such map.
    """
    with Store(db, readonly=True) as store:
        map = store.maps.get(name)
    if map.method not in METHODS:
        raise UsageError(
            f"map {name!r} was made by {map.method}, and takes no bias out",
            hint=f"embcli align apply {name}",
        )


def _change(transform: Transform, sample: NDArray[np.float32]) -> Row:
    after = transform.apply(sample)
    rows = np.arange(len(sample))
    same = pair_cosines(sample, after, rows, rows)
    return {
        "measure": "mean cosine with what it was", "set": f"{len(sample):,} records", "before": 1.0,
        "after": round(float(np.mean(same)), 6) if len(same) else None, "n": len(sample),
    }  # fmt: skip


def _of_words(plan: Plan, lexicon: Lexicon, note: Note) -> Made:
    from embcli.core.debiasing import erasure

    assert plan.spec is not None
    bias = Bias.of(plan.spec, lexicon, plan.components, note)
    method = plan.chosen.name
    basis = bias.subspace.basis
    if method == "projection":
        made = Made(erasure.projection(basis))
    elif method == "mean-difference":
        rows = np.concatenate([unit(row) for row in bias.sets])
        labels = np.tile(np.arange(rows.shape[0] // len(bias.sets)), len(bias.sets))
        made = Made(erasure.mean_difference(rows, labels))
    elif method == "hard":
        made = _hard(plan.spec, bias, lexicon, note)
    elif method == "soft":
        made = _soft(plan, bias, lexicon, note)
    else:
        made = _of_most_biased(plan, bias, lexicon, note)
    made.facts |= bias.facts()
    made.rows[:0] = _direct_bias(plan.spec, bias, lexicon, made)
    return made


def _hard(spec: BiasSpec, bias: Bias, lexicon: Lexicon, note: Note) -> Made:
    from embcli.core.debiasing.bolukbasi import equalized
    from embcli.core.debiasing.erasure import projection

    basis = bias.subspace.basis
    given = spec.equalize or spec.definitional
    sets = [words for words in _cased(given, lexicon) if _differ(words, lexicon, basis)]
    words = [word for of_set in sets for word in of_set]
    made = np.empty((0, basis.shape[1]))
    if sets:
        both = unit(lexicon.find(words)[1]).reshape(len(sets), len(sets[0]), -1)
        made = equalized(both, basis).reshape(len(words), -1)
    equal = {*words}
    there = [
        word for word in spec.specific
        if word not in equal and (lexicon.encodes or not lexicon.missing([word]))
    ]  # fmt: skip
    what = "pair" if not given or len(given[0]) == 2 else "set"
    note(
        f"{counted(len(sets), what)} equalized, {counted(len(there), 'specific word')} left as "
        f"{'it is' if len(there) == 1 else 'they are'}"
    )
    # Records may be written in another case than the spec's words.
    kept, replaced = (tuple(map(lexicon.spelled, some)) for some in (there, words))
    return Made(
        Transform.of(Unit()).then(projection(basis)),
        Edits(kept, replaced, made),
        scaled=True,
        facts={"equalized": len(sets), "kept": len(there)},
    )


def _cased(sets: Iterable[Sequence[str]], lexicon: Lexicon) -> list[tuple[str, ...]]:
    """Give sets all of whose words are there, in the cases the paper's program takes, once."""
    forms: list[Callable[[str], str]] = [str, str.lower, str.title, str.upper]
    cased = dict.fromkeys(tuple(map(form, words)) for words in sets for form in forms)
    seen: set[str] = set()
    found = []
    for words in cased:
        if lexicon.missing(words):
            continue
        # Two spellings may be of one record.
        records = {lexicon.spelled(word) for word in words}
        if len(records) == len(words) and not seen & records:
            seen |= records
            found.append(words)
    return found


def _differ(words: Sequence[str], lexicon: Lexicon, basis: NDArray[np.float64]) -> bool:
    """Whether the words of a set can be told apart within the subspace."""
    within = unit(lexicon.find(words)[1]) @ basis.T
    return bool(np.linalg.norm(within - within.mean(axis=0), axis=1).min() > _SAME)


def _soft(plan: Plan, bias: Bias, lexicon: Lexicon, note: Note) -> Made:
    from embcli.core.debiasing.bolukbasi import soft

    assert plan.spec is not None
    side = Side.load(lexicon.collection, note)
    vectors = unit(side.vectors).astype(np.float32)
    rows = neutral(plan.spec, texts_of(side), lexicon.ignore_case)
    transform = soft(
        vectors,
        vectors[rows],
        bias.subspace.basis,
        strength=_STRENGTH if plan.strength is None else plan.strength,
    )
    return Made(Transform.of(Unit()).then(transform), facts={"neutral": len(rows)})


def _of_most_biased(plan: Plan, bias: Bias, lexicon: Lexicon, note: Note) -> Made:
    """Fit to the most biased records but those held out, on which it is measured."""
    from embcli.core.debiasing.lipstick import most_biased

    assert plan.spec is not None
    check_sklearn(f"method {plan.chosen.name!r}")
    side = Side.load(lexicon.collection, note)
    rows = neutral(plan.spec, texts_of(side), lexicon.ignore_case)
    along = projections(side.vectors[rows], bias.subspace.basis)[:, 0]
    each = min(plan.biased, len(rows) // 2)
    if each < _LEAST_BIASED:
        raise InputError(
            f"method {plan.chosen.name!r} takes {_LEAST_BIASED} records at least of either side of "
            f"the direction, and collection {side.name!r} has {counted(len(rows), 'record')} "
            f"without a word of the spec; --biased is {plan.biased:,}",
            hint="--method hard or projection, or a collection of many words",
        )
    if each < plan.biased:
        some = counted(each, "record")
        note(f"{some} of each side, rather than {plan.biased:,}: there are no more")
    chosen, labels = most_biased(along, each)
    held = held_out([side.ids[row] for row in rows[chosen]])
    vectors = unit(side.vectors[rows[chosen]]).astype(np.float32)
    transform, facts = erasing(plan, vectors[~held], labels[~held], note)
    measured = probed(plan, transform, vectors, labels, held, f"{each:,} most biased a side")
    return Made(Transform.of(Unit()).then(transform), facts=facts, rows=measured)


def _away(plan: Plan, lexicon: Lexicon, note: Note) -> Made:
    from embcli.core.debiasing.erasure import projection

    if missing := lexicon.missing(plan.away):
        raise InputError(
            f"--away {missing[0]!r}: "
            + (
                "the model knows nothing of this text" if lexicon.encodes else
                f"there is no such word in collection {lexicon.collection.name!r}"
            )
        )  # fmt: skip
    _, vectors = lexicon.find(plan.away)
    transform = projection(unit(vectors))
    (linear,) = transform.steps
    assert isinstance(linear, Linear)
    rank = round(float(len(linear.matrix) - np.trace(linear.matrix)))
    return Made(transform, facts={"away": list(plan.away), "directions": rank})


def _direct_bias(spec: BiasSpec, bias: Bias, lexicon: Lexicon, made: Made) -> list[Row]:
    rows = []
    for words in spec.words:
        names = [words.words[row] for row in neutral(spec, words.words)]
        found, vectors = lexicon.find(names)
        if not found:
            continue
        after = made.transform.apply(vectors.astype(np.float64))
        if made.edits is not None:
            after = made.edits.apply(found, vectors, after)
        figures = [direct_bias(of, bias.subspace.basis) for of in (vectors, after)]
        rows.append(
            {
                "measure": "direct bias, c = 1", "set": f"neutral {words.name}",
                "before": figures[0], "after": figures[1], "n": len(found),
            }
        )  # fmt: skip
    return rows


_FITTERS: Mapping[str, Callable[[Plan, Lexicon, Note], Made]] = {
    WORDS: _of_words,
    LABEL: of_label,
    AWAY: _away,
}
