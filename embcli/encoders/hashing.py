"""Feature hashing: an encoder that needs no model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embcli.core.pooling import normalize_rows
from embcli.encoders import Kind, QuickEncoder
from embcli.encoders.recipe import Recipe

_TEXTS_AT_ONCE = 256


class HashEncoder(QuickEncoder):
    """Signed feature hashing of character n-grams, L2-normalised.

    Text is lower-cased and every run of white space becomes one space, with one more at both
    ends, so that n-grams know where words begin. Each n-gram adds +1 or -1 to one component;
    counts are dampened as sign(x)·sqrt|x|.

    Parameters
    ----------
    dim : int
        Number of components.
    n_min, n_max : int
        Shortest and longest n-gram, in characters.

    References
    ----------
    Weinberger et al. (2009), "Feature Hashing for Large Scale Multitask Learning". The square
    root is ours (sublinear term frequency).
    """

    def __init__(self, dim: int = 1024, n_min: int = 3, n_max: int = 5) -> None:
        self._dim, self._n_min, self._n_max = dim, n_min, n_max

    @property
    def dim(self) -> int:
        """Number of components of a vector."""
        return self._dim

    def tokenizer(self) -> None:
        """There are no tokens."""

    def recipe(self) -> Recipe:
        """Describe the space the vectors lie in."""
        return Recipe(
            {
                "model": "hash",
                "features": f"character {self._n_min}-{self._n_max}-grams",
                "case": "lower",
                "weighting": "signed square root of counts",
                "dim": self._dim,
                "normalized": True,
                "maps": [],
            }
        )

    def encode(self, inputs: Sequence[str], kind: Kind = "document") -> NDArray[np.float32]:
        """Encode texts; see `embcli.encoders.Encoder.encode`."""
        parts = [
            self._encode_some(inputs[start : start + _TEXTS_AT_ONCE])
            for start in range(0, len(inputs), _TEXTS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self._dim), np.float32)

    def _encode_some(self, texts: Sequence[str]) -> NDArray[np.float32]:
        clean = [f" {' '.join(text.lower().split())} " for text in texts]
        lengths = np.fromiter(map(len, clean), np.int64, len(clean))
        codes = np.frombuffer("".join(clean).encode("utf-32-le", "surrogatepass"), "<u4")
        owner = np.repeat(np.arange(len(clean)), lengths)
        room = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(codes))
        totals = np.zeros(len(clean) * self._dim)
        rolling = np.zeros(len(codes), np.uint64)
        for n in range(1, self._n_max + 1):
            # Horner's rule over a growing window: rolling[i] covers codes[i : i + n].
            rolling = rolling[: len(codes) - n + 1] * np.uint64(0x100000001B3)
            rolling = rolling + codes[n - 1 :]
            if n < self._n_min or not len(rolling):
                continue
            whole = room[: len(rolling)] >= n
            mixed = _mix(rolling[whole] + np.uint64(n * 0x9E3779B97F4A7C15 % 2**64))
            bucket = (mixed >> np.uint64(1)) % np.uint64(self._dim)
            sign = 1.0 - 2.0 * (mixed & np.uint64(1)).astype(np.float64)
            place = owner[: len(rolling)][whole] * self._dim + bucket.astype(np.int64)
            totals += np.bincount(place, sign, len(totals))
        dampened = np.sign(totals) * np.sqrt(np.abs(totals))
        return normalize_rows(dampened.astype(np.float32).reshape(len(clean), self._dim))


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of SplitMix64 (Steele et al. 2014): spreads every bit over the whole word."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
