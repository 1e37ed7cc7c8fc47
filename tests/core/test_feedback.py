import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embcli.core.feedback import cluster_feedback, k_means, mean_feedback


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 12), alpha=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_mean_feedback_is_rocchios_formula(seed, n, alpha):
    rng = np.random.default_rng(seed)
    query, vectors = rng.normal(size=8), rng.normal(size=(n, 8)) * rng.random((n, 1))
    expected = alpha * unit(query) + (1 - alpha) * sum(unit(v) for v in vectors) / n
    moved = mean_feedback(query, vectors, alpha)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, unit(expected), atol=1e-6)
    np.testing.assert_allclose(mean_feedback(query, vectors, 1), unit(query), atol=1e-6)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 12), keep=st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_cluster_feedback_moves_towards_the_best_centres(seed, n, keep):
    rng = np.random.default_rng(seed)
    query, vectors = rng.normal(size=8), rng.normal(size=(n, 8)) + 1
    centres = unit(k_means(unit(vectors), 3, seed))
    weights = np.maximum(centres @ unit(query), 0)
    best = sorted(range(len(centres)), key=lambda i: -weights[i])[:keep]
    moved = cluster_feedback(query, vectors, 0.7, 3, keep, seed)
    if weights.max() > 0:
        mean = sum(weights[i] * centres[i] for i in best) / sum(weights[i] for i in best)
        np.testing.assert_allclose(moved, unit(0.7 * unit(query) + 0.3 * mean), atol=1e-6)
    else:
        np.testing.assert_allclose(moved, unit(query), atol=1e-6)
    assert (moved == cluster_feedback(query, vectors, 0.7, 3, keep, seed)).all()


def test_one_cluster_is_the_mean():
    rng = np.random.default_rng(0)
    query, vectors = rng.normal(size=8), unit(rng.normal(size=(5, 8)) + 1)
    (centre,) = k_means(vectors, 1)
    np.testing.assert_allclose(centre, vectors.mean(axis=0))
    moved = cluster_feedback(query, vectors, 0.5, 1, 1)
    np.testing.assert_allclose(moved, unit(unit(query) + unit(vectors.mean(axis=0))), atol=1e-6)


def test_what_strays_is_left_out():
    query, stray = np.array([1.0, 0.2, 0]), np.array([0.1, 0, 1])
    vectors = np.stack([[1, 0.1, 0], [1, 0.15, 0], stray])
    moved = cluster_feedback(query, vectors, 0.5, 2, 1)
    assert moved @ unit(stray) < mean_feedback(query, vectors, 0.5) @ unit(stray)
    assert moved[2] == pytest.approx(0, abs=1e-6)


def test_without_anything_found_the_query_stays():
    query, none = np.array([3.0, 4.0]), np.empty((0, 2))
    for moved in (mean_feedback(query, none, 0.5), cluster_feedback(query, none, 0.5, 3, 2)):
        np.testing.assert_allclose(moved, [0.6, 0.8], atol=1e-6)


def test_k_means_finds_clusters_that_are_there():
    rng = np.random.default_rng(1)
    true = np.array([[10.0, 0, 0], [0, 10, 0], [0, 0, 10]])
    points = np.repeat(true, 20, axis=0) + rng.normal(size=(60, 3)) * 0.1
    before = points.copy()
    centres = k_means(points, 3)
    assert (points == before).all()
    expected = points.reshape(3, 20, 3).mean(axis=1)
    np.testing.assert_allclose(centres[np.argsort(-centres @ [1, 0.5, 0])], expected)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 30), clusters=st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_k_means_ends_where_lloyds_algorithm_stays(seed, n, clusters):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 4))
    centres = k_means(points, clusters, seed)
    assert len(centres) == min(n, clusters)
    nearest = np.array([np.argmin([np.sum((p - c) ** 2) for c in centres]) for p in points])
    for number, centre in enumerate(centres):
        if (nearest == number).any():
            np.testing.assert_allclose(centre, points[nearest == number].mean(axis=0), atol=1e-9)


def test_equal_vectors_are_one_cluster():
    assert k_means(np.ones((9, 3)), 3).tolist() == [[1, 1, 1]]
    assert len(k_means(np.repeat(np.eye(3), 5, axis=0), 3)) == 3
