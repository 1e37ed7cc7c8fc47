"""Whether a multi-vector collection is searched through encodings: measured and decided."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from embcli.core.maxsim import MaxSim
from embcli.core.muvera import Muvera
from embcli.core.quantize import Scorer, bytes_per_vector
from embcli.pipelines.coded import LEAST_RECALL
from embcli.pipelines.encodings import candidates, encode_records, is_worth
from embcli.pipelines.multivector import nearest
from embcli.store import Collection
from embcli.store.coding import Coding
from embcli.store.segments import DTYPES

_K = 10
_OVERSAMPLES = (4, 8, 16, 32, 64, 128)
# Of the estimate, above what is promised.
_MARGIN = 0.005
# What the decision is between. Vectors out of a context lie in few directions and are told apart by
# many projections; those of single words in all of them, and need many buckets.
_SHAPES: tuple[dict[str, int], ...] = (
    {"planes": 5, "repetitions": 20, "width": 16},
    {"planes": 8, "repetitions": 20, "width": 8, "final": 10240},
)
_KINDS = ("bits2", "int8")
# Encodings must take no more than this share of what they stand for.
_LARGEST_SHARE = 1 / 8
# Shapes and kinds are compared on so many records, of so many vectors in all, by the recall of so
# many candidates of some queries. A kind may lose this much for its size.
_RECORDS_COMPARED = 2000
_VECTORS_COMPARED = 100_000
_CANDIDATES_COMPARED = 40
_QUERIES_COMPARED = 50
_LOSS = 0.01
# Of a record that serves as a query a run of so many tokens is taken: queries are short.
_QUERY_TOKENS = 16


def encode(collection: Collection) -> int:
    """Encode the records that have no encoding, as the coding says; return how many."""
    coding = collection.coding
    if coding is None or coding.kind is None or coding.encoding is None:
        return 0
    muvera, kind = Muvera(**coding.encoding), coding.kind
    return collection.update_encodings(lambda records: encode_records(muvera, kind, records))


def decide(
    collection: Collection,
    kind: str | None = None,
    oversample: int | None = None,
    sample: int = 100,
    seed: int = 0,
) -> Coding:
    """Find a coding of a multi-vector collection; its records are encoded on the way.

    Parameters are as of `embcli.pipelines.compress.compress`.
    """
    vectors = collection.count_vectors()
    keys = np.sort(collection.keys())
    if not len(keys):
        return Coding(None, vectors=vectors, chosen=kind is not None)
    rng = np.random.default_rng(seed)
    kinds = (kind,) if kind is not None else _small(collection, vectors / len(keys))
    worth = [step for step in _OVERSAMPLES if is_worth(_K * step, len(keys))]
    if not kinds or (kind is None and not worth):
        return Coding(None, vectors=vectors)
    muvera, best = _compared(collection, kinds, rng.permutation(keys), rng)
    encoding = {key: value for key, value in asdict(muvera).items() if value is not None}
    coding = Coding(best, vectors=vectors, chosen=kind is not None, encoding=encoding)
    collection.set_coding(coding)
    encode(collection)
    steps = worth if kind is None else list(_OVERSAMPLES)
    steps = steps if oversample is None else [oversample]
    owners = rng.permutation(keys)[:sample]
    recall = _recall(collection, owners, rng, steps)
    enough = [step for step in steps if recall[step] >= LEAST_RECALL + _MARGIN]
    used = enough[0] if enough else steps[-1]
    coding = replace(coding, oversample=used, recall=recall[used], sample=len(owners))
    if kind is None and not enough:
        return replace(coding, kind=None, encoding=None)
    return coding


def _small(collection: Collection, vectors_per_record: float) -> tuple[str, ...]:
    """Choose the kinds that make encodings much smaller than what they stand for."""
    width = collection.recipe.dim * DTYPES[collection.dtype].itemsize
    most = _LARGEST_SHARE * width * vectors_per_record
    size = max(Muvera(collection.recipe.dim, **shape).size for shape in _SHAPES)
    return tuple(kind for kind in _KINDS if bytes_per_vector(kind, size) <= most)


def _compared(
    collection: Collection,
    kinds: Sequence[str],
    keys: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[Muvera, str]:
    """Choose the shape and the kind that find most among some of the records."""
    shapes = [Muvera(collection.recipe.dim, **shape) for shape in _SHAPES]
    count = max(1, _VECTORS_COMPARED * len(keys) // max(1, collection.count_vectors()))
    count = min(count, _RECORDS_COMPARED)
    records = [vectors for _, vectors in collection.vectors_by_key(keys[:count].tolist())]
    queries = [_run(vectors, rng) for vectors in records[:_QUERIES_COMPARED]]
    score = MaxSim(queries)
    exact = np.empty((len(queries), len(records)), np.float32)
    for number, vectors in enumerate(records):
        one = np.full(len(vectors), number, np.int64)
        exact[:, number] = score.add(one, vectors, np.ones(len(one), np.bool_))[1][:, 0]
    found: dict[tuple[Muvera, str], float] = {}
    for shape, kind in product(shapes, kinds):
        codes = encode_records(shape, kind, records)
        approximate = Scorer(shape.encode_queries(queries))(codes)
        found[shape, kind] = _overlap(exact, approximate)
    most = max(found.values())
    # Kinds are in the order of their size.
    good = (way for kind in kinds for way in found if way[1] == kind and found[way] >= most - _LOSS)
    return next(good)


def _overlap(exact: NDArray[np.float32], approximate: NDArray[np.float32]) -> float:
    """Recall@10 of the candidates; every query's own record is left out."""
    for scores in (exact, approximate):
        np.fill_diagonal(scores, -np.inf)
    right, candidates = (
        np.argsort(-scores, axis=1)[:, :count]
        for scores, count in ((exact, _K), (approximate, _CANDIDATES_COMPARED))
    )
    hits = [np.isin(row, among).mean() for row, among in zip(right, candidates, strict=True)]
    return float(np.mean(hits))


def _recall(
    collection: Collection,
    owners: NDArray[np.int64],
    rng: np.random.Generator,
    steps: Sequence[int],
) -> dict[int, float]:
    """Estimate recall@10 by oversampling; no record is among its own results."""
    queries, keys = [], []
    for key, vectors in collection.vectors_by_key(owners.tolist()):
        queries.append(_run(vectors, rng))
        keys.append(key)
    ids = collection.ids_by_key(keys)
    exact = nearest(collection, queries, _K + 1, exact=True)
    right = [
        [item.record.id for item in found if item.record.id != ids[key]][:_K]
        for key, found in zip(keys, exact, strict=True)
    ]
    near = candidates(collection, queries, _K * max(steps) + 1)
    if near is None:
        return dict.fromkeys(steps, 0.0)
    hits = dict.fromkeys(steps, 0)
    for key, wanted, found in zip(keys, right, near, strict=True):
        others = found[found != key]
        for step in steps:
            named = collection.ids_by_key(others[: _K * step].tolist())
            hits[step] += len({*wanted} & {*named.values()})
    total = sum(map(len, right))
    return {step: hits[step] / total if total else 1.0 for step in steps}


def _run(vectors: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Take some vectors that follow one another."""
    start = int(rng.integers(0, max(1, len(vectors) - _QUERY_TOKENS + 1)))
    return vectors[start : start + _QUERY_TOKENS]
