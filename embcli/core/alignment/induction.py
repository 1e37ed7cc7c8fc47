"""Dictionaries induced from vectors that are compared already: what is near by CSLS."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.csls import csls
from embcli.core.matching import mutual

NEIGHBOURHOOD = 10
# Probabilities of self-learning, doubled after every stage, as in VecMap.
KEEP = (0.1, 0.2, 0.4, 0.8, 1.0)
_LEVELS = 256


class Dictionary(NamedTuple):
    """Rows of the source and of the target that are taken to belong together.

    Attributes
    ----------
    rows, columns : int64 array, shape (n_pairs,)
    score : float
        Mean CSLS of the pairs, between -4 and 4; 0 is that of vectors as near to each other as
        to their neighbours.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    score: float


def mutual_nearest(a: NDArray[np.float32], b: NDArray[np.float32]) -> Dictionary:
    """Pair rows that are nearest to each other by CSLS, among all.

    Parameters
    ----------
    a, b : float32 array, shape (n, dim) and (m, dim)
        Neither is empty. Not modified.

    Returns
    -------
    dictionary : Dictionary
        Every row at most once. Without a pair, which only ties can bring about, the score is -4.

    Notes
    -----
    As `embcli.core.csls.csls`, both ways: O(n · m · dim) time, O((n + m) · dim) memory.
    """
    pairs = mutual(csls(a, b, neighbourhood=NEIGHBOURHOOD), csls(b, a, neighbourhood=NEIGHBOURHOOD))
    score = float(pairs.values.mean()) if len(pairs.rows) else -4.0
    return Dictionary(pairs.rows, pairs.columns, score)


def drop_out(
    a: NDArray[np.float32], b: NDArray[np.float32], keep: float, rng: np.random.Generator
) -> Dictionary:
    """Pair every row of either side with its best by CSLS, out of some drawn at random.

    Parameters
    ----------
    a, b : float32 array, shape (n, dim) and (m, dim)
        Of unit length.
    keep : float
        Probability that a pair may be chosen, 1 for all of them.
    rng : numpy.random.Generator

    Returns
    -------
    dictionary : Dictionary
        n + m pairs.

    Notes
    -----
    Stochastic dictionary induction [1]_: what is left out at random lets a map leave an optimum
    that is only local. Probabilities are rounded to 1/256: a random byte decides on each pair.
    O(n · m) memory, so for a few thousand rows.

    References
    ----------
    .. [1] M. Artetxe, G. Labaka, E. Agirre. A robust self-learning method for fully unsupervised
       cross-lingual mappings of word embeddings. ACL 2018.
    """
    forward = np.float32(2) * (a @ b.T)
    crowd_a, crowd_b = density(forward) / 2, density(forward.T) / 2
    backward = forward - crowd_a[:, None]
    forward -= crowd_b
    if keep < 1:
        for scores in (forward, backward):
            drawn = rng.integers(0, _LEVELS, scores.shape, dtype=np.uint8)
            scores[drawn >= round(_LEVELS * keep)] = -np.inf
    across, down = forward.argmax(axis=1), backward.argmax(axis=0)
    best = np.concatenate(
        [
            forward[np.arange(len(a)), across] - crowd_a,
            backward[down, np.arange(len(b))] - crowd_b,
        ]
    )
    rows = np.concatenate([np.arange(len(a)), down])
    columns = np.concatenate([across, np.arange(len(b))])
    left = np.isfinite(best)  # of few vectors, all pairs of one may have been dropped
    if not left.any():
        left[:] = True
        best[:] = 0
    return Dictionary(rows[left], columns[left], float(best[left].mean()))


def density(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the greatest scores of every row, shape (n,): r of CSLS, if these are cosines."""
    k = min(NEIGHBOURHOOD, scores.shape[1])
    means: NDArray[np.float32] = np.partition(scores, -k, axis=1)[:, -k:].mean(axis=1)
    return means
