"""How evenly directions lie on the sphere, and how near to each other those that should be."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from embcli.core.cosine import unit, unit32
from embcli.core.matching import THREADS
from embcli.core.separability.vectors import SAMPLE, Ints, Vectors, check_vectors, parts, sampled
from embcli.errors import InputError, UsageError

TEMPERATURE = 2.0
_BLOCK = 1024
# Far beyond, opposite directions underflow.
_HIGHEST = 100


class Uniformity(NamedTuple):
    """How evenly directions lie on the sphere.

    Attributes
    ----------
    value : float
        In [-4 t, 0], the lower the more even; see `uniformity`.
    n : int
        How many vectors' pairs were looked at.
    """

    value: float
    n: int


def uniformity(
    vectors: Vectors, *, t: float = TEMPERATURE, sample: int = SAMPLE, seed: int = 0
) -> Uniformity:
    """Give the logarithm of the mean Gaussian potential of pairs of directions.

    ``log(mean(exp(-t |x - y|²)))`` over all pairs of different vectors, scaled to length 1.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Not modified.
    t : float
        Above 0, at most 100; 2 in the paper.
    sample : int
        How many vectors to look at, at most, drawn without replacement: all pairs among them.
    seed : int

    Raises
    ------
    InputError
        There are fewer than 3 vectors, or one is not finite or all zeros.
    UsageError
        `t` is not above 0 or above 100, or `sample` is below 3.

    Notes
    -----
    On a sphere of many dimensions evenly covered, about -2 t (exactly: the confluent
    hypergeometric limit function, ``log(0F1(dim / 2, t²)) - 2 t``). O(m² · dim) for a sample of m.

    References
    ----------
    T. Wang, P. Isola. Understanding contrastive representation learning through alignment and
    uniformity on the hypersphere. ICML 2020.
    """
    if not 0 < t <= _HIGHEST:
        raise UsageError(f"t is {t}: it must be above 0, and {_HIGHEST} at most")
    check_vectors(vectors)
    rows = unit32(vectors[sampled(len(vectors), sample, seed)])
    n = len(rows)

    def potential(part: slice) -> float:
        total = 0.0
        for start in range(part.start, n, _BLOCK):
            cosines = (rows[part] @ rows[start : start + _BLOCK].T).astype(np.float64)
            kernels = np.exp(2 * t * (np.minimum(cosines, 1) - 1))
            # Of the block on the diagonal every pair is there twice, and each vector with itself.
            total += np.triu(kernels, 1).sum() if start == part.start else kernels.sum()
        return float(total)

    with ThreadPoolExecutor(THREADS) as pool:
        total = sum(pool.map(potential, parts(n, _BLOCK)))
    return Uniformity(float(np.log(total / (n * (n - 1) / 2))), n)


def alignment(left: Vectors, right: Vectors) -> float:
    """Give the mean squared distance of pairs that should be near, scaled to length 1.

    Parameters
    ----------
    left, right : float array, shape (n, dim)
        Row i of each is a pair.

    Returns
    -------
    alignment : float
        In [0, 4]; 0 where every pair is one direction, about 2 where pairs are unrelated.

    Raises
    ------
    InputError
        There are no pairs, the sides differ in shape, or a vector is not finite or all zeros.

    References
    ----------
    Wang and Isola (2020), as `uniformity`, with alpha = 2.
    """
    if left.shape != right.shape:
        raise InputError(f"pairs of shapes {left.shape} and {right.shape}: they must be the same")
    for side in (left, right):
        check_vectors(side, fewest=1)
    squares = sum(
        float(np.square(unit(left[part]) - unit(right[part])).sum()) for part in parts(len(left))
    )
    return squares / len(left)


def class_alignment(vectors: Vectors, labels: Ints) -> float:
    """Give the mean squared distance of all pairs of one class, as `alignment` does.

    From the sums of the classes, without any pair.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
    labels : int64 array, shape (n,)
        Classes from 0 on. A class of one vector has no pairs, and counts for nothing.

    Raises
    ------
    InputError
        No class has two vectors, a class has a negative number, there are not as many labels, or a
        vector is not finite or all zeros.
    """
    if len(vectors) != len(labels):
        raise InputError(f"{len(vectors):,} vectors and {len(labels):,} labels")
    check_vectors(vectors, fewest=2)
    if labels.min() < 0:
        raise InputError(f"class {labels.min()} has a negative number: classes count from 0")
    sizes = np.bincount(labels)
    pairs = float((sizes * (sizes - 1.0)).sum())
    if not pairs:
        raise InputError("no two vectors are of one class: there are no pairs to align")
    sums = np.zeros((len(sizes), vectors.shape[1]))
    for part in parts(len(vectors)):
        order = np.argsort(labels[part], kind="stable")
        classes, first = np.unique(labels[part][order], return_index=True)
        sums[classes] += np.add.reduceat(unit(vectors[part])[order], first, axis=0)
    apart = np.square(sizes.astype(np.float64)).sum() - np.square(sums).sum()
    return float(max(2 * apart / pairs, 0.0))
