import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from embcli.core.clustering import agglomerative as module
from embcli.core.clustering.agglomerative import agglomerative
from embcli.core.neighbours import among_themselves, without_own
from embcli.errors import InputError, UsageError


def graph_of(vectors, k):
    return without_own(among_themselves(vectors, k + 1), np.arange(len(vectors)))


@pytest.mark.parametrize("linkage", ["ward", "average", "complete"])
def test_it_joins_what_scikit_learn_joins(caps, linkage, monkeypatch):
    monkeypatch.setattr(module, "_ROWS", 17)
    vectors, _ = caps(width=0.7)
    metric = "euclidean" if linkage == "ward" else "cosine"
    for k in (1, 4, 30):
        theirs = AgglomerativeClustering(k, linkage=linkage, metric=metric).fit(vectors)
        found = agglomerative(vectors, k, linkage=linkage)
        assert adjusted_rand_score(found.labels, theirs.labels_) == 1
    for threshold in (0.4, 0.9):
        theirs = AgglomerativeClustering(
            None, distance_threshold=threshold, linkage=linkage, metric=metric
        ).fit(vectors)
        found = agglomerative(vectors, threshold=threshold, linkage=linkage)
        assert adjusted_rand_score(found.labels, theirs.labels_) == 1
        assert found.details["height"] < threshold


def test_levels_come_from_the_same_tree(caps):
    vectors, _ = caps(width=0.7)
    found = agglomerative(vectors, 32)
    assert [level.max() + 1 for level in found.levels] == [8, 2]
    assert adjusted_rand_score(found.levels[0], agglomerative(vectors, 8).labels) == 1
    assert 0 <= found.strengths.min() < found.strengths.max() <= 1


def test_on_a_graph_of_all_it_is_exact_and_on_one_in_parts_it_goes_on(caps):
    vectors, classes = caps(width=0.1)
    full = graph_of(vectors, len(vectors) - 1)
    exact = agglomerative(vectors, 9)
    assert adjusted_rand_score(agglomerative(vectors, 9, graph=full).labels, exact.labels) == 1
    parts = agglomerative(vectors, 3, graph=graph_of(vectors, 5))
    assert parts.details["connected"] >= 2
    assert adjusted_rand_score(parts.labels, classes) == 1
    assert agglomerative(vectors, 1, graph=graph_of(vectors, 2)).count == 1


def test_one_vector_and_equal_ones():
    assert agglomerative(np.ones((1, 1), np.float32), 1).labels.tolist() == [0]
    same = np.ones((6, 1), np.float32)
    assert agglomerative(same, threshold=0.1).count == 1
    assert agglomerative(same, 2).count == 2
    assert agglomerative(same, 1, graph=graph_of(same, 2)).count == 1


def test_what_cannot_be_done_is_refused(caps, monkeypatch):
    vectors, _ = caps()
    for k, options in (
        (None, {}), (2, {"threshold": 1}), (0, {}), (None, {"threshold": 0}),
        (2, {"linkage": "single"}), (2, {"linkage": "average", "graph": graph_of(vectors, 3)}),
    ):  # fmt: skip
        with pytest.raises(UsageError):
            agglomerative(vectors, k, **options)
    with pytest.raises(InputError, match="cannot make 4 clusters"):
        agglomerative(vectors[:3], 4)
    monkeypatch.setattr(module, "MOST", 100)
    with pytest.raises(InputError, match="without a graph of neighbours 100 are the most"):
        agglomerative(vectors, 3)
