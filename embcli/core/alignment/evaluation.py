"""How well a map translates: precision and rank of what should be found, among all of the target.

Retrieval rules differ only in what is taken away from the cosine of each candidate.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.cosine import pair_cosines, unit32
from embcli.core.csls import densities
from embcli.core.maps import Map
from embcli.core.matching import SLACK, THREADS
from embcli.core.topk import DECIMALS
from embcli.errors import InputError, UsageError

RETRIEVAL = ("nn", "isf", "csls")
NEIGHBOURHOOD = 10
TEMPERATURE = 30.0

# How many pairs the temperature is fitted to, at least and at most.
_FITTED = (32, 256)
_NUMBERS_AT_ONCE = 1 << 24
_BISECTIONS = 12
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
        See `penalties`.
    ks : sequence of int

    Raises
    ------
    InputError
        `gold` is empty.

    References
    ----------
    .. [1] A. Conneau, G. Lample, M. Ranzato, L. Denoyer, H. Jégou. Word translation without
       parallel data. ICLR 2018.
    """
    if not len(gold[0]):
        raise InputError("there is nothing to look up: no test pair has vectors on both sides")
    source, target = map.source.apply(pairs.source), map.target.apply(pairs.target)
    heat = TEMPERATURE
    if retrieval == "isf" and len(pairs.rows):
        heat = fitted_temperature(source, target, pairs.rows, pairs.columns)
    taken = penalties(source, target, retrieval, temperature=heat)
    ranked = ranks(source, target, gold, taken)
    return Scores(
        {k: float((ranked <= k).mean()) for k in ks},
        float((1 / ranked).mean()),
        np.unique(gold[0]),
        ranked,
    )


def penalties(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    retrieval: str,
    *,
    neighbourhood: int = NEIGHBOURHOOD,
    temperature: float = TEMPERATURE,
) -> NDArray[np.float64]:
    """Tell what a retrieval rule takes away from the cosine of every candidate.

    Parameters
    ----------
    source, target : float array, shape (n, dim) and (m, dim)
        All vectors of both sides, mapped.
    retrieval : {"nn", "isf", "csls"}
        ``nn``, nearest neighbour, is the cosine itself. ``isf`` is the inverted softmax [1]_: the
        probability of the source given the target, over all sources, so that the logarithm of the
        target's sum is taken away. ``csls`` [2]_ takes away half the mean cosine of the target
        with the sources nearest to it.
    neighbourhood : int
        Of CSLS, how many are nearest; 10 in the paper.
    temperature : float
        Of the inverted softmax: what cosines are multiplied with. 30 is MUSE's; see
        `fitted_temperature`.

    Returns
    -------
    penalties : float64 array, shape (m,)
        The order of ``cosine - penalty`` is that of the rule.

    Raises
    ------
    UsageError
        There is no such rule.

    Notes
    -----
    O(n · m · dim) time, except for ``nn``; O((n + m) · dim) memory.

    References
    ----------
    .. [1] S. Smith, D. Turban, S. Hamblin, N. Hammerla. Offline bilingual word vectors, orthogonal
       transformations and the inverted softmax. ICLR 2017.
    .. [2] A. Conneau, G. Lample, M. Ranzato, L. Denoyer, H. Jégou. Word translation without
       parallel data. ICLR 2018.
    """
    if retrieval == "nn":
        return np.zeros(len(target))
    if retrieval == "csls":
        return densities(source, target, neighbourhood)[1] / 2
    if retrieval == "isf":
        return _log_sums(source, target, temperature) / temperature
    raise UsageError(f"no retrieval {retrieval!r} (there are: {', '.join(RETRIEVAL)})")


def fitted_temperature(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> float:
    """Fit the temperature of the inverted softmax to pairs, as its paper does.

    Parameters
    ----------
    source, target : float array, shape (n, dim) and (m, dim)
        All vectors of both sides, mapped.
    rows, columns : int64 array, shape (n_pairs,)
        Which of them are pairs; of many, 256 that lie evenly among them are taken, fewer
        where there are more than 65,536 sources.

    Returns
    -------
    temperature : float
        Between 1 and 1000, that under which sources are likeliest given their targets.

    Notes
    -----
    The log-likelihood is concave: its slope, the cosine of pairs less its expectation among all
    sources, is 0 at one temperature only, which is found by bisection.
    """
    most = max(_FITTED[0], min(_FITTED[1], _NUMBERS_AT_ONCE // len(source)))
    few = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.int64))
    products = unit32(target[columns[few]]) @ unit32(source).T
    paired = float(products[np.arange(len(few)), rows[few]].mean())
    low, high = 0.0, float(np.log(1000))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        weights = np.exp(
            (products - products.max(axis=1, keepdims=True)) * np.float32(np.exp(middle))
        )
        weights /= weights.sum(axis=1, keepdims=True)
        expected = float(np.einsum("ij,ij->i", weights, products).mean())
        low, high = (middle, high) if expected < paired else (low, middle)
    return float(np.exp(low))


def ranks(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    gold: tuple[NDArray[np.int64], NDArray[np.int64]],
    penalties: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Rank the first right target of every source among all targets.

    Parameters
    ----------
    source, target, penalties
        As of `penalties`.
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


def _log_sums(
    source: NDArray[np.floating], target: NDArray[np.floating], temperature: float
) -> NDArray[np.float64]:
    """Sum exp(temperature · cosine) over all sources for every target; give the logarithms."""
    left, right = unit32(source), unit32(target)
    sums = np.full(len(target), -np.inf)

    def add(first: int) -> None:
        part = slice(first, first + _COLUMNS)
        for top in range(0, len(source), _ROWS):
            scores = left[top : top + _ROWS] @ right[part].T
            scores *= np.float32(temperature)
            peak = scores.max(axis=0)
            scores -= peak
            total = np.exp(scores, out=scores).sum(axis=0, dtype=np.float64)
            sums[part] = np.logaddexp(sums[part], np.log(total) + peak)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(add, range(0, len(target), _COLUMNS)))
    return sums
