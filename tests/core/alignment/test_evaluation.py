import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from embcli.core.alignment import Pairs, evaluation, retrieval
from embcli.core.alignment.evaluation import ranks, translation
from embcli.core.alignment.procrustes import procrustes
from embcli.core.alignment.retrieval import fitted_temperature, penalties
from embcli.core.maps import Linear, Map, Transform
from embcli.errors import InputError, UsageError

IDENTITY = Map(Transform())


def cosines(a, b):
    a, b = (x.astype(np.float64) for x in (a, b))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return (a @ b.T).round(9)


def taken(scores, rule):
    """Penalties as the papers have them."""
    match rule:
        case "nn":
            return np.zeros(scores.shape[1])
        case "csls":
            return -np.sort(-scores, axis=0)[:10].mean(axis=0) / 2
        case "isf":
            return logsumexp(30 * scores, axis=0) / 30


@st.composite
def lookups(draw):
    """Two sides, in part equal vectors, and what is right: several for some."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    n, m = draw(st.integers(1, 60)), draw(st.integers(1, 80))
    b = rng.integers(-2, 3, size=(m, 3)).astype(np.float32) + np.float32(0.5)
    a = b[rng.integers(0, m, n)] + draw(st.sampled_from([0, 1])) * rng.normal(size=(n, 3))
    count = draw(st.integers(1, 40))
    gold = rng.integers(0, n, count), rng.integers(0, m, count)
    return Pairs(a.astype(np.float32), b, np.arange(0), np.arange(0)), gold


@settings(deadline=None, max_examples=60)
@given(lookups(), st.sampled_from(["nn", "isf", "csls"]), st.sampled_from([5, 4096]))
def test_ranks_are_those_of_a_full_sort(lookup, rule, size):
    pairs, gold = lookup
    with pytest.MonkeyPatch.context() as patch:
        for module in (evaluation, retrieval):
            patch.setattr(module, "_COLUMNS", size)
            patch.setattr(module, "_ROWS", size)
        found = translation(IDENTITY, pairs, gold, retrieval=rule, ks=(1, 3))
        own = penalties(pairs.source, pairs.target, rule)
    scores = cosines(pairs.source, pairs.target)
    np.testing.assert_allclose(own, taken(scores, rule), atol=1e-6)
    expected = []
    for row in np.unique(gold[0]):
        order = np.argsort(-(scores[row] - own).round(9), kind="stable")
        right = set(gold[1][gold[0] == row].tolist())
        expected.append(next(rank for rank, column in enumerate(order, 1) if int(column) in right))
    assert found.ranks.tolist() == expected
    assert found.sources.tolist() == np.unique(gold[0]).tolist()
    assert found.precision == {k: np.mean(np.array(expected) <= k) for k in (1, 3)}
    assert found.mrr == pytest.approx(np.mean(1 / np.array(expected)))


def test_both_sides_are_mapped():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 4)).astype(np.float32)
    left, right = rng.normal(size=(2, 4, 4))
    pairs = Pairs(
        (x @ np.linalg.inv(left)).astype(np.float32),
        (x @ np.linalg.inv(right)).astype(np.float32),
        np.arange(0),
        np.arange(0),
    )
    map = Map(Transform.of(Linear(left)), Transform.of(Linear(right)))
    gold = np.arange(30), np.arange(30)
    assert translation(map, pairs, gold, retrieval="nn").precision[1] == 1
    assert translation(IDENTITY, pairs, gold, retrieval="nn").precision[1] < 1


def test_the_temperature_is_the_likeliest():
    rng = np.random.default_rng(0)
    b = rng.normal(size=(200, 20)).astype(np.float32)
    a = b[:150] + rng.normal(size=(150, 20)).astype(np.float32)
    rows = np.arange(100)
    scores = cosines(a, b)

    def unlikely(log_heat):
        heat = np.exp(log_heat)
        return -(heat * scores[rows, rows] - logsumexp(heat * scores[:, rows], axis=0)).mean()

    best = np.exp(minimize_scalar(unlikely, bounds=(0, 7), method="bounded").x)
    assert fitted_temperature(a, b, rows, rows) == pytest.approx(best, rel=0.01)


def test_it_fits_the_temperature_to_the_pairs_of_training(bli):
    map = procrustes(bli.pairs)
    fitted = translation(map, bli.pairs, bli.gold, retrieval="isf")
    fixed = translation(map, bli.pairs.take(np.arange(0)), bli.gold, retrieval="isf")
    assert fitted.precision[1] >= 0.77
    assert fixed.precision[1] < 0.75


def test_what_cannot_be_looked_up_is_refused():
    pairs = Pairs(np.eye(3, dtype="f4"), np.eye(3, dtype="f4"), np.arange(3), np.arange(3))
    with pytest.raises(InputError, match="nothing to look up"):
        translation(IDENTITY, pairs, (np.arange(0), np.arange(0)))
    with pytest.raises(UsageError, match=r"no retrieval 'best' \(there are: nn, isf, csls\)"):
        translation(IDENTITY, pairs, (np.arange(3), np.arange(3)), retrieval="best")


@pytest.mark.slow
def test_memory_is_far_below_that_of_all_products():
    a, b = np.random.default_rng(0).normal(size=(2, 12_000, 8)).astype(np.float32)
    tracemalloc.start()
    ranks(a, b, (np.arange(0, 12_000, 5),) * 2, penalties(a, b, "csls"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12_000**2 * 4 / 3
