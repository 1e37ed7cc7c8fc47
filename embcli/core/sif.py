"""Texts as weighted averages of word vectors (smooth inverse frequency)."""

import numpy as np
from numpy.typing import NDArray

A = 1e-3


def zipf(count: int) -> NDArray[np.float64]:
    """Estimate how frequent words are from their order alone, shape (count,), summing up to 1.

    By Zipf's law, the frequency of a word goes with the inverse of its rank.
    """
    inverse = 1 / np.arange(1, count + 1)
    shares: NDArray[np.float64] = inverse / inverse.sum()
    return shares


def sif_weights(frequencies: NDArray[np.floating], a: float = A) -> NDArray[np.float64]:
    """Weights of words in the average, a / (a + p), shape (n,).

    Parameters
    ----------
    frequencies : float array, shape (n,)
        Share of each word among all words of a text.
    a : float
        The smaller, the less frequent words count.

    References
    ----------
    Arora, Liang and Ma (2017), "A Simple but Tough-to-Beat Baseline for Sentence Embeddings",
    equation 3; its range for a is 1e-4 to 1e-3.
    """
    weights: NDArray[np.float64] = a / (a + np.asarray(frequencies, np.float64))
    return weights


def common_component(averages: NDArray[np.floating]) -> NDArray[np.float64]:
    """Find the direction that averages of texts have most in common.

    Parameters
    ----------
    averages : float array, shape (n_texts, dim)
        Weighted averages of texts; not centred.

    Returns
    -------
    component : float64 array, shape (dim,)
        The first right singular vector, of unit length; its largest entry is positive.

    References
    ----------
    Arora, Liang and Ma (2017), algorithm 1, line 5.
    """
    exact = np.asarray(averages, np.float64)
    first = np.linalg.eigh(exact.T @ exact)[1][:, -1]
    component: NDArray[np.float64] = first * np.sign(first[np.abs(first).argmax()])
    return component


def remove_component(
    vectors: NDArray[np.floating], component: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Take a direction of unit length out of every row of `vectors`, shape (n, dim)."""
    along = vectors @ component
    removed: NDArray[np.float32] = (vectors - np.outer(along, component)).astype(np.float32)
    return removed
