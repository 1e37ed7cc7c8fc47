import math
from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import entropy, kstest

from embcli.core.debiasing.association import mac, rnd, rnsb, weat
from embcli.errors import InputError


def unit(vectors):
    exact = vectors.astype(np.float64)
    return exact / np.linalg.norm(exact, axis=1, keepdims=True)


def made(n, dim=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim))


def leaning(n, direction, seed):
    return made(n, seed=seed) + direction


def sets(sizes=(5, 5, 4, 6), lean=0.5):
    """X near A and Y near B, a little."""
    ways = [side * lean * np.eye(8)[0] for side in (1, -1, 1, -1)]
    return [leaning(n, way, i) for i, (n, way) in enumerate(zip(sizes, ways, strict=True))]


def turn(dim=8):
    return np.linalg.qr(made(dim, dim, 9))[0]


def as_written(x, y, a, b):
    """Caliskan et al.'s formulae, word by word."""

    def cos(u, v):
        return u @ v / np.linalg.norm(u) / np.linalg.norm(v)

    def s(w):
        return np.mean([cos(w, other) for other in a]) - np.mean([cos(w, other) for other in b])

    a, b, words = (side.astype(np.float64) for side in (a, b, np.concatenate([x, y])))
    values = np.array([s(w) for w in words])
    first, second = values[: len(x)], values[len(x) :]
    size = (first.mean() - second.mean()) / values.std(ddof=1)
    statistic = first.sum() - second.sum()
    ways = [list(way) for way in combinations(range(len(words)), len(x))]
    reached = [2 * values[way].sum() - values.sum() >= statistic - 1e-12 for way in ways]
    return statistic, size, np.mean(reached), len(ways)


@pytest.mark.parametrize("sizes", [(5, 5, 4, 6), (3, 7, 5, 5), (7, 2, 1, 3), (1, 1, 1, 1)])
@pytest.mark.parametrize("lean", [0.0, 0.3])
def test_weat_is_what_the_paper_writes(sizes, lean):
    words = sets(sizes, lean)
    statistic, size, p, ways = as_written(*words)
    found = weat(*words)
    assert found == (
        pytest.approx(statistic), pytest.approx(size), pytest.approx(p), ways, True
    )  # fmt: skip


def test_weat_does_not_see_lengths_and_rotation_and_changes_sign():
    x, y, a, b = words = sets((6, 4, 5, 5))
    found = weat(*words)
    turned = weat(*(np.exp(made(len(side), 1)) * side @ turn() for side in words))
    assert turned == pytest.approx(found)
    for other in (weat(y, x, a, b), weat(x, y, b, a)):
        assert other[:2] == pytest.approx((-found.statistic, -found.effect_size))
        # What is observed counts for both sides.
        assert other.p_value + found.p_value == pytest.approx(1 + 1 / math.comb(10, 6))
    assert weat(x, y, a, b, ddof=0).effect_size == pytest.approx(
        found.effect_size * math.sqrt(10 / 9)
    )


def test_weat_of_words_that_are_all_alike():
    word = made(1)
    x, y = word * [[1], [0.7], [3]], word * [[0.1], [1 / 3], [np.pi]]
    found = weat(x, y, made(4, seed=1), made(4, seed=2))
    assert math.isnan(found.effect_size)
    assert (found.p_value, found.partitions) == (1, 20)
    # The same words on both sides tie in many ways.
    x, a, b = made(3), made(4, seed=1), made(4, seed=2)
    assert weat(x, 5 * x, a, b).p_value == pytest.approx(as_written(x, x, a, b)[2])


def test_weat_of_many_targets_is_sampled():
    words = sets((60, 50, 5, 5), 0.15)
    found = weat(*words, samples=5000)
    assert (found.exact, found.partitions) == (False, 5001)
    assert found == weat(*words, samples=5000)
    other = weat(*words, samples=5000, seed=1)
    assert other.p_value != found.p_value
    assert other.p_value == pytest.approx(found.p_value, abs=0.02)
    few = sets((12, 9, 5, 5), 0.1)
    assert weat(*few, samples=20_000, limit=0).p_value == pytest.approx(
        weat(*few).p_value, abs=0.015
    )


def test_weat_is_uniform_if_there_is_nothing():
    rng = np.random.default_rng(0)
    p = []
    for _ in range(800):
        words, a, b = (rng.normal(size=(n, 10)) for n in (16, 8, 8))
        p.append(weat(words[:8], words[8:], a, b).p_value)
    assert kstest(p, "uniform").pvalue > 0.01


def test_empty_sets():
    words = sets()
    for place, name in enumerate("XYAB"):
        less = [side[:0] if i == place else side for i, side in enumerate(words)]
        with pytest.raises(InputError, match=f"'{name}' has no word"):
            weat(*less)
    with pytest.raises(InputError, match="2 targets have no standard deviation with ddof 2"):
        weat(*sets((1, 1, 2, 2)), ddof=2)
    with pytest.raises(InputError, match="'targets' has no word"):
        mac(made(0), [made(2)])
    with pytest.raises(InputError, match="'attributes 2' has no word"):
        mac(made(2), [made(2), made(0)])
    with pytest.raises(InputError, match="at least one set of attributes"):
        mac(made(2), [])
    with pytest.raises(InputError, match="'negative' has no word"):
        rnsb(made(3), made(0), made(2))
    with pytest.raises(InputError, match="there is only one"):
        rnsb(made(1), made(3), made(3))
    with pytest.raises(InputError, match="'b' has no word"):
        rnd(made(3), made(2), made(0))
    with pytest.raises(InputError, match="not 'l1'"):
        rnd(made(3), made(2), made(2), "l1")


def test_mac_is_the_mean_of_cosine_distances():
    targets, attributes = made(7), [made(3, seed=1), made(5, seed=2)]
    found = mac(targets, attributes)
    expected = [cdist(targets, words, "cosine").mean(axis=1) for words in attributes]
    assert np.allclose(found.distances, np.transpose(expected))
    assert found.mean == pytest.approx(np.mean(expected))
    moved = mac(4 * targets @ turn(), [3 * words @ turn() for words in attributes])
    assert moved.mean == pytest.approx(found.mean)
    # Nothing in common, everything, and the contrary.
    assert mac(np.eye(8)[:2], [np.eye(8)[2:4]]).mean == 1
    assert mac(targets[:1], [2 * targets[:1]]).mean == pytest.approx(0)
    assert mac(targets[:1], [-targets[:1]]).mean == pytest.approx(2)


def test_rnsb_sees_who_is_taken_for_negative():
    bad, good = leaning(30, np.eye(8)[0] * 2, 0), leaning(30, -np.eye(8)[0] * 2, 1)
    rng = np.random.default_rng(2)
    alike = 0.1 * rng.normal(size=(6, 8)) + np.eye(8)[3]
    fair = rnsb(alike, bad, good)
    unfair = rnsb(alike + np.eye(8)[0] * np.array([[3]] + [[0]] * 5), bad, good)
    assert fair.accuracy > 0.9
    assert fair.divergence < 0.01 < 0.02 < unfair.divergence
    assert unfair.shares.argmax() == 0
    for found in (fair, unfair):
        assert found.shares.sum() == pytest.approx(1)
        assert found.divergence == pytest.approx(entropy(found.shares, np.full(6, 1 / 6)))
        assert np.allclose(found.shares, found.probabilities / found.probabilities.sum())
    moved = rnsb(9 * alike @ turn(), 2 * bad @ turn(), good @ turn())
    assert moved.divergence == pytest.approx(fair.divergence, rel=1e-3)
    # One side's probabilities are the other side's complements.
    assert np.allclose(rnsb(alike, good, bad).probabilities, 1 - fair.probabilities, atol=1e-4)
    # Equal targets are equally negative.
    assert rnsb(np.ones((4, 8)), bad, good).divergence == pytest.approx(0, abs=1e-12)


def test_rnsb_of_two_targets_and_few_words():
    """As many folds as there are words in the smaller set; the same again with the same seed."""
    negative, positive = made(7, seed=3), made(2, seed=4)
    found = rnsb(made(2), negative, positive, seed=5)
    assert found.accuracy in np.arange(10) / 9
    assert len(found.shares) == 2
    again = rnsb(made(2), negative, positive, seed=5)
    assert (again.accuracy, again.divergence) == (found.accuracy, found.divergence)
    seeds = {rnsb(made(2), made(9, seed=3), made(9, seed=4), seed=n).accuracy for n in range(6)}
    assert len(seeds) > 1
    with pytest.raises(InputError, match="'targets'"):
        rnsb(made(2)[:0], negative, positive)


def test_the_limit_of_exact_tests_is_kept():
    groups = sets((4, 4, 4, 4))
    assert weat(*groups, limit=8).exact
    sampled = weat(*groups, limit=7, samples=20)
    assert not sampled.exact
    assert sampled.partitions == 21


@pytest.mark.parametrize("name", ["neutral", "a", "b"])
def test_rnd_takes_no_empty_set(name):
    groups = {"neutral": made(3), "a": made(2), "b": made(2)}
    with pytest.raises(InputError, match=f"'{name}'"):
        rnd(**groups | {name: made(2)[:0]})


def test_accuracy_of_rnsb_is_held_out():
    # In as many dimensions as words anything can be fitted, and nothing is to be learnt.
    targets, bad, good = made(4, 60), made(30, 60, 1), made(30, 60, 2)
    accuracies = [rnsb(targets, bad, good, seed=seed).accuracy for seed in range(10)]
    assert 0.3 < np.mean(accuracies) < 0.7
    assert np.ptp(accuracies) > 0
    divergences = {rnsb(targets, bad, good, seed=seed).divergence for seed in range(3)}
    assert len(divergences) == 1
    assert math.isnan(rnsb(targets, bad[:1], good).accuracy)
    assert rnsb(targets, bad[:2], good[:3]).accuracy in {0, 0.2, 0.4, 0.6, 0.8, 1}


@pytest.mark.parametrize(("distance", "metric"), [("norm", "euclidean"), ("cos", "cosine")])
def test_rnd_is_the_mean_difference_of_distances(distance, metric):
    neutral, a, b = (unit(side) for side in (made(9), made(4, seed=1), made(6, seed=2)))
    near, far = (cdist(neutral, group.mean(axis=0)[None], metric)[:, 0] for group in (a, b))
    found = rnd(neutral, a, b, distance)
    assert np.allclose(found.differences, near - far)
    assert found.mean == pytest.approx((near - far).mean())
    assert rnd(neutral, b, a, distance).mean == pytest.approx(-found.mean)
    assert rnd(5 * neutral @ turn(), 2 * a @ turn(), b @ turn(), distance).mean == pytest.approx(
        found.mean
    )
    # Nearer to the first group: negative.
    assert rnd(np.eye(8)[:1], np.eye(8)[:1], np.eye(8)[1:2], distance).mean < 0


CALISKAN = {
    1: ("flowers", "insects", "pleasant_5", "unpleasant_5a"),
    2: ("instruments", "weapons", "pleasant_5", "unpleasant_5a"),
    6: ("male_names", "female_names", "career", "family"),
    7: ("math", "arts", "male_terms", "female_terms"),
    8: ("science", "arts_2", "male_terms_2", "female_terms_2"),
    9: ("mental_disease", "physical_disease", "temporary", "permanent"),
}


@pytest.mark.parametrize(
    ("number", "size", "with_0"),
    [
        (1, 1.539, 1.555), (2, 1.628, 1.645), (6, 1.890, 1.952),
        (7, 0.966, 0.998), (8, 1.244, 1.285), (9, 1.297, 1.354),
    ],
)  # fmt: skip
def test_effect_sizes_on_google_news(news, number, size, with_0):
    """Those of an independent script, and with ddof 0 those of WEFE 1.0.1."""
    words = [news.weat[name] for name in CALISKAN[number]]
    quick = {"limit": 0, "samples": 10}
    assert weat(*words, **quick).effect_size == pytest.approx(size, abs=5e-4)
    assert weat(*words, ddof=0, **quick).effect_size == pytest.approx(with_0, abs=5e-4)


@pytest.mark.parametrize(("number", "p"), [(6, 7.8e-5), (7, 0.0227), (8, 0.0040), (9, 0.0076)])
def test_exact_p_on_google_news(news, number, p):
    words = [news.weat[name] for name in CALISKAN[number]]
    found = weat(*words)
    assert found.exact
    assert found.p_value == pytest.approx(p, rel=0.015)
    assert (found.p_value, found.partitions) == pytest.approx(as_written(*words)[2:])
    drawn = weat(*words, limit=0, samples=400)
    assert abs(drawn.p_value - p) < 4 * math.sqrt(p / 400) + 1 / 401


@pytest.mark.slow
def test_exact_p_of_49_words(news):
    """25 instruments and 24 weapons, one being missing: 6 · 10^13 partitions."""
    words = [news.weat[name] for name in CALISKAN[2]]
    assert [len(side) for side in words] == [25, 24, 25, 25]
    found = weat(*words)
    assert found.exact
    assert found.partitions == math.comb(49, 25) == 63_205_303_218_876
    # So few reach it that all can be found, by how many instruments and weapons change places.
    a, b = (unit(side).mean(axis=0) for side in words[2:])
    own, other = (unit(side) @ (a - b) for side in words[:2])
    reached = 0
    for n in range(_most_exchanged(own, other) + 1):
        less, more = (np.sort([sum(way) for way in combinations(side, n)]) for side in (own, other))
        reached += int(np.searchsorted(less, more + 1e-12, "right").sum())
    assert found.p_value * found.partitions == pytest.approx(reached)
    assert reached == 88


def _most_exchanged(own, other):
    """Count exchanges that can win: the best way gains less with each, and then loses."""
    gains = np.cumsum(np.sort(other)[::-1] - np.sort(own)[: len(other)])
    return int((gains >= -1e-12).sum())


def test_mac_rnsb_and_rnd_of_wefe(news):
    """WEFE 1.0.1 on the same vectors and lists.

    Query([male_names, female_names], [career, family]), MAC();
    Query([male_names, female_names], [pleasant_5, unpleasant_5a]),
    RNSB(holdout=False, normalize=True), whose second set is the negative one;
    Query([male_terms, female_terms], [science]), RND(normalize=True) with norm, and with cos,
    where its sign is the other one.
    """
    names = np.concatenate([news.weat["male_names"], news.weat["female_names"]])
    found = mac(names, [news.weat["career"], news.weat["family"]])
    assert found.mean == pytest.approx(0.918498, abs=1e-6)
    assert found.distances[0] == pytest.approx([0.901303, 0.981809], abs=1e-6)  # John
    negative = rnsb(names, news.weat["unpleasant_5a"], news.weat["pleasant_5"])
    assert negative.divergence == pytest.approx(0.000967717, abs=1e-8)
    assert negative.probabilities[:3] == pytest.approx([0.427019, 0.444417, 0.423708], abs=1e-5)
    assert negative.accuracy >= 0.9
    groups = news.weat["science"], news.weat["male_terms"], news.weat["female_terms"]
    assert rnd(*groups).mean == pytest.approx(-0.0282244, abs=1e-6)
    assert rnd(*groups, "cos").mean == pytest.approx(0.000576432, abs=1e-7)
