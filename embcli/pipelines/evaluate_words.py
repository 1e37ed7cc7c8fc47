"""How good vectors of words are: analogies, and agreement with people on similarity."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.errors import NothingFoundError, counted
from embcli.formats import Problem
from embcli.formats.wordsets import AnalogySet, SimilaritySet, read_word_set
from embcli.pipelines.memory import HELD, ask
from embcli.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embcli.core.analogy import Method

_NAMES: dict["Method", str] = {"3cosadd": "3CosAdd", "3cosmul": "3CosMul"}
# The file that everybody uses calls its syntactic sections gram1-adjective-to-adverb and so on.
_SYNTACTIC = "gram"


@dataclass(frozen=True)
class WordFigure:
    """One figure of an evaluation.

    Attributes
    ----------
    set : str
        Name of the file.
    section : str
        Of analogies; "semantic", "syntactic" and "total" sum up.
    measure : {"3CosAdd", "3CosMul", "Spearman"}
    value : float or None
        The share of questions answered rightly, in [0, 1], or the correlation, in [-1, 1]; None
        where nothing could be measured.
    covered : int
        Questions or pairs all of whose words are there; the others are left out.
    missing : int
        How many were left out.
    """

    set: str
    section: str
    measure: str
    value: float | None
    covered: int
    missing: int

    def row(self) -> dict[str, Any]:
        """Give the figure as commands show it."""
        return dict(vars(self))


class Vocabulary:
    """The words of a collection, each with its row.

    Parameters
    ----------
    words : sequence of str
        Ids, the most frequent first.
    vectors : float32 array, shape (len(words), dim)
    ignore_case : bool
        Words that differ in case only are one, with the vector of the first of them.
    """

    def __init__(
        self, words: Sequence[str], vectors: "NDArray[np.float32]", ignore_case: bool
    ) -> None:
        self._fold: Callable[[str], str] = str.casefold if ignore_case else str
        self._rows: dict[str, int] = {}
        kept: list[int] = []
        for row, word in enumerate(words):
            if self._rows.setdefault(self._fold(word), len(kept)) == len(kept):
                kept.append(row)
        self.vectors = vectors if len(kept) == len(words) else vectors[kept]
        self.missing: set[str] = set()

    def rows(self, words: Sequence[str]) -> list[int] | None:
        """Look up words; None, and a note of it, if one is not there."""
        found = [self._rows.get(self._fold(word)) for word in words]
        self.missing.update(w for w, row in zip(words, found, strict=True) if row is None)
        rows = [row for row in found if row is not None]
        return rows if len(rows) == len(words) else None


def evaluate_words(
    files: Iterable[str | os.PathLike[str]],
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    methods: Sequence["Method"] = ("3cosadd",),
    restrict: int | None = None,
    ignore_case: bool = False,
    problem: Callable[[Problem], object] = lambda problem: None,
    note: Callable[[str], None] = lambda message: None,
) -> list[WordFigure]:
    """Evaluate the vectors of a collection whose records are words.

    Parameters
    ----------
    files : iterable of path
        Analogy and similarity sets, see `embcli.formats.wordsets.read_word_set`.
    db, collection
    methods : sequence of {"3cosadd", "3cosmul"}
        How to answer analogies. Every word of the collection but the three of the question may
        be the answer.
    restrict : int, optional
        Use only so many words, the first ones.
    ignore_case : bool
    problem : callable
        Told of lines that cannot be read.
    note : callable
        Told how many words are not there.

    Returns
    -------
    figures : list of WordFigure

    Raises
    ------
    InputError
        A file cannot be read.
    NothingFoundError
        None of the questions and pairs is covered.
    StoreError
    """
    sets = []
    for file in files:
        words, problems = read_word_set(file)
        sets.append(words)
        for found in problems:
            problem(found)
    with Store(db, readonly=True) as store, store.snapshot():
        source = store.collection(collection)
        names = source.names()
        first = list(names)[:restrict]
        ask([(len(first), source.recipe.dim)], HELD.of(source), note, option="--restrict")
        vectors = source.matrix(None if len(first) == len(names) else _wanted(first, max(names)))[1]
    vocabulary = Vocabulary([names[key] for key in first], vectors, ignore_case)
    figures: list[WordFigure] = []
    for words in sets:
        vocabulary.missing.clear()
        if isinstance(words, AnalogySet):
            figures += _analogies(words, vocabulary, methods)
        else:
            figures.append(_similarities(words, vocabulary))
        if vocabulary.missing:
            some = ", ".join(sorted(vocabulary.missing)[:3])
            missing = counted(len(vocabulary.missing), "word")
            note(f"{words.name}: {missing} not in collection {collection!r}, such as {some}")
    if not any(figure.covered for figure in figures):
        raise NothingFoundError(
            f"collection {collection!r} has the words of no question and of no pair"
            + ("" if ignore_case else " as they are written"),
            hint=None if ignore_case else "--ignore-case",
        )
    return figures


def _wanted(keys: Sequence[int], last: int) -> "NDArray[np.bool_]":
    import numpy as np

    wanted = np.zeros(last + 1, np.bool_)
    wanted[keys] = True
    return wanted


def _analogies(
    words: AnalogySet, vocabulary: Vocabulary, methods: Sequence["Method"]
) -> list[WordFigure]:
    import numpy as np

    from embcli.core.analogy import answer

    covered = {
        section: [rows for question in questions if (rows := vocabulary.rows(question))]
        for section, questions in words.sections.items()
    }
    every = np.array([rows for of_section in covered.values() for rows in of_section], np.int64)
    every = every.reshape(-1, 4)
    figures = []
    for method in methods:
        right = answer(every[:, :3], vocabulary.vectors, method) == every[:, 3]
        counts: dict[str, tuple[int, int, int]] = {}
        start = 0
        for section, of_section in covered.items():
            end = start + len(of_section)
            missing = len(words.sections[section]) - len(of_section)
            counts[section] = int(right[start:end].sum()), len(of_section), missing
            start = end
        for section, (correct, answered, missing) in (*counts.items(), *_sums(counts)):
            accuracy = correct / answered if answered else None
            figures.append(
                WordFigure(words.name, section, _NAMES[method], accuracy, answered, missing)
            )
    return figures


def _sums(counts: dict[str, tuple[int, int, int]]) -> list[tuple[str, tuple[int, int, int]]]:
    """Sum up sections: both kinds, where there are both, and all."""
    grammar = [count for name, count in counts.items() if name.startswith(_SYNTACTIC)]
    meaning = [count for name, count in counts.items() if not name.startswith(_SYNTACTIC)]
    groups = {"total": [*counts.values()]}
    if grammar and meaning:
        groups = {"semantic": meaning, "syntactic": grammar, **groups}
    found = []
    for name, group in groups.items():
        correct, answered, missing = (sum(column) for column in zip(*group, strict=True))
        found.append((name, (correct, answered, missing)))
    return found


def _similarities(words: SimilaritySet, vocabulary: Vocabulary) -> WordFigure:
    import numpy as np

    from embcli.core.correlation import spearman
    from embcli.core.cosine import pair_cosines

    found = [
        (rows, score)
        for left, right, score in words.pairs
        if (rows := vocabulary.rows((left, right)))
    ]
    places = np.array([rows for rows, _ in found], np.int64).reshape(-1, 2)
    similarities = pair_cosines(vocabulary.vectors, vocabulary.vectors, places[:, 0], places[:, 1])
    value = spearman(similarities, [score for _, score in found])
    return WordFigure(
        words.name,
        "total",
        "Spearman",
        None if math.isnan(value) else value,
        len(found),
        len(words.pairs) - len(found),
    )
