"""TREC's files: relevance judgments, in BEIR's form too, and runs."""

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from embcli.errors import InputError, UsageError
from embcli.formats import Problem
from embcli.formats.inputs import Source
from embcli.formats.lines import Line, numbered_lines
from embcli.formats.source import open_source

Judgments = dict[str, dict[str, int]]
Run = dict[str, list[tuple[str, float]]]

# trec_eval has an array with a place for every grade.
_HIGHEST_GRADE = 1_000_000
_GRADE_NAMES = ("score", "relevance", "rel", "grade", "label")
# What C takes for white space, and so trec_eval does.
_WORD = re.compile(r"[^ \t\n\v\f\r]+")
_SPACE = re.compile(r"\s")
_SPACE_OR_PERCENT = re.compile(r"[\s%]")
_SHOWN = 60


def read_judgments(path: str | os.PathLike[str], problem: Callable[[Problem], object]) -> Judgments:
    """Read how relevant documents are to queries.

    Parameters
    ----------
    path : path
        Lines of query, document and grade (BEIR) or of query, iteration, document and grade
        (TREC), separated by tabs or else white space. A first line with names is passed over.
    problem : callable
        Told of every line that is none of these, or contradicts an earlier one.

    Returns
    -------
    judgments : dict of str to dict of str to int
        Grades by document by query. Those below 0 become 0: trec_eval as well takes these
        documents for not relevant.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    judgments: Judgments = {}
    for line in _lines(path, problem):
        text = line.text.strip("\r\n")
        fields = text.split("\t") if "\t" in text else text.split()
        grade = _whole_number(fields[-1])
        if len(fields) not in (3, 4):
            found = "expected query-id, corpus-id and score, separated by tabs; found "
            problem(Problem(os.fspath(path), line.number, found + _shown(text)))
        elif line.number == 1 and fields[-1].strip().lower() in _GRADE_NAMES:
            continue
        elif grade is None or grade > _HIGHEST_GRADE:
            found = f"expected a whole number up to {_HIGHEST_GRADE:,} as score; found "
            problem(Problem(os.fspath(path), line.number, found + _shown(fields[-1])))
        else:
            query, document, grade = fields[0], fields[-2], max(grade, 0)
            before = judgments.setdefault(query, {}).setdefault(document, grade)
            if before != grade:
                found = f"document {document!r} was judged {before} for query {query!r} before"
                problem(Problem(os.fspath(path), line.number, found))
    return judgments


def read_run(
    path: str | os.PathLike[str],
    problem: Callable[[Problem], object],
    queries: Collection[str] = (),
    documents: Collection[str] = (),
) -> Run:
    """Read which documents a system found.

    As in trec_eval ranks come from the scores in single precision, not from the file, and of
    documents that tie the one whose id is last comes first.

    Parameters
    ----------
    path : path
        Lines of query, ``Q0``, document, rank, score and tag, separated by white space.
    problem : callable
        Told of every line that is not like this, or repeats a document.
    queries, documents : collection of str
        Ids that are known; those that `write_run` had to encode are recognised.

    Returns
    -------
    run : dict of str to list of (str, float)
        Documents and scores by query, best first.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    query_names, document_names = _by_encoded(queries), _by_encoded(documents)
    scores: dict[str, dict[str, float]] = {}
    for line in _lines(path, problem):
        fields = _WORD.findall(line.text)
        if len(fields) != 6:
            found = f"expected query, Q0, document, rank, score and tag; found {_shown(line.text)}"
            problem(Problem(os.fspath(path), line.number, found))
            continue
        score = _number(fields[4])
        query = query_names.get(fields[0], fields[0])
        document = document_names.get(fields[2], fields[2])
        if score is None:
            found = f"expected a number as score; found {_shown(fields[4])}"
            problem(Problem(os.fspath(path), line.number, found))
        elif document in scores.get(query, ()):
            found = f"document {document!r} is there twice for query {query!r}"
            problem(Problem(os.fspath(path), line.number, found))
        else:
            scores.setdefault(query, {})[document] = score
    return {query: _ranked(found) for query, found in scores.items()}


def write_run(
    path: str | os.PathLike[str],
    run: Mapping[str, Sequence[tuple[str, float]]],
    tag: str = "embcli",
) -> None:
    """Write which documents a system found, in the order in which they are given.

    So that whoever reads the file finds them in this order and does not put those that tie in
    another, a score that is not below the one before it in single precision is written as the
    next number below that; [1]_ is on what ties do to measures. In ids with white space, which
    is between the fields, white space and ``%`` are percent-encoded; other ids are left alone.

    Parameters
    ----------
    path : path
        A file, which appears only when it is complete, or a device.
    run : mapping of str to sequence of (str, float)
        Documents and scores by query, best first.
    tag : str
        The name of the run.

    Raises
    ------
    UsageError
        The file cannot be written.

    References
    ----------
    .. [1] J. Lin, P. Yang. The impact of score ties on repeatability in document ranking.
       SIGIR 2019.
    """
    import numpy as np

    lowest = np.float32(-np.inf)
    with _complete_file(Path(path)) as stream:
        for query, documents in run.items():
            score = np.float32(np.inf)
            for rank, (document, exact) in enumerate(documents, 1):
                score = min(np.float32(exact), np.nextafter(score, lowest))
                stream.write(f"{_encoded(query)} Q0 {_encoded(document)} {rank} {score!s} {tag}\n")


def _lines(path: str | os.PathLike[str], problem: Callable[[Problem], object]) -> Iterator[Line]:
    """Yield the lines of a file that have something on them."""
    try:
        with open_source(Source(os.fspath(path), Path(path))) as stream:
            for line in numbered_lines(stream):
                if line.problem:
                    problem(line.problem)
                elif line.text and not line.text.isspace():
                    yield line
    except InputError as error:
        raise InputError(f"{os.fspath(path)}: {error.message}", error.hint) from error


def _ranked(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    import numpy as np

    with np.errstate(over="ignore"):
        single = np.fromiter(scores.values(), np.float64, len(scores)).astype(np.float32).tolist()
    order = sorted(zip(single, scores, strict=True), reverse=True)
    return [(document, scores[document]) for _, document in order]


def _whole_number(text: str) -> int | None:
    number = _number(text)
    return int(number) if number is not None and number.is_integer() else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _encoded(id: str) -> str:
    if not _SPACE.search(id):
        return id
    return _SPACE_OR_PERCENT.sub(lambda match: quote(match.group(), safe=""), id)


def _by_encoded(ids: Collection[str]) -> dict[str, str]:
    """Map how `write_run` writes ids to the ids, where these differ."""
    encoded = {_encoded(id): id for id in ids if _SPACE.search(id)}
    return {name: id for name, id in encoded.items() if name not in ids}


def _shown(text: str) -> str:
    text = text.rstrip("\r\n")
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…")


@contextmanager
def _complete_file(path: Path) -> Iterator[TextIO]:
    """Write a file that appears when it is complete."""
    try:
        if path.exists() and not path.is_file():
            with path.open("w", encoding="utf-8", newline="") as stream:
                yield stream  # a device, a pipe: nothing to be replaced
            return
        target = path.resolve()
        part = target.with_name(f".{target.name}.part")
        try:
            with part.open("w", encoding="utf-8", newline="") as stream:
                yield stream
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror})") from error
