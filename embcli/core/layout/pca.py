"""The directions in which vectors vary most."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.separability.vectors import parts
from embcli.errors import InputError, counted


class Pca(NamedTuple):
    """Principal components of vectors.

    Attributes
    ----------
    coordinates : float32 array, shape (n, dim)
        Of the vectors, on the first `dim` components.
    components : float64 array, shape (dim, width)
        Of length 1, by falling variance; the number furthest from 0 in each is positive.
    mean : float64 array, shape (width,)
    variance_ratio : float64 array, shape (width,)
        The share of the variance that each of all components has, by falling share; zeros if there
        is no variance.
    """

    coordinates: NDArray[np.float32]
    components: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance_ratio: NDArray[np.float64]


def pca_layout(vectors: NDArray[np.floating], dim: int = 2) -> Pca:
    """Project vectors onto their first principal components.

    Parameters
    ----------
    vectors : float array, shape (n, width)
        Not modified.
    dim : int

    Returns
    -------
    pca : Pca

    Raises
    ------
    InputError
        There is no vector, or `dim` is more than the vectors have dimensions.

    Notes
    -----
    Exact, from the covariance in float64: O(n · width² + width³) time, O(n · dim + width²) memory.
    """
    n, width = vectors.shape
    if not n:
        raise InputError("there is no vector to lay out")
    if dim > width:
        raise InputError(
            f"vectors of {counted(width, 'dimension')} have no {dim} principal components"
        )
    mean = np.asarray(vectors.mean(axis=0, dtype=np.float64))
    scatter = np.zeros((width, width))
    for part in parts(n):
        centred = vectors[part] - mean
        scatter += centred.T @ centred
    variances, directions = np.linalg.eigh(scatter)
    variances = np.maximum(variances[::-1], 0)
    components = directions.T[::-1][:dim].copy()
    furthest = np.argmax(np.abs(components), axis=1)
    components *= np.where(components[np.arange(dim), furthest] < 0, -1, 1)[:, None]
    total = variances.sum()
    ratio = variances / total if total > 0 else np.zeros(width)
    return Pca(_projected(vectors, components, mean), components, mean, ratio)


def pca_place(pca: Pca, new: NDArray[np.floating]) -> NDArray[np.float32]:
    """Project new vectors, shape (m, width), onto the components of old ones: (m, dim)."""
    return _projected(new, pca.components, pca.mean)


def _projected(
    vectors: NDArray[np.floating], components: NDArray[np.float64], mean: NDArray[np.float64]
) -> NDArray[np.float32]:
    coordinates = np.empty((len(vectors), len(components)), np.float32)
    for part in parts(len(vectors)):
        coordinates[part] = (vectors[part] - mean) @ components.T
    return coordinates


def spread_start(
    vectors: NDArray[np.floating], dim: int, extent: float, seed: int
) -> NDArray[np.float32]:
    """Give where an iterative method begins: principal components, from 0 to `extent`.

    Parameters
    ----------
    vectors : float array, shape (n, width)
    dim : int
        May exceed the vectors' dimensions.
    extent : float
        Of the widest component.
    seed : int
        Of a little noise, which parts equal vectors.

    Returns
    -------
    start : float32 array, shape (n, dim)
    """
    start = np.zeros((len(vectors), dim))
    known = min(dim, vectors.shape[1])
    start[:, :known] = pca_layout(vectors, known).coordinates
    start -= start.min(axis=0)
    widest = np.ptp(start, axis=0).max()
    start *= extent / widest if widest > 0 else 0
    noise = np.random.default_rng(seed).normal(scale=1e-4 * extent, size=start.shape)
    return (start + noise).astype(np.float32)
