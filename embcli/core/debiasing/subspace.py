"""The directions in which a bias shows, and how far vectors reach along them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.errors import InputError, counted

Vectors = NDArray[np.floating]
Floats = NDArray[np.float64]

# So many rows in float64 stay in the cache.
_ROWS = 1 << 10
# What is left of a vector after rounding, as a share of its length.
_ROUNDING = 32


class Subspace(NamedTuple):
    """Directions that words differ in which are alike but for the bias.

    Attributes
    ----------
    basis : float64 array, shape (k, dim)
        Orthonormal rows, the one that explains most first.
    explained : float64 array, shape (rank,)
        Share of the variance that each component explains, of all there are; their sum is 1.
    """

    basis: Floats
    explained: Floats


def bias_subspace(sets: Sequence[Vectors], k: int = 1) -> Subspace:
    """Find the principal components of definitional sets, each centred on its own mean.

    Parameters
    ----------
    sets : sequence of float array, shapes (size, dim)
        Mostly pairs, such as (woman, man); two or more words each. Lengths do not count.
    k : int
        Number of directions.

    Returns
    -------
    subspace : Subspace
        Along each direction the sets' first words lie, on average, on the positive side.

    Raises
    ------
    InputError
        There are fewer than two sets, a set has fewer than two words, or the sets span fewer
        than `k` directions.

    Notes
    -----
    All sets weigh the same, however many words they have: the sum over a set is divided by its
    size, as the paper's formula says. (Its code, and Manzini et al.'s, let every word weigh the
    same; where sets are of one size there is no difference.)

    References
    ----------
    T. Bolukbasi, K.-W. Chang, J. Zou, V. Saligrama, A. Kalai. Man is to computer programmer as
    woman is to homemaker? Debiasing word embeddings. NIPS 2016. Sets of more than two: T. Manzini,
    Y. C. Lim, A. W. Black, Y. Tsvetkov. Black is to criminal as Caucasian is to police. NAACL 2019.
    """
    if len(sets) < 2:
        raise InputError(
            f"a bias subspace takes at least two definitional pairs, and there "
            f"{'is' if len(sets) == 1 else 'are'} {len(sets)}"
        )
    if (least := min(len(words) for words in sets)) < 2:
        raise InputError(f"a definitional set takes at least two words, and one has {least}")
    scaled = [unit(words) for words in sets]
    centred = [words - words.mean(axis=0) for words in scaled]
    rows = np.concatenate([words / np.sqrt(len(words)) for words in centred])
    basis, variances = _components(rows, 1.0)
    if not 1 <= k <= len(basis):
        raise InputError(
            f"{counted(len(sets), 'definitional set')} span {counted(len(basis), 'direction')}, "
            f"and a subspace of {k} is asked for"
        )
    firsts = np.stack([words[0] for words in centred])
    return Subspace(_oriented(basis[:k], firsts), variances / variances.sum())


def projections(vectors: Vectors, basis: Floats) -> Floats:
    """Give the cosines of vectors with each direction of an orthonormal basis.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
    basis : float64 array, shape (k, dim)

    Returns
    -------
    cosines : float64 array, shape (n, k)
        0 for a vector of zeros.
    """
    cosines = np.zeros((len(vectors), len(basis)))
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS].astype(np.float64, copy=False)
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
        part = cosines[start : start + _ROWS]
        np.divide(rows @ basis.T, lengths, out=part, where=lengths > 0)
    return cosines


def direct_bias(vectors: Vectors, basis: Floats, c: float = 1.0) -> float:
    """Average how far words that ought to be neutral reach into the bias subspace.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Of the neutral words.
    basis : float64 array, shape (k, dim)
        Orthonormal rows.
    c : float
        Strictness, 0 or more: the mean is that of ``|cos| ** c``. With 0, what counts is whether
        a word reaches into the subspace at all, farther than its numbers are rounded.

    Returns
    -------
    bias : float
        In [0, 1]. With several directions, the cosine is that with the subspace: the length of
        the projection.

    Raises
    ------
    InputError
        There is no vector, or `c` is negative.

    References
    ----------
    Bolukbasi et al. 2016, section 5.2, for one direction.
    """
    if not len(vectors):
        raise InputError("direct bias takes at least one neutral word, and there are none")
    if not c >= 0:
        raise InputError(f"the strictness c of direct bias is 0 or more, not {c:g}")
    reach = np.linalg.norm(projections(vectors, basis), axis=1)
    if c == 0:
        return float((reach > _negligible(vectors)).mean())
    return float((reach**c).mean())


def indirect_bias(word: Vectors, others: Vectors, basis: Floats) -> Floats:
    """Tell how much of the similarity between a word and others is owed to the bias subspace.

    Parameters
    ----------
    word : float array, shape (dim,)
    others : float array, shape (n, dim)
    basis : float64 array, shape (k, dim)
        Orthonormal rows.

    Returns
    -------
    beta : float64 array, shape (n,)
        ``(cos - cos without the subspace) / cos``: 0 if nothing is owed to it, 1 if all is,
        negative if they would be more alike without it. NaN where it is not defined: the cosine
        is 0, or one of both lies within the subspace.

    References
    ----------
    Bolukbasi et al. 2016, section 5.3 (there with one direction).
    """
    ((own,), (left,)) = _outside(word[None], basis)
    beta = np.empty(len(others))
    for start in range(0, len(others), _ROWS):
        part = slice(start, start + _ROWS)
        rows, rests = _outside(others[part], basis)
        cosines, outside = rows @ own, rests @ left
        defined = (np.abs(cosines) > _negligible(others)) & rests.any(axis=1) & left.any()
        beta[part] = np.divide(
            cosines - outside, cosines, out=np.full(len(rows), np.nan), where=defined
        )
    return beta


def relation_vector(pairs: Vectors) -> Floats:
    """Find the direction in which the words of pairs differ, shape (dim,), of length 1.

    Parameters
    ----------
    pairs : float array, shape (m, 2, dim)
        One pair is enough. Lengths count.

    Returns
    -------
    relation : float64 array, shape (dim,)
        The first principal component of the differences, first less second. These are not
        centred: what they have in common is what is looked for, and of one pair the component is
        the difference itself, as in the paper. The first words lie, on average, on the positive
        side.

    Raises
    ------
    InputError
        There is no pair, or the words of every pair have the same vector.

    References
    ----------
    K. Ethayarajh, D. Duvenaud, G. Hirst. Understanding undesirable word embedding associations.
    ACL 2019.
    """
    if not len(pairs):
        raise InputError("a relation vector takes at least one pair of words, and there are none")
    differences = pairs[:, 0].astype(np.float64) - pairs[:, 1]
    basis, _ = _components(differences, float(np.linalg.norm(pairs, axis=2).max()))
    if not len(basis):
        raise InputError("the words of each pair have the same vector: they span no relation")
    relation: Floats = _oriented(basis[:1], differences)[0]
    return relation


def ripa(vectors: Vectors, pairs: Vectors) -> Floats:
    """Compute the relational inner product association of words with pairs.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        As they are: lengths count, as the association grows with them.
    pairs : float array, shape (m, 2, dim)

    Returns
    -------
    association : float64 array, shape (n,)
        Inner products with `relation_vector`: positive towards the first words of the pairs.

    Notes
    -----
    WEFE takes, in place of one relation vector, the mean of the inner products with the
    difference of every single pair, scaled to length 1; with one pair both are the same.

    References
    ----------
    Ethayarajh et al. 2019.
    """
    relation = relation_vector(pairs)
    products = np.empty(len(vectors))
    for start in range(0, len(vectors), _ROWS):
        part = slice(start, start + _ROWS)
        products[part] = vectors[part].astype(np.float64) @ relation
    return products


def _components(rows: Floats, size: float) -> tuple[Floats, Floats]:
    """Give principal axes through the origin, shape (rank, dim), and the squares along them.

    What is small beside the size of the vectors that the rows were computed from is rounding.
    """
    _, lengths, axes = np.linalg.svd(rows, full_matrices=False)
    rank = int((lengths > size * max(rows.shape) * np.finfo(np.float64).eps).sum())
    return axes[:rank], lengths[:rank] ** 2


def _oriented(basis: Floats, firsts: Floats) -> Floats:
    """Turn each direction to where the first words lie on average, shape (n_sets, dim).

    If that is on neither side, let its largest component be positive.
    """
    along = firsts @ basis.T
    sides = along.mean(axis=0)
    largest = np.take_along_axis(basis, np.abs(basis).argmax(axis=1)[:, None], axis=1)[:, 0]
    undecided = np.abs(sides) <= _negligible(along) * np.abs(along).mean(axis=0)
    turned: Floats = basis * np.where(np.where(undecided, largest, sides) < 0, -1, 1)[:, None]
    return turned


def _outside(vectors: Vectors, basis: Floats) -> tuple[Floats, Floats]:
    """Scale vectors to length 1, and what lies outside the subspace; zeros if that is nothing."""
    rows = unit(vectors)
    rests = rows - (rows @ basis.T) @ basis
    rests[np.linalg.norm(rests, axis=1) <= _negligible(vectors)] = 0
    return rows, unit(rests)


def _negligible(vectors: Vectors) -> float:
    return float(_ROUNDING * np.finfo(vectors.dtype).eps)
