import numpy as np
import pytest

from embcli.core.clustering.describe import cohesion, medoids, outliers


def test_medoids_have_the_greatest_mean_cosine_to_the_others(caps):
    vectors, labels = caps((30, 20, 10, 1), width=0.8)
    labels[::9] = -1
    labels[np.flatnonzero(labels == -1)[0]] = 3  # It has a member, whatever fell out.
    for c, row in enumerate(medoids(vectors, labels)):
        rows = np.flatnonzero(labels == c)
        cosines = vectors[rows].astype(float) @ vectors[rows].T.astype(float)
        means = (cosines.sum(axis=1) - 1) / max(len(rows) - 1, 1)
        assert means[rows.tolist().index(row)] == pytest.approx(means.max(), abs=1e-6)
    assert medoids(np.ones((3, 1), np.float32), np.array([0, 0, 0])).tolist() == [0]


def test_cohesion_is_the_mean_cosine_to_the_mean(caps):
    vectors, labels = caps((30, 20), width=0.5)
    for c, value in enumerate(cohesion(vectors, labels)):
        rows = vectors[labels == c].astype(float)
        mean = rows.mean(axis=0)
        assert value == pytest.approx((rows @ mean / np.linalg.norm(mean)).mean(), abs=1e-6)
        # As long as the members are of length 1, that is the length of their mean.
        assert value == pytest.approx(np.linalg.norm(mean), abs=1e-6)


def test_a_stray_member_is_an_outlier(caps):
    vectors, labels = caps((60, 40), width=0.1)
    i, j = np.flatnonzero(labels == 0)[5], np.flatnonzero(labels == 1)[7]
    vectors[i] = -vectors[i]
    labels[j] = -1
    scores = outliers(vectors, labels)
    assert scores.dtype == np.float32
    assert scores.argmax() == i
    assert scores[i] > 20
    assert abs(np.median(scores[labels == 0])) < 1e-6
    # Noise that is a typical member of the cluster nearest to it is no outlier of it.
    assert scores[j] < 3.5


def test_without_clusters_there_is_nothing_to_describe(caps):
    vectors, _ = caps()
    noise = np.full(len(vectors), -1)
    assert len(medoids(vectors, noise)) == len(cohesion(vectors, noise)) == 0
    assert not outliers(vectors, noise).any()
    alone = np.zeros(1, int)
    assert outliers(vectors[:1], alone).tolist() == [0]
    assert (outliers(np.repeat(vectors[:1], 5, axis=0), np.zeros(5, int)) == 0).all()
