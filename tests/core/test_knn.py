import numpy as np
import pytest

from embcli.core import knn
from embcli.core.knn import knn_graph, nearest_of
from embcli.errors import InputError


def unit(n, dim, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_exact_neighbours_are_those_of_a_full_sort():
    vectors = unit(80, 6)
    found, exact, recall = knn_graph(vectors, 7)
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    np.testing.assert_array_equal(found.others, np.argsort(-scores, axis=1)[:, :7])
    np.testing.assert_allclose(found.cosines, -np.sort(-scores, axis=1)[:, :7], atol=1e-6)
    assert exact
    assert recall is None


def test_cells_hold_nearly_all_and_it_says_how_many(monkeypatch):
    vectors = unit(1500, 12)
    exact = knn_graph(vectors, 10).neighbours
    monkeypatch.setattr(knn, "AFFORDABLE", 1e6)
    assert knn_graph(vectors, 10, approximate=False).exact
    found = knn_graph(vectors, 10)
    assert not found.exact
    shared = [len({*a} & {*b}) for a, b in zip(found.neighbours.others, exact.others, strict=True)]
    assert np.mean(shared) / 10 > 0.95
    assert found.recall == pytest.approx(np.mean(shared) / 10, abs=0.02)
    others, cosines = found.neighbours
    assert others.shape == (1500, 10)
    assert (others != np.arange(1500)[:, None]).all()
    np.testing.assert_allclose(
        cosines, np.einsum("id,ijd->ij", vectors, vectors[others]), atol=1e-6
    )
    assert (np.diff(cosines, axis=1) <= 0).all()
    again = knn_graph(vectors, 10)
    np.testing.assert_array_equal(others, again.neighbours.others)


def test_few_rows_have_few_neighbours():
    assert knn_graph(unit(1, 4), 5).neighbours.others.shape == (1, 0)
    assert knn_graph(unit(3, 4), 5, approximate=True).neighbours.others.shape == (3, 2)
    with pytest.raises(InputError, match="no vector"):
        knn_graph(unit(0, 4), 5)
    with pytest.raises(InputError, match="at least 1"):
        knn_graph(unit(4, 4), 0)


def test_nearest_of_others():
    old, new = unit(50, 5), unit(9, 5, seed=1)
    found = nearest_of(new, old, 3)
    np.testing.assert_array_equal(found.others, np.argsort(-(new @ old.T), axis=1)[:, :3])
    assert nearest_of(new[:0], old, 3).others.shape == (0, 3)
    assert nearest_of(new, old[:2], 3).others.shape == (9, 2)
