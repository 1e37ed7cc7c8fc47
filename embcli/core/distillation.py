"""From vectors of tokens to a static table."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.sif import sif_weights


def principal_components(vectors: NDArray[np.floating], dims: int) -> NDArray[np.float64]:
    """Turn vectors onto their principal axes and keep the first, shape (n, dims).

    Parameters
    ----------
    vectors : float array, shape (n, dim)
    dims : int
        At most dim and n.

    Returns
    -------
    scores : float64 array, shape (n, dims)
        Centred; the entry of each column that is largest in size is positive.
    """
    exact = np.asarray(vectors, np.float64)
    centred = exact - exact.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :dims]
    scores = centred @ axes
    largest = scores[np.abs(scores).argmax(axis=0), np.arange(dims)]
    turned: NDArray[np.float64] = scores * np.where(largest < 0, -1.0, 1.0)
    return turned


def static_table(
    vectors: NDArray[np.floating], dims: int | None, a: float | None
) -> NDArray[np.float64]:
    """Make a table whose averages stand for texts.

    Parameters
    ----------
    vectors : float array, shape (n_tokens, dim)
        What a model makes of each token alone; the most frequent first.
    dims : int, optional
        How many principal components to keep; None leaves the vectors as they are.
    a : float, optional
        Weight tokens by a / (a + p), p being their frequency as Zipf's law has it for their
        order; None leaves them at 1.

    Returns
    -------
    table : float64 array, shape (n_tokens, dims)

    Notes
    -----
    As model2vec has it, ranks begin with 2.

    References
    ----------
    Tulkens and van Dongen (2024), "Model2Vec: Fast State-of-the-Art Static Embeddings"; the
    weights are those of Arora, Liang and Ma (2017).
    """
    table = np.asarray(vectors, np.float64)
    if dims is not None:
        table = principal_components(table, dims)
    if a is not None:
        inverse = 1 / np.arange(2, len(table) + 2)
        table = table * sif_weights(inverse / inverse.sum(), a)[:, None]
    return table
