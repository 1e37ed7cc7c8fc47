"""Maps in the store: fitted once, found by name or by the spaces they join."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embcli.encoders.recipe import Recipe
from embcli.errors import InputError, StoreError, UsageError
from embcli.store import checks
from embcli.store.database import Database

if TYPE_CHECKING:
    from embcli.core.maps import Map

_LAYOUT = "embcli.map"
_QUERY = """
    SELECT maps.key, maps.name, maps.kind, s.recipe, t.recipe, j.recipe, maps.fit, maps.created,
           maps.parameters
      FROM maps JOIN spaces AS s ON s.key = maps.source
           JOIN spaces AS t ON t.key = maps.target
           JOIN spaces AS j ON j.key = maps.space
"""


@dataclass(frozen=True)
class StoredMap:
    """A map as the store has it.

    Attributes
    ----------
    name : str
    method : str
        How it was fitted, or ``composed`` or ``inverted``.
    source, target : Recipe
        The spaces it makes comparable.
    space : Recipe
        Where it leads: the target's own space, or one of the map's own, for both sides.
    fit : dict
        How it was fitted and how well it did: JSON.
    created : str
    parameters : bytes
        Steps and arrays as safetensors.
    """

    name: str
    method: str
    source: Recipe
    target: Recipe
    space: Recipe
    fit: dict[str, Any]
    created: str
    parameters: bytes

    @cached_property
    def map(self) -> "Map":
        """The map itself."""
        return unpacked(self.parameters)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of its parameters: what it does, whatever it is called."""
        return hashlib.sha256(self.parameters).hexdigest()

    @property
    def two_sided(self) -> bool:
        """Whether it changes vectors of the target, too."""
        return self.space.hash != self.target.hash

    @property
    def changes_one_space(self) -> bool:
        """Whether it changes a space, as debiasing does, rather than leading to another."""
        return self.source.hash == self.target.hash and self.map.treats_alike


class Ends(NamedTuple):
    """What a map joins; see `StoredMap`."""

    name: str
    source: Recipe
    target: Recipe
    space: Recipe

    @property
    def two_sided(self) -> bool:
        """Whether it changes vectors of the target, too."""
        return self.space.hash != self.target.hash


def add_space(database: Database, recipe: Recipe) -> int:
    """Give the key of a space, which is added if it is not there. Call inside a transaction."""
    key = database.value("SELECT key FROM spaces WHERE hash = ?", (recipe.hash,))
    if key is None:
        added = database.execute(
            "INSERT INTO spaces (hash, model, dim, recipe, created) VALUES (?, ?, ?, ?, ?)",
            (
                recipe.hash, recipe.model, recipe.dim, recipe.json,
                datetime.now(UTC).isoformat(timespec="milliseconds"),
            ),
        )  # fmt: skip
        key = added.lastrowid
        assert key is not None
        checks.seal(database, "spaces", key)
    return int(key)


def drop_unused_spaces(database: Database) -> None:
    """Delete the spaces that neither a collection nor a map is in, and what was kept of them."""
    database.execute(
        "DELETE FROM spaces WHERE key NOT IN (SELECT space FROM collections) AND key NOT IN "
        "(SELECT source FROM maps UNION SELECT target FROM maps UNION SELECT space FROM maps)"
    )
    database.execute("DELETE FROM queries WHERE space NOT IN (SELECT key FROM spaces)")


def packed(map: "Map") -> bytes:
    """Write a map as safetensors, its steps as JSON in the header."""
    from safetensors.numpy import save

    from embcli.core.maps import pack

    layout, arrays = pack(map)
    return bytes(save(arrays, {_LAYOUT: json.dumps(layout, separators=(",", ":"))}))


def unpacked(parameters: bytes) -> "Map":
    """Read what `packed` wrote.

    Raises
    ------
    InputError
        It is none.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from embcli.core.maps import unpack

    try:
        arrays = load(parameters)
        header = json.loads(parameters[8 : 8 + int.from_bytes(parameters[:8], "little")])
        layout = json.loads(header["__metadata__"][_LAYOUT])
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise InputError("this is no map: safetensors with steps in its header expected") from None
    return unpack(layout, arrays)


class Maps:
    """The maps of a store.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def all(self) -> list[StoredMap]:
        """List the maps by name."""
        return [self._stored(row) for row in self._db.all(f"{_QUERY} ORDER BY maps.name")]

    def ends(self) -> list[Ends]:
        """Tell what the maps join, by name; what they do is not read, which may be much."""
        rows = self._db.all(
            "SELECT maps.name, s.recipe, t.recipe, j.recipe FROM maps "
            "JOIN spaces AS s ON s.key = maps.source JOIN spaces AS t ON t.key = maps.target "
            "JOIN spaces AS j ON j.key = maps.space ORDER BY maps.name"
        )
        return [Ends(name, *map(Recipe.from_json, recipes)) for name, *recipes in rows]

    def get(self, name: str) -> StoredMap:
        """Find a map by name.

        Raises
        ------
        StoreError
            There is none; the message lists those there are.
        """
        row = self._db.one(f"{_QUERY} WHERE maps.name = ?", (name,))
        if row is None:
            names = [name for (name,) in self._db.all("SELECT name FROM maps ORDER BY name")]
            raise StoreError(
                f"there is no map {name!r}"
                + (f" (there are: {', '.join(names)})" if names else ", nor any other"),
                hint="embcli maps list" if names else "embcli align fit",
            )
        return self._stored(row)

    def of_space(self, space: Recipe) -> StoredMap | None:
        """Find the map that leads to a space of its own, by what it does, not by its name."""
        hashes = space.settings["maps"] if space.base else []
        return next((map for map in self.all() if map.hash in hashes), None)

    def add(
        self,
        name: str,
        map: "Map",
        *,
        method: str,
        source: Recipe,
        target: Recipe,
        fit: Mapping[str, Any],
        replace: bool = False,
    ) -> StoredMap:
        """Keep a map.

        Parameters
        ----------
        name : str
        map : Map
        method : str
        source, target : Recipe
            The spaces that it makes comparable; they need not have collections here.
        fit : mapping
            JSON-serialisable.
        replace : bool
            Take the place of one of that name. Collections that were mapped by it stay.

        Raises
        ------
        UsageError
            There is one of that name, or it is not a possible name.
        InputError
            The map does not fit the dimensions of the spaces.
        """
        _check_name(name)
        _check_finite(map)
        dims = [_dim_behind(map.source, source), _dim_behind(map.target, target)]
        if dims[0] != dims[1]:
            raise InputError(f"map {name!r} leads its sides to {dims[0]} and {dims[1]} components")
        if map.edits is not None and not source.dim == dims[0] == map.edits.vectors.shape[1]:
            raise InputError(f"map {name!r} edits words in a space of other dimension than its own")
        parameters = packed(map)
        space = target
        if map.target:
            digest = hashlib.sha256(parameters).hexdigest()
            space = target.mapped(digest, dims[0], map.scaled)
        with self._db.transaction():
            if not (replace and self._has(name) and self.get(name).parameters == parameters):
                self.check_name(name, replace=replace)
            self._db.execute("DELETE FROM maps WHERE name = ?", (name,))
            keys = [add_space(self._db, recipe) for recipe in (source, target, space)]
            added = self._db.execute(
                "INSERT INTO maps (name, source, target, space, kind, parameters, fit, created) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    name, *keys, method, parameters, json.dumps(dict(fit)),
                    datetime.now(UTC).isoformat(timespec="milliseconds"),
                ),
            )  # fmt: skip
            assert added.lastrowid is not None
            checks.seal(self._db, "maps", added.lastrowid)
            drop_unused_spaces(self._db)
        return self.get(name)

    def check_name(self, name: str, *, replace: bool = False) -> None:
        """Refuse a name that a new map could not have, before it is made.

        Raises
        ------
        UsageError
            There is a map of that name that is not to be replaced, or it is no possible name.
        """
        _check_name(name)
        if not replace and self._has(name):
            raise UsageError(
                f"there is a map {name!r} already", hint=f"--force, or: embcli maps rm {name}"
            )
        if replace and (needing := self.needing(name)):
            raise UsageError(
                f"without the map {name!r} that is there, no query could be encoded for what it "
                f"made: {', '.join(needing)}",
                hint=f"another name, or: embcli maps rm {name}",
            )

    def needing(self, name: str) -> list[str]:
        """Name the collections in a space that no other map leads to; none if it is not there."""
        rows = self._db.all(
            "SELECT c.name FROM maps AS m JOIN collections AS c ON c.space = m.space "
            "WHERE m.name = ? AND m.space NOT IN (m.source, m.target) AND NOT EXISTS "
            "(SELECT 1 FROM maps AS o WHERE o.space = m.space AND o.name != m.name) "
            "ORDER BY c.name",
            (name,),
        )
        return [collection for (collection,) in rows]

    def rename(self, old: str, new: str) -> None:
        """Rename a map.

        Raises
        ------
        StoreError
            There is no map `old`.
        UsageError
            There is a map `new` already, or it is not a possible name.
        """
        _check_name(new)
        with self._db.transaction():
            self.get(old)
            if self._has(new):
                raise UsageError(f"there is a map {new!r} already")
            self._db.execute("UPDATE maps SET name = ? WHERE name = ?", (new, old))
            key = self._db.value("SELECT key FROM maps WHERE name = ?", (new,))
            checks.seal(self._db, "maps", key)

    def remove(self, name: str) -> None:
        """Delete a map.

        Raises
        ------
        StoreError
            There is none of that name.
        """
        with self._db.transaction():
            self.get(name)
            self._db.execute("DELETE FROM maps WHERE name = ?", (name,))
            drop_unused_spaces(self._db)

    def _stored(self, row: tuple[Any, ...]) -> StoredMap:
        key, name, method, *recipes, fit, created, parameters = row
        checks.checked_row(self._db, "maps", key)
        source, target, space = map(Recipe.from_json, recipes)
        return StoredMap(name, method, source, target, space, json.loads(fit), created, parameters)

    def _has(self, name: str) -> bool:
        return self._db.one("SELECT 1 FROM maps WHERE name = ?", (name,)) is not None


def _check_finite(map: "Map") -> None:
    """Refuse numbers that are none, or are too large for vectors of float32."""
    for side in (map.source, map.target):
        with np.errstate(over="ignore"):
            steps = side.rounded().steps
        for step in steps:
            if not all(np.isfinite(array).all() for array in vars(step).values()):
                raise InputError(
                    "the map has numbers in it that are not finite or too large: other options, "
                    "or another method"
                )


def _dim_behind(side: Any, recipe: Recipe) -> int:
    dims = side.dims
    if dims is None:
        return recipe.dim
    if dims[0] != recipe.dim:
        raise InputError(
            f"the map takes vectors of {dims[0]} components, those of model {recipe.model!r} "
            f"have {recipe.dim}"
        )
    return int(dims[1])


def _check_name(name: str) -> None:
    # It comes after options on command lines, and becomes the name of files.
    if not re.fullmatch(r"[\w.+→-]*\w[\w.+→-]*", name) or name.startswith("-"):
        raise UsageError(
            f"{name!r} is not a possible name for a map (letters, digits, and . _ + - →)"
        )
