"""What a clustering of a collection looks like: its clusters, their records, what is odd."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_DB
from embcli.core.clustering.describe import outliers as outlier_scores
from embcli.core.cosine import unit32
from embcli.core.duplicates import star_groups
from embcli.errors import InputError, NothingFoundError, counted
from embcli.pipelines.dedup import THRESHOLD
from embcli.pipelines.memory import NEEDS, ask
from embcli.pipelines.pairwise import Advance, Note, note_means
from embcli.pipelines.sides import Side, check_whole
from embcli.store import Cluster, Clustering, Collection, Members, Store

Row = dict[str, Any]
Ints = NDArray[np.int64]

_TEXTS_AT_ONCE = 1000
_VECTORS_AT_ONCE = 1 << 16


def clustering_rows(collection: Collection) -> list[Row]:
    """Describe the clusterings of a collection, the oldest first."""
    return [
        {
            "name": each.name,
            "method": each.method,
            "clusters": each.measures.get("clusters"),
            "noise": each.measures.get("noise"),
            "silhouette": each.measures.get("silhouette"),
            "v_measure": each.measures.get("v_measure"),
            "created": each.created,
            "arguments": each.arguments,
            "measures": each.measures,
        }
        for each in collection.clusterings.all()
    ]


def cluster_rows(collection: Collection, clusters: list[Cluster]) -> list[Row]:
    """Describe clusters: name, size, keywords and the record in the middle."""
    medoids = collection.get_by_key([each.medoid for each in clusters if each.medoid is not None])
    rows = []
    for each in clusters:
        medoid = medoids.get(each.medoid) if each.medoid is not None else None
        rows.append(
            {
                "cluster": each.number,
                "name": each.name,
                "size": each.size,
                "cohesion": each.cohesion,
                "keywords": each.keywords,
                "medoid": medoid.id if medoid else None,
                "text": medoid.text if medoid else None,
                "parent": each.parent,
            }
        )
    return rows


def record_rows(
    collection: Collection, clustering: Clustering, number: int | None = None
) -> Iterator[Row]:
    """Give the records with their clusters, in the order stored.

    Parameters
    ----------
    collection : Collection
    clustering : Clustering
    number : int, optional
        Only those of this cluster, the firmest first.

    Raises
    ------
    NothingFoundError
        There is no such cluster.
    """
    names = collection.clusterings.names(clustering)
    members = collection.clusterings.members(clustering)
    if number is not None:
        if number not in names:
            raise NothingFoundError(
                f"{clustering.name!r} has no cluster {number} (it has {min(names)} to {max(names)})"
            )
        rows = np.flatnonzero(members.clusters == number)
        rows = rows[np.argsort(-members.strengths[rows], kind="stable")]
        members = members.take(rows)
    for start in range(0, len(members.keys), _TEXTS_AT_ONCE):
        part = members.take(slice(start, start + _TEXTS_AT_ONCE))
        records = collection.get_by_key(part.keys.tolist())
        for key, cluster, strength in zip(*(column.tolist() for column in part), strict=True):
            yield {
                "id": records[key].id,
                "cluster": cluster,
                "name": names[cluster],
                "strength": round(strength, 6),
                "text": records[key].text,
                "meta": records[key].meta,
            }


def odd_rows(
    collection: Collection,
    clustering: Clustering,
    k: int,
    *,
    note: Note = lambda message: None,
    advance: Advance = lambda done, total, count: None,
) -> list[Row]:
    """List the records that are farthest from their cluster, and those said twice.

    Parameters
    ----------
    collection : Collection
    clustering : Clustering
    k : int
        How many of either.
    note, advance : callable

    Returns
    -------
    rows : list of dict
        ``kind`` is "outlier", with a robust z of the distance to the cluster's mean as ``score``
        (see `embcli.core.clustering.describe.outliers`), or "duplicate", with the cosine to the
        record ``of``.
    """
    names = collection.clusterings.names(clustering)
    side, members = _both(collection, clustering, note)
    vectors, labels = unit32(side.vectors, out=side.vectors), members.clusters
    scores = outlier_scores(vectors, labels)
    far = np.argsort(-scores, kind="stable")[:k]
    grouping = star_groups(vectors, THRESHOLD, advance)
    twice = np.flatnonzero(grouping.kept != np.arange(len(vectors)))
    near = twice[np.argsort(-grouping.scores[twice], kind="stable")[:k]]
    if len(twice) > k:
        note(
            f"{counted(len(twice), 'duplicate')} at a cosine of {THRESHOLD}: embcli dedup -c "
            f"{collection.name} shows all of them"
        )
    rows: list[tuple[int, str, float, int | None]]
    rows = [(row, "outlier", float(scores[row]), None) for row in far.tolist() if scores[row] > 0]
    rows += [
        (row, "duplicate", float(grouping.scores[row]), int(grouping.kept[row]))
        for row in near.tolist()
    ]
    records = collection.get_by_key(
        {int(side.keys[r]) for row in rows for r in row[::3] if r is not None}
    )
    return [
        {
            "kind": kind,
            "id": records[int(side.keys[row])].id,
            "cluster": int(labels[row]),
            "name": names[int(labels[row])],
            "score": score,
            "of": None if of is None else records[int(side.keys[of])].id,
            "text": records[int(side.keys[row])].text,
        }
        for row, kind, score, of in rows
    ]


def assign_new(
    name: str | None,
    collection: str,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    note: Note = lambda message: None,
) -> tuple[Clustering, int]:
    """Put the records that came later into the cluster whose mean is nearest.

    If the clustering is of records that pass a filter, they have to pass it, too.

    Returns
    -------
    clustering : Clustering
    assigned : int
        Number of records.

    Raises
    ------
    NothingFoundError
        There is no such clustering.
    """
    with Store.existing(db) as store:
        source = store.collection(collection)
        with store.snapshot():
            clustering = source.clusterings.get(name)
            check_whole(source)
            note_means(source, note)
            members = source.clusterings.members(clustering)
            inside = members.take(members.clusters >= 0)
            if not len(inside.keys):
                raise InputError(f"{clustering.name!r} has no cluster but noise any more")
            keys = np.unique(source.live()[0])
            later = ~np.isin(keys, members.keys)
            if (where := clustering.arguments.get("where")) is not None:
                later &= source.filter(where)[keys]
            found = _nearest_means(source, inside, keys[later])
        if len(found.keys):
            source.clusterings.assign(clustering, found)
    return clustering, len(found.keys)


def _nearest_means(source: Collection, inside: Members, keys: Ints) -> Members:
    """Put records into the cluster with the nearest mean, those with a vector of zeros left out."""
    from embcli.core.clustering.centres import assign, margins, sums

    # Of clusters that have lost their members nothing is known any more.
    numbers, labels = np.unique(inside.clusters, return_inverse=True)
    total = np.zeros((len(numbers), source.recipe.dim))
    if len(keys):
        for rows, vectors in _parts(source, inside.keys):
            total += sums(vectors, labels[rows], len(numbers))
    centres = unit32(total)
    found = []
    for rows, vectors in _parts(source, keys):
        there = vectors.any(axis=1)
        near = assign(vectors[there], centres)
        strengths = margins(near.best, near.second)
        found.append(Members(keys[rows][there], numbers[near.labels], strengths))
    if not found:
        return inside.take(slice(0, 0))
    return Members(*map(np.concatenate, zip(*found, strict=True)))


def _parts(source: Collection, keys: Ints) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Read vectors of records at length 1, some at a time; say which of the keys they are of."""
    last = int(source.live()[0].max(initial=0))
    for start in range(0, len(keys), _VECTORS_AT_ONCE):
        rows = slice(start, start + _VECTORS_AT_ONCE)
        wanted = np.zeros(last + 1, np.bool_)
        wanted[keys[rows]] = True
        vectors = source.matrix(wanted)[1]
        yield rows, unit32(vectors, out=vectors)


def ask_for_odd(collection: Collection) -> None:
    """Refuse at once what `odd_rows` has no memory for."""
    size = len(collection), collection.recipe.dim
    ask([size], NEEDS["dedup"].of(collection), lambda message: None)


def _both(collection: Collection, clustering: Clustering, note: Note) -> tuple[Side, Members]:
    """Read the records of a clustering with their vectors."""
    members = collection.clusterings.members(clustering)
    side = Side.load(collection, note, need=NEEDS["dedup"])
    there = np.isin(side.keys, members.keys) & side.vectors.any(axis=1)
    if not there.all():
        side = Side(collection, side.keys[there], side.vectors[there])
    return side, members.take(np.isin(members.keys, side.keys))
