"""Layouts of a collection: a place in two or three dimensions for every record."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.errors import NothingFoundError
from embcli.store import checks
from embcli.store.database import Database
from embcli.store.finding_checks import checked_columns, column_sums
from embcli.store.names import check_word


@dataclass(frozen=True)
class Layout:
    """One layout of a collection.

    Attributes
    ----------
    key : int
    name, method : str
    dims : {2, 3}
    arguments : dict
        How it was made.
    facts : dict
        What placing further records takes, and what was found out.
    created : str
    """

    key: int
    name: str
    method: str
    dims: int
    arguments: dict[str, Any]
    facts: dict[str, Any]
    created: str


class Points(NamedTuple):
    """Where records lie.

    Attributes
    ----------
    keys : int64 array, shape (n,)
        Of the records, rising.
    coordinates : float32 array, shape (n, dims)
    placed : bool array, shape (n,)
        Whether a record came later, and was placed among the others without moving them.
    """

    keys: NDArray[np.int64]
    coordinates: NDArray[np.float32]
    placed: NDArray[np.bool_]


class Layouts:
    """The layouts of one collection.

    Parameters
    ----------
    db : Database
    collection : int
        Its key.
    name : str
        What the collection is called.
    """

    def __init__(self, db: Database, collection: int, name: str) -> None:
        self._db = db
        self._collection = collection
        self._name = name

    def all(self) -> list[Layout]:
        """List them, the oldest first."""
        rows = checks.checked_rows(
            self._db, "layouts", "collection = ? ORDER BY key", (self._collection,)
        )
        return [
            Layout(
                key, name, method, dims, json.loads(arguments), json.loads(facts), created
            )
            for key, _, name, method, dims, arguments, facts, created in rows
        ]  # fmt: skip

    def find(self, name: str) -> Layout | None:
        """Find one by name."""
        return next((layout for layout in self.all() if layout.name == name), None)

    def get(self, name: str | None = None) -> Layout:
        """Find one by name, or the last one.

        Raises
        ------
        NothingFoundError
            There is none; the message lists those there are.
        """
        found = self.all()
        for layout in reversed(found):
            if name in (None, layout.name):
                return layout
        if not found:
            raise NothingFoundError(
                f"collection {self._name!r} has no layout yet", hint=f"embcli plot -c {self._name}"
            )
        names = ", ".join(layout.name for layout in found)
        raise NothingFoundError(
            f"collection {self._name!r} has no layout {name!r} (there are: {names})"
        )

    def points(self, layout: Layout) -> Points:
        """Tell where records lie; those that came later and were not placed are left out."""
        what = f"points of {layout.name!r}"
        keys, *axes, placed = checked_columns(self._db, "points", layout.key, what)
        coordinates = np.stack(axes[: layout.dims], axis=1, dtype=np.float32, casting="same_kind")
        return Points(keys, coordinates, placed.astype(np.bool_))

    def add(
        self,
        name: str,
        method: str,
        arguments: Mapping[str, Any],
        facts: Mapping[str, Any],
        points: Points,
    ) -> Layout:
        """Keep a layout in the place of one of that name, in one transaction.

        Records that are gone meanwhile are passed over.

        Raises
        ------
        UsageError
            It is not a possible name.
        """
        check_word(name, "a layout")
        with self._db.transaction():
            self._delete(name)
            key = self._db.execute(
                "INSERT INTO layouts (collection, name, method, dims, arguments, facts, created) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    self._collection, name, method, points.coordinates.shape[1],
                    json.dumps(dict(arguments)), json.dumps(dict(facts)),
                    datetime.now(UTC).isoformat(timespec="milliseconds"),
                ),
            ).lastrowid  # fmt: skip
            assert key is not None
            checks.seal(self._db, "layouts", key)
            self._place(key, points)
        return self.get(name)

    def place(self, layout: Layout, points: Points) -> None:
        """Add further records to a layout, in one transaction."""
        with self._db.transaction():
            self._place(layout.key, points)

    def remove(self, name: str) -> None:
        """Delete a layout.

        Raises
        ------
        NothingFoundError
            There is none of that name.
        """
        with self._db.transaction():
            self._delete(self.get(name).name)

    def clear(self) -> None:
        """Delete all of them. Call inside a transaction."""
        names = "SELECT name FROM layouts WHERE collection = ?"
        for (name,) in self._db.all(names, (self._collection,)):
            self._delete(name)

    def _place(self, key: int, points: Points) -> None:
        count = len(points.keys)
        axes = [*points.coordinates.T, np.full(count, np.nan)][:3]  # NaN is NULL
        columns = [np.full(count, key), points.keys, *axes, points.placed]
        columns.append(column_sums(columns))
        rows = zip(*(column.tolist() for column in columns), strict=True)
        self._db.executemany(
            "INSERT OR REPLACE INTO points (layout, record, x, y, z, placed, sum) "
            "SELECT ?1, key, ?3, ?4, ?5, ?6, ?7 FROM records WHERE key = ?2 AND collection = ?8",
            ((*row, self._collection) for row in rows),
        )

    def _delete(self, name: str) -> None:
        self._db.execute(
            "DELETE FROM points WHERE layout IN "
            "(SELECT key FROM layouts WHERE collection = ? AND name = ?)",
            (self._collection, name),
        )
        self._db.execute(
            "DELETE FROM layouts WHERE collection = ? AND name = ?", (self._collection, name)
        )
