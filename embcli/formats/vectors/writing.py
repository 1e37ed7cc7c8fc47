"""Batches of vectors into a file, whatever its format."""

import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import IO, Any

from embcli.formats.vectors import (
    NAMED,
    UNCOUNTED,
    WRITERS,
    VectorBatch,
    VectorWriter,
    find_class,
)


def write_vectors(
    path: str | os.PathLike[str],
    format: str,
    batches: Iterable[VectorBatch],
    *,
    dim: int,
    count: int | None,
    recipe: dict[str, Any],
    name: str = "default",
    advance: Callable[[int], None] = lambda rows: None,
) -> int:
    """Write a file of vectors.

    Parameters
    ----------
    path : path
        A temporary one, see `embcli.formats.target`.
    format : str
        A key of `WRITERS`.
    batches : iterable of VectorBatch
    dim : int
    count : int or None
        How many vectors there are. If that is not known and the format begins with it, batches
        wait in a temporary file.
    recipe : dict
        What the vectors mean.
    name : str
        Of the collection, in databases.
    advance : callable
        Told after every batch how many vectors were written.

    Returns
    -------
    rows : int
        How many vectors were written.
    """
    made = find_class(WRITERS, format)
    names = {"name": name} if format in NAMED else {}
    rows = 0
    with tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(path))) as waiting:
        if count is None and format not in UNCOUNTED:
            count = _keep(waiting, batches, advance)
            batches, advance = _kept(waiting), lambda rows: None
        writer: VectorWriter = made(path, dim, count, recipe, **names)
        try:
            for batch in batches:
                writer.write(batch)
                rows += len(batch.ids)
                advance(rows)
        except BaseException:
            with suppress(Exception):
                getattr(writer, "abort", writer.close)()
            raise
        writer.close()
    return rows


def _keep(file: IO[bytes], batches: Iterable[VectorBatch], advance: Callable[[int], None]) -> int:
    """Put batches into a file and count their rows."""
    rows = 0
    for batch in batches:
        pickle.dump(batch, file, pickle.HIGHEST_PROTOCOL)
        rows += len(batch.ids)
        advance(rows)
    file.seek(0)
    return rows


def _kept(file: IO[bytes]) -> Iterator[VectorBatch]:
    """Take the batches out again: nobody else can have written into the file."""
    with suppress(EOFError):
        while True:
            yield pickle.load(file)  # noqa: S301 (see above)
