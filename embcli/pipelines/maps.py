"""What can be done with maps that are in the store: files of them, chains, ways back."""

import hashlib
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

from embcli.config import DEFAULT_DB
from embcli.core.maps import NotInvertibleError
from embcli.encoders.recipe import Recipe
from embcli.errors import InputError, UsageError
from embcli.formats.target import complete_files
from embcli.store import Store, StoredMap

ENDING = ".safetensors"
_VERSION = 1


def row_of(map: StoredMap) -> dict[str, Any]:
    """Give a map as commands show it."""
    held_out = map.fit.get("held_out") or {}
    return {
        "name": map.name,
        "method": map.method,
        "source": map.source.model,
        "target": map.target.model,
        "two_sided": map.two_sided,
        "dim_source": map.source.dim,
        "dim_target": map.target.dim,
        "dim": map.space.dim,
        "pairs": (map.fit.get("pairs") or {}).get("count"),
        "p_at_1": held_out.get("P@1"),
        "created": map.created,
        "collections": map.fit.get("collections"),
    }


def details_of(map: StoredMap) -> dict[str, Any]:
    """Give all that is known of a map."""
    sides = {side: getattr(map.map, side) for side in ("source", "target")}
    edits = map.map.edits
    return {
        **row_of(map),
        "hash": map.hash,
        "bytes": len(map.parameters),
        "steps": {side: [step.name for step in each.steps] for side, each in sides.items()},
        "edits": edits and {"kept": len(edits.kept), "replaced": len(edits.replaced)},
        "fit": map.fit,
        "source_recipe": dict(map.source.settings),
        "target_recipe": dict(map.target.settings),
        "space": map.space.hash,
        "source_space": map.source.hash,
        "target_space": map.target.hash,
    }


def export_map(
    name: str,
    out: str | os.PathLike[str],
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    force: bool = False,
) -> tuple[Path, Path]:
    """Write a map to a safetensors file, and what is known of it to a JSON file beside it.

    Parameters
    ----------
    name : str
    out : path
        Ends in ``.safetensors``, or that is added.
    db : path
    force : bool
        Replace files that are there.

    Returns
    -------
    files : (path, path)

    Raises
    ------
    StoreError
        There is no such map.
    UsageError
        A file is there, or cannot be written.
    """
    with Store(db, readonly=True) as store:
        map = store.maps.get(name)
    if os.fspath(out) == "-":
        raise UsageError("a map is two files: --out needs a name")
    target, beside = _files(out)
    known = {
        "embcli_map": _VERSION,
        "name": map.name,
        "method": map.method,
        "source": dict(map.source.settings),
        "target": dict(map.target.settings),
        "fit": map.fit,
        "created": map.created,
        "sha256": map.hash,
    }
    with complete_files(target, [beside], force=force) as path:
        path.write_bytes(map.parameters)
        text = json.dumps(known, indent=2, ensure_ascii=False)
        path.with_name(beside.name).write_text(f"{text}\n", encoding="utf-8")
    return target, beside


def import_map(
    path: str | os.PathLike[str],
    name: str | None = None,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    replace: bool = False,
) -> StoredMap:
    """Read what `export_map` wrote.

    Parameters
    ----------
    path : path
        Either of the two files.
    name : str, optional
        By default the name it had.
    db : path
    replace : bool
        Take the place of a map of that name.

    Raises
    ------
    InputError
        A file is missing, is no map, or the two do not belong together.
    UsageError
        There is a map of that name.
    """
    from embcli.store.maps import unpacked

    tensors, beside = _files(path)
    parameters = _read(tensors)
    try:
        known = json.loads(_read(beside))
        version, sha256 = known["embcli_map"], known["sha256"]
        method, fit = str(known["method"]), _fit(known["fit"])
        source, target = Recipe.checked(known["source"]), Recipe.checked(known["target"])
        name = name or str(known["name"])
        _ = method.encode(), name.encode()
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        raise InputError(f"{beside}: this does not describe a map") from None
    if version != _VERSION:
        raise InputError(f"{beside}: version {version}, this embcli reads {_VERSION}")
    if sha256 != hashlib.sha256(parameters).hexdigest():
        raise InputError(f"{beside} describes another map than what is in {tensors}")
    try:
        map = unpacked(parameters)
    except InputError as error:
        raise InputError(f"{tensors}: {error.message}") from None
    with Store(db) as store:
        return store.maps.add(
            name, map, method=method, source=source, target=target, fit=fit, replace=replace
        )


def compose_maps(
    names: list[str],
    to: str,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    replace: bool = False,
) -> StoredMap:
    """Keep what maps do one after the other as one map.

    Parameters
    ----------
    names : list of str
        Two or more; each begins in the space where the one before ends.
    to : str
        Name of the new map.
    db : path
    replace : bool
        Take the place of a map of that name.

    Raises
    ------
    UsageError
        They do not follow each other, or there is a map of that name.
    InputError
        The chain breaks where two of them change the space between them for good.
    """
    if len(names) < 2:
        raise UsageError("a chain has two maps at least")
    with Store.existing(db) as store:
        maps = [store.maps.get(name) for name in names]
        whole = maps[0].map
        for before, after in pairwise(maps):
            if before.target.hash != after.source.hash:
                raise UsageError(
                    f"map {before.name!r} ends at {before.target.model!r}, {after.name!r} begins "
                    f"at {after.source.model!r}: not the same space",
                    hint="embcli maps info NAME shows both ends",
                )
            whole = whole.then(after.map)
        fit = {"composed_of": [{"name": map.name, "sha256": map.hash} for map in maps]}
        return store.maps.add(
            to, whole, method="composed", source=maps[0].source, target=maps[-1].target, fit=fit,
            replace=replace,
        )  # fmt: skip


def invert_map(
    name: str,
    to: str,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    replace: bool = False,
) -> StoredMap:
    """Keep the way back of a map: from its target into the source's own space.

    Parameters
    ----------
    name : str
    to : str
        Name of the new map.
    db : path
    replace : bool
        Take the place of a map of that name.

    Raises
    ------
    InputError
        The map has no inverse.
    UsageError
        There is a map of that name.
    """
    with Store.existing(db) as store:
        map = store.maps.get(name)
        try:
            back = map.map.inverse()
        except NotInvertibleError as error:
            raise InputError(
                f"{name}: {error.message}",
                hint=f"embcli search --via {name} works in both directions without",
            ) from None
        fit = {"inverse_of": {"name": map.name, "sha256": map.hash}}
        return store.maps.add(
            to, back, method="inverted", source=map.target, target=map.source, fit=fit,
            replace=replace,
        )  # fmt: skip


def _files(name: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Name both files, given either of them or what they have in common."""
    stem = os.fspath(name).removesuffix(".json").removesuffix(ENDING)
    return Path(f"{stem}{ENDING}"), Path(f"{stem}.json")


def _fit(facts: Any) -> dict[str, Any]:
    fit = dict(facts)
    for part in ("pairs", "held_out", "collections", "confidence"):
        _ = dict(fit.get(part) or {})
    return fit


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {path} ({error.strerror})", hint="a map is two files: both are needed"
        ) from None
