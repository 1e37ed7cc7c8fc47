import numpy as np
import pytest
from scipy.stats import ortho_group

from embcli.core.alignment import Pairs
from embcli.core.alignment.evaluation import translation
from embcli.core.alignment.induction import drop_out, mutual_nearest
from embcli.core.alignment.procrustes import procrustes
from embcli.core.alignment.refinement import KINDS, learn_from_itself, refine
from embcli.errors import UsageError


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def csls_by_hand(a, b):
    scores = a.astype(np.float64) @ b.astype(np.float64).T
    r_a, r_b = (np.sort(s, axis=1)[:, -10:].mean(axis=1) for s in (scores, scores.T))
    return 2 * scores - r_a[:, None] - r_b


@pytest.fixture
def sides():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(150, 6))
    b = np.concatenate([a[:90] + 0.3 * rng.normal(size=(90, 6)), rng.normal(size=(60, 6))])
    return unit(a), unit(b)


def test_mutual_nearest_are_those_of_all_values(sides):
    values = csls_by_hand(*sides)
    across, down = values.argmax(axis=1), values.argmax(axis=0)
    rows = np.flatnonzero(down[across] == np.arange(len(values)))
    found = mutual_nearest(*sides)
    assert 60 < len(rows) < 150
    assert found.rows.tolist() == rows.tolist()
    assert found.columns.tolist() == across[rows].tolist()
    assert found.score == pytest.approx(values[rows, across[rows]].mean(), abs=1e-6)


def test_without_dropout_every_row_gets_its_best(sides):
    values = csls_by_hand(*sides)
    found = drop_out(*sides, 1.0, np.random.default_rng(0))
    each = np.arange(150)
    assert found.rows.tolist() == [*each, *values.argmax(axis=0)]
    assert found.columns.tolist() == [*values.argmax(axis=1), *each]
    assert found.score == pytest.approx(values[found.rows, found.columns].mean(), abs=1e-5)


def test_dropout_keeps_as_many_of_the_best_as_it_says(sides):
    everything = drop_out(*sides, 1.0, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    same = [
        np.mean(drop_out(*sides, 0.25, rng).columns[:150] == everything.columns[:150])
        for _ in range(40)
    ]
    assert np.mean(same) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_rotation_is_found_from_a_few_pairs(kind):
    rng = np.random.default_rng(3)
    source = rng.exponential(size=(400, 12)).astype(np.float32)
    turn = ortho_group.rvs(12, random_state=1)
    order = rng.permutation(400)
    target = (source @ turn).astype(np.float32)[order]
    place = np.argsort(order)
    few = np.arange(8)
    pairs = Pairs(source, target, few, place[few])
    assert (mutual_nearest(procrustes(pairs).source.apply(source), target).rows.size) < 400
    found = refine(pairs, procrustes, kind=kind, seed=2)
    assert found.dictionary.columns.tolist() == place.tolist()
    np.testing.assert_allclose(found.map.source.steps[-1].matrix, turn, atol=1e-5)


def test_the_best_round_is_kept(sides):
    pairs = Pairs(*sides, np.arange(90), np.arange(90))
    first, *more = (refine(pairs, procrustes, rounds=n) for n in range(5))
    assert first.rounds == 0
    scores = [first.dictionary.score, *(each.dictionary.score for each in more)]
    assert scores == sorted(scores)
    assert [each.rounds for each in more] == [min(n, more[-1].rounds) for n in range(1, 5)]


def test_what_cannot_be_done_is_refused(sides):
    pairs = Pairs(*sides, np.arange(9), np.arange(9))
    with pytest.raises(UsageError, match="no refinement 'x'"):
        refine(pairs, procrustes, kind="x")
    with pytest.raises(UsageError, match="0 rounds or more, not -1"):
        refine(pairs, procrustes, rounds=-1)
    with pytest.raises(UsageError, match="vocabulary of 1"):
        learn_from_itself(pairs, procrustes, procrustes(pairs), vocabulary=1)


@pytest.mark.slow
def test_25_pairs_become_as_good_as_thousands(bli):
    few = bli.pairs.take(np.arange(25))
    before = translation(procrustes(few), few, bli.gold).precision[1]
    found = refine(few, procrustes)
    after = translation(found.map, few, bli.gold).precision[1]
    assert before < 0.15
    assert after >= translation(procrustes(bli.pairs), few, bli.gold).precision[1] - 0.02
    assert len(found.dictionary.rows) > 3000
