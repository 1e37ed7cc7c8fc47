"""What is left of a bias when its direction is gone (Gonen & Goldberg 2019).

H. Gonen, Y. Goldberg. Lipstick on a pig: Debiasing methods cover up systematic gender biases in
word embeddings but do not remove them. NAACL 2019.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit32
from embcli.core.debiasing.probes import Mask, class_numbers, split
from embcli.core.neighbours import greatest
from embcli.errors import InputError, UsageError, counted

Vectors = NDArray[np.floating]

KERNELS = ("rbf", "linear")


class Biased(NamedTuple):
    """The words with the most extreme projections.

    Attributes
    ----------
    rows : int64 array, shape (2 n_each,)
        First those with the least projection, the most extreme first, then those with the greatest.
    labels : int64 array, shape (2 n_each,)
        0 for the least and 1 for the greatest.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]


def most_biased(projections: NDArray[np.floating], n_each: int) -> Biased:
    """Find the words that lean most to either side.

    Parameters
    ----------
    projections : float array, shape (n,)
        Of the original vectors onto the bias direction; of neutral words only, as a rule.
    n_each : int
        How many of each side: the least and the greatest. Sides are not divided at 0, for in
        many spaces all vectors lie on one side of it.

    Returns
    -------
    biased : Biased
        Of equal projections those that come first.

    Raises
    ------
    InputError
        There are fewer than ``2 n_each``.
    """
    if n_each < 1 or len(projections) < 2 * n_each:
        raise InputError(
            f"{n_each:,} of each side cannot be taken out of {counted(len(projections), 'word')}"
        )
    least = np.argsort(projections, kind="stable")
    # Of equal ones the first come first here too, unless they are among the least already.
    greatest_first = np.argsort(-projections, kind="stable")
    left = greatest_first[~np.isin(greatest_first, least[:n_each])]
    rows = np.concatenate([least[:n_each], left[:n_each]])
    return Biased(rows, np.repeat(np.arange(2), n_each))


def cluster_purity(vectors: Vectors, labels: NDArray[np.int64], seed: int = 0) -> float:
    """Cluster words in two and see whether the clusters are the sides.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Clustered at length 1.
    labels : int64 array, shape (n,)
        Two classes.
    seed : int
        Draws the ten starts of k-means, of which the best is taken.

    Returns
    -------
    purity : float
        The share of words in the cluster of their own side, from .5 to 1: the better of the two
        ways of naming the clusters.

    Raises
    ------
    InputError
        There are not two classes.
    """
    from sklearn.cluster import KMeans

    numbers = _two(vectors, labels)
    model: Any = KMeans(2, n_init=10, random_state=seed)
    agree = float(np.mean(model.fit(unit32(vectors)).labels_ == numbers))
    return max(agree, 1 - agree)


def svm_accuracy(
    vectors: Vectors,
    labels: NDArray[np.int64],
    *,
    train: int | Mask = 1000,
    kernel: str = "rbf",
    seed: int = 0,
) -> float:
    """Train a support vector machine on some words and let it tell the side of the others.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        As they are. scikit-learn's defaults: C = 1, the width of the kernel that of the variance.
    labels : int64 array, shape (n,)
        Two classes or more.
    train : int or bool array, shape (n,)
        How many to train on, as large a share of every class; or which.
    kernel : str
        "rbf" (the paper's) or "linear".
    seed : int
        Draws what to train on.

    Returns
    -------
    accuracy : float
        The share of the others told right.

    Raises
    ------
    InputError
        There is one class, or there are too few vectors.
    UsageError
        There is no such kernel.

    Notes
    -----
    Of a map that was fitted to labels, as LEACE and INLP are, give the vectors that it was fitted
    to for training: on others the figure is honest, and on these it is far too low.
    """
    from sklearn.svm import SVC

    if kernel not in KERNELS:
        raise UsageError(f"no kernel {kernel!r} (there are: {', '.join(KERNELS)})")
    numbers = class_numbers(vectors, labels)
    if isinstance(train, int):
        if not 2 <= train < len(numbers):
            raise InputError(
                f"{counted(len(numbers), 'word')}, and {train:,} to train on: some must be left to "
                "test"
            )
        train = split(numbers, train / len(numbers), seed)
    model: Any = SVC(kernel=kernel)
    model.fit(vectors[train], numbers[train])
    return float(np.mean(model.predict(vectors[~train]) == numbers[~train]))


def neighbour_correlation(
    vectors: Vectors,
    candidates: NDArray[np.int64],
    bias: NDArray[np.floating],
    *,
    k: int = 100,
) -> float:
    """Correlate the bias of words with how many of their neighbours lean to one side.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        All words, now; at any length.
    candidates : int64 array, shape (m,)
        The rows of the words to look at, such as professions.
    bias : float array, shape (n,)
        The projections of all words before anything was done to them.
    k : int
        How many nearest neighbours, the word itself not counted.

    Returns
    -------
    correlation : float
        Pearson's, of the original bias of a word and the share of words with a positive one
        among its neighbours; NaN where either is the same for all.

    Raises
    ------
    InputError
        There are fewer than two words to look at, or fewer than k others.
    """
    if len(candidates) < 2 or len(vectors) <= k:
        raise InputError(
            f"{counted(len(candidates), 'word')} to look at and {counted(len(vectors), 'word')} in "
            f"all: two are needed, and {k:,} others than each"
        )
    table = unit32(vectors)
    found, _ = greatest(table[candidates], table, k + 1)
    own = found == candidates[:, None]
    # Twins of a word may come before it, and then it is not among them.
    own[~own.any(axis=1), -1] = True
    others = found[~own].reshape(len(candidates), k)
    shares = (bias[others] > 0).mean(axis=1)
    deviations = [side - side.mean() for side in (shares, np.asarray(bias[candidates], np.float64))]
    scale = float(np.sqrt(np.prod([side @ side for side in deviations])))
    return float(deviations[0] @ deviations[1]) / scale if scale else float("nan")


def _two(vectors: Vectors, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    numbers = class_numbers(vectors, labels)
    if (count := int(numbers.max()) + 1) > 2:
        raise InputError(f"{count:,} classes: the sides of a bias are two")
    return numbers
