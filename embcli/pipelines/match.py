"""Matches between two collections in one space, beside what their strings alone would say."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_DB
from embcli.core import matching
from embcli.core.matching import Matches
from embcli.errors import ModelError, UsageError, counted
from embcli.pipelines.memory import NEEDS, ask
from embcli.pipelines.pairwise import Advance, Note, announced, note_means, reorder
from embcli.store import Collection, Record, Store

METHODS = ("nearest", "mutual", "assignment")
CANDIDATES = 32
# Cosines in one matrix, at most 256 MiB, of which SciPy makes a copy.
LARGEST = 1 << 25

_AT_ONCE = 1000
_STRINGS_AT_ONCE = 1 << 22
Row = dict[str, Any]


@dataclass(frozen=True)
class MatchOptions:
    """How to match.

    Parameters
    ----------
    method : {"nearest", "mutual", "assignment"}
    k : int
        Of ``nearest``, how many for each record of A; of ``mutual``, among how many of each
        other's nearest both must be.
    threshold : float, optional
        Least cosine.
    csls : int, optional
        Rank by CSLS with so many neighbours.
    candidates : int, optional
        Assign only among so many nearest of every record, on both sides. By default all pairs
        are looked at if there are `LARGEST` at most, else `CANDIDATES` nearest.
    edit : bool
        Compare the texts by edit distance, too.
    where_a, where_b : str, optional
        Only records that pass, see `embcli.store.where`.

    Raises
    ------
    UsageError
        They do not go together, or a number is not positive.
    """

    method: str = "nearest"
    k: int = 1
    threshold: float | None = None
    csls: int | None = None
    candidates: int | None = None
    edit: bool = False
    where_a: str | None = None
    where_b: str | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"no method {self.method!r} (there are: {', '.join(METHODS)})")
        if min(self.k, self.csls or 1, self.candidates or 1) < 1 or 0 in (
            self.csls,
            self.candidates,
        ):
            raise UsageError("--top, --csls and --candidates must be at least 1")
        one_to_one = self.method == "assignment"
        if one_to_one and (self.k > 1 or self.csls is not None):
            raise UsageError("--top and --csls are not for --method assignment")
        if not one_to_one and self.candidates is not None:
            raise UsageError("--candidates is for --method assignment")


@dataclass(frozen=True)
class Report:
    """What came of it: numbers of records, of pairs, and of pairs that strings would not make.

    `matched` records of A are in pairs. Of the pairs, `best` are of rank 1; in `elsewhere` of
    these another text of B is nearer by edit distance (None without edit distances).
    """

    of_a: int
    of_b: int
    pairs: int
    matched: int
    best: int
    elsewhere: int | None


def match(
    a: str,
    b: str,
    options: MatchOptions,
    *,
    write: Callable[[Iterable[Row]], None],
    db: str | os.PathLike[str] = DEFAULT_DB,
    db_b: str | os.PathLike[str] | None = None,
    note: Note = lambda message: None,
    advance: Advance = lambda done, total, count: None,
) -> Report:
    """Match the records of a collection with those of another, or with its own.

    Parameters
    ----------
    a, b : str
        Collections. If they are the same, no record is a match for itself.
    options : MatchOptions
    write : callable
        Takes the rows, in the order in which A is stored, then by rank: ``a_id, b_id, score,
        rank, a_text, b_text``. The score is the cosine. With CSLS there is ``csls``, which
        ranks, and with edit distances ``edit``, the Levenshtein similarity of both texts (1 is
        equal, 0 nothing in common), ``edit_rank``, the place that B has among all by that, and
        ``edit_best`` and ``edit_best_score``, which is first there.
    db : path
    db_b : path, optional
        The store of B, if it is another.
    note, advance : callable
        Told what a user should know, and how far it is.

    Returns
    -------
    report : Report

    Raises
    ------
    UsageError
        The collections are in different spaces, or a filter cannot be read.
    ModelError
        SciPy or RapidFuzz is needed and not installed.
    StoreError
    """
    if options.method == "assignment":
        _need("scipy", "--method assignment", "SciPy")
    if options.edit:
        _need("rapidfuzz", "--edit", "RapidFuzz")
    with ExitStack() as stack:
        store = stack.enter_context(Store(db, readonly=True))
        stack.enter_context(store.snapshot())
        other = store
        if db_b is not None and not _is_same_file(db, db_b):
            other = stack.enter_context(Store(db_b, readonly=True))
            stack.enter_context(other.snapshot())
        sources = store.collection(a), other.collection(b)
        _check_spaces(*sources)
        same = other is store and a == b
        for source in sources[:1] if same else sources:
            note_means(source, note)
        once = same and options.where_a == options.where_b
        filters = (options.where_a, options.where_b)[: 1 if once else 2]
        wanted = [
            None if where is None else source.filter(where)
            for source, where in zip(sources, filters, strict=False)
        ]
        sizes = [
            (len(source) if some is None else int(some[source.keys()].sum()), source.recipe.dim)
            for source, some in zip(sources, wanted, strict=False)
        ]
        ask(sizes, NEEDS["match"].of(sources[0]), note)
        left = _Side.load(sources[0], wanted[0])
        right = left if once else _Side.load(sources[1], wanted[1])
        found = _matched(left, right, _twins(left, right) if same else None, options, note, advance)
        # As A is stored; the numbering is by id.
        found = found.take(np.lexsort((found.ranks, left.keys[found.rows])))
        edits = None
        if options.edit:
            edits = _edits(left, right, found, _twins(left, right) if same else None, note, advance)
        write(_rows(left, right, found, options.csls is not None, edits))
        return Report(
            len(left.keys),
            len(right.keys),
            len(found.rows),
            len(np.unique(found.rows)),
            int((found.ranks == 1).sum()),
            None if edits is None else int(((edits.ranks > 1) & (found.ranks == 1)).sum()),
        )


@dataclass(frozen=True)
class _Side:
    """The records of a collection by id, so that the first of equals has the least."""

    source: Collection
    keys: NDArray[np.int64]
    ids: list[str]
    vectors: NDArray[np.float32]

    @classmethod
    def load(cls, source: Collection, wanted: NDArray[np.bool_] | None) -> "_Side":
        keys, vectors = source.matrix(wanted)
        named = source.ids_by_key(keys.tolist())
        ids = [named[key] for key in keys.tolist()]
        order = np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)
        reorder(vectors, order)
        return cls(source, keys[order], sorted(ids), vectors)

    def records(self, rows: NDArray[np.int64]) -> dict[int, Record]:
        return self.source.get_by_key(np.unique(self.keys[rows]).tolist())

    def texts(self, rows: NDArray[np.int64]) -> list[str]:
        records = self.records(rows)
        return [records[key].text for key in self.keys[rows].tolist()]


@dataclass(frozen=True)
class _Edits:
    """For every pair: its similarity, its rank by that, and the best of B with its own."""

    scores: NDArray[np.float64]
    ranks: NDArray[np.int64]
    best: NDArray[np.int64]
    best_scores: NDArray[np.float64]


def _matched(
    left: _Side,
    right: _Side,
    twins: NDArray[np.int64] | None,
    options: MatchOptions,
    note: Note,
    advance: Advance,
) -> Matches:
    a, b = left.vectors, right.vectors
    back = None if twins is None else _inverse(twins, len(b))
    passes = 2 * (options.csls is not None) + 1 + (options.method != "nearest")
    what = f"comparing {len(a):,} records with {len(b):,}"
    what += f", the first of {passes} times" if passes > 1 else ""
    first = [announced(advance, note, what)]

    def near(k: int, density: Any = None) -> Matches:
        steps = first.pop() if first else advance
        return matching.nearest(a, b, k, twins=twins, density=density, advance=steps)

    def near_back(k: int, density: Any = None) -> Matches:
        return matching.nearest(b, a, k, twins=back, density=density, advance=advance)

    if options.method == "assignment":
        return _assigned(left, right, twins, options, near, near_back, note)
    density = None
    if options.csls is not None:
        density = (
            matching.densities(near(options.csls), len(a)),
            matching.densities(near_back(options.csls), len(b)),
        )
    found = near(options.k, density)
    if options.method == "mutual":
        found = matching.mutual(found, near_back(options.k, density and density[::-1]))
    return found if options.threshold is None else found.take(found.cosines >= options.threshold)


def _assigned(
    left: _Side,
    right: _Side,
    twins: NDArray[np.int64] | None,
    options: MatchOptions,
    near: Callable[[int], Matches],
    near_back: Callable[[int], Matches],
    note: Note,
) -> Matches:
    a, b = left.vectors, right.vectors
    if options.candidates is None and len(a) * len(b) <= LARGEST:
        return matching.assign_all(a, b, threshold=options.threshold, twins=twins)
    k = options.candidates or CANDIDATES
    forward, backward = near(k), near_back(k)
    pairs = (
        np.concatenate([forward.rows, backward.columns]),
        np.concatenate([forward.columns, backward.rows]),
    )
    found = matching.assign_among(a, b, pairs, threshold=options.threshold)
    complete = _is_complete(forward, k >= len(b), k, options.threshold) or _is_complete(
        backward, k >= len(a), k, options.threshold
    )
    if not complete:
        alone = min(len(a), len(b)) - len(found.rows)
        left_over = f", and {counted(alone, 'record')} of the smaller side found no partner"
        note(
            f"assigned among the {k} nearest of every record, not among all {len(a):,} × "
            f"{len(b):,} pairs: the total may be below the greatest"
            + (left_over if alone and options.threshold is None else "")
            + "; --candidates takes more"
        )
    return found


def _is_complete(found: Matches, every: bool, k: int, threshold: float | None) -> bool:
    """Tell whether the k nearest of every row hold all pairs that may be assigned."""
    if every or threshold is None:
        return every
    near = found.rows[found.cosines >= threshold]
    return int(np.bincount(near, minlength=1).max()) < k


def _edits(
    left: _Side,
    right: _Side,
    found: Matches,
    twins: NDArray[np.int64] | None,
    note: Note,
    advance: Advance,
) -> _Edits:
    """Compare the texts of A that have matches with all texts of B."""
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    n, m = len(found.rows), len(right.keys)
    result = _Edits(np.empty(n), np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n))
    texts = right.texts(np.arange(m)) if n else []
    distinct = len(np.unique(found.rows))
    steps = announced(advance, note, f"edit distances of {distinct:,} × {m:,} texts")
    each = [list(group) for _, group in groupby(range(n), key=found.rows.__getitem__)]
    at_once = max(1, _STRINGS_AT_ONCE // max(m, 1))
    for start in range(0, len(each), at_once):
        part = each[start : start + at_once]
        rows = found.rows[[pairs[0] for pairs in part]]
        similar = cdist(
            left.texts(rows), texts, scorer=Levenshtein.normalized_similarity,
            dtype=np.float64, workers=-1,
        )  # fmt: skip
        if twins is not None:
            same = np.flatnonzero(twins[rows] >= 0)
            similar[same, twins[rows][same]] = -1
        best = similar.argmax(axis=1)
        for line, pairs in enumerate(part):
            own = similar[line, found.columns[pairs]]
            result.scores[pairs] = own
            result.ranks[pairs] = (similar[line] > own[:, None]).sum(axis=1) + 1
            result.best[pairs] = best[line]
            result.best_scores[pairs] = similar[line, best[line]]
        steps(start + len(part), len(each), start + len(part))
    return result


def _rows(
    left: _Side, right: _Side, found: Matches, csls: bool, edits: _Edits | None
) -> Iterator[Row]:
    for start in range(0, len(found.rows), _AT_ONCE):
        part = found.take(np.arange(start, min(start + _AT_ONCE, len(found.rows))))
        texts = zip(left.texts(part.rows), right.texts(part.columns), strict=True)
        for i, (a_text, b_text) in enumerate(texts):
            row: Row = {
                "a_id": left.ids[part.rows[i]],
                "b_id": right.ids[part.columns[i]],
                "score": float(part.cosines[i]),
                "rank": int(part.ranks[i]),
            }
            if csls:
                row["csls"] = float(part.values[i])
            if edits is not None:
                row |= {
                    "edit": round(float(edits.scores[start + i]), 9),
                    "edit_rank": int(edits.ranks[start + i]),
                    "edit_best": right.ids[edits.best[start + i]],
                    "edit_best_score": round(float(edits.best_scores[start + i]), 9),
                }
            yield row | {"a_text": a_text, "b_text": b_text}


def _twins(left: _Side, right: _Side) -> NDArray[np.int64]:
    """Find every record of A in B, which are both by id; -1 where it is not."""
    at = {id: row for row, id in enumerate(right.ids)}
    return np.array([at.get(id, -1) for id in left.ids], np.int64)


def _inverse(twins: NDArray[np.int64], m: int) -> NDArray[np.int64]:
    back = np.full(m, -1)
    rows = np.flatnonzero(twins >= 0)
    back[twins[rows]] = rows
    return back


def _check_spaces(a: Collection, b: Collection) -> None:
    if a.recipe.hash != b.recipe.hash:
        raise UsageError(
            f"collections {a.name!r} and {b.name!r} are in different spaces "
            f"({'; '.join(a.recipe.differences(b.recipe))}), where cosines mean nothing",
            hint=f"encode one again with the other's model: "
            f"embcli encode FILES -m {a.recipe.model} -c NAME; or map it: embcli align fit, "
            "embcli align apply",
        )


def _is_same_file(db: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    one, two = Path(db), Path(other)
    return one.exists() and two.exists() and one.samefile(two)


def _need(module: str, what: str, package: str) -> None:
    if find_spec(module) is None:
        raise ModelError(
            f"{what} takes {package}, which is not installed",
            hint="pip install 'embcli[match]'",
        )
