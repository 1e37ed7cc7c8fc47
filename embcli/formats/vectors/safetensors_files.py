"""Safetensors: tensors behind a header of JSON."""

import json
import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.errors import InputError
from embcli.formats import Problem
from embcli.formats.vectors import VectorBatch, VectorOptions
from embcli.formats.vectors.fields import VECTOR_NAMES, find_name, require
from embcli.formats.vectors.rows import (
    check_shape,
    conversion_note,
    finite,
    rows_at_once,
    to_float32,
)  # fmt: skip
from embcli.formats.vectors.sidecar import Labels

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_LONGEST_HEADER = 100_000_000  # the library's own limit
_RECORDS = "records"
_RECIPE = "embcli.recipe"
_ROOM = 1024


def read_header(path: str | os.PathLike[str]) -> tuple[dict[str, Any], int]:
    """Read the header of a safetensors file, and where the tensors begin.

    Raises
    ------
    InputError
        It is none, or the tensors are not all there.
    """
    name = os.fspath(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = os.fstat(file.fileno()).st_size
        if length > min(_LONGEST_HEADER, size):
            raise InputError(f"{name}: this is no safetensors file")
        data = file.read(length)
    try:
        header = json.loads(data)
        ends = [_end(entry) for key, entry in header.items() if key != "__metadata__"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(f"{name}: its header is no safetensors header") from None
    start = 8 + length
    if start + max(ends, default=0) != size:
        expected = start + max(ends, default=0)
        raise InputError(
            f"{name}: its header promises {expected:,} bytes, found {size:,} (truncated?)"
        )
    return header, start


def _end(entry: dict[str, Any]) -> int:
    """Give the place where a tensor ends, if all is as it should be."""
    begin, end = entry["data_offsets"]
    numbers = [0, begin, end, *entry["shape"]]
    if any(type(number) is not int or number < 0 for number in numbers) or begin > end:
        raise ValueError
    if not isinstance(entry["dtype"], str):
        raise TypeError
    return int(end)


class SafetensorsReader:
    """Read one tensor of shape (n, dim), mapped into memory.

    Ids, texts and metadata come from a sidecar, or from what `SafetensorsWriter` put beside it.
    """

    def __init__(self, path: str | os.PathLike[str], options: VectorOptions) -> None:
        self._path, self._options = path, options
        self._name = os.fspath(path)
        self._header, self._start = read_header(path)
        self.recipe = _recipe(self._header.pop("__metadata__", None))
        tables = [n for n, entry in self._header.items() if len(entry["shape"]) == 2]
        require(self._name, options.vector_field, tables)
        field = options.vector_field or find_name(tables, VECTOR_NAMES)
        if field is None and len(tables) != 1:
            raise InputError(
                f"{self._name}: which tensor has the vectors? It has "
                f"{', '.join(list(self._header)[:12]) or 'none'}",
                hint="--vector-field",
            )
        field = field or tables[0]
        self._is_bfloat16 = self._header[field]["dtype"] == "BF16"
        self._array = self._tensor(field)
        check_shape(f"{self._name}, {field!r}", *self._array.shape)
        rows, self.dim = self._array.shape
        self._rows = rows
        self.count = rows if options.limit is None else min(rows, options.limit)
        if self._is_bfloat16:
            self.notes = ["bfloat16 → float32, exactly"]
        else:
            self.notes = conversion_note(self._array.dtype)

    def __iter__(self) -> Iterator[VectorBatch | Problem]:
        """Give batches; see `VectorReader`."""
        labels = Labels(self._path, self._options)
        own = _RECORDS in self._header and self._options.sidecar is None
        lines = self._lines() if own else iter(())
        step = rows_at_once(self.dim)
        for start in range(0, self.count, step):
            stored = self._array[start : min(start + step, self.count)]
            if self._is_bfloat16:  # the upper half of a float32
                stored = (stored.astype(np.uint32) << 16).view(np.float32)
            rows = to_float32(stored)
            ids, texts, metas = labels.take(len(rows))
            if own:
                records = list(islice(lines, len(rows)))
                if len(records) < len(rows):
                    raise InputError(f"{self._name}: it has fewer records than vectors")
                ids = [str(record["id"]) for record in records]
                texts = [str(record.get("text", "")) for record in records]
                metas = [record.get("meta", {}) for record in records]
            places = list(range(start + 1, start + 1 + len(rows)))
            yield from finite(self._name, VectorBatch(ids, rows, texts, metas, places))
        if self.count == self._rows:
            labels.finish()

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Read what the vectors belong to, a line of JSON each."""
        tensor = self._tensor(_RECORDS)
        at = 0
        with open(self._path, "rb") as file:
            file.seek(self._start + self._header[_RECORDS]["data_offsets"][0])
            for line in file:
                at += len(line)
                if at > tensor.size:
                    return
                try:
                    record = json.loads(line)
                    sound = "id" in record and isinstance(record.get("meta", {}), dict)
                except (ValueError, TypeError, AttributeError, RecursionError):
                    sound = False
                if not sound:
                    raise InputError(f"{self._name}: the tensor {_RECORDS!r} is damaged")
                yield record

    def _tensor(self, field: str) -> NDArray[Any]:
        entry = self._header[field]
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise InputError(f"{self._name}, {field!r}: no numbers of type {entry['dtype']} here")
        begin, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        if end - begin != size:
            raise InputError(f"{self._name}, {field!r}: shape and length do not agree")
        if size == 0:
            return np.empty(shape, dtype)
        return np.memmap(self._path, dtype, "r", self._start + begin, shape)


def _recipe(metadata: Any) -> dict[str, Any] | None:
    """Read what we put into the metadata of a file, if it is ours."""
    try:
        recipe = json.loads(metadata[_RECIPE])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return recipe if isinstance(recipe, dict) else None


class SafetensorsWriter:
    """Write the tensor ``vectors``, and ``records``: UTF-8 bytes of JSON Lines with the ids.

    Parameters
    ----------
    path, dim, count, recipe
        See `VectorWriter`; the recipe is in the file's metadata.
    """

    def __init__(
        self, path: str | os.PathLike[str], dim: int, count: int, recipe: dict[str, Any]
    ) -> None:
        self._file = open(path, "w+b")
        self._shape = [count, dim]
        self._metadata = {"format": "np", _RECIPE: json.dumps(recipe, ensure_ascii=False)}
        # The length of the records is not known yet; spaces may fill a header up.
        self._room = -(-(len(self._head(1 << 60)) + 8) // _ROOM) * _ROOM
        self._file.write(b" " * self._room)
        self._records: list[bytes] = []

    def write(self, batch: VectorBatch) -> None:
        """Append a batch."""
        self._file.write(np.ascontiguousarray(batch.vectors, "<f4").tobytes())
        for id, text, meta in zip(batch.ids, batch.texts, batch.metas, strict=True):
            record = {"id": id, "text": text, "meta": meta}
            self._records.append(json.dumps(record, ensure_ascii=False).encode() + b"\n")

    def close(self) -> None:
        """Complete the file."""
        length = sum(map(len, self._records))
        self._file.writelines(self._records)
        head = self._head(length).ljust(self._room - 8)
        self._file.seek(0)
        self._file.write(len(head).to_bytes(8, "little") + head)
        self._file.close()

    def _head(self, length: int) -> bytes:
        end = 4 * self._shape[0] * self._shape[1]
        header = {
            "__metadata__": self._metadata,
            "vectors": {"dtype": "F32", "shape": self._shape, "data_offsets": [0, end]},
            _RECORDS: {"dtype": "U8", "shape": [length], "data_offsets": [end, end + length]},
        }
        return json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
