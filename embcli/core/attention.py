"""The parts of a transformer layer, on the token vectors of one text."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_SCORES_AT_ONCE = 1 << 22
# Abramowitz and Stegun, formula 7.1.26, highest power first.
_ERFC = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
_ERFC_SCALE = 0.3275911


def layer_norm(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """Standardise every row, then scale and shift its components.

    Parameters
    ----------
    x : float32 array, shape (n, dim)
    weight, bias : float32 array, shape (dim,)
    epsilon : float
        Added to the variance.

    Returns
    -------
    normed : float32 array, shape (n, dim)

    References
    ----------
    Ba, Kiros and Hinton, "Layer Normalization", 2016, https://arxiv.org/abs/1607.06450
    """
    normed: Array = x - x.mean(axis=1, keepdims=True)
    variance = np.einsum("ij,ij->i", normed, normed)[:, None] / np.float32(x.shape[1])
    normed /= np.sqrt(variance + np.float32(epsilon))
    normed *= weight
    normed += bias
    return normed


def attend(queries: Array, keys: Array, values: Array, heads: int, bias: Array | None) -> Array:
    """Multi-head scaled dot-product attention of every token to all tokens.

    Parameters
    ----------
    queries, keys, values : float32 array, shape (n, dim)
        The heads lie side by side.
    heads : int
        Divides `dim`.
    bias : float32 array, shape (heads, n, n), optional
        Added to the scaled scores.

    Returns
    -------
    attended : float32 array, shape (n, dim)

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017, https://arxiv.org/abs/1706.03762
    """
    n, dim = queries.shape
    q, k, v = (x.reshape(n, heads, -1).transpose(1, 0, 2) for x in (queries, keys, values))
    attended = np.empty((n, heads, dim // heads), np.float32)
    step = max(1, _SCORES_AT_ONCE // (n * n))  # the scores of all heads may not fit into memory
    for start in range(0, heads, step):
        some = slice(start, start + step)
        scores = q[some] @ k[some].transpose(0, 2, 1)
        scores *= np.float32((dim // heads) ** -0.5)
        if bias is not None:
            scores += bias[some]
        scores -= scores.max(axis=2, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=2, keepdims=True)
        attended[:, some] = (scores @ v[some]).transpose(1, 0, 2)
    return attended.reshape(n, dim)


def distance_buckets(n: int, buckets: int = 32, longest: int = 128) -> NDArray[np.int64]:
    """Sort the distances between tokens: near ones one by one, far ones by their logarithm.

    Parameters
    ----------
    n : int
        Number of tokens.
    buckets : int
        Half of them are for tokens further on.
    longest : int
        From here on all distances share a bucket.

    Returns
    -------
    numbers : int64 array, shape (n, n)
        Row i holds the buckets of all tokens as seen from token i.

    References
    ----------
    Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    Transformer", 2020, section 2.1, https://arxiv.org/abs/1910.10683
    """
    places = np.arange(n)
    ahead = places - places[:, None]
    distance = np.abs(ahead)
    half = buckets // 2
    near = half // 2
    # In float32, as in PyTorch: a distance on the edge of a bucket must fall to the same side.
    share = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(near))
    share = share / np.float32(np.log(longest / near)) * np.float32(half - near)
    far = np.minimum(near + share.astype(np.int64), half - 1)
    numbers: NDArray[np.int64] = np.where(distance < near, distance, far) + half * (ahead > 0)
    return numbers


def gelu(x: Array) -> Array:
    """Gaussian error linear unit: x times the normal distribution function at x.

    Parameters
    ----------
    x : float32 array

    Returns
    -------
    y : float32 array of the same shape
        Within 4e-7 of the exact values for |x| < 12; PyTorch in float32 is within 1.2e-6.

    Notes
    -----
    NumPy has no error function and importing SciPy costs more than encoding a query. The tail
    probability T of the normal distribution follows from formula 7.1.26 for erfc, whose error is
    at most 1.5e-7, and ``gelu(x) = max(x, 0) - |x| T(|x|)`` loses no digits by cancellation.

    References
    ----------
    Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, https://arxiv.org/abs/1606.08415

    Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964, formula 7.1.26
    """
    size = np.abs(x)
    t = size * np.float32(_ERFC_SCALE * 0.5**0.5)
    t += np.float32(1)
    np.reciprocal(t, out=t)
    tail = np.full_like(x, _ERFC[0])
    for coefficient in _ERFC[1:]:
        tail *= t
        tail += np.float32(coefficient)
    tail *= t
    np.multiply(x, x, out=t)
    t *= np.float32(-0.5)
    tail *= np.exp(t, out=t)
    tail *= size
    tail *= np.float32(0.5)
    result: Array = np.maximum(x, np.float32(0))
    result -= tail
    return result


def gelu_tanh(x: Array) -> Array:
    """Hendrycks and Gimpel's approximation of `gelu` by a hyperbolic tangent."""
    inner = np.float32(0.044715) * (x * x * x)
    inner += x
    inner *= np.float32((2 / np.pi) ** 0.5)
    np.tanh(inner, out=inner)
    inner += np.float32(1)
    inner *= x
    inner *= np.float32(0.5)
    return inner


def relu(x: Array) -> Array:
    """Negative values become zero."""
    return np.maximum(x, np.float32(0))


def sigmoid(x: Array) -> Array:
    """Logistic function, by the hyperbolic tangent, which does not overflow."""
    y: Array = np.tanh(np.float32(0.5) * x)
    y += np.float32(1)
    y *= np.float32(0.5)
    return y


def silu(x: Array) -> Array:
    """Sigmoid linear unit: x times the logistic function at x."""
    return x * sigmoid(x)


def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return np.tanh(x)


def identity(x: Array) -> Array:
    """Leave everything as it is."""
    return x


# By the names transformers' configurations use.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": relu,
    "silu": silu,
    "swish": silu,
}
