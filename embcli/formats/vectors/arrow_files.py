"""Parquet and Arrow IPC: what data frames, LanceDB, Qdrant and Hugging Face datasets exchange."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from embcli.errors import EmbcliError, InputError
from embcli.formats import Problem
from embcli.formats.fields import ID_NAMES, TEXT_NAMES
from embcli.formats.vectors import VectorBatch, VectorOptions, require
from embcli.formats.vectors.fields import VECTOR_NAMES, find_name
from embcli.formats.vectors.fields import require as require_field
from embcli.formats.vectors.meta_columns import MetaColumn
from embcli.formats.vectors.rows import (
    check_shape,
    conversion_note,
    finite,
    rows_at_once,
    to_float32,
)
from embcli.formats.vectors.sidecar import Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Our own key in the metadata of schemas and columns.
KEY = b"embcli"


class _TableReader:
    """What both containers have in common: the columns, and what becomes of them.

    Vectors are the column named, or else the only one of lists of floats, or the one of a usual
    name. Ids and text go by the usual names too. All other columns are metadata. With a sidecar,
    all these are in there.
    """

    def __init__(self, path: str | os.PathLike[str], options: VectorOptions) -> None:
        self._pa = require("pyarrow", "arrow")
        self._path = os.fspath(path)
        self._options = options
        self.count: int | None = None
        with self._damage():
            self._schema = self._open()
            self._roles()
            recipe = _own(self._schema.metadata).get("recipe")
        self.recipe: dict[str, Any] | None = recipe if isinstance(recipe, dict) else None
        value = self._storage(self._schema.field(self._vector).type).value_type
        with self._damage():
            self.notes = conversion_note(np.dtype(value.to_pandas_dtype()))
        if self._left_out:
            self.notes.append(f"left out: {', '.join(self._left_out)}")
        with self._damage():
            self.dim = self._find_dim()
            some = next((batch.num_rows for batch in self._batches(1024) if batch.num_rows), 0)
        check_shape(self._path, some, self.dim)

    def _open(self) -> Any:
        """Open the file, count its rows if that is quick, and return the schema."""
        raise NotImplementedError

    def _batches(self, rows: int) -> Iterator[Any]:
        """Read the file in record batches of at most so many rows."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[VectorBatch | Problem]:
        labels = Labels(self._path, self._options)
        first, rest = 1, self._options.limit
        with self._damage():
            for batch in self._batches(rows_at_once(self.dim)):
                taken = batch if rest is None else batch.slice(0, rest)
                yield from self._convert(taken, first, labels)
                first += taken.num_rows
                if rest is not None:
                    rest -= taken.num_rows
                    if rest == 0:
                        return
        labels.finish()

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except EmbcliError:
            raise
        except Exception as error:  # noqa: BLE001 (Python stumbles over what Arrow gives it)
            reason = str(error).splitlines()[0][:200] if str(error) else "damaged"
            raise InputError(f"{self._path}: cannot be read ({reason})") from None

    def _roles(self) -> None:
        """Decide which column is what."""
        schema = self._schema
        if len(set(schema.names)) < len(schema.names):
            raise InputError(f"{self._path}: two columns have the same name")
        self._own_columns = {
            field.name: column
            for field in schema
            if (column := MetaColumn.from_settings(_own(field.metadata))) is not None
        }
        self._vector = self._vector_column()
        free = [n for n in schema.names if n != self._vector and n not in self._own_columns]
        for name in (self._options.id_field, *self._options.text_fields):
            require_field(self._path, name, free)
        self._id = self._options.id_field or find_name(free, ID_NAMES)
        texts = [n for n in free if n != self._id and self._is_text(schema.field(n).type)]
        text = find_name(texts, TEXT_NAMES)
        self._texts = self._options.text_fields or ((text,) if text else ())
        self._left_out: list[str] = []
        self._others: list[str] = []
        for name in free:
            if name == self._id or name in self._texts:
                continue
            kind = schema.field(name).type
            if self._is_vector(kind) or "binary" in str(kind):
                self._left_out.append(f"{name} ({kind})")
            else:
                self._others.append(name)

    def _vector_column(self) -> str:
        wanted = self._options.vector_field
        free = [n for n in self._schema.names if n not in self._own_columns]
        found = [n for n in free if self._is_vector(self._schema.field(n).type)]
        if wanted is not None:
            require_field(self._path, wanted, self._schema.names)
            if not self._is_list(self._schema.field(wanted).type):
                raise InputError(f"{self._path}: column {wanted!r} holds no lists of numbers")
            return wanted
        usual = found[0] if len(found) == 1 else find_name(found, VECTOR_NAMES)
        if usual is not None:
            return usual
        columns = ", ".join(f"{f.name} ({f.type})" for f in list(self._schema)[:20])
        which = "no column of vectors" if not found else "several columns of vectors"
        raise InputError(
            f"{self._path}: {which} (there are: {columns or 'none'})",
            hint=f"--vector-field {found[0] if found else 'NAME'}",
        )

    def _storage(self, kind: Any) -> Any:
        return kind.storage_type if isinstance(kind, self._pa.BaseExtensionType) else kind

    def _is_list(self, kind: Any) -> bool:
        types, kind = self._pa.types, self._storage(kind)
        lists = (types.is_fixed_size_list, types.is_list, types.is_large_list)
        values = (types.is_floating, types.is_integer)
        is_list = any(test(kind) for test in lists)
        return is_list and any(bool(test(kind.value_type)) for test in values)

    def _is_vector(self, kind: Any) -> bool:
        floating = self._pa.types.is_floating
        return self._is_list(kind) and bool(floating(self._storage(kind).value_type))

    def _is_text(self, kind: Any) -> bool:
        kind = getattr(kind, "value_type", kind) if "dictionary" in str(kind) else kind
        return any(
            test(kind) for test in (self._pa.types.is_string, self._pa.types.is_large_string)
        )

    def _find_dim(self) -> int:
        kind = self._storage(self._schema.field(self._vector).type)
        if self._pa.types.is_fixed_size_list(kind):
            return int(kind.list_size)
        for batch in self._batches(1024):
            for length in self._lengths(batch.column(self._vector)).tolist():
                if length >= 0:
                    return int(length)
        return 0

    def _lengths(self, column: Any) -> "NDArray[np.int64]":
        """How many components each row has, -1 where there is no vector."""
        compute = require("pyarrow.compute", "arrow")
        column = column.storage if isinstance(column.type, self._pa.BaseExtensionType) else column
        lengths = compute.fill_null(compute.list_value_length(column), -1)
        found: NDArray[np.int64] = lengths.to_numpy(zero_copy_only=False).astype(np.int64)
        return found

    def _convert(self, batch: Any, first: int, labels: Labels) -> Iterator[VectorBatch | Problem]:
        column = batch.column(self._vector)
        if isinstance(column.type, self._pa.BaseExtensionType):
            column = column.storage
        lengths = self._lengths(column)
        good = lengths == self.dim
        for row in np.flatnonzero(~good).tolist():
            found = f"{lengths[row]:,} components" if lengths[row] >= 0 else "no vector"
            yield Problem(self._path, 0, f"row {first + row}: {found}, not {self.dim:,}")
        whole = self._label(batch, labels)
        kept = np.flatnonzero(good).tolist()
        ids, texts, metas = ([values[row] for row in kept] for values in whole)
        flat = column.filter(self._pa.array(good)).flatten().to_numpy(zero_copy_only=False)
        vectors = to_float32(flat).reshape(-1, self.dim)
        places = [first + row for row in kept]
        made = VectorBatch(ids, vectors, texts, metas, places)  # type: ignore[arg-type]
        yield from finite(self._path, made)

    def _label(
        self, batch: Any, labels: Labels
    ) -> tuple[list[str], list[str], list[dict[str, Any]]]:
        """Give ids, texts and metadata of every row."""
        ids, texts, metas = labels.take(batch.num_rows)
        if self._options.sidecar is not None:
            return ids, texts, metas
        if self._id is not None:
            values = batch.column(self._id).to_pylist()
            pairs = zip(values, ids, strict=True)
            ids = [other if value is None else str(value) for value, other in pairs]
        return ids, self._joined(batch), self._metas(batch)

    def _joined(self, batch: Any) -> list[str]:
        if not self._texts:
            return [""] * batch.num_rows
        columns = [batch.column(name).to_pylist() for name in self._texts]
        return [
            "\n".join(str(part) for part in parts if part is not None)
            for parts in zip(*columns, strict=True)
        ]

    def _metas(self, batch: Any) -> list[dict[str, Any]]:
        metas: list[dict[str, Any]] = [{} for _ in range(batch.num_rows)]
        for name in self._others:
            for meta, value in zip(metas, batch.column(name).to_pylist(), strict=True):
                if value is not None:
                    meta[name] = plain(value)
        for name, column in self._own_columns.items():
            try:
                column.fill(metas, batch.column(name).to_pylist())
            except ValueError as error:
                raise InputError(f"{self._path}: column {name!r}: {error}") from None
        return metas


class ParquetReader(_TableReader):
    """Reads Parquet, a part of a row group at a time."""

    def _open(self) -> Any:
        parquet = require("pyarrow.parquet", "arrow")
        self._file = parquet.ParquetFile(self._path)
        self.count = self._file.metadata.num_rows
        return self._file.schema_arrow

    def _batches(self, rows: int) -> Iterator[Any]:
        names = (self._vector, self._id, *self._texts, *self._others, *self._own_columns)
        columns = [name for name in names if name is not None]
        yield from self._file.iter_batches(batch_size=rows, columns=columns)


class ArrowReader(_TableReader):
    """Reads the file and the stream form of Arrow IPC; Feather is the file form.

    The file is mapped into memory.
    """

    def _open(self) -> Any:
        with open(self._path, "rb") as file:
            self._is_file = file.read(6) == b"ARROW1"
        return self._reader().schema

    def _reader(self) -> Any:
        source = self._pa.memory_map(self._path)
        return self._pa.ipc.open_file(source) if self._is_file else self._pa.ipc.open_stream(source)

    def _batches(self, rows: int) -> Iterator[Any]:
        reader = self._reader()
        if self._is_file:
            every = (reader.get_batch(n) for n in range(reader.num_record_batches))
        else:
            every = iter(reader)
        for batch in every:
            batch.validate(full=True)  # offsets that point elsewhere would be followed
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)


def _own(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """Read what we wrote into the metadata of a schema or column."""
    try:
        found = json.loads((metadata or {}).get(KEY, b"{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def plain(value: Any) -> Any:
    """Turn what Arrow has and JSON has not into what comes nearest."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
