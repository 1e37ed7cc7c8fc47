"""From queries to hits on a server."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.errors import ModelError, NothingFoundError, UsageError
from embcli.pipelines.queries import QueryEncoder, QueryOptions
from embcli.pipelines.search import Hit
from embcli.servers import (
    READY,
    Header,
    ServerCollection,
    ServerHit,
    Sought,
    chunk_text,
    connect,
    opened,
)
from embcli.store import Collection, SpaceFacts, Store
from embcli.store.where import parse_where

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embcli.encoders.recipe import Recipe
    from embcli.pipelines.via import Via


def search_server(
    query: str | Sequence[str] | None = None,
    *,
    url: str,
    like: str | None = None,
    like_file: str | os.PathLike[str] | None = None,
    collection: str = DEFAULT_COLLECTION,
    options: QueryOptions | None = None,
    k: int = 10,
    threshold: float | None = None,
    where: str | None = None,
    exact: bool | None = None,
    note: Callable[[str], None] = lambda message: None,
) -> list[list[Hit]]:
    """Find the records on a server that are nearest to queries by cosine.

    Parameters
    ----------
    query, like, like_file, options, k, threshold, where, note
        As of `embcli.pipelines.search.search`.
    url : str
        Of the server; it may name the collection.
    collection : str
        On the server, unless the URL names it.
    exact : bool, optional
        Compare with every vector, instead of going through the server's index, whose recall was
        measured when the collection was pushed.

    Returns
    -------
    hits : list of list of Hit
        For every query, by falling score, ties by id.

    Raises
    ------
    UsageError
        The query is empty, the model is not the collection's, or the server cannot evaluate the
        filter.
    InputError, StoreError, ModelError, NothingFoundError
    """
    import numpy as np

    if sum(item is not None for item in (query, like, like_file)) != 1:
        raise UsageError("give one of a query, the id of a record and a file to search like")
    queries = [query] if isinstance(query, str) else list(query or ())
    condition = None if where is None else parse_where(where)
    with connect(url) as server:
        if server.named not in (None, collection) and collection != DEFAULT_COLLECTION:
            raise UsageError(
                f"--collection says {collection!r}, and the URL {server.named!r}",
                hint="leave out one of them",
            )
        source = opened(server, collection)
        if source.header.state != READY:
            note(
                f"collection {source.name!r} is not complete there: a push has not come to its end"
            )
        if like is not None:
            found = source.fetch([like])
            if not found.ids:
                raise NothingFoundError(f"collection {source.name!r} has no record {like!r}")
            # A text that says something again and again has chunks that are equal.
            vectors = np.unique(found.vectors, axis=0)
        else:
            encoder = _Encoder(source, options or QueryOptions(), note)
            vectors = (
                encoder.encode(queries) if like_file is None else encoder.encode_file(like_file)
            )
        sought = Sought(
            vectors, k, threshold, condition, exact=bool(exact),
            without=frozenset() if like is None else frozenset({like}),
        )  # fmt: skip
        results = source.search(sought)
    if like is not None:
        results = [_best(results, k)]
    return [[_hit(rank, hit) for rank, hit in enumerate(of_query, 1)] for of_query in results]


def _best(results: list[list[ServerHit]], k: int) -> list[ServerHit]:
    """Of what the vectors of one record have found, each record once, with its nearest chunk."""
    every = [hit for of_vector in results for hit in of_vector]
    every.sort(key=lambda hit: (-hit.score, hit.id, hit.chunk or ()))
    best: dict[str, ServerHit] = {}
    for hit in every:
        best.setdefault(hit.id, hit)
    return list(best.values())[:k]


def _hit(rank: int, hit: ServerHit) -> Hit:
    chunk = None if hit.chunk is None else chunk_text(hit.text, hit.chunk)
    return Hit(rank, hit.id, hit.score, hit.text, hit.meta, chunk=chunk)


class _Encoder(QueryEncoder):
    """Encodes queries into the space of a collection that is on a server."""

    def __init__(
        self, source: ServerCollection, options: QueryOptions, note: Callable[[str], None]
    ) -> None:
        here = cast("Store", _NoStore(source.header))
        there = cast("Collection", _Named(source.name, source.header.recipe))
        super().__init__(here, there, options, note)

    def _find_via(self, model: str | None) -> "Via | None":
        return None  # maps are in stores

    def _check_known(self) -> None:
        if self._recipe.base is not None:
            raise ModelError(
                f"the vectors of {self._whose} were mapped, and the map is not on the server to "
                "lead a query there",
                hint="embcli search --like ID, or embcli pull, and search in the store",
            )
        super()._check_known()

    def _wrong_model(self) -> UsageError:
        # A map, which would lead from the other model, cannot be used here.
        error = super()._wrong_model()
        error.hint = f"--model {self._recipe.model}, or leave it out"
        return error


@dataclass(frozen=True)
class _Named:
    """What `QueryEncoder` wants to know of a collection."""

    name: str
    recipe: "Recipe"


class _NoStore:
    """What `QueryEncoder` asks a store, where there is none."""

    path = Path(DEFAULT_DB)

    def __init__(self, header: Header) -> None:
        self._header = header

    def space_facts(self, recipe_hash: str) -> SpaceFacts | None:
        return SpaceFacts(light=self._header.light, files=None)

    def cached_queries(
        self, recipe_hash: str, hashes: Sequence[str]
    ) -> "Mapping[str, NDArray[np.float32]]":
        return {}


def check_asked(asked: Mapping[str, Any]) -> None:
    """Refuse what searches of stores can do and those of servers cannot.

    Parameters
    ----------
    asked : mapping
        From options to what was given.

    Raises
    ------
    UsageError
    """
    # A number that is 0 was given, too.
    given = [o for o, value in asked.items() if value or type(value) in (int, float)]
    if given:
        raise UsageError(
            f"{given[0]} is for stores, and this is a server",
            hint="embcli pull URL -c NAME, and search there",
        )
