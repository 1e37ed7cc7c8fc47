"""Relative representations: a vector is what its cosines with anchors are."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.normalization import prepared
from embcli.core.alignment.selection import select
from embcli.core.cosine import unit
from embcli.core.maps import Linear, Map, Transform, Unit
from embcli.errors import InputError, UsageError, counted

ANCHORS = ("coverage", "random")
_FEWEST = 2


def relative(
    pairs: Pairs,
    *,
    normalize: str = "unit,center,unit",
    anchors: int = 1000,
    choice: str = "coverage",
    seed: int = 0,
) -> Map:
    """Describe the vectors of both sides by their cosines with the same anchors.

    Nothing is fitted. Where angles within both spaces are the same, so are the descriptions:
    rotations, reflections and lengths make no difference.

    Parameters
    ----------
    pairs : Pairs
    normalize : str
        See `embcli.core.alignment.normalization.prepared`.
    anchors : int
        Pairs that become anchors, each source at most once; all of them if there are fewer.
    choice : {"coverage", "random"}
        Take those that cover the space of the source (see
        `embcli.core.alignment.selection.select`), or draw them.
    seed : int

    Returns
    -------
    map : Map
        Two-sided: vectors are compared in a space with a component for each anchor.

    Raises
    ------
    InputError
        Fewer than two pairs.
    UsageError
        There is no such choice, or fewer than two anchors are asked for.

    References
    ----------
    L. Moschella, V. Maiorano, M. Fumero, A. Norelli, F. Locatello, E. Rodolà. Relative
    representations enable zero-shot latent space communication. ICLR 2023. They draw 300 to 1,000
    anchors and do not take the mean away; choosing them by coverage is of no paper.
    """
    if choice not in ANCHORS:
        raise UsageError(f"no choice of anchors {choice!r} (there are: {', '.join(ANCHORS)})")
    if anchors < _FEWEST:
        raise UsageError(f"method relative needs at least {_FEWEST} anchors, not {anchors}")
    _, first = np.unique(pairs.rows, return_index=True)
    if len(first) < _FEWEST:
        raise InputError(
            f"method relative needs pairs of at least {_FEWEST} sources, and there are "
            f"{counted(len(first), 'source')}"
        )
    ready = prepared(pairs, normalize)
    chosen = pairs.take(first)
    if len(first) > anchors:
        chosen = chosen.take(_chosen(ready.pairs.source[chosen.rows], anchors, choice, seed))
    sides = (ready.pairs.source[chosen.rows], ready.pairs.target[chosen.columns])
    source, target = (Transform.of(Unit(), Linear(unit(side).T)) for side in sides)
    return Map(ready.source.then(source), ready.target.then(target))


def _chosen(
    vectors: NDArray[np.float32], anchors: int, choice: str, seed: int
) -> NDArray[np.int64]:
    if choice == "random":
        return np.random.default_rng(seed).permutation(len(vectors))[:anchors]
    return select(vectors, anchors, seed=seed)
