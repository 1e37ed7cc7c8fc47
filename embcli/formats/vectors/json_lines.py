"""JSON Lines with a vector in each object."""

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.errors import InputError
from embcli.formats import Item, Problem, jsonl
from embcli.formats.inputs import Source
from embcli.formats.source import open_source
from embcli.formats.vectors import VectorBatch, VectorOptions
from embcli.formats.vectors.fields import VECTOR_NAMES, Fields, find_name, require
from embcli.formats.vectors.rows import Pending, base_name, check_shape, finite, to_float32

_OBJECTS_LOOKED_AT = 100


class JsonlReader:
    """Read an object per line with an array of numbers, and maybe id, text and metadata.

    Ids are ``file:line`` where there is no field with them.
    """

    def __init__(self, path: str | os.PathLike[str], options: VectorOptions) -> None:
        self._source = Source(os.fspath(path), Path(path))
        self._options = options
        self.count: int | None = None
        self.notes: list[str] = []
        sample = self._sample()
        rows = [i.value for i in sample if isinstance(i, Item) and isinstance(i.value, dict)]
        name = self._source.name
        if not rows:
            wrong = next((str(item) for item in sample if isinstance(item, Problem)), name)
            raise InputError(f"{wrong} (expected JSON objects, one a line)")
        names = list(dict.fromkeys(field for row in rows for field in row))
        require(name, options.vector_field, names)
        vectors = [field for field in names if any(as_vector(row.get(field)) for row in rows)]
        field = options.vector_field or find_name(vectors, VECTOR_NAMES) or _only(vectors)
        if field is None:
            raise InputError(
                f"{name}: no field looks like a vector (there are: {', '.join(names[:12])})",
                hint="--vector-field",
            )
        self._field = field
        others = [name for name in names if name != field]
        self._fields = Fields.found(name, others, options.id_field, options.text_fields)
        first = next((v for row in rows if (v := as_vector(row.get(field)))), [])
        check_shape(name, len(rows), len(first))
        self.dim = len(first)

    def _sample(self) -> list[Item | Problem]:
        with open_source(self._source) as stream:
            return list(islice(jsonl.read(stream), _OBJECTS_LOOKED_AT))

    def __iter__(self) -> Iterator[VectorBatch | Problem]:
        """Give batches; see `VectorReader`."""
        name, short = self._source.name, base_name(self._source.name)
        pending, done = Pending(self.dim), 0
        with open_source(self._source) as stream:
            for item in jsonl.read(stream):
                if done == self._options.limit:
                    break
                if isinstance(item, Problem):
                    yield item
                    continue
                done += 1
                row = item.value if isinstance(item.value, dict) else {}
                vector = as_vector(row.pop(self._field, None))
                if vector is None or len(vector) != self.dim:
                    found = "none" if vector is None else str(len(vector))
                    message = f"expected {self.dim} numbers in {self._field!r}, found {found}"
                    yield Problem(name, item.line, message)
                    continue
                id, text, meta = self._fields.split(row)
                id = id or f"{short}:{item.line}"
                if pending.add(id, to_row(vector), text, meta, item.line):
                    yield from finite(name, pending.batch(), "line")
        if pending.ids:
            yield from finite(name, pending.batch(), "line")


def to_row(vector: list[Any]) -> NDArray[np.float32]:
    """Make an array of numbers; what is too large becomes infinite."""
    try:
        return to_float32(np.array(vector, np.float64))
    except OverflowError:
        return np.array([np.inf if abs(number) > 1e38 else number for number in vector], np.float32)


def as_vector(value: Any) -> list[Any] | None:
    """Take a list of numbers, or JSON of one in a string; None if it is neither."""
    if isinstance(value, str) and value[:1] == "[":
        try:
            value = jsonl.DECODER.decode(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list):
        return None
    if any(type(number) is not float and type(number) is not int for number in value):
        return None
    return value


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None


class JsonlWriter:
    """Write an object per line: id, text, meta and embedding, its decimals the shortest exact.

    Parameters
    ----------
    path, dim, count, recipe
        See `VectorWriter`.
    """

    def __init__(
        self, path: str | os.PathLike[str], dim: int, count: int, recipe: dict[str, Any]
    ) -> None:
        self._file = open(path, "w", encoding="utf-8", newline="\n")

    def write(self, batch: VectorBatch) -> None:
        """Append a batch."""
        self._file.writelines(f"{line}\n" for line in json_rows(batch))

    def close(self) -> None:
        """Complete the file."""
        self._file.close()


def json_rows(batch: VectorBatch) -> Iterator[str]:
    """Write records as JSON objects."""
    rows = batch.vectors.astype(str).tolist()
    for id, text, meta, row in zip(batch.ids, batch.texts, batch.metas, rows, strict=True):
        record = json.dumps({"id": id, "text": text, "meta": meta}, ensure_ascii=False)
        yield f'{record[:-1]}, "embedding": [{", ".join(row)}]}}'
