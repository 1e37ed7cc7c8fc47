"""TensorFlow's Embedding Projector: numbers in one TSV file, metadata in another."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from embcli.errors import InputError, counted
from embcli.formats import Problem
from embcli.formats.inputs import Source
from embcli.formats.source import open_source
from embcli.formats.vectors import VectorBatch, VectorOptions
from embcli.formats.vectors.delimited import from_cells, parse_numbers, to_cell
from embcli.formats.vectors.fields import META_NAMES, Fields, find_name
from embcli.formats.vectors.rows import Pending, base_name, check_shape, finite
from embcli.formats.vectors.sidecar import Label, Labels

_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_TO_ESCAPE = re.compile(r"[\\\t\n\r]")
_ESCAPED = re.compile(r"\\[\\tnr]")
_BACK = {escape: character for character, escape in _ESCAPES.items()}
# Names of fields that a column of ours has already.
_OWN = ("id", "text")
_PREFIX = "meta:"


def metadata_beside(path: str | os.PathLike[str]) -> Path:
    """Name the metadata of a file of vectors: metadata.tsv beside vectors.tsv.

    Beside another name it is ``NAME_metadata.tsv``.
    """
    stem = Path(path).stem
    named = stem.replace("vectors", "metadata") if "vectors" in stem else f"{stem}_metadata"
    return Path(path).with_name(f"{named}.tsv")


class ProjectorReader:
    """Read a line of numbers per record, separated by tabs, and the metadata beside them.

    Metadata of one column has no header: it is the text, and the id if all are different. Of
    several columns the first line names them. Without metadata ids are ``file:line``.
    """

    def __init__(self, path: str | os.PathLike[str], options: VectorOptions) -> None:
        self._path, self._options = path, options
        self._source = Source(os.fspath(path), Path(path))
        self.count: int | None = None
        self.notes: list[str] = []
        with open_source(self._source) as stream:
            first = next(stream.lines(b"\n"), b"").decode("utf-8", "replace").rstrip("\r\n")
        numbers = parse_numbers(first.split("\t")) if first else None
        if numbers is None:
            raise InputError(f"{self._source.name}: expected numbers separated by tabs in line 1")
        self.dim = len(numbers)
        check_shape(self._source.name, 1, self.dim)
        beside = metadata_beside(path)
        self._metadata = beside if options.sidecar is None and beside.is_file() else None
        if self._metadata:
            self.notes.append(f"ids, texts and metadata are from {self._metadata}")

    def __iter__(self) -> Iterator[VectorBatch | Problem]:
        """Give batches; see `VectorReader`."""
        name, done = self._source.name, 0
        pending = Pending(self.dim)
        labels = Labels(self._path, self._options)
        own = None if self._metadata is None else _metadata(self._metadata, self._options)
        with open_source(self._source) as stream:
            for line, raw in enumerate(stream.lines(b"\n"), 1):
                if not raw.strip():
                    continue
                if done == self._options.limit:
                    break
                done += 1
                label = self._next(own, labels)
                cells = raw.decode("ascii", "replace").rstrip("\r\n").split("\t")
                vector = parse_numbers(cells)
                if vector is None or len(vector) != self.dim:
                    message = f"expected {self.dim} numbers, found {len(cells)}"
                    if len(cells) == self.dim:
                        message = f"expected {self.dim} numbers separated by tabs"
                    yield Problem(name, line, message)
                    continue
                if pending.add(label.id, vector, label.text, label.meta, line):
                    yield from finite(name, pending.batch(), "line")
        if self._options.limit is None:
            labels.finish()
            if own is not None and next(own, None) is not None:
                raise InputError(
                    f"{name} has {counted(done, 'vector')}, {self._metadata} more records"
                )
        if pending.ids:
            yield from finite(name, pending.batch(), "line")

    def _next(self, own: Iterator[Label] | None, labels: Labels) -> Label:
        if own is not None:
            label = next(own, None)
            if label is None:
                raise InputError(f"{self._metadata} has fewer records than {self._source.name}")
            return label
        ids, texts, metas = labels.take(1)
        return Label(ids[0], texts[0], metas[0])


def _metadata(path: Path, options: VectorOptions) -> Iterator[Label]:
    lines = _lines(path)
    name = base_name(path)
    number, first = next(lines, (0, ""))
    if "\t" not in first:
        distinct = _are_distinct(line for _, line in _lines(path))
        if number == 0:
            return
        while True:
            text = _unescaped(first)
            yield Label(text if distinct and text else f"{name}:{number}", text, {})
            following = next(lines, None)
            if following is None:
                return
            number, first = following
    header = [_unescaped(cell) for cell in first.split("\t")]
    fields = Fields.found(os.fspath(path), header, options.id_field, options.text_fields)
    if not fields.texts and find_name(header, ("text",)) is None:
        fields = Fields(fields.id, (header[0],))  # which the Projector shows as the label
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) != len(header):
            raise InputError(
                f"{path}:{number}: expected {counted(len(header), 'field')}, found {len(cells)}"
            )
        row = dict(zip(header, map(_unescaped, cells), strict=True))
        id, text, meta = fields.split(from_cells(row, fields))
        meta = {field.removeprefix(_PREFIX): value for field, value in meta.items()}
        yield Label(id or f"{name}:{number}", text, meta)


def _are_distinct(lines: Iterator[str]) -> bool:
    seen: set[str] = set()
    for line in lines:
        if line in seen:
            return False
        seen.add(line)
    return True


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with open_source(Source(os.fspath(path), path)) as stream:
        for number, raw in enumerate(stream.lines(b"\n"), 1):
            try:
                yield number, raw.decode(stream.encoding).rstrip("\r\n")
            except UnicodeDecodeError:
                raise InputError(f"{path}:{number}: this is not UTF-8") from None


def _escaped(text: str) -> str:
    return _TO_ESCAPE.sub(lambda match: _ESCAPES[match.group()], text)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: _BACK[match.group()], text)


class ProjectorWriter:
    """Write vectors and, beside them, metadata.

    Metadata is one column without header where it is nothing but the words; else it has the
    columns id and text and one for each metadata field, strings as they are where they are
    nothing else, and all other values as JSON.

    Parameters
    ----------
    path, dim, count, recipe
        See `VectorWriter`.
    """

    def __init__(
        self, path: str | os.PathLike[str], dim: int, count: int, recipe: dict[str, Any]
    ) -> None:
        self._file = open(path, "w", encoding="utf-8", newline="\n")
        self._metadata = metadata_beside(path)
        # Which columns there are is known only at the end.
        self._records = TemporaryFile("w+", encoding="utf-8", newline="\n")
        self._fields: dict[str, None] = {}
        self._only_words = True

    def write(self, batch: VectorBatch) -> None:
        """Append a batch."""
        rows = batch.vectors.astype(str).tolist()
        self._file.writelines("\t".join(row) + "\n" for row in rows)
        for record in zip(batch.ids, batch.texts, batch.metas, strict=True):
            self._records.write(json.dumps(record) + "\n")
            self._fields |= dict.fromkeys(record[2])
            id, text, meta = record
            self._only_words &= id == text and not meta

    def close(self) -> None:
        """Complete the files."""
        self._file.close()
        self._records.seek(0)
        with self._records, self._metadata.open("w", encoding="utf-8", newline="\n") as file:
            if not self._only_words:
                fields = [f"{_PREFIX * _is_taken(field)}{field}" for field in self._fields]
                file.write("\t".join(map(_escaped, (*_OWN, *fields))) + "\n")
            for line in self._records:
                id, text, meta = json.loads(line)
                if self._only_words:
                    file.write(_escaped(id) + "\n")
                    continue
                cells = [id, text]
                cells += [to_cell(meta[field]) if field in meta else "" for field in self._fields]
                file.write("\t".join(map(_escaped, cells)) + "\n")


def _is_taken(field: str) -> bool:
    """Whether the name of a field would be taken for another column, or for a prefixed one."""
    found = Fields.found("", [field], None, ())
    return bool(found.id or found.texts or field in META_NAMES or field.startswith(_PREFIX))
