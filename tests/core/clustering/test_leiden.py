import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from embcli.core.clustering.leiden import leiden, shared_weights
from embcli.core.neighbours import Neighbours, among_themselves, without_own
from embcli.errors import InputError, UsageError


def graph_of(vectors, k=10):
    return without_own(among_themselves(vectors, k + 1), np.arange(len(vectors)))


def test_edges_weigh_the_neighbours_in_common(caps):
    graph = graph_of(caps(width=0.8)[0], 6)
    n = len(graph.others)
    near = [{i, *graph.others[i].tolist()} for i in range(n)]
    expected = {
        (i, j): len(near[i] & near[j]) / len(near[i] | near[j])
        for i in range(n)
        for j in range(i + 1, n)
        if i in near[j] or j in near[i]
    }
    ends, weights = shared_weights(graph)
    assert [tuple(pair) for pair in ends.tolist()] == sorted(expected)
    np.testing.assert_allclose(weights, [expected[pair] for pair in sorted(expected)])


def test_groups_are_found_and_modularity_is_newmans(caps):
    vectors, classes = caps((80, 60, 40), width=0.15)
    graph = graph_of(vectors)
    found = leiden(graph, resolution=0.1, levels=())
    assert adjusted_rand_score(found.labels, classes) == 1
    ends, weights = shared_weights(graph)
    same = found.labels[ends[:, 0]] == found.labels[ends[:, 1]]
    for i in (0, 7, int(ends[~same][0, 0]) if (~same).any() else 1):
        its = (ends == i).any(axis=1)
        share = weights[its & same].sum() / weights[its].sum()
        assert found.strengths[i] == pytest.approx(share, abs=1e-6)
    degrees = np.bincount(ends.T.ravel(), np.tile(weights, 2))
    totals = np.bincount(found.labels, degrees)
    modularity = weights[same].sum() / weights.sum()
    modularity -= np.square(totals / (2 * weights.sum())).sum()
    assert found.details["modularity"] == pytest.approx(modularity)


def test_higher_resolutions_give_more_and_levels_are_nested(caps):
    graph = graph_of(caps((300, 200, 100), width=0.9)[0])
    several = [leiden(graph, resolution=r, levels=()).count for r in (0.2, 1, 5)]
    assert several == sorted(set(several))
    found = leiden(graph)
    assert found.levels
    finer = found.labels
    assert 0 < found.strengths.min() < found.strengths.max() == 1
    for level in found.levels:
        assert level.max() < finer.max()
        for c in range(finer.max() + 1):
            assert len(set(level[finer == c].tolist())) == 1
        finer = level


def test_the_seed_decides(caps):
    graph = graph_of(caps((300, 200), width=1.2)[0])
    labels = [leiden(graph, seed=seed).labels.tolist() for seed in (0, 0, 1)]
    assert labels[0] == labels[1] != labels[2]


def test_one_row_equal_rows_and_none():
    alone = leiden(graph_of(np.ones((1, 1), np.float32)))
    assert (alone.labels.tolist(), alone.strengths.tolist()) == ([0], [1])
    assert alone.details["modularity"] == 0
    same = leiden(graph_of(np.ones((9, 1), np.float32), 3))
    assert np.isfinite(same.strengths).all()
    empty = Neighbours(np.empty((0, 3), np.int64), np.empty((0, 3), np.float32))
    with pytest.raises(InputError):
        leiden(empty)
    for resolution, levels in ((0, ()), (1, (0.5, 0.5)), (1, (2,)), (1, (0,))):
        with pytest.raises(UsageError):
            leiden(graph_of(np.eye(3, dtype=np.float32), 2), resolution=resolution, levels=levels)
