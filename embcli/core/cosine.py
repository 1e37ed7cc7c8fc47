"""Cosines of a few vectors, as exact as those of a search."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.topk import DECIMALS


def cosines(queries: NDArray[np.floating], vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compare every query with every vector, shape (n_queries, n); 0 with a vector of zeros.

    Parameters
    ----------
    queries : float array, shape (n_queries, dim)
    vectors : float array, shape (n, dim)
    """
    dots: NDArray[np.float64] = np.einsum("id,jd->ij", unit(queries), unit(vectors))
    return dots.round(DECIMALS)


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale vectors to length 1, shape (…, dim); those of zeros stay."""
    exact = np.asarray(vectors, np.float64)
    norms = np.linalg.norm(exact, axis=-1, keepdims=True)
    scaled: NDArray[np.float64] = np.divide(exact, norms, out=np.zeros_like(exact), where=norms > 0)
    return scaled
