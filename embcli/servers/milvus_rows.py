"""Records as rows of a Milvus collection, and back."""

import json
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embcli.errors import InputError, StoreError
from embcli.formats.jsonl import DECODER
from embcli.servers import joined, rows_of
from embcli.servers.milvus_where import Flattener
from embcli.store.records import HASH

if TYPE_CHECKING:
    from embcli.store.collection import Batch

Row = dict[str, Any]

# Bytes of a text field, and of a JSON field: what servers allow.
LONGEST = 65_535
# Of the part of a key that is a record's, in hexadecimal digits.
DIGITS = 32
# What `records` needs.
WHOLE = ["pk", "record", "chunk", "start", "end", "rows", "text", "meta", "source", "hash"]


def record_key(id: str) -> str:
    """Give what the keys of a record's rows begin with: 128 bits of the hash of its id.

    Spread evenly, keys make ranges of about the same size, in which records are whole.
    """
    return sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def rows_to_write(
    batch: "Batch", sums: Sequence[int], dtype: str, flatten: Flattener
) -> tuple[list[Row], list[Row]]:
    """Make the rows of a batch.

    A text that is too long for its field goes on in further rows, with chunks numbered from -1
    downwards; they have the vector of the first.

    Returns
    -------
    rest, first : list of dict
        The first row of every record has its sum: once that is written, the others must be.

    Raises
    ------
    InputError
        A record has more than the server can hold; the message names it.
    """
    vectors = batch.vectors.astype(dtype).astype(np.float32)
    counts = batch.counts.tolist()
    rest: list[Row] = []
    first: list[Row] = []
    for place, (row, number, start, end) in enumerate(rows_of(batch)):
        if number == 0:
            id, meta, source = batch.ids[row], batch.metas[row], batch.sources[row]
            fields = flatten(meta)
            _check(id, meta, source, fields.values, fields.lists)
            pieces = list(_pieces(batch.texts[row]))
            key = record_key(id)
            shared = {
                "record": id,
                "rid": key,
                "source": source,
                "lists": fields.lists,
                **fields.values,
            }
            empty = {"text": "", "meta": "", "hash": "", "sum": 0, "rows": 0}
            whole = {
                "text": pieces[0],
                "meta": meta,
                "hash": batch.hashes[row],
                "sum": sums[row],
                "rows": counts[row] + len(pieces) - 1,
            }
            for further, piece in enumerate(pieces[1:], 1):
                at = {"pk": f"{key}-{further:06x}", "chunk": -further, "start": 0, "end": 0}
                rest.append({**shared, **empty, **at, "text": piece, "vector": vectors[place]})
        at = {"pk": f"{key}{number:08x}", "chunk": number, "start": start, "end": end}
        made = {**shared, **(empty if number else whole), **at, "vector": vectors[place]}
        (rest if number else first).append(made)
    return rest, first


def whole_records(rows: Iterable[Row]) -> list[tuple[list[Row], str]]:
    """Put rows together: of every record the chunks by number, and the text.

    Records of which a row is missing are left out: they are being written, or were when it broke
    off.
    """
    records: dict[str, list[Row]] = {}
    for row in rows:
        records.setdefault(row["record"], []).append(row)
    found = []
    for of_record in records.values():
        by_number = {row["chunk"]: row for row in of_record}
        if 0 in by_number and by_number[0]["rows"] == len(by_number):
            chunks = [by_number[n] for n in sorted(n for n in by_number if n >= 0)]
            texts = [row for row in of_record if row["chunk"] <= 0]
            found += [(chunks, text) for _, text in whole_texts(texts).values()]
    return found


def whole_texts(rows: Iterable[Row]) -> dict[str, tuple[Row, str]]:
    """Of the rows with a text give by record the first, and the whole text."""
    first: dict[str, Row] = {}
    further: dict[str, list[tuple[int, str]]] = {}
    for row in rows:
        if row["chunk"] == 0:
            first[row["record"]] = row
        else:
            further.setdefault(row["record"], []).append((-row["chunk"], row["text"]))
    return {
        id: (row, row["text"] + "".join(text for _, text in sorted(further.get(id, ()))))
        for id, row in first.items()
    }


def batch_of(rows: Iterable[Row], dim: int, chunked: bool, where: str) -> "Batch":
    """Make a batch of rows with vectors.

    Raises
    ------
    StoreError
        A record is not as it was written; the message begins with `where`.
    """
    chunks = []
    for of_record, text in whole_records(rows):
        _check_written(of_record, chunked, where)
        chunks += [{**chunk, "id": chunk["record"], "text": text} for chunk in of_record]
    return joined(chunks, matrix(chunks, dim), chunked)


def metadata(row: Row, where: str) -> dict[str, Any]:
    """Read the metadata of a first row.

    Raises
    ------
    StoreError
        They are not what was written; the message begins with `where`.
    """
    try:
        found = DECODER.decode(row["meta"])
    except (ValueError, TypeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _changed(row, "its metadata are no JSON object", where)
    return found


def _check_written(chunks: Sequence[Row], chunked: bool, where: str) -> None:
    """Refuse the chunks of a record if others than embcli have changed it."""
    first = chunks[0]
    metadata(first, where)
    if not HASH.fullmatch(first["hash"]):
        raise _changed(first, "its hash is not hexadecimal", where)
    if not first["pk"].startswith(record_key(first["record"])):
        raise _changed(first, "its key is not that of its id", where)
    if [chunk["chunk"] for chunk in chunks] != list(range(len(chunks))):
        raise _changed(first, "its chunks are not numbered as they were", where)
    if len(chunks) > 1 and not chunked:
        raise StoreError(
            f"{where}: its header says that no text is cut, and record {first['record'][:80]!r} is",
            hint="another name, in the URL, and embcli push again",
        )


def _changed(row: Row, what: str, where: str) -> StoreError:
    return StoreError(
        f"{where}: record {row['record'][:80]!r} was changed by something else: {what}",
        hint=f'delete it there (rid == "{row["pk"][:DIGITS]}"), then embcli push again',
    )


def matrix(rows: Sequence[Row], dim: int) -> NDArray[np.float32]:
    """Collect the vectors of rows, shape (n, dim)."""
    return np.array([row["vector"] for row in rows], np.float32).reshape(len(rows), dim)


def parts(rows: list[Row], at_most: int) -> Iterator[list[Row]]:
    """Divide rows so that none of the parts has many more bytes than this."""
    part: list[Row] = []
    size = 0
    for row in rows:
        part.append(row)
        size += 4 * len(row["vector"]) + 2 * len(row["text"]) + 6 * len(row["meta"]) + 1000
        if size >= at_most:
            yield part
            part, size = [], 0
    if part:
        yield part


def _pieces(text: str) -> Iterator[str]:
    """Cut a text into pieces of at most `LONGEST` bytes; one, if it is empty."""
    encoded = text.encode()
    start = 0
    while True:
        end = min(start + LONGEST, len(encoded))
        while end < len(encoded) and encoded[end] & 0xC0 == 0x80:
            end -= 1
        yield encoded[start:end].decode()
        start = end
        if start >= len(encoded):
            return


def _check(id: str, meta: str, source: str, *fields: Any) -> None:
    texts = {"id": id, "metadata": meta, "source": source}
    sizes = {what: len(text.encode()) for what, text in texts.items()}
    # As they are kept for filters they can be longer.
    sizes["metadata"] = max(
        sizes["metadata"], *(len(json.dumps(each, ensure_ascii=False).encode()) for each in fields)
    )
    for what, size in sizes.items():
        if size > LONGEST:
            raise InputError(
                f"record {id[:80]!r}: Milvus holds {LONGEST:,} bytes of its {what}, not {size:,}",
                hint="PostgreSQL holds more: postgresql://",
            )
