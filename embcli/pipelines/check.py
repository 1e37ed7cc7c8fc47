"""Whether a store is what was written, and what can be done where it is not."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embcli.config import DEFAULT_DB
from embcli.errors import StoreError, counted
from embcli.store import Store

if TYPE_CHECKING:
    from embcli.store.inspection import Damage

# Of ids and messages, where there are more.
_NAMED = 5
# Of records whose texts are compared with what was encoded, at a time.
_AT_ONCE = 1000


@dataclass(frozen=True)
class Part:
    """One part of a store.

    Attributes
    ----------
    part : str
    checked : int
        Bytes of the file; rows; records; segments; segments that have codes; or rows of
        what was found: clusters, records in them, and points.
    damaged : int
        How many of them, or how many complaints SQLite has.
    details : str
        What is damaged, and what `repair` will do.
    """

    part: str
    checked: int
    damaged: int
    details: str


def check(
    db: str | os.PathLike[str] = DEFAULT_DB,
    *,
    advance: Callable[[int, int, int], None] = lambda done, total, count: None,
) -> list[Part]:
    """Compare everything in a store with its checksums.

    Parameters
    ----------
    db : path
    advance : callable
        Told how many records and vectors were looked at, how many there are, and again how many
        were looked at.

    Returns
    -------
    parts : list of Part

    Raises
    ------
    StoreError
        The store cannot be opened.
    """
    with Store(db, readonly=True) as store:
        return parts_of(store, inspected(store, advance))


def inspected(
    store: Store, advance: Callable[[int, int, int], None] = lambda done, total, count: None
) -> "Damage":
    """Find out what is damaged in a store, as it is at one moment."""
    with store.snapshot():
        return store.inspect(lambda done, total: advance(done, total, done))


def damaged_error(db: str | os.PathLike[str], parts: Sequence[Part]) -> StoreError:
    """Say that a store is damaged, and what to do."""
    name = os.fspath(db)
    what = ", ".join(part.part for part in parts if part.damaged)
    new = " --out NEW.db" if any("--out" in part.details for part in parts) else ""
    return StoreError(
        f"{name} is damaged ({what})",
        hint=f"cp {name} COPY, then: embcli repair --db {name}{new}",
    )


def parts_of(store: Store, damage: "Damage") -> list[Part]:
    """Tell of every part of a store what was found."""
    return [
        _structure(damage),
        _rows(damage),
        _records(store, damage),
        _segments(store, damage),
        Part("codes", _checked(damage, "codes"), len(damage.codes), _again(damage.codes)),
        _findings(store, damage),
        _texts(damage),
    ]


def _structure(damage: "Damage") -> Part:
    details = ""
    if damage.structure:
        way = "made again" if damage.only_indexes else "--out NEW.db copies what can be read"
        details = f"{_some(damage.structure)} (repair: {way})"
    return Part("structure", _checked(damage, "bytes"), len(damage.structure), details)


_OF_ROWS = {
    "spaces": "mended, if something else tells",
    "collections": "mended, if something else tells",
    "maps": "set aside in a file",
    "clusterings": "deleted; cluster again",
    "layouts": "deleted; plot again",
}


def _rows(damage: "Damage") -> Part:
    said = [
        f"{table} {_some(keys)} (repair: {_OF_ROWS.get(table, 'made again')})"
        for table, keys in damage.rows.items()
    ]
    if damage.missing:
        said.append(f"gone: {_some(damage.missing)}")
    said += [
        f"collection {key} is gone (repair: its {counted(records, 'record')} set aside in a file)"
        for key, records in damage.orphans.items()
    ]
    count = sum(map(len, damage.rows.values())) + len(damage.missing) + len(damage.orphans)
    return Part("rows", _checked(damage, "rows"), count, "; ".join(said))


def _records(store: Store, damage: "Damage") -> Part:
    keys = [key for each in damage.records.values() for key in each]
    details = ""
    if keys:
        ids = store.ids_of(keys[:_NAMED])
        details = f"{_some([*ids, *keys[len(ids) :]])} (repair: set aside in a file)"
    return Part("records", _checked(damage, "records"), len(keys), details)


def _segments(store: Store, damage: "Damage") -> Part:
    names = store.names_of_collections()
    found = []
    for key in sorted({*damage.segments, *damage.unequal, *damage.vectors, *damage.gone}):
        lost = damage.vectors.get(key, [])
        readable = sorted({*lost} - {*damage.records.get(key, ())})
        whole = _whole(store, names[key], readable) if key in names else 0
        says = f"{names.get(key, key)}: {counted(len(lost), 'record')} without vectors"
        if whole:
            says += f", {whole:,} with whole texts (repair: encoded again)"
        if len(lost) > whole:
            says += f", {len(lost) - whole:,} cannot be encoded again (repair: set aside in a file)"
        if gone := damage.gone.get(key):
            says += f", {counted(gone, 'record')} gone: encode their files again"
        found.append(says)
    segments = {number for each in damage.segments.values() for number in each}
    count = max(len(segments), len(found))
    return Part("segments", _checked(damage, "segments"), count, "; ".join(found))


def _whole(store: Store, name: str, keys: Sequence[int]) -> int:
    """How many of some records are all there, but for their vectors."""
    try:
        collection = store.collection(name)
    except StoreError:
        return 0
    portions = (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE))
    return sum(len(collection.whole_records(portion)) for portion in portions)


def _findings(store: Store, damage: "Damage") -> Part:
    said = []
    for table, again in (("clusterings", "cluster"), ("layouts", "plot")):
        names = store.names_of_findings(table)
        named = [names.get(key, "?") for key in damage.findings.get(table, ())]
        if named:
            said.append(f"{table} {_some(named)} (repair: deleted; {again} again)")
    count = sum(each.total() for each in damage.findings.values())
    return Part("findings", _checked(damage, "findings"), count, "; ".join(said))


def _texts(damage: "Damage") -> Part:
    details = f"{damage.texts} (repair: made again)" if damage.texts else ""
    if damage.unchecked:
        details = f"not checked: {', '.join(damage.unchecked)}"
    damaged = int(damage.texts is not None)
    return Part("text index", _checked(damage, "records"), damaged, details)


def _checked(damage: "Damage", what: str) -> int:
    return damage.checked.get(what, 0)


def _again(damaged: Sequence[Any]) -> str:
    return "(repair: made again)" if damaged else ""


def _some(values: Sequence[Any]) -> str:
    """Name the first of several."""
    more = f" and {len(values) - _NAMED:,} more" if len(values) > _NAMED else ""
    return ", ".join(str(value) for value in values[:_NAMED]) + more
