"""Maps that make a space isotropic: centring, all-but-the-top, PCA and ZCA whitening.

All are fitted to the mean and the covariance of directions, and begin by scaling vectors to unit
length. What comes out is to be scaled so again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.core.maps import Linear, Shift, Transform, Unit
from embcli.errors import InputError, counted

Floats = NDArray[np.float64]
Vectors = NDArray[np.floating]

FEWEST = 3
_ROWS = 1 << 12
# Variance below this share of the greatest is what rounding to float32 leaves of none.
_ROUNDING = 1e-12


class Directions(NamedTuple):
    """Mean and covariance of the directions of vectors.

    Attributes
    ----------
    n : int
        How many vectors they are made of.
    mean : float64 array, shape (dim,)
        Of the vectors scaled to unit length.
    covariance : float64 array, shape (dim, dim)
        About the mean, with n in the denominator.
    zeros : int
        How many more vectors were left out, because they are zeros and have no direction.
    """

    n: int
    mean: Floats
    covariance: Floats
    zeros: int


class Axes(NamedTuple):
    """Principal axes.

    Attributes
    ----------
    variances : float64 array, shape (dim,)
        Falling; what is rounding is 0.
    axes : float64 array, shape (dim, dim)
        Columns, of unit length, their greatest component in magnitude positive.
    rank : int
        How many variances are above 0.
    """

    variances: Floats
    axes: Floats
    rank: int


@dataclass(frozen=True)
class Method:
    """A way to make a space isotropic.

    Attributes
    ----------
    name, summary : str
        The summary names the paper.
    fit : callable
        Takes `Directions`; what it can be told besides are its keyword-only parameters.
    """

    name: str
    summary: str
    fit: Callable[..., Transform]

    @property
    def options(self) -> tuple[str, ...]:
        """What the method can be told."""
        kinds = signature(self.fit).parameters.values()
        return tuple(kind.name for kind in kinds if kind.kind is Parameter.KEYWORD_ONLY)


def add_up(blocks: Iterable[Vectors]) -> Directions:
    """Add up the directions of vectors and their products, in one pass.

    Parameters
    ----------
    blocks : iterable of float array, each of shape (m, dim)
        At any length. Not modified, and not kept.

    Raises
    ------
    InputError
        A vector is not finite, or fewer than 3 are not zeros.

    Notes
    -----
    Sums are in float64, of a few thousand rows at a time: O(n · dim²) time, O(dim²) memory.
    """
    n = zeros = 0
    total: Floats = np.zeros(0)
    products: Floats = np.zeros((0, 0))
    for block in blocks:
        if not n + zeros:
            dim = block.shape[1]
            total, products = np.zeros(dim), np.zeros((dim, dim))
        for start in range(0, len(block), _ROWS):
            part = block[start : start + _ROWS]
            if not np.isfinite(part).all():
                raise InputError("a vector has a component that is not finite")
            rows = unit(part)
            some = int(rows.any(axis=1).sum())
            n, zeros = n + some, zeros + len(rows) - some
            total += rows.sum(axis=0)
            products += rows.T @ rows
    if n < FEWEST:
        raise InputError(
            f"at least {FEWEST} vectors that are not zeros are needed, and there are {n}"
        )
    mean = total / n
    return Directions(n, mean, products / n - np.outer(mean, mean), zeros)


def principal_axes(directions: Directions) -> Axes:
    """Find the axes along which directions vary, the first of them most.

    Raises
    ------
    InputError
        All vectors point the same way.
    """
    values, vectors = np.linalg.eigh(directions.covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    # Beside the mean, of length 1 at most, differences are rounded as it is.
    rank = int((values > _ROUNDING * max(values[0], directions.mean @ directions.mean)).sum())
    if not rank:
        raise InputError("all vectors point the same way: nothing is left without their mean")
    greatest = vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))]
    return Axes(
        np.where(np.arange(len(values)) < rank, values, 0.0), vectors * np.sign(greatest), rank
    )


def ledoit_wolf(directions: Directions) -> float:
    """Estimate how far to shrink the covariance towards a multiple of the identity.

    The share at which ``(1 - share) · covariance + share · variance · I`` is expected to be
    nearest to the covariance of what the vectors were drawn from.

    Returns
    -------
    share : float
        In [0, 1]; it falls as 1 / n.

    Notes
    -----
    The estimate needs the mean fourth power of distances from the mean m. For vectors of unit
    length, it follows from the covariance C: ``(1 - m·m)² + 4 m·C·m``.

    References
    ----------
    O. Ledoit, M. Wolf. A well-conditioned estimator for large-dimensional covariance matrices.
    Journal of Multivariate Analysis 2004.
    """
    mean, covariance = directions.mean, directions.covariance
    squares = float((covariance**2).sum())
    fourth = (1 - mean @ mean) ** 2 + 4 * float(mean @ covariance @ mean)
    error = (fourth - squares) / directions.n
    distance = squares - float(np.trace(covariance)) ** 2 / len(mean)
    return float(np.clip(error / distance, 0, 1)) if distance > 0 else 1.0


def center(directions: Directions) -> Transform:
    """Take the mean away.

    Raises
    ------
    InputError
        All vectors point the same way.
    """
    principal_axes(directions)
    return _centred(directions)


def abtt(directions: Directions, *, components: int | None = None) -> Transform:
    """Take away the mean, and the components along the first principal axes (all-but-the-top).

    Parameters
    ----------
    directions : Directions
    components : int, optional
        How many; by default dim / 100, as the paper has it, and at least 1.

    Raises
    ------
    InputError
        Nothing would be left.

    Notes
    -----
    The components taken away are those of the centred vector. The map keeps all dimensions.

    References
    ----------
    J. Mu, P. Viswanath. All-but-the-top: simple and effective postprocessing for word
    representations. ICLR 2018.
    """
    found = principal_axes(directions)
    dim = len(directions.mean)
    count = max(1, round(dim / 100)) if components is None else components
    if not 0 <= count < found.rank:
        raise InputError(
            f"vectors vary along {counted(found.rank, 'direction')}: without {count}, nothing is "
            "left"
        )
    top = found.axes[:, :count]
    return _centred(directions).then(Transform.of(Linear(np.eye(dim) - top @ top.T)))


def pca(
    directions: Directions, *, dims: int | None = None, shrinkage: float | None = None
) -> Transform:
    """Turn vectors onto their principal axes, and scale each of these to variance 1.

    Parameters
    ----------
    directions : Directions
    dims : int, optional
        How many axes to keep, the first ones; by default all, and then cosines are those that
        `zca` leads to.
    shrinkage : float, optional
        In [0, 1]: every variance is replaced by ``(1 - shrinkage) · variance + shrinkage · mean
        variance``, so that no axis is stretched, against the mean one, more than
        ``1 / sqrt(shrinkage)``. At 0 variances become exactly 1, at 1 axes keep their scale. By
        default as `ledoit_wolf` estimates.

    Raises
    ------
    InputError
        There are fewer dimensions, or `shrinkage` is 0 and vectors vary along fewer.

    References
    ----------
    J. Su, J. Cao, W. Liu, Y. Ou. Whitening sentence representations for better semantics and
    faster retrieval. 2021 (without shrinkage).
    """
    found = principal_axes(directions)
    kept = len(directions.mean) if dims is None else dims
    if not 1 <= kept <= len(directions.mean):
        raise InputError(f"{kept} dimensions cannot be kept of {len(directions.mean)}")
    scales = _scales(directions, found, kept, shrinkage)
    return _centred(directions).then(Transform.of(Linear(found.axes[:, :kept] * scales)))


def zca(directions: Directions, *, shrinkage: float | None = None) -> Transform:
    """Scale the variance along each principal axis to 1, and leave the axes where they are.

    Of all maps that make the covariance the identity, this one changes vectors least.

    Parameters
    ----------
    directions : Directions
    shrinkage : float, optional
        As of `pca`.

    Raises
    ------
    InputError
        `shrinkage` is 0, and vectors vary along fewer directions than there are dimensions.

    References
    ----------
    A. Bell, T. Sejnowski. The "independent components" of natural scenes are edge filters. Vision
    Research 1997.
    """
    found = principal_axes(directions)
    scales = _scales(directions, found, len(directions.mean), shrinkage)
    return _centred(directions).then(Transform.of(Linear((found.axes * scales) @ found.axes.T)))


METHODS = {
    method.name: method
    for method in (
        Method("center", "take the mean away", center),
        Method(
            "abtt",
            "all-but-the-top: take the mean and the first principal components away (Mu & "
            "Viswanath 2018)",
            abtt,
        ),
        Method(
            "pca",
            "PCA whitening: the first principal components, scaled to variance 1 (Su et al. 2021)",
            pca,
        ),
        Method(
            "zca",
            "ZCA whitening: variance 1 in every direction, changing vectors least (Bell & "
            "Sejnowski 1997)",
            zca,
        ),
    )
}


def _centred(directions: Directions) -> Transform:
    return Transform.of(Unit(), Shift(-directions.mean))


def _scales(directions: Directions, found: Axes, kept: int, shrinkage: float | None) -> Floats:
    """Give what the first axes are to be multiplied with, shape (kept,)."""
    share = ledoit_wolf(directions) if shrinkage is None else shrinkage
    if not 0 <= share <= 1:
        raise InputError(f"a shrinkage lies between 0 and 1, not {share:g}")
    if not share and kept > found.rank:
        raise InputError(
            f"{counted(directions.n, 'vector')} of {len(directions.mean)} dimensions vary along "
            f"{found.rank} directions only: whitening takes shrinkage, or pca with {found.rank} "
            "dimensions at most",
            hint="--shrinkage 0.1",
        )
    variances = (1 - share) * found.variances + share * found.variances.mean()
    scales: Floats = 1 / np.sqrt(variances[:kept])
    return scales
