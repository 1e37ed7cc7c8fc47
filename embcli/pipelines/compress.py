"""Whether and how a collection is searched through compact codes: measured, decided, told."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.core.quantize import BITS, Scorer, bytes_per_vector, quantize
from embcli.core.topk import Shortlist
from embcli.errors import UsageError
from embcli.pipelines.coded import LEAST_RECALL
from embcli.store import Collection, CollectionInfo, Store
from embcli.store.coding import Coding
from embcli.store.segments import DTYPES

EXACT = "none"
SAMPLE = 100
# Below this many bytes of vectors reading them all is a small part of a cold search, whose other
# parts take a quarter of a second: see benchmarks/README.md.
LARGE = 1 << 28

_K = 10
_OVERSAMPLES = (1, 2, 4, 8, 16, 32, 64, 128)
# What is tried, in this order, where nobody chose, and between which oversamplings. To read more
# candidates of bits than this costs more than to read int8.
_AUTOMATIC = {"bits1": (8, 64), "int8": (4, 16)}
_ASKED_FOR = (4, 128)
# Of the estimate, above what is promised.
_MARGIN = 0.005
# Records are nearer to their neighbours than queries are to what they find, so that they flatter
# the codes. The mean of three does not. Measured with 1 bit, 80 candidates, MiniLM: queries .993,
# records .994, means .977; a million tiled: .973, .999, .981; static: .972, .979, .915.
_MIXED = 3


@dataclass(frozen=True)
class Rung:
    """What one way to keep vectors costs and what it gives.

    Attributes
    ----------
    code : str
        ``float32``, ``float16``, a kind of `embcli.core.quantize`, or ``dims=`` and a number: so
        many first components, scaled to unit length.
    bytes : float
        Per vector.
    recall : float
        Recall@10 against float32, by the scores of this code alone.
    verified : float
        The same if the best ``10 * oversample`` by these scores are compared in full.
    seconds : float
        To score every vector for one query, in memory.
    """

    code: str
    bytes: float
    recall: float
    verified: float
    seconds: float


@dataclass(frozen=True)
class _Way:
    """A way to keep vectors: how they are prepared, and how queries are compared with that."""

    bytes: float
    prepare: Callable[[NDArray[np.float32]], Any]
    scorer: Callable[[NDArray[np.float32]], Callable[[Any], NDArray[np.float32]]]


@dataclass(frozen=True)
class _Measured:
    recall: dict[int, float]  # by oversampling
    seconds: float
    sample: int


def compress(
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    *,
    kind: str | None = None,
    oversample: int | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
) -> CollectionInfo:
    """Code a collection so that it is searched faster, or do away with its codes.

    Parameters
    ----------
    db : path
    collection : str
    kind : {"int8", "bits4", "bits2", "bits1", "none"}, optional
        By default what an estimate of the recall allows.
    oversample : int, optional
        For k results the best ``oversample * k`` by the codes are compared in full. By default
        as few as give a recall@10 of .995 on the sample.
    sample : int
        Number of queries to estimate the recall with, each the mean of three records.
    seed : int
        Chooses them.

    Returns
    -------
    info : CollectionInfo

    Raises
    ------
    UsageError
        There is no such kind, or a number is not positive.
    StoreError
    """
    if kind is not None and kind not in (EXACT, *BITS):
        raise UsageError(f"no kind {kind!r} (there are: {', '.join(BITS)} and {EXACT})")
    if (oversample is not None and oversample < 1) or sample < 1:
        raise UsageError("--oversample and --sample must be at least 1")
    arguments = {"kind": kind, "oversample": oversample, "sample": sample, "seed": seed}
    with Store.existing(db) as store:
        source = store.collection(collection)
        with store.run("compress", collection, arguments) as counts:
            source.set_coding(decide(source, kind, oversample, sample, seed))
            counts["coded"] = _update(source)
        return next(info for info in store.collections() if info.name == collection)


def keep_coded(collection: Collection) -> int:
    """Code what was added to a collection; decide about that first if it has become large.

    Call when much has been written, outside a transaction.

    Returns
    -------
    coded : int
        Number of segments, or of records of a multi-vector collection.
    """
    coding = collection.coding
    if coding is None:
        vectors = collection.count_vectors()
        undecided = vectors * stored_width(collection.recipe.dim, collection.dtype) >= LARGE
    else:
        # What was true of a part need not be true of twice as much.
        grown = collection.count_vectors() >= 2 * coding.vectors
        # Where nothing was measured, the decision was interrupted.
        unmeasured = coding.kind is not None and coding.recall is None
        undecided = not coding.chosen and (grown or unmeasured)
    if undecided:
        collection.set_coding(decide(collection))
    return _update(collection)


def encode_again(store: Store) -> None:
    """Encode what lost its encodings when multi-vector collections were compacted."""
    for info in store.collections():
        if info.multivector:
            _update(store.collection(info.name))


def _update(collection: Collection) -> int:
    if not collection.recipe.multivector:
        return collection.update_codes()
    from embcli.pipelines.muvera import encode

    return encode(collection)


def decide(
    collection: Collection,
    kind: str | None = None,
    oversample: int | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
) -> Coding:
    """Find a coding of a collection; parameters are as of `compress`.

    A multi-vector collection is encoded on the way: see `embcli.pipelines.muvera`.
    """
    vectors = collection.count_vectors()
    if kind == EXACT:
        return Coding(None, vectors=vectors, chosen=True)
    if collection.recipe.multivector:
        from embcli.pipelines import muvera

        return muvera.decide(collection, kind, oversample, sample, seed)
    ranges = _AUTOMATIC if kind is None else {kind: _ASKED_FOR}
    if oversample is not None:
        ranges = dict.fromkeys(ranges, (oversample, oversample))
    ways = {name: _coded(name, collection.recipe.dim) for name in ranges}
    steps = sorted({*_OVERSAMPLES, oversample or 1})
    keys, places = collection.live()
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(keys), (_MIXED, sample)) if len(keys) else np.empty((1, 0), int)
    queries = np.mean([_unit(collection.gather(places[each])) for each in chosen], axis=0)
    measured = _measure(collection, ways, steps, queries)
    for name, (least, most) in ranges.items():
        found = measured[name]
        tried = [step for step in steps if least <= step <= most]
        enough = [step for step in tried if found.recall[step] >= LEAST_RECALL + _MARGIN]
        used = enough[0] if enough else tried[-1]
        coding = Coding(name, used, found.recall[used], found.sample, vectors, kind is not None)
        if enough:
            return coding
    if kind is None:
        return Coding(None, coding.oversample, coding.recall, coding.sample, vectors)
    return coding


def report(
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    *,
    oversample: int | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
) -> list[Rung]:
    """Measure the ways to keep the vectors of a collection; nothing is stored.

    Parameters
    ----------
    db, collection
        As of `compress`.
    sample : int
        Number of records that serve as queries; none is among its own results.
    seed : int
        Chooses them.
    oversample : int, optional
        4 by default.

    Returns
    -------
    rungs : list of Rung
        From the largest to the smallest of each sort.
    """
    if (oversample is not None and oversample < 1) or sample < 1:
        raise UsageError("--oversample and --sample must be at least 1")
    step = 4 if oversample is None else oversample
    with Store(db, readonly=True) as store, store.snapshot():
        source = store.collection(collection)
        if source.recipe.multivector:
            raise UsageError(
                "--report is for collections with one vector a text",
                hint=f"embcli compress -c {collection}",
            )
        dim = source.recipe.dim
        ways = {
            "float32": _plain(dim, "float32"),
            "float16": _plain(dim, "float16"),
            **{kind: _coded(kind, dim) for kind in BITS},
            **{f"dims={dim // part}": _truncated(dim // part) for part in (2, 4, 8) if dim >= part},
        }
        keys, places = source.live()
        chosen = np.random.default_rng(seed).permutation(len(keys))[:sample]
        queries = source.gather(places[chosen])
        measured = _measure(source, ways, sorted({1, step}), queries, keys[chosen], timed=True)
    return [
        Rung(name, way.bytes, found.recall[1], found.recall[step], found.seconds)
        for (name, way), found in zip(ways.items(), measured.values(), strict=True)
    ]


def stored_width(dim: int, dtype: str) -> int:
    """Tell the bytes of a vector as it is stored."""
    return dim * DTYPES[dtype].itemsize


def explain(info: CollectionInfo) -> str:
    """Say how a collection is searched, and why."""
    coding = info.coding
    if coding is None:
        large = info.vectors * stored_width(info.dim, info.dtype) >= LARGE
        how = "exact MaxSim" if info.multivector else "exact"
        return f"{how}: not coded yet, see embcli compress" if large else f"{how}: small enough"
    measured = "" if coding.recall is None else f"recall@{_K} {coding.recall:.3f}"
    if info.multivector:
        return _explain_encodings(info, coding, measured)
    if coding.kind is None:
        return "exact: as chosen" if coding.chosen else f"exact: {measured} through codes"
    # Of what was deleted the codes stay until it is compacted.
    share = "" if info.coded >= info.vectors else f", {info.coded / info.vectors:.0%} coded"
    return f"{coding.kind}, {coding.oversample}·k compared in full: {measured}{share}"


def _explain_encodings(info: CollectionInfo, coding: Coding, measured: str) -> str:
    if coding.kind is None:
        if coding.chosen:
            return "exact MaxSim: as chosen"
        if not measured:
            return "exact MaxSim: too few records or tokens for MUVERA"
        return f"exact MaxSim: {measured} through MUVERA, {coding.oversample}·k compared in full"
    share = "" if info.coded >= info.records else f", {info.coded / info.records:.0%} encoded"
    return f"MUVERA {coding.kind}, {coding.oversample}·k compared in full: {measured}{share}"


def _measure(
    collection: Collection,
    ways: dict[str, _Way],
    steps: Sequence[int],
    queries: NDArray[np.float32],
    without: NDArray[np.int64] | None = None,
    *,
    timed: bool = False,
) -> dict[str, _Measured]:
    """Search for queries in all ways at once, in one pass; each without the record of a key.

    If `timed`, every way is also run for a single query, which is what `seconds` are of.
    """
    owners = np.zeros(len(queries), np.int64) if without is None else without  # no key is 0
    several = collection.chunking is not None
    exact = Shortlist(len(queries), _K, shared=several)
    compare = _plain(0, "float32").scorer(queries)
    found = {name: Shortlist(len(queries), _K * steps[-1], shared=several) for name in ways}
    seconds = dict.fromkeys(ways, 0.0)
    scorers = {name: (way.scorer(queries), way.scorer(queries[:1])) for name, way in ways.items()}
    for block in collection.scan() if len(queries) else ():
        units = _unit(block.vectors)
        own = owners[:, None] == block.keys
        scores = compare(units)
        scores[own] = -np.inf
        exact.add(block.keys, scores, block.places)
        for name, way in ways.items():
            prepared = way.prepare(units)
            many, one = scorers[name]
            if timed:
                started = time.perf_counter()
                one(prepared)
                seconds[name] += time.perf_counter() - started
            scores = many(prepared)
            scores[own] = -np.inf
            found[name].add(block.keys, scores, block.places)
    right = _ranked(exact)
    return {
        name: _Measured(_recall(right, _ranked(short), steps), seconds[name], len(queries))
        for name, short in found.items()
    }


def _ranked(short: Shortlist) -> list[list[int]]:
    """Of every query the keys, best first, each once; ties at the end are kept."""
    return [
        list(dict.fromkeys(found.keys[np.isfinite(found.scores)].tolist()))
        for found in short.results()
    ]


def _recall(
    right: Sequence[Sequence[int]], ranked: Sequence[Sequence[int]], steps: Iterable[int]
) -> dict[int, float]:
    """Recall@10 by oversampling; 1 where there is nothing to be found."""
    most = [min(len(keys), _K) for keys in right]

    def recall(step: int) -> float:
        hits = (
            min(len({*keys} & {*found[: _K * step]}), limit)
            for keys, found, limit in zip(right, ranked, most, strict=True)
        )
        return sum(hits) / sum(most) if sum(most) else 1.0

    return {step: recall(step) for step in steps}


def _coded(kind: str, dim: int) -> _Way:
    return _Way(bytes_per_vector(kind, dim), lambda units: quantize(units, kind), Scorer)


def _plain(dim: int, dtype: str) -> _Way:
    def scorer(queries: NDArray[np.float32]) -> Callable[[Any], NDArray[np.float32]]:
        units = _unit(queries)
        return lambda kept: units @ kept.astype(np.float32, copy=False).T

    width = stored_width(dim, dtype)
    return _Way(width, lambda units: units.astype(DTYPES[dtype], copy=False), scorer)


def _truncated(dims: int) -> _Way:
    def scorer(queries: NDArray[np.float32]) -> Callable[[Any], NDArray[np.float32]]:
        units = _unit(queries[:, :dims])
        return lambda kept: units @ kept.T

    return _Way(stored_width(dims, "float32"), lambda units: _unit(units[:, :dims]), scorer)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
