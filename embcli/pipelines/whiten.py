"""Fitting maps that make the space of a collection isotropic."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_DB
from embcli.core.correlation import spearman
from embcli.core.cosine import pair_cosines, unit32
from embcli.core.maps import Map, Transform
from embcli.core.separability.isotropy import anisotropy, effective_rank, isoscore
from embcli.core.separability.moments import moments
from embcli.core.separability.vectors import SAMPLE
from embcli.core.space_similarity import neighbour_overlap
from embcli.core.whitening import METHODS, Directions, Method, add_up, ledoit_wolf
from embcli.errors import InputError, NothingFoundError, UsageError, counted
from embcli.formats import Problem
from embcli.formats.wordsets import SimilaritySet, read_word_set
from embcli.pipelines.lexicon import Lexicon
from embcli.pipelines.pairwise import Advance, Note
from embcli.pipelines.queries import QueryOptions
from embcli.store import Collection, Store, StoredMap

Row = dict[str, Any]

_NEIGHBOURS = 10
_FEWEST = 2 * _NEIGHBOURS
_MEASURES = {
    "mean cosine": anisotropy,
    "IsoScore": isoscore,
    "effective rank": effective_rank,
}
# Of so many records, at even distances, neighbours are looked for.
_ASKED = 2000


@dataclass(frozen=True)
class Plan:
    """How to whiten.

    Attributes
    ----------
    method : str
        A key of `embcli.core.whitening.METHODS`.
    components : int, optional
        For abtt: how many to take away.
    dims : int, optional
        For pca: how many to keep.
    shrinkage : float, optional
        For pca and zca: how far variances are drawn towards their mean.

    Raises
    ------
    UsageError
        The method is unknown, is told what it does not take, or a number is out of range.
    """

    method: str = "abtt"
    components: int | None = None
    dims: int | None = None
    shrinkage: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"no method {self.method!r} (there are: {', '.join(METHODS)})")
        for option in self.given:
            if option not in self.chosen.options:
                able = [method.name for method in METHODS.values() if option in method.options]
                raise UsageError(
                    f"method {self.method!r} takes no --{option} (those that do: {', '.join(able)})"
                )
        if self.components is not None and self.components < 1:
            raise UsageError(f"--components is at least 1, not {self.components}")
        if self.dims is not None and self.dims < 2:
            raise UsageError(f"--dims is at least 2, not {self.dims}")
        if self.shrinkage is not None and not 0 <= self.shrinkage <= 1:
            raise UsageError(f"--shrinkage lies between 0 and 1, not {self.shrinkage:g}")

    @property
    def given(self) -> dict[str, float]:
        """What the method is told."""
        options = asdict(self)
        del options["method"]
        return {name: value for name, value in options.items() if value is not None}

    @property
    def chosen(self) -> Method:
        """The method."""
        return METHODS[self.method]


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
    sts: Iterable[str | os.PathLike[str]] = (),
    sample: int = SAMPLE,
    db: str | os.PathLike[str] = DEFAULT_DB,
    options: QueryOptions | None = None,
    replace: bool = False,
    note: Note = lambda message: None,
    problem: Callable[[Problem], object] = lambda problem: None,
    advance: Advance = lambda done, total, count: None,
) -> Fitted:
    """Fit a map to the directions of a collection's vectors, and keep it in the store.

    Parameters
    ----------
    collection : str
        All its vectors are read, chunks one by one, in one pass.
    name : str
        What to call the map.
    plan : Plan
    sts : iterable of path
        Pairs of texts with scores, see `embcli.formats.wordsets.read_word_set`; how cosines agree
        with them is measured. Texts are encoded by the collection's model or, where vectors were
        imported, looked up by id.
    sample : int
        At most so many records, at even distances, are measured.
    db : path
    options : QueryOptions, optional
        How texts are encoded.
    replace : bool
        Take the place of a map of that name.
    note, problem, advance : callable
        Told what a user should know, of lines that cannot be read, and how far the pass over the
        vectors has come.

    Returns
    -------
    fitted : Fitted

    Raises
    ------
    InputError
        There are too few vectors, or all point the same way; or a file has no pairs.
    NothingFoundError
        The collection has vectors of no pair of a file.
    UsageError, StoreError, ModelError
    """
    if sample < _FEWEST:
        raise UsageError(f"--sample is at least {_FEWEST}, not {sample}")
    sets = [_read_pairs(file, problem) for file in sts]
    with Store.existing(db) as store:
        store.maps.check_name(name, replace=replace)
    with Store(db, readonly=True) as store, store.snapshot():
        source = store.collection(collection)
        if source.recipe.multivector:
            raise UsageError(
                f"collection {collection!r} has a vector for every token: maps are for one a text",
                hint="embcli encode without --pooling none",
            )
        if not len(source):
            raise InputError(f"collection {collection!r} is empty", hint="embcli encode FILE")
        found = add_up(_blocks(source, advance))
        transform = plan.chosen.fit(found, **plan.given)
        facts = _facts(plan, found, note)
        rows = _measured(transform, source.sample(sample))
        if sets:
            lexicon = Lexicon(store, source, options=options, note=note)
            rows += [_agreement(transform, pairs, lexicon, note) for pairs in sets]
        recipe = source.recipe
    fit_facts = {
        "options": {"method": plan.method, **plan.given},
        "collections": {"source": collection},
        "fitted": facts,
        "measured": rows,
    }
    arguments = {"map": name, "method": plan.method, **plan.given}
    with Store(db) as store, store.run("whiten fit", collection, arguments) as counts:
        counts.update(facts)
        kept = store.maps.add(
            name, Map(transform, transform), method=plan.method, source=recipe, target=recipe,
            fit=fit_facts, replace=replace,
        )  # fmt: skip
    return Fitted(kept, rows)


def check_whitening(name: str, db: str | os.PathLike[str] = DEFAULT_DB) -> None:
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
            f"map {name!r} was made by {map.method}, and whitens nothing",
            hint=f"embcli align apply {name}",
        )


def _blocks(source: Collection, advance: Advance) -> Iterator[NDArray[np.float32]]:
    done, total = 0, source.count_vectors()
    for block in source.scan():
        yield block.vectors
        done += len(block.vectors)
        advance(done, total, done)


def _facts(plan: Plan, found: Directions, note: Note) -> dict[str, Any]:
    """Say what the map is made of, with the shrinkage that was estimated."""
    facts: dict[str, Any] = {"vectors": found.n, "zeros": found.zeros}
    if found.zeros:
        note(f"{counted(found.zeros, 'vector')} of zeros left out")
    if "shrinkage" in plan.chosen.options:
        facts["shrinkage"] = plan.given.get("shrinkage", ledoit_wolf(found))
        if plan.shrinkage is None:
            note(f"shrinkage {facts['shrinkage']:.3g}, as Ledoit and Wolf estimate it")
    return facts


def _measured(transform: Transform, sample: NDArray[np.float32]) -> list[Row]:
    """Measure a sample before and after; what there is nothing left of is left out of both."""
    after = transform.apply(sample)
    there = ~transform.vanished(sample, after)
    before, after = unit32(sample[there]), unit32(after[there])
    n = len(before)
    left, right = moments(before), moments(after)
    rows = [_row(name, measure(left), measure(right), n) for name, measure in _MEASURES.items()]
    if n >= _FEWEST:
        asked = np.unique(np.linspace(0, n - 1, min(n, _ASKED)).astype(np.int64))
        overlap = neighbour_overlap(before, after, _NEIGHBOURS, rows=asked)
        rows.append(_row(f"overlap@{_NEIGHBOURS}", 1.0, overlap, len(asked), f"among {n:,}"))
    return rows


def _read_pairs(
    path: str | os.PathLike[str], problem: Callable[[Problem], object]
) -> SimilaritySet:
    pairs, problems = read_word_set(path)
    if not isinstance(pairs, SimilaritySet):
        raise InputError(f"{path}: these are analogies; expected two texts and a score a line")
    for found in problems:
        problem(found)
    return pairs


def _agreement(transform: Transform, pairs: SimilaritySet, lexicon: Lexicon, note: Note) -> Row:
    """Correlate cosines with the scores of pairs, before and after."""
    texts: Sequence[str] = list(dict.fromkeys(text for pair in pairs.pairs for text in pair[:2]))
    missing = {*lexicon.missing(texts)}
    covered = [pair for pair in pairs.pairs if not missing & {*pair[:2]}]
    if len(covered) < 2:
        raise NothingFoundError(
            f"collection {lexicon.collection.name!r} has vectors of "
            f"{counted(len(covered), 'pair')} of {pairs.name}, and two are needed"
        )
    if missing:
        without = counted(len(pairs.pairs) - len(covered), "pair")
        note(f"{pairs.name}: {without} left out, such as with {min(missing)!r}")
    found, vectors = lexicon.find(text for text in texts if text not in missing)
    row_of = {text: row for row, text in enumerate(found)}
    left, right = (
        np.array([row_of[text] for text in side]) for side in list(zip(*covered, strict=True))[:2]
    )
    scores = [score for *_, score in covered]
    before, after = (
        spearman(pair_cosines(of, of, left, right), scores)
        for of in (vectors, transform.apply(vectors))
    )
    return _row("Spearman", before, after, len(covered), pairs.name)


def _row(measure: str, before: float, after: float, n: int, of: str = "") -> Row:
    return {
        "measure": measure,
        "set": of,
        "before": _rounded(before),
        "after": _rounded(after),
        "n": n,
    }


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)
