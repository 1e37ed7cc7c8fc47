"""What clusters are like: their middle, how tight they are, what does not fit in."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.clustering.centres import Floats32, Ints, means, own_and_next, sums
from embcli.core.cosine import pair_cosines
from embcli.core.separability.neighbourhood import robust_scale

Floats = NDArray[np.float64]


def medoids(vectors: Floats32, labels: Ints) -> Ints:
    """Find the member of every cluster with the greatest mean cosine to the others.

    Parameters
    ----------
    vectors : float32 array, shape (n, dim)
        At length 1.
    labels : int64 array, shape (n,)
        0 to k - 1, all of which occur; noise is left out.

    Returns
    -------
    rows : int64 array, shape (k,)
        Of equals the first.

    Notes
    -----
    The mean cosine to the others of a cluster rises with the cosine to its mean, so that no two
    members need be compared: exact in O(n · dim).
    """
    inside, own = _own(vectors, labels)
    order = np.lexsort((inside, -own, labels[inside]))
    first = np.unique(labels[inside][order], return_index=True)[1]
    return inside[order[first]]


def cohesion(vectors: Floats32, labels: Ints) -> Floats:
    """Give the mean cosine of every cluster's members to its mean, shape (k,).

    Parameters are as of `medoids`. 1 where all members are one direction; 0 where the members
    cancel each other.
    """
    inside, own = _own(vectors, labels)
    sizes = np.bincount(labels[inside])
    return np.asarray(np.bincount(labels[inside], own) / sizes, np.float64)


def outliers(vectors: Floats32, labels: Ints) -> Floats32:
    """Tell how far vectors are from their cluster, by the measure of its other members.

    Parameters
    ----------
    vectors, labels
        As of `medoids`. Noise is compared with the cluster that is nearest to it.

    Returns
    -------
    scores : float32 array, shape (n,)
        A robust z of the distance, 1 less the cosine to the cluster's mean: how far it is above
        the median of the members, in units of 1.4826 times the median absolute deviation, which
        is the standard deviation of a normal distribution. 0 for typical members, negative near
        the middle; above 3.5 is an outlier by Iglewicz and Hoaglin. Where all members are equally
        far, as in clusters of one or two, members have 0. Noise where there is no cluster has 0.

    References
    ----------
    B. Iglewicz, D. Hoaglin. How to Detect and Handle Outliers. 1993.
    """
    inside, own = _own(vectors, labels)
    scores = np.zeros(len(vectors), np.float32)
    if not len(inside):
        return scores
    order = np.argsort(labels[inside], kind="stable")
    ends = np.cumsum(np.bincount(labels[inside]))
    scales = np.array([robust_scale(1 - part) for part in np.split(own[order], ends[:-1])])
    scores[inside] = _z(1 - own, scales[labels[inside]])
    outside = np.flatnonzero(labels < 0)
    if len(outside):
        centres = means(vectors, labels, len(scales))
        _, cosines, other = own_and_next(vectors[outside], labels[outside], centres)
        scores[outside] = _z(1 - cosines.astype(np.float64), scales[other])
    return scores


def _own(vectors: Floats32, labels: Ints) -> tuple[Ints, Floats]:
    """Give the rows that are in clusters, and their exact cosines to the means of these."""
    inside = np.flatnonzero(labels >= 0)
    totals = sums(vectors, labels, int(labels.max(initial=-1)) + 1)
    return inside, pair_cosines(vectors, totals, inside, labels[inside])


def _z(distances: Floats, scales: Floats) -> Floats32:
    apart, unit = distances - scales[..., 0], scales[..., 1]
    return np.divide(apart, unit, out=np.zeros(len(apart)), where=unit > 0).astype(np.float32)
