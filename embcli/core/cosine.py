"""Cosines of a few vectors, as exact as those of a search."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.topk import DECIMALS

_PAIRS_AT_ONCE = 1 << 15
_ROWS_AT_ONCE = 1 << 12
# How far the squared length may be from 1 where components of a unit vector were rounded.
_ROUNDED = 4e-7


def cosines(queries: NDArray[np.floating], vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compare every query with every vector, shape (n_queries, n); 0 with a vector of zeros.

    Parameters
    ----------
    queries : float array, shape (n_queries, dim)
    vectors : float array, shape (n, dim)
    """
    dots: NDArray[np.float64] = np.einsum("id,jd->ij", unit(queries), unit(vectors))
    return dots.round(DECIMALS)


def pair_cosines(
    left: NDArray[np.floating],
    right: NDArray[np.floating],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Compare single pairs of vectors; 0 with a vector of zeros.

    Parameters
    ----------
    left, right : float array, shape (n, dim) and (m, dim)
    rows, columns : int64 array, shape (n_pairs,)
        Which of `left` with which of `right`.

    Returns
    -------
    cosines : float64 array, shape (n_pairs,)
        Each depends on its two vectors alone, whatever else is compared.
    """
    cosines = np.empty(len(rows))
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        cosines[part] = np.einsum("ij,ij->i", unit(left[rows[part]]), unit(right[columns[part]]))
    return cosines.round(DECIMALS)


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale vectors to length 1, shape (…, dim); those of zeros stay."""
    exact = np.asarray(vectors, np.float64)
    norms = np.linalg.norm(exact, axis=-1, keepdims=True)
    scaled: NDArray[np.float64] = np.divide(exact, norms, out=np.zeros_like(exact), where=norms > 0)
    return scaled


def unit32(
    vectors: NDArray[np.floating], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Scale many vectors as `unit` does, a part at a time, and round to float32.

    The result is written to `out`, which may be the vectors themselves, or is a new array.
    """
    scaled = np.empty(vectors.shape, np.float32) if out is None else out
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        scaled[part] = unit(vectors[part])
    return scaled


def as_unit32(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Give many vectors at length 1, as `unit32` does, to be read only.

    Those of float32 that have it already, but for rounding, are given back themselves: a copy of
    millions of them takes gigabytes and changes nothing.
    """
    if vectors.dtype != np.float32:
        return unit32(vectors)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        part = vectors[start : start + _ROWS_AT_ONCE]
        squares = np.einsum("ij,ij->i", part, part, dtype=np.float64)
        if (np.abs(squares - 1) > _ROUNDED).any():
            return unit32(vectors)
    return np.asarray(vectors, np.float32)
