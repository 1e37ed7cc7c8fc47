import numpy as np
import pytest

from embcli.core.composition import Subspace, compose
from embcli.core.topk import TopK
from embcli.errors import InputError

rng = np.random.default_rng(0)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_compose_is_the_weighted_sum_of_unit_vectors():
    queries, a, b = rng.normal(size=(3, 8)), 5 * rng.normal(size=8), rng.normal(size=8)
    expected = unit(unit(queries) + 0.5 * unit(a) - 2 * unit(b))
    np.testing.assert_allclose(compose(queries, [(0.5, a), (-2, b)]), expected, rtol=1e-5)
    np.testing.assert_allclose(compose(queries, []), unit(queries), rtol=1e-6)
    # The length of what is added does not count.
    np.testing.assert_array_equal(compose(queries, [(1, a)]), compose(queries, [(1, 9 * a)]))


def test_compose_refuses_what_leaves_nothing():
    query = rng.normal(size=(1, 8))
    with pytest.raises(InputError, match="nothing of the query"):
        compose(query, [(-1, 3 * query[0])])


def test_a_subspace_sees_only_what_examples_differ_in():
    """Vectors are a place plus a subject; spanned by places, only the place counts."""
    places, subjects = np.eye(10)[:4], np.eye(10)[4:]
    mean = (places.mean(axis=0) + subjects.mean(axis=0)) / 2
    records = np.array([p + 3 * s for p in places for s in subjects])
    records *= rng.uniform(0.1, 9, len(records))[:, None]  # lengths do not count
    within = Subspace.spanned_by(places, mean)
    inside = unit(within.project(records))
    same = inside @ inside.T
    group = np.repeat(np.arange(4), 6)
    assert same[group[:, None] == group].min() > same[group[:, None] != group].max()
    # Of the vectors as they are, those of the same subject are nearer.
    plain = unit(records) @ unit(records).T
    assert plain[0, 6] > plain[0, 1]


def test_a_subspace_of_everything_is_the_whole_space():
    """Spanned by a basis, cosines are those of centred vectors."""
    vectors, mean = rng.normal(size=(20, 6)), rng.normal(size=6)
    within = Subspace.spanned_by(rng.normal(size=(9, 6)), mean)
    inside, centred = unit(within.project(vectors)), unit(unit(vectors) - mean)
    np.testing.assert_allclose(inside @ inside.T, centred @ centred.T, atol=1e-9)
    top = TopK(within.project(vectors[:2]), 3, unit=False)
    top.add(np.arange(20), within.project(vectors))
    for query, found in enumerate(top.results()):
        best = np.argsort(-(centred @ centred[query]))[:3]
        assert set(found.keys) == set(best)


def test_a_subspace_needs_examples_that_differ():
    with pytest.raises(InputError, match="span nothing"):
        Subspace.spanned_by(np.ones((3, 4)), np.full(4, 0.5))
    assert Subspace.spanned_by(np.array([[1.0, 0], [1, 0]]), np.zeros(2)).basis.shape == (1, 2)
