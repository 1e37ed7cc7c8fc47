"""Figures of merit from the ranks of judged documents, all of them ranked against all others."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.core.topk import DECIMALS

MEASURES = ("Success@1", "Success@10", "R@10", "nDCG@10", "AP")

_NUMBERS_AT_ONCE = 1 << 22
_CUTOFF = 10

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class Judged(NamedTuple):
    """Which documents are relevant to which queries.

    Attributes
    ----------
    rows, columns, grades : int64 array, shape (n_relevant,)
        Query, document and a grade above 0. A column of -1 is a document that is not among those
        searched: it counts as never found.
    queries : int
        How many queries there are, those without any relevant document among them.
    """

    rows: Integers
    columns: Integers
    grades: Integers
    queries: int


def ranks(
    queries: NDArray[np.floating],
    documents: NDArray[np.floating],
    judged: Judged,
    penalties: Floats | None = None,
) -> Integers:
    """Rank the relevant documents of every query among all documents.

    Parameters
    ----------
    queries, documents : float array, shapes (n, dim) and (m, dim)
        Compared by cosine.
    judged : Judged
    penalties : float64 array, shape (m,), optional
        Taken away from the cosine of every document, see
        `embcli.core.alignment.evaluation.penalties`.

    Returns
    -------
    ranks : int64 array, shape (n_relevant,)
        1 is best; of equals those rank first that come first. 0 is never.

    Notes
    -----
    In float64, some queries at a time: O(n · m · dim + n_relevant · m) time.
    """
    found = np.zeros(len(judged.rows), np.int64)
    right = unit(documents).T
    taken = np.zeros(len(documents)) if penalties is None else penalties
    order = np.argsort(judged.rows, kind="stable")
    order = order[judged.columns[order] >= 0]
    at_once = max(1, _NUMBERS_AT_ONCE // max(len(documents), 1))
    for start in range(0, len(queries), at_once):
        first, last = np.searchsorted(judged.rows[order], [start, start + at_once])
        some = order[first:last]
        scores = unit(queries[start : start + at_once]) @ right
        scores = (scores - taken).round(DECIMALS)
        for item in some.tolist():
            values, column = scores[judged.rows[item] - start], judged.columns[item]
            above = np.count_nonzero(values > values[column])
            found[item] = 1 + above + np.count_nonzero(values[:column] == values[column])
    return found


def figures(ranks: Integers, judged: Judged) -> dict[str, Floats]:
    """Compute measures for every query.

    Parameters
    ----------
    ranks : int64 array, shape (n_relevant,)
        As `ranks` gives them.
    judged : Judged

    Returns
    -------
    figures : dict of str to float64 array, shape (n_queries,)
        ``Success@k``, whether a relevant document is among the first k, is what papers on
        retrieval of images and sentences call R@k; ``R@10`` is the share of the relevant
        documents that is. ``nDCG@10`` has linear gains; ``AP`` is over the whole ranking. As
        trec_eval has them. A query without relevant documents gets 0.
    """
    relevant = np.bincount(judged.rows, minlength=judged.queries)
    order = np.lexsort((ranks, judged.rows))
    order = order[ranks[order] > 0]
    rows, places, grades = judged.rows[order], ranks[order], judged.grades[order]
    best = np.full(judged.queries, np.inf)
    np.minimum.at(best, rows, places)
    precision = (np.arange(len(rows)) - np.searchsorted(rows, rows) + 1) / places
    top = places <= _CUTOFF

    def summed(weights: Floats) -> Floats:
        return np.bincount(rows, weights, judged.queries).astype(np.float64)

    def share(values: Floats, of: NDArray[np.floating] | Integers) -> Floats:
        return np.divide(values, of, out=np.zeros(judged.queries), where=np.asarray(of) > 0)

    return {
        "Success@1": (best <= 1).astype(np.float64),
        "Success@10": (best <= _CUTOFF).astype(np.float64),
        "R@10": share(summed(top.astype(np.float64)), relevant),
        "nDCG@10": share(summed(np.where(top, grades / np.log2(places + 1), 0)), _ideal(judged)),
        "AP": share(summed(precision), relevant),
    }


def _ideal(judged: Judged) -> Floats:
    order = np.lexsort((-judged.grades, judged.rows))
    rows, grades = judged.rows[order], judged.grades[order]
    places = np.arange(len(rows)) - np.searchsorted(rows, rows) + 1
    gains = np.where(places <= _CUTOFF, grades / np.log2(places + 1), 0)
    return np.bincount(rows, gains, judged.queries).astype(np.float64)
