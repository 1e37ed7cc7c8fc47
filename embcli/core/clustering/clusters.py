"""What every way of clustering gives."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOISE = -1


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which cluster every row is in.

    Attributes
    ----------
    labels : int64 array, shape (n,)
        From 0 on by falling size, of equals by the first row; `NOISE` for rows in none.
    strengths : float32 array, shape (n,)
        How firmly a row belongs to its cluster, from 0 to 1; 0 for noise.
    details : dict
        What the method has to say of itself: iterations, inertia, parameters it chose.
    levels : tuple of int64 arrays, each of shape (n,)
        Coarser clusterings of the same rows, the finest first, if the method gives any.
    """

    labels: NDArray[np.int64]
    strengths: NDArray[np.float32]
    details: dict[str, Any] = field(default_factory=dict)
    levels: tuple[NDArray[np.int64], ...] = ()

    @property
    def count(self) -> int:
        """The number of clusters; noise is none."""
        return int(self.labels.max(initial=NOISE)) + 1


def by_size(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Renumber clusters from 0 on by falling size, of equals by the first row; noise stays.

    Parameters
    ----------
    labels : int array, shape (n,)
        Any numbers; negative ones are noise.

    Returns
    -------
    labels : int64 array, shape (n,)
    """
    renumbered = np.full(len(labels), NOISE, np.int64)
    inside = labels >= 0
    _, first, inverse, counts = np.unique(
        labels[inside], return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((first, -counts))
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order))
    renumbered[inside] = numbers[inverse]
    return renumbered
