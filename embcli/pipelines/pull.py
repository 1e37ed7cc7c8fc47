"""From a server to a collection of a store."""

import os
import time
from dataclasses import asdict, dataclass

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.errors import NothingFoundError, StoreError
from embcli.pipelines.compress import keep_coded
from embcli.pipelines.encode import Listeners
from embcli.servers import READY, ServerCollection, connect, opened
from embcli.store import Store
from embcli.store.where import parse_where

_RECORDS_AT_ONCE = 2048


@dataclass
class PullReport:
    """What a pull did, in numbers of records.

    Attributes
    ----------
    records : int
        Read and now in the collection: added, replaced and unchanged ones together.
    added : int
    replaced : int
        Were there before with another text, vector, metadata or source.
    unchanged : int
    total : int
        Records in the collection afterwards.
    seconds : float
    """

    records: int = 0
    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    total: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"pulled {self.records:,} (added {self.added:,}, replaced {self.replaced:,}, "
            f"unchanged {self.unchanged:,}) in {self.seconds:.2f} s"
        )


def pull(
    url: str,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    where: str | None = None,
    storage: str | None = None,
    listeners: Listeners | None = None,
) -> PullReport:
    """Put what is on a server into a collection of a store.

    Batches are committed as they come: what an interruption leaves is completed by the same pull,
    which passes over records that are there just so.

    Parameters
    ----------
    url : str
        Of the server; it may name the collection there, which is otherwise called as it is here.
    db : path
        Created if it does not exist.
    collection : str
        Created if it does not exist.
    where : str, optional
        Only records that pass, see `embcli.store.where`.
    storage : {"float32", "float16"}, optional
        How a new collection stores vectors; by default as the server does.
    listeners : Listeners, optional

    Returns
    -------
    report : PullReport

    Raises
    ------
    NothingFoundError
        There is no record to pull.
    StoreError
        The store or the server cannot be used, there is no such collection on it, or it is not
        complete.
    UsageError
        The collection here is of another space.
    """
    started = time.perf_counter()
    listeners = listeners or Listeners()
    condition = None if where is None else parse_where(where)
    with connect(url) as server:
        source = opened(server, collection)
        if source.header.state != READY:
            raise StoreError(
                f"collection {source.name!r} at {server.address} is not complete: a push has not "
                "come to its end",
                hint="the same embcli push again",
            )
        expected, _ = source.counts()
        if expected == 0:
            raise NothingFoundError(f"collection {source.name!r} at {server.address} is empty")
        header = source.header
        arguments = {"url": str(server.address), "collection": source.name, "where": where}
        with Store(db) as store:
            dtype = storage
            if dtype is None and collection not in {c.name for c in store.collections()}:
                dtype = header.dtype
            target = store.create_collection(collection, header.recipe, dtype, header.chunking)
            if header.light:
                store.note_space(header.recipe.hash, light=True)
            with store.run("pull", collection, arguments) as counts:
                report = PullReport()
                for batch in source.batches(_RECORDS_AT_ONCE, condition):
                    written = target.put(batch)
                    store.index_texts()
                    report.records += len(batch.ids)
                    report.added += written.added
                    report.replaced += written.changed + written.refreshed
                    report.unchanged += written.unchanged
                    listeners.progress(report.records, expected, report.records)
                _check(report, expected, source, condition is not None)
                keep_coded(target)
                report.total = len(target)
                report.seconds = round(time.perf_counter() - started, 3)
                counts.update(asdict(report))
    return report


def _check(report: PullReport, expected: int, source: ServerCollection, filtered: bool) -> None:
    """Refuse to call a part the whole."""
    if report.records == 0:
        raise NothingFoundError(f"collection {source.name!r} has no record that meets --where")
    if not filtered and report.records != expected:
        raise StoreError(
            f"collection {source.name!r} has {expected:,} records, and {report.records:,} came: "
            "was it written meanwhile?",
            hint="the same command again",
        )
