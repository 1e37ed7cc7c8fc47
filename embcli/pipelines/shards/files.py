"""Parts as Parquet files: a row for each vector, and all that a store keeps of a record."""

import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from xxhash import xxh3_64_intdigest

from embcli.errors import EmbcliError, InputError
from embcli.formats.vectors import require
from embcli.formats.vectors.arrow_files import KEY
from embcli.formats.vectors.arrow_writers import meta_fields, parquet_options
from embcli.formats.vectors.meta_columns import MetaColumn
from embcli.pipelines.encode_to import Sink
from embcli.store import Chunks, Record
from embcli.store.collection import Batch
from embcli.store.records import HASH

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS_PER_GROUP = 4096
_TEXTS = ("id", "text", "meta", "source", "hash")
_LONG = ("text", "meta")
_SPANS = ("chunk", "start", "end")


class PartFile(Sink):
    """Writes a part; stands in for a collection meanwhile.

    Parameters
    ----------
    path : path
        Of the file, which is complete after `close`.
    dim : int
    chunked : bool
        Whether records have several vectors, each with its number and span: text and metadata
        are then in the first row of each.
    facts : dict
        Kept in the metadata of the schema: the recipe, and which part of which plan it is.

    Attributes
    ----------
    rows : int
        Vectors written.
    """

    def __init__(
        self, path: str | os.PathLike[str], dim: int, chunked: bool, facts: dict[str, Any]
    ) -> None:
        super().__init__()
        self._pa = require("pyarrow", "arrow")
        parquet = require("pyarrow.parquet", "arrow")
        self._chunked = chunked
        self._vector = self._pa.list_(self._pa.float32(), dim)
        self._schema = self._make_schema(facts)
        self._file = parquet.ParquetWriter(
            os.fspath(path), self._schema, **parquet_options(self._schema)
        )
        self._waiting: list[Any] = []
        self.rows = 0

    def _make_schema(self, facts: dict[str, Any]) -> Any:
        pa = self._pa
        (meta,) = meta_fields([MetaColumn(None, "json")], set())
        fields = [meta if name == "meta" else pa.field(name, pa.string()) for name in _TEXTS]
        fields.append(pa.field("vector", self._vector))
        if self._chunked:
            fields += [pa.field(name, pa.int32()) for name in _SPANS]
        return pa.schema(fields, metadata={KEY: json.dumps(facts).encode()})

    def hand_on(
        self, records: Sequence[Record], made: "Sequence[NDArray[np.float32] | Chunks]"
    ) -> None:
        """Put a batch at the end."""
        columns: list[list[Any]] = [
            [record.id for record in records],
            [record.text for record in records],
            [record.meta_json for record in records],
            [record.source for record in records],
            [record.hash for record in records],
        ]
        arrays = [self._pa.array(column, self._pa.string()) for column in columns]
        if self._chunked:
            matrix, arrays, spans = self._spread(arrays, made)
        else:
            matrix, spans = np.stack([each for each in made if not isinstance(each, Chunks)]), []
        flat = self._pa.array(np.ascontiguousarray(matrix, np.float32).reshape(-1))
        arrays.append(self._pa.FixedSizeListArray.from_arrays(flat, type=self._vector))
        self._waiting.append(self._pa.record_batch([*arrays, *spans], self._schema))
        self.rows += len(matrix)
        if sum(batch.num_rows for batch in self._waiting) >= _ROWS_PER_GROUP:
            self._flush()

    def _spread(
        self, arrays: list[Any], made: "Sequence[NDArray[np.float32] | Chunks]"
    ) -> "tuple[NDArray[np.float32], list[Any], list[Any]]":
        """Repeat what is known of records for each of their vectors, unless it may be long."""
        chunks = [vectors for vectors in made if isinstance(vectors, Chunks)]
        counts = np.fromiter((len(each.spans) for each in chunks), np.int64, len(chunks))
        owners = np.repeat(np.arange(len(chunks)), counts)
        number = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        indices = self._pa.array(owners)
        firsts = self._pa.array(owners, mask=number > 0)
        arrays = [
            array.take(firsts if name in _LONG else indices)
            for name, array in zip(_TEXTS, arrays, strict=True)
        ]
        spans = np.concatenate([each.spans for each in chunks])
        numbers = (number, spans[:, 0], spans[:, 1])
        columns = [self._pa.array(np.ascontiguousarray(each, np.int32)) for each in numbers]
        return np.concatenate([each.vectors for each in chunks]), arrays, columns

    def _flush(self) -> None:
        if self._waiting:
            table = self._pa.Table.from_batches(self._waiting, self._schema)
            self._file.write_table(table.combine_chunks(), row_group_size=2 * _ROWS_PER_GROUP)
            self._waiting = []

    def close(self) -> None:
        """Complete the file."""
        self._flush()
        self._file.close()

    def abort(self) -> None:
        """Leave the file as it is."""
        self._file.close()


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what a part says of itself: recipe, chunking, plan and number.

    Raises
    ------
    InputError
        It is no part.
    """
    parquet = require("pyarrow.parquet", "arrow")
    try:
        metadata = parquet.read_schema(os.fspath(path)).metadata or {}
        facts = json.loads(metadata.get(KEY, b"{}"))
    except Exception as error:  # noqa: BLE001 (whatever Arrow raises)
        raise _damaged(path, error) from None
    if not isinstance(facts, dict) or not {"recipe", "plan", "part"} <= facts.keys():
        raise InputError(f"{os.fspath(path)}: this is no part of an encode")
    return facts


def sum_of(id: str) -> int:
    """Take the checksum of an id."""
    return xxh3_64_intdigest(id.encode())


def read_ids(path: str | os.PathLike[str]) -> "NDArray[np.uint64]":
    """Read the ids of a part, and nothing else, as sorted checksums, see `sum_of`.

    Raises
    ------
    InputError
    """
    parquet = require("pyarrow.parquet", "arrow")
    try:
        ids = parquet.read_table(os.fspath(path), columns=["id"])["id"].to_pylist()
        return np.unique(np.fromiter(map(sum_of, ids), np.uint64, len(ids)))
    except Exception as error:  # noqa: BLE001 (whatever Arrow raises)
        raise _damaged(path, error) from None


def read_part(path: str | os.PathLike[str], rows: int = 2 * _ROWS_PER_GROUP) -> Iterator[Batch]:
    """Read a part as it was written.

    Parameters
    ----------
    path : path
    rows : int
        About how many vectors are in a batch; a record is never divided.

    Raises
    ------
    InputError
        It is no part, or damaged.
    ModelError
        pyarrow is not installed.
    """
    parquet = require("pyarrow.parquet", "arrow")
    pa = require("pyarrow", "arrow")
    try:
        with parquet.ParquetFile(os.fspath(path)) as file:
            names = file.schema_arrow.names
            chunked = "chunk" in names
            if not {*_TEXTS, "vector"} <= {*names} or (chunked and not {*_SPANS} <= {*names}):
                raise InputError(f"{os.fspath(path)}: this is no part of an encode")
            columns = [*_TEXTS, "vector", *(_SPANS if chunked else ())]
            batches = file.iter_batches(batch_size=rows, columns=columns)
            if not chunked:
                yield from map(_batch, batches)
                return
            rest = None
            for batch in batches:
                joined = batch if rest is None else pa.concat_batches([rest, batch])
                # The last record may go on.
                firsts = np.flatnonzero(joined.column("chunk").to_numpy() == 0)
                end = int(firsts[-1])
                if end:
                    yield _chunked_batch(joined.slice(0, end))
                rest = joined.slice(end)
            if rest is not None and rest.num_rows:
                yield _chunked_batch(rest)
    except EmbcliError:
        raise
    except Exception as error:  # noqa: BLE001 (whatever Arrow raises)
        raise _damaged(path, error) from None


def _batch(rows: Any) -> Batch:
    return Batch(*_columns(rows), _matrix(rows), None)


def _columns(rows: Any) -> tuple[list[str], list[str], list[str], list[str], list[str]]:
    """Give what a record has besides vectors."""
    if any(rows.column(name).null_count for name in _TEXTS):
        raise ValueError("a record is not complete")
    ids, texts, metas, sources, hashes = (rows.column(name).to_pylist() for name in _TEXTS)
    if len(set(ids)) < len(ids):
        raise ValueError("an id repeats")
    if not all(map(HASH.fullmatch, hashes)):
        raise ValueError("a hash is not hexadecimal")
    if not all(isinstance(json.loads(meta), dict) for meta in metas):
        raise ValueError("metadata are no JSON object")
    return ids, texts, metas, sources, hashes


def _chunked_batch(rows: Any) -> Batch:
    number = rows.column("chunk").to_numpy()
    firsts = np.flatnonzero(number == 0)
    spans = np.stack(
        [rows.column(name).to_numpy().astype(np.int64) for name in ("start", "end")], axis=1
    )
    own = rows.take(firsts)
    columns = _columns(own)
    counts = np.diff(np.append(firsts, len(number)))
    lengths = np.repeat([len(text) for text in columns[1]], counts)
    numbered = np.arange(len(number)) - np.repeat(firsts, counts)
    if (number != numbered).any() or (spans[:, 0] > spans[:, 1]).any():
        raise ValueError("chunks are not in order")
    if (spans < 0).any() or (spans[:, 1] > lengths).any():
        raise ValueError("a chunk goes beyond its text")
    return Batch(*columns, _matrix(rows), np.split(spans, firsts[1:]))


def _matrix(rows: Any) -> "NDArray[np.float32]":
    column = rows.column("vector")
    matrix: NDArray[np.float32] = column.flatten().to_numpy().reshape(len(column), -1)
    if not np.isfinite(matrix).all():
        raise ValueError("a vector is not finite")
    return matrix


def _damaged(path: str | os.PathLike[str], error: Exception) -> InputError:
    reason = str(error).splitlines()[0][:200] if str(error) else "damaged"
    return InputError(f"{os.fspath(path)}: cannot be read ({reason})")
