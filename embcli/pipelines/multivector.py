"""Searches where every token has a vector: exact MaxSim, or among the candidates of encodings."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.core.maxsim import MaxSim, matches, maxsim
from embcli.core.topk import Shortlist
from embcli.encoders.tokens import Tokens
from embcli.errors import UsageError
from embcli.pipelines.encodings import among, pays
from embcli.pipelines.queries import QueryEncoder
from embcli.pipelines.ranking import Ranker, Ranking
from embcli.pipelines.search import Found
from embcli.store import Collection
from embcli.store.chunks import Span
from embcli.store.segments import SLOTS

# Scores in memory at once, of all tokens of queries with the vectors of a block and with the
# records that lie across blocks: 64 MB.
_SCORES_AT_ONCE = 1 << 24
_QUERIES_AT_ONCE = 256
# Enough that their mean MaxSim with a query is known well.
_BACKGROUND = 64

Vectors = NDArray[np.float32]


def search_tokens(
    collection: Collection,
    encoder: QueryEncoder,
    ranking: Ranking | None,
    k: int,
    *,
    queries: Sequence[str],
    like: str | None,
    like_file: str | os.PathLike[str] | None,
    **options: Any,
) -> list[list[Found]]:
    """Find the records with the greatest MaxSim to queries.

    Parameters
    ----------
    collection : Collection
        Read inside a snapshot.
    encoder : QueryEncoder
        Of its space.
    ranking : Ranking, optional
    k : int
    queries, like, like_file
        As of `embcli.pipelines.search.search`: one of the three counts.
    **options
        What else `Ranker` takes.

    Returns
    -------
    found : list of list of Found
        For every query.

    Raises
    ------
    UsageError
        There is no token in a query, or the ranking has no meaning for sets of vectors.
    """
    ranking = ranking or Ranking()
    if ranking.feedback is not None or ranking.relevant:
        raise UsageError(
            "--prf and --relevant are for one vector a text, and in this collection every token "
            "has one"
        )
    if like is not None:
        (chunks,) = collection.chunks([like])
        spans = np.array([(chunk.start, chunk.end) for chunk in chunks], np.int64)
        tokens = [Tokens(np.stack([chunk.vector for chunk in chunks]), spans)]
        texts = [collection.get([like])[0].text]
    elif like_file is not None:
        texts, tokens = encoder.encode_file_tokens(like_file)
    else:
        texts, tokens = list(queries), encoder.encode_tokens(queries)
    for text, of_text in zip(texts, tokens, strict=True):
        if not len(of_text.spans):
            raise UsageError(f"there is no token in the query {text!r}")
    ranker = MaxSimRanker(collection, ranking, k, **options)
    return list(ranker.by_tokens(texts, tokens))


class MaxSimRanker(Ranker):
    """Ranks the records of a multi-vector collection; see `Ranker`.

    Parameters
    ----------
    collection, ranking, k, **options
        As of `Ranker`. A threshold is a least MaxSim.
    """

    def by_tokens(self, queries: Sequence[str], tokens: Sequence[Tokens]) -> Iterator[list[Found]]:
        """Rank by MaxSim, and by BM25 too if that is asked for.

        Parameters
        ----------
        queries : sequence of str
        tokens : sequence of Tokens
            Of the queries, each with at least one.

        Yields
        ------
        found : list of Found
            For every query.
        """
        vectors = np.empty(len(tokens), object)
        for number, of_query in enumerate(tokens):
            vectors[number] = of_query.vectors
        ranked = self.by_vectors(queries, vectors)
        for text, of_query, found in zip(queries, tokens, ranked, strict=True):
            yield self._matched(text, of_query, found) if self.ranking.explain else found

    def _near(
        self, vectors: NDArray[Any], depth: int, threshold: float | None
    ) -> Iterator[list[Found]]:
        results = nearest(
            self._collection, list(vectors), depth + len(self._without), threshold=threshold,
            wanted=self._wanted, exact=self._exact,
        )  # fmt: skip
        for found in results:
            yield [item for item in found if item.record.id not in self._without][:depth]

    def _nearest_of(
        self, ids: Sequence[str], vector: Vectors
    ) -> list[tuple[Vectors, float, Span | None]]:
        """Of each record the mean of its vectors, and its MaxSim with a query, (n_tokens, dim)."""
        keys = self._collection.keys_of(ids)
        query = unit(vector)
        found: dict[int, tuple[Vectors, float, Span | None]] = {
            key: (vectors.mean(axis=0), maxsim(query, unit(vectors)), None)
            for key, vectors in self._collection.vectors_by_key(keys.values())
        }
        return [found[keys[id]] for id in ids]

    def _most(self, vector: Vectors) -> float:
        return float(len(vector))

    def _typical(self, vector: Vectors, background: Vectors) -> float:
        query = unit(vector)
        scores = [maxsim(query, vectors) for vectors in self._odd_records]
        return float(np.mean(scores)) if scores else 0.0

    @cached_property
    def _odd_records(self) -> list[NDArray[np.float64]]:
        keys = np.sort(self._collection.keys())
        chosen = keys[:: max(1, len(keys) // _BACKGROUND)].tolist()
        return [unit(vectors) for _, vectors in self._collection.vectors_by_key(chosen)]

    def _diverse(self, found: Sequence[Found], trade: float, vector: Vectors | None) -> list[Found]:
        if vector is None or self.ranking.source != "dense":
            return super()._diverse(found, trade, vector)
        # Means of cosines, to be weighed against cosines.
        scores = {item.record.id: item.score for item in found}
        scaled = [replace(item, score=item.score / len(vector)) for item in found]
        chosen = super()._diverse(scaled, trade, vector)
        return [replace(item, score=scores[item.record.id]) for item in chosen]

    def _matched(self, text: str, tokens: Tokens, found: Sequence[Found]) -> list[Found]:
        """Tell of every hit what each token of the query has found in it."""
        results = []
        every = self._collection.chunks([item.record.id for item in found])
        for item, chunks in zip(found, every, strict=True):
            which, cosines = matches(tokens.vectors, np.stack([chunk.vector for chunk in chunks]))
            rows = [
                {
                    "token": text[start:end],
                    "match": item.record.text[chunks[number].start : chunks[number].end],
                    "start": chunks[number].start,
                    "end": chunks[number].end,
                    "cosine": round(cosine, 6),
                }
                for (start, end), number, cosine in zip(
                    tokens.spans.tolist(), which.tolist(), cosines.tolist(), strict=True
                )
            ]
            explain = dict(item.explain or {})
            explain["dense"] = {**explain["dense"], "tokens": rows}
            results.append(replace(item, explain=explain))
        return results


def nearest(
    collection: Collection,
    queries: Sequence[Vectors],
    k: int,
    *,
    threshold: float | None = None,
    wanted: NDArray[np.bool_] | None = None,
    exact: bool | None = None,
) -> Iterator[list[Found]]:
    """Find the k records with the greatest MaxSim to each query, ties by id.

    Scores are exact either way; through encodings, a record may be missed.

    Parameters
    ----------
    collection : Collection
        Read inside a snapshot.
    queries : sequence of float32 array, each of shape (n_tokens, dim)
    k : int
    threshold : float, optional
        Least MaxSim.
    wanted : bool array, optional
        See `Collection.filter`.
    exact : bool, optional
        Whether to compare with every vector, or to look for candidates through the encodings that
        the collection has. By default, what the collection's coding says, where that is faster.

    Yields
    ------
    found : list of Found
        For every query.
    """
    if exact is None:
        exact = not pays(collection, k)
    scan: _Scan | None = None
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        part = queries[start : start + _QUERIES_AT_ONCE]
        found = None if exact else among(collection, part, k, wanted)
        if found is None:
            scan = scan or _Scan(collection, wanted)
            found = scan.candidates(part, k)
        else:
            found = _narrowed(collection, part, found, k)
        yield from _best(collection, part, found, k, threshold)


class _Scan:
    """Passes over all vectors of a collection, and knows when it has seen all of a record."""

    def __init__(self, collection: Collection, wanted: NDArray[np.bool_] | None) -> None:
        self._collection = collection
        self._wanted = wanted
        keys, places = collection.live()
        if wanted is not None:
            keys, places = keys[wanted[keys]], places[wanted[keys]]
        size = int(keys.max(initial=0)) + 1
        self._last = np.zeros(size, np.int64)
        self._last[keys] = places  # of equals the last one stays
        first = np.zeros(size, np.int64)
        first[keys[::-1]] = places[::-1]
        across = first < self._last
        # How many records are begun and not ended, at most.
        times = np.concatenate([self._last[across], first[across]])
        steps = np.repeat([-1, 1], int(across.sum()))[np.argsort(times, kind="stable")]
        self._open = int(np.cumsum(steps).max(initial=0))

    def candidates(self, queries: Sequence[Vectors], k: int) -> list[NDArray[np.int64]]:
        """Find the records that may be among the k best of each query."""
        found: list[NDArray[np.int64]] = []
        for start, end in pairwise(self._portions([len(query) for query in queries])):
            found += self._pass(queries[start:end], k)
        return found

    def _portions(self, lengths: Sequence[int]) -> list[int]:
        """Divide queries of so many tokens into parts that are scored together: their bounds."""
        most = _SCORES_AT_ONCE // (SLOTS + self._open)
        bounds, tokens = [0], 0
        for number, length in enumerate(lengths):
            if tokens and tokens + length > most:
                bounds.append(number)
                tokens = 0
            tokens += length
        return [*bounds, len(lengths)]

    def _pass(self, queries: Sequence[Vectors], k: int) -> list[NDArray[np.int64]]:
        score = MaxSim(queries, unit_length=self._collection.dtype == "float32")
        short = Shortlist(len(queries), k, slack=2 * score.slack)
        for keys, vectors, places in self._collection.scan(self._wanted):
            done, scores = score.add(keys, vectors, self._last[keys] <= places[-1])
            short.add(done, scores, done)
        return [found.keys for found in short.results()]


def _narrowed(
    collection: Collection,
    queries: Sequence[Vectors],
    candidates: Sequence[NDArray[np.int64]],
    k: int,
) -> list[NDArray[np.int64]]:
    """Keep of candidates those that may be among the k best of each query, as a scan does."""
    asking = _asking(candidates)
    single = [MaxSim([query], unit_length=collection.dtype == "float32") for query in queries]
    scores: list[dict[int, float]] = [{} for _ in queries]
    for key, vectors in collection.vectors_by_key(asking):
        owner, last = np.full(len(vectors), key), np.ones(len(vectors), np.bool_)
        for number in asking[key]:
            scores[number][key] = float(single[number].add(owner, vectors, last)[1][0, 0])
    kept = []
    for score, found in zip(single, scores, strict=True):
        keys, values = np.array(list(found), np.int64), np.array(list(found.values()))
        floor = np.partition(values, -k)[-k] if len(values) > k else -np.inf
        kept.append(keys[values >= floor - 2 * score.slack])
    return kept


def _asking(candidates: Sequence[NDArray[np.int64]]) -> dict[int, list[int]]:
    """Of every candidate the numbers of the queries it is one of."""
    asking: dict[int, list[int]] = {}
    for number, keys in enumerate(candidates):
        for key in keys.tolist():
            asking.setdefault(key, []).append(number)
    return asking


def _best(
    collection: Collection,
    queries: Sequence[Vectors],
    candidates: Sequence[NDArray[np.int64]],
    k: int,
    threshold: float | None,
) -> list[list[Found]]:
    """Score candidates exactly, and take the k best of each query."""
    asking = _asking(candidates)
    units = [unit(query) for query in queries]
    scored: list[list[tuple[float, int]]] = [[] for _ in queries]
    for key, vectors in collection.vectors_by_key(asking):
        exact = unit(vectors)
        for number in asking[key]:
            score = maxsim(units[number], exact)
            if threshold is None or score >= threshold:
                scored[number].append((score, key))
    return _sorted(collection, scored, k)


def _sorted(
    collection: Collection, scored: Iterable[list[tuple[float, int]]], k: int
) -> list[list[Found]]:
    results = list(scored)
    ids = collection.ids_by_key({key for pairs in results for _, key in pairs})
    best = [sorted(pairs, key=lambda pair: (-pair[0], ids[pair[1]]))[:k] for pairs in results]
    records = collection.get_by_key({key for pairs in best for _, key in pairs})
    return [[Found(records[key], score, None) for score, key in pairs] for pairs in best]
