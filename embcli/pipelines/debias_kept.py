"""What a change of vectors has left of what they were good for."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_DB
from embcli.core.classification import FOLDS, linear_probe
from embcli.core.space_similarity import neighbour_overlap
from embcli.errors import InputError, ModelError, UsageError, counted
from embcli.formats import Problem
from embcli.formats.trec import read_judgments
from embcli.pipelines.compatibility import judged_queries
from embcli.pipelines.evaluate import measure, parse_measures
from embcli.pipelines.evaluate_words import WordFigure, evaluate_words
from embcli.pipelines.pairwise import Advance, Note, announced
from embcli.pipelines.queries import QueryOptions
from embcli.pipelines.search import search
from embcli.pipelines.sides import Side, open_sides

Row = dict[str, Any]
Path = str | os.PathLike[str]

RETRIEVAL = "nDCG@10"
_DEPTH = 10
_SUMS = ("semantic", "syntactic", "total")
_NAMED = 3


def measure_kept(
    before: str,
    after: str,
    *,
    words: Iterable[Path] = (),
    ignore_case: bool = False,
    label: str | None = None,
    queries: Path | None = None,
    judgments: Path | None = None,
    options: QueryOptions | None = None,
    neighbours: int = 10,
    sample: int | None = None,
    seed: int = 0,
    db: Path = DEFAULT_DB,
    problem: Callable[[Problem], object] = lambda problem: None,
    note: Note = lambda message: None,
    advance: Advance = lambda done, total, count: None,
) -> list[Row]:
    """Measure two collections of the same records in the same ways.

    Parameters
    ----------
    before, after : str
        Collections. Their dimensions may differ. Records are the same if their ids are.
    words : iterable of path
        Analogies and similarities, see `embcli.pipelines.evaluate_words.evaluate_words`.
    ignore_case : bool
        Of these.
    label : str, optional
        A metadata field, as `before` has it: how well a linear probe tells its values apart.
    queries, judgments : path, optional
        Queries, and what is relevant to them: how well they are answered.
    options : QueryOptions, optional
        How queries are encoded.
    neighbours : int
        How many neighbours of a record to compare.
    sample : int, optional
        Look at the neighbours, which may be any, of so many records drawn at random; by default
        of all.
    seed : int
        Of the sample and of the folds.
    db : path
    problem : callable
        Told of lines that cannot be read.
    note, advance : callable
        Told what a user should know, and how many pairs of records are compared.

    Returns
    -------
    rows : list of dict
        With the keys ``measure``, ``set``, ``before``, ``after``, ``change`` (after less before;
        None where either is) and ``n``, how many records, questions, pairs or queries it is of.

    Raises
    ------
    UsageError
        Queries without judgments, or the reverse; a number is below 1.
    InputError
        A file cannot be read; too few records are in both; fewer than two classes are left.
    ModelError
        A package is missing.
    NothingFoundError
        A collection has the words of no question and of no pair.
    StoreError
    """
    words = list(words)
    if (queries is None) != (judgments is None):
        raise UsageError("--queries and --qrels go together")
    for name, number in (("neighbours", neighbours), ("sample", sample)):
        if number is not None and number < 1:
            raise UsageError(f"--{name} must be at least 1, not {number}")
    if label is not None and find_spec("sklearn") is None:
        raise ModelError(
            "a linear probe takes scikit-learn, which is not installed",
            hint="pip install 'embcli[debias]'",
        )
    # What may take long comes last, when nothing is left that could be wrong with a file.
    rows = _words(words, (before, after), db, ignore_case, problem, note) if words else []
    found = []
    if queries is not None and judgments is not None:
        options = options or QueryOptions()
        found.append(_retrieval((before, after), queries, judgments, db, options, problem, note))
    with open_sides(before, after, db=db, note=note) as sides:
        shared = _shared(*sides, note)
        a, b = (_vectors(side, own) for side, own in zip(sides, shared, strict=True))
        classes = [] if label is None else _classes(sides[0], label, shared[0], a, b, seed, note)
        overlap = []
        if len(a) > neighbours:
            overlap.append(_overlap(a, b, neighbours, sample, seed, note, advance))
        else:
            note(f"neighbours are not compared: both have only {counted(len(a), 'record')}")
    return [*rows, *overlap, *classes, *found]


def _row(measure: str, set: str, before: float | None, after: float | None, n: int) -> Row:
    change = None if before is None or after is None else after - before
    return {
        "measure": measure, "set": set, "before": before, "after": after, "change": change, "n": n,
    }  # fmt: skip


def _words(
    files: Sequence[Path],
    collections: tuple[str, str],
    db: Path,
    ignore_case: bool,
    problem: Callable[[Problem], object],
    note: Note,
) -> list[Row]:
    """Evaluate both, and pair what sums up."""
    evaluate = partial(evaluate_words, files, db=db, ignore_case=ignore_case)
    before = evaluate(collection=collections[0], problem=problem, note=note)
    # Lines that cannot be read are the same the second time, and so are words not there.
    after = evaluate(collection=collections[1])
    rows = []
    for one, other in zip(before, after, strict=True):
        if one.section not in _SUMS:
            continue
        if one.covered != other.covered:
            note(
                f"{one.set}: {one.covered:,} covered before and {other.covered:,} after, as the "
                "collections do not have the same words"
            )
        rows.append(_row(one.measure, _set(one), one.value, other.value, other.covered))
    return rows


def _set(figure: WordFigure) -> str:
    return figure.set if figure.section == "total" else f"{figure.set}: {figure.section}"


def _shared(before: Side, after: Side, note: Note) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the rows of what both have, in the order of `before`."""
    pairs = [(row, after.row_of_id.get(id, -1)) for row, id in enumerate(before.ids)]
    both = [pair for pair in pairs if pair[1] >= 0]
    if not both:
        raise InputError(f"collections {before.name!r} and {after.name!r} have no id in common")
    alone = len(before.ids) - len(both), len(after.ids) - len(both)
    if any(alone):
        note(
            f"left out {counted(alone[0], 'record')} that only {before.name!r} has and "
            f"{alone[1]:,} that only {after.name!r} has"
        )
    rows, columns = np.array(both, np.int64).T
    return rows, columns


def _vectors(side: Side, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    every = len(rows) == len(side.ids) and np.array_equal(rows, np.arange(len(rows)))
    return side.vectors if every else side.vectors[rows]


def _overlap(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    k: int,
    sample: int | None,
    seed: int,
    note: Note,
    advance: Advance,
) -> Row:
    n = len(before)
    rows = None
    name = "all records"
    if sample is not None and sample < n:
        rows = np.sort(np.random.default_rng(seed).permutation(n)[:sample])
        name = f"{sample:,} of {counted(n, 'record')}"
    patient = announced(advance, note, f"{counted(n, 'record')} with every other")
    value = neighbour_overlap(before, after, k, rows=rows, advance=patient)
    return _row(f"overlap@{k}", name, 1.0, value, n if rows is None else len(rows))


def _classes(
    side: Side,
    label: str,
    rows: NDArray[np.int64],
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    seed: int,
    note: Note,
) -> list[Row]:
    """Probe both for the values of a field, on the same folds."""
    values = side.collection.labels(label)
    found = [values.get(key) for key in side.keys[rows].tolist()]
    counts = Counter(value for value in found if value is not None)
    if not counts:
        raise InputError(f"no record of {side.name!r} has a field {label!r} with one value")
    small = sorted(str(value) for value, count in counts.items() if count < FOLDS)
    if small:
        some = ", ".join(small[:_NAMED]) + (", …" if len(small) > _NAMED else "")
        classes = f"{len(small):,} {'class' if len(small) == 1 else 'classes'}"
        note(f"{label}: left out {classes} of fewer than {FOLDS} records ({some})")
    absent = len(found) - counts.total()
    if absent:
        note(f"{label}: left out {counted(absent, 'record')} without it")
    classes_kept = sorted((v for v, count in counts.items() if count >= FOLDS), key=str)
    if len(classes_kept) < 2:
        raise InputError(
            f"{label}: telling classes apart takes two of at least {FOLDS} records each, and in "
            f"{side.name!r} there {'is one' if classes_kept else 'is none'}"
        )
    number = {value: index for index, value in enumerate(classes_kept)}
    labels = np.array([-1 if v is None else number.get(v, -1) for v in found], np.int64)
    kept = labels >= 0
    one, other = (
        linear_probe(vectors[kept], labels[kept], seed=seed) for vectors in (before, after)
    )
    if not (one.converged and other.converged):
        note(f"{label}: logistic regression was stopped before it converged")
    n = int(kept.sum())
    return [
        _row("accuracy", label, one.accuracy, other.accuracy, n),
        _row("macro-F1", label, one.macro_f1, other.macro_f1, n),
    ]


def _retrieval(
    collections: tuple[str, str],
    queries: Path,
    judgments: Path,
    db: Path,
    options: QueryOptions,
    problem: Callable[[Problem], object],
    note: Note,
) -> Row:
    """Search both with the same queries; each collection leads them to its space."""
    measures = parse_measures([RETRIEVAL])
    graded = read_judgments(judgments, problem)
    texts = judged_queries(queries, graded, note)
    judged = {query: graded[query] for query in texts}
    figures = []
    for collection in collections:
        results = search(
            list(texts.values()), db=db, collection=collection, options=options, k=_DEPTH, note=note
        )
        run = {
            query: [(hit.id, hit.score) for hit in hits]
            for query, hits in zip(texts, results, strict=True)
        }
        figures += measure(measures, judged, run)
    before, after = figures
    name = os.path.basename(queries)
    return _row(RETRIEVAL, name, before.value, after.value, len(texts))
