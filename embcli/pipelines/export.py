"""From a collection to a file of vectors."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.errors import NothingFoundError, UsageError, counted
from embcli.formats.target import complete_files
from embcli.formats.vectors import WRITERS, VectorBatch, files_beside, find_class, format_of
from embcli.formats.vectors.embcli_store import CollectionBatches
from embcli.formats.vectors.writing import write_vectors
from embcli.store import Collection, Store


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote: how many vectors of how many components, and in which format."""

    vectors: int
    dim: int
    format: str


def export(
    target: str | os.PathLike[str],
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    format: str | None = None,
    where: str | None = None,
    mean: bool = False,
    force: bool = False,
    note: Callable[[str], None] = lambda message: None,
    advance: Callable[[int, int, int], None] = lambda done, total, rows: None,
) -> ExportReport:
    """Write a collection into a file of vectors, which appears when it is complete.

    Parameters
    ----------
    target : path
    db : path
    collection : str
    format : str, optional
        A key of `embcli.formats.vectors.WRITERS`; what the ending says if None.
    where : str, optional
        Only records that meet this, see `embcli.store.where`.
    mean : bool
        Of texts in chunks write the mean of their vectors, a row a record; else a row a chunk.
    force : bool
        Replace files that are there.
    note : callable
        Told what a user should know.
    advance : callable
        Told after every batch how many vectors are written, how many there are, and the first
        number again.

    Returns
    -------
    report : ExportReport

    Raises
    ------
    NothingFoundError
        There is no record, or none that meets `where`.
    UsageError
        The format cannot be told, a file is there, or it cannot be written.
    ModelError
        The format needs a package that is not installed.
    InputError
        The format cannot hold what is in a record.
    """
    kind = format or format_of(target)
    find_class(WRITERS, kind)
    if os.path.exists(target) and os.path.exists(db) and os.path.samefile(target, db):
        raise UsageError(f"{os.fspath(target)} is the store itself", hint="another name")
    if force and os.path.exists(target):
        _check_alone(target, kind, collection)
    beside = files_beside(target, kind)
    with (
        complete_files(target, beside, force=force) as path,
        _opened(db, collection) as source,
    ):
        batches = _batches(source, where, mean, note)
        rows = write_vectors(
            path,
            kind,
            _noting_loss(batches, kind, note),
            dim=source.recipe.dim,
            count=batches.count,
            recipe=dict(source.recipe.settings),
            name=collection,
            advance=lambda rows: advance(rows, batches.count, rows),
        )
        return ExportReport(rows, source.recipe.dim, kind)


def stream(
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    where: str | None = None,
    mean: bool = False,
    note: Callable[[str], None] = lambda message: None,
) -> Iterator[dict[str, Any]]:
    """Give a collection as rows of id, text, meta and embedding; see `export`."""
    with _opened(db, collection) as source:
        for batch in _batches(source, where, mean, note):
            yield from rows_of(batch)


def rows_of(batch: VectorBatch) -> Iterator[dict[str, Any]]:
    """Give the rows of a batch as commands write them."""
    for id, text, meta, vector in zip(
        batch.ids, batch.texts, batch.metas, batch.vectors.tolist(), strict=True
    ):
        yield {"id": id, "text": text, "meta": meta, "embedding": vector}


def backup(
    target: str | os.PathLike[str],
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    force: bool = False,
    advance: Callable[[int, int, int], None] = lambda done, total, size: None,
) -> None:
    """Copy a store while others may write to it; the copy is checked before it appears.

    Parameters
    ----------
    target, db, force
        As of `export`.
    advance : callable
        Told how many bytes are copied, how many there are, and how many MiB are copied.

    Raises
    ------
    StoreError
        There is no store, or the copy is not what it should be.
    UsageError
        A file is there, or it cannot be written.
    """
    if os.path.exists(target) and os.path.exists(db) and os.path.samefile(target, db):
        raise UsageError(f"{os.fspath(target)} is the store itself", hint="another name")
    with Store(db, readonly=True) as store, complete_files(target, force=force) as path:
        store.backup(path, lambda done, total: advance(done, total, done >> 20))


def _check_alone(target: str | os.PathLike[str], kind: str, collection: str) -> None:
    """Refuse to replace a database that holds other collections.

    Raises
    ------
    UsageError
    """
    if kind not in ("llm", "embcli"):
        return
    try:
        db = sqlite3.connect(f"{Path(target).resolve().as_uri()}?mode=ro", uri=True)
        with closing(db):
            names = [name for (name,) in db.execute("SELECT name FROM collections ORDER BY name")]
    except sqlite3.Error:
        return  # it is something else, and --force was given
    others = [name for name in names if name != collection]
    if others:
        raise UsageError(
            f"{os.fspath(target)} holds other collections, which would be lost "
            f"({', '.join(others)})",
            hint="another name",
        )


def _noting_loss(
    batches: Iterable[VectorBatch], kind: str, note: Callable[[str], None]
) -> Iterator[VectorBatch]:
    """Say so if a format of word vectors has no room for what is there."""
    said = kind not in ("word2vec", "word2vec-binary", "glove")
    for batch in batches:
        if not said and (any(batch.metas) or batch.texts != batch.ids):
            said = True
            note(f"{kind} has no room for texts and metadata: only ids and vectors are written")
        yield batch


@contextmanager
def _opened(db: str | os.PathLike[str], collection: str) -> Iterator[Collection]:
    with Store(db, readonly=True) as store, store.snapshot():
        yield store.collection(collection)


def _batches(
    source: Collection, where: str | None, mean: bool, note: Callable[[str], None]
) -> CollectionBatches:
    wanted = None if where is None else source.filter(where)
    batches = CollectionBatches(source, wanted, mean=mean)
    if batches.count == 0:
        which = "" if where is None else " that meets --where"
        raise NothingFoundError(f"collection {source.name!r} has no record{which}")
    if source.chunking is not None and not mean:
        rows = counted(batches.count, "row")
        note(f"texts are in chunks: {rows}, one for each, with ids ID#0, ID#1, ... (or --mean)")
    return batches
