"""Near-duplicates of a collection: found, one of each group kept, the others named or deleted."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.core.duplicates import Grouping, single_groups, star_groups
from embcli.errors import UsageError
from embcli.pipelines.memory import NEEDS, ask
from embcli.pipelines.pairwise import Advance, Note, announced, note_means, reorder
from embcli.store import Collection, Store

# Of the pairs of STS-B that are at least this near, 89 % mean the same or nearly so (4 or more of
# 5, people say), with MiniLM as with the static table; at .9 it is 80 %.
THRESHOLD = 0.95
LINKAGES = {"star": star_groups, "single": single_groups}
KEEP = "first, last, longest, shortest, max:FIELD, min:FIELD"

_AT_ONCE = 1000
Row = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """How many records were compared, and what was found among them.

    `duplicates` are those that are not kept; `deleted` of them are gone.
    """

    records: int
    groups: int
    duplicates: int
    deleted: int


def dedup(
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    *,
    write: Callable[[Iterable[Row]], None],
    threshold: float = THRESHOLD,
    linkage: str = "star",
    keep: str = "first",
    where: str | None = None,
    delete: bool = False,
    note: Note = lambda message: None,
    advance: Advance = lambda done, total, count: None,
) -> Report:
    """Find groups of records that are near to each other, and keep one of each.

    Parameters
    ----------
    db : path
    collection : str
    write : callable
        Takes the rows, group by group in the order stored, the kept record first, then by
        falling score: ``group, keep, id, score, text, meta``. The score is the cosine with the
        record that is kept.
    threshold : float
        Least cosine, above 0 and at most 1.
    linkage : {"star", "single"}
        See `embcli.core.duplicates`: near the one kept, or connected with it by a chain.
    keep : str
        ``first``, ``last``, ``longest``, ``shortest``, ``max:FIELD`` or ``min:FIELD``; ties by
        the order stored, records without the field last.
    where : str, optional
        Only records that pass this filter, see `embcli.store.where`.
    delete : bool
        Delete those not kept, in one transaction, once all rows are written.
    note, advance : callable
        Told what a user should know, and how far it is.

    Returns
    -------
    report : Report

    Raises
    ------
    UsageError
        A parameter is not one of these.
    StoreError
        Among others: a record was changed while records were compared; nothing is deleted.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"--threshold must be above 0 and at most 1, not {threshold:g}")
    if linkage not in LINKAGES:
        raise UsageError(f"no linkage {linkage!r} (there are: {', '.join(LINKAGES)})")
    arguments = {"threshold": threshold, "linkage": linkage, "keep": keep, "where": where}

    def found_in(source: Collection) -> _Duplicates:
        note_means(source, note)
        found = _find(source, threshold, linkage, keep, where, note, advance)
        write(found.rows(source))
        return found

    if not delete:
        with Store(db, readonly=True) as store, store.snapshot():
            return found_in(store.collection(collection)).report(0)
    with Store.existing(db) as store:
        source = store.collection(collection)
        with store.run("dedup", collection, arguments) as counts:
            with store.snapshot():
                found = found_in(source)
                dropped, hashes = found.dropped_and_hashes(source)
            gone = source.delete(dropped, hashes)
            counts |= {"records": len(found.stored), "groups": found.groups, "deleted": gone}
        return found.report(gone)


@dataclass(frozen=True)
class _Duplicates:
    """Groups of more than one: rows of `stored` by group, the kept one first.

    Attributes
    ----------
    stored : int64 array, shape (n,)
        Keys of all records, in the order they may be kept.
    grouping : Grouping
    members : int64 array, shape (m,)
        Those in groups.
    """

    stored: NDArray[np.int64]
    grouping: Grouping
    members: NDArray[np.int64]

    @property
    def groups(self) -> int:
        return int(self._is_kept().sum())

    def report(self, deleted: int) -> Report:
        dropped = len(self.members) - self.groups
        return Report(len(self.stored), self.groups, dropped, deleted)

    def dropped_and_hashes(self, source: Collection) -> tuple[list[str], dict[str, str]]:
        """Ids of those not kept, and the hashes of all members by id."""
        keys = self.stored[self.members].tolist()
        ids, hashes = source.ids_by_key(keys), source.hashes_by_key(keys)
        pairs = zip(keys, self._is_kept().tolist(), strict=True)
        return [ids[key] for key, kept in pairs if not kept], {
            ids[key]: hashes[key] for key in keys
        }

    def rows(self, source: Collection) -> Iterator[Row]:
        numbers = np.cumsum(self._is_kept())
        for start in range(0, len(self.members), _AT_ONCE):
            part = self.members[start : start + _AT_ONCE]
            keys = self.stored[part].tolist()
            records = source.get_by_key(keys)
            kept, scores = (column[part].tolist() for column in self.grouping)
            group = numbers[start : start + _AT_ONCE].tolist()
            for i, (row, key) in enumerate(zip(part.tolist(), keys, strict=True)):
                yield {
                    "group": group[i],
                    "keep": kept[i] == row,
                    "id": records[key].id,
                    "score": scores[i],
                    "text": records[key].text,
                    "meta": records[key].meta,
                }

    def _is_kept(self) -> NDArray[np.bool_]:
        kept: NDArray[np.bool_] = self.grouping.kept[self.members] == self.members
        return kept


def _find(
    source: Collection,
    threshold: float,
    linkage: str,
    keep: str,
    where: str | None,
    note: Note,
    advance: Advance,
) -> _Duplicates:
    wanted = None if where is None else source.filter(where)
    n = len(source) if wanted is None else int(wanted[source.keys()].sum())
    ask([(n, source.recipe.dim)], NEEDS["dedup"].of(source), note)
    keys, vectors = source.matrix(wanted)
    if keep != "first":
        order = _by_right_to_stay(source, keys, keep)
        keys = keys[order]
        reorder(vectors, order)
    what = f"comparing {len(keys):,} records with each other"
    grouping = LINKAGES[linkage](vectors, threshold, announced(advance, note, what))
    _join_equal_texts(source, keys, vectors, grouping)
    counts = np.bincount(grouping.kept, minlength=len(keys))
    members = np.flatnonzero(counts[grouping.kept] > 1)
    kept = grouping.kept[members]
    ranked = np.lexsort((keys[members], -grouping.scores[members], kept != members, keys[kept]))
    return _Duplicates(keys, grouping, members[ranked])


def _by_right_to_stay(source: Collection, keys: NDArray[np.int64], keep: str) -> NDArray[np.int64]:
    """Order records so that the first of any group is the one to keep, shape (n,)."""
    if keep == "last":
        return np.arange(len(keys))[::-1]
    rule, _, field = keep.partition(":")
    if keep in ("longest", "shortest"):
        lengths = source.lengths()
        sizes = np.array([lengths[key] or 0 for key in keys.tolist()])
        return np.argsort(-sizes if keep == "longest" else sizes, kind="stable")
    if rule not in ("max", "min") or not field:
        raise UsageError(f"no --keep {keep!r} (there are: {KEEP})")
    values = source.values(field)
    known = [row for row, key in enumerate(keys.tolist()) if key in values]
    if not known and len(keys):
        raise UsageError(
            f"--keep {keep}: no record has a field {field!r}",
            hint=f"embcli collections info {source.name}",
        )

    def rank(row: int) -> tuple[bool, Any]:
        value = values[int(keys[row])]
        return isinstance(value, str), value  # numbers before texts

    known.sort(key=rank, reverse=rule == "max")
    return np.array([*known, *np.setdiff1d(np.arange(len(keys)), known)], np.int64)


def _join_equal_texts(
    source: Collection,
    keys: NDArray[np.int64],
    vectors: NDArray[np.float32],
    grouping: Grouping,
) -> None:
    """Group vectors of zeros, near to nothing, by what was encoded; in place."""
    empty = np.flatnonzero(~vectors.any(axis=1)).tolist()
    hashes = source.hashes_by_key(keys[empty].tolist())
    first: dict[str, int] = {}
    for row in empty:
        grouping.kept[row] = first.setdefault(hashes[int(keys[row])], row)
        grouping.scores[row] = 1
