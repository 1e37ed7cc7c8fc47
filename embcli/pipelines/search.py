"""From queries to hits."""

import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.errors import InputError, NothingFoundError, UsageError
from embcli.pipelines.queries import QueryEncoder, QueryOptions, keep
from embcli.store import Collection, Record, Store
from embcli.store.chunks import Span

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embcli.pipelines.composition import Composition
    from embcli.pipelines.ranking import Ranking
    from embcli.pipelines.via import Via


_QUERIES_AT_ONCE = 2048
# Seconds a filter may take without a word.
_PATIENCE = 0.3

# What is done to stored vectors before they are compared.
Within = Callable[["NDArray[np.floating]"], "NDArray[np.floating]"]


@dataclass(frozen=True)
class Hit:
    """One search result; `score` is a cosine or a MaxSim, unless a `Ranking` says otherwise.

    In a chunked collection `chunk` is the one that is nearest: its ``number``, ``start``,
    ``end`` and ``text``, which is ``text[start:end]`` of the record's. With a `Ranking` that
    explains, `explain` has for each of its sources the ``rank`` and ``score`` there; with one
    that keeps what is relevant, `relevance` is the probability of that.
    """

    rank: int
    id: str
    score: float
    text: str
    meta: dict[str, Any]
    relevance: float | None = None
    chunk: dict[str, Any] | None = None
    explain: dict[str, Any] | None = None

    def row(self) -> dict[str, Any]:
        """Give the hit as commands show it: of what it may have, only what it has."""
        optional = ("relevance", "chunk", "explain")
        return {k: v for k, v in vars(self).items() if k not in optional or v is not None}


@dataclass(frozen=True)
class Found:
    """A record near to a query, and in a chunked collection which chunk of it is nearest."""

    record: Record
    score: float
    span: Span | None
    explain: dict[str, Any] | None = None
    relevance: float | None = None


def search(
    query: str | Sequence[str] | None = None,
    *,
    like: str | None = None,
    like_file: str | os.PathLike[str] | None = None,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    options: QueryOptions | None = None,
    k: int = 10,
    threshold: float | None = None,
    where: str | None = None,
    exact: bool | None = None,
    ranking: "Ranking | None" = None,
    composition: "Composition | None" = None,
    note: Callable[[str], None] = lambda message: None,
) -> list[list[Hit]]:
    """Find the records nearest to queries by cosine, or as `ranking` says.

    In a multi-vector collection the score is MaxSim, see `embcli.core.maxsim`.

    The results are exact, unless the collection is large and was found to be searched well
    through codes: see `nearest`.

    Parameters
    ----------
    query : str or sequence of str, optional
        One query or several; several share one pass over the vectors.
    like : str, optional
        Search by the vector of this record instead of a query; it is not among its own hits. In
        a chunked collection by those of all its chunks: the score is the best of any pair. With
        maps, the record is looked for in the collections of the space that they begin at.
    like_file : path, optional
        Search by what is in this file, a picture or a text, as if it were a record.
    db : path
    collection : str
    options : QueryOptions, optional
        How to encode queries. The model is the collection's; another one is taken where maps
        lead from its space to the collection: see `embcli.pipelines.via`.
    k : int
        Most hits per query.
    threshold : float, optional
        Least cosine; in a multi-vector collection, least sum of cosines.
    where : str, optional
        Filter on metadata, see `embcli.store.where`; hits are the k best among the records
        that pass.
    exact : bool, optional
        Insist on comparing with every vector, or on going through the collection's codes; by
        default see `nearest`.
    ranking : Ranking, optional
        Search by words, by words and meaning, with feedback, for results that differ, or for
        those that are relevant.
    composition : Composition, optional
        What to add to the vectors of queries and to take away, and in which respect to compare.
        The records named there are not among the hits.
    note : callable
        Told what a user should know of how the model is run.

    Returns
    -------
    hits : list of list of Hit
        For every query, by falling score, ties by id; with `Ranking.mmr` in the order chosen.

    Raises
    ------
    UsageError
        The query is empty, the filter cannot be read, or the model is not the collection's.
    InputError, StoreError, ModelError, NothingFoundError
    """
    if sum(item is not None for item in (query, like, like_file)) != 1:
        raise UsageError("give one of a query, the id of a record and a file to search like")
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}")
    if ranking is not None and ranking.reads_words and query is None:
        raise UsageError("--lexical, --hybrid and --prf need a query in words")
    if composition is not None and composition.given and exact is False:
        raise UsageError("--given compares with every vector: not with --coded")
    if composition is not None and ranking is not None:
        ranking.check_composed(within=bool(composition.given))
    queries = [query] if isinstance(query, str) else list(query or ())
    if ranking is not None and ranking.source != "dense":
        from embcli.pipelines.ranking import catch_up

        catch_up(db, note)
    with Store(db, readonly=True) as store, store.snapshot():
        source = store.collection(collection)
        encoder = QueryEncoder(store, source, options or QueryOptions(), note)
        via = encoder.via
        if via is not None:
            given = composition is not None and bool(composition.given)
            via.check(ranking, given=given, exact=exact)
        if exact is False and (source.coding is None or source.coding.kind is None):
            raise UsageError(
                f"collection {collection!r} has no codes", hint="embcli compress --kind int8"
            )
        wanted = None if where is None else _filter(source, where, note)
        like_there = via is None or not via.asked or via.query.hash == source.recipe.hash
        without = {like} if like is not None and like_there else set()
        if source.recipe.multivector and (ranking is None or ranking.source != "lexical"):
            from embcli.pipelines.multivector import search_tokens

            if composition is not None:
                raise UsageError(
                    "--plus, --minus, --direction and --given are for one vector a text"
                )
            ranked = search_tokens(
                source, encoder, ranking, k, queries=queries, like=like, like_file=like_file,
                threshold=threshold, where=where, wanted=wanted, exact=exact, without=without,
                note=note,
            )  # fmt: skip
            keep(db, encoder)
            return [_rank(found) for found in ranked]
        composer = None
        if composition is not None:
            from embcli.pipelines.composition import Composer

            composer = Composer(source, encoder, composition, note)
            without |= composer.named
        ranker = None
        if ranking is not None:
            from embcli.pipelines.ranking import Ranker

            ranker = Ranker(
                source, ranking, k, threshold=threshold, where=where, wanted=wanted, exact=exact,
                without=without, via=via, note=note,
            )  # fmt: skip
        if ranker is not None and ranker.ranking.source == "lexical":
            return [_rank(found) for found in ranker.by_words(queries)]
        if like is not None and via is not None and via.asked:
            vectors = via.lead(_vectors_of(_holder(store, via, like), like))
        elif like is not None:
            vectors = _vectors_of(source, like)
        elif like_file is not None:
            vectors = encoder.encode_file(like_file)
        else:
            vectors = encoder.encode(queries)
        within: Within | None = None if via is None else via.within
        if composer is not None:
            vectors = composer.compose(vectors)
        asked: NDArray[np.floating] = vectors
        if composer is not None and composer.subspace is not None:
            within = composer.subspace.project
            asked = within(vectors)
        if ranker is not None and like is None:
            found = ranker.by_vectors(queries, vectors)
        else:
            depth = k if ranking is None else ranking.depth(k)
            found = nearest_in_parts(
                source, asked, depth, threshold, wanted, exact, without=without, within=within
            )
            if like is not None:
                best = _best_of(found)[:depth]
                found = iter([best if ranker is None else ranker.of_found(best, vectors)])
        results = [_rank(of_query) for of_query in found]
    keep(db, encoder)
    if ranker is not None and ranker.judge is not None:
        from embcli.pipelines.relevance import keep_profile

        keep_profile(db, collection, ranker.judge)
    return results


def read_queries(source: str) -> list[tuple[str, str]]:
    """Read queries, as pairs of id and text.

    Parameters
    ----------
    source : str
        A JSON Lines file with ``_id`` or ``id`` and ``text``; a CSV or TSV file with such
        columns or, without a header, with id and text; or a text file with a query per line,
        whose ids are the numbers of the lines. "-" is standard input: JSON Lines or a query per
        line.

    Raises
    ------
    InputError
        The file cannot be read, in part or as a whole, or holds no query.
    """
    from embcli.formats import Problem, ReadOptions
    from embcli.formats.inputs import expand
    from embcli.formats.reader import Reader, detect_format, has_header
    from embcli.formats.source import open_source

    queries = []
    for input in expand([source]).sources:
        with open_source(input) as stream:
            kind = detect_format(input.format, stream)
            if kind in ("csv", "tsv") and input.format is None:
                kind = "text"  # a line with commas in it, rather than a table
            options = ReadOptions(format=kind)
            if kind in ("csv", "tsv") and not has_header(stream, kind):
                options = ReadOptions(format=kind, header=False, id_field="1", text_fields=("2",))
            for result in Reader([input], options).read(input, stream):
                if isinstance(result, Problem):
                    raise InputError(str(result))
                place = result.source.rpartition(":")[2]
                queries.append((place if result.id == result.source else result.id, result.text))
    if not queries:
        raise InputError(f"{source}: there is no query in it")
    return queries


def nearest(
    collection: Collection,
    vectors: "NDArray[np.floating]",
    k: int,
    *,
    threshold: float | None = None,
    wanted: "NDArray[np.bool_] | None" = None,
    exact: bool | None = None,
    within: Within | None = None,
) -> list[list[Found]]:
    """Find the k nearest records of each vector, ties by id.

    A record with chunks is as near as its nearest chunk. Scores are exact either way; through
    codes, a record may be missed.

    Parameters
    ----------
    collection : Collection
        Read inside a snapshot.
    vectors : float array, shape (n_queries, dim)
    k : int
    threshold : float, optional
        Least cosine.
    wanted : bool array, optional
        See `Collection.filter`.
    exact : bool, optional
        Whether to compare with every vector, or to look for candidates through the codes that
        the collection has and compare only with these. By default, what the collection's coding
        says, where that is the faster way and nothing is filtered.
    within : callable, optional
        What is done to stored vectors, not to `vectors`, before they are compared: always with
        every one.

    Returns
    -------
    found : list of list of Found
    """
    from embcli.core.topk import TopK
    from embcli.pipelines.coded import pays, search_codes

    # Rounding to float16 moves a component by up to 2^-11 of its size; mapping in float32 may move
    # much where vectors are nearly alike.
    slack = 1e-5 if collection.dtype == "float32" and within is None else 1e-3
    new = partial(
        TopK,
        vectors,
        k,
        threshold=threshold,
        unit=collection.recipe.normalized and within is None,
        slack=slack,
        names=collection.ids_by_key,
        shared=collection.chunking is not None,
        within=within,
    )
    if exact is None:
        # The recall of codes was estimated without a filter. Of what lies far from the query, codes
        # found none of the ten nearest: see benchmarks/filtered.py.
        exact = wanted is not None or not pays(collection, len(vectors), k)
    top = new()
    if exact or within is not None or not search_codes(collection, vectors, k, top, wanted):
        top = new()
        for keys, block, places in collection.scan(wanted):
            top.add(keys, block, places)
    candidates = [
        list(zip(c.keys.tolist(), c.scores.tolist(), c.places.tolist(), strict=True))
        for c in top.results()
    ]
    ids = collection.ids_by_key({key for rows in candidates for key, _, _ in rows})
    best = [sorted(rows, key=lambda row: (-row[1], ids[row[0]]))[:k] for rows in candidates]
    keys_found = {key for rows in best for key, _, _ in rows}
    records = collection.get_by_key(keys_found)
    spans = {} if collection.chunking is None else collection.spans(keys_found)
    return [
        [Found(records[key], score, spans.get(place)) for key, score, place in rows]
        for rows in best
    ]


def _filter(collection: Collection, where: str, note: Callable[[str], None]) -> "NDArray[np.bool_]":
    """Evaluate a filter; say so if that took long and need not."""
    started = time.perf_counter()
    wanted = collection.filter(where)
    seconds = time.perf_counter() - started
    if seconds > _PATIENCE and (fields := collection.unindexed(where)):
        note(f"--where took {seconds:.1f} s; faster: embcli index {shlex.join(fields)}")
    return wanted


def _vectors_of(collection: Collection, id: str) -> "NDArray[np.float32]":
    """Fetch the vectors of one record, those of its chunks, each once: shape (n, dim)."""
    import numpy as np

    (chunks,) = collection.chunks([id])
    # A text that says something again and again has chunks that are equal.
    return np.unique(np.stack([chunk.vector for chunk in chunks]), axis=0)


def _holder(store: Store, via: "Via", id: str) -> Collection:
    """Find the record's collection in the space that queries come from."""
    for info in store.collections():
        if info.space == via.query.hash:
            found = store.collection(info.name)
            if found.sources([id]):
                return found
    raise NothingFoundError(
        f"no collection in the space at the other end of {via}, of {via.query.model!r}, has a "
        f"record {id!r}"
    )


def nearest_in_parts(
    collection: Collection,
    vectors: "NDArray[np.floating]",
    k: int,
    threshold: float | None,
    wanted: "NDArray[np.bool_] | None",
    exact: bool | None,
    *,
    without: AbstractSet[str] = frozenset(),
    within: Within | None = None,
) -> Iterator[list[Found]]:
    """Find the nearest of any number of vectors, some at a time; see `nearest`.

    The records `without` are passed over.
    """
    for start in range(0, len(vectors), _QUERIES_AT_ONCE):
        part = vectors[start : start + _QUERIES_AT_ONCE]
        for found in nearest(
            collection, part, k + len(without), threshold=threshold, wanted=wanted, exact=exact,
            within=within,
        ):  # fmt: skip
            yield [item for item in found if item.record.id not in without][:k]


def _best_of(results: Iterable[Sequence[Found]]) -> list[Found]:
    """Merge the results of several vectors into those of the best of them, ties by id."""
    every = [found for result in results for found in result]
    every.sort(key=lambda found: (-found.score, found.record.id, found.span or ()))
    best: dict[str, Found] = {}
    for found in every:
        best.setdefault(found.record.id, found)
    return list(best.values())


def _rank(results: Sequence[Found]) -> list[Hit]:
    return [
        Hit(
            rank, found.record.id, found.score, found.record.text, found.record.meta,
            found.relevance, _chunk(found), found.explain,
        )
        for rank, found in enumerate(results, 1)
    ]  # fmt: skip


def _chunk(found: Found) -> dict[str, Any] | None:
    if found.span is None:
        return None
    number, start, end = found.span
    text = found.record.text[start:end]
    return {"number": number, "start": start, "end": end, "text": text}
