"""Rules of retrieval across spaces: what is taken away from the cosine of each candidate."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit32
from embcli.core.csls import densities
from embcli.core.matching import THREADS
from embcli.errors import UsageError

RETRIEVAL = ("nn", "isf", "csls")
NEIGHBOURHOOD = 10
TEMPERATURE = 30.0

# How many pairs the temperature is fitted to, at least and at most.
_FITTED = (32, 256)
_NUMBERS_AT_ONCE = 1 << 24
_BISECTIONS = 12
_ROWS = 1024
_COLUMNS = 4096


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
