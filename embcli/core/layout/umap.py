"""UMAP on a graph of neighbours that is there already, and densMAP."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.layout.pca import spread_start
from embcli.core.layout.place import distances, onto_equals, strengths
from embcli.core.matching import Advance
from embcli.core.neighbours import Neighbours
from embcli.core.optional import require

# Below so many rows there is no neighbourhood to keep, and principal components do.
_FEWEST = 4
_EXTENT = 10.0
# How many rows are pushed away for every one that pulls.
_PUSHES = 5
_SMALL = 10_000
# Epochs for new rows.
_PLACING = 100


def _silent(done: int, total: int, count: int) -> None:
    pass


def umap_layout(
    vectors: NDArray[np.float32],
    graph: Neighbours,
    *,
    dim: int = 2,
    min_dist: float = 0.1,
    spread: float = 1.0,
    epochs: int | None = None,
    density: bool = False,
    seed: int = 0,
    advance: Advance = _silent,
) -> NDArray[np.float32]:
    """Lay vectors out so that neighbours stay neighbours (UMAP).

    Parameters
    ----------
    vectors : float array, shape (n, width)
        Only where the layout begins depends on them: at their principal components.
    graph : Neighbours
        The k - 1 nearest of every row, without itself: their number is UMAP's n_neighbors less 1.
    dim : int
    min_dist, spread : float
        How dense neighbours may lie, and at what distance the layout lets go of them.
    epochs : int, optional
        Of the optimisation: by default 500, and 200 above 10,000 rows; 200 more with `density`.
    density : bool
        Keep local densities as well (densMAP, by umap-learn itself).
    seed : int
    advance : callable
        Told the epochs done, of how many, twice; with `density` of the beginning and the end only.

    Returns
    -------
    coordinates : float32 array, shape (n, dim)

    Raises
    ------
    ModelError
        Numba, or umap-learn with `density`, is not installed.

    Notes
    -----
    The fuzzy graph is that of umap-learn, edges too weak to be drawn once left out. The
    optimisation is not: within an epoch every row sees the others where they were before it, and
    an edge pulls either end once rather than twice. So rows are shared among threads, and the
    result is the same whatever their number. O(epochs · n · k · dim) time, O(n · k) memory.

    References
    ----------
    L. McInnes, J. Healy, J. Melville. UMAP. arXiv:1802.03426, 2018. A. Narayan, B. Berger, H. Cho.
    Assessing single-cell transcriptomic variability through density-preserving data
    visualization. Nature Biotechnology 39, 2021 (densMAP). Beginning at principal components:
    D. Kobak, G. Linderman. Initialization is critical for preserving global data structure in both
    t-SNE and UMAP. Nature Biotechnology 39, 2021.
    """
    _require()
    n = len(vectors)
    start = spread_start(vectors, dim, _EXTENT, seed)
    if n < _FEWEST or not graph.others.shape[1]:
        return start
    apart = distances(graph)
    epochs = epochs or (500 if n <= _SMALL else 200) + 200 * density
    a, b = _curve(spread, min_dist)
    if density and apart.any():
        return _densmap(vectors, graph, start, (a, b), epochs, seed, advance)
    held = strengths(apart, apart.shape[1] + 1, connected=True)
    edges = _drawn(*_union(held, graph.others), np.arange(n), epochs)
    return _moved(start, None, edges, (a, b), epochs, 1.0, seed, advance)


def umap_place(
    near: Neighbours,
    coordinates: NDArray[np.floating],
    *,
    min_dist: float = 0.1,
    spread: float = 1.0,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Put new rows into a layout of UMAP without moving the old ones.

    Parameters
    ----------
    near : Neighbours
        Of each new row among the old ones, shape (m, k), by falling cosine; k is UMAP's
        n_neighbors.
    coordinates : float array, shape (n, dim)
        Of the old rows. Not modified.
    min_dist, spread : float
        As of the layout.
    seed : int

    Returns
    -------
    placed : float32 array, shape (m, dim)
        A row equal to an old one is where that is.

    Raises
    ------
    ModelError
        Numba is not installed.

    Notes
    -----
    As umap-learn's `transform`: from the mean of the nearest, weighted by their strengths, some
    epochs of moves in which old rows stay. Unlike there, where a row goes does not depend on what
    other new rows there are: its strongest edge is drawn in every epoch, and what it draws at
    random follows from its nearest.
    """
    _require()
    m, k = near.others.shape
    if not m:
        return np.empty((0, coordinates.shape[1]), np.float32)
    held = strengths(distances(near), k, connected=False)
    weights = held / held.sum(axis=1, keepdims=True)
    start = np.einsum("ij,ijd->id", weights, coordinates[near.others]).astype(np.float32)
    shares = (held / held.max(axis=1, keepdims=True)).ravel()
    starts = np.arange(0, m * k + 1, k)
    edges = _drawn(starts, near.others.ravel(), shares, near.others[:, 0], _PLACING)
    curve = _curve(spread, min_dist)
    old = np.ascontiguousarray(coordinates, np.float32)
    placed = _moved(start, old, edges, curve, _PLACING, 0.25, seed, _silent)
    return onto_equals(placed, near, coordinates)


def _require() -> None:
    require("numba", "UMAP", "plot")
    require("scipy", "UMAP", "plot")


_Edges = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]


def _union(
    held: NDArray[np.float32], others: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Make strengths mutual, a + b - ab of the two ways between rows; the greatest becomes 1."""
    from scipy.sparse import csr_array

    n, k = others.shape
    one_way = csr_array((held.ravel(), others.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    other_way = one_way.T.tocsr()
    both = (one_way + other_way - one_way.multiply(other_way)).tocsr()
    both.sort_indices()
    return both.indptr, both.indices, both.data / both.data.max()


def _drawn(
    starts: NDArray[np.int64],
    others: NDArray[np.int64],
    shares: NDArray[np.float32],
    keys: NDArray[np.int64],
    epochs: int,
) -> _Edges:
    """Leave out edges that no epoch would draw, those with too small a share of them."""
    kept = shares >= 1 / epochs
    before = np.concatenate([[0], np.cumsum(kept)])
    return before[starts], others[kept].astype(np.int32), shares[kept].astype(np.float32), keys


def _moved(
    rows: NDArray[np.float32],
    old: NDArray[np.float32] | None,
    edges: _Edges,
    curve: tuple[float, float],
    epochs: int,
    step: float,
    seed: int,
    advance: Advance,
) -> NDArray[np.float32]:
    from embcli.core.layout.forces import move

    for epoch in range(epochs):
        others = rows.copy() if old is None else old
        move(rows, others, *edges, epoch, step * (1 - epoch / epochs), *curve, _PUSHES, seed)
        advance(epoch + 1, epochs, epoch + 1)
    return rows


def _curve(spread: float, min_dist: float) -> tuple[float, float]:
    """Fit 1 / (1 + a · d^2b) to strengths of 1 up to `min_dist` that then fall by `spread`."""
    from scipy.optimize import curve_fit

    apart = np.linspace(0, spread * 3, 300)
    wanted = np.where(apart < min_dist, 1, np.exp(-(apart - min_dist) / spread))
    (a, b), _ = curve_fit(lambda d, a, b: 1 / (1 + a * d ** (2 * b)), apart, wanted)
    return float(a), float(b)


def _densmap(
    vectors: NDArray[np.float32],
    graph: Neighbours,
    start: NDArray[np.float32],
    curve: tuple[float, float],
    epochs: int,
    seed: int,
    advance: Advance,
) -> NDArray[np.float32]:
    require("umap", "densMAP", "plot")
    from umap.umap_ import fuzzy_simplicial_set, simplicial_set_embedding

    n, k = graph.others.shape
    own = np.arange(n)[:, None]
    indices = np.concatenate([own, graph.others], axis=1)
    apart = np.concatenate([np.zeros((n, 1), np.float32), distances(graph)], axis=1)
    random = np.random.RandomState(seed)
    fuzzy, _, _, dists = fuzzy_simplicial_set(
        vectors, k + 1, random, "cosine", knn_indices=indices, knn_dists=apart, return_dists=True
    )
    advance(0, epochs, 0)
    settings = {"lambda": 2.0, "frac": 0.3, "var_shift": 0.1, "n_neighbors": k + 1}
    coordinates, _ = simplicial_set_embedding(
        vectors, fuzzy, start.shape[1], 1.0, *curve, 1.0, 5, epochs, start, random, "cosine", {},
        True, settings | {"graph_dists": dists}, False, tqdm_kwds={"disable": True},
    )  # fmt: skip
    advance(epochs, epochs, epochs)
    placed: NDArray[np.float32] = np.asarray(coordinates, np.float32)
    return placed
