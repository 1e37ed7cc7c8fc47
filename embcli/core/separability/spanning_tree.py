"""The minimum spanning tree of vectors of length 1, exact, without a matrix of all distances."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import as_unit32, unit
from embcli.core.matching import THREADS
from embcli.core.neighbours import greatest
from embcli.core.separability.vectors import Floats, Ints, Vectors, check_vectors, parts

# How many neighbours of every vector are kept while the tree grows.
_LISTED = 5
# How far a squared distance may be off that comes from a cosine in float32.
_SLACK = 2e-6
_NUMBERS_AT_ONCE = 1 << 22


class Tree(NamedTuple):
    """The edges of a minimum spanning tree, the shortest first.

    Attributes
    ----------
    edges : int64 array, shape (n - 1, 2)
        The rows that each joins, the smaller first.
    lengths : float64 array, shape (n - 1,)
        Euclidean distances between vectors scaled to length 1, in [0, 2].
    """

    edges: Ints
    lengths: Floats


def spanning_tree(vectors: Vectors) -> Tree:
    """Join all vectors, scaled to length 1, by the edges whose lengths have the smallest sum.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Not modified.

    Returns
    -------
    tree : Tree

    Raises
    ------
    InputError
        There are fewer than 2 vectors, or one is not finite or all zeros.

    Notes
    -----
    Borůvka's method: every component is joined to what is nearest to it, until there is one. The
    nearest are first looked for among 5 neighbours of each vector, then, where those do not
    settle it, among all vectors; the largest component waits for the others to join it. So the
    price is that of all neighbours, O(n² · dim), and little more, in O(n · dim) memory.

    Candidates are found in float32 and compared in float64: lengths are exact, and where edges'
    squared lengths differ by less than 2e-6 the tree may have the longer one.

    References
    ----------
    O. Borůvka. O jistém problému minimálním. 1926.
    """
    check_vectors(vectors, fewest=2)
    n = len(vectors)
    near = _Near(vectors)
    labels = np.arange(n)
    found: list[tuple[Ints, Floats]] = []
    while (count := int(labels.max()) + 1) > 1:
        edges, squares = _joined(near, labels, count)
        added, labels = _merged(edges, squares, labels, count)
        found.append((edges[added], squares[added]))
    edges, squares = (np.concatenate(side) for side in zip(*found, strict=True))
    edges = np.sort(edges, axis=1)
    order = np.lexsort((edges[:, 1], edges[:, 0], squares))
    return Tree(edges[order], np.sqrt(squares[order]))


class _Near:
    """For every vector the nearest others, and how near one may be that is not listed."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors
        self._unit = as_unit32(vectors)
        self._count = min(_LISTED + 1, len(vectors))
        # A vector's own row is listed as well: it is never outside of its component.
        self.others, cosines = greatest(self._unit, self._unit, self._count)
        self.squares = self._exact(np.arange(len(vectors)), self.others)
        self.beyond = self._bound(cosines)

    def look(self, rows: Ints, labels: Ints) -> None:
        """List the nearest outside of its component for some of the vectors."""
        n = len(labels)
        at_once = max(1, _NUMBERS_AT_ONCE // n)

        def search(start: int) -> tuple[Ints, NDArray[np.float32]]:
            some = rows[start : start + at_once]
            scores = self._unit[some] @ self._unit.T
            scores[labels[some][:, None] == labels] = -np.inf
            # A copy: a view would keep the whole block.
            best = np.argpartition(scores, n - self._count, axis=1)[:, -self._count :].copy()
            return best, np.take_along_axis(scores, best, axis=1)

        with ThreadPoolExecutor(THREADS) as pool:
            lists = list(pool.map(search, range(0, len(rows), at_once)))
        others, cosines = (np.concatenate(side) for side in zip(*lists, strict=True))
        self.others[rows] = others
        self.squares[rows] = self._exact(rows, others)
        self.beyond[rows] = self._bound(cosines)

    def _exact(self, rows: Ints, others: Ints) -> Floats:
        squares = np.empty(others.shape)
        for part in parts(len(rows), 512):
            apart = unit(self._vectors[rows[part]])[:, None] - unit(self._vectors[others[part]])
            squares[part] = np.einsum("ijk,ijk->ij", apart, apart)
        return squares

    def _bound(self, cosines: NDArray[np.float32]) -> Floats:
        if self._count == len(self._unit):
            return np.full(len(cosines), np.inf)
        # Where fewer are outside of the component than are listed, this is infinite.
        bound: Floats = 2 - 2 * cosines.min(axis=1).astype(np.float64) - _SLACK
        return bound


def _joined(near: _Near, labels: Ints, count: int) -> tuple[Ints, Floats]:
    """Give the shortest edge out of every component but, maybe, the largest."""
    best, other = _outside(near, labels)
    shortest = np.full(count, np.inf)
    np.minimum.at(shortest, labels, best)
    largest = int(np.argmax(np.bincount(labels, minlength=count)))
    unsure = near.beyond < shortest[labels]
    wait = bool(unsure[labels == largest].any())
    unsure[labels == largest] = False
    if unsure.any():
        near.look(np.flatnonzero(unsure), labels)
        best, other = _outside(near, labels)
    order = np.lexsort((best, labels))
    first = order[np.searchsorted(labels[order], np.arange(count))]
    if wait:
        first = np.delete(first, largest)
    return np.stack([first, other[first]], axis=1), best[first]


def _outside(near: _Near, labels: Ints) -> tuple[Floats, Ints]:
    """Give each vector's squared distance to the nearest listed of another component, and it."""
    squares = np.where(labels[near.others] == labels[:, None], np.inf, near.squares)
    rows = np.arange(len(labels))
    nearest = np.argmin(squares, axis=1)
    return squares[rows, nearest], near.others[rows, nearest]


def _merged(
    edges: Ints, squares: Floats, labels: Ints, count: int
) -> tuple[NDArray[np.bool_], Ints]:
    """Join components by edges, the shortest first; leave out those that would close a circle."""
    parents = list(range(count))

    def root(label: int) -> int:
        while parents[label] != label:
            parents[label] = parents[parents[label]]
            label = parents[label]
        return label

    added = np.zeros(len(edges), bool)
    ends = labels[edges]
    for i in np.argsort(squares, kind="stable"):
        left, right = root(int(ends[i, 0])), root(int(ends[i, 1]))
        if left != right:
            parents[right] = left
            added[i] = True
    roots = np.array([root(label) for label in range(count)])
    return added, np.unique(roots, return_inverse=True)[1][labels]
