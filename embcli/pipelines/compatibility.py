"""Whether vectors of an old model can stay while queries go to a new one."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.core import judged as measuring
from embcli.core.alignment.retrieval import penalties
from embcli.core.judged import MEASURES, Judged
from embcli.core.maps import Map, Transform
from embcli.core.significance import randomization_test, sign_test
from embcli.encoders import is_quick, load_encoder, options_of
from embcli.encoders.recipe import Recipe
from embcli.errors import InputError, ModelError, UsageError, counted
from embcli.formats import Problem
from embcli.formats.trec import Judgments, read_judgments
from embcli.pipelines.pairwise import Note
from embcli.pipelines.queries import QueryEncoder, QueryOptions
from embcli.pipelines.search import read_queries
from embcli.pipelines.sides import Side
from embcli.store import Store

RETRIEVALS = ("nn", "csls")
CROSS, OLD, NEW = "new_to_old", "old_to_old", "new_to_new"

_ROWS = 4096
# Two figures that are equal may differ by this because they were added up in different orders.
_ROUNDING = 1e-12
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Figure:
    """A measure of the new queries on the old vectors, and of what they are held against.

    Attributes
    ----------
    retrieval : {"nn", "csls"}
        By cosine, or by CSLS: twice the cosine, less the mean cosine of the document with the
        ten queries of this evaluation that are nearest to it, led the same way. What is taken
        away for a query's own neighbourhood is the same for all documents and changes no rank.
    measure : str
        See `embcli.core.judged.figures`.
    per_query : dict of str to float64 array, shape (n_queries,)
        By ``new_to_old``, ``old_to_old`` and, where the new model's vectors are there,
        ``new_to_new``.
    seed : int
        Of the randomization test.
    """

    retrieval: str
    measure: str
    per_query: Mapping[str, NDArray[np.float64]]
    seed: int = 0

    def value(self, system: str) -> float | None:
        """Give the mean over queries; None where the system is not there."""
        return float(self.per_query[system].mean()) if system in self.per_query else None

    @cached_property
    def differences(self) -> NDArray[np.float64]:
        """For every query, new→old less old→old."""
        differences = self.per_query[CROSS] - self.per_query[OLD]
        return np.where(np.abs(differences) < _ROUNDING, 0, differences)

    @property
    def wins(self) -> int:
        """For how many queries new→old is above old→old."""
        return int((self.differences > 0).sum())

    @property
    def losses(self) -> int:
        """For how many queries it is below."""
        return int((self.differences < 0).sum())

    @property
    def p_sign(self) -> float:
        """Two-sided p-value of the exact sign test of wins and losses."""
        return sign_test(self.wins, self.losses)

    @cached_property
    def p_randomization(self) -> float:
        """Two-sided p-value of the paired randomization test, which takes sizes into account."""
        return randomization_test(self.differences, self.seed).p

    @property
    def compatible(self) -> bool:
        """Whether new queries find no less in the old vectors than old ones do: criterion 1."""
        return float(self.differences.mean()) >= 0

    @property
    def update_gain(self) -> float | None:
        """Share of the gain of encoding everything anew that the map gives: criterion 2.

        ``(M(new→old) - M(old→old)) / (M(new→new) - M(old→old))``, below 0 where the map loses.
        None where the new model's vectors are not there, or gain nothing.
        """
        old, new = self.value(OLD), self.value(NEW)
        if old is None or new is None or new - old <= _ROUNDING:
            return None
        return float(self.differences.mean()) / (new - old)

    def row(self) -> Row:
        """Give the figure as commands show it."""
        row: Row = {"retrieval": self.retrieval, "measure": self.measure}
        row |= {system: self.value(system) for system in (CROSS, OLD, NEW)}
        return row | {
            "difference": float(self.differences.mean()),
            "compatible": self.compatible,
            "update_gain": self.update_gain,
            "wins": self.wins,
            "ties": len(self.differences) - self.wins - self.losses,
            "losses": self.losses,
            "p_sign": self.p_sign,
            "p_randomization": self.p_randomization,
        }


@dataclass(frozen=True, eq=False)
class Report:
    """How compatible a map makes a new model with vectors of an old one [1]_.

    Attributes
    ----------
    queries : dict of str to str
        Texts by id.
    figures : list of Figure
        By retrieval, then by measure.

    References
    ----------
    .. [1] Y. Shen, Y. Xiong, W. Xia, S. Soatto. Towards backward-compatible representation
       learning. CVPR 2020. A new model is compatible if its queries do no worse on the old
       vectors than old queries do, under the same retrieval rule. There it is trained to be; here
       both models are as they are.
    """

    queries: Mapping[str, str]
    figures: list[Figure]

    @property
    def compatible(self) -> bool:
        """Whether no figure by cosine is worse than the old model's own."""
        return all(figure.compatible for figure in self.figures if figure.retrieval == "nn")

    def rows(self) -> list[Row]:
        """Give a row for every figure."""
        return [figure.row() for figure in self.figures]

    def losers(self, count: int = 10, measure: str = "nDCG@10", retrieval: str = "nn") -> list[Row]:
        """Name the queries that lose most, worst first; ties by id.

        Raises
        ------
        UsageError
            There is no such figure.
        """
        for figure in self.figures:
            if (figure.measure, figure.retrieval) == (measure, retrieval):
                break
        else:
            raise UsageError(f"no figure {measure} by {retrieval} (there are: {self._names()})")
        differences = figure.differences
        ids = list(self.queries)
        worst = sorted((value, id, at) for at, (id, value) in enumerate(
            zip(ids, differences.tolist(), strict=True)) if value < 0)  # fmt: skip
        return [
            {
                "query_id": id,
                "measure": measure,
                **{s: float(values[at]) for s, values in figure.per_query.items()},
                "difference": value,
                "query": self.queries[id],
            }
            for value, id, at in worst[:count]
        ]

    def _names(self) -> str:
        return ", ".join(f"{figure.measure} by {figure.retrieval}" for figure in self.figures)


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors of the same queries or documents by both models.

    Attributes
    ----------
    old : float32 array, shape (n, dim_old)
    new : float32 array, shape (n, dim_new), or None
        Of documents they may be missing.
    """

    old: NDArray[np.float32]
    new: NDArray[np.float32] | None


def measure(
    map: Map,
    queries: Vectors,
    documents: Vectors,
    judged: Judged,
    *,
    retrievals: Sequence[str] = RETRIEVALS,
    seed: int = 0,
) -> list[Figure]:
    """Measure new queries on old documents through a map, and both models by themselves.

    Parameters
    ----------
    map : Map
        From the new model's space, its source, to the old one's.
    queries, documents : Vectors
        Queries by both.
    judged : Judged
    retrievals : sequence of {"nn", "csls"}
    seed : int
        Of the randomization test.
    """
    if queries.new is None:
        raise UsageError("queries are needed by both models")
    led = {
        CROSS: (_led(map.source, queries.new), _led(map.target, documents.old)),
        OLD: (queries.old, documents.old),
    }
    if documents.new is not None:
        led[NEW] = queries.new, documents.new
    figures = []
    for retrieval in retrievals:
        by_system = {
            system: measuring.figures(
                measuring.ranks(*both, judged, penalties(*both, retrieval)), judged
            )
            for system, both in led.items()
        }
        for name in MEASURES:
            values = {system: of_system[name] for system, of_system in by_system.items()}
            figures.append(Figure(retrieval, name, values, seed))
    return figures


def compatibility(
    map: Map,
    new_space: Recipe,
    old: str,
    *,
    queries: str | os.PathLike[str],
    judgments: str | os.PathLike[str],
    db: str | os.PathLike[str],
    new: str | None = None,
    db_new: str | os.PathLike[str] | None = None,
    options: QueryOptions | None = None,
    seed: int = 0,
    note: Note = lambda message: None,
    on_problem: Callable[[Problem], None] = lambda problem: None,
) -> Report:
    """Search a collection of an old model with queries of a new one, and judge what is found.

    Parameters
    ----------
    map : Map
        From the new model's space, its source, to the old one's; `Map.reversed` exchanges the
        sides.
    new_space : Recipe
        The new model's space.
    old : str
        Collection of the old model.
    queries : path
        See `embcli.pipelines.search.read_queries`; those without judgments are left out.
    judgments : path
        See `embcli.formats.trec.read_judgments`.
    db : path
    new : str, optional
        Collection of the new model with the same records, for what encoding everything anew
        would give. What only one collection has is left out of all figures.
    db_new : path, optional
        The store of `new`, if it is another.
    options : QueryOptions, optional
        How new queries are encoded; a model named there is where the new one is.
    seed : int
        Of the randomization test.
    note, on_problem : callable
        Told what a user should know, and of lines of judgments that cannot be read.

    Returns
    -------
    report : Report

    Raises
    ------
    UsageError
        The map does not fit the collections.
    InputError
        Nothing in the files can be used, or the collections have no record in common.
    ModelError, StoreError
    """
    graded = read_judgments(judgments, on_problem)
    texts = judged_queries(queries, graded, note)
    with Store(db, readonly=True) as store, store.snapshot():
        side = Side.load(store.collection(old), note)
        _check_map(map, new_space, side)
        of_old = QueryEncoder(store, side.collection, QueryOptions()).encode(list(texts.values()))
        if new is None:
            of_new = _encoded(new_space, list(texts.values()), options or QueryOptions(), note)
            ids = sorted(side.ids)
            documents = Vectors(_of(side, ids), None)
        else:
            with Store(db_new or db, readonly=True) as other, other.snapshot():
                fresh = Side.load(other.collection(new), note)
                if fresh.recipe.hash != new_space.hash:
                    raise UsageError(
                        f"collection {new!r} is not in the space that the map leads from "
                        f"({'; '.join(new_space.differences(fresh.recipe))})"
                    )
                encoder = QueryEncoder(other, fresh.collection, options or QueryOptions(), note)
                of_new = encoder.encode(list(texts.values()))
                ids, documents = _in_both(side, fresh, note)
    judged = _by_row(graded, list(texts), ids, note)
    return Report(texts, measure(map, Vectors(of_old, of_new), documents, judged, seed=seed))


def _led(side: Transform, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map in blocks: a hidden layer may be wide."""
    if not side:
        return vectors
    blocks = (vectors[start : start + _ROWS] for start in range(0, len(vectors), _ROWS))
    return np.concatenate([side.apply(block) for block in blocks]).astype(np.float32, copy=False)


def judged_queries(path: str | os.PathLike[str], graded: Judgments, note: Note) -> dict[str, str]:
    """Read the queries that have judgments, texts by id, and note how many were left out.

    Raises
    ------
    InputError
        The file cannot be read, a query is there twice, or none has a judgment.
    """
    queries: dict[str, str] = {}
    for id, text in read_queries(os.fspath(path)):
        if queries.setdefault(id, text) != text:
            raise InputError(f"{path}: query {id!r} is there twice, with different texts")
    wanted = {id: text for id, text in queries.items() if id in graded}
    if not wanted:
        raise InputError(f"{path}: none of these queries has a judgment")
    if len(wanted) < len(queries):
        note(f"left out {_some_queries(len(queries) - len(wanted))} without judgments")
    if len(wanted) < len(graded):
        note(f"left out {_some_queries(len(graded) - len(wanted))} with judgments and no text")
    return wanted


def _some_queries(count: int) -> str:
    return f"{count:,} {'query' if count == 1 else 'queries'}"


def _check_map(map: Map, new_space: Recipe, old: Side) -> None:
    for side, recipe in ((map.source, new_space), (map.target, old.recipe)):
        if side.dims is not None and side.dims[0] != recipe.dim:
            raise UsageError(
                f"the map takes vectors of {side.dims[0]} components, and those of "
                f"{recipe.model!r} have {recipe.dim}"
            )
    if not map.target:
        ends = map.source.dims
        if ends is not None and ends[1] != old.recipe.dim:
            raise UsageError(
                f"the map leads to {ends[1]} components, and collection {old.name!r} has "
                f"{old.recipe.dim}"
            )


def _encoded(
    space: Recipe, texts: list[str], options: QueryOptions, note: Note
) -> NDArray[np.float32]:
    name = options.model or space.model
    chosen = options_of(space, trusted=options.trust_remote_code)
    if not is_quick(space):
        chosen = replace(chosen, device=options.device, local_only=True)
    encoder = load_encoder(name, chosen, note)
    if encoder.recipe().hash != space.hash:
        raise ModelError(
            f"model {name!r} is not the one that the map leads from "
            f"({'; '.join(space.differences(encoder.recipe()))})"
        )
    return encoder.encode(texts, "query")


def _in_both(old: Side, new: Side, note: Note) -> tuple[list[str], Vectors]:
    ids = sorted(old.row_of_id.keys() & new.row_of_id.keys())
    if not ids:
        raise InputError(f"collections {old.name!r} and {new.name!r} have no id in common")
    alone = len(old.ids) - len(ids), len(new.ids) - len(ids)
    if any(alone):
        note(
            f"left out {counted(alone[0], 'record')} that only {old.name!r} has and "
            f"{alone[1]:,} that only {new.name!r} has"
        )
    return ids, Vectors(_of(old, ids), _of(new, ids))


def _of(side: Side, ids: list[str]) -> NDArray[np.float32]:
    """Take vectors by id: of equal figures the first id is first, as in a search."""
    return side.vectors[[side.row_of_id[id] for id in ids]]


def _by_row(graded: Judgments, queries: list[str], ids: list[str], note: Note) -> Judged:
    place = {id: row for row, id in enumerate(ids)}
    found = [
        (row, place.get(document, -1), grade)
        for row, query in enumerate(queries)
        for document, grade in _relevant(graded[query])
    ]
    if not found:
        raise InputError("no judgment says that anything is relevant to these queries")
    rows, columns, grades = np.array(found, np.int64).T
    absent = int((columns < 0).sum())
    if absent == len(columns):
        raise InputError("none of the relevant documents is in the collection")
    if absent:
        note(f"{counted(absent, 'relevant document')} not in the collection, and so not found")
    return Judged(rows, columns, grades, len(queries))


def _relevant(grades: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    return ((document, grade) for document, grade in grades.items() if grade > 0)
