"""NumPy's .npy and .npz."""

import io
import json
import marshal
import math
import os
import tempfile
import warnings
import zipfile
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.errors import EmbcliError, InputError
from embcli.formats import Problem
from embcli.formats.fields import ID_NAMES, TEXT_NAMES
from embcli.formats.vectors import VectorBatch, VectorOptions
from embcli.formats.vectors.fields import VECTOR_NAMES, WORD_NAMES, find_name, require
from embcli.formats.vectors.rows import (
    LONGEST,
    check_shape,
    conversion_note,
    finite,
    rows_at_once,
    to_float32,
)  # fmt: skip
from embcli.formats.vectors.sidecar import Labels

_META = "meta"
_BYTES_AT_ONCE = 1 << 22
# NumPy itself parses no longer header, but would read it.
_LONGEST_HEADER = 10_000
# Numbers that mean something are not packed into less; zeros are, a thousand to one.
_PACKED, _LITTLE = 100, 1 << 26
_LAST_CHARACTER = 0x10FFFF


class NpyReader:
    """Read an array of shape (n, dim), mapped into memory.

    Ids, texts and metadata are in a sidecar: without another one, that which `NpyWriter` leaves
    beside the file.
    """

    def __init__(self, path: str | os.PathLike[str], options: VectorOptions) -> None:
        self._path, self._options = path, options
        name = os.fspath(path)
        beside = f"{name}.jsonl"
        if options.sidecar is None and os.path.isfile(beside):
            self._options = replace(options, sidecar=beside)
        with _damage(f"{name}: no array can be read from it"), _silence():
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise InputError(f"{name}: expected one array, found several (--input-format npz)")
        self._array = _checked(array, name)
        self.dim = array.shape[1]
        self.count = _limited(len(array), options)
        self.notes = conversion_note(array.dtype)
        if self._options is not options:
            self.notes.append(f"ids, texts and metadata are from {beside}")

    def __iter__(self) -> Iterator[VectorBatch | Problem]:
        """Give batches; see `VectorReader`."""
        labels = Labels(self._path, self._options)
        step = rows_at_once(self.dim)
        for start in range(0, self.count, step):
            rows = to_float32(self._array[start : min(start + step, self.count)])
            ids, texts, metas = labels.take(len(rows))
            places = list(range(start + 1, start + 1 + len(rows)))
            batch = VectorBatch(ids, rows, texts, metas, places)
            yield from finite(os.fspath(self._path), batch)
        if self.count == len(self._array):
            labels.finish()


class NpzReader:
    """Read the vectors of an archive of arrays, with ids, texts and metadata beside them.

    The vectors are streamed out of the archive if they lie there row by row.
    """

    def __init__(self, path: str | os.PathLike[str], options: VectorOptions) -> None:
        self._path, self._options = path, options
        self._name = os.fspath(path)
        with self._opened() as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            headers = {}
            for name in names:
                with archive.open(f"{name}.npy") as member:
                    headers[name] = _header(member, f"{self._name}, {name!r}")
        self._field = self._vector_field(headers)
        shape, self._by_columns, self._dtype = headers[self._field]
        check_shape(f"{self._name}, {self._field!r}", *shape)
        self._rows, self.dim = shape
        self.count = _limited(self._rows, options)
        self.notes = conversion_note(self._dtype)
        columns = [n for n, (s, _, d) in headers.items() if s == shape[:1] and d.kind in "USiu"]
        require(self._name, options.id_field, columns)
        for name in options.text_fields:
            require(self._name, name, columns)
        words = find_name(columns, WORD_NAMES)
        self._ids = options.id_field or find_name(columns, ("ids", *ID_NAMES)) or words
        texts = options.text_fields[0] if options.text_fields else None
        self._texts = texts or find_name(columns, ("texts", *TEXT_NAMES)) or words
        self._metas = _META if _META in columns else None
        self.recipe = self._stored_recipe() if "recipe" in headers else None

    def __iter__(self) -> Iterator[VectorBatch | Problem]:
        """Give batches; see `VectorReader`."""
        labels = Labels(self._path, self._options)
        start = 0
        with self._opened() as archive, ExitStack() as stack:
            # Left open, columns would keep the file open, whatever becomes of the archive.
            ids, texts, metas = (
                name and stack.enter_context(closing(_Column(archive, name, self._name)))
                for name in (self._ids, self._texts, self._metas)
            )
            widest = max((column.width for column in (ids, texts, metas) if column), default=0)
            step = min(rows_at_once(self.dim), max(1, 4 * _BYTES_AT_ONCE // max(1, widest)))
            blocks = stack.enter_context(closing(self._blocks(step)))
            for rows in blocks:
                n = len(rows)
                own = labels.take(n)
                of_file = [column.take(n) if column else None for column in (ids, texts, metas)]
                batch = VectorBatch(
                    own[0] if of_file[0] is None or self._options.sidecar else of_file[0],
                    to_float32(rows),
                    own[1] if of_file[1] is None or self._options.sidecar else of_file[1],
                    own[2] if of_file[2] is None else list(map(self._meta, of_file[2])),
                    list(range(start + 1, start + 1 + n)),
                )
                yield from finite(self._name, batch)
                start += n
        if self.count == self._rows:
            labels.finish()

    def _vector_field(self, headers: "dict[str, _Header]") -> str:
        tables = [name for name, (shape, _, _) in headers.items() if len(shape) == 2]
        require(self._name, self._options.vector_field, tables)
        found = self._options.vector_field or find_name(tables, VECTOR_NAMES)
        if found is None and len(tables) != 1:
            raise InputError(
                f"{self._name}: which array has the vectors? It has {', '.join(headers) or 'none'}",
                hint="--vector-field",
            )
        return found or tables[0]

    def _stored_recipe(self) -> dict[str, Any] | None:
        with self._opened() as archive:
            if archive.getinfo("recipe.npy").file_size > _BYTES_AT_ONCE:
                return None
            try:
                recipe = json.loads(str(self._array("recipe")))
            except (InputError, ValueError, RecursionError):
                return None  # an array of somebody else's
        return recipe if isinstance(recipe, dict) else None

    def _meta(self, text: str) -> dict[str, Any]:
        try:
            meta = json.loads(text)
        except (ValueError, RecursionError):
            meta = None
        if not isinstance(meta, dict):
            raise InputError(f"{self._name}, {_META!r}: expected JSON objects, found {text[:40]!r}")
        return meta

    def _array(self, name: str) -> NDArray[Any]:
        with self._opened() as archive:
            with archive.open(f"{name}.npy") as member:
                self._check_size(archive, name, _header(member, f"{self._name}, {name!r}"))
            with archive.open(f"{name}.npy") as member, _silence():
                array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        return array

    def _check_size(self, archive: zipfile.ZipFile, name: str, header: "_Header") -> None:
        """Refuse an array that its header makes larger than what is there: it would be made."""
        shape, _, dtype = header
        size = math.prod(shape) * dtype.itemsize
        found = archive.getinfo(f"{name}.npy").file_size
        if not 0 <= size <= found:
            raise InputError(
                f"{self._name}, {name!r}: shape {shape} takes {size:,} bytes, found {found:,}"
            )

    def _check_packing(self, info: zipfile.ZipInfo) -> None:
        """Refuse to read as a whole what a small file becomes."""
        there = min(info.compress_size, os.path.getsize(self._path))
        if info.file_size > max(_LITTLE, _PACKED * there):
            raise InputError(
                f"{self._name}, {self._field!r}: {info.file_size:,} bytes out of {there:,}, in "
                "Fortran order, which is read as a whole",
                hint="save it row by row: numpy.ascontiguousarray",
            )

    def _blocks(self, step: int) -> Generator[NDArray[Any]]:
        """Read the vectors, some rows at a time."""
        with self._opened() as archive, archive.open(f"{self._field}.npy") as member:
            starts = range(0, self.count, step)
            header = _header(member, self._name)
            self._check_size(archive, self._field, header)
            if self._by_columns:
                self._check_packing(archive.getinfo(f"{self._field}.npy"))
                member.seek(0)
                with _silence():
                    array = np.lib.format.read_array(member, allow_pickle=False)
                yield from (array[start : min(start + step, self.count)] for start in starts)
                return
            width = self.dim * self._dtype.itemsize
            for start in starts:
                wanted = min(step, self.count - start) * width
                data = member.read(wanted)
                if len(data) < wanted:
                    raise InputError(f"{self._name}, {self._field!r}: it ends too early")
                yield np.frombuffer(data, self._dtype).reshape(-1, self.dim)
            if self.count == self._rows:
                member.read(1)  # the end, where the checksum is compared

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        with (
            _damage(f"{self._name}: damaged, or no archive of arrays"),
            zipfile.ZipFile(self._path) as archive,
        ):
            yield archive


@contextmanager
def _damage(what: str) -> Iterator[None]:
    """Say in an InputError what goes wrong with a file.

    Damage makes NumPy's parser of headers and that of archives fail with whatever they stumble
    over.
    """
    try:
        yield
    except EmbcliError:
        raise
    except Exception as error:
        raise InputError(f"{what} ({error})") from error


def _silence() -> AbstractContextManager[object]:
    """Keep NumPy from warning of headers that look odd to it."""
    return warnings.catch_warnings(action="ignore")


class _Column:
    """Strings, or whole numbers, of an archive, read a few at a time."""

    def __init__(self, archive: zipfile.ZipFile, name: str, path: str) -> None:
        self._member = archive.open(f"{name}.npy")
        self._what = f"{path}, {name!r}"
        try:
            _, _, self._dtype = _header(self._member, self._what)
            if self.width > 4 * LONGEST:
                raise InputError(f"{self._what}: strings of {self.width:,} bytes each")
        except BaseException:
            self.close()
            raise

    @property
    def width(self) -> int:
        """Bytes of each value."""
        return self._dtype.itemsize

    def close(self) -> None:
        """Read no more."""
        self._member.close()

    def take(self, n: int) -> list[str]:
        """Read the next n."""
        if not self._dtype.itemsize:
            return [""] * n  # an array of empty strings
        data = self._member.read(n * self._dtype.itemsize)
        if len(data) < n * self._dtype.itemsize:
            raise InputError(f"{self._what}: it ends too early")
        array = np.frombuffer(data, self._dtype, n)
        if self._dtype.kind == "U":
            codes = array.astype(self._dtype.newbyteorder("=")).view(np.uint32)
            if codes.max(initial=0) > _LAST_CHARACTER:
                raise InputError(f"{self._what}: a character is none")
        values: list[str] = array.astype(str).tolist()
        return values


_Header = tuple[tuple[int, ...], bool, np.dtype[Any]]


def _header(member: Any, name: str) -> _Header:
    """Read shape, order and dtype of an array."""
    version = np.lib.format.read_magic(member)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise InputError(f"{name}: version {version} of the .npy format is not known here")
    size = member.read(2 if version == (1, 0) else 4)
    length = int.from_bytes(size, "little")
    if length > _LONGEST_HEADER:
        raise InputError(f"{name}: a header of {length:,} bytes")
    with _silence():
        shape, by_columns, dtype = read(io.BytesIO(size + member.read(length)))
    return shape, by_columns, dtype


def _checked(array: NDArray[Any], name: str) -> NDArray[Any]:
    if array.ndim != 2:
        raise InputError(f"{name}: expected an array of shape (n, dim), found {array.shape}")
    check_shape(name, *array.shape)
    return array


def _limited(rows: int, options: VectorOptions) -> int:
    return rows if options.limit is None else min(rows, options.limit)


class NpyWriter:
    """Write an array of shape (count, dim), and ids, texts and metadata into ``FILE.jsonl``.

    Parameters
    ----------
    path, dim, count, recipe
        See `VectorWriter`.
    """

    def __init__(
        self, path: str | os.PathLike[str], dim: int, count: int, recipe: dict[str, Any]
    ) -> None:
        self._file = open(path, "wb")
        beside = Path(f"{os.fspath(path)}.jsonl")
        self._labels = beside.open("w", encoding="utf-8", newline="\n")
        _begin(self._file, (count, dim), np.dtype("<f4"))

    def write(self, batch: VectorBatch) -> None:
        """Append a batch."""
        self._file.write(np.ascontiguousarray(batch.vectors, "<f4").tobytes())
        for id, text, meta in zip(batch.ids, batch.texts, batch.metas, strict=True):
            row = {"id": id, "text": text, **({"meta": meta} if meta else {})}
            self._labels.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Complete the files."""
        self._file.close()
        self._labels.close()


class NpzWriter:
    """Write an archive of arrays: vectors, ids, texts, and meta as JSON, with the recipe.

    Strings are arrays of NumPy's, which cannot hold a NUL at the end of one. They are as wide as
    the longest, and wait in an unnamed file until that is known.
    """

    def __init__(
        self, path: str | os.PathLike[str], dim: int, count: int, recipe: dict[str, Any]
    ) -> None:
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._vectors = self._archive.open("vectors.npy", "w", force_zip64=True)
        _begin(self._vectors, (count, dim), np.dtype("<f4"))
        folder = os.path.dirname(os.path.abspath(path))
        self._columns = {name: _Strings(folder) for name in ("ids", "texts", _META)}
        self._recipe = recipe

    def write(self, batch: VectorBatch) -> None:
        """Append a batch."""
        self._vectors.write(np.ascontiguousarray(batch.vectors, "<f4").tobytes())
        metas = [json.dumps(meta, ensure_ascii=False) for meta in batch.metas]
        for column, values in zip(
            self._columns.values(), (batch.ids, batch.texts, metas), strict=True
        ):
            for value in values:
                if value.endswith("\0"):
                    raise InputError(
                        f"{value!r} ends in a NUL, which NumPy's arrays of strings cannot hold",
                        hint="another format: safetensors, jsonl, parquet",
                    )
            column.append(values)

    def abort(self) -> None:
        """Leave the file as it is; an archive that stays open complains when it is forgotten."""
        closers = [column.close for column in self._columns.values()]
        for close in (*closers, self._vectors.close, self._archive.close):
            with suppress(Exception):
                close()

    def close(self) -> None:
        """Complete the file."""
        try:
            self._vectors.close()
            for name, column in self._columns.items():
                with self._archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    column.write_to(member)
                column.close()
            recipe = np.array(json.dumps(self._recipe, ensure_ascii=False))
            with self._archive.open("recipe.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, recipe, allow_pickle=False)
        except BaseException:
            self.abort()
            raise
        self._archive.close()


class _Strings:
    """Strings on disk that become an array of equal widths."""

    def __init__(self, folder: str) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)
        self._count, self._longest = 0, 1

    def append(self, values: list[str]) -> None:
        """Put some at the end."""
        marshal.dump(values, self._file)
        self._count += len(values)
        self._longest = max(self._longest, max(map(len, values), default=0))
        if self._longest > LONGEST:
            raise InputError(
                f"a text of {self._longest:,} characters: all strings of an array are as wide",
                hint="another format: safetensors, jsonl, parquet",
            )

    def write_to(self, member: Any) -> None:
        """Write all as an array."""
        dtype = np.dtype(f"<U{self._longest}")
        _begin(member, (self._count,), dtype)
        self._file.seek(0)
        written = 0
        while written < self._count:
            values = marshal.load(self._file)  # noqa: S302 (of `append`)
            written += len(values)
            # As wide as the longest of all: few at a time, however many come together.
            step = max(1, _BYTES_AT_ONCE // dtype.itemsize)
            for start in range(0, len(values), step):
                member.write(np.array(values[start : start + step], dtype).tobytes())

    def close(self) -> None:
        """Give the room back."""
        self._file.close()


def _begin(file: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
