import numpy as np
import pytest

from embcli.core.alignment import Pairs
from embcli.core.alignment.shift import mean_shift
from embcli.errors import InputError


def test_it_is_the_translation_with_the_least_squares():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)).astype(np.float32), rng.normal(size=(30, 6)).astype(np.float32)
    pairs = Pairs(x, y, np.array([3, 3, 7]), np.array([1, 2, 9]))
    moved = mean_shift(pairs, normalize="none").source.apply(x)
    np.testing.assert_allclose(moved[[3, 3, 7]].mean(axis=0), y[[1, 2, 9]].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(moved - moved[0], x - x[0], atol=1e-6)


def test_a_planted_gap_is_closed():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(40, 6)).astype(np.float32)
    x = (y / np.linalg.norm(y, axis=1, keepdims=True) + 4).astype(np.float32)
    pairs = Pairs(x, y, np.arange(5), np.arange(5))
    moved = mean_shift(pairs, normalize="none").source.apply(x)
    np.testing.assert_allclose(np.ptp(x - moved, axis=0), 0, atol=1e-6)


def test_other_dims_are_refused():
    pairs = Pairs(np.ones((4, 3), "f4"), np.ones((4, 2), "f4"), np.arange(4), np.arange(4))
    with pytest.raises(InputError, match="from 3 components to as many, and the target has 2"):
        mean_shift(pairs)
