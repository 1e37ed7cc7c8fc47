"""Classes on the vertices of a regular simplex, the same for both spaces."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.normalization import prepared
from embcli.core.maps import Linear, Map, Shift, Transform
from embcli.errors import InputError, UsageError, counted

_MOST_CLASSES = 4096


def simplex(
    pairs: Pairs,
    *,
    normalize: str = "unit,center,unit",
    ridge: float = 0.1,
) -> Map:
    """Map each side by itself so that every class comes near to a vertex fixed beforehand.

    What is connected by pairs is of one class: a pair says that two vectors are of the same class,
    and it takes no more than a chain of pairs through its members. The vertices are those of a
    regular simplex: all of them equally far apart.

    Parameters
    ----------
    pairs : Pairs
    normalize : str
        See `embcli.core.alignment.normalization.prepared`.
    ridge : float
        In parts of the mean variance of a component.

    Returns
    -------
    map : Map
        Two-sided: vectors are compared in a space with a component for each class.

    Raises
    ------
    InputError
        There are fewer than two classes, or no class has two members on a side.
    UsageError
        `ridge` is not above 0.

    Notes
    -----
    Ridge regression of the vertices on the vectors, with an intercept and the same weight for
    every class, O(n · dim² + dim³). As the vertices are given, a side can be fitted again by
    itself, to another encoder, and stays comparable with what the other one has mapped.

    References
    ----------
    F. Pernici, M. Bruni, C. Baecchi, A. Del Bimbo. Regular polytope networks. IEEE TNNLS 2021;
    N. Biondi, F. Pernici, S. Ricci, A. Del Bimbo. Stationary representations: optimally
    approximating compatibility and implications for improved model replacements. CVPR 2024. They
    train networks to a fixed classifier; here it is a linear map of given vectors.
    """
    if ridge <= 0:
        raise UsageError(f"ridge must be above 0, not {ridge}")
    rows, columns, labels = _classes(pairs)
    count = int(labels.max(initial=-1)) + 1
    if count < 2 or (len(rows) == count and len(columns) == count):
        raise InputError(
            f"method simplex needs two classes or more, with several members, and the pairs "
            f"connect {counted(len(rows), 'source')} and {counted(len(columns), 'target')} to "
            f"{counted(count, 'class') if count == 1 else f'{count:,} classes'}; "
            "procrustes is for pairs of single things"
        )
    if count > _MOST_CLASSES:
        raise InputError(
            f"method simplex makes a component of every class, and there are {count:,} (at most "
            f"{_MOST_CLASSES:,}); procrustes is for pairs of single things"
        )
    ready = prepared(pairs, normalize)
    source = _to_vertices(ready.pairs.source[rows], labels[: len(rows)], count, ridge)
    target = _to_vertices(ready.pairs.target[columns], labels[len(rows) :], count, ridge)
    return Map(ready.source.then(source), ready.target.then(target))


def _classes(
    pairs: Pairs,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find the connected components of the graph of pairs.

    Returns
    -------
    rows, columns : int64 array
        The vectors of the source and of the target that are in pairs.
    labels : int64 array, shape (len(rows) + len(columns),)
        The classes of both, from 0 up.
    """
    rows, ends = np.unique(pairs.rows, return_inverse=True)
    columns, others = np.unique(pairs.columns, return_inverse=True)
    others = others + len(rows)
    labels = np.arange(len(rows) + len(columns))
    while True:
        least = np.minimum(labels[ends], labels[others])
        after = labels.copy()
        np.minimum.at(after, ends, least)
        np.minimum.at(after, others, least)
        after = after[after]  # what a label has become, its bearers become at once
        if (after == labels).all():
            return rows, columns, np.unique(labels, return_inverse=True)[1]
        labels = after


def _to_vertices(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], count: int, ridge: float
) -> Transform:
    # Unit vectors less their mean are a regular simplex.
    vertices = np.eye(count) - 1 / count
    weights = 1 / np.bincount(labels, minlength=count)[labels]
    weights /= weights.sum()
    exact = vectors.astype(np.float64)
    mean = weights @ exact
    centred = exact - mean
    gram = (centred * weights[:, None]).T @ centred
    gram[np.diag_indices_from(gram)] += ridge * np.trace(gram) / len(gram) + 1e-12
    matrix = np.linalg.solve(gram, (centred * weights[:, None]).T @ vertices[labels])
    return Transform.of(Shift(-mean), Linear(np.asarray(matrix, np.float64)))
