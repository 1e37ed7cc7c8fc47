"""MUVERA: one vector for a set of vectors, whose inner products approximate MaxSim."""

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

    def encode_query(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """Encode the vectors of a query, shape (n, dim), as one of shape (size,)."""
        buckets, projected = self._prepare(vectors)
        return self._finish(self._members(buckets) @ projected)

    def encode_document(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """Encode the vectors of a document, shape (n, dim), n at least 1; shape (size,)."""
        buckets, projected = self._prepare(vectors)
        members = self._members(buckets)
        counts = members.sum(axis=2, keepdims=True)
        blocks = members @ projected
        blocks /= np.maximum(counts, 1)
        repetition, bucket = np.nonzero(counts[:, :, 0] == 0)
        differing = self._distances[bucket[:, None], buckets[repetition]]
        blocks[repetition, bucket] = projected[repetition, differing.argmin(axis=1)]
        return self._finish(blocks)

    @property
    def _blocks(self) -> int:
        return self.repetitions << self.planes

    @property
    def _width(self) -> int:
        return min(self.width, self.dim)

    @cached_property
    def _random(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """Hyperplanes [dim, R · planes], projections [dim, R · width], and the count sketch.

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

    @cached_property
    def _distances(self) -> NDArray[np.int64]:
        """In how many bits the numbers of any two buckets differ."""
        numbers = np.arange(1 << self.planes)
        bits = (numbers[:, None] >> np.arange(self.planes)) & 1
        return np.abs(bits[:, None] - bits).sum(axis=2)

    def _prepare(
        self, vectors: NDArray[np.floating]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Bucket of every vector [R, n], and its projections [R, n, width]."""
        units = unit(vectors).astype(np.float32)
        planes, projections, _ = self._random
        n = len(units)
        sides = (units @ planes > 0).reshape(n, self.repetitions, self.planes)
        buckets = sides @ (1 << np.arange(self.planes))
        if self._width == self.dim:
            return buckets.T, np.broadcast_to(units, (self.repetitions, n, self.dim))
        projected = (units @ projections).reshape(n, self.repetitions, self._width)
        return buckets.T, np.ascontiguousarray(projected.transpose(1, 0, 2))

    def _members(self, buckets: NDArray[np.int64]) -> NDArray[np.float32]:
        """Which vectors are in which bucket, shape (R, buckets, n)."""
        numbers = np.arange(1 << self.planes)[:, None]
        return (buckets[:, None, :] == numbers).astype(np.float32)

    def _finish(self, blocks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make one vector of the blocks of all repetitions."""
        flat = blocks.ravel() / np.float32(self.repetitions**0.5)
        if self.final is None:
            return flat
        sketch = self._random[2]
        sums = np.bincount(np.abs(sketch) - 1, flat * np.sign(sketch), self.final)
        return sums.astype(np.float32)
