import numpy as np
import pytest
from scipy.stats import ortho_group

from embcli.core.alignment import Pairs, method
from embcli.core.alignment.confidence import confidence
from embcli.core.alignment.evaluation import translation
from embcli.core.alignment.procrustes import procrustes
from embcli.core.alignment.refinement import learn_from_itself
from embcli.core.alignment.unsupervised import _first, alike_within, unsupervised
from embcli.errors import InputError, UsageError

NONE = np.empty(0, np.int64)


@pytest.fixture(scope="module")
def planted():
    """The same points twice, in another order and rotated, with a little noise."""
    rng = np.random.default_rng(0)
    source = rng.exponential(size=(500, 10)) * np.linspace(1, 3, 10)
    target = (source + 0.01 * rng.normal(size=source.shape)) @ ortho_group.rvs(10, random_state=2)
    order = rng.permutation(500)
    pairs = Pairs(source.astype(np.float32), target[order].astype(np.float32), NONE, NONE)
    return pairs, np.argsort(order)


def test_alike_within_sees_neither_rotation_nor_order(planted):
    pairs, place = planted
    source = pairs.source - pairs.source.mean(axis=0)
    turned = (source @ ortho_group.rvs(10, random_state=5)).astype(np.float32)
    rows, columns = alike_within(source, turned[np.argsort(place)])
    assert (place[rows] == columns).all()


def test_what_was_planted_is_found(planted):
    pairs, place = planted
    map = unsupervised(pairs, seed=1)
    gold = np.arange(500), place
    assert translation(map, pairs, gold).precision[1] == 1
    again = unsupervised(pairs, seed=1)
    assert map.source.steps[-1].matrix.tolist() == again.source.steps[-1].matrix.tolist()


def test_pairs_are_not_looked_at(planted):
    pairs, place = planted
    wrong = pairs._replace(rows=np.arange(500), columns=np.roll(place, 7))
    matrices = [
        unsupervised(each, starts=1, rounds=1).source.steps[-1].matrix for each in (pairs, wrong)
    ]
    np.testing.assert_array_equal(*matrices)


@pytest.mark.parametrize("name", ["unsupervised", "mini-vec2vec"])
def test_too_few_vectors_are_refused(name):
    rng = np.random.default_rng(0)
    few = Pairs(*rng.normal(size=(2, 19, 10)).astype(np.float32), NONE, NONE)
    with pytest.raises(InputError, match=r"at least 20 vectors of 10 components.*source has 19"):
        method(name).fit(few)
    with pytest.raises(UsageError):
        method(name).fit(few, starts=0)
    assert not method(name).paired


@pytest.mark.slow
def test_two_languages_without_a_pair(bli):
    pairs = bli.pairs._replace(rows=NONE, columns=NONE)
    map = learn_from_itself(pairs, procrustes, procrustes(_first(pairs)), vocabulary=1000, rounds=4)
    supervised = translation(procrustes(bli.pairs), pairs, bli.gold).precision[1]
    assert translation(map, pairs, bli.gold).precision[1] >= supervised - 0.05
    sure = confidence(pairs, map)
    assert sure.reliable
    assert sure.ratio > 1.8


@pytest.mark.slow
def test_what_cannot_be_aligned_is_doubtful(bli):
    rng = np.random.default_rng(0)
    other = rng.normal(size=(2000, 50)).astype(np.float32)
    pairs = Pairs(bli.pairs.source[:2000], other, NONE, NONE)
    map = learn_from_itself(pairs, procrustes, procrustes(_first(pairs)), vocabulary=1000, rounds=2)
    assert not confidence(pairs, map).reliable
