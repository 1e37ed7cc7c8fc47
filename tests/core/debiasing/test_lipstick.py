"""What is left of a bias: clusters, support vector machines, neighbours."""

import numpy as np
import pytest

from embcli.core.cosine import unit
from embcli.core.debiasing.lipstick import (
    cluster_purity,
    most_biased,
    neighbour_correlation,
    svm_accuracy,
)
from embcli.errors import InputError, UsageError


def two_sides(n=400, dim=8, apart=4.0, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.repeat([0, 1], n // 2)
    vectors = generator.standard_normal((n, dim)).astype(np.float32)
    vectors[:, 0] += apart * (labels * 2 - 1)
    return vectors, labels


def test_the_most_biased_are_the_extremes_of_both_sides():
    projections = np.array([0.1, -0.5, 0.9, -0.1, 0.3, -0.5])
    found = most_biased(projections, 2)
    assert found.rows.tolist() == [1, 5, 2, 4]
    assert found.labels.tolist() == [0, 0, 1, 1]
    # All of one sign, and all the same.
    assert most_biased(projections + 5, 2).rows.tolist() == [1, 5, 2, 4]
    assert most_biased(np.zeros(4), 2).rows.tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="4 of each side cannot be taken out of 6 words"):
        most_biased(projections, 4)


def test_clusters_of_two_sides_are_the_sides_and_of_none_are_not():
    vectors, labels = two_sides()
    assert cluster_purity(vectors, labels) > 0.95
    assert cluster_purity(vectors, 1 - labels) == cluster_purity(vectors, labels)
    vectors[:, 0] = np.random.default_rng(1).permutation(vectors[:, 0])
    assert 0.5 <= cluster_purity(vectors, labels) < 0.6


def test_purity_is_that_of_the_better_naming():
    vectors = np.repeat([[1.0, 0], [0, 1]], [6, 4], axis=0)
    labels = np.array([1] * 5 + [0] * 5)
    assert cluster_purity(vectors, labels) == pytest.approx(0.9)


def test_a_machine_finds_what_no_plane_divides():
    vectors, _ = two_sides(apart=0)
    rings = (np.linalg.norm(vectors[:, :2], axis=1) > 1.2).astype(int)
    vectors = vectors[:, :2]
    assert svm_accuracy(vectors, rings, train=200) > 0.9
    assert svm_accuracy(vectors, rings, train=200, kernel="linear") < 0.7


def test_a_machine_is_trained_on_a_part_and_tested_on_the_rest():
    vectors, labels = two_sides()
    training = np.arange(400) % 2 == 0
    told = np.where(training, labels, 1 - labels)
    right = svm_accuracy(vectors, labels, train=training)
    assert right > 0.95
    assert svm_accuracy(vectors, told, train=training) == pytest.approx(1 - right)
    with pytest.raises(InputError, match="400 words, and 400 to train on"):
        svm_accuracy(vectors, labels, train=400)
    with pytest.raises(UsageError, match="no kernel 'cubic'"):
        svm_accuracy(vectors, labels, kernel="cubic")
    # Of three sides, too; this one has nothing to do with the vectors.
    assert svm_accuracy(vectors, np.arange(400) % 3, train=100) < 0.45


def test_neighbours_are_counted_as_by_brute_force():
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((500, 6)).astype(np.float32)
    vectors[7] = vectors[3]  # twins
    bias = unit(vectors)[:, 0]
    candidates = generator.permutation(500)[:60]
    shares = []
    for row in candidates:
        cosines = unit(vectors) @ unit(vectors[row])
        cosines[row] = -2
        shares.append((bias[np.argsort(-cosines)[:20]] > 0).mean())
    expected = np.corrcoef(shares, bias[candidates])[0, 1]
    found = neighbour_correlation(vectors, candidates, bias, k=20)
    assert found == pytest.approx(expected, abs=1e-12)
    assert found > 0.7
    assert neighbour_correlation(vectors * 9, candidates, bias, k=20) == pytest.approx(found)
    scattered = generator.permutation(vectors)
    assert abs(neighbour_correlation(scattered, candidates, bias, k=20)) < 0.4


def test_neighbours_of_a_word_with_many_twins_are_its_twins():
    vectors = np.eye(5, dtype=np.float32)[[0] * 6 + [1] * 6]
    bias = np.array([1.0] * 6 + [-1.0] * 6)
    assert neighbour_correlation(vectors, np.array([5, 11, 0]), bias, k=2) == pytest.approx(1)
    assert np.isnan(neighbour_correlation(vectors, np.array([5, 0]), bias, k=2))
    with pytest.raises(InputError, match="1 word to look at"):
        neighbour_correlation(vectors, np.array([5]), bias, k=2)
    with pytest.raises(InputError, match="12 others"):
        neighbour_correlation(vectors, np.array([5, 0]), bias, k=12)
