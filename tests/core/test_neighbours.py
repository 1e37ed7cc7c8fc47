import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embcli.core import neighbours as module
from embcli.core.neighbours import among_themselves, greatest, neighbours, without_own


def by_sorting(scores, k):
    return -np.sort(-scores, axis=1)[:, :k]


@st.composite
def two_sides(draw):
    """Two sets of vectors of length 1, the second in part equal to the first."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    n, m, dim = draw(st.integers(1, 90)), draw(st.integers(1, 90)), draw(st.integers(2, 12))
    a = rng.normal(size=(n, dim))
    b = a[rng.integers(0, n, m)] + draw(st.sampled_from([0, 0.3, 2])) * rng.normal(size=(m, dim))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return a.astype(np.float32), b.astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(two_sides(), st.integers(1, 12), st.sampled_from([7, 32, 2048]))
def test_neighbours_both_ways_are_those_of_a_full_sort(sides, k, size):
    a, b = sides
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", size)
        of_a, of_b = neighbours(a, b, k)
    for found, scores in ((of_a, a @ b.T), (of_b, b @ a.T)):
        np.testing.assert_allclose(found.cosines, by_sorting(scores, k), atol=1e-6)
        reached = np.take_along_axis(scores, found.others, axis=1)
        np.testing.assert_allclose(reached, found.cosines, atol=1e-6)
        assert all(len(set(row)) == len(row) for row in found.others.tolist())


@pytest.mark.parametrize("size", [7, 32, 2048])
def test_greatest_products_at_any_length(size, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", size)
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(n, 6)).astype(np.float32) for n in (50, 70))
    b *= rng.uniform(0.1, 10, size=(70, 1)).astype(np.float32)
    others, products = greatest(a, b, 4)
    np.testing.assert_array_equal(others, np.argsort(-(a @ b.T), axis=1)[:, :4])
    np.testing.assert_allclose(products, by_sorting(a @ b.T, 4), rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(two_sides(), st.integers(1, 12), st.sampled_from([7, 32, 2048]))
def test_among_themselves_every_product_serves_both_rows(sides, k, size):
    vectors = np.concatenate(sides)  # some of them twins
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", size)
        found = among_themselves(vectors, k)
    scores = vectors @ vectors.T
    np.testing.assert_allclose(found.cosines, by_sorting(scores, k), atol=1e-6)
    reached = np.take_along_axis(scores, found.others, axis=1)
    np.testing.assert_allclose(reached, found.cosines, atol=1e-6)
    assert all(len(set(row)) == len(row) for row in found.others.tolist())


def test_among_themselves_equals_come_in_order(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)
    corners = np.eye(3, dtype=np.float32)[np.arange(60) % 3]
    found = among_themselves(corners, 15)
    expected = np.argsort(-(corners @ corners.T), axis=1, kind="stable")[:, :15]
    np.testing.assert_array_equal(found.others, expected)


def test_without_own_leaves_out_the_row_itself_even_among_many_equals():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((40, 5)).astype(np.float32)
    vectors[20:] = vectors[20]
    steps = []
    found = among_themselves(vectors, 6, lambda done, total, count: steps.append(done / total))
    others, products = without_own(found, np.arange(40))
    assert steps[-1] == 1
    assert others.shape == products.shape == (40, 5)
    assert (others != np.arange(40)[:, None]).all()
    full = vectors @ vectors.T
    np.fill_diagonal(full, -np.inf)
    np.testing.assert_allclose(products, np.sort(full)[:, ::-1][:, :5], rtol=1e-5)
