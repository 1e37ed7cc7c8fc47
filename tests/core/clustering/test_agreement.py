from itertools import permutations

import numpy as np
import pytest

from embcli.core.clustering.agreement import agreement
from embcli.errors import InputError


def entropy(*columns):
    _, counts = np.unique(np.stack(columns), axis=1, return_counts=True)
    shares = counts / counts.sum()
    return -(shares * np.log(shares)).sum()


def test_values_are_those_of_their_definitions():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 4, 200)
    labels = np.where(rng.random(200) < 0.6, classes, rng.integers(-1, 5, 200))
    found = agreement(labels, classes)
    homogeneity = 1 - (entropy(classes, labels) - entropy(labels)) / entropy(classes)
    completeness = 1 - (entropy(classes, labels) - entropy(classes)) / entropy(labels)
    assert found.homogeneity == pytest.approx(homogeneity)
    assert found.completeness == pytest.approx(completeness)
    assert found.v_measure == pytest.approx(
        2 * homogeneity * completeness / (homogeneity + completeness)
    )
    assert found.nmi == pytest.approx(found.v_measure)
    majorities = [np.bincount(classes[labels == c]).max() for c in set(labels.tolist())]
    assert found.purity == sum(majorities) / 200
    clusters = sorted(set(labels.tolist()))
    best = max(
        sum(((labels == clusters[i]) & (classes == c)).sum() for c, i in enumerate(order))
        for order in permutations(range(len(clusters)), 4)
    )
    assert found.accuracy == best / 200
    assert found.noise == (labels == -1).mean()


def test_names_do_not_matter_and_chance_is_worth_nothing():
    rng = np.random.default_rng(1)
    classes = rng.integers(0, 5, 3000)
    same = agreement(4 - classes, classes * 10)
    assert same == pytest.approx((1,) * 8 + (0,))
    chance = agreement(rng.integers(0, 5, 3000), classes)
    assert abs(chance.ari) < 0.01
    assert abs(chance.ami) < 0.01


def test_noise_is_a_cluster_so_leaving_out_gains_nothing():
    classes = np.repeat([0, 1], 10)
    hidden = np.where(np.arange(20) % 2, -1, classes)
    found = agreement(hidden, classes)
    assert found.noise == 0.5
    assert found.v_measure < 0.7
    assert agreement(np.full(20, -1), classes).v_measure == 0


def test_as_many_classes_as_rows_and_one_row_are_no_trouble():
    assert agreement(np.arange(60), np.arange(60)).ari == 1
    assert agreement(np.zeros(1, int), np.zeros(1, int)).accuracy == 1
    for labels, classes in ((np.zeros(0, int),) * 2, (np.zeros(2, int), np.zeros(3, int))):
        with pytest.raises(InputError):
            agreement(labels, classes)
