"""Collections on Milvus servers: Milvus Lite, standalone and clusters.

A collection of embcli is one of Milvus, whose header is its property ``embcli``. Milvus has no
transactions: the rows of a record but the first are written first, and the first one, which has
the sum, last. Vectors are float32 there in any case; those of a header that says float16 are
rounded to it.
"""

import re
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embcli.errors import StoreError, UsageError
from embcli.servers import Address, Header, Progress, ServerHit, Sought
from embcli.servers.milvus_calls import Calls, is_kept_back, too_large
from embcli.servers.milvus_rows import (
    DIGITS,
    LONGEST,
    WHOLE,
    Row,
    batch_of,
    parts,
    record_key,
    rows_to_write,
)
from embcli.servers.milvus_search import MilvusSearch
from embcli.servers.milvus_where import Flattener, compile_node, literal, matching

if TYPE_CHECKING:
    from embcli.store.collection import Batch
    from embcli.store.where import Node

_PROPERTY = "embcli"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_MOST_DIMENSIONS = 32_768
# Bytes of one call, far below what gRPC lets through.
_AT_ONCE = 16 << 20
# Keys of rows in one condition.
_KEYS_AT_ONCE = 4096
_HNSW = {"M": 16, "efConstruction": 200}
# Queries of the first call of a search, and seconds of one that may well have twice as many.
_QUERIES_AT_ONCE, _SOON = 4, 5.0
# Seconds between questions, and without any progress until it is given up.
_PAUSE, _PATIENCE = 0.25, 600.0


class MilvusServer:
    """A connection to a Milvus server; see `embcli.servers.Server`.

    Parameters
    ----------
    address : Address
        Options are database, secure, token and consistency, that of searches.
    timeout : float
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self.address = address
        self.named = address.path or None
        self._calls = Calls(address, timeout)
        version = self._calls.version
        lite = version.removeprefix("milvus_lite-")
        self.product = f"Milvus Lite {lite}" if self._calls.lite else f"Milvus {version}"

    def collections(self) -> list[str]:
        """List the collections that embcli made, by name."""
        return sorted(name for name in self._calls("list_collections") if self._is_ours(name))

    def _is_ours(self, name: str) -> bool:
        try:
            return _PROPERTY in self._calls("describe_collection", name).get("properties", {})
        except StoreError as error:
            # One that may not be read, or is gone meanwhile, is no reason not to list the others.
            if is_kept_back(error):
                return False
            raise

    def collection(self, name: str) -> "MilvusCollection | None":
        """Open a collection; None if there is none."""
        if not _NAME.fullmatch(name) or not self._calls("has_collection", name):
            return None
        described = self._calls("describe_collection", name)
        where = f"{self.address}: collection {name!r}"
        header = Header.from_json(described.get("properties", {}).get(_PROPERTY), where)
        with self._calls.told():
            expected = {each.name: each.dtype for each in _schema(header.recipe.dim).fields}
        fields = {each["name"]: each for each in described["fields"]}
        for field, kind in expected.items():
            if field not in fields or fields[field]["type"] != kind:
                raise StoreError(
                    f"{where} was changed by something else: no field {field!r} as it was made",
                    hint="another name, in the URL, and embcli push again",
                )
        dim = int(fields["vector"]["params"]["dim"])
        if dim != header.recipe.dim:
            raise StoreError(
                f"{where}: its header says {header.recipe.dim:,} dimensions, its vectors have "
                f"{dim:,}",
                hint="another name, in the URL, and embcli push again",
            )
        return MilvusCollection(self._calls, name, header)

    def create(self, name: str, header: Header) -> "MilvusCollection":
        """Make a collection, marked as loading."""
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot be the name of a collection in Milvus: letters, digits and "
                "underscores can, up to 255",
                hint="milvus://HOST:PORT/NAME",
            )
        dim = header.recipe.dim
        if not 2 <= dim <= _MOST_DIMENSIONS:
            raise UsageError(
                f"Milvus holds vectors of 2 to {_MOST_DIMENSIONS:,} dimensions, not of {dim:,}"
            )
        header = header.changed(state="loading")
        # Milvus would give what is there, if its fields are the same.
        if self._calls("has_collection", name):
            raise StoreError(f"{self.address}: there is a collection {name!r} already")
        with self._calls.told():
            schema = _schema(dim)
        self._calls(
            "create_collection", name, schema=schema, num_shards=1,
            properties={_PROPERTY: header.json},
        )  # fmt: skip
        return MilvusCollection(self._calls, name, header)

    def drop(self, name: str) -> None:
        """Delete a collection."""
        self._calls("drop_collection", name)

    def close(self) -> None:
        """End the connection."""
        self._calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class MilvusCollection:
    """A collection on a Milvus server; see `embcli.servers.ServerCollection`.

    Attributes
    ----------
    where : str
        What messages about it begin with.
    """

    efforts = (32, 64, 128, 256, 512, 1024, 2048)

    def __init__(self, calls: Calls, name: str, header: Header) -> None:
        self._calls = calls
        self.name = name
        self.where = f"{calls.address}: collection {name!r}"
        self.header = header
        self._flatten = Flattener()
        self.lite = calls.lite
        self._loaded = False
        # Made by loading, that is, not waited for.
        self._is_makeshift = False
        # 2.3 finds what texts begin with, and no more.
        self._infix = calls.lite or calls.number >= (2, 4)

    def set_header(self, header: Header) -> None:
        """Keep another header."""
        properties = {_PROPERTY: header.json}
        self._calls("alter_collection_properties", self.name, properties=properties)
        self.header = header

    def counts(self) -> tuple[int, int]:
        """How many records and vectors there are."""
        records = self._count("chunk == 0")
        return records, records if self.header.chunking is None else self._count("chunk >= 0")

    def sums(self) -> Iterator[tuple[list[str], list[int]]]:
        """Stream the ids of all records, each with the sum it was written with."""
        for rows in self.ranges(_KEYS_AT_ONCE, "chunk == 0", ["record", "sum"]):
            yield [row["record"] for row in rows], [row["sum"] for row in rows]

    def write(self, batch: "Batch", sums: Sequence[int]) -> None:
        """Insert or replace records; they are safe when this returns."""
        rest, first = rows_to_write(batch, sums, self.header.dtype, self._flatten)
        self._load()
        written = {row["pk"] for row in rest} | {row["pk"] for row in first}
        several = {row["rid"] for row in rest}
        there = self._rows_of([row["rid"] for row in first], ["pk", "chunk"])
        # Of records with several rows, before or now, the sum goes first and comes last.
        several |= {row["pk"][:DIGITS] for row in there if row["chunk"] != 0}
        self._delete(
            [
                row["pk"]
                for row in there
                if row["pk"] not in written or (row["chunk"] == 0 and row["pk"][:DIGITS] in several)
            ]
        )
        # Of Lite, upserting keeps what filters had of the metadata before; inserting replaces.
        method = "insert" if self.lite else "upsert"
        for rows in (rest, first):
            for part in parts(rows, _AT_ONCE):
                self._calls(method, self.name, part)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete records; ids that are not there are passed over."""
        there = self._rows_of([record_key(id) for id in ids], ["pk"])
        # The rows that have sums go first.
        self._delete(sorted((row["pk"] for row in there), key=lambda pk: not pk.endswith("0" * 8)))

    def claim(self) -> bool:
        """Take the collection for one push; always true, as Milvus has no locks.

        Of two pushes at once the rows are mended by writing again; what does not add up after one
        of them stays marked as loading.
        """
        return True

    def is_indexed(self, fields: Sequence[str]) -> bool:
        """Whether the index of the vectors is there, sound and complete; no other is made.

        One that was made only now, so that the collection could be loaded, does not count.
        """
        found = self._index()
        if found is None or self._is_makeshift or not _is_sound(found):
            return False
        return int(found.get("pending_index_rows") or 0) <= 0

    def finish(self, fields: Sequence[str], progress: Progress) -> dict[str, Any]:
        """Index what was written, and wait until it can be searched."""
        self._drop_unsound()
        self._load()
        progress("writing to disk", 0, 0)
        self._calls("flush", self.name)
        self._wait(progress)
        # What was loaded before it was indexed is searched by something rougher for as long as the
        # server likes; 2.3 takes about twenty seconds. Lite indexes what it loads.
        self._calls("release_collection", self.name)
        self._loaded = False
        self._load()
        self._is_makeshift = False
        kind = str((self._index() or {}).get("index_type"))
        return {"index": kind, **(_HNSW if kind == "HNSW" else {})}

    def fetch(self, ids: Sequence[str]) -> "Batch":
        """Fetch records with their vectors, in any order; ids that are not there are left out."""
        rows = self._rows_of([record_key(id) for id in ids], [*WHOLE, "vector"])
        return self._batch(rows)

    def batches(self, n: int, where: "Node | None" = None) -> "Iterator[Batch]":
        """Stream all records with their vectors, about n at a time, each once."""
        expression = compile_node(where, self._infix) if where is not None else None
        condition = "" if expression is None else expression.text
        for rows in self.ranges(n, condition, [*WHOLE, "vector"]):
            batch = self._batch(rows)
            if where is not None:
                columns = (batch.ids, batch.texts, batch.sources, batch.metas)
                keep = matching(where, zip(*columns, strict=True))
                batch = batch.take([row for row, held in enumerate(keep) if held])
            if batch.ids:
                yield batch

    def search(self, sought: Sought) -> list[list[ServerHit]]:
        """Find the nearest records of each vector: by falling cosine, ties by id."""
        self._load()
        return MilvusSearch(self, sought, self._infix).hits()

    def facts(self) -> dict[str, Any]:
        """Tell what `embcli info` shows."""
        found = self._index()
        state = str(self._calls("get_load_state", self.name)["state"]).rpartition(".")[2]
        facts = {
            "rows": self._count("") if self._is_loaded() else None,
            "index": found and found.get("index_type"),
            "index_state": found and found.get("state"),
            "pending_rows": found and found.get("pending_index_rows"),
            "load_state": state.strip(">").partition(":")[0],
            "vectors": "float32",
        }
        return {name: value for name, value in facts.items() if value is not None}

    # For searches, too

    def query(
        self,
        condition: str,
        fields: Sequence[str],
        *,
        strong: bool = True,
        limit: int | None = None,
    ) -> list[Row]:
        """Read the rows that meet a condition, or that many of them."""
        options: dict[str, Any] = self.consistency(strong)
        if limit is not None:
            options["limit"] = limit
        return list(
            self._calls("query", self.name, filter=condition, output_fields=[*fields], **options)
        )

    def nearest(
        self, vectors: Any, limit: int, effort: int, condition: str, fields: Sequence[str],
        *, strong: bool,
    ) -> list[list[Row]]:  # fmt: skip
        """Search the index: of each vector the nearest rows.

        Lite takes one vector after the other, each as long as there are rows: as many as one call
        has the time for are found out.
        """
        found: list[list[Row]] = []
        at_once, most = _QUERIES_AT_ONCE, max(1, _AT_ONCE // (4 * self.header.recipe.dim * limit))
        while len(found) < len(vectors):
            began = time.monotonic()
            answer = self._calls(
                "search",
                self.name,
                data=list(vectors[len(found) : len(found) + min(at_once, most)]),
                limit=limit,
                filter=condition,
                search_params={"metric_type": "COSINE", "params": {"ef": max(effort, limit)}},
                output_fields=[*fields],
                **self.consistency(strong),
            )
            found += [[_compact(hit["entity"]) for hit in hits] for hits in answer]
            if time.monotonic() - began < _SOON:
                at_once *= 2
        return found

    def count(self, condition: str, *, strong: bool) -> int:
        """Count the rows that meet a condition."""
        return int(self.query(condition, ["count(*)"], strong=strong)[0]["count(*)"])

    def ranges(self, n: int, condition: str, fields: Sequence[str]) -> Iterator[list[Row]]:
        """Stream rows, about n at a time; those of a record come together.

        They are read by ranges of keys, which are spread evenly. Not by an iterator of the
        server's: it is a cursor on keys as well, and of records with several rows it would give
        some at a time.
        """
        self._load()
        count = self._count("")
        step = max(1, count // max(1, n))
        digits = 0
        while 16**digits < step:
            digits += 1
        width = 16**digits
        for part in range(step):
            low, high = part * width // step, (part + 1) * width // step
            yield from self._range(low, high, digits, condition, fields)

    def consistency(self, strong: bool) -> dict[str, Any]:
        """Give the options that say what must be seen."""
        level = "Strong" if strong else self._calls.consistency
        return {} if level is None else {"consistency_level": level}

    def _count(self, condition: str) -> int:
        self._load()
        return self.count(condition, strong=True)

    def _batch(self, rows: list[Row]) -> "Batch":
        chunked = self.header.chunking is not None
        return batch_of(rows, self.header.recipe.dim, chunked, self.where)

    def _range(
        self, low: int, high: int, digits: int, condition: str, fields: Sequence[str]
    ) -> Iterator[list[Row]]:
        """Read the rows whose keys begin with these numbers, in pieces if they are too many."""
        within = []
        if low:
            within.append(f"pk >= {literal(f'{low:0{digits}x}')}")
        if high < 16**digits:
            within.append(f"pk < {literal(f'{high:0{digits}x}')}")
        if not within:
            within.append('pk >= ""')
        if condition:
            within.append(f"({condition})")
        try:
            rows = self.query(" and ".join(within), fields)
        except StoreError as error:
            if not too_large(error) or digits + 1 >= DIGITS:
                raise
            for part in range(low * 16, high * 16):
                yield from self._range(part, part + 1, digits + 1, condition, fields)
            return
        if rows:
            yield rows

    def _rows_of(self, keys: list[str], fields: Sequence[str]) -> list[Row]:
        self._load()
        rows: list[Row] = []
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            part = ", ".join(f'"{key}"' for key in keys[start : start + _KEYS_AT_ONCE])
            rows += self.query(f"rid in [{part}]", fields)
        return rows

    def _delete(self, keys: list[str]) -> None:
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            self._calls("delete", self.name, ids=keys[start : start + _KEYS_AT_ONCE])

    def _index(self) -> dict[str, Any] | None:
        names = self._calls("list_indexes", self.name, field_name="vector")
        found: dict[str, Any] | None = None
        if names:
            found = self._calls("describe_index", self.name, names[0])
        return found

    def _drop_unsound(self) -> None:
        """Drop an index that failed, or that is of distances that nobody asks for."""
        found = self._index()
        if found is not None and not _is_sound(found):
            self._calls("release_collection", self.name)
            self._calls("drop_index", self.name, found.get("index_name", "vector"))
            self._loaded = False

    def _is_loaded(self) -> bool:
        state = self._calls("get_load_state", self.name)["state"]
        return str(getattr(state, "name", state)).endswith("Loaded") and "Not" not in str(state)

    def _load(self) -> None:
        """Have the server load it; what is not loaded cannot be read, nor what has no index."""
        if self._loaded:
            return
        if self._index() is None:
            params = self._calls.client().prepare_index_params()
            # Lite passes over all rows in any case, and its graphs lose their way under filters.
            kind = (
                {"index_type": "FLAT", "params": {}}
                if self.lite
                else {"index_type": "HNSW", "params": _HNSW}
            )
            params.add_index("vector", index_name="vector", metric_type="COSINE", **kind)
            self._calls("create_index", self.name, params)
            self._is_makeshift = True
        if not self._is_loaded():
            self._calls("load_collection", self.name)
        self._loaded = True

    def _wait(self, progress: Progress) -> None:
        """Wait until all rows are indexed; see that they go on to be."""
        least, since = None, time.monotonic()
        while True:
            found = self._index() or {}
            total, pending = (
                int(found.get(name) or 0) for name in ("total_rows", "pending_index_rows")
            )
            if str(found.get("state")) == "Failed":
                raise StoreError(f"collection {self.name!r}: the server could not make the index")
            progress("indexing", total - pending, total)
            if pending <= 0 and self._is_loaded():
                return
            if least is None or pending < least:
                least, since = pending, time.monotonic()
            if time.monotonic() - since > _PATIENCE:
                raise StoreError(
                    f"collection {self.name!r}: {pending:,} rows wait for their index",
                    hint="the same command again waits on",
                )
            time.sleep(_PAUSE)


def _compact(entity: Any) -> Row:
    """Keep a row that was found; a vector as a list of floats takes eight times the memory."""
    row = dict(entity)
    row["vector"] = np.array(row["vector"], np.float32)
    return row


def _is_sound(index: dict[str, Any]) -> bool:
    """Whether an index as described can be searched by cosine; another kind may be wanted so."""
    return index.get("metric_type") == "COSINE" and str(index.get("state")) != "Failed"


def _schema(dim: int) -> Any:
    from pymilvus import DataType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("rid", DataType.VARCHAR, max_length=64)
    for name in ("record", "text", "meta", "source"):
        schema.add_field(name, DataType.VARCHAR, max_length=LONGEST)
    schema.add_field("hash", DataType.VARCHAR, max_length=1024)
    for name in ("chunk", "start", "end", "rows", "sum"):
        schema.add_field(name, DataType.INT64)
    schema.add_field("lists", DataType.JSON)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    return schema
