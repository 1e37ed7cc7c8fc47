"""Analogies in a space of words: what is to c as b is to a."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import cosines, unit32
from embcli.core.topk import DECIMALS

Method = Literal["3cosadd", "3cosmul"]
METHODS: tuple[Method, ...] = ("3cosadd", "3cosmul")
EPSILON = 1e-3

# So many more candidates than asked for are scored in float64: rounding can swap neighbours.
_MORE = 32
_QUESTIONS_AT_ONCE = 128
_WORDS_AT_ONCE = 2048


def combine(
    positive: NDArray[np.floating], negative: NDArray[np.floating], method: Method
) -> NDArray[np.floating]:
    """Make scores of words out of their cosines with the terms of an analogy.

    Parameters
    ----------
    positive : float array, shape (n_positive, ...)
        Cosines of candidates with each term that is added.
    negative : float array, shape (n_negative, ...)
        Those with each term that is taken away; there may be none.
    method : {"3cosadd", "3cosmul"}

    Returns
    -------
    scores : float array, shape (...)

    Notes
    -----
    3CosAdd is the sum of the former less the sum of the latter: all vectors count with unit
    length. 3CosMul is the product of the former over the product of the latter, cosines being
    moved to [0, 1] as (cos + 1) / 2, and `EPSILON` added to each factor below.

    References
    ----------
    Levy and Goldberg (2014), "Linguistic Regularities in Sparse and Explicit Word
    Representations", equations 3 and 4; there with two words added and one taken away, here with
    any number of them.
    """
    if method == "3cosadd":
        scores: NDArray[np.floating] = positive.sum(axis=0)
        if len(negative):
            scores = scores - negative.sum(axis=0)
        return scores
    scores = ((positive + 1) / 2).prod(axis=0)
    if len(negative):
        scores = scores / ((negative + 1) / 2 + EPSILON).prod(axis=0)
    return scores


class Analogy:
    """The words that complete one analogy best, out of a stream of candidates.

    Parameters
    ----------
    positive, negative : float array, shape (n, dim)
        Vectors of the words added, at least one, and of those taken away.
    k : int
        How many words to find.
    method : {"3cosadd", "3cosmul"}
    """

    def __init__(
        self,
        positive: NDArray[np.floating],
        negative: NDArray[np.floating],
        k: int,
        method: Method = "3cosadd",
    ) -> None:
        self._terms = np.concatenate([positive, negative])
        self._terms32 = unit32(self._terms)
        self._split = len(positive)
        self._k = k
        self._method = method
        self._keys = np.empty(0, np.int64)
        self._vectors = np.empty((0, self._terms.shape[1]), np.float32)
        self._scores = np.empty(0, np.float32)

    def add(self, keys: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Take candidates, keys of shape (n,) and vectors of shape (n, dim)."""
        scores = self._combine(self._terms32 @ unit32(vectors).T).astype(np.float32)
        best = _largest(scores, self._k + _MORE)
        if len(self._scores) >= self._k + _MORE:
            best = best[scores[best] > self._scores.min()]
            if not len(best):
                return
        self._keys = np.concatenate([self._keys, keys[best]])
        self._vectors = np.concatenate([self._vectors, vectors[best]])
        self._scores = np.concatenate([self._scores, scores[best]])
        best = _largest(self._scores, self._k + _MORE)
        self._keys, self._vectors = self._keys[best], self._vectors[best]
        self._scores = self._scores[best]

    def results(self) -> list[tuple[int, float]]:
        """List the keys of the best and their scores, by falling score, ties by key."""
        scores = self._combine(cosines(self._terms, self._vectors)).round(DECIMALS)
        order = np.lexsort((self._keys, -scores))[: self._k]
        return list(zip(self._keys[order].tolist(), scores[order].tolist(), strict=True))

    def _combine(self, similarities: NDArray[np.floating]) -> NDArray[np.floating]:
        return combine(similarities[: self._split], similarities[self._split :], self._method)


def answer(
    questions: NDArray[np.int64], vectors: NDArray[np.float32], method: Method = "3cosadd"
) -> NDArray[np.int64]:
    """Answer many questions of the kind "a is to b as c is to what?".

    Parameters
    ----------
    questions : int array, shape (n_questions, 3)
        Rows of a, b and c in `vectors`.
    vectors : float array, shape (n_words, dim)
        All words that may be the answer.
    method : {"3cosadd", "3cosmul"}

    Returns
    -------
    answers : int64 array, shape (n_questions,)
        For each the row with the best score, but for a, b and c; of equal ones the first.

    Notes
    -----
    The same words come back in many questions. Each block of candidates is compared once with
    every word that is in any of them, and what a question asks for are sums or products of
    rows of that table, which stays in the cache. Cost O(w n d + q n) for w distinct words among
    q questions; scores are in float32.
    """
    terms, inverse = np.unique(questions, return_inverse=True)
    rows = inverse.reshape(questions.shape)
    unit = unit32(vectors)
    best = np.full(len(questions), -np.inf, np.float32)
    answers = np.full(len(questions), -1, np.int64)
    for start in range(0, len(unit), _WORDS_AT_ONCE):
        block = unit[start : start + _WORDS_AT_ONCE]
        table = _factors(unit[terms] @ block.T, method)
        for part in _parts(len(questions)):
            a, b, c = (table[rows[part, i]] for i in range(3))
            scores = _scores(a, b, c, method)
            for i in range(3):  # the words of the question are no answers
                column = questions[part, i] - start
                inside = np.flatnonzero((column >= 0) & (column < len(block)))
                scores[inside, column[inside]] = -np.inf
            found = scores.argmax(axis=1)
            value = scores[np.arange(len(found)), found]
            better = np.flatnonzero(value > best[part])
            best[part.start + better] = value[better]
            answers[part.start + better] = found[better] + start
    return answers


def _factors(similarities: NDArray[np.float32], method: Method) -> NDArray[np.float32]:
    return similarities if method == "3cosadd" else (similarities + np.float32(1)) / np.float32(2)


def _scores(
    a: NDArray[np.float32], b: NDArray[np.float32], c: NDArray[np.float32], method: Method
) -> NDArray[np.float32]:
    """Combine what `_factors` gave, writing over it."""
    if method == "3cosadd":
        b += c
        b -= a
        return b
    a += np.float32(EPSILON)
    b *= c
    b /= a
    return b


def _parts(count: int) -> Iterator[slice]:
    for start in range(0, count, _QUESTIONS_AT_ONCE):
        yield slice(start, min(start + _QUESTIONS_AT_ONCE, count))


def _largest(scores: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    if len(scores) <= count:
        return np.arange(len(scores))
    return np.argpartition(-scores, count)[:count]
