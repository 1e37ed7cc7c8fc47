"""How well a map translates: ranks of what should be found among all vectors of the target."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.retrieval import TEMPERATURE, fitted_temperature, penalties
from embcli.core.cosine import pair_cosines, unit32
from embcli.core.maps import Map
from embcli.core.matching import SLACK, THREADS
from embcli.core.topk import DECIMALS
from embcli.errors import InputError

_ROWS = 1024
_COLUMNS = 4096


class Scores(NamedTuple):
    """What was found of what should be.

    Attributes
    ----------
    precision : dict of int to float
        By k: the share of sources with a right target among the first k.
    mrr : float
        Mean of 1 / rank of the first right target.
    sources : int64 array, shape (n_sources,)
        The rows that were looked up, rising.
    ranks : int64 array, shape (n_sources,)
        Of the first right target of each, 1 if it comes first of all.
    """

    precision: dict[int, float]
    mrr: float
    sources: NDArray[np.int64]
    ranks: NDArray[np.int64]


def translation(
    map: Map,
    pairs: Pairs,
    gold: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    retrieval: str = "csls",
    ks: Sequence[int] = (1, 5, 10),
    temperature: float | None = None,
) -> Scores:
    """Look up what should be found, all vectors of the target being candidates.

    Parameters
    ----------
    map : Map
    pairs : Pairs
        All vectors of both sides. The temperature of the inverted softmax is fitted to its pairs,
        which should be those that the map was fitted to; of the others they change nothing.
    gold : pair of int64 array, each of shape (n_gold,)
        Rows of the source, and rows of the target that are right for them. A source may have
        several: it counts as found when any of them is, as in MUSE [1]_.
    retrieval : {"nn", "isf", "csls"}
        See `embcli.core.alignment.retrieval.penalties`.
    ks : sequence of int
    temperature : float, optional
        Of the inverted softmax, if it is known from elsewhere.

    Raises
    ------
    InputError
        `gold` is empty.
    UsageError
        There is no such rule.

    References
    ----------
    .. [1] A. Conneau, G. Lample, M. Ranzato, L. Denoyer, H. Jégou. Word translation without
       parallel data. ICLR 2018.
    """
    if not len(gold[0]):
        raise InputError("there is nothing to look up: no test pair has vectors on both sides")
    source, target = map.source.apply(pairs.source), map.target.apply(pairs.target)
    heat = temperature or TEMPERATURE
    if retrieval == "isf" and temperature is None and len(pairs.rows):
        heat = fitted_temperature(source, target, pairs.rows, pairs.columns)
    taken = penalties(source, target, retrieval, temperature=heat)
    ranked = ranks(source, target, gold, taken)
    return Scores(
        {k: float((ranked <= k).mean()) for k in ks},
        float((1 / ranked).mean()),
        np.unique(gold[0]),
        ranked,
    )


def ranks(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    gold: tuple[NDArray[np.int64], NDArray[np.int64]],
    penalties: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Rank the first right target of every source among all targets.

    Parameters
    ----------
    source, target : float array, shape (n, dim) and (m, dim)
        All vectors of both sides, mapped.
    penalties : float64 array, shape (m,)
        What is taken away from the cosine of each target.
    gold
        As of `translation`.

    Returns
    -------
    ranks : int64 array, shape (n_sources,)
        By rising row of the source. Of equals those rank first that come first.

    Notes
    -----
    Counted with products in float32; what comes near the right target is compared in float64.
    O(n_sources · m · dim) time, one block of products in memory.
    """
    rows, columns, values = _best_gold(source, target, gold, penalties)
    left, right = unit32(source[rows]), unit32(target)
    taken = penalties.astype(np.float32)
    found = np.ones(len(rows), np.int64)

    def count(top: int) -> None:
        part = slice(top, top + _ROWS)
        wanted = values[part, None].astype(np.float32)
        for first in range(0, len(target), _COLUMNS):
            scores = left[part] @ right[first : first + _COLUMNS].T
            scores -= taken[first : first + _COLUMNS]
            scores -= wanted
            found[part] += np.count_nonzero(scores > SLACK, axis=1)
            near = np.flatnonzero(np.abs(scores, out=scores) <= SLACK)
            row, column = np.divmod(near, scores.shape[1])
            row, column = row + top, column + first
            rival = _values(source, target, rows[row], column, penalties)
            ahead = (rival > values[row]) | ((rival == values[row]) & (column < columns[row]))
            np.add.at(found, row[ahead], 1)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(count, range(0, len(rows), _ROWS)))
    return found


def _best_gold(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    gold: tuple[NDArray[np.int64], NDArray[np.int64]],
    penalties: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Give each source, the right target that comes first, and its value."""
    rows, columns = gold
    values = _values(source, target, rows, columns, penalties)
    order = np.lexsort((columns, -values, rows))
    _, first = np.unique(rows[order], return_index=True)
    best = order[first]
    return rows[best], columns[best], values[best]


def _values(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    penalties: NDArray[np.float64],
) -> NDArray[np.float64]:
    exact = pair_cosines(source, target, rows, columns) - penalties[columns]
    return exact.round(DECIMALS)
