"""Put a damaged store in order: make again what can be made again, set aside what cannot."""

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from embcli.config import DEFAULT_DB
from embcli.errors import ModelError, StoreError, UsageError, counted
from embcli.formats.target import complete_files
from embcli.pipelines.check import damaged_error, inspected, parts_of
from embcli.pipelines.chunking import Chunker
from embcli.pipelines.compress import encode_again
from embcli.pipelines.encode import BatchWriter, EncodeReport, Listeners, prepare
from embcli.store import Collection, Record, Store
from embcli.store import repair as repairs
from embcli.store.bits import turn_back
from embcli.store.collection import Written

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embcli.store.chunks import Chunks
    from embcli.store.inspection import Damage

_AT_ONCE = 1000
_DIFFERS = "it is not what was stored"
_UNMADE = "its vectors cannot be made again"


@dataclass
class RepairReport:
    """What a repair did.

    Attributes
    ----------
    bits : int
        Single bits that were turned back, by checksums.
    encoded : int
        Records whose vectors were made again.
    set_aside : int
        Records that were taken out of the store.
    files : dict from collection to str
        Where these are.
    """

    bits: int = 0
    encoded: int = 0
    set_aside: int = 0
    files: dict[str, str] = field(default_factory=dict)


def repair(
    db: str | os.PathLike[str] = DEFAULT_DB,
    out: str | os.PathLike[str] | None = None,
    *,
    force: bool = False,
    seal: bool = False,
    listeners: Listeners | None = None,
) -> RepairReport:
    """Make a store what it was written as, as far as possible.

    Where one bit was turned over, the checksum tells which, and it is turned back. Lost vectors
    are encoded again from the texts in the store. Records that are damaged
    themselves, or whose vectors were not made from their texts by a model that is here, are
    written to files beside the store, in a form that `encode` and `import_vectors` read, and taken
    out of it. Clusterings and layouts that are damaged are deleted, since only who made them can
    say whether they are wanted again. Everything else that is damaged follows from these and is
    made again.

    A repair that is interrupted is completed by the same command.

    Parameters
    ----------
    db : path
    out : path, optional
        Leave the store as it is and repair a copy, of what can be read of it.
    force : bool
        Replace `out` if it is there.
    seal : bool
        Take what the store says of its collections and models as right where it is damaged and
        nothing else tells.
    listeners : Listeners, optional
        Told what cannot be as it was.

    Returns
    -------
    report : RepairReport

    Raises
    ------
    StoreError
        The file is damaged in such a way that it can only be copied; or not all could be
        repaired; or it is no store.
    """
    listeners = listeners or Listeners()
    name = os.fspath(db)
    if os.path.isfile(db) and os.path.getsize(db) == 0:
        raise StoreError(f"{name} is empty: nothing is left of it", hint="restore a copy")
    if out is None:
        return _repair(Path(db), Path(db), seal, listeners)
    if os.path.exists(out) and os.path.exists(db) and os.path.samefile(out, db):
        raise UsageError(f"{os.fspath(out)} is the store itself", hint="another name")
    with complete_files(out, force=force) as path:
        for note in _copy(Path(db), path):
            listeners.note(note)
        return _repair(path, Path(out), seal, listeners)


def _copy(db: Path, path: Path) -> list[str]:
    """Copy a store, or what can be read of it; return what should be known of the copy."""
    try:
        with Store(db, readonly=True) as store:
            damage = inspected(store)
            if not damage.structure:
                store.backup(path)
                return []
    except StoreError as error:
        # A store of a newer embcli, or of nobody's, is not damaged.
        code = getattr(error.__cause__, "sqlite_errorcode", None)
        if code is None or code & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
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
    if copied.get("unverified"):
        notes.append("checksums could not be read: what the store says of itself is taken as it is")
    if known > records:
        notes.append(
            f"{counted(known - records, 'more record')} had vectors here, but could not be read: "
            "encode their files again"
        )
    return notes


def _repair(path: Path, named: Path, seal: bool, listeners: Listeners) -> RepairReport:
    """Repair the store at `path`, which will be known as `named`."""
    report = RepairReport()
    with Store.existing(path) as store:
        damage = inspected(store, listeners.progress)
        if not damage:
            return report
        parts = parts_of(store, damage)
        if damage.structure and not damage.only_indexes:
            raise damaged_error(named, parts)
        aside = _Aside(named, report)
        with store.run("repair", None, {"seal": seal}) as counts:
            _turn_back(store, damage, aside, report)
            if report.bits or damage.structure:
                damage = inspected(store)
            _tell(store, damage, listeners)
            _mend(store, damage, aside, seal, report, listeners)
            counts.update(bits=report.bits, encoded=report.encoded, set_aside=report.set_aside)
        left = inspected(store)
        if left:
            still = ", ".join(part.part for part in parts_of(store, left) if part.damaged)
            raise StoreError(
                f"{named} is still damaged ({still})",
                hint="embcli repair --seal, which takes what it says of itself as right; or "
                "encode into another store",
            )
    return report


def _turn_back(store: Store, damage: "Damage", aside: "_Aside", report: RepairReport) -> None:
    """Turn single bits back, and make indexes again that do not agree with their tables."""
    db = store.database
    if not damage.structure:
        with db.transaction():
            report.bits = turn_back(db, damage)
        return

    def mend() -> list[int]:
        report.bits = turn_back(db, damage)
        keys = [key for keys in damage.records.values() for key in keys]
        left = repairs.damaged_among(db, keys)
        aside.write(store, left, _DIFFERS)
        report.set_aside += len(left)
        return left

    repairs.reindex(db, mend)


def _tell(store: Store, damage: "Damage", listeners: Listeners) -> None:
    """Say what nothing here can bring back."""
    names = store.names_of_collections()
    for key, count in damage.gone.items():
        listeners.note(
            f"{names.get(key, key)}: {counted(count, 'record')} of which there are vectors "
            "cannot be found: encode their files again"
        )
    gone = [*damage.missing, *(f"collection {key}" for key in damage.orphans)]
    if gone:
        listeners.note(f"what is gone: {', '.join(gone)}")


def _mend(
    store: Store,
    damage: "Damage",
    aside: "_Aside",
    seal: bool,
    report: RepairReport,
    listeners: Listeners,
) -> None:
    db = store.database
    repairs.drop_derived(db, damage)
    for note in (*repairs.drop_findings(db, damage), *repairs.mend_rows(db, damage, seal=seal)):
        listeners.note(note)
    for key in damage.rows.get("maps", ()):
        listeners.note(aside.take_map(store, key))
    names = {
        key: name
        for key, name in store.names_of_collections().items()
        if store.is_whole(name)  # what cannot be mended stays damaged, and is said to be
    }
    torn = sorted({*damage.segments, *damage.unequal, *damage.vectors, *damage.gone} & {*names})
    damaged = [key for keys in damage.records.values() for key in keys]
    aside.write(store, damaged, _DIFFERS)
    lost: dict[int, list[int]] = {}
    for key in torn:
        collection = store.collection(names[key])
        unmade = sorted({*damage.vectors.get(key, ())} - {*damaged})
        if not collection.whole_records(unmade[:1]):
            # While their vectors, right or wrong, can still be read.
            aside.write(store, unmade, _UNMADE)
        lost[key] = collection.rebuild_segments()
    report.set_aside += repairs.remove_records(db, damaged, damaged=True)
    for key, keys in lost.items():
        collection = store.collection(names[key])
        left = sorted({*keys} - {*damaged})
        report.encoded += _encode_again(store, collection, left, listeners)
        aside.take(store, collection.rebuild_segments(), _UNMADE)
        repairs.finish(db, key)
    for name in store.without_space():
        # What its vectors mean is not known any more; texts can be encoded again.
        key = store.key_of_collection(name)
        aside.take(store, store.keys_in(key), "what its vectors mean is gone")
        store.drop_row_of_collection(key)
        damage.orphans[key] = 0
    for key in damage.orphans:
        aside.take(store, store.keys_in(key), "its collection is gone")
        repairs.remove_orphans(db, key)
    if damage.texts is not None:
        repairs.rebuild_texts(db)
    for name in names.values():
        store.collection(name).update_codes()
    encode_again(store)


def _encode_again(
    store: Store, collection: Collection, keys: Sequence[int], listeners: Listeners
) -> int:
    """Give records their vectors again; return how many."""
    if not keys:
        return 0
    try:
        encoder, chunking = prepare(store.path, collection.name, None, None, None, listeners)
    except (ModelError, UsageError) as error:
        listeners.note(f"{collection.name}: vectors cannot be made again: {error.message}")
        return 0
    with closing(encoder):
        if encoder.recipe().hash != collection.recipe.hash:
            differences = "; ".join(collection.recipe.differences(encoder.recipe()))
            listeners.note(f"{collection.name}: the model is another one ({differences})")
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
    """Files beside a store for what is taken out of it, one a collection, as `encode` reads them.

    Parameters
    ----------
    store : Path
    report : RepairReport

    Raises
    ------
    StoreError
        No file can be made there.
    """

    def __init__(self, store: Path, report: RepairReport) -> None:
        self._store = store
        self._report = report
        self._written: set[int] = set()
        try:
            with tempfile.TemporaryFile(dir=store.absolute().parent):
                pass
        except OSError as error:
            raise StoreError(
                f"nothing can be set aside beside {store} ({error.strerror})",
                hint="embcli repair --out NEW.db, elsewhere",
            ) from error

    def _path(self, name: str, ending: str) -> Path:
        # A name of a collection may hold anything that can be shown, a slash too.
        return self._store.with_name(f"{self._store.name}.{quote(name, safe='')}.{ending}")

    def write(self, store: Store, keys: Sequence[int], why: str) -> None:
        """Write records to their files; return when they are on the disk."""
        rows: dict[str, list[str]] = {}
        keys = [key for key in keys if key not in self._written]
        self._written.update(keys)
        for collection, row in repairs.readable_records(store.database, keys):
            row["lost"]["why"] = why
            rows.setdefault(collection, []).append(json.dumps(row, ensure_ascii=False))
        for collection, lines in rows.items():
            path = self._path(collection, "lost.jsonl")
            # A repair that was interrupted may have written them before.
            there = set(path.read_text("utf-8").split("\n")) if path.is_file() else set()
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(f"{line}\n" for line in lines if line not in there)
                file.flush()
                os.fsync(file.fileno())
            self._report.files[collection] = os.fspath(path)

    def take(self, store: Store, keys: Sequence[int], why: str) -> None:
        """Write records to their files, and take them out of the store."""
        if keys:
            self.write(store, keys, why)
            self._report.set_aside += repairs.remove_records(store.database, keys, damaged=False)

    def take_map(self, store: Store, key: int) -> str:
        """Take a damaged map out of the store; say where what is left of it is."""
        name, parameters = repairs.remove_map(store.database, key)
        path = self._path(name, "lost.safetensors")
        path.write_bytes(parameters)
        return f"the map {name!r} was damaged and is in {path} now: fit it again"
