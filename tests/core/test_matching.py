from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from embcli.core import matching
from embcli.core.matching import assign_all, assign_among, densities, mutual, nearest


def cosines(a, b):
    a, b = (x.astype(np.float64) for x in (a, b))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return (a @ b.T).round(9)


@st.composite
def two_sides(draw):
    """Two sets of vectors, the second in part a noisy copy of the first, some rows equal."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    n, m, dim = (draw(st.integers(1, top)) for top in (60, 200, 12))
    a = rng.normal(size=(n, dim)) + draw(st.sampled_from([0, 2]))
    b = a[rng.integers(0, n, m)] + draw(st.sampled_from([0.0, 0.3, 2.0])) * rng.normal(
        size=(m, dim)
    )
    return a.astype(np.float32), b.astype(np.float32)


def ranked(values, k):
    """The k greatest of every row, ties by column."""
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return [
        (row, column)
        for row, columns in enumerate(order.tolist())
        for column in columns
        if np.isfinite(values[row, column])
    ]


def pairs(found):
    return list(zip(found.rows.tolist(), found.columns.tolist(), strict=True))


@settings(deadline=None, max_examples=60)
@given(two_sides(), st.integers(1, 7), st.sampled_from([1 << 24, 500]))
def test_nearest_is_a_full_sort(sides, k, at_once):
    a, b = sides
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_NUMBERS_AT_ONCE", at_once)
        found = nearest(a, b, k)
    assert pairs(found) == ranked(cosines(a, b), k)
    k = min(k, len(b))
    assert found.ranks.tolist() == [*range(1, k + 1)] * len(a)
    np.testing.assert_allclose(found.cosines, cosines(a, b)[found.rows, found.columns], atol=2e-9)


@settings(deadline=None, max_examples=40)
@given(two_sides(), st.integers(1, 4))
def test_nothing_matches_its_twin(sides, k):
    _, b = sides
    twins = np.where(np.arange(len(b)) % 3 > 0, np.arange(len(b)), -1)
    values = cosines(b, b)
    values[twins >= 0, twins[twins >= 0]] = -np.inf
    assert pairs(nearest(b, b, k, twins=twins)) == ranked(values, k)


@settings(deadline=None, max_examples=40)
@given(two_sides(), st.integers(1, 4))
def test_csls_is_that_of_the_paper(sides, k):
    a, b = sides
    scores = cosines(a, b)
    r_a = np.sort(scores, axis=1)[:, -3:].mean(axis=1)
    r_b = np.sort(scores, axis=0)[-3:].mean(axis=0)
    density = densities(nearest(a, b, 3), len(a)), densities(nearest(b, a, 3), len(b))
    np.testing.assert_allclose(density[0], r_a, atol=1e-8)
    np.testing.assert_allclose(density[1], r_b, atol=1e-8)
    values = 2 * scores - r_a[:, None] - r_b
    found = nearest(a, b, k, density=density)
    best = -np.sort(-values, axis=1)[:, : min(k, len(b))]
    np.testing.assert_allclose(found.values, best.ravel(), atol=1e-7)
    np.testing.assert_allclose(found.values, values[found.rows, found.columns], atol=1e-7)


@settings(deadline=None, max_examples=40)
@given(two_sides(), st.integers(1, 3))
def test_mutual_goes_both_ways(sides, k):
    a, b = sides
    there, back = nearest(a, b, k), nearest(b, a, k)
    found = pairs(mutual(there, back))
    assert set(found) == {pair for pair in pairs(there) if pair[::-1] in set(pairs(back))}
    assert {pair[::-1] for pair in found} == set(pairs(mutual(back, there)))


@pytest.mark.parametrize(("n", "m"), [(4, 4), (3, 5), (5, 3), (1, 1)])
@pytest.mark.parametrize("seed", range(5))
def test_assignment_is_the_best_there_is(n, m, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=(k, 6)).astype(np.float32) for k in (n, m))
    scores = cosines(a, b)
    scores = scores if n <= m else scores.T
    best = max(
        scores[np.arange(len(scores)), list(columns)].sum()
        for columns in permutations(range(scores.shape[1]), len(scores))
    )
    every = np.divmod(np.arange(n * m), m)
    for found in (assign_all(a, b), assign_among(a, b, every)):
        assert found.cosines.sum() == pytest.approx(best, abs=1e-7)
        assert len(set(found.rows)) == len(set(found.columns)) == min(n, m)


@settings(deadline=None, max_examples=40)
@given(two_sides(), st.sampled_from([None, -0.5, 0.3, 0.9]))
def test_assignment_among_all_pairs_is_that_of_scipy(sides, threshold):
    a, b = sides
    scores = cosines(a, b)
    gains = scores if threshold is None else np.maximum(scores - threshold, 0)
    rows, columns = linear_sum_assignment(gains, maximize=True)
    best = gains[rows, columns].sum()
    every = np.divmod(np.arange(len(a) * len(b)), len(b))
    for found in (assign_all(a, b, threshold=threshold),
                  assign_among(a, b, every, threshold=threshold)):  # fmt: skip
        total = (found.cosines - (threshold or 0)).sum()
        assert total == pytest.approx(best, abs=1e-6)
        assert len(set(pairs(found))) == len(set(found.rows)) == len(set(found.columns))
        assert threshold is None or (found.cosines >= threshold).all()
    greedy = nearest(a, b, 1)
    _, first = np.unique(greedy.columns, return_index=True)
    at_least = gains[greedy.rows[first], greedy.columns[first]].sum()
    assert threshold is None or best >= at_least - 1e-9


def test_assignment_prefers_more_pairs_to_better_ones():
    a = np.array([[1, 0], [1, 0.1]], np.float32)
    b = np.array([[1, 0], [-1, 0]], np.float32)
    among = np.array([0, 0, 1]), np.array([0, 1, 0])
    assert pairs(assign_among(a, b, among)) == [(0, 1), (1, 0)]
    assert pairs(assign_among(a, b, among, threshold=0.5)) == [(0, 0)]
    alone = np.array([0, 1]), np.array([0, 0])
    assert pairs(assign_among(a, b, alone)) == [(0, 0)]
    assert pairs(assign_among(a, b, (among[0][:0], among[1][:0]))) == []


def test_assignment_avoids_twins():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(9, 4)).astype(np.float32)
    found = assign_all(a, a, twins=np.arange(9))
    assert sorted(found.columns) == list(range(9))
    assert (found.rows != found.columns).all()
    assert len(assign_all(a[:1], a[:1], twins=np.array([0])).rows) == 0


def test_nothing_to_match():
    none, some = np.empty((0, 3), np.float32), np.ones((2, 3), np.float32)
    for a, b in ((none, some), (some, none), (none, none)):
        assert pairs(nearest(a, b, 2)) == []
        assert pairs(assign_all(a, b)) == []
