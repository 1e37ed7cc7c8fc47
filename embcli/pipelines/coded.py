"""Candidates of a search, found through compact codes."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.quantize import Scorer
from embcli.core.topk import Shortlist, TopK
from embcli.store import Collection
from embcli.store.segments import CodedBlock

# The recall that an estimate must reach for codes to be used without having been asked for.
LEAST_RECALL = 0.99
# Recall is estimated for ten results; of fewer, as many candidates are looked at.
_LEAST_RESULTS = 10
# Reading one vector costs about as much as coding saves on this many: 10 µs and .3 µs.
_VECTORS_A_CANDIDATE = 32
# From this many queries on, the products with every vector cost more than reading them.
_FEW_QUERIES = 8
# Vectors verified in one go.
_VECTORS_AT_ONCE = 4096


def pays(collection: Collection, n_queries: int, k: int) -> bool:
    """Whether a search through codes is wanted, and cheaper than an exact one."""
    coding = collection.coding
    if coding is None or coding.kind is None or n_queries > _FEW_QUERIES:
        return False
    if not coding.chosen and (coding.recall or 0) < LEAST_RECALL:
        return False
    wanted = coding.oversample * max(k, _LEAST_RESULTS) * n_queries
    return wanted * _VECTORS_A_CANDIDATE <= collection.count_vectors()


def search_codes(
    collection: Collection,
    queries: NDArray[np.floating],
    k: int,
    top: TopK,
    wanted: NDArray[np.bool_] | None = None,
) -> bool:
    """Give to `top` the vectors that may be among the k nearest of any query.

    Parameters
    ----------
    collection : Collection
        Read inside a snapshot.
    queries : float array, shape (n_queries, dim)
    k : int
    top : TopK
        Of these queries.
    wanted : bool array, optional
        See `Collection.filter`.

    Returns
    -------
    searched : bool
        False if so many vectors are equally near by their codes that comparing with every vector
        is the better way to choose among them; `top` is then of no use.
    """
    coding = collection.coding
    if coding is None or coding.kind is None:
        return False
    count = coding.oversample * max(k, _LEAST_RESULTS)
    short = Shortlist(len(queries), count, shared=collection.chunking is not None)
    score = Scorer(queries)
    for block in collection.scan_codes(coding.kind, wanted):
        if isinstance(block, CodedBlock):
            scores = score(block.codes)
            if len(block.keys) < len(block.live):
                scores = scores[:, block.live]
            short.add(block.keys, scores, block.places)
        else:
            top.add(*block)
    found = short.results()
    expected = 2 * len(queries) * count
    if len(short) > expected + collection.count_vectors() // _VECTORS_A_CANDIDATE:
        return False
    places, first = np.unique(np.concatenate([c.places for c in found]), return_index=True)
    keys = np.concatenate([c.keys for c in found])[first]
    for start in range(0, len(places), _VECTORS_AT_ONCE):
        part = slice(start, start + _VECTORS_AT_ONCE)
        top.add(keys[part], collection.gather(places[part]), places[part])
    return True
