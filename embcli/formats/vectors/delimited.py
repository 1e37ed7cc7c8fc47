"""CSV and TSV with a column of vectors, or a column for every component."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.errors import InputError, counted
from embcli.formats import Problem, tabular
from embcli.formats.inputs import Source
from embcli.formats.jsonl import DECODER
from embcli.formats.source import ByteStream, open_source
from embcli.formats.vectors import VectorBatch, VectorOptions
from embcli.formats.vectors.fields import VECTOR_NAMES, Fields, find_name, require
from embcli.formats.vectors.json_lines import as_vector, to_row
from embcli.formats.vectors.rows import Pending, base_name, check_shape, finite, to_float32

_DIGITS = "0123456789"
_MOST_DIGITS = 9
_ROWS_LOOKED_AT = 20
_JSON_START = re.compile(r'[-0-9"\[{tfn]')
_BRACKETED = re.compile(r"\[([^\[\]]*)\]")

Row = tuple[int, list[str]]


class CsvReader:
    """Read a row per record, with a header or, if all is numbers, without.

    The vector is a column that holds ``[0.1, 0.2]`` (JSON, or as NumPy prints arrays), or one
    column for every component: those that are numbered in turn, with the same name before the
    number, or all columns of a table without header. Ids are ``file:line`` where there is no
    column with them.
    """

    def __init__(self, path: str | os.PathLike[str], options: VectorOptions) -> None:
        self._source = Source(os.fspath(path), Path(path))
        self._options = options
        self.count: int | None = None
        self.notes: list[str] = []
        with open_source(self._source) as stream:
            self._delimiter = _delimiter(stream)
            sample: list[list[str]] = []
            for row in tabular.rows(stream, self._delimiter):
                if not isinstance(row, Problem):
                    sample.append(row[1])
                if len(sample) > _ROWS_LOOKED_AT:
                    break
        name = self._source.name
        self._has_header = bool(sample) and not all(map(_is_number, sample[0]))
        header = sample[0] if sample else []
        if not self._has_header:
            header = [str(column) for column in range(len(header))]
        data = sample[1:] if self._has_header else sample
        check_shape(name, len(data), len(header))
        data = [row for row in data if len(row) == len(header)]
        if not data:
            raise InputError(f"{name}: no row has {counted(len(header), 'field')} as the first has")
        self._names = [column.strip() for column in header]
        self._columns, self._single = self._vector_columns(data)
        first = self._numbers(data[0])
        self.dim = len(self._columns) if first is None else len(first)
        check_shape(name, len(data), self.dim)
        vector = set(self._columns)
        others = [column for at, column in enumerate(self._names) if at not in vector]
        self._fields = Fields.found(name, others, options.id_field, options.text_fields)
        self._others = [(at, self._names[at]) for at in range(len(header)) if at not in vector]

    def _vector_columns(self, data: list[list[str]]) -> tuple[list[int], bool]:
        """Find the columns with the vector, and tell whether it is a single one."""
        given, name = self._options.vector_field, self._source.name
        if given is None and not self._has_header:
            return list(range(len(self._names))), False
        runs = _numbered_runs(self._names)
        if given is not None and given not in self._names and given in runs:
            return runs[given], False
        require(name, given, self._names)
        lists = [
            column
            for at, column in enumerate(self._names)
            if any(_parsed_list(row[at]) is not None for row in data)
        ]
        column = given or find_name(lists, VECTOR_NAMES) or (lists[0] if len(lists) == 1 else None)
        if column is not None:
            return [self._names.index(column)], True
        runs = {
            prefix: run
            for prefix, run in runs.items()
            if len(run) > 1 and any(all(_is_number(row[at]) for at in run) for row in data)
        }
        if not runs:
            listed = ", ".join(self._names[:12])
            raise InputError(
                f"{name}: no columns look like a vector (there are: {listed})",
                hint="--vector-field",
            )
        return max(runs.values(), key=len), False

    def __iter__(self) -> Iterator[VectorBatch | Problem]:
        """Give batches; see `VectorReader`."""
        name, short = self._source.name, base_name(self._source.name)
        pending, done, skip = Pending(self.dim), 0, self._has_header
        with open_source(self._source) as stream:
            for row in tabular.rows(stream, self._delimiter):
                if isinstance(row, Problem):
                    yield row
                    continue
                if skip:
                    skip = False
                    continue
                if done == self._options.limit:
                    break
                done += 1
                line, cells = row
                wrong = self._wrong(cells)
                if wrong:
                    yield Problem(name, line, wrong)
                    continue
                vector = self._numbers(cells)
                assert vector is not None
                others = {column: cells[at] for at, column in self._others}
                id, text, meta = self._fields.split(from_cells(others, self._fields))
                if pending.add(id or f"{short}:{line}", vector, text, meta, line):
                    yield from finite(name, pending.batch(), "line")
        if pending.ids:
            yield from finite(name, pending.batch(), "line")

    def _wrong(self, cells: list[str]) -> str | None:
        if len(cells) != len(self._names):
            return f"expected {len(self._names)} fields, found {len(cells)}"
        vector = self._numbers(cells)
        if vector is None:
            return f"expected numbers in {self._where()}"
        if len(vector) != self.dim:
            return f"expected {self.dim} numbers in {self._where()}, found {len(vector)}"
        return None

    def _where(self) -> str:
        first, last = self._names[self._columns[0]], self._names[self._columns[-1]]
        return repr(first) if first == last else f"{first!r} to {last!r}"

    def _numbers(self, cells: list[str]) -> NDArray[np.float32] | None:
        if self._single:
            return _parsed_list(cells[self._columns[0]])
        return parse_numbers([cells[at] for at in self._columns])


def parse_numbers(cells: list[str]) -> NDArray[np.float32] | None:
    """Parse numbers in any notation; None if one is none."""
    if any("_" in cell for cell in cells):  # which Python would take
        return None
    try:
        return to_float32(np.array([float(cell) for cell in cells]))
    except ValueError:
        return None


def from_cell(cell: str) -> Any:
    """Turn a cell into a value: JSON where it is JSON, None where it is empty, else a string."""
    if not cell:
        return None
    if _JSON_START.match(cell):
        try:
            return DECODER.decode(cell)
        except (ValueError, RecursionError):
            pass
    return cell


def from_cells(cells: dict[str, str], fields: Fields) -> dict[str, Any]:
    """Turn cells into values, but those of id and text, which are strings; leave out empty ones."""
    strings = {fields.id, *fields.texts}
    return {
        name: cell if name in strings else from_cell(cell) for name, cell in cells.items() if cell
    }


def to_cell(value: Any) -> str:
    """Turn a value into a cell that `from_cell` turns into that value again."""
    if isinstance(value, str) and value and from_cell(value) == value and value[0] != '"':
        return value
    return json.dumps(value, ensure_ascii=False)


def _delimiter(stream: ByteStream) -> str:
    sample = stream.sample.decode(stream.encoding, "replace")
    return tabular.sniff_delimiter(sample)


def _is_number(cell: str) -> bool:
    return parse_numbers([cell]) is not None


def _parsed_list(cell: str) -> NDArray[np.float32] | None:
    """Parse a list of numbers as JSON writes it, or NumPy."""
    found = _BRACKETED.fullmatch(cell.strip())
    if not found:
        return None
    vector = as_vector(cell.strip())
    if vector is not None:
        return to_row(vector)
    return parse_numbers(found[1].replace(",", " ").split())


def _numbered_runs(names: list[str]) -> dict[str, list[int]]:
    """Find columns that are numbered 0, 1, 2 … or 1, 2, 3 … behind the same name."""
    columns: dict[str, dict[int, int]] = {}
    for at, name in enumerate(names):
        prefix = name.rstrip(_DIGITS)
        if 0 < len(name) - len(prefix) <= _MOST_DIGITS:
            columns.setdefault(prefix, {})[int(name[len(prefix) :])] = at
    runs = {}
    for prefix, numbered in columns.items():
        first = min(numbered)
        if first < 2 and sorted(numbered) == list(range(first, first + len(numbered))):
            runs[prefix] = [numbered[number] for number in sorted(numbered)]
    return runs


class CsvWriter:
    """Write the columns id, text, meta (JSON), and e0, e1, … with the shortest exact decimals.

    Parameters
    ----------
    path, dim, count, recipe
        See `VectorWriter`.
    """

    def __init__(
        self, path: str | os.PathLike[str], dim: int, count: int, recipe: dict[str, Any]
    ) -> None:
        self._file = open(path, "w", encoding="utf-8", newline="")
        self._file.write(f"id,text,meta,{','.join(f'e{i}' for i in range(dim))}\n")

    def write(self, batch: VectorBatch) -> None:
        """Append a batch."""
        rows = batch.vectors.astype(str).tolist()
        for id, text, meta, row in zip(batch.ids, batch.texts, batch.metas, rows, strict=True):
            strings = (id, text, json.dumps(meta, ensure_ascii=False) if meta else "")
            cells = (f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in strings)
            self._file.write(f"{','.join(cells)},{','.join(row)}\n")

    def close(self) -> None:
        """Complete the file."""
        self._file.close()
