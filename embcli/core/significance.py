"""Whether a difference between two systems is more than chance: paired tests."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS = 100_000

_NUMBERS_AT_ONCE = 1 << 22
# Sums of the same numbers in another order may differ by this share of their sizes.
_ROUNDING = 1e-12


class Randomization(NamedTuple):
    """What a randomization test found, and of how many permutations."""

    p: float
    permutations: int


def paired_t_test(differences: NDArray[np.float64]) -> float | None:
    """Compute the two-sided p-value of Student's paired t-test.

    Parameters
    ----------
    differences : float64 array, shape (n,)
        One system's values less the other's, pair by pair.

    Returns
    -------
    p : float or None
        None for less than two pairs; 1 if there is no difference at all.
    """
    # scipy.stats, which has the whole test, takes a second to import.
    from scipy.special import stdtr

    n = len(differences)
    if n < 2:
        return None
    if not differences.any():
        return 1.0
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    t = abs(float(differences.mean())) / error if error else math.inf
    return 2 * float(stdtr(n - 1, -t))


def sign_test(wins: int, losses: int) -> float:
    """Compute the two-sided p-value of the exact sign test.

    Were the systems alike, a pair that does not tie would be won as often as lost.

    Parameters
    ----------
    wins, losses : int
        Pairs that tie are left out.

    Returns
    -------
    p : float
        1 where there are neither.
    """
    n, fewer = wins + losses, min(wins, losses)
    term, total = 1, 0
    for count in range(fewer + 1):
        total += term
        term = term * (n - count) // (count + 1)
    return min(1.0, total / (1 << max(n - 1, 0)))


def randomization_test(
    differences: NDArray[np.float64], seed: int = 0, permutations: int = PERMUTATIONS
) -> Randomization:
    """Compute the two-sided p-value of Fisher's randomization test of a mean difference.

    If the systems were alike, each pair could as well have come out the other way round. The
    p-value is the share of all such exchanges whose mean difference is at least as large as the
    one observed. Like the t-test it uses the sizes of the differences, but assumes nothing of
    how they are distributed [1]_.

    Parameters
    ----------
    differences : float64 array, shape (n,)
        One system's values less the other's, pair by pair.
    seed : int
    permutations : int
        All exchanges are counted if they are no more than this; else as many are drawn, and the
        one observed is counted with them, so that p is never 0 [2]_.

    Returns
    -------
    result : Randomization

    References
    ----------
    .. [1] M. D. Smucker, J. Allan, B. Carterette. A comparison of statistical significance tests
       for information retrieval evaluation. CIKM 2007.
    .. [2] B. Phipson, G. K. Smyth. Permutation p-values should never be zero. Statistical
       Applications in Genetics and Molecular Biology 9, 2010.
    """
    sizes = np.abs(differences[differences != 0])  # a pair that ties may be exchanged freely
    n = len(sizes)
    total = float(sizes.sum())
    least = abs(float(differences.sum())) - _ROUNDING * total
    at_once = max(1, _NUMBERS_AT_ONCE // max(n, 1))
    exact = n < 63 and 2**n <= permutations
    count = 2**n if exact else permutations
    rng = np.random.default_rng(seed)
    reached = 0
    for start in range(0, count, at_once):
        rows = min(at_once, count - start)
        if exact:
            numbers = np.arange(start, start + rows)[:, None]
            positive = (numbers >> np.arange(n)) & 1
        else:
            positive = rng.integers(0, 2, (rows, n), np.int8)
        sums = 2 * (positive.astype(np.float64) @ sizes) - total
        reached += int((np.abs(sums) >= least).sum())
    if exact:
        return Randomization(reached / count, count)
    return Randomization((reached + 1) / (count + 1), count)
