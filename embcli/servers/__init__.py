"""Collections on database servers, behind one interface.

An adapter for each kind of server: `postgres`, `milvus`. What is on a server was pushed there from
a store, and says so: a header travels with the vectors, which tells what they mean.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from embcli.encoders.recipe import Recipe
from embcli.errors import ModelError, StoreError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embcli.store.collection import Batch
    from embcli.store.where import Node

# Of the header. One that is newer is refused.
VERSION = 1
LOADING, READY = "loading", "ready"

_ADAPTERS = {
    "postgresql": ("postgres:PostgresServer", "psycopg", "pg"),
    "postgres": ("postgres:PostgresServer", "psycopg", "pg"),
    "milvus": ("milvus:MilvusServer", "pymilvus", "milvus"),
}


@dataclass(frozen=True)
class Address:
    """Where a server is, and maybe which collection on it is meant.

    Attributes
    ----------
    scheme : str
    url : str
        As it was given, with what is secret in it.
    host : str
        The first, if there are several.
    port : int or None
    user, password : str or None
    path : str
        Without the slash it begins with.
    options : dict
        What stands behind the question mark.
    """

    scheme: str
    url: str
    host: str
    port: int | None
    user: str | None
    password: str | None
    path: str
    options: dict[str, str]

    @classmethod
    def parse(cls, url: str) -> Self:
        """Take a URL apart.

        Raises
        ------
        UsageError
            It is none, or not of a server that there is an adapter for.
        """
        scheme = url.partition(":")[0].lower()
        if scheme not in _ADAPTERS:
            raise UsageError(
                f"{without_password(url)!r} is no server's URL",
                hint="postgresql://USER@HOST/DATABASE?table=NAME or milvus://HOST:PORT/COLLECTION",
            )
        try:
            parts = urlsplit(url)
            several = "," in parts.netloc.rpartition("@")[2]  # as libpq takes them: h1:1,h2:2
            port = None if several else parts.port
            pairs = parse_qsl(parts.query, keep_blank_values=True)
            whole = "://" in url and not parts.fragment and len(dict(pairs)) == len(pairs)
        except ValueError:
            whole = False  # what urlsplit says may have a part of the password in it
        if not whole:
            raise UsageError(
                f"{without_password(url)}: this is no URL of a server, or says something twice",
                hint=f"{scheme}://USER:PASSWORD@HOST:PORT/..., and in names and passwords %40 for "
                "@, %2F for /, %3A for :, %23 for #, %3F for ?",
            )
        return cls(
            scheme,
            url,
            parts.hostname or "",
            port,
            None if parts.username is None else unquote(parts.username),
            None if parts.password is None else unquote(parts.password),
            unquote(parts.path.removeprefix("/")),
            dict(pairs),
        )

    def __str__(self) -> str:
        return without_password(self.url)


@dataclass(frozen=True)
class Header:
    """What travels with a collection on a server.

    Attributes
    ----------
    recipe : Recipe
        What the vectors mean.
    chunking : str or None
        How texts are cut, as in a store.
    dtype : {"float32", "float16"}
        How vectors are kept there.
    state : {"loading", "ready"}
        Loading until a push has come to its end: what is there may be a part.
    light : bool
        Whether the light path of the model was found to agree, see
        `embcli.pipelines.queries.QueryEncoder`.
    facts : dict
        What the adapter found out and searches by, such as how far an index has to be searched.
    embcli : str
        The version that pushed.
    push : str
        Which push it was that wrote last: one that finds another's has not been alone.
    version : int
    """

    recipe: Recipe
    chunking: str | None = None
    dtype: str = "float32"
    state: str = LOADING
    light: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    embcli: str = ""
    push: str = ""
    version: int = VERSION

    @property
    def json(self) -> str:
        """As it is kept on servers."""
        return json.dumps(
            {"embcli_collection": {**asdict(self), "recipe": dict(self.recipe.settings)}}
        )

    @classmethod
    def from_json(cls, text: str | None, where: str) -> Self:
        """Read back what `json` wrote.

        Raises
        ------
        StoreError
            It is no header, or one of a newer embcli.
        """
        try:
            found = json.loads(text or "")["embcli_collection"]
            version = int(found["version"])
        except (ValueError, TypeError, KeyError):
            raise StoreError(
                f"{where} was not made by embcli: there is nothing that says what its vectors mean",
                hint="embcli push to another name, in the URL, makes one",
            ) from None
        if version > VERSION:
            raise StoreError(f"{where} was made by a newer embcli ({found.get('embcli')})")
        try:
            header = cls(**{**found, "recipe": Recipe.checked(found["recipe"])})
            header._check()
        except (TypeError, KeyError, ValueError, AttributeError):
            raise StoreError(
                f"{where}: what it says of its vectors cannot be understood",
                hint="embcli push to another name, if its comment or properties were changed",
            ) from None
        return header

    def _check(self) -> None:
        """Refuse what is not of its kind, as somebody else may have written it.

        Raises
        ------
        ValueError
        """
        kinds = (
            (self.facts, dict), (self.light, bool), (self.embcli, str), (self.push, str),
        )  # fmt: skip
        possible = (
            all(isinstance(value, kind) for value, kind in kinds)
            and self.dtype in ("float32", "float16")
            and self.state in (LOADING, READY)
            and (self.chunking is None or bool(self.chunking.encode()))
            and all(isinstance(self.facts.get(e, 1), int) for e in ("effort", "filtered_effort"))
        )
        if not possible:
            raise ValueError

    def effort(self, filtered: bool) -> int | None:
        """Tell how far the index has to be searched, as far as that was measured.

        With a filter no less far than without: what was measured with one may have been compared
        one by one, whatever the effort.
        """
        names = ("effort", "filtered_effort") if filtered else ("effort",)
        return max((self.facts[name] for name in names if name in self.facts), default=None)

    def changed(self, **changes: Any) -> Self:
        """Give a header that differs in this."""
        return replace(self, **changes)


@dataclass(frozen=True)
class ServerHit:
    """A record that was found; `chunk` is the number of the nearest one with its place."""

    id: str
    score: float
    text: str
    meta: dict[str, Any]
    chunk: tuple[int, int, int] | None = None


@dataclass(frozen=True, eq=False)
class Sought:
    """What to look for.

    Attributes
    ----------
    vectors : float32 array, shape (n, dim)
        One for each query.
    k : int
        Most records for each.
    threshold : float or None
        Least cosine.
    where : Node or None
        See `embcli.store.where`.
    exact : bool
        Compare with every vector.
    without : set of str
        Ids that are not to be found.
    strong : bool
        See all that was written before, whatever the server's habit is.
    effort : int or None
        How far the index is searched; by default what was found to be enough, which the header
        has: see `embcli.pipelines.push`.
    """

    vectors: "NDArray[np.float32]"
    k: int
    threshold: float | None = None
    where: "Node | None" = None
    exact: bool = False
    without: frozenset[str] = frozenset()
    strong: bool = False
    effort: int | None = None


class ServerCollection(Protocol):
    """A collection on a server.

    A record has a row for each of its vectors, in one transaction with the others or, where there
    are no transactions, written so that writing it again mends it. Every method raises StoreError
    if the server fails, in one line that names it.

    Attributes
    ----------
    name : str
    header : Header
        As read when it was opened, or set since. Its facts have ``effort`` and
        ``filtered_effort`` once these were found out.
    efforts : sequence of int
        How far the index can be searched, in a few steps up to the most that is sensible.
    """

    name: str
    header: Header
    efforts: Sequence[int]

    def set_header(self, header: Header) -> None:
        """Keep another header."""

    def claim(self) -> bool:
        """Take the collection for one push, as long as the connection lasts.

        Returns
        -------
        claimed : bool
            False if another push has it. Servers without locks let everybody have it.
        """

    def counts(self) -> tuple[int, int]:
        """How many records and vectors there are, all that was written counted."""

    def sums(self) -> Iterator[tuple[list[str], list[int]]]:
        """Stream the ids of all records, each with the sum it was written with."""

    def write(self, batch: "Batch", sums: Sequence[int]) -> None:
        """Insert or replace records; they are safe when this returns.

        Parameters
        ----------
        batch : Batch
        sums : sequence of int
            63 bits for each record, which tell whether it has changed.
        """

    def delete(self, ids: Sequence[str]) -> None:
        """Delete records; ids that are not there are passed over."""

    def finish(self, fields: Sequence[str], progress: "Progress") -> dict[str, Any]:
        """Index what was written, and wait until it can be searched.

        Parameters
        ----------
        fields : sequence of str
            Metadata fields that are filtered by, in the words of filters.
        progress : callable
            Told what is being done, done and total.

        Returns
        -------
        facts : dict
            For the header: what searches need to know.
        """

    def is_indexed(self, fields: Sequence[str]) -> bool:
        """Tell whether all that `finish` makes for these fields is there and sound."""

    def fetch(self, ids: Sequence[str]) -> "Batch":
        """Fetch records with their vectors, in any order; ids that are not there are left out."""

    def batches(self, n: int, where: "Node | None" = None) -> "Iterator[Batch]":
        """Stream all records with their vectors, about n at a time, each once.

        They are those of one moment, if the server has snapshots.
        """

    def search(self, sought: Sought) -> list[list[ServerHit]]:
        """Find the nearest records of each vector: by falling cosine, ties by id.

        Raises
        ------
        UsageError
            The filter says something that the server cannot evaluate.
        """

    def facts(self) -> dict[str, Any]:
        """Tell what `embcli info` shows: bytes, index, pending rows and so on."""


Progress = Callable[[str, int, int], None]


class Server(Protocol):
    """A connection to a server; made with an `Address`.

    Attributes
    ----------
    address : Address
    product : str
        Name and version of what runs there, as in ``PostgreSQL 18.1, pgvector 0.8.5``.
    named : str or None
        The collection that the address names.

    Raises
    ------
    StoreError
        On making it: it cannot be reached or refuses; the password is not in the message.
    """

    address: Address
    product: str
    named: str | None

    def collections(self) -> list[str]:
        """List the collections that embcli made, by name."""

    def collection(self, name: str) -> ServerCollection | None:
        """Open a collection; None if there is none.

        Raises
        ------
        StoreError
            It was not made by embcli.
        """

    def create(self, name: str, header: Header) -> ServerCollection:
        """Make a collection, marked as loading.

        Raises
        ------
        UsageError
            The server cannot hold it: too many dimensions, an impossible name.
        """

    def drop(self, name: str) -> None:
        """Delete a collection."""

    def close(self) -> None:
        """End the connection."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def connect(url: str, *, timeout: float = 10.0) -> Server:
    """Connect to a server.

    Parameters
    ----------
    url : str
    timeout : float
        Seconds to wait for it to answer at all.

    Raises
    ------
    UsageError
        This is no URL of a server.
    ModelError
        The package that talks to it is not installed.
    StoreError
        It cannot be reached, or refuses.
    """
    address = Address.parse(url)
    adapter, package, extra = _ADAPTERS[address.scheme]
    if find_spec(package) is None:
        raise ModelError(
            f"{address.scheme}:// takes the package {package!r}, which is not installed",
            hint=f"pip install 'embcli[{extra}]'",
        )
    module, _, name = adapter.partition(":")
    made: Server = getattr(import_module(f"embcli.servers.{module}"), name)(address, timeout)
    return made


def opened(server: Server, collection: str) -> ServerCollection:
    """Open the collection that the server's address names, else the one given.

    Raises
    ------
    StoreError
        There is none.
    """
    name = server.named or collection
    found = server.collection(name)
    if found is None:
        names = server.collections()
        listed = f" (there are: {', '.join(names)})" if names else ""
        raise StoreError(
            f"no collection {name!r} at {server.address}{listed}",
            hint="embcli push -c COLLECTION URL",
        )
    return found


def chunk_text(text: str, chunk: tuple[int, int, int]) -> dict[str, Any]:
    """Give a chunk of a text as hits have it."""
    number, start, end = chunk
    return {"number": number, "start": start, "end": end, "text": text[start:end]}


def rows_of(batch: "Batch") -> Iterator[tuple[int, int, int, int]]:
    """For every vector of a batch its record's row, the number of the chunk, and its place.

    A record that is not cut has one with the number 0, from 0 to 0.
    """
    for row in range(len(batch.ids)):
        spans = [(0, 0)] if batch.spans is None else batch.spans[row].tolist()
        for number, (start, end) in enumerate(spans):
            yield row, number, start, end


def joined(
    rows: Iterable[Mapping[str, Any]], vectors: "NDArray[np.float32]", chunked: bool
) -> "Batch":
    """Put rows of vectors together into records.

    Parameters
    ----------
    rows : iterable of mapping
        With ``id, text, meta, source, hash, chunk, start, end``, sorted so that the chunks of a
        record follow each other by number; text, meta (JSON), source and hash of chunk 0 count.
    vectors : float32 array, shape (n, dim)
    chunked : bool
    """
    import numpy as np

    from embcli.store.collection import Batch

    first: list[Mapping[str, Any]] = []
    spans: list[list[tuple[int, int]]] = []
    for row in rows:
        if not first or first[-1]["id"] != row["id"]:
            first.append(row)
            spans.append([])
        spans[-1].append((row["start"], row["end"]))
    names = ("id", "text", "meta", "source", "hash")
    ids, texts, metas, sources, hashes = ([row[name] for row in first] for name in names)
    places = [np.array(each, np.int64) for each in spans] if chunked else None
    return Batch(ids, texts, metas, sources, hashes, vectors, places)


def without_password(url: str) -> str:
    """Leave the password out of a URL, and what is secret among its options.

    Rather more than less: whatever stands between the first colon and the last @ may be part of a
    password that is not written as it should be.
    """
    begin = re.match(r"[^:]*:/+", url)
    start = begin.end() if begin else 0
    colon, at = url.find(":", start), url.rfind("@")
    if 0 <= colon < at:
        url = f"{url[:colon]}:***{url[at:]}"
    front, question, query = url.partition("?")
    options = [_without_secret(option) for option in query.split("&")]
    return f"{front}{question}{'&'.join(options)}"


def _without_secret(option: str) -> str:
    name, equals, _ = option.partition("=")
    secret = unquote(name).strip().lower() in ("password", "token", "sslpassword")
    return f"{name}{equals}***" if secret and equals else option
