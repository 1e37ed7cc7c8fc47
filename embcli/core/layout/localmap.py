"""LocalMAP on a graph of neighbours that is there already, by pacmap."""

import logging

import numpy as np
from numpy.typing import NDArray

from embcli.core.layout.pca import spread_start
from embcli.core.layout.place import distances
from embcli.core.neighbours import Neighbours
from embcli.core.optional import require

NEIGHBOURS = 10
# For every neighbour half a mid-near and two further pairs are drawn.
_PAIRS = 4
# Which of the nearest say how wide the neighbourhood of a row is.
_SCALE = slice(3, 6)


def localmap_layout(
    vectors: NDArray[np.float32], graph: Neighbours, *, dim: int = 2, seed: int = 0
) -> NDArray[np.float32]:
    """Lay vectors out so that clusters come apart (LocalMAP).

    PaCMAP, whose last iterations trust the pairs that are near in the layout more, and push the
    rows nearby away that are not neighbours.

    Parameters
    ----------
    vectors : float array, shape (n, width)
        Of length 1; not modified. Pairs that are not neighbours are drawn with them.
    graph : Neighbours
        The nearest of every row, without itself; of 60, as in the original, the 10 nearest are
        taken by distances scaled to the density at both ends.
    dim : int
    seed : int

    Returns
    -------
    coordinates : float32 array, shape (n, dim)

    Raises
    ------
    ModelError
        pacmap is not installed.

    Notes
    -----
    Runs in one thread: pacmap draws from generators of which every thread has one. Rows that are
    fewer than 5, all equal, or of fewer dimensions than the layout get their principal components.

    References
    ----------
    Y. Wang, Y. Sun, H. Huang, C. Rudin. Dimension reduction with locally adjusted graphs. AAAI
    2025.
    """
    n = len(vectors)
    count = min(NEIGHBOURS, graph.others.shape[1], (n - 1) // _PAIRS)
    if count < 1 or vectors.shape[1] < dim or not distances(graph).any():
        return spread_start(vectors, dim, 1.0, seed)
    require("pacmap", "LocalMAP", "plot")
    pairs = np.stack([np.repeat(np.arange(n), count), _scaled(graph, count).ravel()], axis=1)
    start = spread_start(vectors, dim, 1.0, seed)
    import numba
    from pacmap import LocalMAP

    # It warns of being seeded.
    chatter = logging.getLogger("pacmap.pacmap")
    disabled, chatter.disabled = chatter.disabled, True
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        method = LocalMAP(
            n_components=dim, n_neighbors=count, pair_neighbors=pairs.astype(np.int32),
            random_state=seed,
        )  # fmt: skip
        layout = method.fit_transform(vectors, init=start)
    finally:
        numba.set_num_threads(threads)
        chatter.disabled = disabled
    return np.array(layout, np.float32)


def _scaled(graph: Neighbours, count: int) -> NDArray[np.int64]:
    """Choose the nearest by squared distance over the widths of both neighbourhoods."""
    squares = 2 * distances(graph).astype(np.float64)
    inner = np.sqrt(squares[:, _SCALE] if squares.shape[1] > _SCALE.start else squares)
    widths = np.maximum(inner.mean(axis=1), 1e-10)
    scaled = squares / widths[:, None] / widths[graph.others]
    nearest = np.argsort(scaled, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(graph.others, nearest, axis=1)
