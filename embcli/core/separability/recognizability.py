"""How recognizable single records are: near their class, far from the next and from what is none.

After the recognizability index of faces, which are unrecognizable where they are blurred.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.core.separability.classes import ROUNDING, ROWS, class_sizes, class_sums
from embcli.core.separability.neighbourhood import OUTLYING, Neighbourhood, robust_z
from embcli.core.separability.vectors import check_vectors
from embcli.errors import InputError, counted

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Vectors = NDArray[np.floating]

# Lengths that differ by less are those of vectors scaled to one length, and rounded.
_EQUAL = 1e-3
# The share of neighbours that no class exceeds where all classes meet.
_MIXED = 0.2


class Recognizability(NamedTuple):
    """How recognizable every record is.

    Attributes
    ----------
    score : float64 array, shape (n,)
        See `recognizability`.
    to_own, to_next : float64 array, shape (n,)
        1 less the cosine to the prototype of the own class, without the record itself, and to
        the nearest prototype of another class.
    next : int64 array, shape (n,)
        The class of that prototype.
    to_unrecognizable : float64 array, shape (n,), or None
        1 less the cosine to the centre of the unrecognizable; None if there are none.
    """

    score: Floats
    to_own: Floats
    to_next: Floats
    next: Ints
    to_unrecognizable: Floats | None


class Unrecognizable(NamedTuple):
    """Records that are taken for unrecognizable, whatever their label.

    Attributes
    ----------
    rows : int64 array, shape (m,)
        In rising order; there may be none.
    rule : str
        Why: "norm", "mixed" or "noise", as `unrecognizable` explains.
    """

    rows: Ints
    rule: str


def recognizability(
    vectors: Vectors, labels: Ints, unrecognizable: Vectors | None = None
) -> Recognizability:
    """Score records by how near they are to what they are, and how far from all else.

    ``score = u · n / (p + n)``, where p is the distance to the prototype of the own class, n that
    to the nearest prototype of another class, and u that to the centre of the unrecognizable; all
    are 1 less the cosine. A prototype is the mean of the unit vectors of a class, the record
    itself left out; the centre is the mean of the unit vectors of the unrecognizable. Without any
    of these, u is 1.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Only directions count. Not modified.
    labels : int64 array, shape (n,)
        0 to C - 1; at least two classes, of at least two records each.
    unrecognizable : float array, shape (m, dim), optional
        Vectors of records that say nothing of any class: blurred pictures, texts without words.
        They may be among `vectors` or not.

    Returns
    -------
    found : Recognizability
        Scores are in [0, 2], and without unrecognizable records in [0, 1], where those below .5
        are nearer to another class than to their own.

    Raises
    ------
    InputError
        An unrecognizable vector is of another dimension, zeros or not finite; else as of
        `embcli.core.separability.classes.class_sizes`.

    Notes
    -----
    In the spirit of the paper's index, which rises with u and n and falls with p, too, but not its
    formula. There, prototypes are the weights of the classifier that the network is trained with,
    and the index teaches another part of the network to tell it from a single picture. Here no
    record is part of its own prototype, and n / (p + n) takes the place of a quotient of n and p,
    which single records that equal their prototype would make infinite. O(n · C · dim) time.

    References
    ----------
    J. C. L. Chai, T.-S. Ng, C.-Y. Low, J. Park, A. B. J. Teoh. Recognizability embedding
    enhancement for very low-resolution face recognition and quality estimation. CVPR 2023.
    S. Deng, Y. Xiong, M. Wang, W. Xia, S. Soatto. Harnessing unrecognizable faces for improving
    face recognition. WACV 2023: u alone, as unrecognizable faces of all persons lie together.
    """
    sizes = class_sizes(vectors, labels)
    centre = None if unrecognizable is None else _centre(unrecognizable, vectors.shape[1])
    sums = class_sums(vectors, labels, len(sizes), directions=True)
    prototypes = unit(sums)
    to_own, to_next = np.empty(len(vectors)), np.empty(len(vectors))
    following = np.empty(len(vectors), np.int64)
    away = np.ones(len(vectors))
    for start in range(0, len(vectors), ROWS):
        part = slice(start, start + ROWS)
        rows, own = unit(vectors[part]), labels[part]
        cosines = rows @ prototypes.T
        cosines[np.arange(len(own)), own] = -np.inf
        following[part] = cosines.argmax(axis=1)
        to_next[part] = _distance(cosines.max(axis=1))
        to_own[part] = _distance(np.einsum("ij,ij->i", rows, unit(sums[own] - rows)))
        if centre is not None:
            away[part] = _distance(rows @ centre)
    both = to_own + to_next
    score = np.divide(to_next, both, out=np.full(len(vectors), 0.5), where=both > 0)
    return Recognizability(
        score * away, to_own, to_next, following, None if centre is None else away
    )


def unrecognizable(
    vectors: Vectors, near: Neighbourhood, classes: int, *, beyond: float = OUTLYING
) -> Unrecognizable:
    """Guess which records are unrecognizable, for want of any that are known to be.

    Where the lengths of vectors differ ("norm"), those that are unusually short: their length is
    more than `beyond` robust standard deviations below the median. Where all have one length and
    there are at least 10 classes ("mixed"), those that lie where all classes meet: none of their
    neighbours is of their class, and no class has more than a fifth of them. With fewer classes,
    or fewer than 5 neighbours ("noise"), those that lie apart from everything: the mean distance
    to their k nearest is more than `beyond` robust standard deviations above the median.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
    near : Neighbourhood
        Of these vectors; if of a sample, they are looked for in the sample only, but for "norm".
    classes : int
        How many there are.
    beyond : float
        In the unit of `embcli.core.separability.neighbourhood.outliers`.

    Returns
    -------
    found : Unrecognizable

    Raises
    ------
    InputError
        There are fewer than 3 vectors, or one that is zeros or not finite.

    Notes
    -----
    Faces that cannot be recognized lie together whoever they are of, and so do texts whose
    characters are shuffled (of 3,080 questions in 77 classes, 200 of them shuffled: 160 are
    picked, 158 rightly, where "noise" picks 11 and 3; all-MiniLM-L6-v2). It is a guess all the
    same: what is picked should be looked at. Lengths count as different if they do by more than a
    thousandth.

    References
    ----------
    Deng et al., as of `recognizability`, who take the greatest cluster of pictures of unknown
    persons. The rules here are our own.
    """
    check_vectors(vectors)
    lengths = np.concatenate(
        [
            np.linalg.norm(vectors[start : start + ROWS].astype(np.float64), axis=1)
            for start in range(0, len(vectors), ROWS)
        ]
    )
    if lengths.max() - lengths.min() > _EQUAL * lengths.mean():
        below = robust_z(lengths / np.median(lengths)) < -beyond
        return Unrecognizable(np.flatnonzero(below), "norm")
    if classes >= 2 / _MIXED and near.k >= 1 / _MIXED:
        mixed = (near.disagreement == 1) & (near.support <= _MIXED)
        return Unrecognizable(near.rows[mixed], "mixed")
    return Unrecognizable(near.rows[robust_z(near.distance) > beyond], "noise")


def _centre(vectors: Vectors, dim: int) -> Floats:
    """Give the direction of the mean of unit vectors, shape (dim,)."""
    check_vectors(vectors, fewest=1)
    if vectors.shape[1] != dim:
        raise InputError(
            f"unrecognizable vectors have {counted(vectors.shape[1], 'component')} and the others "
            f"{dim:,}"
        )
    centre: Floats = unit(unit(vectors).mean(axis=0))
    return centre


def _distance(cosines: Floats) -> Floats:
    """Give 1 less the cosine; 0 for what is only rounding."""
    distances = 1 - cosines
    distances[distances < ROUNDING] = 0
    return distances
