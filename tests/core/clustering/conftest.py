import numpy as np
import pytest


def unit(vectors):
    vectors = np.asarray(vectors, np.float64)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def caps():
    """Make groups of directions: caps(sizes, dim, width, seed) gives unit vectors and classes."""

    def make(sizes=(60, 40, 25), dim=8, width=0.25, seed=0):
        rng = np.random.default_rng(seed)
        classes = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
        centres = unit(rng.normal(size=(len(sizes), dim)))
        return unit(centres[classes] + width * rng.normal(size=(len(classes), dim))), classes

    return make
