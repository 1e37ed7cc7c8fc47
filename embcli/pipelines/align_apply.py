"""From a collection, through a map, to another one."""

import hashlib
import os
import time
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.core.maps import Transform
from embcli.encoders.recipe import Recipe
from embcli.errors import NothingFoundError, UsageError
from embcli.formats import Problem
from embcli.pipelines.compress import keep_coded
from embcli.pipelines.encode import Listeners
from embcli.store import Chunks, Collection, Store, StoredMap
from embcli.store.collection import Batch
from embcli.store.records import CopiedRecord

_RECORDS_AT_ONCE = 4096
_LARGEST_FLOAT16 = 65504.0


@dataclass
class ApplyReport:
    """What an application did, in numbers of records.

    Attributes
    ----------
    records : int
        Read and now in the collection: mapped and unchanged ones together.
    mapped : int
        Of these, how many were mapped now.
    unchanged : int
        How many were there already, mapped from the same vector or with one of the model itself.
    updated : int
        How many were there before with another vector, text, metadata or source.
    skipped : int
        Not stored, because the map leaves nothing of them.
    total : int
        Records in the collection afterwards.
    seconds : float
    """

    records: int = 0
    mapped: int = 0
    unchanged: int = 0
    updated: int = 0
    skipped: int = 0
    total: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"mapped {self.mapped:,}, unchanged {self.unchanged:,}, updated {self.updated:,}, "
            f"skipped {self.skipped:,} in {self.seconds:.2f} s"
        )


def apply_map(
    name: str,
    source: str = DEFAULT_COLLECTION,
    to: str | None = None,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    where: str | None = None,
    storage: str | None = None,
    side: str | None = None,
    listeners: Listeners | None = None,
    command: str = "align apply",
) -> ApplyReport:
    """Write what a map makes of a collection into another one.

    Batches are committed as they come. A run that was interrupted is completed by the same
    command: what is there is passed over, unless its text or its vector has changed since.

    Parameters
    ----------
    name : str
        Of the map. The collection may be in the space of its source or, if the map changes that
        side too, of its target.
    source : str
        The collection to map. Its texts, metadata, sources and chunks are copied.
    to : str
        The collection to write, created if it does not exist.
    db : path
    where : str, optional
        Only the records that pass, see `embcli.store.where`.
    storage : {"float32", "float16"}, optional
        How a new collection stores vectors; by default as the source does.
    side : {"source", "target"}, optional
        Which side of the map to apply where both are one model's space, as of two languages; by
        default the source's, unless the collection is the one that was the target in fitting.
    listeners : Listeners, optional
    command : str
        What the run is called in the store.

    Returns
    -------
    report : ApplyReport

    Raises
    ------
    UsageError
        The collection is in neither space of the map, or it is multi-vector; or `to` is in
        another space than the map leads to.
    StoreError
        There is no such map or collection.

    Notes
    -----
    Mapped vectors never pass for a model's own. A text that is encoded into the same space later
    gets the model's vector, in the collection written here, too; and what has that keeps it.
    """
    started = time.perf_counter()
    listeners = listeners or Listeners()
    with Store.existing(db) as store:
        map, origin = store.maps.get(name), store.collection(source)
        if to is None or to == source:
            raise UsageError("what is mapped goes into another collection", hint="--to NAME")
        transform = side_of(map, origin, side)
        if origin.recipe.multivector:
            raise UsageError(
                f"collection {source!r} has a vector for every token: maps are for one a text"
            )
        wanted = None if where is None else origin.filter(where)
        if storage is None and all(info.name != to for info in store.collections()):
            storage = origin.dtype
        if wanted is not None and not wanted.any():
            raise NothingFoundError(f"no record of {source!r} passes --where: nothing to map")
        there = next((info for info in store.collections() if info.name == to), None)
        if there is not None and there.space != map.space.hash:
            raise UsageError(
                f"collection {to!r} is in another space than the one map {name!r} leads to",
                hint="--to with a new name",
            )
        target = store.create_collection(to, map.space, storage, origin.chunking)
        arguments = {
            "map": name, "sha256": map.hash, "collection": source, "to": to, "where": where,
        }  # fmt: skip
        with store.run(command, to, arguments) as counts:
            report = ApplyReport()
            total = len(origin) if wanted is None else int(wanted.sum())
            mapper = _Mapper(transform, map, target, report, listeners)
            for batch in origin.batches(_RECORDS_AT_ONCE, wanted):
                mapper.write(batch)
                store.index_texts()
                done = report.records + report.skipped
                listeners.progress(done, max(total, done), report.records)
            keep_coded(target)
            report.total = len(target)
            report.seconds = round(time.perf_counter() - started, 3)
            counts.update(asdict(report))
    return report


def side_of(map: StoredMap, collection: Collection, side: str | None = None) -> Transform:
    """Tell what a map does to the vectors of a collection; `side` as in `apply_map`.

    Raises
    ------
    UsageError
        It does nothing to them, or they are in another space.
    """
    space = collection.recipe
    if side is None and map.source.hash == map.target.hash:
        fitted_to = map.fit.get("collections", {})
        is_target = collection.name == fitted_to.get("target") != fitted_to.get("source")
        side = "target" if is_target else "source"
    if space.hash == map.source.hash and side != "target":
        return map.map.source
    if space.hash == map.target.hash and side != "source" and map.two_sided:
        return map.map.target
    ends = f"from {map.source.model!r} to {map.target.model!r}"
    if space.hash in (map.target.hash, map.space.hash):
        raise UsageError(
            f"map {map.name!r} leads {ends}, and collection {collection.name!r} is where it leads",
            hint=None if map.two_sided else f"embcli maps invert {map.name}",
        )
    alike = [end for end in (map.source, map.target) if end.model == space.model]
    differences = f" ({'; '.join(alike[0].differences(space))})" if alike else ""
    raise UsageError(
        f"map {map.name!r} leads {ends}, and collection {collection.name!r} is in another space, "
        f"of {space.model!r}{differences}",
        hint=f"embcli maps list, or: embcli align fit --source {collection.name} --target OTHER",
    )


class _Mapper:
    """Maps batches, and stores what is not there already."""

    def __init__(
        self,
        transform: Transform,
        map: StoredMap,
        target: Collection,
        report: ApplyReport,
        listeners: Listeners,
    ) -> None:
        self._transform = transform.rounded()
        self._edits = map.map.edits
        self._within = map.changes_one_space
        self._target = target
        self._space: Recipe = map.space
        # Both sides may be of one space, and then one text has two vectors.
        self._hash = f"{map.hash}:{'target' if transform is map.map.target else 'source'}"
        self._report = report
        self._listeners = listeners

    def write(self, batch: Batch) -> None:
        """Store a batch in one transaction."""
        starts = batch.starts
        copies = self._copies(batch, starts)
        vectors: dict[str, NDArray[np.float32] | Chunks] = {}
        lost: dict[str, str] = {}
        while True:
            kept = [copy for copy in copies if copy.hash not in lost]
            missing = {copy.hash for copy in self._target.missing(kept)} - vectors.keys()
            self._map(batch, copies, starts, missing, vectors, lost)
            kept = [copy for copy in kept if copy.hash not in lost]
            written = self._target.write(kept, vectors)
            if written is not None:
                break  # else another process changed the store meanwhile
        for copy in copies:
            if copy.hash in lost:
                self._skip(copy, lost[copy.hash])
        self._report.records += len(kept)
        self._report.mapped += written.added + written.changed
        self._report.unchanged += written.unchanged + written.refreshed
        self._report.updated += written.changed + written.refreshed

    def _copies(self, batch: Batch, starts: NDArray[np.int64]) -> list[CopiedRecord]:
        """Make the records; the hash of each names the map, the text and the vectors before it.

        What was encoded, rather than mapped, has the hash of its text, and stays.
        """
        sums = np.add.reduceat(_checksums(batch.vectors), starts)
        there = self._target.hashes(batch.ids)
        columns = zip(
            batch.ids, batch.texts, batch.metas, batch.sources, batch.hashes, sums.tolist(),
            strict=True,
        )  # fmt: skip
        return [
            CopiedRecord(
                id, text, {}, source, stored_meta=meta,
                origin=hash if there.get(id) == hash else self._origin(hash, sum),
            )
            for id, text, meta, source, hash, sum in columns
        ]  # fmt: skip

    def _origin(self, hash: str, sum: int) -> str:
        content = f"{self._hash}:{hash}:{sum:x}".encode()
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    def _map(
        self,
        batch: Batch,
        copies: list[CopiedRecord],
        starts: NDArray[np.int64],
        missing: set[str],
        vectors: dict[str, NDArray[np.float32] | Chunks],
        lost: dict[str, str],
    ) -> None:
        """Put what is missing into `vectors`, by hash; say in `lost` what there is no vector of."""
        which = [row for row, copy in enumerate(copies) if copy.hash in missing]
        if not which:
            return
        ends = np.append(starts[1:], len(batch.vectors))
        if batch.spans is None:
            chosen = batch.vectors if len(which) == len(copies) else batch.vectors[which]
        else:
            chosen = np.concatenate([batch.vectors[starts[row] : ends[row]] for row in which])
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            mapped = self._transform.apply(chosen)
            if self._within:
                mapped[self._transform.vanished(chosen, mapped)] = 0
            if self._edits is not None:
                counts = (ends - starts)[which].tolist()
                texts = [
                    copies[row].text or copies[row].id
                    for row, count in zip(which, counts, strict=True)
                    for _ in range(count)
                ]
                mapped = self._edits.apply(texts, chosen, mapped)
            rows, wrong = self._usable(mapped)
        start = 0
        for row in which:
            end = start + int(ends[row] - starts[row])
            hash = copies[row].hash
            reasons = [wrong[place] for place in range(start, end) if place in wrong]
            if reasons:
                lost[hash] = reasons[0]
            elif batch.spans is None:
                vectors[hash] = rows[start]
            else:
                vectors[hash] = Chunks(rows[start:end], batch.spans[row])
            start = end

    def _usable(self, rows: NDArray[np.floating]) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Scale rows as the space has them, and tell which are of no use and why."""
        squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
        wrong = dict.fromkeys(np.flatnonzero(squares == 0).tolist(), "a vector of zeros")
        if not np.isfinite(squares).all():
            infinite = np.flatnonzero(~np.isfinite(rows).all(axis=1)).tolist()
            wrong |= dict.fromkeys(infinite, "a vector that is not finite")
        if self._space.normalized:
            rows = rows * (1 / np.sqrt(squares)).astype(np.float32)[:, None]
        elif self._target.dtype == "float16":
            large = np.flatnonzero(np.abs(rows).max(axis=1) > _LARGEST_FLOAT16).tolist()
            wrong |= dict.fromkeys(large, "a vector that does not fit into float16")
        return rows.astype(np.float32, copy=False), wrong

    def _skip(self, copy: CopiedRecord, reason: str) -> None:
        self._report.skipped += 1
        message = f"the map makes {reason} of record {copy.id!r}"
        if self._target.sources([copy.id]):
            message += "; the one stored before stays"
        source, _, line = copy.source.rpartition(":")
        number = int(line) if line.isdecimal() else 0
        self._listeners.problem(Problem(source or copy.id, number, message))


def _checksums(vectors: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Sum the bits of each row up, every place with a factor of its own, modulo 2^64."""
    bits = np.ascontiguousarray(vectors, "<f4").view("<u4")
    # Odd ones: whatever changes in one place changes the sum.
    factors = np.random.PCG64(0).random_raw(bits.shape[1]) | np.uint64(1)
    return bits.astype(np.uint64) @ factors
