"""What the neighbours of records say of their classes: agreement, label errors, outliers."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import as_unit32, unit, unit32
from embcli.core.neighbours import Neighbours, among_themselves, greatest, without_own
from embcli.core.separability.classes import ROUNDING, ROWS, class_sizes, class_sums
from embcli.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Vectors = NDArray[np.floating]

NEIGHBOURS = 10
# Records of a class among which the neighbours within a class are looked for.
SAMPLE = 5000
# Robust z above which a record is an outlier, as Iglewicz and Hoaglin recommend.
OUTLYING = 3.5
_VOTES_AT_ONCE = 1 << 22


class Neighbourhood(NamedTuple):
    """What the k nearest neighbours of records are labelled.

    Attributes
    ----------
    rows : int64 array, shape (m,)
        Which records were looked at, in rising order; their neighbours may be any.
    k : int
        How many neighbours; fewer than asked for where there are not so many other records.
    separability : float
        Thornton's index: the share of records whose nearest neighbour is of their class.
    accuracy : float
        The share of records whose class is the one that their neighbours vote for (leave-one-out).
    disagreement : float64 array, shape (m,)
        The share of the neighbours with another label, in [0, 1].
    elected : int64 array, shape (m,)
        The class that most neighbours have; of equals the one whose cosines have the greater sum.
    support : float64 array, shape (m,)
        The share of the neighbours that have it.
    distance : float64 array, shape (m,)
        The mean of 1 less the cosine to the neighbours.
    """

    rows: Ints
    k: int
    separability: float
    accuracy: float
    disagreement: Floats
    elected: Ints
    support: Floats
    distance: Floats


class Silhouette(NamedTuple):
    """How much nearer records are to their class than to the next.

    Attributes
    ----------
    mean : float
        Of all records, in [-1, 1].
    of_records : float64 array, shape (n,)
    of_classes : float64 array, shape (C,)
        The means of the members.
    nearest : int64 array, shape (n,)
        The other class that is nearest to the record.
    """

    mean: float
    of_records: Floats
    of_classes: Floats
    nearest: Ints


class LabelErrors(NamedTuple):
    """Records whose label is likely to be wrong, the likeliest first.

    Attributes
    ----------
    rows : int64 array, shape (m,)
    suggested : int64 array, shape (m,)
        The class that most neighbours have.
    support : float64 array, shape (m,)
        The share of neighbours of that class.
    agreement : float64 array, shape (m,)
        The share of neighbours of the class that the record has.
    """

    rows: Ints
    suggested: Ints
    support: Floats
    agreement: Floats


class Outliers(NamedTuple):
    """How far records are from their class.

    Attributes
    ----------
    rows : int64 array, shape (m,)
        The outliers, the farthest by z first.
    z : float64 array, shape (n,)
        Of all records.
    distance : float64 array, shape (n,)
        The mean of 1 less the cosine to the nearest k of the class.
    compared : int
        How many records of a class were compared with at most.
    """

    rows: Ints
    z: Floats
    distance: Floats
    compared: int


def neighbourhood(
    vectors: Vectors,
    labels: Ints,
    k: int = NEIGHBOURS,
    *,
    sample: int | None = None,
    seed: int = 0,
) -> Neighbourhood:
    """Look at the labels of the k nearest neighbours, by cosine, of every record.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Not modified.
    labels : int64 array, shape (n,)
        0 to C - 1; at least two classes, of at least two records each.
    k : int
    sample : int, optional
        Look at the neighbours of so many records only, drawn without replacement. The neighbours
        are still those among all n.
    seed : int
        Of the draw.

    Returns
    -------
    neighbourhood : Neighbourhood
        Where classes are apart, Thornton's index and the accuracy are near 1. By chance they are
        about the sum of the squared shares of the classes, and the share of the greatest.

    Raises
    ------
    InputError
        `k` or `sample` is below 1; else as of `embcli.core.separability.classes.class_sizes`.

    Notes
    -----
    A record is not its own neighbour, but its duplicates are. Exact, in float32: cosines that
    differ by less than 1e-6 may come in any order. O(m · n · dim) time, O(n · dim + m · k) memory.

    References
    ----------
    C. Thornton. Separability is a learner's best friend. Neural Computation and Psychology
    Workshop 1997 (published 1998). T. Cover, P. Hart. Nearest neighbor pattern classification.
    1967. Votes count alike, whatever the distance.
    """
    sizes = class_sizes(vectors, labels)
    if k < 1:
        raise InputError(f"{k} neighbours: at least one is needed")
    n = len(vectors)
    rows = draw(n, n if sample is None else sample, seed)
    every = as_unit32(vectors)
    k = min(k, n - 1)
    near = _others(every, rows, k)
    theirs = labels[near.others]
    own = labels[rows]
    elected, support = vote(theirs, near.cosines, len(sizes))
    return Neighbourhood(
        rows,
        k,
        float((theirs[:, 0] == own).mean()),
        float((elected == own).mean()),
        (theirs != own[:, None]).mean(axis=1),
        elected,
        support,
        1 - near.cosines.mean(axis=1, dtype=np.float64),
    )


def vote(theirs: Ints, cosines: NDArray[np.floating], classes: int) -> tuple[Ints, Floats]:
    """Let neighbours elect a class.

    Parameters
    ----------
    theirs : int64 array, shape (m, k)
        The classes of the neighbours.
    cosines : float array, shape (m, k)
    classes : int
        How many there are.

    Returns
    -------
    elected : int64 array, shape (m,)
        The class that most have; of equals the one whose cosines have the greater sum, then the
        one with the lower number.
    support : float64 array, shape (m,)
        The share of the neighbours that have it.
    """
    elected, support = np.empty(len(theirs), np.int64), np.empty(len(theirs))
    at_once = max(1, _VOTES_AT_ONCE // classes)
    for start in range(0, len(theirs), at_once):
        part = slice(start, start + at_once)
        scores = votes(theirs[part], cosines[part], classes)
        elected[part] = scores.argmax(axis=1)
        support[part] = (theirs[part] == elected[part, None]).mean(axis=1)
    return elected, support


def votes(theirs: Ints, cosines: NDArray[np.floating], classes: int) -> Floats:
    """Count votes as shares, and as far less than one vote the cosines of those who cast them.

    Parameters
    ----------
    theirs, cosines, classes
        As of `vote`.

    Returns
    -------
    scores : float64 array, shape (m, C)
        Nowhere further than 1e-3 / k from the share of the votes.
    """
    m, k = theirs.shape
    # 1 + cosine is in [0, 2]: all k of them are less than a thousandth of one vote.
    ballots = (1 + 5e-4 / k * (1 + cosines.astype(np.float64))) / k
    places = theirs + classes * np.arange(m)[:, None]
    scores = np.bincount(places.ravel(), ballots.ravel(), m * classes)
    return np.asarray(scores, np.float64).reshape(m, classes)


def silhouette(vectors: Vectors, labels: Ints) -> Silhouette:
    """Give ``(b - a) / max(a, b)`` of every record, by cosine.

    a is the mean distance, 1 less the cosine, to the others of its class, and b the least mean
    distance to the members of another class.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Not modified.
    labels : int64 array, shape (n,)
        0 to C - 1; at least two classes, of at least two records each.

    Returns
    -------
    silhouette : Silhouette
        1 where classes are points apart, about 0 for random labels, below 0 where another class
        is nearer. 0 where both distances are 0.

    Raises
    ------
    InputError
        As of `embcli.core.separability.classes.class_sizes`.

    Notes
    -----
    The mean cosine to a set is the product with the mean of its unit vectors, so that no two
    records need be compared: exact for all records, nothing is sampled. O(n · C · dim) time.

    References
    ----------
    P. Rousseeuw. Silhouettes: a graphical aid to the interpretation and validation of cluster
    analysis. 1987.
    """
    sizes = class_sizes(vectors, labels)
    sums = class_sums(vectors, labels, len(sizes), directions=True)
    values, nearest = np.empty(len(vectors)), np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), ROWS):
        own = labels[start : start + ROWS]
        here = np.arange(len(own))
        distances = sizes - unit(vectors[start : start + ROWS]) @ sums.T
        # To itself the distance is 0.
        inside = distances[here, own] / (sizes[own] - 1)
        inside[inside < ROUNDING] = 0
        distances /= sizes
        distances[distances < ROUNDING] = 0
        distances[here, own] = np.inf
        nearest[start : start + ROWS] = distances.argmin(axis=1)
        outside = distances.min(axis=1)
        most = np.maximum(inside, outside)
        values[start : start + ROWS] = np.divide(
            outside - inside, most, out=np.zeros(len(own)), where=most > 0
        )
    of_classes = np.bincount(labels, values, len(sizes)) / sizes
    return Silhouette(float(values.mean()), values, of_classes, nearest)


def label_errors(found: Neighbourhood, *, support: float = 0.5) -> LabelErrors:
    """Pick records most of whose neighbours agree on another label.

    Parameters
    ----------
    found : Neighbourhood
    support : float
        More than this share of the neighbours must have one and the same other label.

    Returns
    -------
    errors : LabelErrors
        By falling support less agreement, then by row.

    Notes
    -----
    Wilson's rule, by which he edits away what its neighbours outvote, asked for a majority. It
    tells errors from records near a border no better than the space does: something to be looked
    at, not something to be corrected.

    References
    ----------
    D. L. Wilson. Asymptotic properties of nearest neighbor rules using edited data. IEEE SMC 1972.
    """
    agreement = 1 - found.disagreement
    # Whatever has more than half of the votes has the most; below that the record's class may.
    other = (found.support > support) & (found.support > agreement + 1e-9)
    picked = np.flatnonzero(other)
    margins = (found.support - agreement)[picked].round(9)
    picked = picked[np.argsort(-margins, kind="stable")]
    return LabelErrors(
        found.rows[picked], found.elected[picked], found.support[picked], agreement[picked]
    )


def outliers(
    vectors: Vectors,
    labels: Ints,
    k: int = NEIGHBOURS,
    *,
    above: float = OUTLYING,
    sample: int = SAMPLE,
    seed: int = 0,
) -> Outliers:
    """Pick records that are unusually far from the nearest of their own class.

    The distance of a record is the mean, over the k nearest others of its class, of 1 less the
    cosine. z is how far it is above the median of the class, in units of 1.4826 times the median
    absolute deviation, which is the standard deviation of a normal distribution.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Not modified.
    labels : int64 array, shape (n,)
        0 to C - 1; at least two classes, of at least two records each.
    k : int
        In smaller classes, all others.
    above : float
        The z from which on a record is an outlier, exclusively.
    sample : int
        Look for neighbours among so many members of a class, drawn once for each.
    seed : int
        Of the draw.

    Returns
    -------
    outliers : Outliers

    Raises
    ------
    InputError
        `k` is below 1, `sample` below 2; else as of
        `embcli.core.separability.classes.class_sizes`.

    Notes
    -----
    Where more than half of a class are equally far (as duplicates are), the unit is 1.2533 times
    the mean absolute deviation; where all are, z is 0. In a class of a few records z says little.
    O(n · sample · dim) time at most.

    References
    ----------
    B. Iglewicz, D. Hoaglin. How to Detect and Handle Outliers. 1993 (z and 3.5). S. Ramaswamy,
    R. Rastogi, K. Shim. Efficient algorithms for mining outliers from large data sets. SIGMOD
    2000 (there the distance of the k-th, not the mean).
    """
    sizes = class_sizes(vectors, labels)
    if k < 1 or sample < 2:
        raise InputError(f"{k} neighbours of a sample of {sample}: at least 1 and 2 are needed")
    z, distance = np.empty(len(vectors)), np.empty(len(vectors))
    compared = 0
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    for rows in members:
        every = unit32(vectors[rows])
        drawn = draw(len(rows), sample, seed)
        near = _others(every, np.arange(len(rows)), min(k, len(drawn) - 1), among=drawn)
        distance[rows] = 1 - near.cosines.mean(axis=1, dtype=np.float64)
        z[rows] = robust_z(distance[rows])
        compared = max(compared, len(drawn))
    found = np.flatnonzero(z > above)
    return Outliers(found[np.argsort(-z[found], kind="stable")], z, distance, compared)


def robust_z(values: Floats) -> Floats:
    """Tell how far values are from their median, as `outliers` does, shape (n,)."""
    middle, unit = robust_scale(values)
    return (values - middle) / unit if unit else np.zeros(len(values))


def robust_scale(values: Floats) -> tuple[float, float]:
    """Give the median of values and the unit of `robust_z`; 0 where all are equal."""
    middle = float(np.median(values))
    apart = np.abs(values - middle)
    unit = 1.4826 * float(np.median(apart))
    # What float32 cosines differ by where distances are equal.
    if unit < 1e-6:
        unit = 1.2533 * float(apart.mean())
    return middle, unit if unit > 1e-6 else 0.0


def draw(n: int, sample: int, seed: int) -> Ints:
    """Draw rows without replacement, in rising order; all of them where that is enough.

    Raises
    ------
    InputError
        `sample` is below 1.
    """
    if sample < 1:
        raise InputError(f"a sample of {sample} records: at least one is needed")
    if sample >= n:
        return np.arange(n)
    chosen = np.random.default_rng(seed).choice(n, sample, replace=False)
    return np.sort(chosen).astype(np.int64)


def _others(
    every: NDArray[np.float32], rows: Ints, k: int, *, among: Ints | None = None
) -> Neighbours:
    """Find the k nearest of rows of unit vectors, themselves left out; `among` some if given."""
    n = len(every)
    if len(rows) == n and (among is None or len(among) == n):
        others, cosines = among_themselves(every, k + 1)
    else:
        others, cosines = greatest(every[rows], every if among is None else every[among], k + 1)
        others = others if among is None else among[others]
    return without_own(Neighbours(others, cosines), rows)
