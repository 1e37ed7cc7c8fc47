"""Adding and subtracting vectors of queries, and looking at vectors in one respect only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.errors import InputError

# Of what a unit vector has in no other dimension, less is rounding.
_LEAST = 1e-6


def compose(
    queries: NDArray[np.floating], terms: Sequence[tuple[float, NDArray[np.floating]]]
) -> NDArray[np.float32]:
    """Add weighted vectors to each query, all taken at unit length.

    Parameters
    ----------
    queries : float array, shape (n, dim)
    terms : sequence of (weight, float array of shape (dim,))

    Returns
    -------
    composed : float32 array, shape (n, dim)
        Of unit length.

    Raises
    ------
    InputError
        A sum is zero: nothing is left of the query.

    Notes
    -----
    The directional form, ``query + α · (composed − base)``, is two terms of the weights α and -α.

    References
    ----------
    Mikolov, Yih, Zweig (2013), "Linguistic Regularities in Continuous Space Word
    Representations", NAACL. Tursun et al. (2025), "PDV: Prompt Directional Vectors for
    Zero-shot Composed Image Retrieval".
    """
    sums = unit(queries)
    for weight, vector in terms:
        sums = sums + weight * unit(vector)
    if (np.linalg.norm(sums, axis=1) < _LEAST).any():
        raise InputError("what is taken away leaves nothing of the query")
    return unit(sums).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Subspace:
    """The respects in which some examples differ from a mean.

    Two vectors that are alike there may differ in everything else: among places, only the
    place counts.

    Attributes
    ----------
    mean : float64 array, shape (dim,)
    basis : float64 array, shape (rank, dim)
        Orthonormal rows.
    """

    mean: NDArray[np.float64]
    basis: NDArray[np.float64]

    @classmethod
    def spanned_by(cls, examples: NDArray[np.floating], mean: NDArray[np.floating]) -> "Subspace":
        """Span it by examples, less the mean.

        Parameters
        ----------
        examples : float array, shape (n, dim)
        mean : float array, shape (dim,)
            Of vectors in general, at unit length.

        Raises
        ------
        InputError
            The examples are all the same as the mean.
        """
        centre = np.asarray(mean, np.float64)
        _, lengths, basis = np.linalg.svd(unit(examples) - centre, False)
        rank = int((lengths > _LEAST * max(lengths.max(initial=0), 1)).sum())
        if rank == 0:
            raise InputError("the examples span nothing")
        return cls(centre, basis[:rank])

    def project(self, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Give the coordinates of vectors, at unit length, within; shape (n, rank)."""
        inside: NDArray[np.float64] = (unit(vectors) - self.mean) @ self.basis.T
        return inside
