"""Means, covariance, lengths; dimensions that are dead or there twice."""

import numpy as np
import pytest

from embcli.core.separability.moments import (
    dead_dimensions,
    duplicate_dimensions,
    moments,
    norm_statistics,
)
from embcli.errors import InputError


def cloud(n=9000, dim=7, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, dim)) * np.arange(1, dim + 1) + 3).astype(np.float32)


def test_sums_are_those_of_all_rows_at_once():
    vectors = cloud()
    found = moments(vectors)
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(exact.T), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found.norms, lengths, rtol=1e-14)
    np.testing.assert_allclose(found.direction, (exact / lengths[:, None]).mean(axis=0))
    assert found.n == 9000


def test_a_mean_far_away_costs_nothing():
    vectors = np.random.default_rng(0).normal(size=(5000, 3))
    far = vectors + 1e8
    np.testing.assert_allclose(moments(far).covariance, np.cov(far.T), rtol=1e-9, atol=1e-9)


def test_lengths_are_summed_up():
    norms = moments(np.array([[3.0, 4], [0, 0], [0, 1], [0, 2], [6, 8]])).norms
    found = norm_statistics(norms)
    assert found[:6] == (0, 1, 2, 5, 10, 3.6)
    assert found.variation == pytest.approx(np.std([5, 0, 1, 2, 10]) / 3.6)
    assert found.zeros == 1
    assert norm_statistics(np.zeros(3)).variation == 0


def test_dead_dimensions_are_those_that_never_vary():
    vectors = cloud()
    assert dead_dimensions(moments(vectors)).tolist() == []
    vectors[:, 2] = 0.1
    vectors[:, 5] = 0
    vectors[:, 4] *= 1e-3
    assert dead_dimensions(moments(vectors)).tolist() == [2, 5]
    assert dead_dimensions(moments(np.full((9, 3), 0.1))).tolist() == [0, 1, 2]


def test_duplicate_dimensions_are_found_whatever_sign_and_scale():
    vectors = cloud()
    vectors[:, 6] = 5 - 3 * vectors[:, 1]
    vectors[:, 4] = vectors[:, 0] + 0.02 * vectors[:, 3]
    vectors[:, 2] = 0
    found = duplicate_dimensions(moments(vectors))
    assert found.pairs.tolist() == [[1, 6]]
    assert found.correlations.tolist() == pytest.approx([-1])
    looser = duplicate_dimensions(moments(vectors), correlation=0.99)
    assert looser.pairs.tolist() == [[1, 6], [0, 4]]
    expected = np.corrcoef(vectors[:, 0].astype(float), vectors[:, 4].astype(float))[0, 1]
    assert looser.correlations[1] == pytest.approx(expected)


def test_words_of_a_model_have_neither(shared):
    vectors = np.load(shared / "words" / "gnews13k.npz")["vecs"]
    found = moments(vectors)
    assert not len(dead_dimensions(found))
    assert not len(duplicate_dimensions(found, correlation=0.9).pairs)
    doubled = np.hstack([vectors, -vectors[:, 7:8], np.ones_like(vectors[:, :1])])
    assert duplicate_dimensions(moments(doubled)).pairs.tolist() == [[7, 300]]
    assert dead_dimensions(moments(doubled)).tolist() == [301]


def test_what_cannot_be_added_up_is_refused():
    with pytest.raises(InputError, match="2 vectors: at least 3 are needed"):
        moments(cloud(2))
    vectors = cloud()
    vectors[5000, 3] = np.inf
    with pytest.raises(InputError, match="vector 5000 has a number that is not finite"):
        moments(vectors)
