"""From queries to hits."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.encoders import MODELS, load_encoder
from embcli.errors import InputError, ModelError, UsageError
from embcli.store import Collection, Record, Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_QUERIES_AT_ONCE = 2048


@dataclass(frozen=True)
class Hit:
    """One search result; `score` is a cosine."""

    rank: int
    id: str
    score: float
    text: str
    meta: dict[str, Any]


def search(
    query: str | Sequence[str] | None = None,
    *,
    like: str | None = None,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    model: str | None = None,
    k: int = 10,
    threshold: float | None = None,
    where: str | None = None,
) -> list[list[Hit]]:
    """Find the records nearest to queries by cosine; exact.

    Parameters
    ----------
    query : str or sequence of str, optional
        One query or several; several share one pass over the vectors.
    like : str, optional
        Search by the vector of this record instead of a query; it is not among its own hits.
    db : path
    collection : str
    model : str, optional
        Only to insist: an error if the collection has another.
    k : int
        Most hits per query.
    threshold : float, optional
        Least cosine.
    where : str, optional
        Filter on metadata, see `embcli.store.where`; hits are the k best among the records
        that pass.

    Returns
    -------
    hits : list of list of Hit
        For every query, by falling score, ties by id.

    Raises
    ------
    UsageError
        The query is empty, the filter cannot be read, or `model` is not the collection's.
    StoreError, ModelError, NothingFoundError
    """
    if (query is None) == (like is None):
        raise UsageError("give either a query or the id of a record to search like")
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}")
    with Store(db, readonly=True) as store, store.snapshot():
        source = store.collection(collection)
        if model not in (None, source.recipe.model):
            raise UsageError(
                f"collection {collection!r} was encoded with {source.recipe.model!r}, "
                f"not {model!r}",
                hint=f"embcli encode FILE --model {model} --collection NEW",
            )
        wanted = None if where is None else source.filter(where)
        if like is not None:
            vectors = source.vectors([like])
            found = nearest(source, vectors, k + 1, threshold=threshold, wanted=wanted)
            return [_rank([(r, s) for r, s in found[0] if r.id != like][:k])]
        queries = [query] if isinstance(query, str) else list(query or ())
        vectors = encode_queries(source, queries)
        return [
            _rank(hits)
            for start in range(0, len(queries), _QUERIES_AT_ONCE)
            for hits in nearest(
                source,
                vectors[start : start + _QUERIES_AT_ONCE],
                k,
                threshold=threshold,
                wanted=wanted,
            )
        ]


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


def encode_queries(collection: Collection, queries: Sequence[str]) -> "NDArray[np.float32]":
    """Encode queries into the space of a collection, shape (len(queries), dim).

    Raises
    ------
    UsageError
        A query has no text.
    ModelError
        The model is not here, or is not the one that made the collection.
    """
    for query in queries:
        if not query.strip():
            raise UsageError("the query is empty")
    recipe = collection.recipe
    if recipe.model not in MODELS:
        raise ModelError(
            f"the vectors of collection {collection.name!r} were made by {recipe.model!r}, "
            "which is not here to encode a query",
            hint="embcli search --like ID",
        )
    encoder = load_encoder(recipe.model)
    if encoder.recipe().hash != recipe.hash:
        differences = "; ".join(recipe.differences(encoder.recipe()))
        raise ModelError(
            f"the installed model {recipe.model!r} is not the one that made collection "
            f"{collection.name!r} ({differences})",
            hint="encode the files again into a new --collection",
        )
    return encoder.encode(queries, "query")


def nearest(
    collection: Collection,
    vectors: "NDArray[np.float32]",
    k: int,
    *,
    threshold: float | None = None,
    wanted: "NDArray[np.bool_] | None" = None,
) -> list[list[tuple[Record, float]]]:
    """Find the k nearest records of each vector, ties by id; exact.

    Parameters
    ----------
    collection : Collection
        Read inside a snapshot.
    vectors : float32 array, shape (n_queries, dim)
    k : int
    threshold : float, optional
        Least cosine.
    wanted : bool array, optional
        See `Collection.filter`.

    Returns
    -------
    found : list of list of (Record, float)
    """
    from embcli.core.topk import TopK

    # Rounding to float16 moves a component by up to 2^-11 of its size.
    slack = 1e-5 if collection.dtype == "float32" else 1e-3
    top = TopK(
        vectors,
        k,
        threshold=threshold,
        unit=collection.recipe.normalized,
        slack=slack,
        names=collection.ids_by_key,
    )
    for keys, block in collection.scan(wanted):
        top.add(keys, block)
    candidates = [list(zip(c.keys.tolist(), c.scores.tolist(), strict=True)) for c in top.results()]
    ids = collection.ids_by_key({key for pairs in candidates for key, _ in pairs})
    best = [sorted(pairs, key=lambda pair: (-pair[1], ids[pair[0]]))[:k] for pairs in candidates]
    records = collection.get_by_key({key for pairs in best for key, _ in pairs})
    return [[(records[key], score) for key, score in pairs] for pairs in best]


def _rank(found: Sequence[tuple[Record, float]]) -> list[Hit]:
    return [
        Hit(rank, record.id, score, record.text, record.meta)
        for rank, (record, score) in enumerate(found, 1)
    ]
