"""Flat FAISS indexes, read and written without FAISS.

The layout, all little-endian, as FAISS 1.5 to 1.15 write it (``faiss/impl/index_write.cpp``):

====== ======= =====================================================================
bytes  type    what
====== ======= =====================================================================
4      char    ``IxFI`` (inner product), ``IxF2`` (L2) or ``IxFl`` (another metric)
4      int32   dim
8      int64   number of vectors
16     int64   two numbers without meaning
1      bool    whether it is trained; true
4      int32   metric: 0 inner product, 1 L2, others
4      float32 argument of the metric, only if that is above 1
8      uint64  number of components of all vectors
4 each float32 the vectors
====== ======= =====================================================================

An index with ids of its own (``IxMp``, ``IxM2``) has the same header, a flat index, and an
array of int64 behind it, its length first.
"""

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np

from embcli.errors import InputError
from embcli.formats import Problem
from embcli.formats.vectors import VectorBatch, VectorOptions
from embcli.formats.vectors.rows import check_shape, finite, rows_at_once
from embcli.formats.vectors.sidecar import Labels

_FLAT = (b"IxFI", b"IxF2", b"IxFl")
_WITH_IDS = (b"IxMp", b"IxM2")
_HEADER = struct.Struct("<iqqq?i")
_LENGTH = struct.Struct("<Q")
_UNUSED = 1 << 20
_VALUE = np.dtype("<f4")
_ID = np.dtype("<i8")


class FaissReader:
    """Reads a flat index, and ids, texts and metadata from ``FILE.jsonl`` beside it.

    Without that file, ids are those of the index, else the numbers that FAISS gives: from 0.
    """

    recipe: dict[str, Any] | None = None

    def __init__(self, path: str | os.PathLike[str], options: VectorOptions) -> None:
        self._path = os.fspath(path)
        self.notes: list[str] = []
        with open(path, "rb") as file:
            self._length = os.fstat(file.fileno()).st_size
            kind = file.read(4)
            if kind in _WITH_IDS:
                self._header(file)
                kind = file.read(4)
                mapped = True
            else:
                mapped = False
            if kind not in _FLAT:
                name = kind.decode("ascii", "backslashreplace")
                raise InputError(
                    f"{self._path}: no flat FAISS index (it begins with {name!r})",
                    hint="in Python: flat = faiss.IndexFlat(index.d); "
                    "flat.add(index.reconstruct_n(0, index.ntotal))",
                )
            self.dim, rows = self._header(file)
            (components,) = _LENGTH.unpack(self._read(file, _LENGTH.size))
            if self.dim < 0 or rows < 0 or components != rows * self.dim:
                raise InputError(
                    f"{self._path}: {rows:,} vectors of {self.dim:,} components announced, "
                    f"{components:,} components in all"
                )
            check_shape(self._path, rows, self.dim)
            self._start = file.tell()
            self._check_length(self._start + components * _VALUE.itemsize)
            file.seek(components * _VALUE.itemsize, os.SEEK_CUR)
            self._ids = self._read_ids(file, rows) if mapped else None
        self.count: int | None = min(rows, rows if options.limit is None else options.limit)
        beside = f"{self._path}.jsonl"
        self._options = options
        if options.sidecar is None and os.path.isfile(beside):
            self._options = replace(options, sidecar=beside)
            self.notes.append(f"ids, texts and metadata are from {beside}")

    def __iter__(self) -> Iterator[VectorBatch | Problem]:
        assert self.count is not None
        step = rows_at_once(self.dim)
        labels = Labels(self._path, self._options)
        with open(self._path, "rb") as file:
            file.seek(self._start)
            for start in range(0, self.count, step):
                n = min(step, self.count - start)
                raw = self._read(file, n * self.dim * _VALUE.itemsize)
                vectors = np.frombuffer(raw, _VALUE).reshape(n, self.dim).astype(np.float32)
                ids, texts, metas = labels.take(n)
                if self._options.sidecar is None:
                    own = None if self._ids is None else self._ids[start : start + n].tolist()
                    ids = [str(number) for number in own or range(start, start + n)]
                places = [*range(start + 1, start + n + 1)]
                yield from finite(self._path, VectorBatch(ids, vectors, texts, metas, places))
        if self._options.limit is None:
            labels.finish()

    def _header(self, file: BinaryIO) -> tuple[int, int]:
        """Read the header behind the name of the kind: dim and number of vectors."""
        dim, rows, _, _, _, metric = _HEADER.unpack(self._read(file, _HEADER.size))
        if metric > 1:
            self._read(file, 4)
        return dim, rows

    def _read(self, file: BinaryIO, length: int) -> bytes:
        raw = file.read(length)
        if len(raw) < length:
            self._check_length(file.tell() - len(raw) + length)
        return raw

    def _check_length(self, expected: int) -> None:
        if self._length < expected:
            raise InputError(
                f"{self._path}: cut off: {self._length:,} bytes, expected {expected:,} or more"
            )

    def _read_ids(self, file: BinaryIO, rows: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
        (length,) = _LENGTH.unpack(self._read(file, _LENGTH.size))
        if length != rows:
            raise InputError(f"{self._path}: {rows:,} vectors and {length:,} ids")
        return np.frombuffer(self._read(file, rows * _ID.itemsize), _ID)


class FaissWriter:
    """Writes a flat index of inner products, and ``FILE.jsonl`` with ids, texts and metadata."""

    def __init__(
        self, path: str | os.PathLike[str], dim: int, count: int | None, recipe: dict[str, Any]
    ) -> None:
        self._dim = dim
        self._rows = 0
        self._file = open(path, "wb")
        self._beside = open(f"{os.fspath(path)}.jsonl", "w", encoding="utf-8", newline="")
        self._write_header()

    def _write_header(self) -> None:
        header = _HEADER.pack(self._dim, self._rows, _UNUSED, _UNUSED, True, 0)
        self._file.write(_FLAT[0] + header + _LENGTH.pack(self._rows * self._dim))

    def write(self, batch: VectorBatch) -> None:
        """Append a batch."""
        self._rows += len(batch.ids)
        self._file.write(np.ascontiguousarray(batch.vectors, _VALUE).data)
        for id, text, meta in zip(batch.ids, batch.texts, batch.metas, strict=True):
            row: dict[str, Any] = {"id": id}
            if text:
                row["text"] = text
            if meta:
                row["meta"] = meta
            self._beside.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Complete the files: the header says how many vectors there are."""
        self._file.seek(0)
        self._write_header()
        self._file.close()
        self._beside.close()
