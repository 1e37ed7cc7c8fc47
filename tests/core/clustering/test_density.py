import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from embcli.core.clustering.clusters import Clusters
from embcli.core.clustering.density import default_min_size, hdbscan, reassign
from embcli.errors import InputError, UsageError


def blobs(sizes=(120, 80, 40), stray=30, seed=0):
    rng = np.random.default_rng(seed)
    classes = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), np.full(stray, -1)])
    centres = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0]])
    points = centres[classes] + rng.normal(size=(len(classes), 3))
    points[classes < 0] = rng.uniform(-60, 60, (stray, 3))
    return points.astype(np.float32), classes


def test_dense_regions_are_clusters_and_what_lies_between_is_noise():
    points, classes = blobs()
    found = hdbscan(points, min_size=15)
    assert found.count == 3
    assert adjusted_rand_score(found.labels, classes) > 0.9
    assert (found.labels[classes < 0] == -1).mean() > 0.9
    assert (found.strengths[found.labels < 0] == 0).all()
    assert found.strengths.max() == 1
    assert found.details["noise"] == (found.labels < 0).mean()
    # Where it is densest, a point is near the middle of its cluster.
    apart = np.linalg.norm(points - np.array([[0, 0, 0]]), axis=1)[found.labels == 0]
    firm = found.strengths[found.labels == 0]
    assert np.corrcoef(apart, firm)[0, 1] < -0.7


def test_members_are_as_many_as_asked_at_least_and_leaves_are_finer():
    points, _ = blobs((300, 200, 100))
    for size in (10, 40):
        found = hdbscan(points, min_size=size)
        assert np.bincount(found.labels[found.labels >= 0]).min() >= size
    leaves = hdbscan(points, min_size=10, selection="leaf")
    assert leaves.count >= hdbscan(points, min_size=10).count
    assert hdbscan(points).details["min_size"] == default_min_size(len(points)) == 8
    assert hdbscan(points, min_size=3).details["min_samples"] == 3


@pytest.mark.parametrize("n", [1, 4, 5, 30])
def test_points_without_gaps_are_noise(n):
    same = hdbscan(np.ones((n, 2)))
    assert same.labels.tolist() == [-1] * n
    few = hdbscan(np.random.default_rng(0).normal(size=(n, 2)), min_size=50)
    assert few.labels.tolist() == [-1] * n
    assert not few.strengths.any()


def test_two_points_repeated_are_two_clusters():
    found = hdbscan(np.repeat(np.eye(2), 20, axis=0), min_size=5)
    assert found.count == 2
    assert found.strengths.tolist() == [1] * 40


def test_what_cannot_be_clustered_is_refused():
    for points in (np.empty((0, 2)), np.array([[0, np.nan]])):
        with pytest.raises(InputError):
            hdbscan(points)
    for options in ({"min_size": 1}, {"min_samples": 0}):
        with pytest.raises(UsageError):
            hdbscan(np.ones((9, 2)), **options)


def test_noise_goes_to_the_nearest_mean_on_request(caps):
    vectors, classes = caps((60, 40, 20), width=0.15)
    labels, strengths = classes.copy(), np.full(120, 0.5, np.float32)
    labels[::5], strengths[::5] = -1, 0
    found = reassign(vectors, Clusters(labels, strengths, {"noise": 0.2}))
    assert found.labels.tolist() == classes.tolist()
    assert (found.strengths[::5] > 0).all()
    assert (np.delete(found.strengths, np.s_[::5]) == 0.5).all()
    assert found.details == {"noise": 0.2, "reassigned": 24}
    for nothing in (np.full(120, -1), classes):
        same = reassign(vectors, Clusters(nothing, strengths))
        assert same.labels.tolist() == nothing.tolist()
        assert same.details == {"reassigned": 0}
