"""Put a damaged store in order: make again what can be made again, set aside what cannot."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from embcli.config import DEFAULT_DB
from embcli.errors import ModelError, StoreError, UsageError, counted
from embcli.formats.target import complete_files
from embcli.pipelines.check import damaged_error, inspected, parts_of
from embcli.pipelines.chunking import Chunker
from embcli.pipelines.compress import encode_again
from embcli.pipelines.encode import BatchWriter, EncodeReport, Listeners, prepare
from embcli.store import Collection, Record, Store
from embcli.store import repair as repairs
from embcli.store.collection import Written

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embcli.store.chunks import Chunks
    from embcli.store.inspection import Damage

_AT_ONCE = 1000


@dataclass
class RepairReport:
    """What a repair did.

    Attributes
    ----------
    encoded : int
        Records whose vectors were made again.
    set_aside : int
        Records that were taken out of the store.
    file : str or None
        Where these are.
    notes : list of str
        What else is not as it was.
    """

    encoded: int = 0
    set_aside: int = 0
    file: str | None = None
    notes: list[str] = field(default_factory=list)


def repair(
    db: str | os.PathLike[str] = DEFAULT_DB,
    out: str | os.PathLike[str] | None = None,
    *,
    force: bool = False,
    listeners: Listeners | None = None,
) -> RepairReport:
    """Make a store what it was written as, as far as possible.

    Lost vectors are encoded again from the texts in the store. Records that are damaged
    themselves, or whose vectors were not made from their texts by a model that is here, are
    written to a file beside the store, in a form that `encode` reads, and taken out of it.
    Clusterings and layouts that are damaged are deleted, since only who made them can say whether
    they are wanted again. Everything else that is damaged follows from these and is made again.

    A repair that is interrupted is completed by the same command.

    Parameters
    ----------
    db : path
    out : path, optional
        Leave the store as it is and repair a copy, of what can be read of it.
    force : bool
        Replace `out` if it is there.
    listeners : Listeners, optional

    Returns
    -------
    report : RepairReport

    Raises
    ------
    StoreError
        The file is damaged in such a way that it can only be copied; or not all could be repaired.
    """
    listeners = listeners or Listeners()
    if out is None:
        return _repair(Path(db), Path(db), listeners)
    if os.path.exists(out) and os.path.exists(db) and os.path.samefile(out, db):
        raise UsageError(f"{os.fspath(out)} is the store itself", hint="another name")
    with complete_files(out, force=force) as path:
        copied = _copy(Path(db), path)
        report = _repair(path, Path(out), listeners)
    report.notes = copied + report.notes
    return report


def _copy(db: Path, path: Path) -> list[str]:
    """Copy a store, or what can be read of it; return what should be known of the copy."""
    try:
        with Store(db, readonly=True) as store:
            damage = inspected(store)
            if not damage.structure:
                store.backup(path)
                return []
    except StoreError:
        if not db.is_file():
            raise
    from embcli.store.salvage import salvage

    with Store(path) as new:
        copied = salvage(db, new.database)
    records, known = copied.get("records", 0), copied["known"]
    if not records:
        raise StoreError(
            f"{db} is damaged: no record of it can be read", hint=f"sqlite3 {db} .recover"
        )
    notes = [f"{records:,} records and {copied.get('segments', 0):,} segments could be read"]
    if known > records:
        notes.append(
            f"{counted(known - records, 'more record')} had vectors here, but could not be read: "
            "encode their files again"
        )
    return notes


def _repair(path: Path, named: Path, listeners: Listeners) -> RepairReport:
    """Repair the store at `path`, which will be known as `named`."""
    report = RepairReport()
    with Store.existing(path) as store:
        damage = inspected(store, listeners.progress)
        if not damage:
            return report
        if damage.structure and not damage.only_indexes:
            raise damaged_error(named, parts_of(store, damage))
        with store.run("repair", None, {}) as counts:
            if damage.structure:
                repairs.reindex(store.database)
                damage = inspected(store)
            _mend(store, damage, _Aside(named), report, listeners)
            counts.update(encoded=report.encoded, set_aside=report.set_aside)
        left = inspected(store)
        if left:
            raise damaged_error(named, parts_of(store, left))
    return report


def _mend(
    store: Store, damage: "Damage", aside: "_Aside", report: RepairReport, listeners: Listeners
) -> None:
    db = store.database
    repairs.drop_derived(db, damage)
    report.notes += repairs.drop_findings(db, damage)
    report.notes += repairs.mend_rows(db, damage)
    names = {
        key: name
        for key, name in store.names_of_collections().items()
        if store.is_whole(name)  # what cannot be mended stays damaged, and is said to be
    }
    torn = sorted({*damage.segments, *damage.unequal, *damage.vectors} & names.keys())
    lost = {key: store.collection(names[key]).rebuild_segments() for key in torn}
    damaged = [key for keys in damage.records.values() for key in keys]
    aside.take(store, damaged, "it is not what was stored")
    for key in torn:
        collection = store.collection(names[key])
        left = sorted({*lost[key]} - {*damaged})
        report.encoded += _encode_again(store, collection, left, report, listeners)
        # Keys are used again: only the store can tell whose vectors are still missing.
        aside.take(store, collection.rebuild_segments(), "its vectors cannot be made again")
        repairs.finish(db, key)
    if damage.texts is not None:
        repairs.rebuild_texts(db)
    for name in names.values():
        store.collection(name).update_codes()
    encode_again(store)
    report.set_aside, report.file = aside.count, aside.file


def _encode_again(
    store: Store,
    collection: Collection,
    keys: Sequence[int],
    report: RepairReport,
    listeners: Listeners,
) -> int:
    """Give records their vectors again; return how many."""
    if not keys:
        return 0
    try:
        encoder, chunking = prepare(store.path, collection.name, None, None, None, listeners)
    except (ModelError, UsageError) as error:
        report.notes.append(f"{collection.name}: vectors cannot be made again: {error.message}")
        return 0
    with closing(encoder):
        if encoder.recipe().hash != collection.recipe.hash:
            differences = "; ".join(collection.recipe.differences(encoder.recipe()))
            report.notes.append(f"{collection.name}: the model is another one ({differences})")
            return 0
        chunker = None if chunking is None else Chunker(chunking, encoder)
        done = EncodeReport()
        target = _Restored(collection)
        with BatchWriter(_Unseen(), target, encoder, chunker, done, listeners, False) as writer:
            for start in range(0, len(keys), _AT_ONCE):
                writer.take(collection.whole_records(keys[start : start + _AT_ONCE]))
                listeners.progress(start, len(keys), done.records)
            writer.take(None)
    return done.records


class _Unseen:
    """No id repeats within a collection."""

    def add(self, ids: Iterable[str]) -> set[str]:
        return set()


class _Restored:
    """Takes records that are there already, whose vectors were lost.

    Parameters
    ----------
    collection : Collection
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def sources(self, ids: Iterable[str]) -> dict[str, str]:
        return {}

    def missing(self, records: Sequence[Record]) -> list[Record]:
        return list({record.hash: record for record in records}.values())

    def write(
        self, records: Sequence[Record], vectors: "Mapping[str, NDArray[np.float32] | Chunks]"
    ) -> Written:
        if records:
            self._collection.restore(records, vectors)
        return Written(changed=len(records))


class _Aside:
    """The file beside a store for records that are taken out of it, as `encode` reads them.

    Parameters
    ----------
    store : Path
    """

    def __init__(self, store: Path) -> None:
        self._path = store.with_name(f"{store.name}.lost.jsonl")
        self.count = 0
        self.file: str | None = None

    def take(self, store: Store, keys: Sequence[int], why: str) -> None:
        """Write records to the file, and when they are on the disk take them out of the store."""
        if not keys:
            return
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            for row in repairs.readable_records(store.database, keys):
                row["lost"]["why"] = why
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        repairs.remove_records(store.database, keys)
        self.count += len(keys)
        self.file = os.fspath(self._path)
