"""MUVERA: one vector for a set of vectors, whose inner products approximate MaxSim."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit


@dataclass(frozen=True)
class Muvera:
    """Makes fixed-dimensional encodings (FDEs) of sets of vectors.

    Parameters
    ----------
    dim : int
        Of the vectors.
    planes : int
        Number of random hyperplanes (``k_sim``): they cut space into ``2**planes`` buckets.
    repetitions : int
        How many times everything is done, each time with other hyperplanes (``R_reps``).
    width : int
        Components that are left of a vector by a random projection (``d_proj``); `dim` or more
        leaves vectors as they are.
    final : int, optional
        Components that are left of the whole encoding by a last random projection (``d_final``).
    seed : int
        Chooses hyperplanes and projections.

    Notes
    -----
    Vectors are scaled to unit length first. In every repetition the vectors of a query are summed
    by bucket and those of a document averaged; a bucket that is empty in the document takes the
    vector whose bucket differs in the fewest bits, the first of several. So the inner product of
    both sums, over the query's vectors, the product with the mean of the document's vectors that
    are in the same bucket, which are likely to be the nearest. Repetitions are averaged. The last
    projection is a count sketch, which keeps inner products on average.

    Hyperplanes and projections come from NumPy's legacy generator, whose stream is frozen for ever:
    queries must be encoded as documents were, by whatever version of NumPy.

    References
    ----------
    Dhulipala, Hadian, Jayaram, Lee, Mirrokni, "MUVERA: Multi-Vector Retrieval via Fixed Dimensional
    Encodings" (NeurIPS 2024), arXiv 2405.19504.
    """

    dim: int
    planes: int
    repetitions: int
    width: int
    final: int | None = None
    seed: int = 0

    @property
    def size(self) -> int:
        """Number of components of an encoding."""
        return self.final or self._blocks * self._width

    def encode_queries(self, sets: Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
        """Encode the vectors of queries.

        Parameters
        ----------
        sets : sequence of float array, each of shape (n, dim)

        Returns
        -------
        encodings : float32 array, shape (len(sets), size)
        """
        places, projected = self._prepare(sets)
        return self._finish(self._sums(places, projected, len(sets)))

    def encode_documents(self, sets: Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
        """Encode the vectors of documents; of each set, n is at least 1. See `encode_queries`."""
        places, projected = self._prepare(sets)
        blocks = self._sums(places, projected, len(sets))
        count = len(sets) * self._blocks
        counts = np.bincount(places.ravel(), minlength=count)
        blocks /= np.maximum(counts, 1).astype(np.float32)[:, None]
        empty = np.flatnonzero(counts == 0)
        repetition = (empty >> self.planes) % self.repetitions
        blocks[empty] = projected[self._nearest(places, count)[empty], repetition]
        return self._finish(blocks)

    @property
    def _blocks(self) -> int:
        return self.repetitions << self.planes

    @property
    def _width(self) -> int:
        return min(self.width, self.dim)

    @cached_property
    def _random(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """Draw hyperplanes [dim, R · planes], projections [dim, R · width], and the count sketch.

        That is, for every component, its place in the sketch plus 1, negative if its sign changes.
        """
        stream = np.random.RandomState(self.seed)
        planes = stream.standard_normal((self.dim, self.repetitions * self.planes))
        signs = 2 * stream.randint(0, 2, (self.dim, self.repetitions * self._width)) - 1
        projections = signs / self._width**0.5
        sketch = np.empty(0, np.int64)
        if self.final is not None:
            count = self._blocks * self._width
            sketch = 1 + stream.randint(0, self.final, count).astype(np.int64)
            sketch *= 2 * stream.randint(0, 2, count) - 1
        return planes.astype(np.float32), projections.astype(np.float32), sketch

    def _prepare(
        self, sets: Sequence[NDArray[np.floating]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Bucket of every vector [n, R], counted on from set to set, and projections [n, R, width].

        Buckets of a set are numbered by repetition, then by the sides of the hyperplanes.
        """
        units = unit(np.concatenate(sets)).astype(np.float32)
        planes, projections, _ = self._random
        shape = len(units), self.repetitions
        sides = (units @ planes > 0).reshape(*shape, self.planes)
        owners = np.repeat(np.arange(len(sets)), [len(vectors) for vectors in sets])
        blocks = owners[:, None] * self.repetitions + np.arange(self.repetitions)
        places = (blocks << self.planes) + sides @ (1 << np.arange(self.planes))
        if self._width == self.dim:
            return places, np.broadcast_to(units[:, None], (*shape, self.dim))
        return places, (units @ projections).reshape(*shape, self._width)

    def _sums(
        self, places: NDArray[np.int64], projected: NDArray[np.float32], n_sets: int
    ) -> NDArray[np.float32]:
        """Sum what is in each bucket, shape (n_sets · blocks, width)."""
        flat, count = places.ravel(), n_sets * self._blocks
        sums = np.empty((count, self._width), np.float32)
        for component in range(self._width):
            sums[:, component] = np.bincount(flat, projected[:, :, component].ravel(), count)
        return sums

    def _nearest(self, places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Of every bucket the vector that is nearest to it in bits, the first of several."""
        n = len(places)
        # Distance times n, plus the number of the vector: the least is what is sought.
        nearest = np.full(count, n * (self.planes + 1), np.int64)
        for column in places.T:
            nearest[column[::-1]] = np.arange(n)[::-1]  # of equals the last one stays
        cube = nearest.reshape(-1, *([2] * self.planes))
        for axis in range(1, self.planes + 1):
            # Bit by bit: the way to the nearest bucket flips each bit once at most.
            cube = np.minimum(cube, np.flip(cube, axis) + n)
        return cube.ravel() % n

    def _finish(self, blocks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make one vector of the blocks of all repetitions."""
        flat = blocks.reshape(-1, self._blocks * self._width)
        flat = flat / np.float32(self.repetitions**0.5)
        if self.final is None:
            return flat
        sketch = self._random[2]
        signs, targets = np.sign(sketch), np.abs(sketch) - 1
        sums = [np.bincount(targets, row * signs, self.final) for row in flat]
        return np.array(sums, np.float32).reshape(-1, self.final)
