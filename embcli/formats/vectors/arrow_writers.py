"""Writing Parquet and Arrow IPC."""

import json
import os
from itertools import count as numbers
from typing import Any

import numpy as np

from embcli.formats.vectors import VectorBatch, require
from embcli.formats.vectors.arrow_files import KEY
from embcli.formats.vectors.meta_columns import MetaColumn, MetaKinds


class _TableWriter:
    """Writes columns ``id``, ``text``, ``vector`` and one for each metadata field.

    Which type a metadata column can have is known only when everything has been seen: until then
    records wait in an Arrow stream beside the file.
    """

    def __init__(
        self, path: str | os.PathLike[str], dim: int, count: int | None, recipe: dict[str, Any]
    ) -> None:
        self._pa = require("pyarrow", "arrow")
        self._path = os.fspath(path)
        self._dim = dim
        self._recipe = recipe
        self._kinds = MetaKinds()
        self._has_texts = False
        text = self._pa.string()
        self._vector = self._pa.list_(self._pa.float32(), dim)
        fields = [("id", text), ("text", text), ("vector", self._vector), ("meta", text)]
        self._seen = self._pa.schema(fields)
        self._waiting = f"{self._path}.waiting"
        self._stream = self._pa.ipc.new_stream(self._waiting, self._seen)

    def write(self, batch: VectorBatch) -> None:
        """Append a batch."""
        self._kinds.see(batch.metas)
        self._has_texts = self._has_texts or any(batch.texts)
        flat = self._pa.array(np.ascontiguousarray(batch.vectors, np.float32).reshape(-1))
        vectors = self._pa.FixedSizeListArray.from_arrays(flat, type=self._vector)
        cells = [json.dumps(meta) if meta else None for meta in batch.metas]
        ids, texts, metas = (
            self._pa.array(column, self._pa.string()) for column in (batch.ids, batch.texts, cells)
        )
        row_group = self._pa.record_batch([ids, texts, vectors, metas], self._seen)
        self._stream.write_batch(row_group)

    def abort(self) -> None:
        """Leave the file as it is."""
        self._stream.close()

    def close(self) -> None:
        """Give metadata their columns, and complete the file."""
        self._stream.close()
        columns = self._kinds.columns()
        schema = self._schema(columns)
        with self._pa.memory_map(self._waiting) as source, self._sink(schema) as sink:
            for batch in self._pa.ipc.open_stream(source):
                metas = [json.loads(meta) if meta else {} for meta in batch["meta"].to_pylist()]
                arrays = [batch["id"], batch["text"], batch["vector"]]
                if not self._has_texts:
                    del arrays[1]
                types = schema.types[len(arrays) :]
                arrays += [
                    self._pa.array(column.values(metas), kind)
                    for column, kind in zip(columns, types, strict=True)
                ]
                sink.write_batch(self._pa.record_batch(arrays, schema))
        os.remove(self._waiting)

    def _schema(self, columns: list[MetaColumn]) -> Any:
        pa = self._pa
        fields = [pa.field("id", pa.string()), pa.field("vector", self._vector)]
        if self._has_texts:
            fields.insert(1, pa.field("text", pa.string()))
        fields += meta_fields(columns, {"id", "text", "vector"})
        return pa.schema(fields, metadata=_metadata({"recipe": self._recipe}))

    def _sink(self, schema: Any) -> Any:
        """Open the final file, as something with `write_batch`."""
        raise NotImplementedError


class ParquetWriter(_TableWriter):
    """Writes Parquet, a row group for each batch."""

    def _sink(self, schema: Any) -> Any:
        parquet = require("pyarrow.parquet", "arrow")
        return parquet.ParquetWriter(self._path, schema, **parquet_options(schema))


class ArrowWriter(_TableWriter):
    """Writes the file form of Arrow IPC, which Feather is too."""

    def _sink(self, schema: Any) -> Any:
        return self._pa.ipc.new_file(self._path, schema)


def parquet_options(schema: Any) -> dict[str, Any]:
    """Say how columns of Parquet are packed.

    Vectors, in the column ``vector``, do not shrink: neither equal values nor bytes repeat in them.
    """
    plain = "vector.list.element"
    names = [f"{f.name}.list.element" if "list" in str(f.type) else f.name for f in schema]
    return {
        "compression": {name: "NONE" if name == plain else "ZSTD" for name in names},
        "use_dictionary": [name for name in names if name != plain],
    }


def meta_fields(columns: list[MetaColumn], taken: set[str]) -> list[Any]:
    """Name and type the columns of metadata; what a field is called if its name is not `taken`."""
    pa = require("pyarrow", "arrow")
    types = {
        "bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "string": pa.string(),
        "strings": pa.list_(pa.string()), "json": pa.string(),
    }  # fmt: skip
    fields, taken = [], set(taken)
    for column in columns:
        name = _free_name(column.field or "meta", taken)
        taken.add(name)
        fields.append(pa.field(name, types[column.kind], metadata=_metadata(vars(column))))
    return fields


def _metadata(value: dict[str, Any]) -> dict[bytes, bytes]:
    return {KEY: json.dumps(value, ensure_ascii=False).encode()}


def _free_name(name: str, taken: set[str]) -> str:
    others = (f"meta.{name}" if n == 1 else f"meta.{name}.{n}" for n in numbers(1))
    return name if name not in taken else next(n for n in others if n not in taken)
