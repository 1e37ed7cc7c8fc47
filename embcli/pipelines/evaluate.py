"""From judgments to figures of merit."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.encoders import EncoderOptions
from embcli.errors import InputError, ModelError, UsageError, counted
from embcli.formats import Problem
from embcli.formats.inputs import COMPRESSIONS
from embcli.formats.trec import Judgments, Run, read_judgments, read_run, write_run
from embcli.pipelines.encode import Listeners, encode
from embcli.pipelines.queries import QueryOptions
from embcli.pipelines.search import read_queries, search
from embcli.store import Store

if TYPE_CHECKING:
    from ir_measures import Measure

MEASURES = ("nDCG@10", "AP@100", "RR@10", "R@100", "P@10")
DEPTH = 100
ALL = "all"

_LAYOUT = "in BEIR's layout there are corpus.jsonl, queries.jsonl and qrels/test.tsv"
# Two figures that are equal may differ by this because they were added up in different orders.
_ROUNDING = 1e-12
# trec_eval has an array with a place for every grade, and whole numbers of its own.
_LARGEST = 1_000_000


@dataclass(frozen=True)
class Comparison:
    """How the figures of a run compare with those of another.

    Attributes
    ----------
    value : float
        The other's figure over all queries.
    per_query : dict of str to float
        The other's figure for each query.
    difference : float
        The mean over queries of the one's figure less the other's.
    wins, ties, losses : int
        For how many queries the one's figure is above, equal to and below the other's.
    p_t : float or None
        Two-sided p-value of the paired t-test; None for less than two queries.
    p_randomization : float
        That of the paired randomization test.
    permutations : int
        Of how many.
    """

    value: float
    per_query: dict[str, float]
    difference: float
    wins: int
    ties: int
    losses: int
    p_t: float | None
    p_randomization: float
    permutations: int


@dataclass(frozen=True)
class Figure:
    """What a measure says of a run.

    Attributes
    ----------
    measure : str
        In the notation of ir-measures.
    value : float
        Over all queries: their mean, but a sum for the few measures that count.
    per_query : dict of str to float
        A few measures are not defined for every query.
    against : Comparison, optional
    """

    measure: str
    value: float
    per_query: dict[str, float]
    against: Comparison | None = None

    def row(self) -> dict[str, Any]:
        """Give the figure as commands show it."""
        row = {"measure": self.measure, "value": self.value, "queries": len(self.per_query)}
        other = self.against
        if other is None:
            return row
        return row | {
            "against": other.value,
            "difference": other.difference,
            "wins": other.wins,
            "ties": other.ties,
            "losses": other.losses,
            "p_t": other.p_t,
            "p_randomization": other.p_randomization,
            "permutations": other.permutations,
        }

    def rows_per_query(self) -> Iterable[dict[str, Any]]:
        """Give it for each query, then for all, with the keys of `row` and ``query_id``."""
        whole = self.row()
        for query, value in self.per_query.items():
            row = {"query_id": query} | dict.fromkeys(whole) | {"measure": self.measure}
            row["value"] = value
            if self.against is not None and query in self.against.per_query:
                row["against"] = self.against.per_query[query]
                row["difference"] = value - self.against.per_query[query]
            yield row
        yield {"query_id": ALL} | whole


def evaluate_retrieval(
    folder: str | os.PathLike[str],
    *,
    split: str = "test",
    judgments: str | os.PathLike[str] | None = None,
    measures: Sequence[str] = MEASURES,
    k: int | None = None,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str | None = None,
    options: QueryOptions | None = None,
    searching: Mapping[str, Any] | None = None,
    ignore_identical_ids: bool = False,
    run: str | os.PathLike[str] | None = None,
    from_run: str | os.PathLike[str] | None = None,
    against: str | os.PathLike[str] | None = None,
    seed: int = 0,
    strict: bool = False,
    listeners: Listeners | None = None,
) -> list[Figure]:
    """Measure how good a search is, by queries whose relevant documents are known.

    Figures are means over the queries that have judgments; one that found nothing counts as 0,
    as with trec_eval's option ``-c``.

    Parameters
    ----------
    folder : path
        ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``, as BEIR has them.
    split : str
    judgments : path, optional
        Another file than ``qrels/SPLIT.tsv``.
    measures : sequence of str
        In the notation of ir-measures.
    k : int, optional
        Most hits per query; by default 100, or the largest cutoff of `measures`.
    db : path
    collection : str, optional
        Searched as it is if it exists and no model is named; else the corpus is encoded into it
        first. By default it has the name of the folder.
    options : QueryOptions, optional
        How to encode; a model named here is also the one to encode the corpus with, unless there
        are maps to go through: the collection must be there then.
    searching : mapping, optional
        What else `search` takes.
    ignore_identical_ids : bool
        Leave the document out whose id is that of the query.
    run : path, optional
        Where to write what was found, as a TREC run.
    from_run : path, optional
        A TREC run to evaluate instead of a search.
    against : path, optional
        A TREC run to compare with.
    seed : int
        Of the randomization test.
    strict : bool
        Stop at the first line or record that cannot be read.
    listeners : Listeners, optional

    Returns
    -------
    figures : list of Figure
        In the order of `measures`.

    Raises
    ------
    UsageError
        A measure does not exist or looks deeper than `k`, or the options contradict each other.
    InputError
        A file is missing, or nothing in it can be used.
    ModelError, StoreError
    """
    listeners = listeners or Listeners()
    problem = _stop if strict else listeners.problem
    chosen = parse_measures(measures)
    options, searching = options or QueryOptions(), searching or {}
    asked = run or k or options.model or options.via or _given(searching)
    if from_run is not None and asked:
        raise UsageError(
            "with --from-run nothing is searched: leave out --run, --model, --via, --top and "
            "filters"
        )
    depth = _depth(chosen, k)
    judged, name = _judgments(Path(folder), split, judgments, problem)
    documents = {document for grades in judged.values() for document in grades}
    other = None if against is None else read_run(against, problem, judged, documents)
    if from_run is not None:
        found = read_run(from_run, problem, judged, documents)
        _check_queries(from_run, judged, found, name, listeners)
    else:
        queries = _queries(Path(folder), judged, name, listeners)
        judged = {query: judged[query] for query in queries}
        target = collection or Path(folder).resolve().name or DEFAULT_COLLECTION
        _prepare(Path(folder), db, target, options, strict, listeners)
        _note_absent(judged, db, target, listeners)
        results = search(
            list(queries.values()), db=db, collection=target, options=options,
            k=depth + ignore_identical_ids, note=listeners.note, **searching,
        )  # fmt: skip
        found = {}
        for query, hits in zip(queries, results, strict=True):
            kept = [hit for hit in hits if not ignore_identical_ids or hit.id != query]
            found[query] = [(hit.id, hit.score) for hit in kept[:depth]]
        if run is not None:
            write_run(run, found)
    without = sum(not any(grades.values()) for grades in judged.values())
    if without:
        listeners.note(f"{_some_queries(without)} with no relevant document at all count as 0")
    figures = measure(chosen, judged, found)
    if other is None or against is None:
        return figures
    _check_queries(against, judged, other, name, listeners)
    return compare(figures, measure(chosen, judged, other), seed)


def parse_measures(names: Sequence[str]) -> "list[Measure]":
    """Find the measures that ir-measures has under these names, each once.

    Raises
    ------
    UsageError
        There is no such measure, or it has no such parameter.
    ModelError
        A package is missing.
    """
    try:
        import ir_measures
    except ImportError as error:
        raise ModelError(
            "evaluation takes ir-measures, which is not installed",
            hint="pip install 'embcli[eval]'",
        ) from error
    found = list(dict.fromkeys(map(_measure, names)))
    pipeline: Any = ir_measures.DefaultPipeline
    for item in found:
        if not pipeline.supports(item):
            raise ModelError(
                f"no package that is installed computes {item}",
                hint="pip install 'ir-measures[cwl-eval,pyndeval]'",
            )
    return found


def measure(measures: "Sequence[Measure]", judgments: Judgments, run: Run) -> list[Figure]:
    """Measure a run.

    Parameters
    ----------
    measures : sequence of ir_measures.Measure
    judgments : dict of str to dict of str to int
        Grades by document by query, for at least one query.
    run : dict of str to list of (str, float)
        Documents by query, best first. Their order counts, and not their scores: of documents
        that tie, every program would take another one first.

    Returns
    -------
    figures : list of Figure
        Over all queries with judgments, found or not.

    Raises
    ------
    UsageError
        The package behind a measure cannot compute it from these judgments.
    """
    import subprocess

    import ir_measures

    # Numbers for ids: some of the packages write these into files with spaces between them.
    queries = {query: str(number) for number, query in enumerate(judgments)}
    every = (document for grades in judgments.values() for document in grades)
    documents = {document: f"j{number}" for number, document in enumerate(dict.fromkeys(every))}
    judged = {
        queries[query]: {documents[document]: grade for document, grade in grades.items()}
        for query, grades in judgments.items()
    }
    places = {
        queries[query]: {
            documents.get(document, f"u{place}"): float(len(found) - place)
            for place, (document, _) in enumerate(found)
        }
        for query, found in run.items()
        if found and query in queries
    }
    try:
        results: Any = ir_measures.calc(measures, judged, places)
    except (ValueError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
        names = ", ".join(map(str, measures))
        raise UsageError(f"ir-measures cannot compute {names} here ({error})") from error
    values = {(result.measure, result.query_id): float(result.value) for result in results[1]}
    figures = []
    for item in measures:
        defined = [query for query, number in queries.items() if (item, number) in values]
        if not defined:
            raise UsageError(f"{item} is not defined for any of the queries")
        per_query = {query: values[item, queries[query]] for query in defined}
        figures.append(Figure(str(item), float(results[0][item]), per_query))
    return figures


def compare(figures: Sequence[Figure], others: Sequence[Figure], seed: int = 0) -> list[Figure]:
    """Compare the figures of a run with those of another one, query by query.

    Parameters
    ----------
    figures, others : sequence of Figure
        The same measures over the same queries.
    seed : int
        Of the randomization test.

    Returns
    -------
    figures : list of Figure
        `figures`, with `against` set.
    """
    return [
        replace(figure, against=_comparison(figure, other, seed))
        for figure, other in zip(figures, others, strict=True)
    ]


def _comparison(figure: Figure, other: Figure, seed: int) -> Comparison:
    import numpy as np

    from embcli.core.significance import paired_t_test, randomization_test

    both = figure.per_query.keys() & other.per_query.keys()
    differences = np.array(
        [value - other.per_query[q] for q, value in figure.per_query.items() if q in both]
    )
    differences[np.abs(differences) < _ROUNDING] = 0
    chance = randomization_test(differences, seed)
    return Comparison(
        value=other.value,
        per_query=other.per_query,
        difference=float(differences.sum()) / max(len(both), 1),
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences < 0).sum()),
        p_t=paired_t_test(differences),
        p_randomization=chance.p,
        permutations=chance.permutations,
    )


def _measure(name: str) -> "Measure":
    """Read a measure as ir-measures writes it: P@10, P(rel=2)@10.

    Not with its own ``parse_measure``: that takes parts of `ast` that Python 3.14 does not have,
    and lets through numbers at which trec_eval crashes.
    """
    import ast

    from ir_measures.measures import registry

    failure = UsageError(
        f"{name!r} is no measure as ir-measures writes them; these are: nDCG@10, AP@100, RR@10, "
        "R@100, P@10, Success@5, P(rel=2)@10 and those at https://ir-measur.es"
    )
    try:
        node = ast.parse(name.strip(), mode="eval").body
        given: dict[str, Any] = {}
        at: Any = None
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            at, node = ast.literal_eval(node.right), node.left
        if isinstance(node, ast.Call) and not node.args:
            given = {word.arg or "": ast.literal_eval(word.value) for word in node.keywords}
            node = node.func
        if not isinstance(node, ast.Name):
            raise failure
        kind = registry[node.id]
        if at is not None:
            given[kind.AT_PARAM] = at
        found: Any = kind(**given)
        found.validate_params()
        numbers = [given.get("cutoff", 1), given.get("rel", 1)]
        gains = given.get("gains", {}).values()
        if (
            min(numbers) < 1
            or max(numbers) > _LARGEST
            or not all(0 <= g <= _LARGEST for g in gains)
        ):
            raise failure
    except (
        SyntaxError, ValueError, TypeError, KeyError, AttributeError, AssertionError,
        RecursionError, MemoryError,  # the parser's word for nested too deeply
    ):  # fmt: skip
        raise failure from None
    return cast("Measure", found)


def _depth(measures: "Sequence[Measure]", k: int | None) -> int:
    cutoffs: list[int] = [item.params.get("cutoff", 0) for item in measures]
    if k is None:
        return max(DEPTH, *cutoffs)
    deeper = [str(item) for item, cutoff in zip(measures, cutoffs, strict=True) if cutoff > k]
    if deeper:
        raise UsageError(
            f"--top {k} is not deep enough for {', '.join(deeper)}",
            hint=f"--top {max(cutoffs)}, or name measures with --measure",
        )
    return k


def _judgments(
    folder: Path,
    split: str,
    file: str | os.PathLike[str] | None,
    problem: Callable[[Problem], object],
) -> tuple[Judgments, str]:
    """Read the judgments; also tell what the file is called."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory ({_LAYOUT})")
    path = Path(file) if file is not None else find_file(folder, f"qrels/{split}.tsv")
    judged = read_judgments(path, problem)
    if not judged:
        raise InputError(f"{path}: there is no judgment in it")
    return judged, str(path)


def find_file(folder: Path, name: str) -> Path:
    """Find a file of a folder in BEIR's layout, compressed or not.

    Raises
    ------
    InputError
        It is not there.
    """
    for ending in ("", *COMPRESSIONS):
        path = folder / f"{name}{ending}"
        if path.is_file():
            return path
    splits = sorted({path.name.partition(".")[0] for path in (folder / "qrels").glob("*.tsv*")})
    if name.startswith("qrels/") and splits:
        raise InputError(
            f"{folder / name}: no such file", hint=f"--split {splits[0]}, or name it with --qrels"
        )
    raise InputError(f"{folder / name}: no such file ({_LAYOUT})")


def _queries(folder: Path, judged: Judgments, name: str, listeners: Listeners) -> dict[str, str]:
    """Read the queries that have judgments, and note how many were left out."""
    path = find_file(folder, "queries.jsonl")
    queries: dict[str, str] = {}
    for id, text in read_queries(str(path)):
        if queries.setdefault(id, text) != text:
            raise InputError(f"{path}: query {id!r} is there twice, with different texts")
    wanted = {id: text for id, text in queries.items() if id in judged}
    if not wanted:
        raise InputError(f"{path}: {name} judges none of these queries")
    if len(wanted) < len(queries):
        listeners.note(f"left out {_some_queries(len(queries) - len(wanted))} without judgments")
    if len(wanted) < len(judged):
        unknown = _some_queries(len(judged) - len(wanted))
        listeners.note(f"left out {unknown} that {name} judges and {path} does not have")
    return wanted


def _prepare(
    folder: Path,
    db: str | os.PathLike[str],
    collection: str,
    options: QueryOptions,
    strict: bool,
    listeners: Listeners,
) -> None:
    """Encode the corpus, unless there is such a collection and no model for it is named."""
    if options.via and not (os.path.exists(db) and os.path.getsize(db)):
        raise UsageError("--via is for a collection that is there already", hint="embcli encode")
    if (options.via or options.model is None) and os.path.exists(db) and os.path.getsize(db):
        with Store(db, readonly=True) as store:
            if any(info.name == collection for info in store.collections()):
                count = counted(len(store.collection(collection)), "record")
                listeners.note(f"searching collection {collection!r} as it is ({count})")
                return
            if options.via:
                store.collection(collection)
    report = encode(
        find_file(folder, "corpus.jsonl"),
        db=db,
        collection=collection,
        model=options.model,
        options=EncoderOptions(device=options.device, trust_remote_code=options.trust_remote_code),
        strict=strict,
        listeners=listeners,
    )
    count = counted(report.total, "record")
    listeners.note(f"{report} → {collection!r} in {os.fspath(db)} ({count})")


def _note_absent(
    judged: Judgments, db: str | os.PathLike[str], collection: str, listeners: Listeners
) -> None:
    """Note how many documents have judgments and are not in the collection."""
    documents = {document for grades in judged.values() for document in grades}
    with Store(db, readonly=True) as store:
        absent = len(documents) - len(store.collection(collection).sources(documents))
    if absent:
        listeners.note(
            f"{absent:,} of {counted(len(documents), 'judged document')} not in collection "
            f"{collection!r}, and so not found"
        )


def _check_queries(
    path: str | os.PathLike[str], judged: Judgments, run: Run, name: str, listeners: Listeners
) -> None:
    """Note how many of the queries a run does not have."""
    missing = sum(query not in run for query in judged)
    if missing == len(judged):
        raise InputError(f"{os.fspath(path)}: {name} judges none of the queries of this run")
    if missing:
        listeners.note(f"{os.fspath(path)} lacks {_some_queries(missing)}: these count as 0")


def _given(searching: Mapping[str, Any]) -> bool:
    return any(value is not None for value in searching.values())


def _some_queries(count: int) -> str:
    return f"{count:,} {'query' if count == 1 else 'queries'}"


def _stop(problem: Problem) -> None:
    raise InputError(str(problem), hint="without --strict such lines are skipped and reported")
