"""Clusters of several sizes at once, by EVōC."""

import numpy as np

from embcli.core.clustering.centres import Floats32
from embcli.core.clustering.clusters import Clusters, by_size
from embcli.core.optional import made_by, require
from embcli.core.separability.vectors import check_vectors
from embcli.errors import InputError, UsageError

MIN_SIZE = 5
NEIGHBOURS = 15
# Its graph of neighbours takes more vectors than neighbours; fewer are no matter of clustering.
FEWEST = 4 * NEIGHBOURS


def evoc(vectors: Floats32, *, min_size: int = MIN_SIZE, seed: int = 0) -> Clusters:
    """Cluster by density in an embedding of the graph of neighbours, at several scales.

    Parameters
    ----------
    vectors : float32 array, shape (n, dim)
        At length 1.
    min_size : int
        The smallest cluster of the finest layer.
    seed : int

    Returns
    -------
    clusters : Clusters
        The layer that persists longest, as EVōC chooses it. ``strengths`` as of HDBSCAN: 1 for the
        densest of a cluster. ``levels``: the layers that are coarser than it. ``details``: layers
        (number of clusters of each, the finest first), noise (share), min_size, seed, library.

    Raises
    ------
    InputError
        There are fewer than 60 vectors, or one is not finite or is zeros.
    UsageError
        `min_size` is below 2.
    ModelError
        EVōC is not installed.

    Notes
    -----
    The first run compiles, which takes a minute. On one thread: with more, the clusters of a seed
    depend on how many there are.

    References
    ----------
    L. McInnes. EVōC: embedding vector oriented clustering, a library, 2025.
    """
    require("evoc", "EVōC", "evoc")
    if min_size < 2:
        raise UsageError(f"the smallest cluster is of 2 at least, not {min_size}")
    check_vectors(vectors, fewest=1)
    n = len(vectors)
    if n < FEWEST:
        raise InputError(f"{n:,} vectors: EVōC takes at least {FEWEST}")
    from evoc import EVoC
    from numba import get_num_threads, set_num_threads

    model = EVoC(base_min_cluster_size=min_size, n_neighbors=NEIGHBOURS, random_state=seed)
    threads = get_num_threads()
    set_num_threads(1)
    try:
        chosen = np.asarray(model.fit_predict(np.ascontiguousarray(vectors, np.float32)))
    finally:
        set_num_threads(threads)
    layers = [np.asarray(layer) for layer in model.cluster_layers_]
    counts = [int(layer.max(initial=-1)) + 1 for layer in layers]
    labels = by_size(chosen)
    strengths = np.where(labels < 0, 0, np.clip(np.nan_to_num(model.membership_strengths_), 0, 1))
    coarser = [
        by_size(layer) for layer, count in zip(layers, counts, strict=True)
        if count < labels.max(initial=-1) + 1
    ]  # fmt: skip
    details = {
        "layers": counts, "noise": float((labels < 0).mean()), "min_size": min_size, "seed": seed,
        "library": made_by("evoc"),
    }  # fmt: skip
    return Clusters(labels, strengths.astype(np.float32), details, tuple(coarser))
