"""Ranking by words, by meaning or by both; feedback and diversity."""

import os
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from embcli.encoders import is_quick
from embcli.errors import StoreError, UsageError
from embcli.pipelines.search import Found, Within, nearest_in_parts
from embcli.store import Collection, Store
from embcli.store.chunks import Span
from embcli.store.text_index import MOST_WORDS, words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embcli.pipelines.via import Via

Fusion = Literal["convex", "tm2c2", "rrf"]
Method = Literal["mean", "clusters"]

# How many of each source are fused, and among how many MMR chooses, if twice K is not more.
DEPTH = 100

# Weights of the dense side, by fusion. That of ``convex`` was chosen on the project's retrieval
# sets (see benchmarks/README.md); built-in models know little beyond words, and trust words more.
_ALPHA = {"rrf": 0.5, "tm2c2": 0.8, "convex": 0.75}
_ALPHA_BUILTIN = 0.6
# Where no word of the query is rarer than in every fourth record or so, the best BM25 is no more
# than this, and must not pass for certainty.
_LEAST_BM25 = 1.0
# Enough that the mean of the cosines with them is known to .01.
_BACKGROUND = 256
# Seconds to wait for another process that is writing, before searching what is indexed.
_PATIENCE = 5.0
_PRF = "k=3,alpha=0.7 or k=10,alpha=0.8,method=clusters,clusters=3,keep=2,seed=0"

# A record's vector that is nearest to the query, its cosine, and of which chunk it is.
_Nearest = tuple["NDArray[np.float32]", float, Span | None]


@dataclass(frozen=True)
class Feedback:
    """How a query is moved towards what it found first.

    Attributes
    ----------
    k : int
        How many of the first are taken for relevant.
    alpha : float
        Weight of the query itself, from 0 to 1.
    method : {"mean", "clusters"}
        Towards their mean, or the centres of those of their clusters nearest to the query.
    clusters, keep, seed : int
        How many clusters, how many of them to use, and where the search for them starts.
    """

    k: int = 3
    alpha: float = 0.7
    method: Method = "mean"
    clusters: int = 3
    keep: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        counts = min(self.k, self.clusters, self.keep)
        if counts < 1 or self.seed < 0 or not 0 <= self.alpha <= 1:
            raise UsageError(
                "--prf: alpha must be from 0 to 1, seed 0 or more, and all other numbers 1 or more"
            )
        if self.method not in get_args(Method):
            raise UsageError(f"--prf: no method {self.method!r} (mean or clusters)")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``k=n,alpha=x,method=mean|clusters,clusters=n,keep=n,seed=n``, in part.

        Raises
        ------
        UsageError
        """
        pairs = [part.partition("=") for part in text.split(",")]
        values = {key.strip(): value.strip() for key, _, value in pairs}
        kinds: dict[str, Callable[[str], Any]] = {"k": int, "alpha": float, "method": str}
        if values.get("method") == "clusters":
            kinds |= {"clusters": int, "keep": int, "seed": int}
        if values.keys() - kinds or len(values) < len(pairs):
            raise UsageError(f"--prf {text}: expected {_PRF}")
        try:
            return cls(**{key: kinds[key](value) for key, value in values.items()})
        except ValueError:
            raise UsageError(f"--prf {text}: expected numbers, as in {_PRF}") from None


@dataclass(frozen=True)
class Ranking:
    """How results are found and put in order, where it is not by cosine alone.

    Attributes
    ----------
    source : {"dense", "lexical", "hybrid"}
        By cosine, by BM25, or by both.
    fusion : {"convex", "tm2c2", "rrf"}
        How both are put together.
    alpha : float, optional
        Weight of the dense side, from 0 to 1; by default it depends on `fusion` and the model.
    feedback : Feedback, optional
        Search twice; the second time with queries moved towards what the first found.
    mmr : float, optional
        Choose results that are unlike each other: 1 is relevance alone, 0 difference alone.
    explain : bool
        Tell where each hit stood with each source.
    relevant : bool
        End the list where relevance ends: see `embcli.pipelines.relevance`.
    """

    source: Literal["dense", "lexical", "hybrid"] = "dense"
    fusion: Fusion = "convex"
    alpha: float | None = None
    feedback: Feedback | None = None
    mmr: float | None = None
    explain: bool = False
    relevant: bool = False

    def __post_init__(self) -> None:
        if self.fusion not in get_args(Fusion):
            raise UsageError(f"--fusion: no {self.fusion!r} ({', '.join(get_args(Fusion))})")
        for name, value in (("--alpha", self.alpha), ("--mmr", self.mmr)):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{name} {value}: must be from 0 to 1")
        if self.source == "lexical" and self.feedback is not None:
            raise UsageError("--prf moves vectors, and --lexical has none", hint="--hybrid --prf …")
        if self.relevant and (self.source != "dense" or self.feedback is not None):
            raise UsageError(
                "--relevant goes by the cosines with the query itself: not with --lexical, "
                "--hybrid and --prf"
            )

    @classmethod
    def of(
        cls,
        *,
        lexical: bool = False,
        hybrid: bool = False,
        fusion: Fusion | None = None,
        alpha: float | None = None,
        prf: str | None = None,
        mmr: float | None = None,
        explain: bool = False,
        relevant: bool = False,
    ) -> Self | None:
        """Make one of a command's options; None if they ask for nothing.

        Raises
        ------
        UsageError
            They contradict each other.
        """
        if lexical and hybrid:
            raise UsageError("give one of --lexical and --hybrid")
        if not hybrid and (fusion is not None or alpha is not None):
            raise UsageError("--fusion and --alpha are for --hybrid")
        made = cls(
            source="hybrid" if hybrid else "lexical" if lexical else "dense",
            fusion=fusion or "convex",
            alpha=alpha,
            feedback=None if prf is None else Feedback.parse(prf),
            mmr=mmr,
            explain=explain,
            relevant=relevant,
        )
        return None if made == cls() else made

    @property
    def reads_words(self) -> bool:
        """Whether queries must be words."""
        return self.source != "dense" or self.feedback is not None

    def depth(self, k: int) -> int:
        """How many candidates to look at for k hits."""
        deep = self.source == "hybrid" or self.mmr is not None or self.relevant
        return max(DEPTH, 2 * k) if deep else k

    def check_composed(self, *, within: bool) -> None:
        """Refuse what cannot be done with the vector of a query that is composed.

        Raises
        ------
        UsageError
        """
        if self.source == "lexical":
            raise UsageError("--plus, --minus, --direction and --given are not for --lexical")
        if within:
            raise UsageError(
                "--given compares in a space of its own: not with --hybrid, --prf, --mmr, "
                "--relevant and --explain"
            )


class Ranker:
    """Ranks the records of a collection for queries.

    Parameters
    ----------
    collection : Collection
        Read inside a snapshot.
    ranking : Ranking
    k : int
        Most results per query.
    threshold : float, optional
        Least cosine.
    where : str, optional
        A filter, and
    wanted : bool array, optional
        what it comes to: see `Collection.filter`.
    exact : bool, optional
        As in `nearest`.
    without : set of str
        Records that are no results.
    via : Via, optional
        How the vectors of queries came to where they are compared.
    note : callable
        Told what a user should know.

    Attributes
    ----------
    judge : Judge or None
        Who tells what is relevant, if that is asked for.

    Raises
    ------
    UsageError
        There is a threshold, and scores are not cosines.
    """

    def __init__(
        self,
        collection: Collection,
        ranking: Ranking,
        k: int,
        *,
        threshold: float | None = None,
        where: str | None = None,
        wanted: "NDArray[np.bool_] | None" = None,
        exact: bool | None = None,
        without: AbstractSet[str] = frozenset(),
        via: "Via | None" = None,
        note: Callable[[str], None] = lambda message: None,
    ) -> None:
        if threshold is not None and ranking.source != "dense":
            raise UsageError(
                f"--threshold is a least cosine, and the scores of --{ranking.source} are none"
            )
        self._collection = collection
        self.ranking = ranking
        self._k = k
        self._depth = ranking.depth(k)
        self._threshold = threshold
        self._where = where
        self._wanted = wanted
        self._exact = exact
        self._without = without
        self._via = via
        self._within: Within | None = None if via is None else via.within
        self._note = note
        self._was_cut = False
        self.judge = None
        if ranking.relevant:
            from embcli.pipelines.relevance import Judge

            self.judge = Judge(collection, wanted)

    def by_words(self, queries: Sequence[str]) -> Iterator[list[Found]]:
        """Rank by BM25 alone; there is no need of any model."""
        for query in queries:
            if not query.strip():
                raise UsageError("the query is empty")
        for terms in self._terms(queries):
            scores = dict(self._collection.find_words(terms, self._depth, self._where))
            records = self._collection.get(list(scores))
            found = [Found(record, scores[record.id], None) for record in records]
            yield self._finish(_listed(found, "lexical"))

    def by_vectors(
        self, queries: Sequence[str] | None, vectors: "NDArray[np.float32]"
    ) -> Iterator[list[Found]]:
        """Rank by cosine, and by BM25 too if that is asked for.

        Parameters
        ----------
        queries : sequence of str, optional
            Needed for BM25.
        vectors : float32 array, shape (n_queries, dim)
            Of the queries.

        Yields
        ------
        found : list of Found
            For every query.
        """
        import numpy as np

        hybrid = self.ranking.source == "hybrid"
        terms = self._terms(queries or ()) if hybrid else [[] for _ in vectors]
        background = self._led(self._collection.sample(_BACKGROUND)) if hybrid else None
        feedback = self.ranking.feedback
        if feedback is not None and len(vectors):
            first = self._first(terms, vectors, background, max(self._depth, feedback.k))
            vectors = np.stack(
                [
                    self._moved(vector, found[: feedback.k], feedback)
                    for vector, found in zip(vectors, first, strict=True)
                ]
            )
        found = self._first(terms, vectors, background, self._depth, self._threshold)
        for listed, vector in zip(found, vectors, strict=True):
            yield self._finish(listed, vector)

    def of_found(self, found: Sequence[Found], vectors: "NDArray[np.float32]") -> list[Found]:
        """Go on from what is nearest to any of some vectors."""
        return self._finish(_listed(found, "dense"), vectors)

    def _first(
        self,
        terms: Sequence[Sequence[str]],
        vectors: "NDArray[np.float32]",
        background: "NDArray[np.float32] | None",
        depth: int,
        threshold: float | None = None,
    ) -> Iterator[list[Found]]:
        """Rank once, by cosine or by both."""
        near = self._near(vectors, depth, threshold)
        for of_query, vector, listed in zip(terms, vectors, near, strict=True):
            dense = _listed(listed, "dense")
            if background is None:
                yield dense
            else:
                yield self._fused(of_query, vector, dense, background)

    def _near(
        self, vectors: "NDArray[np.float32]", depth: int, threshold: float | None
    ) -> Iterator[list[Found]]:
        """Find what is nearest to each query."""
        return nearest_in_parts(
            self._collection, vectors, depth, threshold, self._wanted, self._exact,
            without=self._without, within=self._within,
        )  # fmt: skip

    def _led(self, vectors: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Do to stored vectors what is done before they are compared."""
        if self._within is None:
            return vectors
        return self._within(vectors).astype(vectors.dtype, copy=False)

    def _fused(
        self,
        terms: Sequence[str],
        vector: "NDArray[np.float32]",
        dense: Sequence[Found],
        background: "NDArray[np.float32]",
    ) -> list[Found]:
        """Put what is near and what has the words of a query into one order.

        What only one source listed gets its score from the other too.
        """
        from embcli.core.fusion import convex_combination, reciprocal_rank_fusion

        depth = self._depth + len(self._without)
        found = self._collection.find_words(terms, depth, self._where)
        scores = {id: score for id, score in found if id not in self._without}
        places = {id: number for number, id in enumerate(scores, 1)}
        pool = {found.record.id: found for found in dense}
        added = self._collection.get([id for id in places if id not in pool])
        near = self._nearest_of([record.id for record in added], vector)
        for record, (_, cosine, span) in zip(added, near, strict=True):
            pool[record.id] = Found(record, cosine, span, {"dense": _place(None, cosine)})
        if not pool:
            return []
        scores |= self._collection.score_words(terms, pool.keys() - places.keys())
        both = [
            _explained(found, "lexical", places.get(id), scores.get(id))
            for id, found in pool.items()
        ]
        alpha = self._alpha
        if self.ranking.fusion == "rrf":
            ranks = [[_rank(found, source) for found in both] for source in ("dense", "lexical")]
            # Twice the weights, so that equal ones give the scores of the paper.
            fused = reciprocal_rank_fusion(ranks, [2 * alpha, 2 - 2 * alpha])
        else:
            values = [[found.score for found in both], [scores.get(id, 0.0) for id in pool]]
            most = self._most(vector)
            if self.ranking.fusion == "tm2c2":
                low, high = [-most, 0.0], [max(values[0]), max(values[1])]
            else:
                low = [self._typical(vector, background), 0.0]
                high = [most, max(*values[1], _LEAST_BM25)]
            fused = convex_combination(values, low, high, [alpha, 1 - alpha])
        results = [
            replace(found, score=score) for found, score in zip(both, fused.tolist(), strict=True)
        ]
        return sorted(results, key=lambda found: (-found.score, found.record.id))

    def _most(self, vector: "NDArray[np.float32]") -> float:
        """Tell the greatest score that there can be; the least is minus that."""
        return 1.0

    def _typical(self, vector: "NDArray[np.float32]", background: "NDArray[np.float32]") -> float:
        """Estimate the score that a query has with any odd record."""
        return _mean_cosine(vector, background)

    @property
    def _alpha(self) -> float:
        if self.ranking.alpha is not None:
            return self.ranking.alpha
        # Through a map, a search knows no more than the lesser of two models.
        spaces = [self._collection.recipe, *([] if self._via is None else [self._via.query])]
        if self.ranking.fusion == "convex" and any(map(is_quick, spaces)):
            return _ALPHA_BUILTIN
        return _ALPHA[self.ranking.fusion]

    def _moved(
        self, vector: "NDArray[np.float32]", found: Sequence[Found], feedback: Feedback
    ) -> "NDArray[np.float32]":
        import numpy as np

        from embcli.core.feedback import cluster_feedback, mean_feedback

        near = [item[0] for item in self._nearest_of([item.record.id for item in found], vector)]
        vectors = np.stack(near) if near else np.empty((0, len(vector)), np.float32)
        if feedback.method == "mean":
            return mean_feedback(vector, vectors, feedback.alpha)
        return cluster_feedback(
            vector, vectors, feedback.alpha, feedback.clusters, feedback.keep, feedback.seed
        )

    def _finish(
        self, found: Sequence[Found], vector: "NDArray[np.float32] | None" = None
    ) -> list[Found]:
        """Keep what is relevant, as different as is asked for, and as many."""
        if self.judge is not None and vector is not None:
            found = self.judge.relevant(found, vector)
            if len(found) > self._k and not self._was_cut:
                self._was_cut = True
                self._note(f"{len(found):,} results seem relevant; --top {self._k:,} ends before")
        if self.ranking.mmr is not None and found:
            found = self._diverse(found, self.ranking.mmr, vector)
        results = list(found[: self._k])
        if not self.ranking.explain:
            return [replace(item, explain=None) for item in results]
        return results

    def _diverse(
        self, found: Sequence[Found], trade: float, vector: "NDArray[np.float32] | None"
    ) -> list[Found]:
        import numpy as np

        from embcli.core.diversity import maximal_marginal_relevance

        ids = [item.record.id for item in found]
        relevance = np.array([item.score for item in found])
        if self.ranking.source != "dense":
            # The best counts as much as a cosine of 1, whatever the scores are.
            relevance = relevance / (relevance.max() or 1)
        if vector is None:
            vectors = self._collection.vectors(ids)
        else:
            vectors = np.stack([item[0] for item in self._nearest_of(ids, vector)])
        chosen, values = maximal_marginal_relevance(relevance, vectors, trade, self._k)
        return [
            _explained(found[place], "mmr", place + 1, value)
            for place, value in zip(chosen.tolist(), values.tolist(), strict=True)
        ]

    def _nearest_of(self, ids: Sequence[str], vector: "NDArray[np.float32]") -> list[_Nearest]:
        """Of each record the vector that is nearest to any of the query's, shape (…, dim)."""
        import numpy as np

        from embcli.core.cosine import cosines

        queries = np.atleast_2d(vector)
        if self._collection.chunking is None:
            vectors = self._led(self._collection.vectors(ids))
            scores = cosines(queries, vectors).max(axis=0).tolist()
            return [(row, score, None) for row, score in zip(vectors, scores, strict=True)]
        results: list[_Nearest] = []
        for chunks in self._collection.chunks(ids):
            vectors = self._led(np.stack([chunk.vector for chunk in chunks]))
            scores = cosines(queries, vectors).max(axis=0)
            best = int(scores.argmax())
            chunk = chunks[best]
            span = Span(chunk.number, chunk.start, chunk.end)
            results.append((vectors[best], float(scores.max()), span))
        return results

    def _terms(self, queries: Sequence[str]) -> list[list[str]]:
        found = words(queries)
        longest = max(map(len, found), default=0)
        if longest > MOST_WORDS:
            self._note(
                f"of a query of {longest:,} different words the first {MOST_WORDS} are looked up"
            )
        return found


def catch_up(db: str | os.PathLike[str], note: Callable[[str], None]) -> None:
    """See to it that all texts are in the full-text index, if the store can be written just now.

    Only an encode that was interrupted, or is still at work, leaves anything to do.

    Parameters
    ----------
    db : path
    note : callable
        Told how many records cannot be found by their words.
    """
    with Store(db, readonly=True) as store:
        missing = store.texts_to_index()
    if not missing:
        return
    try:
        with Store(db, timeout=_PATIENCE) as store:
            store.index_texts()
    except StoreError as error:
        note(
            f"{missing:,} records are not in the full-text index yet and cannot be found by "
            f"their words ({error.message})"
        )


def _listed(found: Sequence[Found], source: str) -> list[Found]:
    return [_explained(item, source, number, item.score) for number, item in enumerate(found, 1)]


def _explained(found: Found, source: str, rank: int | None, score: float | None) -> Found:
    return replace(found, explain={**(found.explain or {}), source: _place(rank, score)})


def _place(rank: int | None, score: float | None) -> dict[str, Any]:
    return {"rank": rank, "score": score}


def _rank(found: Found, source: str) -> float:
    place = (found.explain or {})[source]["rank"]
    return float("inf") if place is None else float(place)


def _mean_cosine(vector: "NDArray[np.float32]", background: "NDArray[np.float32]") -> float:
    """Estimate the cosine that a query has with any odd record."""
    from embcli.core.cosine import cosines

    return float(cosines(vector[None], background).mean()) if len(background) else 0.0
