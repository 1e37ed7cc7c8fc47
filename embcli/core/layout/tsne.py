"""t-SNE on a graph of neighbours that is there already, by openTSNE."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.core.layout.pca import spread_start
from embcli.core.layout.place import distances, onto_equals
from embcli.core.matching import THREADS, Advance
from embcli.core.neighbours import Neighbours
from embcli.core.optional import require
from embcli.errors import InputError

PERPLEXITY = 30.0
_FEWEST = 4
# Iterations and exaggeration, as openTSNE has them: first to find the shape, then to keep it.
_EARLY, _LATE = (250, 12.0), (500, 1.0)
_EVERY = 10
_START = 1e-4
# Of rows placed in a layout.
_PLACING = {
    "n_iter": 250, "learning_rate": 0.1, "momentum": 0.8, "exaggeration": 1.5,
    "max_grad_norm": 0.25, "max_step_norm": None, "negative_gradient_method": "bh",
}  # fmt: skip
_PLACED_BY, _PLACED_PERPLEXITY = 15, 5.0


def tsne_layout(
    vectors: NDArray[np.float32],
    graph: Neighbours,
    *,
    dim: int = 2,
    perplexity: float = PERPLEXITY,
    seed: int = 0,
    advance: Advance = lambda done, total, count: None,
) -> NDArray[np.float32]:
    """Lay vectors out so that near ones are as probably neighbours as they were (t-SNE).

    Parameters
    ----------
    vectors : float array, shape (n, width)
        Of length 1. Only where the layout begins depends on them: at their principal components.
    graph : Neighbours
        The nearest of every row, without itself; 90 for the usual perplexity.
    dim : int
        1 or 2.
    perplexity : float
        How many neighbours a row has, about; at most a third of those in the graph, but for very
        small graphs.
    seed : int
        Of a little noise where the layout begins; the rest draws nothing.
    advance : callable
        Told how many iterations are done, of how many, twice.

    Returns
    -------
    coordinates : float32 array, shape (n, dim)

    Raises
    ------
    InputError
        `dim` is more than 2.
    ModelError
        openTSNE is not installed.

    Notes
    -----
    Distances are Euclidean between vectors of length 1. Repulsion is interpolated by FFT
    from 10,000 rows on, by trees below. O(iterations · n · k) time, O(n · k) memory. One thread
    does what would add up in another order in several.

    References
    ----------
    L. van der Maaten, G. Hinton. Visualizing data using t-SNE. JMLR 9, 2008. P. Poličar,
    M. Stražar, B. Zupan. openTSNE. Journal of Statistical Software 109, 2024.
    """
    if dim > 2:
        raise InputError(f"t-SNE lays out in 1 or 2 dimensions, not in {dim}")
    apart = _chords(graph)
    if len(vectors) < _FEWEST or not apart.any():
        return spread_start(vectors, dim, 1.0, seed)
    require("openTSNE", "t-SNE", "plot")
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    k = graph.others.shape[1]
    perplexity = min(perplexity, max(k / 3, 2.0), k)
    near = PrecomputedNeighbors(graph.others, apart)
    affinities = PerplexityBasedNN(knn_index=near, perplexity=perplexity, n_jobs=THREADS)
    start = spread_start(vectors, dim, 1.0, seed).astype(np.float64)
    start *= _START / start.std(axis=0).max()
    layout: Any = TSNEEmbedding(start - start.mean(axis=0), affinities, n_jobs=1)
    total = _EARLY[0] + _LATE[0]
    for before, (iterations, exaggeration), momentum in (
        (0, _EARLY, 0.5),
        (_EARLY[0], _LATE, 0.8),
    ):

        def tell(iteration: int, error: float, embedding: Any, before: int = before) -> None:
            advance(before + iteration, total, before + iteration)

        layout = layout.optimize(
            iterations, exaggeration=exaggeration, momentum=momentum, callbacks=[tell],
            callbacks_every_iters=_EVERY,
        )  # fmt: skip
    return np.array(layout, np.float32)


def tsne_place(near: Neighbours, coordinates: NDArray[np.floating]) -> NDArray[np.float32]:
    """Put new rows into a layout of t-SNE without moving the old ones.

    Parameters
    ----------
    near : Neighbours
        Of each new row among the old ones, shape (m, k), by falling cosine; the first 15 count.
    coordinates : float array, shape (n, dim)
        Of the old rows. Not modified.

    Returns
    -------
    placed : float32 array, shape (m, dim)
        A row equal to an old one is where that is.

    Raises
    ------
    ModelError
        openTSNE is not installed.

    Notes
    -----
    As `transform` of openTSNE: from the median of the nearest, iterations in which new rows are
    drawn by their nearest and pushed by all old rows, and not by each other.
    """
    require("openTSNE", "t-SNE", "plot")
    from openTSNE.affinity import PrecomputedAffinities, joint_probabilities_nn
    from openTSNE.tsne import PartialTSNEEmbedding, TSNEEmbedding
    from scipy.sparse import csr_matrix

    n, k = len(coordinates), min(near.others.shape[1], _PLACED_BY)
    if not len(near.others):
        return np.empty((0, coordinates.shape[1]), np.float32)
    near = Neighbours(near.others[:, :k], near.cosines[:, :k])
    start = np.median(coordinates[near.others], axis=1)
    if n < _FEWEST or k < 2:
        return onto_equals(start.astype(np.float32), near, coordinates)
    perplexity = min(_PLACED_PERPLEXITY, max(k / 3, 1.5))
    drawn = joint_probabilities_nn(
        near.others, _chords(near), [perplexity], symmetrize=False,
        normalization="point-wise", n_reference_samples=n,
    )  # fmt: skip
    old = TSNEEmbedding(coordinates, PrecomputedAffinities(csr_matrix((n, n)), normalize=False))
    layout = PartialTSNEEmbedding(start, old, drawn).optimize(**_PLACING)
    return onto_equals(np.array(layout, np.float32), near, coordinates)


def _chords(graph: Neighbours) -> NDArray[np.float64]:
    """Give Euclidean distances between vectors of length 1."""
    chords: NDArray[np.float64] = np.sqrt(2 * distances(graph).astype(np.float64))
    return chords
