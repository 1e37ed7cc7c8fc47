"""Batches of things of unequal length, so that little of them is padding."""

import numpy as np
from numpy.typing import NDArray


def longest_first(lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """Order by falling length, shape (n,): neighbours then need next to no padding.

    The longest come first, so that what does not fit into memory shows at once.
    """
    return np.argsort(-lengths.astype(np.int64), kind="stable")


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
