"""Put a damaged store in order, as far as what is left of it allows.

Nothing here makes up data. What follows from something else in the store is made again. A
collection that has lost vectors is read as damaged until they are there again or their records are
gone, so that a repair that is interrupted is known to be unfinished.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.encoders import MODELS
from embcli.encoders.recipe import Recipe
from embcli.store import checks
from embcli.store.checks import digest
from embcli.store.database import Database
from embcli.store.encodings import Encodings
from embcli.store.finding_checks import COLUMNS, FINDINGS
from embcli.store.inspection import Damage, Places, Remains, lost_vectors, remains
from embcli.store.known_texts import prefixes
from embcli.store.segments import DTYPES, KEY, Segments

_UNFINISHED = [1 << 63, 0]
_FINDINGS = {"clusterings": ("clustering", "cluster"), "layouts": ("layout", "plot")}


def reindex(db: Database) -> None:
    """Make SQLite's indexes again."""
    db.execute("REINDEX")


def drop_derived(db: Database, damage: Damage) -> None:
    """Delete what is damaged and follows from vectors: codes, encodings, neighbours."""
    with db.transaction():
        for key in damage.codes:
            db.execute("DELETE FROM codes WHERE segment = ?", (key,))
        for table in ("encodings", "graphs"):
            for key in damage.rows.get(table, ()):
                db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))


def drop_findings(db: Database, damage: Damage) -> list[str]:
    """Delete damaged clusterings, with all their levels, and layouts; return what to do again."""
    said: list[str] = []
    with db.transaction():
        for table, parts in FINDINGS.items():
            what, again = _FINDINGS[table]
            keys = {*damage.findings.get(table, ()), *damage.rows.get(table, ())}
            if table == "clusterings":
                keys = keys.union(*(_family(db, key) for key in keys))
            for key in keys:
                name = db.value(f"SELECT name FROM {table} WHERE key = ?", (key,))
                said.append(f"the {what} {name or '(its name, too)'} is lost: {again} again")
                for part in parts:
                    owner = COLUMNS[part][0]
                    db.execute(f"DELETE FROM {part} WHERE {owner} = ?", (key,))
                db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
    return said


def _family(db: Database, clustering: int) -> list[int]:
    """Give the keys of a clustering and its levels, which tell of each other."""
    rows = db.all(
        "SELECT key FROM clusterings WHERE coalesce(base, key) IN "
        "(SELECT coalesce(base, key) FROM clusterings WHERE key = ?)",
        (clustering,),
    )
    return [key for (key,) in rows]


def mend_rows(db: Database, damage: Damage) -> list[str]:
    """Mend the rows of spaces, collections and maps; return what should be known of it."""
    said: list[str] = []
    with db.transaction():
        for key in damage.rows.get("maps", ()):
            name = db.value("SELECT name FROM maps WHERE key = ?", (key,))
            db.execute("DELETE FROM maps WHERE key = ?", (key,))
            said.append(f"the map {name!r} is lost: fit it again")
        for key in damage.rows.get("spaces", ()):
            said += _mend_space(db, key)
        for key in damage.rows.get("collections", ()):
            said += _mend_collection(db, key)
    return said


def _mend_space(db: Database, key: int) -> list[str]:
    hash, model, text = db.one("SELECT hash, model, recipe FROM spaces WHERE key = ?", (key,))
    try:
        recipe = Recipe.from_json(text)
        same = recipe.hash == hash
    except (ValueError, KeyError, TypeError, AttributeError):
        same = False
    if not same:
        return [f"what model made space {key} cannot be known any more: encode its texts again"]
    if model != recipe.model and model in MODELS:
        # The name, which is kept twice, is no part of the hash.
        recipe = Recipe({**recipe.settings, "model": model})
    db.execute(
        "UPDATE spaces SET model = ?, dim = ?, recipe = ?, light = NULL, files = NULL "
        "WHERE key = ?",
        (recipe.model, recipe.dim, recipe.json, key),
    )
    checks.seal(db, "spaces", key)
    return []


def _mend_collection(db: Database, key: int) -> list[str]:
    name, dim = db.one(
        "SELECT c.name, s.dim FROM collections AS c "
        "LEFT JOIN spaces AS s ON s.key = c.space WHERE c.key = ?",
        (key,),
    )
    lengths = db.all("SELECT count, length(vectors) FROM segments WHERE +collection = ?", (key,))
    fitting = [
        dtype
        for dtype, kind in DTYPES.items()
        if dim is not None
        and all(length == count * dim * kind.itemsize for count, length in lengths)
    ]
    if not fitting:
        return [f"what the vectors of collection {key} mean cannot be known any more"]
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        name = f"recovered-{key}"
    db.execute(
        "UPDATE collections SET name = ?, dtype = ?, coding = NULL, calibration = NULL "
        "WHERE key = ?",
        (name, fitting[0], key),
    )
    checks.seal(db, "collections", key)
    return [f"what the store says of collection {name!r} was damaged: look whether it is right"]


def readable_records(db: Database, keys: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Read what there is of records that are damaged or have no vectors any more.

    Yields
    ------
    row : dict
        ``id``, ``text``, the metadata, and under ``lost`` the collection and the source.
    """
    rows = db.all_in(
        "SELECT c.name, r.id, r.source, r.meta, r.text FROM records AS r "
        "LEFT JOIN collections AS c ON c.key = r.collection WHERE r.key IN ({})",
        (),
        keys,
    )
    for row in rows:
        yield _shown(*map(_readable, row))


def remove_records(db: Database, keys: Sequence[int]) -> None:
    """Take records out of the store, with whatever is left of their vectors."""
    with db.transaction():
        owners: dict[int, list[int]] = {}
        for key, collection in db.all_in(
            "SELECT key, collection FROM records WHERE key IN ({})", (), keys
        ):
            owners.setdefault(collection, []).append(key)
        for collection, gone in owners.items():
            _free_slots(db, collection, gone)
            Encodings(db, collection).remove(gone)
        for table, column in (("chunks", "record"), ("records", "key")):
            sql = f"DELETE FROM {table} WHERE {column} = ?"
            db.executemany(sql, ((key,) for key in keys))
        # The text that was indexed may not be the one that is here now.
        rebuild_texts(db)


def _shown(collection: Any, id: Any, source: Any, meta: Any, text: Any) -> dict[str, Any]:
    try:
        fields = json.loads(meta)
    except (ValueError, TypeError):
        fields = {"meta": meta}
    fields = fields if isinstance(fields, dict) else {"meta": fields}
    return {**fields, "id": id, "text": text, "lost": {"collection": collection, "source": source}}


def _readable(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _free_slots(db: Database, collection: int, keys: list[int]) -> None:
    """Free the slots that name records."""
    found = db.one(
        "SELECT s.dim, c.dtype FROM collections AS c JOIN spaces AS s ON s.key = c.space "
        "WHERE c.key = ?",
        (collection,),
    )
    if found is None:
        return
    rows = db.all("SELECT key, slots FROM segments WHERE collection = ?", (collection,))
    places = [
        (segment, slot)
        for segment, slots in rows
        for slot in np.flatnonzero(np.isin(np.frombuffer(slots, KEY), keys)).tolist()
    ]
    Segments(db, collection, *found).remove(places)


def rebuild_texts(db: Database) -> None:
    """Make the full-text index again, out of the texts."""
    db.execute("INSERT INTO records_fts (records_fts) VALUES ('rebuild')")


def rebuild_segments(db: Database, collection: int, width: int, chunked: bool) -> list[int]:
    """Free the slots of records that have lost vectors; all others are as they were.

    Parameters
    ----------
    db : Database
    collection : int
        Its key. It is read as damaged until `finish`.
    width : int
        Bytes of a vector.
    chunked : bool

    Returns
    -------
    lost : list of int
        Keys of these records.
    """
    with db.transaction():
        checks.put(db, "segments of", collection, _UNFINISHED)
        found = list(remains(db, collection, width))
        places = Places(found)
        lost, claimed = lost_vectors(db, collection, chunked, places)
        owners = _claimants(db, collection, chunked, places)
        kept = np.where(places.whole & claimed & ~np.isin(owners, lost), owners, 0)
        start = 0
        for segment in found:
            slots = kept[start : start + len(segment.whole)].astype(KEY)
            start += len(slots)
            if segment.slots is None or not segment.sound or (segment.slots != slots).any():
                _rewrite(db, segment, slots, width)
    return lost


def _claimants(db: Database, collection: int, chunked: bool, places: Places) -> NDArray[np.int64]:
    """Which record says of each slot that its vector is there; 0 if none does."""
    of_chunks = (
        "SELECT record, segment, slot FROM chunks WHERE record IN "
        "(SELECT key FROM records WHERE +collection = ?)"
    )
    of_records = "SELECT key, segment, slot FROM records WHERE +collection = ?"
    rows = db.all(of_chunks if chunked else of_records, (collection,))
    keys, segments, slots = np.array(rows, np.int64).reshape(-1, 3).T
    at = places.find(segments, slots)
    owners = np.zeros(len(places.owners), np.int64)
    owners[at[at >= 0]] = keys[at >= 0]
    return owners


def _rewrite(db: Database, segment: Remains, slots: NDArray[np.int64], width: int) -> None:
    if not slots.any():
        db.execute("DELETE FROM segments WHERE key = ?", (segment.key,))
        return
    (vectors,) = db.one("SELECT vectors FROM segments WHERE key = ?", (segment.key,))
    content = np.frombuffer(vectors, np.uint8)[: len(slots) * width].reshape(-1, width).copy()
    content[slots == 0] = 0
    named = dict(
        db.all_in("SELECT key, hash FROM records WHERE key IN ({})", (), set(slots.tolist()) - {0})
    )
    hashes = prefixes([named.get(key, "0" * 16) for key in slots.tolist()])
    parts = slots.tobytes(), hashes.tobytes(), content.tobytes()
    db.execute(
        "UPDATE segments SET count = ?, slots = ?, hashes = ?, vectors = ? WHERE key = ?",
        (len(slots), *parts, segment.key),
    )
    sums = checks.segment_sums(segment.key, *parts, width)
    checks.put(db, "segments", segment.key, sums)


def finish(db: Database, collection: int) -> None:
    """Take the segments of a collection as complete."""
    with db.transaction():
        rows = db.all("SELECT key, slots FROM segments WHERE +collection = ?", (collection,))
        sums = checks.segments_sum(digest(slots, key) for key, slots in rows)
        checks.put(db, "segments of", collection, sums)
