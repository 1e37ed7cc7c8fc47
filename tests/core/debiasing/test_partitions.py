import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import kstest

from embcli.core.debiasing import partitions
from embcli.core.debiasing.partitions import partition_test


def parted(values, first, **options):
    return partition_test(values, first, tolerance=1e-12, **options)


def brute_force(values, first):
    """Count by hand, with the difference of means as the statistic."""
    values, total = np.asarray(values), values.sum()
    n = len(values)

    def apart(chosen):
        inside = values[list(chosen)].sum()
        return inside / first - (total - inside) / (n - first)

    least = apart(range(first)) - 1e-12
    ways = list(combinations(range(n), first))
    return sum(apart(way) >= least for way in ways) / len(ways)


@pytest.mark.parametrize("first", [1, 2, 5, 6, 9, 10])
@pytest.mark.parametrize("seed", range(4))
def test_exact_is_brute_force(first, seed):
    values = np.random.default_rng(seed).normal(size=11)
    values[:first] += 0.4
    expected = brute_force(values, first)
    met = parted(values, first)
    enumerated = parted(values, first, limit=0)
    assert met == enumerated
    assert met.p == pytest.approx(expected, rel=1e-12)
    assert met.exact
    assert met.partitions == math.comb(11, first)


@pytest.mark.parametrize("first", [1, 3, 4, 7])
@pytest.mark.parametrize("seed", range(3))
def test_ties_count_as_reached(first, seed):
    # Of tenths, sums in another order differ in their last bits.
    values = np.random.default_rng(seed).integers(-3, 4, 10) / 10
    expected = brute_force(values, first)
    assert parted(values, first).p == parted(values, first, limit=0).p == pytest.approx(expected)
    # Values that are all equal: every partition is like the one observed.
    assert parted(np.full(10, 0.1), first).p == 1


def test_both_sides_together():
    values = np.random.default_rng(1).normal(size=13)
    p, other = parted(values, 6).p, parted(np.roll(values, -6), 7).p
    # What is observed is counted on both sides, and nothing else is.
    assert p + other == pytest.approx(1 + 1 / math.comb(13, 6))
    largest = np.sort(values)[::-1]
    assert parted(largest, 6).p == 1 / math.comb(13, 6)
    assert parted(largest[::-1], 7).p == 1


def test_many_values_against_the_normal_limit():
    """8 · 10^12 partitions: as good as continuous."""
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    values = rng.normal(size=46)
    values[:23] += 0.7
    found = parted(values, 23)
    assert found.exact
    assert found.partitions == math.comb(46, 23)
    centred = values - values.mean()
    # The sum of 23 drawn without replacement has this variance.
    deviation = math.sqrt(23 * 23 / 46 * values.var(ddof=1))
    assert found.p == pytest.approx(norm.sf(centred[:23].sum() / deviation), rel=0.03)
    assert 0.01 < found.p < 0.2


def test_few_partitions_of_many_values_are_all_counted():
    values = np.random.default_rng(0).normal(size=1000)
    found = parted(values, 1)
    assert found == ((values >= values[0]).mean(), 1000, True)
    assert parted(values, 999).partitions == 1000


@pytest.mark.parametrize("first", [4, 8, 11])
def test_sampling_comes_near_the_exact(first):
    values = np.random.default_rng(3).normal(size=20)
    values[:first] += 0.5
    exact = parted(values, first)
    samples = min(20_000, exact.partitions // 2 - 1)
    drawn = parted(values, first, limit=0, samples=samples)
    assert not drawn.exact
    assert drawn.partitions == samples + 1
    error = math.sqrt(exact.p * (1 - exact.p) / samples)
    assert abs(drawn.p - exact.p) < 4 * error
    assert drawn == parted(values, first, limit=0, samples=samples)
    assert drawn.p != parted(values, first, limit=0, samples=samples, seed=1).p
    # Never 0, where the observed partition is the most extreme of all.
    most = parted(np.sort(values)[::-1], first, limit=0, samples=samples)
    assert most.p == 1 / (samples + 1)


def test_blocks_do_not_matter(monkeypatch):
    values = np.random.default_rng(3).normal(size=16)
    expected = parted(values, 6)
    for name in ("_NUMBERS_AT_ONCE", "_LOOKED_UP"):
        monkeypatch.setattr(partitions, name, 100)
    assert parted(values, 6) == parted(values, 6, limit=0) == expected
    drawn = parted(values, 6, limit=0, samples=3000)
    assert drawn.partitions == 3001
    assert drawn.p == pytest.approx(expected.p, abs=0.04)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_drawn_is_without_replacement(seed):
    # Of powers of 2, the sum tells the subset: 1,000 of the 2,001 besides the one observed.
    sums = partitions._sampled(2.0 ** np.arange(14), 5, 1000, np.random.default_rng(seed))
    assert len(set(sums)) == len(sums) == 1000
    assert 2**5 - 1 not in sums
    assert {int(total).bit_count() for total in sums} == {5}
    # Every value is as likely to be among them.
    shares = [np.mean(sums.astype(int) >> bit & 1) for bit in range(14)]
    assert np.abs(np.array(shares) - 5 / 14).max() < 4 * math.sqrt(0.5 * 5 / 14 * 9 / 14 / 1000)


def test_p_is_uniform_if_there_is_no_difference():
    rng = np.random.default_rng(0)
    exact = [parted(rng.normal(size=16), 8).p for _ in range(1500)]
    # Multiples of 1 / 12,870: nearly continuous.
    assert kstest(exact, "uniform").pvalue > 0.01
    drawn = [parted(rng.normal(size=60), 25, samples=999).p for _ in range(500)]
    assert kstest(drawn, "uniform").pvalue > 0.01


def test_p_is_never_too_small_with_few_partitions_and_ties():
    """With steps it is not uniform, but stays above: P(p <= alpha) <= alpha."""
    rng = np.random.default_rng(1)
    p = np.array([parted(rng.integers(0, 3, 7) / 10, 3).p for _ in range(4000)])
    for alpha in (1 / 35, 0.05, 0.1, 0.25, 0.5, 0.9):
        assert (p <= alpha + 1e-12).mean() <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / 4000)
    # It does reach small values, so that the test can fail.
    assert (p <= 0.1).mean() > 0.02
