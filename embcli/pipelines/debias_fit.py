"""Fitting maps that take a bias, or a labelled attribute, out of a space."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_DB
from embcli.core.cosine import pair_cosines, unit
from embcli.core.debiasing.subspace import direct_bias, projections
from embcli.core.maps import Edits, Linear, Map, Transform, Unit
from embcli.errors import InputError, UsageError, counted
from embcli.formats.bias_spec import BiasSpec
from embcli.pipelines.debias_words import Bias, check_sklearn, neutral, texts_of
from embcli.pipelines.lexicon import Lexicon
from embcli.pipelines.pairwise import Note
from embcli.pipelines.queries import QueryOptions
from embcli.pipelines.sides import Side
from embcli.store import Store, StoredMap

Row = dict[str, Any]

WORDS, LABEL, AWAY = "words", "label", "away"
_SAMPLE = 10_000
_LEAST_OF_A_CLASS = 5
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Method:
    """A way to take something out of a space.

    Attributes
    ----------
    name, summary : str
    takes : tuple of str
        What may tell it what to take out: "words" of a spec, a "label", or texts to go "away"
        from.
    """

    name: str
    summary: str
    takes: tuple[str, ...]


METHODS = {
    method.name: method
    for method in (
        Method(
            "hard",
            "neutralize all but specific words, equalize pairs (Bolukbasi et al. 2016)",
            (WORDS,),
        ),
        Method(
            "soft",
            "a linear map between keeping all similarities and neutralizing (Bolukbasi et al. "
            "2016)",
            (WORDS,),
        ),
        Method(
            "projection",
            "take the subspace out of every vector (Bolukbasi et al. 2016, Dev & Phillips 2019)",
            (WORDS, AWAY),
        ),
        Method(
            "mean-difference",
            "take the differences of the classes' means out (Dev & Phillips 2019)",
            (WORDS, LABEL),
        ),
        Method(
            "inlp",
            "take out what linear classifiers find, one after the other (Ravfogel et al. 2020)",
            (WORDS, LABEL),
        ),
        Method(
            "leace",
            "the least change after which no linear classifier finds anything (Belrose et al. "
            "2023)",
            (WORDS, LABEL),
        ),
    )
}
_DEFAULTS = {WORDS: "hard", LABEL: "leace", AWAY: "projection"}


@dataclass(frozen=True)
class Plan:
    """How to debias.

    Attributes
    ----------
    method : str, optional
        By default hard for words, leace for a label, projection for texts.
    spec : BiasSpec, optional
    label : str, optional
        A field of the metadata.
    away : tuple of str
        Texts; where vectors of words were imported, words.
    components : int
        Of the bias subspace.
    strength : float
        The λ of soft.
    directions : int, optional
        Most that inlp takes out.
    biased : int
        For inlp and leace with words: so many of the most biased words of each side are the
        two classes.
    seed : int

    Raises
    ------
    UsageError
        The method is unknown or takes something else, or not exactly one of `spec`, `label` and
        `away` is given.
    """

    method: str | None = None
    spec: BiasSpec | None = None
    label: str | None = None
    away: tuple[str, ...] = ()
    components: int = 1
    strength: float = 0.2
    directions: int | None = None
    biased: int = 2500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in (None, *METHODS):
            raise UsageError(f"no method {self.method!r} (there are: {', '.join(METHODS)})")
        given = [self.spec is not None, self.label is not None, bool(self.away)]
        if sum(given) != 1:
            raise UsageError(
                "say what to take out by exactly one of --spec (or --pairs), --label and --away"
            )
        if self.concept not in self.chosen.takes:
            fitting = [method.name for method in METHODS.values() if self.concept in method.takes]
            given_as = "spec" if self.concept == WORDS else self.concept
            raise UsageError(
                f"method {self.method!r} does not work with --{given_as} (those that do: "
                f"{', '.join(fitting)})"
            )
        if not all(text.strip() for text in self.away):
            raise UsageError("--away: a text is empty")
        if self.strength < 0 or not np.isfinite(self.strength):
            raise UsageError(f"--strength is at least 0, not {self.strength:g}")
        if min(self.components, self.biased, self.directions or 1) < 1 or self.directions == 0:
            raise UsageError("--components, --biased and --directions are at least 1")

    @property
    def concept(self) -> str:
        """What tells what to take out: "words", "label" or "away"."""
        return WORDS if self.spec is not None else LABEL if self.label is not None else AWAY

    @property
    def chosen(self) -> Method:
        """The method."""
        return METHODS[self.method or _DEFAULTS[self.concept]]

    def told(self) -> dict[str, Any]:
        """Give what the method was told, as JSON."""
        facts = {key: value for key, value in asdict(self).items() if key != "spec"}
        return facts | {"method": self.chosen.name, "spec": self.spec and self.spec.name}


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


@dataclass
class _Made:
    """What a method came to."""

    transform: Transform
    edits: Edits | None = None
    scaled: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)


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
        What is said of probes is of vectors held out of fitting; the map that is kept is fitted
        to all.

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
        "measure": "mean cosine with what it was", "set": "", "before": 1.0,
        "after": round(float(np.mean(same)), 6) if len(same) else None, "n": len(sample),
    }  # fmt: skip


def _of_words(plan: Plan, lexicon: Lexicon, note: Note) -> _Made:
    from embcli.core.debiasing import erasure

    assert plan.spec is not None
    bias = Bias.of(plan.spec, lexicon, plan.components, note)
    method = plan.chosen.name
    basis = bias.subspace.basis
    if method == "projection":
        made = _Made(erasure.projection(basis))
    elif method == "mean-difference":
        rows = np.concatenate([unit(row) for row in bias.sets])
        labels = np.tile(np.arange(rows.shape[0] // len(bias.sets)), len(bias.sets))
        made = _Made(erasure.mean_difference(rows, labels))
    elif method == "hard":
        made = _hard(plan.spec, bias, lexicon, note)
    elif method == "soft":
        made = _soft(plan, bias, lexicon)
    else:
        made = _of_most_biased(plan, bias, lexicon, note)
    made.facts |= bias.facts()
    made.rows[:0] = _direct_bias(plan.spec, bias, lexicon, made)
    return made


def _hard(spec: BiasSpec, bias: Bias, lexicon: Lexicon, note: Note) -> _Made:
    from embcli.core.debiasing.bolukbasi import equalized
    from embcli.core.debiasing.erasure import projection

    given = spec.equalize or spec.definitional
    pairs = [pair for pair in _cased(given, lexicon) if len(pair) == 2]
    if given and len(given[0]) != 2:
        note(f"spec {spec.name!r} has sets of {len(given[0])} words: they are not equalized")
    words = [word for pair in pairs for word in pair]
    _, vectors = lexicon.find(words)
    both = unit(vectors).reshape(len(pairs), 2, -1)
    made = equalized(both, bias.subspace.basis).reshape(len(words), -1)
    kept = [word for word in spec.specific if word not in set(words)]
    there = len(kept) - len(lexicon.missing(kept)) if not lexicon.encodes else len(kept)
    note(
        f"{counted(len(pairs), 'pair')} equalized, {counted(there, 'specific word')} left as "
        f"{'it is' if there == 1 else 'they are'}"
    )
    return _Made(
        Transform.of(Unit()).then(projection(bias.subspace.basis)),
        Edits(tuple(kept), tuple(words), made),
        scaled=True,
        facts={"equalized": len(pairs), "kept": there},
    )


def _cased(pairs: Iterable[Sequence[str]], lexicon: Lexicon) -> list[tuple[str, ...]]:
    """Give pairs all of whose words are there, in the cases the paper's program takes, once."""
    forms: list[Callable[[str], str]] = [str, str.lower, str.title, str.upper]
    cased = dict.fromkeys(tuple(map(form, pair)) for pair in pairs for form in forms)
    seen: set[str] = set()
    found = []
    for pair in cased:
        if len(set(pair)) == len(pair) and not seen & {*pair} and not lexicon.missing(pair):
            seen |= {*pair}
            found.append(pair)
    return found


def _soft(plan: Plan, bias: Bias, lexicon: Lexicon) -> _Made:
    from embcli.core.debiasing.bolukbasi import soft

    assert plan.spec is not None
    side = Side.load(lexicon.collection)
    vectors = unit(side.vectors).astype(np.float32)
    rows = neutral(plan.spec, texts_of(side))
    transform = soft(vectors, vectors[rows], bias.subspace.basis, strength=plan.strength)
    return _Made(Transform.of(Unit()).then(transform), facts={"neutral": len(rows)})


def _of_most_biased(plan: Plan, bias: Bias, lexicon: Lexicon, note: Note) -> _Made:
    from embcli.core.debiasing.lipstick import most_biased

    assert plan.spec is not None
    side = Side.load(lexicon.collection)
    rows = neutral(plan.spec, texts_of(side))
    along = projections(side.vectors[rows], bias.subspace.basis)[:, 0]
    each = min(plan.biased, len(rows) // 2)
    if each < plan.biased:
        note(f"{each:,} records of each side, rather than {plan.biased:,}: there are no more")
    chosen, labels = most_biased(along, each)
    return _erased(plan, side.vectors[rows[chosen]], labels, "most biased", note)


def _of_label(plan: Plan, lexicon: Lexicon, note: Note) -> _Made:
    assert plan.label is not None
    side = Side.load(lexicon.collection, note)
    rows, labels, names = labelled(side, plan.label, note)
    vectors = side.vectors if len(rows) == len(side.vectors) else side.vectors[rows]
    made = _erased(plan, vectors, labels, plan.label, note)
    sizes = np.bincount(labels).tolist()
    made.facts |= {"label": plan.label, "classes": dict(zip(map(str, names), sizes, strict=True))}
    return made


def labelled(
    side: Side, label: str, note: Note
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str | float]]:
    """Find the records with a label, and number the classes.

    Parameters
    ----------
    side : Side
    label : str
        A field of the metadata.
    note : callable
        Told of records and classes that are left out.

    Returns
    -------
    rows : int64 array, shape (n,)
    labels : int64 array, shape (n,)
    names : list
        Of the classes.

    Raises
    ------
    InputError
        No record has it, or there are fewer than two classes of five records.
    """
    values = side.collection.values(label)
    if not values:
        there = ", ".join(list(side.collection.field_counts())[:8]) or "none"
        raise InputError(
            f"no record of collection {side.name!r} has a field {label!r} (fields: {there})"
        )
    counts = Counter(values.values())
    names = sorted((name for name in counts if counts[name] >= _LEAST_OF_A_CLASS), key=str)
    small = len(counts) - len(names)
    if len(names) < 2:
        raise InputError(
            f"field {label!r} has {len(names)} of {counted(len(counts), 'value')} in at least "
            f"{_LEAST_OF_A_CLASS} records: two classes are needed"
        )
    number = {name: place for place, name in enumerate(names)}
    number_of = {key: number.get(value, -1) for key, value in values.items()}
    labels = np.array([number_of.get(key, -1) for key in side.keys.tolist()], np.int64)
    rows = np.flatnonzero(labels >= 0)
    if small:
        note(
            f"left out: {counted(small, 'value')} of {label!r} in fewer than "
            f"{_LEAST_OF_A_CLASS} records each"
        )
    if len(rows) < len(side.keys):
        note(f"{len(rows):,} of {counted(len(side.keys), 'record')} are of a class of {label!r}")
    return rows, labels[rows], names


def _erased(
    plan: Plan, vectors: NDArray[np.float32], labels: NDArray[np.int64], what: str, note: Note
) -> _Made:
    """Fit to some vectors, measure on the others; then fit to all."""
    from embcli.core.debiasing.probes import probe

    check_sklearn(f"method {plan.chosen.name!r}")
    from sklearn.model_selection import train_test_split

    rows = unit(vectors).astype(np.float32)
    known, held = train_test_split(
        np.arange(len(labels)), test_size=_HELD_OUT, stratify=labels, random_state=plan.seed
    )
    trial, _ = _erasing(plan, rows[known], labels[known])
    before = probe(rows[known], labels[known], rows[held], labels[held], seed=plan.seed)
    after = probe(
        trial.apply(rows[known]), labels[known], trial.apply(rows[held]), labels[held],
        seed=plan.seed,
    )  # fmt: skip
    transform, facts = _erasing(plan, rows, labels)
    if "accuracies" in facts:
        note(f"inlp took {counted(facts['directions'], 'direction')} out")
    measured = {
        "measure": "linear probe accuracy, held out", "set": what,
        "before": before.accuracy, "after": after.accuracy, "n": len(held),
        "chance": before.chance,
    }  # fmt: skip
    return _Made(Transform.of(Unit()).then(transform), facts=facts, rows=[measured])


def _erasing(
    plan: Plan, rows: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[Transform, dict[str, Any]]:
    from embcli.core.debiasing import erasure
    from embcli.core.debiasing.inlp import inlp

    if plan.chosen.name == "mean-difference":
        return erasure.mean_difference(rows, labels), {}
    if plan.chosen.name == "leace":
        return erasure.leace(rows, labels), {}
    found = inlp(rows, labels, directions=plan.directions, seed=plan.seed)
    facts = {"directions": found.directions, "accuracies": list(found.accuracies)}
    return found.transform, facts | {"chance": found.chance}


def _away(plan: Plan, lexicon: Lexicon, note: Note) -> _Made:
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
    return _Made(transform, facts={"away": list(plan.away), "directions": rank})


def _direct_bias(spec: BiasSpec, bias: Bias, lexicon: Lexicon, made: _Made) -> list[Row]:
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


_FITTERS: Mapping[str, Callable[[Plan, Lexicon, Note], _Made]] = {
    WORDS: _of_words,
    LABEL: _of_label,
    AWAY: _away,
}
