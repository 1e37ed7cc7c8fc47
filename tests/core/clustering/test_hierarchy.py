from itertools import pairwise

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from embcli.core.clustering.hierarchy import coarse_counts, coarser, cut, ward
from embcli.errors import UsageError


def test_points_of_weight_one_make_scipys_tree():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(80, 5))
    merges = ward(points, np.ones(80, int))
    tree = linkage(points, "ward")
    np.testing.assert_array_equal(merges, np.sort(tree[:, :2], axis=1).astype(int))
    for count in (1, 2, 7, 40, 80):
        expected = fcluster(tree, count, "maxclust")
        assert adjusted_rand_score(cut(merges, count), expected) == 1


def test_weights_do_as_repeated_points():
    rng = np.random.default_rng(1)
    points, sizes = rng.normal(size=(30, 4)), rng.integers(1, 9, 30)
    merges = ward(points, sizes)
    owner = np.repeat(np.arange(30), sizes)
    tree = linkage(points[owner], "ward")
    for count in (2, 5, 12, 29):
        groups = cut(merges, count)[owner]
        assert adjusted_rand_score(groups, fcluster(tree, count, "maxclust")) == 1


def test_levels_are_nested_and_as_many_as_asked(caps):
    vectors, labels = caps((40, 30, 30, 20, 20, 10, 10, 5), width=0.4)
    labels[::11] = -1
    levels = coarser(vectors, labels, [6, 3, 1, 8, 99])
    assert [level.max() + 1 for level in levels] == [6, 3, 1, 8, 8]
    for finer, coarse in ((labels, levels[0]), *pairwise(levels[:3])):
        assert ((coarse == -1) == (labels == -1)).all()
        for c in range(finer.max() + 1):
            assert len(set(coarse[finer == c].tolist())) == 1
        assert (np.diff(np.bincount(coarse[coarse >= 0])) <= 0).all()


def test_no_cluster_one_and_equal_ones():
    vectors = np.repeat(np.eye(2, dtype=np.float32)[:1], 6, axis=0)
    assert coarser(vectors, np.full(6, -1), [2])[0].tolist() == [-1] * 6
    assert coarser(vectors, np.zeros(6, int), [2, 1])[1].tolist() == [0] * 6
    assert coarser(vectors, np.arange(6) % 3, [2])[0].max() == 1
    assert coarse_counts(100) == [25, 6]
    with pytest.raises(UsageError):
        coarser(vectors, np.zeros(6, int), [0])
