"""Ids, texts and metadata of vectors in a file of their own."""

import os
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

from embcli.errors import InputError, counted
from embcli.formats import Item, Problem, json_stream, jsonl, tabular, text
from embcli.formats.inputs import Source
from embcli.formats.reader import detect_format
from embcli.formats.source import ByteStream, open_source
from embcli.formats.vectors import VectorOptions
from embcli.formats.vectors.fields import Fields
from embcli.formats.vectors.rows import base_name


class Label(NamedTuple):
    """What is known of a vector besides its numbers."""

    id: str
    text: str
    meta: dict[str, Any]


class Labels:
    """What is known of the vectors of a file, in their order.

    It comes from a sidecar if there is one. Without, ids are ``file:row``, from 1.

    Parameters
    ----------
    path : path
        Of the vectors.
    options : VectorOptions
    """

    def __init__(self, path: str | os.PathLike[str], options: VectorOptions) -> None:
        self._path = os.fspath(path)
        self._sidecar = None if options.sidecar is None else os.fspath(options.sidecar)
        self._taken = 0
        if self._sidecar is not None:
            self._labels = _records(self._sidecar, options)
        else:
            name = base_name(path)
            self._labels = (Label(f"{name}:{row}", "", {}) for row in count(1))

    def take(self, rows: int) -> tuple[list[str], list[str], list[dict[str, Any]]]:
        """Take what is known of the next vectors: ids, texts, metadata.

        Raises
        ------
        InputError
            The sidecar has fewer records, or one that cannot be read.
        """
        some = list(islice(self._labels, rows))
        self._taken += len(some)
        if len(some) < rows:
            raise InputError(
                f"{self._sidecar} has {counted(self._taken, 'record')}, {self._path} more vectors"
            )
        ids, texts, metas = map(list, zip(*some, strict=True)) if some else ([], [], [])
        return ids, texts, metas

    def finish(self) -> None:
        """Make sure that the sidecar does not go on after the last vector.

        Raises
        ------
        InputError
            It does.
        """
        if self._sidecar is not None and next(self._labels, None) is not None:
            raise InputError(
                f"{self._path} has {counted(self._taken, 'vector')}, {self._sidecar} more records"
            )


def _records(sidecar: str, options: VectorOptions) -> Iterator[Label]:
    if not os.path.isfile(sidecar):
        raise InputError(f"{sidecar}: no such file")
    name = base_name(sidecar)
    try:
        with open_source(Source(sidecar, Path(sidecar))) as stream:
            fields: Fields | None = None
            for item in _items(sidecar, stream):
                if isinstance(item, Problem):
                    raise InputError(str(item))
                if isinstance(item.value, str):
                    yield Label(item.key or item.value, item.value, {})
                    continue
                if fields is None:
                    names = list(item.value)
                    fields = Fields.found(sidecar, names, options.id_field, options.text_fields)
                id, text_, meta = fields.split(item.value)
                yield Label(id or item.key or f"{name}:{item.line}", text_, meta)
    except InputError as error:
        if sidecar in error.message:
            raise
        raise InputError(f"{sidecar}: {error.message}", hint=error.hint) from error


def _items(sidecar: str, stream: ByteStream) -> Iterator[Item | Problem]:
    kind = detect_format(Source(sidecar, Path(sidecar)).format, stream)
    if kind == "parquet":
        raise InputError("a sidecar is JSON Lines, JSON, CSV, TSV or text, not Parquet")
    if kind == "jsonl":
        return jsonl.read(stream)
    if kind == "json":
        return json_stream.read(stream)
    if kind == "text":
        return text.read_lines(stream)
    return tabular.read(stream, delimiter="\t" if kind == "tsv" else None)
