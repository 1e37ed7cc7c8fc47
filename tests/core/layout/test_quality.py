import numpy as np
import pytest

from embcli.core.knn import knn_graph
from embcli.core.layout.quality import (
    continuity,
    distance_correlation,
    preservation,
    quality,
    triplet_accuracy,
    trustworthiness,
)
from embcli.errors import InputError

manifold = pytest.importorskip("sklearn.manifold")


@pytest.mark.parametrize("k", [1, 5, 15])
def test_trustworthiness_is_that_of_scikit_learn(groups, k):
    vectors, _, _ = groups
    for coordinates in (vectors[:, :2], np.random.default_rng(0).normal(size=(len(vectors), 3))):
        theirs = manifold.trustworthiness(vectors, coordinates, n_neighbors=k, metric="cosine")
        ours = trustworthiness(vectors, coordinates, k)
        assert ours.value == pytest.approx(theirs, abs=1e-4)
        assert ours.n == len(vectors)


def test_continuity_is_trustworthiness_the_other_way_round(groups):
    vectors, _, _ = groups
    coordinates = vectors[:, :3].astype(np.float64)
    # Euclidean distances of vectors of length 1 rank as cosines do.
    theirs = manifold.trustworthiness(coordinates, vectors, n_neighbors=10, metric="euclidean")
    assert continuity(vectors, coordinates, 10).value == pytest.approx(theirs, abs=1e-4)
    assert continuity(vectors, coordinates * 1e-6 + 5, 10).value == pytest.approx(theirs, abs=1e-3)


def test_a_sample_comes_near_all(groups):
    vectors, _, _ = groups
    whole = trustworthiness(vectors, vectors[:, :2])
    part = trustworthiness(vectors, vectors[:, :2], sample=100, seed=3)
    assert part.n == 100
    assert part.value == pytest.approx(whole.value, abs=0.02)
    assert part == trustworthiness(vectors, vectors[:, :2], sample=100, seed=3)


def test_a_layout_that_loses_nothing_and_one_that_keeps_nothing(groups):
    vectors, _, graph = groups
    for measure in quality(vectors, graph, vectors):
        assert measure.value == pytest.approx(1, abs=1e-6), measure.name
    shuffled = np.random.default_rng(0).permutation(vectors)
    values = {name: value for name, value, _ in quality(vectors, graph, shuffled)}
    assert values["random triplet accuracy"] == pytest.approx(0.5, abs=0.05)
    assert values["distance correlation"] == pytest.approx(0, abs=0.1)
    assert values["14-NN preservation"] == pytest.approx(14 / len(vectors), abs=0.03)
    assert values["trustworthiness"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("dim", [2, 3])
def test_preservation_by_hand(groups, dim):
    vectors, _, graph = groups
    coordinates = vectors[:, :dim]
    apart = np.linalg.norm(coordinates[:, None] - coordinates, axis=2)
    np.fill_diagonal(apart, np.inf)
    near = np.argsort(apart, axis=1)[:, :5]
    kept = [len({*a} & {*b}) for a, b in zip(near, graph.others[:, :5], strict=True)]
    assert preservation(graph, coordinates, 5).value == pytest.approx(np.mean(kept) / 5)


def test_of_equal_vectors_it_does_not_matter_which_are_near():
    vectors = np.repeat(np.eye(3, dtype=np.float32), 30, axis=0)
    coordinates = vectors[:, :2] * 10 + np.random.default_rng(0).normal(size=(90, 2))
    assert trustworthiness(vectors, coordinates, 5).value == 1
    same = np.zeros((90, 2))
    assert 0 <= trustworthiness(vectors, same, 5).value <= 1
    assert continuity(vectors, same, 5).value == 1
    assert distance_correlation(vectors, same).value == 0
    alike = np.repeat(vectors[:1], 90, axis=0)
    assert triplet_accuracy(alike, coordinates) == ("random triplet accuracy", 1.0, 0)


def test_too_many_neighbours_are_refused(groups):
    vectors, _, graph = groups
    with pytest.raises(InputError, match="below half of the 240 rows"):
        trustworthiness(vectors, vectors[:, :2], 120)
    with pytest.raises(InputError, match="every row has 14 neighbours"):
        preservation(graph, vectors[:, :2], 15)
    few = knn_graph(vectors[:3], 2).neighbours
    assert quality(vectors[:3], few, vectors[:3, :2]) == []
    names = [
        name
        for name, _, _ in quality(
            vectors[:5], knn_graph(vectors[:5], 4).neighbours, vectors[:5, :2]
        )
    ]
    assert names[2] == "2-NN preservation"
