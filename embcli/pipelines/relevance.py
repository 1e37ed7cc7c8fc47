"""Which results are relevant: cosines as probabilities, and the calibration they come from."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.core.relevance import (
    DEFAULT,
    Calibration,
    Chance,
    Neighbours,
    expected_calibration_error,
    expected_f1_cut,
    features,
    fit,
)
from embcli.errors import InputError, StoreError, UsageError, counted
from embcli.formats import Problem
from embcli.formats.trec import Judgments, read_judgments
from embcli.pipelines.queries import QueryEncoder, QueryOptions, keep
from embcli.pipelines.search import Found, nearest, nearest_in_parts, read_queries
from embcli.store import Collection, Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Among how many results the end of the list is looked for, if twice K is not more.
DEPTH = 100
FOLDS = 5

_SAMPLE = 256
# Fewer records do not show what is chance.
_LEAST_RECORDS = 20
# What was found out about a collection holds until it has grown or shrunk by this much.
_CHANGE = 0.2


@dataclass(frozen=True)
class Profile:
    """What was found out about the cosines of a collection, and what judgments taught.

    Attributes
    ----------
    records : int
        How many there were then.
    neighbours : Neighbours
    calibration : Calibration or None
        None where there were no judgments.
    queries : int
        How many queries had judgments.
    """

    records: int
    neighbours: Neighbours
    calibration: Calibration | None = None
    queries: int = 0

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `json` wrote."""
        values = json.loads(text)
        fitted = values["calibration"]
        return cls(
            values["records"],
            Neighbours(**values["neighbours"]),
            None if fitted is None else Calibration(fitted[0], tuple(fitted[1])),
            values["queries"],
        )

    @property
    def json(self) -> str:
        """As it is kept in the store."""
        fitted = self.calibration
        values = {
            "records": self.records,
            "neighbours": vars(self.neighbours),
            "calibration": None if fitted is None else [fitted.intercept, fitted.weights],
            "queries": self.queries,
        }
        return json.dumps(values)


class Judge:
    """Tells how likely results are relevant.

    Parameters
    ----------
    collection : Collection
        Read inside a snapshot.
    wanted : bool array, optional
        See `Collection.filter`.
    profile : Profile, optional
        Of the collection; by default the stored one, or one made anew where that is missing or
        outdated.

    Raises
    ------
    UsageError
        There are too few records.
    """

    def __init__(
        self,
        collection: Collection,
        wanted: "NDArray[np.bool_] | None" = None,
        profile: Profile | None = None,
    ) -> None:
        self._collection = collection
        count = len(collection)
        if count < _LEAST_RECORDS:
            raise UsageError(
                f"collection {collection.name!r} has {counted(count, 'record')}: too few to tell "
                f"what is near by chance (at least {_LEAST_RECORDS})"
            )
        self._records = count if wanted is None else int(wanted.sum())
        self.profile = profile or _profile(collection, count)

    @property
    def stored(self) -> str | None:
        """What the store had, as JSON."""
        return self._collection.calibration

    @property
    def is_new(self) -> bool:
        """Whether the profile is worth keeping."""
        return self.profile.json != self.stored

    def describe(
        self, scores: Sequence[float], vectors: "NDArray[np.float32]"
    ) -> "NDArray[np.float64]":
        """Give the `features` of what a query has found, shape (n, 3).

        Parameters
        ----------
        scores : sequence of float
            Falling cosines.
        vectors : float array, shape (dim,) or (m, dim)
            The query's; of several, the nearest counts.
        """
        import numpy as np

        from embcli.core.cosine import cosines

        # A record is as near as the nearest of its vectors, in a sample as among results.
        rows, starts = self._sample
        sample = np.maximum.reduceat(cosines(np.atleast_2d(vectors), rows).max(axis=0), starts)
        chance = Chance.of_sample(sample, max(self._records, 1))
        return features(np.array(scores), chance, self.profile.neighbours)

    def relevant(self, found: Sequence[Found], vectors: "NDArray[np.float32]") -> list[Found]:
        """Cut the list where relevance ends, and note probabilities; see `describe`."""
        described = self.describe([item.score for item in found], vectors)
        calibration = self.profile.calibration or DEFAULT
        probabilities = calibration.probabilities(described)
        count = expected_f1_cut(probabilities)
        return [
            replace(item, relevance=probability)
            for item, probability in zip(
                found[:count], probabilities[:count].round(6).tolist(), strict=True
            )
        ]

    @cached_property
    def _sample(self) -> "tuple[NDArray[np.float32], NDArray[np.int64]]":
        """Vectors of a sample of records, and where those of each begin."""
        import numpy as np

        parts = self._collection.sample_parts(_SAMPLE)
        counts = np.array([len(part) for part in parts])
        return np.concatenate(parts), np.cumsum(counts) - counts


def keep_profile(db: str | os.PathLike[str], collection: str, judge: Judge) -> None:
    """Keep a new profile in the store, if it can be written just now."""
    if judge.is_new:
        with suppress(StoreError), Store(db, timeout=0.1) as store:
            target = store.collection(collection)
            if target.calibration == judge.stored:  # nobody calibrated it meanwhile
                target.set_calibration(judge.profile.json)


@dataclass(frozen=True)
class Quality:
    """How good probabilities and the ends of lists are, on queries with judgments.

    Attributes
    ----------
    calibration : {"default", "fitted", "fitted, cross-validated"}
    queries, results : int
        How many were looked at.
    ece : float
        Expected calibration error of the probabilities.
    brier : float
        Their mean squared error.
    precision, recall, f1 : float
        Of what is kept; means over queries. Keeping nothing has precision 0 here.
    kept : float
        How many results, on average.
    """

    calibration: str
    queries: int
    results: int
    ece: float
    brier: float
    precision: float
    recall: float
    f1: float
    kept: float


def calibrate(
    judgments: str | os.PathLike[str] | None = None,
    queries: str | None = None,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    options: QueryOptions | None = None,
    problem: Callable[[Problem], object] = lambda problem: None,
    note: Callable[[str], None] = lambda message: None,
) -> list[Quality]:
    """Find out how the cosines of a collection become probabilities, and keep that in the store.

    Parameters
    ----------
    judgments : path, optional
        Relevance judgments as BEIR or TREC have them: what is graded above 0 is relevant, what
        is not judged is not. Without them, the calibration that is built in is used again.
    queries : str, optional
        A file of the queries judged; see `embcli.pipelines.search.read_queries`.
    db : path
    collection : str
    options : QueryOptions, optional
    problem : callable
        Told of every line of the judgments that cannot be read.
    note : callable

    Returns
    -------
    qualities : list of Quality
        Of the calibration built in and of the one fitted, the latter on queries it was not
        fitted to. Empty without judgments.

    Raises
    ------
    UsageError
        There are judgments without queries, or queries without judgments, or too few records.
    InputError
        No query has a relevant record in the collection among its judgments, or they say the
        contrary of the cosines.
    """
    if (judgments is None) != (queries is None):
        raise UsageError("--qrels and --queries go together")
    if queries is not None and os.path.isdir(queries):
        raise InputError(f"{queries} is a directory, and not a file of queries")
    with Store(db, readonly=True) as store, store.snapshot():
        source = store.collection(collection)
        if source.recipe.multivector:
            raise UsageError(
                f"collection {collection!r} has a vector for every token, and is not ranked by "
                "cosines to calibrate"
            )
        profile = Profile(len(source), _neighbours(source))
        judge = Judge(source, profile=profile)
        qualities: list[Quality] = []
        if judgments is not None and queries is not None:
            encoder = QueryEncoder(store, source, options or QueryOptions(), note)
            if encoder.via is not None and encoder.via.asked:
                raise UsageError(
                    f"{encoder.via} leads there from {encoder.via.query.model!r}, and a collection "
                    "is calibrated for its own model",
                    hint="leave --model out",
                )
            judged = _relevant(source, read_judgments(judgments, problem))
            texts = {id: text for id, text in read_queries(queries) if id in judged}
            if not texts:
                raise InputError(
                    f"{os.fspath(judgments)}: no query of {queries} has a relevant record in "
                    f"collection {collection!r}"
                )
            vectors = encoder.encode(list(texts.values()))
            lists = list(judged_lists(source, judge, vectors, [judged[id] for id in texts]))
            fitted = _fitted(lists)
            if fitted.weights[0] >= 0:
                raise InputError(
                    f"{os.fspath(judgments)}: by these judgments, what is further from a query is "
                    "the more relevant"
                )
            profile = replace(profile, calibration=fitted, queries=len(lists))
            qualities = _qualities(lists)
        else:
            encoder = None
    if encoder is not None:
        keep(db, encoder)
    arguments = {"qrels": None if judgments is None else os.fspath(judgments), "queries": queries}
    with Store(db) as store, store.run("calibrate", collection, arguments) as counts:
        store.collection(collection).set_calibration(profile.json)
        counts.update({"queries": profile.queries})
    return qualities


@dataclass(frozen=True, eq=False)
class JudgedList:
    """The results of a query, described and judged.

    Attributes
    ----------
    described : float64 array, shape (n, 3)
        See `embcli.core.relevance.features`.
    relevant : bool array, shape (n,)
    total : int
        How many records of the collection are relevant.
    """

    described: "NDArray[np.float64]"
    relevant: "NDArray[np.bool_]"
    total: int


def _profile(collection: Collection, count: int) -> Profile:
    if collection.calibration is None:
        return Profile(count, _neighbours(collection))
    stored = Profile.from_json(collection.calibration)
    if abs(count - stored.records) <= _CHANGE * stored.records:
        return stored
    return replace(stored, records=count, neighbours=_neighbours(collection))


def _neighbours(collection: Collection) -> Neighbours:
    """Look for the nearest neighbours of a sample of the records."""
    import numpy as np

    sample = collection.sample(_SAMPLE)
    # Of the two nearest one is the record itself, or as near as that.
    found = nearest(collection, sample, 2, exact=True)
    return Neighbours.of(np.array([items[1].score for items in found if len(items) > 1]))


def _relevant(collection: Collection, judged: Judgments) -> dict[str, set[str]]:
    """Of every query the relevant records that are in the collection, if there are any."""
    there = collection.sources({id for grades in judged.values() for id in grades})
    relevant = {
        query: {id for id, grade in grades.items() if grade > 0 and id in there}
        for query, grades in judged.items()
    }
    return {query: ids for query, ids in relevant.items() if ids}


def judged_lists(
    collection: Collection,
    judge: Judge,
    vectors: "NDArray[np.float32]",
    relevant: Sequence[set[str]],
) -> Iterator[JudgedList]:
    """Search for queries, and describe what comes.

    Parameters
    ----------
    collection : Collection
    judge : Judge
        Of the collection.
    vectors : float32 array, shape (n_queries, dim)
    relevant : sequence of set of str
        Of each query the ids of what is relevant.
    """
    import numpy as np

    near = nearest_in_parts(collection, vectors, DEPTH, None, None, None)
    for vector, found, ids in zip(vectors, near, relevant, strict=True):
        described = judge.describe([item.score for item in found], vector)
        is_relevant = np.array([item.record.id in ids for item in found], np.bool_)
        yield JudgedList(described, is_relevant, len(ids))


def _fitted(lists: Sequence[JudgedList]) -> Calibration:
    import numpy as np

    return fit(
        np.concatenate([item.described for item in lists]),
        np.concatenate([item.relevant for item in lists]),
    )


def _qualities(lists: Sequence[JudgedList]) -> list[Quality]:
    """Judge both calibrations; the fitted one by cross-validation, if there are queries enough."""
    qualities = [quality("default", lists, [DEFAULT] * len(lists))]
    if len(lists) < 2 * FOLDS:
        return [*qualities, quality("fitted", lists, [_fitted(lists)] * len(lists))]
    folds = [
        _fitted([item for number, item in enumerate(lists) if number % FOLDS != fold])
        for fold in range(FOLDS)
    ]
    used = [folds[number % FOLDS] for number in range(len(lists))]
    return [*qualities, quality("fitted, cross-validated", lists, used)]


def quality(name: str, lists: Sequence[JudgedList], calibrations: Sequence[Calibration]) -> Quality:
    """Judge a calibration, one for every list."""
    import numpy as np

    probabilities = [
        calibration.probabilities(item.described)
        for item, calibration in zip(lists, calibrations, strict=True)
    ]
    cuts = [expected_f1_cut(of_query) for of_query in probabilities]
    hits = np.array(
        [item.relevant[:cut].sum() for item, cut in zip(lists, cuts, strict=True)], np.float64
    )
    kept, totals = np.array(cuts), np.array([item.total for item in lists])
    every = np.concatenate(probabilities)
    relevant = np.concatenate([item.relevant for item in lists])
    figures: dict[str, Any] = {
        "ece": expected_calibration_error(every, relevant),
        "brier": float(((every - relevant) ** 2).mean()),
        "precision": float((hits / np.maximum(kept, 1)).mean()),
        "recall": float((hits / totals).mean()),
        "f1": float((2 * hits / (kept + totals)).mean()),
        "kept": float(kept.mean()),
    }
    return Quality(name, len(lists), len(every), **figures)
