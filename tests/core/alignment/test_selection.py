from itertools import combinations

import numpy as np
import pytest

from embcli.core.alignment.procrustes import procrustes
from embcli.core.alignment.selection import METHODS, select
from embcli.errors import UsageError
from tests.core.alignment.spaces import english_and_french, found, spanish_and_english


def centred(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = unit - unit.mean(axis=0)
    return unit / np.linalg.norm(unit, axis=1, keepdims=True)


def covered(vectors, chosen):
    """The sum of all rows' cosines with the nearest one chosen."""
    rows = centred(vectors)
    return np.maximum(rows @ rows[list(chosen)].T, 0).max(axis=1).sum()


@pytest.mark.parametrize("seed", range(4))
def test_facility_is_the_plain_greedy_choice(seed):
    vectors = np.random.default_rng(seed).normal(size=(300, 6))
    chosen = select(vectors, 12)
    for step in range(12):
        values = [covered(vectors, [*chosen[:step], row]) for row in range(300)]
        assert values[chosen[step]] == pytest.approx(max(values), abs=1e-3)
    assert len(set(chosen.tolist())) == 12


def test_facility_is_near_the_best_there_is():
    vectors = np.random.default_rng(0).normal(size=(14, 3))
    best = max(covered(vectors, some) for some in combinations(range(14), 4))
    assert best >= covered(vectors, select(vectors, 4)) >= (1 - 1 / np.e) * best


@pytest.mark.parametrize("method", METHODS)
def test_every_cluster_gets_one(method):
    rng = np.random.default_rng(0)
    centres = 5 * np.linalg.qr(rng.normal(size=(20, 20)))[0]
    labels = rng.integers(0, 20, 3000)
    vectors = centres[labels] + rng.normal(size=(3000, 20)) * 0.1
    chosen = select(vectors, 20, method=method, sample=1500)
    assert len(set(labels[chosen].tolist())) >= 18
    again = select(vectors * rng.uniform(0.1, 10, (3000, 1)), 20, method=method, sample=1500)
    assert (chosen == again).mean() > 0.9  # lengths make no difference, but to rounding


@pytest.mark.parametrize("method", METHODS)
def test_equal_vectors_are_chosen_once(method):
    vectors = np.repeat(np.random.default_rng(0).normal(size=(10, 4)), 5, axis=0)
    chosen = select(vectors, 10, method=method)
    assert len(np.unique(vectors[chosen], axis=0)) == 10
    assert len(select(vectors, 11, method=method)) == 10  # there are no more


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="no way of selecting 'first'"):
        select(np.eye(3), 2, method="first")
    with pytest.raises(UsageError, match="cannot select 0"):
        select(np.eye(3), 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("read", [spanish_and_english, english_and_french])
def test_a_hundred_pairs_chosen_beat_a_hundred_at_random(shared, read, method):
    pairs, others = read(shared) if read is spanish_and_english else read(shared, 4000)
    _, first = np.unique(pairs.rows, return_index=True)
    pairs = pairs.take(first)

    def reached(which):
        return found(procrustes(pairs.take(which)), others, csls=False)

    rng = np.random.default_rng(0)
    drawn = [reached(rng.permutation(len(first))[:100]) for _ in range(4)]
    # Measured: .641 to .710 for words, .193 to .270 for sentences.
    assert reached(select(pairs.source[pairs.rows], 100, method=method)) > np.mean(drawn) + 0.02
