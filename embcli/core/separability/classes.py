"""Which classes there are, and whether vectors and labels can be used at all."""

from collections.abc import Sequence

import numpy as np

from embcli.core.cosine import unit
from embcli.core.separability.vectors import Floats, Ints, Vectors, check_vectors
from embcli.errors import InputError, counted

# How many rows are looked at as float64 at once.
ROWS = 4096
# Mean distances, of 1 less the cosine, below this are 0 but for the rounding of float64.
ROUNDING = 1e-12
_NAMED = 10


def class_sizes(
    vectors: Vectors,
    labels: Ints,
    *,
    fewest: int = 2,
    directions: bool = True,
    names: Sequence[str] | None = None,
) -> Ints:
    """Count the members of every class, once it is known that they can be compared.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
    labels : int64 array, shape (n,)
        The numbers of the classes, 0 to C - 1, all of which occur.
    fewest : int
        How many members each must have.
    directions : bool
        Whether cosines will be taken: then no vector may be zeros only.
    names : sequence of str, optional
        What to call the classes in messages, C of them.

    Returns
    -------
    sizes : int64 array, shape (C,)

    Raises
    ------
    InputError
        There are fewer than 3 vectors, not as many as labels, fewer than two classes, a number
        without a class, a class that is too small, or a vector that is not finite or is zeros.
    """
    if len(vectors) != len(labels):
        raise InputError(
            f"{counted(len(vectors), 'vector')} and {counted(len(labels), 'label')}: there must "
            "be one for each"
        )
    check_vectors(vectors, directions=directions)
    if labels.min() < 0:
        raise InputError(f"class {labels.min()} has a negative number: classes count from 0")
    sizes = np.bincount(labels)
    if len(sizes) < 2:
        raise InputError("all records are of one class: at least two are needed")
    if not sizes.all():
        raise InputError(f"class {np.argmin(sizes)} has no record: classes count from 0 on")
    small = too_small(labels, fewest)
    if len(small):
        some = ", ".join(names[i] if names else str(i) for i in small[:_NAMED])
        more = f" and {len(small) - _NAMED:,} more" if len(small) > _NAMED else ""
        raise InputError(
            f"every class needs at least {counted(fewest, 'record')}; fewer have: {some}{more}"
        )
    return sizes.astype(np.int64)


def too_small(labels: Ints, fewest: int) -> Ints:
    """Give the classes that have members, but fewer than `fewest`, in rising order.

    Parameters
    ----------
    labels : int64 array, shape (n,)
    fewest : int
    """
    classes, sizes = np.unique(labels, return_counts=True)
    return classes[sizes < fewest].astype(np.int64)


def class_sums(vectors: Vectors, labels: Ints, classes: int, *, directions: bool = False) -> Floats:
    """Add up the vectors of every class in float64, shape (C, dim).

    Parameters
    ----------
    vectors : float array, shape (n, dim)
    labels : int64 array, shape (n,)
    classes : int
        How many there are.
    directions : bool
        Whether vectors are scaled to length 1 before.
    """
    sums = np.zeros((classes, vectors.shape[1]))
    for start in range(0, len(vectors), ROWS):
        part = labels[start : start + ROWS]
        # Rows of one class side by side are added much faster than one by one.
        order = np.argsort(part, kind="stable")
        found, first = np.unique(part[order], return_index=True)
        block = vectors[start : start + ROWS][order]
        block = unit(block) if directions else block.astype(np.float64)
        sums[found] += np.add.reduceat(block, first, axis=0)
    return sums
