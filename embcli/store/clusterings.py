"""Clusterings of a collection: which records are in which cluster, and what clusters are like."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.errors import NothingFoundError, StoreError, UsageError
from embcli.store import checks
from embcli.store.database import Database
from embcli.store.finding_checks import (
    COLUMNS,
    checked_columns,
    column_sums,
    differing,
    seal_clusters,
)
from embcli.store.names import check_word


@dataclass(frozen=True)
class Clustering:
    """One clustering of a collection.

    Attributes
    ----------
    key : int
    name, method : str
    arguments : dict
        How it was made.
    measures : dict
        What was found out about it.
    created : str
    base : int or None
        Key of the clustering that this is a coarser level of.
    """

    key: int
    name: str
    method: str
    arguments: dict[str, Any]
    measures: dict[str, Any]
    created: str
    base: int | None = None


@dataclass(frozen=True)
class Cluster:
    """One cluster.

    Attributes
    ----------
    number : int
        From 0 on; -1 for the records in none.
    name : str
    size : int
        Records in it.
    medoid : int or None
        Key of its most central record, if that is still there.
    cohesion : float or None
        Mean cosine of its records to their mean.
    keywords : list of str
        The most telling first.
    parent : int or None
        The cluster of the next coarser level that most of its records are in; None if there is no
        such level, or they are noise there.
    """

    number: int
    name: str
    size: int
    medoid: int | None
    cohesion: float | None
    keywords: list[str]
    parent: int | None = None


class Members(NamedTuple):
    """Which cluster records are in.

    Attributes
    ----------
    keys : int64 array, shape (n,)
        Of the records, rising.
    clusters : int64 array, shape (n,)
    strengths : float32 array, shape (n,)
    """

    keys: NDArray[np.int64]
    clusters: NDArray[np.int64]
    strengths: NDArray[np.float32]

    def take(self, which: NDArray[Any] | slice) -> "Members":
        """Keep some of the records."""
        return Members(self.keys[which], self.clusters[which], self.strengths[which])


@dataclass(frozen=True, eq=False)
class Found:
    """A clustering to be kept; see `Clustering` and `Members`."""

    name: str
    method: str
    arguments: Mapping[str, Any]
    measures: Mapping[str, Any]
    clusters: Sequence[Cluster]
    members: Members


class Clusterings:
    """The clusterings of one collection.

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

    def all(self) -> list[Clustering]:
        """List them, the oldest first, coarser levels after what they are levels of."""
        rows = checks.checked_rows(
            self._db, "clusterings", "collection = ? ORDER BY coalesce(base, key), key",
            (self._collection,),
        )  # fmt: skip
        return [_clustering(row) for row in rows]

    def by_name(self) -> dict[str, int]:
        """Give their keys by name, the last one that is no coarser level at the end."""
        found = sorted(self.all(), key=lambda each: (each.base is None, each.key))
        return {each.name: each.key for each in found}

    def levels(self, clustering: Clustering) -> list[Clustering]:
        """List the coarser levels of a clustering, the finest first."""
        return [each for each in self.all() if each.base == clustering.key]

    def get(self, name: str | None = None) -> Clustering:
        """Find one by name, or the last one that is no coarser level.

        Raises
        ------
        NothingFoundError
            There is none; the message lists those there are.
        """
        found = self.all()
        for clustering in reversed(found):
            if clustering.name == name or (name is None and clustering.base is None):
                return clustering
        if not found:
            raise NothingFoundError(
                f"collection {self._name!r} has no clusters yet",
                hint=f"embcli cluster -c {self._name}",
            )
        names = ", ".join(clustering.name for clustering in found)
        raise NothingFoundError(
            f"collection {self._name!r} has no clustering {name!r} (there are: {names})"
        )

    def clusters(self, clustering: Clustering) -> list[Cluster]:
        """List the clusters by number."""
        numbers, counts = np.unique(self.members(clustering).clusters, return_counts=True)
        sizes = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
        return [
            Cluster(number, name, sizes.get(number, 0), medoid, cohesion, json.loads(words), parent)
            for number, name, medoid, cohesion, words, parent in self._rows(clustering)
        ]

    def names(self, clustering: Clustering) -> dict[int, str]:
        """Give the names of clusters by number."""
        return {number: name for number, name, *_ in self._rows(clustering)}

    def _rows(self, clustering: Clustering) -> list[tuple[Any, ...]]:
        """Read what there is of clusters, but for their sizes, and compare it with checksums."""
        rows = self._db.all(
            f"SELECT {', '.join(COLUMNS['clusters'])}, sum FROM clusters "
            "WHERE clustering = ? ORDER BY number",
            (clustering.key,),
        )
        if any(differing("clusters", rows)):
            raise checks.damaged(
                self._db, f"clusters of {clustering.name!r} are not what was stored"
            )
        return [row[1:-1] for row in rows]

    def members(self, clustering: Clustering) -> Members:
        """Tell which cluster every record is in; those that came later are left out."""
        what = f"cluster assignments of {clustering.name!r}"
        keys, clusters, strengths = checked_columns(self._db, "assignments", clustering.key, what)
        return Members(keys, clusters, strengths.astype(np.float32))

    def add(self, found: Found, levels: Sequence[Found] = ()) -> Clustering:
        """Keep a clustering in the place of that of its name, in one transaction.

        Records that are gone meanwhile are passed over.

        Parameters
        ----------
        found : Found
            Becomes the collection's last one.
        levels : sequence of Found
            Coarser ones, the finest first, which go with it when it is renamed or deleted.

        Raises
        ------
        UsageError
            One has no possible name, or that of a clustering that is no level of this one.
        """
        for each in (found, *levels):
            check_word(each.name, "clusters")
        with self._db.transaction():
            self._delete(found.name)
            taken = self.by_name()
            for level in levels:
                if level.name in taken:
                    raise UsageError(
                        f"collection {self._name!r} has clusters {level.name!r} already",
                        hint="another --name",
                    )
            base = self._add(found, None)
            for level in levels:
                self._add(level, base)
        return self.get(found.name)

    def assign(self, clustering: Clustering, members: Members) -> None:
        """Put further records into clusters that are there, in one transaction.

        Records are put into the clusters above these in coarser levels, too.

        Raises
        ------
        StoreError
            The clustering is gone.
        """
        with self._db.transaction():
            if clustering.key not in self.by_name().values():
                raise StoreError(
                    f"clusters {clustering.name!r} were deleted or made anew meanwhile",
                    hint="the same command again",
                )
            self._assign(clustering.key, members)
            finer = clustering
            for level in self.levels(clustering):
                parents = {number: parent for number, *_, parent in self._rows(finer)}
                above = [parents.get(number) for number in members.clusters.tolist()]
                numbers = np.array([-1 if each is None else each for each in above], np.int64)
                members = members._replace(clusters=numbers)
                self._assign(level.key, members)
                finer = level

    def name_clusters(self, clustering: Clustering, names: Mapping[int, str]) -> None:
        """Give clusters other names, in one transaction.

        Raises
        ------
        NothingFoundError
            There is no cluster of that number.
        """
        with self._db.transaction():
            self._rows(clustering)  # else what is damaged would be sealed
            for number, name in names.items():
                changed = self._db.execute(
                    "UPDATE clusters SET name = ? WHERE clustering = ? AND number = ?",
                    (name, clustering.key, number),
                )
                if not changed.rowcount:
                    raise NothingFoundError(f"{clustering.name!r} has no cluster {number}")
            seal_clusters(self._db, clustering.key)

    def rename(self, old: str, new: str) -> None:
        """Rename a clustering, and its coarser levels with it.

        Raises
        ------
        NothingFoundError
            There is no clustering `old`.
        UsageError
            There is a clustering `new` already, or it is not a possible name.
        """
        check_word(new, "clusters")
        with self._db.transaction():
            found = self.get(old)
            renamed = {found.key: new}
            for level in self.levels(found):
                renamed[level.key] = f"{new}{level.name.removeprefix(old)}"
            for name in renamed.values():
                if name in self.by_name():
                    raise UsageError(f"collection {self._name!r} has clusters {name!r} already")
            for key, name in renamed.items():
                self._db.execute("UPDATE clusterings SET name = ? WHERE key = ?", (name, key))
                checks.seal(self._db, "clusterings", key)

    def remove(self, name: str) -> None:
        """Delete a clustering and its coarser levels.

        Raises
        ------
        NothingFoundError
            There is none of that name.
        """
        with self._db.transaction():
            self._delete(self.get(name).name)

    def clear(self) -> None:
        """Delete all of them. Call inside a transaction."""
        names = "SELECT name FROM clusterings WHERE collection = ?"
        for (name,) in self._db.all(names, (self._collection,)):
            self._delete(name)

    def _add(self, found: Found, base: int | None) -> int:
        key = self._db.execute(
            "INSERT INTO clusterings (collection, name, method, arguments, measures, created, "
            "base) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                self._collection, found.name, found.method, _json(found.arguments),
                _json(found.measures), datetime.now(UTC).isoformat(timespec="milliseconds"), base,
            ),
        ).lastrowid  # fmt: skip
        assert key is not None
        checks.seal(self._db, "clusterings", key)
        self._assign(key, found.members)
        self._db.executemany(
            "INSERT INTO clusters (clustering, number, name, medoid, cohesion, keywords, parent) "
            "VALUES (?, ?, ?, (SELECT key FROM records WHERE key = ?), ?, ?, ?)",
            (
                (
                    key, each.number, each.name, each.medoid, each.cohesion,
                    json.dumps(each.keywords, ensure_ascii=False), each.parent,
                )
                for each in found.clusters
            ),
        )  # fmt: skip
        seal_clusters(self._db, key)
        return key

    def _assign(self, key: int, members: Members) -> None:
        columns: list[NDArray[Any]] = [np.full(len(members.keys), key), *members]
        columns.append(column_sums(columns))
        rows = zip(*(column.tolist() for column in columns), strict=True)
        self._db.executemany(
            "INSERT OR REPLACE INTO assignments (clustering, record, cluster, strength, sum) "
            "SELECT ?1, key, ?3, ?4, ?5 FROM records WHERE key = ?2 AND collection = ?6",
            ((*row, self._collection) for row in rows),
        )

    def _delete(self, name: str) -> None:
        """Delete a clustering with its levels, if it is there."""
        key = self._db.value(
            "SELECT key FROM clusterings WHERE collection = ? AND name = ?",
            (self._collection, name),
        )
        rows = self._db.all("SELECT key FROM clusterings WHERE key = ?1 OR base = ?1", (key,))
        for (each,) in rows:
            self._db.execute("DELETE FROM assignments WHERE clustering = ?", (each,))
            self._db.execute("DELETE FROM clusters WHERE clustering = ?", (each,))
            self._db.execute("DELETE FROM clusterings WHERE key = ?", (each,))


def _clustering(row: tuple[Any, ...]) -> Clustering:
    key, _, name, method, arguments, measures, created, base = row
    return Clustering(
        key, name, method, json.loads(arguments), json.loads(measures), created, base
    )  # fmt: skip


def _json(values: Mapping[str, Any]) -> str:
    """Write JSON that every reader takes: what is no finite number is null."""
    plain = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
    return json.dumps(plain, ensure_ascii=False, allow_nan=False)
