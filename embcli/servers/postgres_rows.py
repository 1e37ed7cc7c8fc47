"""Rows of a collection's table, as they go to PostgreSQL and come back."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.errors import StoreError
from embcli.servers import joined, rows_of
from embcli.store.collection import Batch
from embcli.store.records import HASH

# What they are sent as: bytes are sent as they are, whatever type of PostgreSQL they mean.
COLUMNS = {
    "key": "bytea",
    "chunk": "int4",
    "chunk_start": "int4",
    "chunk_end": "int4",
    "id": "bytea",
    "text": "bytea",
    "meta": "bytea",
    "stored_meta": "bytea",
    "source": "bytea",
    "hash": "bytea",
    "sum": "int8",
    "embedding": "bytea",
}
# What they are, besides the vector.
TYPES = {
    "key": "uuid",
    "chunk": "int4",
    "chunk_start": "int4",
    "chunk_end": "int4",
    "id": "text",
    "text": "text",
    "meta": "jsonb",
    "stored_meta": "text",
    "source": "text",
    "hash": "text",
    "sum": "int8",
}
# What records are put together of again.
READ = "id, text, stored_meta, source, hash, chunk, chunk_start, chunk_end, embedding"
_TYPES = {"float32": ">f4", "float16": ">f2"}
_JSONB_VERSION = b"\x01"


def key_of(id: str) -> bytes:
    """Identify a record in 16 bytes: ids may be longer than an index can hold."""
    return hashlib.sha256(id.encode()).digest()[:16]


def keys_of(ids: Sequence[str]) -> list[str]:
    """Give keys as they are bound: ``%s::uuid[]``."""
    return [key_of(id).hex() for id in ids]


def to_rows(batch: Batch, sums: Sequence[int], dtype: str) -> Iterator[tuple[Any, ...]]:
    """Give a row for each vector, in the order of `COLUMNS`."""
    vectors = _packed(batch.vectors, dtype)
    for at, (row, chunk, start, end) in enumerate(rows_of(batch)):
        id, meta = batch.ids[row].encode(), batch.metas[row].encode()
        vector = vectors[at].tobytes()
        place = (key_of(batch.ids[row]), chunk, start, end, id)
        if chunk:
            yield (*place, None, _JSONB_VERSION + meta, None, None, None, None, vector)
            continue
        texts = (each[row].encode() for each in (batch.sources, batch.hashes))
        text = batch.texts[row].encode()
        yield (*place, text, _JSONB_VERSION + meta, meta, *texts, sums[row], vector)


def from_rows(
    rows: Sequence[tuple[Any, ...]], dim: int, dtype: str, chunked: bool, where: str
) -> Batch:
    """Put records together of rows as in `READ`, the chunks of each following each other.

    Raises
    ------
    StoreError
        They are not as they were written; `where` is the table.
    """
    names = ("id", "text", "meta", "source", "hash", "chunk", "start", "end")
    described = [dict(zip(names, row, strict=False)) for row in rows]
    id, number = None, 0
    for row in described:
        number = number + 1 if row["id"] == id and chunked else 0
        id = row["id"]
        if row["chunk"] != number or row["start"] is None or row["end"] is None:
            raise _spoilt(id, where, f"chunk {number} is not there as it was written")
        if number == 0:
            meta_of(id, row["text"], row["meta"], where)
            if row["source"] is None or not HASH.fullmatch(row["hash"] or ""):
                raise _spoilt(id, where, "its source or its hash is not what was written")
    return joined(described, unpacked([row[-1] for row in rows], dim, dtype), chunked)


def meta_of(id: str, text: str | None, meta: str | None, where: str) -> dict[str, Any]:
    """Read the metadata of a record that has a text.

    Raises
    ------
    StoreError
        It has no text, or these are no JSON object.
    """
    try:
        found = None if meta is None else _DECODER.decode(meta)
    except (ValueError, RecursionError):
        found = None
    if text is None or not isinstance(found, dict):
        raise _spoilt(id, where, "its text or its metadata are not what was written")
    return found


def _spoilt(id: str, where: str, what: str) -> StoreError:
    return StoreError(
        f"{where.replace('%%', '%')}: record {id[:200]!r}: {what}",
        hint="DELETE its rows there; the same embcli push again writes it anew",
    )


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def unpacked(vectors: Sequence[bytes], dim: int, dtype: str) -> NDArray[np.float32]:
    """Read vectors as PostgreSQL sends them, shape (n, dim)."""
    kind = np.dtype([("head", ">i2", 2), ("values", _TYPES[dtype], (dim,))])
    return np.frombuffer(b"".join(vectors), kind)["values"].astype(np.float32)


def _packed(vectors: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    kind = np.dtype([("head", ">i2", 2), ("values", _TYPES[dtype], (vectors.shape[1],))])
    packed = np.zeros(len(vectors), kind)
    packed["head"][:, 0] = vectors.shape[1]
    with np.errstate(over="ignore"):  # what is infinite the server refuses, naming the row
        packed["values"] = vectors
    return packed


def bound(vector: NDArray[np.float32]) -> str:
    """Write a vector as it is bound: ``%s::vector``."""
    return f"[{','.join(map(repr, vector.tolist()))}]"
