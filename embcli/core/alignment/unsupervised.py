"""A map between the words of two languages, without any pair."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.confidence import confidence
from embcli.core.alignment.induction import density
from embcli.core.alignment.normalization import prepared
from embcli.core.alignment.procrustes import procrustes
from embcli.core.alignment.refinement import learn_from_itself, refine
from embcli.core.alignment.vecmap import vecmap
from embcli.core.cosine import unit32
from embcli.core.maps import Map
from embcli.errors import InputError, UsageError

_NORMALIZE = "unit,center,unit"
_FIRST = 4000


def unsupervised(
    pairs: Pairs,
    *,
    vocabulary: int = 2000,
    starts: int = 3,
    rounds: int = 5,
    reweight: float = 0.5,
    seed: int = 0,
) -> Map:
    """Fit a map to two spaces whose vectors are not known to belong together.

    A first dictionary pairs vectors that are as similar to others of their own side
    (`alike_within`); self-learning leads from there to a rotation; the map is fitted to its
    mutual nearest neighbours, see `embcli.core.alignment.vecmap`, and refined.

    Parameters
    ----------
    pairs : Pairs
        The first vectors of each side should be those that most likely have counterparts on the
        other: words by falling frequency. Pairs are not looked at.
    vocabulary : int
        How many of the first vectors learn, see `embcli.core.alignment.refinement`.
    starts : int
        How often to try while the result is doubtful (`embcli.core.alignment.confidence`).
    rounds : int
        Of refinement, at most.
    reweight : float
        See `embcli.core.alignment.vecmap.vecmap`.
    seed : int

    Raises
    ------
    InputError
        There are fewer vectors than twice the components.
    UsageError
        An option is out of range.

    Notes
    -----
    That the vectors can be aligned at all is an assumption: ask `confidence` of the result. The
    schedule is not VecMap's, see `learn_from_itself`, and the dictionary in the end is that of
    mutual nearest neighbours, where VecMap takes the nearest of every word either way.

    References
    ----------
    M. Artetxe, G. Labaka, E. Agirre. A robust self-learning method for fully unsupervised
    cross-lingual mappings of word embeddings. ACL 2018.
    """
    if starts < 1:
        raise UsageError(f"unsupervised takes 1 start or more, not {starts}")
    enough_vectors(pairs, "unsupervised")
    first = procrustes(_first(pairs), normalize=_NORMALIZE)
    found = []
    for start in range(starts):
        drawn = seed * starts + start
        map = learn_from_itself(pairs, procrustes, first, vocabulary=vocabulary, seed=drawn)
        sure = confidence(pairs, map, seed=seed)
        found.append((sure.score, map))
        if sure.reliable:
            break
    best = max(found, key=lambda each: each[0])[1]
    words = refine(pairs, procrustes, start=best, rounds=rounds).dictionary
    pairs = pairs._replace(rows=words.rows, columns=words.columns)
    return refine(pairs, partial(vecmap, reweight=reweight), rounds=rounds).map


def enough_vectors(pairs: Pairs, method: str) -> None:
    """Refuse sides too small to tell a structure from chance.

    Raises
    ------
    InputError
        A side has fewer vectors than twice its components.
    """
    for side, vectors in (("source", pairs.source), ("target", pairs.target)):
        count, dim = vectors.shape
        if count < 2 * dim:
            raise InputError(
                f"{method} has no pairs to go by and needs at least {2 * dim} vectors of {dim} "
                f"components, and the {side} has {count}: give pairs, and procrustes works"
            )


def alike_within(
    a: NDArray[np.float32], b: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair rows of two spaces by how similar they are to the other rows of their own.

    Parameters
    ----------
    a, b : float32 array, shape (n, dim_a) and (n, dim_b)

    Returns
    -------
    rows, columns : int64 array, shape (2 n,)
        For every row of either side the best by CSLS.

    Notes
    -----
    The similarities of a row, sorted, are the same in every rotation of its space, and whatever
    the order of the others is. As in VecMap, similarities are of vectors whose principal
    components have been brought to the square root of their spread, and the sorted ones are
    normalised as vectors are. O(n²) memory.
    """
    left, right = _sorted_similarities(a), _sorted_similarities(b)
    scores = np.float32(2) * (left @ right.T)
    crowd_a, crowd_b = density(scores) / 2, density(scores.T) / 2
    down, across = (scores - crowd_a[:, None]).argmax(axis=0), (scores - crowd_b).argmax(axis=1)
    each = np.arange(len(a))
    return np.concatenate([each, down]), np.concatenate([across, each])


def _sorted_similarities(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    axes, spread, _ = np.linalg.svd(vectors, full_matrices=False)
    similar = (axes * spread) @ axes.T
    similar.sort(axis=1)
    similar = unit32(similar)
    similar -= similar.mean(axis=0)
    return unit32(similar)


def _first(pairs: Pairs) -> Pairs:
    ready = prepared(pairs, _NORMALIZE).pairs
    count = min(_FIRST, len(ready.source), len(ready.target))
    rows, columns = alike_within(ready.source[:count], ready.target[:count])
    return pairs._replace(rows=rows, columns=columns)
