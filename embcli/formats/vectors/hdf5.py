"""HDF5 in the form of ann-benchmarks: vectors in ``train``, one a row."""

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from embcli.errors import EmbcliError, InputError
from embcli.formats import Problem
from embcli.formats.vectors import VectorBatch, VectorOptions, require
from embcli.formats.vectors.rows import (
    check_shape,
    conversion_note,
    finite,
    rows_at_once,
    to_float32,
)
from embcli.formats.vectors.sidecar import Labels

_VECTOR_NAMES = ("train", "vectors", "vector", "embeddings", "embedding", "emb", "base", "data")
_ID_NAMES = ("ids", "id", "keys", "names", "words")
_TEXT_NAMES = ("texts", "text")


class Hdf5Reader:
    """Reads one dataset of vectors, and ids, texts and metadata from datasets beside it.

    Ground truth (``neighbors``, ``distances``) and ``test`` are left alone; the latter can be
    named as the dataset of vectors.
    """

    def __init__(self, path: str | os.PathLike[str], options: VectorOptions) -> None:
        h5py = require("h5py", "hdf5")
        self._path = os.fspath(path)
        self._options = options
        with self._damage():
            self._file = h5py.File(self._path, "r")
            self._sets = {
                name: found for name, found in self._file.items() if isinstance(found, h5py.Dataset)
            }
            self._vectors = self._find_vectors(options)
            rows, self.dim = self._vectors.shape
            check_shape(self._path, rows, self.dim)
            self.count: int | None = min(rows, rows if options.limit is None else options.limit)
            self.notes = conversion_note(self._vectors.dtype)
            self._columns = [None] * 3 if options.sidecar else self._find_columns(options, rows)
            self.recipe = _recipe(self._file.attrs.get("embcli"))

    def __iter__(self) -> Iterator[VectorBatch | Problem]:
        assert self.count is not None
        labels = Labels(self._path, self._options)
        step = rows_at_once(self.dim)
        for start in range(0, self.count, step):
            end = min(start + step, self.count)
            own = labels.take(end - start)
            with self._damage():
                vectors = to_float32(self._vectors[start:end])
                ids, texts, metas = (
                    None if column is None else _strings(column, start, end)
                    for column in self._columns
                )
            places = [*range(start + 1, end + 1)]
            batch = VectorBatch(
                ids or own[0],
                vectors,
                texts or own[1],
                own[2] if metas is None else [self._meta(text) for text in metas],
                places,
            )
            yield from finite(self._path, batch)
        if self._options.limit is None:
            labels.finish()

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except EmbcliError:
            raise
        except Exception as error:  # noqa: BLE001 (what h5py raises depends on the damage)
            raise InputError(f"{self._path}: cannot be read ({error})") from None

    def _find_vectors(self, options: VectorOptions) -> Any:
        wanted = options.vector_field
        matrices = {
            name: found
            for name, found in self._sets.items()
            if found.ndim == 2 and found.dtype.kind in "iuf"
        }
        usual = [name for name in _VECTOR_NAMES if name in matrices]
        if wanted is not None:
            usual = [wanted] if wanted in matrices else []
        elif not usual and len(matrices) == 1:
            usual = [*matrices]
        if usual:
            return matrices[usual[0]]
        shapes = ", ".join(f"{name} {found.shape}" for name, found in self._sets.items())
        raise InputError(
            f"{self._path}: no matrix {wanted or 'train'!r} of numbers (there are: "
            f"{shapes or 'none'})",
            hint="--vector-field NAME",
        )

    def _find_columns(self, options: VectorOptions, rows: int) -> list[Any]:
        """Find ids, texts and metadata; None for each that is not there."""
        found = []
        named = (options.id_field, options.text_fields[0] if options.text_fields else None, None)
        usual = (_ID_NAMES, _TEXT_NAMES, ("metas",))
        for name, names in zip(named, usual, strict=True):
            if name is not None and name not in self._sets:
                raise InputError(
                    f"{self._path}: no dataset {name!r} (there are: {', '.join(self._sets)})"
                )
            chosen = name or next((n for n in names if n in self._sets), None)
            column = None if chosen is None else self._sets[chosen]
            if column is not None and column.shape != (rows,):
                raise InputError(
                    f"{self._path}: dataset {chosen!r} has shape {column.shape}, expected ({rows},)"
                )
            found.append(column)
        return found

    def _meta(self, text: str) -> dict[str, Any]:
        try:
            meta = json.loads(text or "{}")
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self._path}: metadata are not JSON ({error})") from None
        return meta if isinstance(meta, dict) else {"meta": meta}


class Hdf5Writer:
    """Writes ``train``, and ``ids``, ``texts`` and ``metas`` (JSON) beside it.

    The attributes are those of ann-benchmarks, and ``embcli`` with the recipe.
    """

    def __init__(
        self, path: str | os.PathLike[str], dim: int, count: int | None, recipe: dict[str, Any]
    ) -> None:
        h5py = require("h5py", "hdf5")
        self._path = os.fspath(path)
        self._rows = 0
        self._file = h5py.File(path, "w")
        rows = count or 0
        chunks = None if count is not None else (rows_at_once(dim), dim)
        growing = None if count is not None else (None, dim)
        self._vectors = self._file.create_dataset(
            "train", (rows, dim), np.float32, maxshape=growing, chunks=chunks
        )
        self._columns = [
            self._file.create_dataset(
                name,
                (rows,),
                h5py.string_dtype(),
                maxshape=None if count is not None else (None,),
                chunks=None if count is not None else (1024,),
            )
            for name in ("ids", "texts", "metas")
        ]
        self._file.attrs["type"] = "dense"
        self._file.attrs["distance"] = "angular"
        self._file.attrs["dimension"] = dim
        self._file.attrs["point_type"] = "float"
        self._file.attrs["embcli"] = json.dumps({"recipe": recipe}, ensure_ascii=False)

    def write(self, batch: VectorBatch) -> None:
        """Append a batch.

        Raises
        ------
        InputError
            A text or id holds the character U+0000, which ends a string in HDF5.
        """
        start, self._rows = self._rows, self._rows + len(batch.ids)
        metas = [json.dumps(meta, ensure_ascii=False) for meta in batch.metas]
        for id, text in zip(batch.ids, batch.texts, strict=True):
            if "\0" in id or "\0" in text:
                raise InputError(
                    f"record {id!r} holds the character U+0000, which HDF5 cannot",
                    hint="another format, for example Parquet",
                )
        columns = (batch.vectors, batch.ids, batch.texts, metas)
        with _short_reasons():
            for dataset, values in zip((self._vectors, *self._columns), columns, strict=True):
                if dataset.shape[0] < self._rows:
                    dataset.resize(self._rows, axis=0)
                dataset[start : self._rows] = values

    def close(self) -> None:
        """Complete the file."""
        with _short_reasons():
            self._file.close()


@contextmanager
def _short_reasons() -> Iterator[None]:
    """Of what HDF5 says when it cannot write, keep what the system said."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = re.search(r"error message = '([^']*)'", str(error))
        raise OSError(errno.EIO, reason[1] if reason else str(error)) from error


def _strings(column: Any, start: int, end: int) -> list[str]:
    values = column[start:end].tolist()
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _recipe(attribute: Any) -> dict[str, Any] | None:
    """Read our attribute, if it is there and ours."""
    try:
        found = json.loads(attribute).get("recipe") if isinstance(attribute, str) else None
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, dict) else None
