import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from embcli.core.relevance import (
    DEFAULT,
    Calibration,
    Chance,
    Neighbours,
    expected_calibration_error,
    expected_f1_cut,
    features,
    fit,
)


def test_chance_counts_what_comes_by_chance():
    """Of n records with exponential scores, as many are above s as the tail says."""
    rng = np.random.default_rng(0)
    scores = rng.exponential(0.05, 100_000)
    chance = Chance.of_sample(scores[:40_000], len(scores))
    assert chance.scale == pytest.approx(0.05, rel=0.05)
    for least in (0.1, 0.2, 0.3):
        expected = np.exp(chance.log_expected(np.array([least])))[0]
        assert expected == pytest.approx((scores >= least).sum(), rel=0.15)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=40), st.integers(1, 10**7))
def test_chance_falls_with_the_score_and_is_never_infinite(sample, records):
    chance = Chance.of_sample(np.array(sample), records)
    expected = chance.log_expected(np.linspace(-1, 1, 9))
    assert np.isfinite(expected).all()
    assert (np.diff(expected) < 0).all()
    assert chance.expected <= records


def test_features_are_of_the_first_result_and_of_each():
    chance, neighbours = Chance(0.2, 0.1, 50.0), Neighbours(0.6, 0.05)
    described = features(np.array([0.7, 0.4]), chance, neighbours)
    first = np.log(50) - 5
    np.testing.assert_allclose(described, [[first, first, 2], [np.log(50) - 2, first, 2]])
    assert features(np.empty(0), chance, neighbours).shape == (0, 3)
    assert Neighbours.of(np.empty(0)).spread > 0


def test_neighbours_are_summed_up():
    assert Neighbours.of(np.empty(0)) == Neighbours(0.0, 1.0)
    found = Neighbours.of(np.float32([0.25, 0.75]))
    assert (found.mean, found.spread) == (0.5, 0.25)
    assert 0 < Neighbours.of(np.full(5, 0.5)).spread < 1e-3


def test_scores_of_float32_are_as_good_as_any():
    sample = np.random.default_rng(4).normal(size=99).astype(np.float32)
    single, double = (Chance.of_sample(x, 10) for x in (sample, sample.astype(np.float64)))
    assert single == double
    scores = np.float32([0.7, 0.1])
    for one in (single.log_expected, lambda x: features(x, single, Neighbours(0.6, 0.1))):
        np.testing.assert_array_equal(one(scores), one(scores.astype(np.float64)))


def judged(seed, n=4000):
    rng = np.random.default_rng(seed)
    described = rng.normal(0, 2, (n, 3))
    truth = Calibration(-0.5, (-1.2, 0.3, 0.76))
    return described, rng.random(n) < truth.probabilities(described)


def test_fit_is_a_logistic_regression_where_the_prior_is_weak():
    described, relevant = judged(0)
    found = fit(described, relevant, strength=1e-9)
    # The third weight is not fitted; what it adds is given to the reference.
    columns = np.column_stack([np.ones(len(described)), described[:, :2]])
    offset = DEFAULT.weights[2] * described[:, 2]

    def loss(at):
        logits = columns @ at + offset
        return (np.logaddexp(0, logits) - relevant * logits).sum()

    reference = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-4}).x
    np.testing.assert_allclose([found.intercept, *found.weights[:2]], reference, atol=1e-5)
    assert found.weights[2] == DEFAULT.weights[2]
    np.testing.assert_allclose([found.intercept, *found.weights[:2]], [-0.5, -1.2, 0.3], atol=0.15)


def test_fit_stays_with_the_prior_where_there_is_little():
    described, relevant = judged(1, n=3)
    prior = Calibration(0.1, (-0.9, 0.2, 0.5))
    found = fit(described, relevant, prior, strength=1e6)
    np.testing.assert_allclose([found.intercept, *found.weights], [0.1, -0.9, 0.2, 0.5], atol=1e-3)
    # All of one kind, or the same everywhere: no weight runs away.
    for rows, labels in ((described, np.ones(3, bool)), (np.zeros((3, 3)), np.zeros(3, bool))):
        found = fit(rows, labels)
        assert np.isfinite([found.intercept, *found.weights]).all()


def test_fit_is_the_mode():
    described, relevant = judged(2, n=200)
    strength, prior = 5.0, Calibration(0.3, (-0.5, 0.1, 0.4))
    found = fit(described, relevant, prior, strength)

    def loss(intercept, slope, first):
        probable = Calibration(intercept, (slope, first, 0.4)).probabilities(described)
        spread = described[:, :2].std(axis=0)
        moved = np.array([intercept - 0.3, (slope + 0.5) * spread[0], (first - 0.1) * spread[1]])
        likely = np.where(relevant, probable, 1 - probable)
        return -np.log(likely).sum() + strength * (moved**2).sum() / 2

    mode = np.array([found.intercept, *found.weights[:2]])
    for step in np.vstack([np.eye(3), -np.eye(3)]) * 1e-3:
        assert loss(*mode) < loss(*(mode + step))


def test_fit_comes_back_from_far_away():
    """Where everything seems certain, and wrongly so, a full step of Newton's overshoots."""
    described, relevant = judged(5, n=300)
    prior = Calibration(40.0, (25.0, -20.0, 0.76))
    found = fit(described, relevant, prior, strength=1e-6)
    near = fit(described, relevant, Calibration(0.0, (0.0, 0.0, 0.76)), strength=1e-6)
    np.testing.assert_allclose(
        [found.intercept, *found.weights], [near.intercept, *near.weights], atol=1e-4
    )
    default = fit(described, relevant, prior)
    assert default == fit(described, relevant, prior, strength=3.0)
    assert default != fit(described, relevant, prior, strength=4.0)


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=8))
def test_the_cut_is_the_best_by_enumeration(values):
    p = np.sort(values)[::-1]

    def worth(count):
        if count == 0:
            return np.prod(1 - p)
        return 2 * p[:count].sum() / (count + p.sum())

    assert worth(expected_f1_cut(p)) == pytest.approx(max(worth(n) for n in range(len(p) + 1)))


def test_the_cut_of_what_is_certain():
    assert expected_f1_cut(np.array([1.0, 1.0, 0.0])) == 2
    assert expected_f1_cut(np.array([0.01, 0.01])) == 0
    assert expected_f1_cut(np.empty(0)) == 0


def test_calibration_error():
    p = np.array([0.05, 0.05, 0.95, 0.95])
    assert expected_calibration_error(p, np.array([0, 0, 1, 1], bool)) == pytest.approx(0.05)
    assert expected_calibration_error(p, np.array([1, 1, 0, 0], bool)) == pytest.approx(0.95)
    assert expected_calibration_error(np.empty(0), np.empty(0, bool)) == 0
    # The last bin is closed: 1 is in it, and 0.85 is not.
    first = np.array([False, True])
    assert expected_calibration_error(np.array([1.0, 0.9]), first) == pytest.approx(0.45)
    assert expected_calibration_error(np.array([0.85, 0.95]), first) == pytest.approx(0.45)
    rng = np.random.default_rng(3)
    p = rng.random(100_000)
    assert expected_calibration_error(p, rng.random(100_000) < p) < 0.01
