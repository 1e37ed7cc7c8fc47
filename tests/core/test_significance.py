import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test, ttest_1samp, ttest_rel

from embcli.core.significance import paired_t_test, randomization_test, sign_test

differences = st.lists(st.integers(-8, 8).map(lambda n: n / 8), min_size=2, max_size=12)


def mean(values, axis):
    return values.mean(axis=axis)


@given(values=differences)
def test_all_permutations_equal_scipys(values):
    values = np.array(values)
    result = randomization_test(values)
    expected = permutation_test(
        (values, np.zeros_like(values)),
        lambda x, y, axis: mean(x - y, axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert result.permutations == 2 ** np.count_nonzero(values)
    assert result.p == pytest.approx(expected.pvalue, abs=1e-12)


@given(values=differences.filter(lambda values: len(set(values)) > 1))
def test_the_t_test_equals_scipys(values):
    assert paired_t_test(np.array(values)) == pytest.approx(ttest_1samp(values, 0).pvalue)


@pytest.mark.parametrize("n", [5, 40, 700])
def test_pairs_of_two_systems(n):
    rng = np.random.default_rng(n)
    one, other = rng.random(n) + 0.05, rng.random(n)
    expected = ttest_rel(one, other).pvalue
    assert paired_t_test(one - other) == pytest.approx(expected, rel=1e-9)
    assert randomization_test(one - other).p == pytest.approx(expected, abs=0.05)


@given(values=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40))
def test_invariants(values):
    values = np.array(values, np.float64)
    result = randomization_test(values, permutations=500)
    assert 0 < result.p <= 1
    shuffled = np.random.default_rng(0).permutation(values)
    for same in (-values, values * 8, np.append(values, 0)):
        assert randomization_test(same, permutations=500) == result
        if len(values) > 1 and len(same) == len(values):
            assert paired_t_test(same) == pytest.approx(paired_t_test(values))
    if result.permutations < 500:
        assert randomization_test(shuffled, permutations=500).p == pytest.approx(result.p)


def test_samples_agree_with_all_permutations_and_depend_on_the_seed_alone():
    values = np.random.default_rng(4).normal(0.3, 1, 16)
    exact = randomization_test(values)
    assert exact.permutations == 2**16
    sampled = randomization_test(values, permutations=50_000)
    assert sampled.permutations == 50_000
    assert sampled.p == pytest.approx(exact.p, abs=0.005)
    assert randomization_test(values, permutations=50_000) == sampled
    assert randomization_test(values, seed=1, permutations=50_000) != sampled


def test_many_pairs_take_several_batches():
    values = np.random.default_rng(1).normal(0, 1, 5_000)
    result = randomization_test(values, permutations=2_000)
    assert result.p == pytest.approx(ttest_1samp(values, 0).pvalue, abs=0.05)


def test_no_difference():
    assert paired_t_test(np.zeros(7)) == 1
    assert randomization_test(np.zeros(7)) == (1.0, 1)


def test_a_constant_difference():
    assert paired_t_test(np.full(4, 0.25)) == 0
    assert randomization_test(np.full(4, 0.25)) == (2 / 16, 16)


def test_too_few_pairs():
    assert paired_t_test(np.array([0.5])) is None
    assert randomization_test(np.array([0.5])) == (1.0, 2)


def test_a_p_value_is_never_zero():
    assert randomization_test(np.ones(60), permutations=999).p == 1 / 1000


@pytest.mark.parametrize("wins", [0, 1, 7, 40, 900])
@pytest.mark.parametrize("losses", [0, 1, 8, 1000])
def test_the_sign_test_is_scipys(wins, losses):
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)
