"""Batches of things of unequal length, so that little of them is padding."""

import numpy as np
from numpy.typing import NDArray


def longest_first(lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """Order by falling length, shape (n,): neighbours then need next to no padding.

    The longest come first, so that what does not fit into memory shows at once.
    """
    return np.argsort(-lengths.astype(np.int64), kind="stable")


def padded(lengths: NDArray[np.integer], most: int) -> NDArray[np.int64]:
    """Round lengths up to the few that batches are padded to, shape (n,).

    Parameters
    ----------
    lengths : int array, shape (n,)
    most : int
        Largest result.

    Notes
    -----
    Kernels are prepared for every shape that comes: with lengths as they are, hardly a batch has
    the shape of another, which costs a CPU about a quarter of its time. Steps are powers of two,
    at most a quarter of the length and at most 16.
    """
    exact = np.maximum(lengths.astype(np.int64), 1)
    step = np.left_shift(1, np.clip(np.log2(exact / 4).astype(np.int64), 0, 4))
    rounded: NDArray[np.int64] = np.minimum(-(-exact // step) * step, most)
    return np.maximum(rounded, exact)


def batch_end(lengths: NDArray[np.integer], start: int, budget: int) -> int:
    """Where the batch that begins at `start` ends.

    Parameters
    ----------
    lengths : int array, shape (n,)
        In falling order.
    start : int
        Less than n.
    budget : int
        Most tokens in a batch, padding included.

    Returns
    -------
    end : int
        Above `start`: a thing longer than the budget is a batch of its own.
    """
    rows = max(1, budget // max(1, int(lengths[start])))
    return min(start + rows, len(lengths))
