"""Files that word vectors are evaluated on: analogies, and pairs with a degree of similarity."""

import csv
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from embcli.errors import InputError
from embcli.formats import Problem

_SEPARATORS = "\t,;"


@dataclass
class AnalogySet:
    """Questions of the kind "a is to b as c is to d", by section, in the order of the file."""

    name: str
    sections: dict[str, list[tuple[str, str, str, str]]] = field(default_factory=dict)


@dataclass
class SimilaritySet:
    """Pairs of words, and how similar people find them."""

    name: str
    pairs: list[tuple[str, str, float]] = field(default_factory=list)


WordSet = AnalogySet | SimilaritySet


def read_word_set(path: str | os.PathLike[str]) -> tuple[WordSet, list[Problem]]:
    """Read an analogy or a similarity set; which one it is shows in the first line.

    Analogies have four words a line, with lines that begin with a colon before every section, as
    in questions-words.txt. Similarities are tables with a word, another word and a number,
    separated by tabs, commas, semicolons or white space, with or without a header; where there
    are columns between or behind, the first with a number counts. Lines that begin with # are
    passed over.

    Parameters
    ----------
    path : path

    Returns
    -------
    words : AnalogySet or SimilaritySet
    problems : list of Problem
        Lines that could not be read.

    Raises
    ------
    InputError
        The file cannot be read, or is neither.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start:,})") from error
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise InputError(f"{path}: there is no line in it")
    first = lines[0][1]
    problems: list[Problem] = []
    is_table = any(separator in first for separator in _SEPARATORS)
    words = first.split()
    if first.startswith(":") or (not is_table and len(words) == 4 and _score(words[3]) is None):
        return _analogies(path, lines, problems), problems
    return _similarities(path, lines, problems), problems


def _analogies(path: Path, lines: list[tuple[int, str]], problems: list[Problem]) -> AnalogySet:
    found = AnalogySet(path.name)
    section = ""
    for number, line in lines:
        if line.startswith(":"):
            section = line[1:].strip()
            continue
        words = line.split()
        if len(words) != 4:
            problems.append(Problem(str(path), number, f"expected four words, found {len(words)}"))
            continue
        a, b, c, d = words
        found.sections.setdefault(section, []).append((a, b, c, d))
    if not found.sections:
        raise InputError(f"{path}: there is no analogy in it")
    return found


def _similarities(
    path: Path, lines: list[tuple[int, str]], problems: list[Problem]
) -> SimilaritySet:
    separator = next((mark for mark in _SEPARATORS if mark in lines[0][1]), None)
    rows = [(number, _cells(line, separator)) for number, line in lines]
    column = next((i for _, cells in rows[1:] or rows if (i := _number(cells)) is not None), None)
    if column is None:
        raise InputError(f"{path}: neither analogies (four words a line) nor a table of pairs")
    found = SimilaritySet(path.name)
    for place, (number, cells) in enumerate(rows):
        score = _score(cells[column]) if len(cells) > column else None
        if score is not None:
            found.pairs.append((cells[0], cells[1], score))
        elif place > 0:  # the first may be a header
            problems.append(Problem(str(path), number, "expected two words and a number"))
    if not found.pairs:
        raise InputError(f"{path}: there is no pair of words in it")
    return found


def _cells(line: str, separator: str | None) -> list[str]:
    if separator is None:
        return line.split()
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]


def _number(cells: list[str]) -> int | None:
    """Find the first column after two words that holds a number."""
    places = (i for i in range(2, len(cells)) if _score(cells[i]) is not None)
    return next(places, None)


def _score(cell: str) -> float | None:
    try:
        score = float(cell)
    except ValueError:
        return None
    return score if math.isfinite(score) else None
