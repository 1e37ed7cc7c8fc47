"""Clusterings of a collection: which records are in which cluster, and what clusters are like."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.errors import NothingFoundError, UsageError
from embcli.store.database import Database
from embcli.store.names import check_word

_COLUMNS = "key, name, method, arguments, measures, created"


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
    """

    key: int
    name: str
    method: str
    arguments: dict[str, Any]
    measures: dict[str, Any]
    created: str


@dataclass(frozen=True)
class Cluster:
    """One cluster.

    Attributes
    ----------
    number : int
        From 0 on; -1 for the records in none.
    name : str
    size : int
        Records it had when it was made.
    medoid : int or None
        Key of its most central record, if that is still there.
    cohesion : float or None
        Mean cosine of its records to their mean.
    keywords : list of str
        The most telling first.
    parent : int or None
        Its cluster in the next coarser level, if there is one.
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
        """List them, the oldest first."""
        rows = self._db.all(
            f"SELECT {_COLUMNS} FROM clusterings WHERE collection = ? ORDER BY key",
            (self._collection,),
        )
        return [_clustering(row) for row in rows]

    def get(self, name: str | None = None) -> Clustering:
        """Find one by name, or the last one.

        Raises
        ------
        NothingFoundError
            There is none; the message lists those there are.
        """
        found = self.all()
        for clustering in reversed(found):
            if name in (None, clustering.name):
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
        rows = self._db.all(
            "SELECT number, name, size, medoid, cohesion, keywords, parent FROM clusters "
            "WHERE clustering = ? ORDER BY number",
            (clustering.key,),
        )
        return [
            Cluster(number, name, size, medoid, cohesion, json.loads(keywords), parent)
            for number, name, size, medoid, cohesion, keywords, parent in rows
        ]

    def members(self, clustering: Clustering) -> Members:
        """Tell which cluster every record is in; those that came later are left out."""
        rows = self._db.all(
            "SELECT record, cluster, strength FROM assignments WHERE clustering = ? "
            "ORDER BY record",
            (clustering.key,),
        )
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        return Members(
            np.array(columns[0], np.int64),
            np.array(columns[1], np.int64),
            np.array(columns[2], np.float32),
        )

    def add(self, *levels: Found) -> Clustering:
        """Keep clusterings in the place of those of their names, in one transaction.

        Records that are gone meanwhile are passed over.

        Parameters
        ----------
        *levels : Found
            The last one becomes the collection's last one.

        Raises
        ------
        UsageError
            One has no possible name.
        """
        for found in levels:
            check_word(found.name, "clusters")
        with self._db.transaction():
            for found in levels:
                self._add(found)
        return self.get()

    def assign(self, clustering: Clustering, members: Members) -> None:
        """Put further records into clusters that are there, in one transaction."""
        with self._db.transaction():
            self._assign(clustering.key, members)
            self._db.execute(
                "UPDATE clusters SET size = (SELECT count(*) FROM assignments AS a "
                "WHERE a.clustering = clusters.clustering AND a.cluster = clusters.number) "
                "WHERE clustering = ?",
                (clustering.key,),
            )

    def name_clusters(self, clustering: Clustering, names: Mapping[int, str]) -> None:
        """Give clusters other names, in one transaction.

        Raises
        ------
        NothingFoundError
            There is no cluster of that number.
        """
        with self._db.transaction():
            for number, name in names.items():
                changed = self._db.execute(
                    "UPDATE clusters SET name = ? WHERE clustering = ? AND number = ?",
                    (name, clustering.key, number),
                )
                if not changed.rowcount:
                    raise NothingFoundError(f"{clustering.name!r} has no cluster {number}")

    def rename(self, old: str, new: str) -> None:
        """Rename a clustering.

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
            if any(each.name == new for each in self.all()):
                raise UsageError(f"collection {self._name!r} has clusters {new!r} already")
            self._db.execute("UPDATE clusterings SET name = ? WHERE key = ?", (new, found.key))

    def remove(self, name: str) -> None:
        """Delete a clustering.

        Raises
        ------
        NothingFoundError
            There is none of that name.
        """
        with self._db.transaction():
            self._delete(self.get(name).name)

    def clear(self) -> None:
        """Delete all of them. Call inside a transaction."""
        for clustering in self.all():
            self._delete(clustering.name)

    def _add(self, found: Found) -> None:
        self._delete(found.name)
        key = self._db.execute(
            "INSERT INTO clusterings (collection, name, method, arguments, measures, created) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (
                self._collection, found.name, found.method, json.dumps(dict(found.arguments)),
                json.dumps(dict(found.measures)),
                datetime.now(UTC).isoformat(timespec="milliseconds"),
            ),
        ).lastrowid  # fmt: skip
        assert key is not None
        self._assign(key, found.members)
        self._db.executemany(
            "INSERT INTO clusters (clustering, number, name, size, medoid, cohesion, keywords, "
            "parent) VALUES (?, ?, ?, ?, (SELECT key FROM records WHERE key = ?), ?, ?, ?)",
            (
                (
                    key, each.number, each.name, each.size, each.medoid, each.cohesion,
                    json.dumps(each.keywords, ensure_ascii=False), each.parent,
                )
                for each in found.clusters
            ),
        )  # fmt: skip

    def _assign(self, key: int, members: Members) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO assignments (clustering, record, cluster, strength) "
            "SELECT ?1, key, ?3, ?4 FROM records WHERE key = ?2 AND collection = ?5",
            (
                (key, record, cluster, strength, self._collection)
                for record, cluster, strength in zip(
                    *(column.tolist() for column in members), strict=True
                )
            ),
        )

    def _delete(self, name: str) -> None:
        ours = "(SELECT key FROM clusterings WHERE collection = ? AND name = ?)"
        for table in ("assignments", "clusters"):
            self._db.execute(
                f"DELETE FROM {table} WHERE clustering IN {ours}", (self._collection, name)
            )
        self._db.execute(
            "DELETE FROM clusterings WHERE collection = ? AND name = ?", (self._collection, name)
        )


def names_of(clusters: Iterable[Cluster]) -> dict[int, str]:
    """Give the names of clusters by number."""
    return {each.number: each.name for each in clusters}


def _clustering(row: tuple[Any, ...]) -> Clustering:
    key, name, method, arguments, measures, created = row
    return Clustering(key, name, method, json.loads(arguments), json.loads(measures), created)
