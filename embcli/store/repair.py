"""Put a damaged store in order, as far as what is left of it allows.

Nothing here makes up data. What follows from something else in the store is made again. A
collection that has lost vectors is read as damaged until they are there again or their records are
gone, so that a repair that is interrupted is known to be unfinished.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.encoders import MODELS
from embcli.encoders.recipe import Recipe
from embcli.store import checks
from embcli.store.checks import GROUP, SUM, digest
from embcli.store.chunks import ChunkTable
from embcli.store.database import Database
from embcli.store.encodings import Encodings
from embcli.store.fields import quoted_name
from embcli.store.finding_checks import COLUMNS, FINDINGS
from embcli.store.inspection import Damage, Places, Remains, is_record, lost_vectors, remains
from embcli.store.known_texts import prefixes
from embcli.store.segments import DTYPES, KEY, Segments

_UNFINISHED = [1 << 63, 0]
_FINDINGS = {"clusterings": ("clustering", "cluster"), "layouts": ("layout", "plot")}


def reindex(db: Database, mend: Callable[[], Sequence[int]]) -> None:
    """Make SQLite's indexes again.

    Parameters
    ----------
    db : Database
    mend : callable
        Called while the table of records has no indexes, since damaged ones may have others' ids.
        Those whose keys it returns go.
    """
    with db.transaction():
        made = db.all(
            "SELECT name, sql FROM sqlite_master "
            "WHERE type = 'index' AND tbl_name = 'records' AND sql IS NOT NULL"
        )
        for name, _ in made:
            db.execute(f"DROP INDEX {quoted_name(name)}")
        _remove(db, mend(), slots=False)
        for _, sql in made:
            db.execute(sql)
    db.execute("REINDEX")


def drop_derived(db: Database, damage: Damage) -> None:
    """Delete what is damaged and follows from vectors: codes, encodings, neighbours."""
    with db.transaction():
        for key in damage.codes:
            db.execute("DELETE FROM codes WHERE segment = ?", (key,))
        for table in ("encodings", "graphs"):
            for key in damage.rows.get(table, ()):
                db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
        # What is lost comes with parts that are gathered again.
        db.execute("DELETE FROM gathered")
        for table in checks.ROWS:  # what is missing is missed once
            db.execute(
                f"DELETE FROM checks WHERE part = ? AND key NOT IN (SELECT key FROM {table})",
                (table,),
            )


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


def mend_rows(db: Database, damage: Damage, *, seal: bool) -> list[str]:
    """Mend the rows of spaces and collections; return what should be known of it.

    Parameters
    ----------
    db : Database
    damage : Damage
    seal : bool
        Take what they say as right, where nothing else tells.
    """
    said: list[str] = []
    with db.transaction():
        for table, mend in (("spaces", _mend_space), ("collections", _mend_collection)):
            for key in damage.rows.get(table, ()):
                complaint = mend(db, key)
                if complaint and seal:
                    checks.seal(db, table, key)
                    complaint += "; taken as it is"
                said += [complaint] if complaint else []
    return said


def remove_map(db: Database, key: int) -> tuple[str, bytes]:
    """Take a map out of the store; return its name and what is left of it."""
    with db.transaction():
        name, parameters = db.one("SELECT name, parameters FROM maps WHERE key = ?", (key,))
        db.execute("DELETE FROM maps WHERE key = ?", (key,))
    return str(name), bytes(parameters)


def remove_orphans(db: Database, collection: int) -> None:
    """Take out the vectors of a collection that is not there any more."""
    with db.transaction():
        db.execute("DELETE FROM segments WHERE collection = ?", (collection,))
        db.execute("DELETE FROM checks WHERE part = 'segments of' AND key = ?", (collection,))


def _mend_space(db: Database, key: int) -> str:
    hash, model, text = db.one("SELECT hash, model, recipe FROM spaces WHERE key = ?", (key,))
    try:
        recipe = Recipe.from_json(text)
        same = recipe.hash == hash
    except (ValueError, KeyError, TypeError, AttributeError):
        same = False
    if not same:
        return f"what model made space {key} cannot be known any more: it says {text[:200]}"
    if model != recipe.model and model in MODELS:
        # The name, which is kept twice, is no part of the hash.
        recipe = Recipe({**recipe.settings, "model": model})
    db.execute(
        "UPDATE spaces SET model = ?, dim = ?, recipe = ?, light = NULL, files = NULL "
        "WHERE key = ?",
        (recipe.model, recipe.dim, recipe.json, key),
    )
    checks.seal(db, "spaces", key)
    return ""


def _mend_collection(db: Database, key: int) -> str:
    name, dtype, chunking, model, dim = db.one(
        "SELECT c.name, c.dtype, c.chunking, s.model, s.dim FROM collections AS c "
        "LEFT JOIN spaces AS s ON s.key = c.space WHERE c.key = ?",
        (key,),
    )
    lengths = db.all("SELECT count, length(vectors) FROM segments WHERE +collection = ?", (key,))
    fitting = [
        each
        for each, kind in DTYPES.items()
        if dim is not None
        and all(length == count * dim * kind.itemsize for count, length in lengths)
    ]
    alike = db.value("SELECT count(*) FROM spaces WHERE dim = ?", (dim,))
    cut = db.value(
        "SELECT EXISTS (SELECT 1 FROM chunks JOIN records ON records.key = record "
        "WHERE +collection = ?)",
        (key,),
    )
    # Codes and what was calibrated follow from vectors; a name that can be shown is taken.
    db.execute("UPDATE collections SET coding = NULL, calibration = NULL WHERE key = ?", (key,))
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        name = f"recovered-{key}"
        db.execute("UPDATE collections SET name = ? WHERE key = ?", (name, key))
    if len(fitting) != 1 or alike != 1 or not _plausible(chunking, bool(cut)):
        return (
            f"what the vectors of collection {name!r} mean cannot be known any more: it says "
            f"model {model}, {dtype}, chunks {chunking}"
        )
    db.execute("UPDATE collections SET dtype = ? WHERE key = ?", (fitting[0], key))
    checks.seal(db, "collections", key)
    return f"what the store says of collection {name!r} was damaged: look whether it is right"


def _plausible(chunking: Any, cut: bool) -> bool:
    """Whether this can be how texts are cut, given whether any is."""
    if chunking is None or not cut:
        return chunking is None and not cut
    try:
        return isinstance(json.loads(chunking), dict)
    except (ValueError, TypeError):
        return False


def readable_records(db: Database, keys: Sequence[int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read what there is of records that are damaged or have no vectors any more.

    Yields
    ------
    collection : str
        Its name.
    row : dict
        ``id``, ``text``, the metadata, and under ``lost`` the collection and the source; of a
        record with one vector that no model makes again ``vector``, and under ``lost`` whether
        it is what was stored.
    """
    rows = db.all_in(
        "SELECT r.collection, c.name, s.recipe, c.dtype, c.chunking, r.segment, r.slot, r.id, "
        "r.source, r.meta, r.text FROM records AS r "
        "LEFT JOIN collections AS c ON c.key = r.collection "
        "LEFT JOIN spaces AS s ON s.key = c.space WHERE r.key IN ({})",
        (),
        keys,
    )
    for number, name, recipe, dtype, chunking, segment, slot, *content in rows:
        collection = str(_readable(name)) if name else f"collection-{number}"
        row = _shown(collection, *map(_readable, content))
        if chunking is None and dtype in DTYPES:
            row |= _with_vector(db, recipe, DTYPES[dtype], segment, slot, row["lost"])
        yield collection, row


def _with_vector(
    db: Database,
    recipe: str | None,
    dtype: "np.dtype[Any]",
    segment: int,
    slot: int,
    lost: dict[str, Any],
) -> dict[str, Any]:
    """Read the vector of a record, if no model makes it again, or none that is known."""
    row = db.one("SELECT vectors, length(slots) / 8 FROM segments WHERE key = ?", (segment,))
    if row is None or not row[1]:
        return {}
    try:
        made = None if recipe is None else Recipe.from_json(recipe)
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    if made is not None and made.base is None and "imported" not in made.settings:
        return {}
    dim = len(row[0]) // row[1] // dtype.itemsize if made is None else made.dim
    width, group = dim * dtype.itemsize, slot // GROUP
    vector = np.frombuffer(row[0][slot * width : (slot + 1) * width], dtype).astype(float)
    if len(vector) != dim or not np.isfinite(vector).all():
        return {}
    of_group = row[0][group * GROUP * width : (group + 1) * GROUP * width]
    sums = checks.get(db, "segments", [segment]).get(segment, np.empty(0, SUM))
    lost["vector is whole"] = digest(of_group) in sums[2 + group : 3 + group]
    return {"vector": vector.tolist()}


def remove_records(db: Database, keys: Sequence[int], *, damaged: bool) -> int:
    """Take records out of the store, with whatever is left of their vectors.

    Parameters
    ----------
    db : Database
    keys : sequence of int
    damaged : bool
        Only those that differ from their checksum: keys are used again, and another process may
        have put something else there.

    Returns
    -------
    removed : int
    """
    with db.transaction():
        keys = damaged_among(db, keys) if damaged else keys
        _remove(db, keys)
    return len(keys)


def damaged_among(db: Database, keys: Sequence[int]) -> list[int]:
    """Tell which records differ from their checksums."""
    rows = db.all_in(
        "SELECT key, collection, id, hash, source, meta, text, sum FROM records WHERE key IN ({})",
        (),
        keys,
    )
    return [
        content[0]
        for *content, sum in rows
        if not is_record(content) or checks.record_sum(*content) != sum
    ]


def _remove(db: Database, keys: Sequence[int], *, slots: bool = True) -> None:
    owners: dict[int, list[int]] = {}
    for key, collection in db.all_in(
        "SELECT key, collection FROM records WHERE key IN ({})", (), keys
    ):
        owners.setdefault(collection, []).append(key)
    for collection, gone in owners.items():
        if slots:
            _free_slots(db, collection, gone)
        Encodings(db, collection).remove(gone)
    ChunkTable(db).remove(keys)
    db.executemany("DELETE FROM records WHERE key = ?", ((key,) for key in keys))
    # The text that was indexed may not be the one that is here now.
    rebuild_texts(db)


def _shown(collection: str, id: Any, source: Any, meta: Any, text: Any) -> dict[str, Any]:
    lost = {"collection": collection, "source": source}
    try:
        fields = json.loads(meta)
        json.dumps(fields, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        fields = meta
    if not isinstance(fields, dict) or fields.keys() & {"id", "text", "lost", "vector"}:
        fields = {"meta": fields if isinstance(fields, dict) else str(meta)}
    return {"id": id, "text": text, **fields, "lost": lost}


def _readable(value: Any) -> Any:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


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
        lost = lost_vectors(db, collection, chunked, Places(found))
        start = 0
        for segment in found:
            slots = lost.owners[start : start + len(segment.whole)].astype(KEY)
            start += len(slots)
            if segment.slots is None or not segment.sound or (segment.slots != slots).any():
                _rewrite(db, segment, slots, width)
    return lost.keys


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
