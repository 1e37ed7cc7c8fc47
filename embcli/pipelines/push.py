"""From a collection of a store to a server."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

import embcli
from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.errors import InputError, NothingFoundError, StoreError, UsageError, counted
from embcli.formats import Problem
from embcli.pipelines.encode import Listeners
from embcli.pipelines.search import nearest
from embcli.servers import (
    LOADING,
    READY,
    Header,
    Server,
    ServerCollection,
    ServerHit,
    Sought,
    connect,
)
from embcli.store import Collection, Store
from embcli.store.collection import Batch
from embcli.store.where import parse_where

# On the way at once: a batch that is lost is written again.
_BYTES_AT_ONCE = 1 << 23
_RECORDS_AT_ONCE = 4096
# Fetched and compared bit for bit when all is there.
_VERIFIED = 200
# The mean of three records is as hard to find neighbours for as a query: see `compress`.
_MIXED = 3
_QUERIES = 64
# Where exact results have to come from the server, which may take seconds for each.
_QUERIES_THERE = 16
# Of the header's facts: that sums are not to be trusted, as what is there is not what was sent.
_REWRITE = "rewrite"
_MEASURED = ("effort", "recall", "filtered_effort", "filtered_recall")
_K = 10
# What is asked is .95; what a sample says is not exactly so.
_LEAST_RECALL = 0.97
# Filters for which the search is made sure of let about so many pass.
_SHARE = 0.03
_LOOKED_AT = 5000


@dataclass
class PushReport:
    """What a push did, in numbers of records.

    Attributes
    ----------
    records : int
        Of the collection that are now on the server: written and unchanged ones together.
    vectors : int
        Of these records.
    written : int
        Were not on the server, or were different there.
    unchanged : int
    skipped : int
        Could not be written, each reported.
    deleted : int
        Were on the server and not in the collection, and had to go (`prune`).
    others : int
        Are on the server and not in the collection.
    recall : float or None
        Recall@10 of the server's index against exact search, on a sample.
    filtered_recall : float or None
        The same with a filter; None if nothing suits to try it on.
    indexing : float
        Of the seconds, how many it took to index, until everything could be searched.
    seconds : float
    """

    records: int = 0
    vectors: int = 0
    written: int = 0
    unchanged: int = 0
    skipped: int = 0
    deleted: int = 0
    others: int = 0
    recall: float | None = None
    filtered_recall: float | None = None
    indexing: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        deleted = f", deleted {self.deleted:,}" if self.deleted else ""
        others = f", {self.others:,} others there" if self.others else ""
        recall = "" if self.recall is None else f", recall@10 {self.recall:.3f}"
        if self.filtered_recall is not None:
            recall += f" ({self.filtered_recall:.3f} filtered)"
        return (
            f"written {self.written:,}, unchanged {self.unchanged:,}, skipped {self.skipped:,}"
            f"{deleted}{others}{recall} in {self.seconds:.2f} s"
        )


def push(
    url: str,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    where: str | None = None,
    storage: str | None = None,
    prune: bool = False,
    listeners: Listeners | None = None,
) -> PushReport:
    """Put a collection of a store on a server.

    Records go in batches, each safe when it is there. The collection is marked as loading until
    everything is there, indexed, counted and compared; what an interruption leaves is completed by
    the same push, which writes only what is not there just so.

    Parameters
    ----------
    url : str
        Of the server; it may name the collection there, which is otherwise called as it is here.
    db : path
    collection : str
    where : str, optional
        Only records that pass, see `embcli.store.where`.
    storage : {"float32", "float16"}, optional
        How a new collection on the server keeps vectors; by default as the store does.
    prune : bool
        Delete records there that are not in the collection, or do not pass.
    listeners : Listeners, optional

    Returns
    -------
    report : PushReport

    Raises
    ------
    NothingFoundError
        There is no record to push.
    StoreError
        The store or the server cannot be used, or what is there afterwards is not what was sent.
    UsageError
        The collection there is of another space, or this one cannot be on a server.
    """
    started = time.perf_counter()
    listeners = listeners or Listeners()
    with Store(db, readonly=True) as store, store.snapshot():
        source = store.collection(collection)
        if source.recipe.multivector:
            raise UsageError(
                f"collection {collection!r} has a vector for every token, which servers do not "
                "search by",
                hint="embcli export FILE",
            )
        wanted = None if where is None else source.filter(where)
        total = len(source) if wanted is None else int(wanted.sum())
        if total == 0:
            which = "" if where is None else " that meets --where"
            raise NothingFoundError(f"collection {collection!r} has no record{which}")
        facts = store.space_facts(source.recipe.hash)
        header = Header(
            source.recipe,
            source.chunking,
            storage or source.dtype,
            light=facts is not None and bool(facts.light),
            embcli=embcli.__version__,
        )
        fields = [index.field for index in store.indexes()]
        with connect(url) as server:
            target = _target(server, server.named or collection, header, storage)
            if not target.claim():
                raise StoreError(
                    f"another push to collection {target.name!r} is under way",
                    hint="the same command again, when that has ended; of one that was killed the "
                    "server may still have to finish what it was at, such as an index",
                )
            job = _Push(source, wanted, total, server, target, fields, prune, listeners)
            return job.run(started)


def _target(server: Server, name: str, header: Header, storage: str | None) -> ServerCollection:
    """Open the collection on the server, or make it."""
    target = server.collection(name)
    if target is None:
        return server.create(name, header)
    there = target.header
    where = f"collection {name!r} at {server.address}"
    if there.recipe.hash != header.recipe.hash:
        ours, theirs = header.recipe, there.recipe
        why = f"{theirs.model!r} there, {ours.model!r} here"
        if ours.model == theirs.model:
            why = "; ".join(theirs.differences(ours))
        raise UsageError(f"{where} is in another space ({why})", hint="another name, in the URL")
    if there.chunking != header.chunking:
        raise UsageError(
            f"{where} has texts that are cut otherwise ({there.chunking} there, "
            f"{header.chunking} here)",
            hint="another name, in the URL",
        )
    if storage not in (None, there.dtype):
        raise UsageError(
            f"{where} keeps vectors as {there.dtype}, not {storage}",
            hint="leave out --storage, or another name for it in the URL",
        )
    return target


class _Push:
    """One push, once both ends are open."""

    def __init__(
        self,
        source: Collection,
        wanted: NDArray[np.bool_] | None,
        total: int,
        server: Server,
        target: ServerCollection,
        fields: list[str],
        prune: bool,
        listeners: Listeners,
    ) -> None:
        self._source = source
        self._wanted = wanted
        self._total = total
        self._server = server
        self._target = target
        self._fields = fields
        self._prune = prune
        self._listeners = listeners
        self._report = PushReport()
        self._name = uuid4().hex
        self._known = {n: v for n, v in target.header.facts.items() if n in _MEASURED}
        self._lost: set[str] = set()
        self._ours: list[NDArray[np.uint64]] = []
        self._sample = _Sample(_VERIFIED)
        self._conditions = _Conditions()

    def run(self, started: float) -> PushReport:
        """Bring the server up to date, and say what was done."""
        before = _There(self._target)
        for batch in self._batches():
            self._write(batch, before)
        report, target = self._report, self._target
        ours = np.sort(np.concatenate(self._ours))
        self._count_others(before, ours)
        changed = bool(report.written or report.deleted)
        if changed or target.header.state != READY or not target.is_indexed(self._fields):
            self._mark_loading()
            indexing = time.perf_counter()
            facts = target.finish(self._fields, self._progress)
            report.indexing = round(time.perf_counter() - indexing, 3)
            # Searches that measure go by what the index is.
            target.set_header(target.header.changed(facts=facts))
            facts = facts | self._known | self._measured()
            self._verify()
            self._check_alone()
            target.set_header(
                target.header.changed(state=READY, facts=facts, embcli=embcli.__version__)
            )
        else:
            self._verify()
        report.recall = target.header.facts.get("recall")
        report.filtered_recall = target.header.facts.get("filtered_recall")
        report.seconds = round(time.perf_counter() - started, 3)
        return report

    def _batches(self) -> Iterator[Batch]:
        records = max(1, min(_RECORDS_AT_ONCE, _BYTES_AT_ONCE // (4 * self._source.recipe.dim)))
        return self._source.batches(records, self._wanted)

    def _write(self, batch: Batch, before: "_There") -> None:
        sums = record_sums(batch)
        names = _names(batch.ids)
        self._ours.append(names)
        same = before.has(names, sums)
        rows = np.flatnonzero(~same).tolist()
        if rows:
            self._mark_loading()
            rows = self._written(batch, rows, sums, before)
        lost = int((~same).sum()) - len(rows)
        kept = sorted([*np.flatnonzero(same).tolist(), *rows])
        there = batch.take(kept)
        self._sample.see(there)
        self._conditions.see(there.metas)
        report = self._report
        report.written += len(rows)
        report.unchanged += int(same.sum())
        report.records += len(kept)
        report.vectors += len(there.vectors)
        report.skipped += lost
        self._listeners.progress(report.records + report.skipped, self._total, report.records)

    def _written(
        self, batch: Batch, rows: list[int], sums: NDArray[np.int64], before: "_There"
    ) -> list[int]:
        """Write rows of a batch; if the server cannot hold one of them, all but this one."""
        try:
            self._target.write(batch.take(rows), sums[rows].tolist())
        except InputError as error:
            if len(rows) == 1:
                source, _, line = batch.sources[rows[0]].rpartition(":")
                number = int(line) if line.isdecimal() else 0
                id, message = batch.ids[rows[0]], error.message
                self._lost.add(id)
                if before.has_any(_names([id])):
                    self._target.delete([id])
                    message += "; what was there before is deleted"
                self._listeners.problem(Problem(source or id, number, message))
                return []
            half = len(rows) // 2
            halves = (rows[:half], rows[half:])
            return [row for part in halves for row in self._written(batch, part, sums, before)]
        return rows

    def _mark_loading(self) -> None:
        """Say that what is there may be a part, whatever another push has said meanwhile."""
        header = self._newest()
        if (header.state, header.push) != (LOADING, self._name):
            self._target.set_header(header.changed(state=LOADING, push=self._name))

    def _newest(self) -> Header:
        found = self._server.collection(self._target.name)
        if found is None:
            raise StoreError(f"collection {self._target.name!r} was deleted meanwhile")
        return found.header

    def _check_alone(self) -> None:
        if self._newest().push != self._name:
            raise StoreError(
                f"another push to collection {self._target.name!r} is under way: it stays marked "
                "as loading",
                hint="the same command again, when that has ended",
            )

    def _count_others(self, before: "_There", ours: NDArray[np.uint64]) -> None:
        """Find what is on the server and not here, and delete it if that was asked for."""
        self._report.others = before.count_others(ours)
        if not (self._prune and self._report.others):
            return
        self._mark_loading()
        for ids, _ in list(self._target.sums()):
            names = _names(ids)
            places = np.minimum(np.searchsorted(ours, names), len(ours) - 1)
            gone = np.flatnonzero(ours[places] != names).tolist()
            if gone:
                self._target.delete([ids[row] for row in gone])
                self._report.deleted += len(gone)
        self._report.others = 0

    def _progress(self, what: str, done: int, total: int) -> None:
        self._listeners.progress(done, total, done)

    def _verify(self) -> None:
        """Compare numbers of records and vectors, and a sample of these bit for bit."""
        report, target = self._report, self._target
        where = f"collection {target.name!r} on the server"
        records, vectors = target.counts()
        if records != report.records + report.others or (
            not report.others and vectors != report.vectors
        ):
            raise StoreError(
                f"{where} has {counted(records, 'record')} and {counted(vectors, 'vector')}, not "
                f"{report.records + report.others:,} and {report.vectors:,}: it stays marked as "
                "loading",
                hint="is another push under way? the same command again",
            )
        sent = self._sample.kept
        found = target.fetch([batch.ids[0] for batch in sent])
        rows = {id: row for row, id in enumerate(found.ids)}
        for batch in sent:
            row = rows.get(batch.ids[0])
            if row is None or not _alike(batch, found.take([row]), target.header.dtype):
                facts = target.header.facts | {_REWRITE: True}
                target.set_header(
                    target.header.changed(state=LOADING, push=self._name, facts=facts)
                )
                raise StoreError(
                    f"{where}: record {batch.ids[0][:200]!r} is not what was sent: it is marked as "
                    "loading",
                    hint="the same command again, which then writes everything",
                )

    def _measured(self) -> dict[str, Any]:
        """Find out how far the index has to be searched, with a filter and without."""
        known = self._queries(_QUERIES_THERE if self._report.others else _QUERIES)
        found: dict[str, Any] = {}
        for prefix, condition in (("", None), ("filtered_", self._conditions.best(self._total))):
            if prefix and condition is None:
                continue
            where = None if condition is None else parse_where(condition)
            expected = self._exact(known, condition)
            for effort in self._target.efforts:
                sought = Sought(known, _K, where=where, strong=True, effort=effort)
                recall = _recall(expected, self._target.search(sought))
                found |= {f"{prefix}effort": effort, f"{prefix}recall": round(recall, 4)}
                if recall >= _LEAST_RECALL:
                    break
            else:
                share = " with a filter" if prefix else ""
                said = f"recall@10{share} stays at {recall:.3f} however far is searched"
                self._listeners.note(said)
        return found

    def _exact(self, known: NDArray[np.float32], condition: str | None) -> list[dict[str, float]]:
        """Find what an exact search finds, with scores: here, or there if there are more."""
        if self._report.others:
            where = None if condition is None else parse_where(condition)
            sought = Sought(known, _K, where=where, exact=True, strong=True)
            return [{hit.id: hit.score for hit in each} for each in self._target.search(sought)]
        wanted = self._wanted
        if condition is not None:
            passing = self._source.filter(condition)
            wanted = passing if wanted is None else passing & wanted
        hits = nearest(self._source, known, _K, wanted=wanted, exact=True)
        found = [{hit.record.id: hit.score for hit in each} for each in hits]
        return [{id: each[id] for id in each if id not in self._lost} for each in found]

    def _queries(self, count: int) -> NDArray[np.float32]:
        _, places = self._source.live()
        chosen = np.random.default_rng(0).integers(0, len(places), (_MIXED, count))
        parts = [_unit(self._source.gather(places[each])) for each in chosen]
        mean: NDArray[np.float32] = np.mean(parts, axis=0)
        return _unit(mean)


class _There:
    """What is on a server before a push: 16 bytes for each record."""

    def __init__(self, target: ServerCollection) -> None:
        parts = [(_names(ids), np.array(sums, np.int64)) for ids, sums in target.sums()]
        names = [part[0] for part in parts] or [np.empty(0, np.uint64)]
        sums = [part[1] for part in parts] or [np.empty(0, np.int64)]
        order = np.argsort(np.concatenate(names), kind="stable")
        self._names = np.concatenate(names)[order]
        self._sums = np.concatenate(sums)[order]
        self._trusted = not target.header.facts.get(_REWRITE)

    def has(self, names: NDArray[np.uint64], sums: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which records are there with these sums."""
        if not len(self._names) or not self._trusted:
            return np.zeros(len(names), np.bool_)
        places = np.minimum(np.searchsorted(self._names, names), len(self._names) - 1)
        found: NDArray[np.bool_] = (self._names[places] == names) & (self._sums[places] == sums)
        return found

    def has_any(self, names: NDArray[np.uint64]) -> bool:
        """Whether one of these records is there, with whatever sum."""
        return bool(np.isin(names, self._names).any())

    def count_others(self, ours: NDArray[np.uint64]) -> int:
        """How many of these records are not among ours, which are sorted."""
        places = np.minimum(np.searchsorted(ours, self._names), len(ours) - 1)
        return int((ours[places] != self._names).sum())


class _Sample:
    """Some of the records that go by, from all over."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._step = 1
        self._seen = 0
        self.kept: list[Batch] = []

    def see(self, batch: Batch) -> None:
        """Keep every so many records; of those kept half, when they are too many."""
        rows = [row for row in range(len(batch.ids)) if (self._seen + row) % self._step == 0]
        self._seen += len(batch.ids)
        self.kept += [batch.take([row]) for row in rows[: self._size]]
        while len(self.kept) > self._size:
            self.kept, self._step = self.kept[::2], 2 * self._step


class _Conditions:
    """Filters that let about as many records pass as people's filters do."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str | bool]] = Counter()
        self._records = 0

    def see(self, metas: list[str]) -> None:
        """Count the values of metadata fields, of the first records."""
        for meta in metas[: max(0, _LOOKED_AT - self._records)]:
            self._records += 1
            for name, value in json.loads(meta).items():
                plain = isinstance(value, bool) or (isinstance(value, str) and len(value) < 100)
                if plain and name.isidentifier() and value != "":
                    self._counts[name, value] += 1

    def best(self, total: int) -> str | None:
        """Give the one nearest to a share of 3 %; None if there is none of 1 to 20 %."""
        least = max(0.01 * self._records, _K * self._records / max(total, 1))
        fit = [
            (abs(np.log(count / self._records / _SHARE)), name, value)
            for (name, value), count in self._counts.items()
            if least <= count <= 0.2 * self._records
        ]
        if not fit:
            return None
        _, name, value = min(fit, key=lambda each: (each[0], each[1], str(each[2])))
        literal = _quoted(value) if isinstance(value, str) else str(value).lower()
        return f"`{name}` = {literal}"


def record_sums(batch: Batch) -> NDArray[np.int64]:
    """Sum up records with their vectors and chunks: 63 bits each, shape (n,)."""
    sums = []
    vectors = np.split(np.ascontiguousarray(batch.vectors, "<f4"), batch.starts[1:])
    columns = (batch.ids, batch.texts, batch.metas, batch.sources, batch.hashes)
    for row, (words, own) in enumerate(zip(zip(*columns, strict=True), vectors, strict=True)):
        sum = xxh3_64_intdigest("\0".join(words).encode(), xxh3_64_intdigest(own.data))
        if batch.spans is not None:
            sum = xxh3_64_intdigest(np.ascontiguousarray(batch.spans[row], "<i8").data, sum)
        sums.append(sum >> 1)
    return np.array(sums, np.int64)


def _names(ids: list[str]) -> NDArray[np.uint64]:
    return np.array([xxh3_64_intdigest(id.encode()) for id in ids], np.uint64)


def _alike(sent: Batch, found: Batch, dtype: str) -> bool:
    """Whether a record that was fetched is the one that was sent."""
    columns = ("ids", "texts", "sources", "hashes")
    texts = all(getattr(sent, name) == getattr(found, name) for name in columns)
    metas = json.loads(sent.metas[0]) == json.loads(found.metas[0])
    spans = len(sent.vectors) == len(found.vectors) and all(
        np.array_equal(ours, theirs)
        for ours, theirs in zip(sent.spans or [], found.spans or [], strict=True)
    )
    kept = sent.vectors.astype(dtype).astype(np.float32)
    return texts and metas and spans and np.array_equal(kept, found.vectors)


def _recall(expected: list[dict[str, float]], found: list[list[ServerHit]]) -> float:
    """Say what share was found; of records that are equally near, any will do."""
    shares = []
    for right, hits in zip(expected, found, strict=True):
        if right:
            least = min(right.values())
            good = sum(hit.id in right or hit.score >= least for hit in hits)
            shares.append(min(1.0, good / len(right)))
    return float(np.mean(shares)) if shares else 1.0


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
