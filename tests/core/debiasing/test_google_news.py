"""The methods on 13,784 Google News vectors; figures of shared/data/README.md."""

import numpy as np
import pytest

from embcli.core.cosine import unit
from embcli.core.debiasing.bolukbasi import equalized, neutralize, soft
from embcli.core.debiasing.erasure import leace, mean_difference, orthonormal
from embcli.core.debiasing.inlp import inlp
from embcli.core.debiasing.lipstick import (
    cluster_purity,
    most_biased,
    neighbour_correlation,
    svm_accuracy,
)
from embcli.core.debiasing.probes import probe, split


class Gender:
    """The gender direction, what is neutral, and the vectors after hard debiasing."""

    def __init__(self, news):
        self.vectors = unit(news.vectors).astype(np.float32)
        pairs = unit(news.pairs)
        centred = (pairs - pairs.mean(axis=1, keepdims=True)).reshape(-1, 300)
        self.basis = orthonormal(centred)[:1]
        specific = set(news.list("gender_specific_full"))
        self.neutral = np.array([word not in specific for word in news.rows])
        self.professions = np.array([news.rows[word] for word in news.neutral])
        self.bias = (self.vectors @ self.basis.T)[:, 0]
        self.hard = self.vectors.astype(np.float64)
        self.hard[self.neutral] = neutralize(self.basis).apply(self.hard[self.neutral])
        spelt = {
            tuple(case(word) for word in pair)
            for pair in news.list("equalize_pairs")
            for case in (str.lower, str.title, str.upper)
        }
        # As the paper's code does: every spelling; a word in two pairs is of the last.
        pairs = sorted(pair for pair in spelt if set(pair) <= set(news.rows))
        self.equal = np.array([[news.rows[word] for word in pair] for pair in pairs])
        self.hard[self.equal] = equalized(self.vectors[self.equal], self.basis)

    def most_biased(self, n_each, among=None):
        among = np.flatnonzero(self.neutral if among is None else among)
        rows, labels = most_biased(self.bias[among], n_each)
        return among[rows], labels


@pytest.fixture(scope="module")
def gender(news):
    return Gender(news)


def test_hard_debiasing_takes_the_direct_bias_of_professions(gender):
    before, after = (
        np.abs(rows[gender.professions] @ gender.basis.T).mean()
        for rows in (gender.vectors, gender.hard)
    )
    assert before == pytest.approx(0.0660, abs=5e-5)
    assert after < 1e-15
    names, counts = np.unique(gender.equal, return_counts=True)
    once = gender.equal[np.isin(gender.equal, names[counts == 1]).all(axis=1)]
    assert len(once) > 20
    distances = gender.hard[once] @ gender.hard[gender.professions].T
    np.testing.assert_allclose(distances[:, 0], distances[:, 1], atol=1e-15)


def test_hard_debiasing_leaves_much_to_a_machine_and_to_neighbours(gender):
    rows, labels = gender.most_biased(2500)
    # Of the README 99.7 and 88.7 %; with ten seeds 99.5-99.8 and 87.0-88.7 here.
    assert svm_accuracy(gender.vectors[rows], labels) == pytest.approx(0.997, abs=0.003)
    assert svm_accuracy(gender.hard[rows], labels) == pytest.approx(0.880, abs=0.012)
    before, after = (
        neighbour_correlation(table, gender.professions, gender.bias)
        for table in (gender.vectors, gender.hard)
    )
    assert before == pytest.approx(0.751, abs=5e-4)
    assert after == pytest.approx(0.542, abs=5e-4)


def test_clusters_of_the_most_biased_words_vanish_though_a_machine_finds_them(news, gender):
    lower = np.array([word.isalpha() and word.islower() for word in news.rows])
    rows, labels = gender.most_biased(500, gender.neutral & lower)
    assert cluster_purity(gender.vectors[rows], labels) > 0.98
    assert cluster_purity(gender.hard[rows], labels) < 0.55
    assert svm_accuracy(gender.hard[rows], labels, train=250) > 0.88


def test_erasure_brings_linear_probes_to_chance_and_leaves_the_rest(gender):
    rows, labels = gender.most_biased(2500)
    vectors, training = gender.vectors[rows], split(labels, 0.7, 0)

    def told(rows):
        return probe(rows[training], labels[training], rows[~training], labels[~training])

    assert told(vectors).accuracy > 0.99
    found = inlp(vectors[training], labels[training])
    assert found.directions < 20
    left = {
        "leace": leace(vectors[training], labels[training]),
        "mean difference": mean_difference(vectors[training], labels[training]),
        "inlp": found.transform,
    }
    for name, transform in left.items():
        result = told(transform.apply(vectors))
        assert result.accuracy <= result.chance + 2 * result.error, name
    # The README's settings: 94.9 % after LEACE.
    machine = svm_accuracy(left["leace"].apply(vectors), labels, train=training)
    assert machine == pytest.approx(0.949, abs=0.012)
    # With 1,000 words to learn from, as in the paper.
    few = training & split(labels, 0.2, 0)
    words = few | ~training
    machine = svm_accuracy(found.transform.apply(vectors)[words], labels[words], train=few[words])
    assert machine == pytest.approx(0.79, abs=0.03)
    # Fitted to those that are tested too, it would look as if much more had been removed.
    fitted = leace(vectors, labels).apply(vectors)
    assert svm_accuracy(fitted, labels) < 0.8
    assert told(fitted).accuracy < 0.5 - 3 * 0.013


def test_leace_moves_words_least(gender):
    rows, labels = gender.most_biased(2500)
    vectors = gender.vectors[rows].astype(np.float64)
    metric = np.linalg.inv(np.cov(vectors.T))

    def change(transform):
        moved = transform.apply(vectors) - vectors
        return np.einsum("ij,jk,ik->", moved, metric, moved), np.square(moved).sum()

    least = change(leace(vectors, labels))
    for other in (mean_difference(vectors, labels), inlp(vectors, labels).transform):
        assert all(a < b for a, b in zip(least, change(other), strict=True))


def test_soft_debiasing_hardly_does_anything_with_the_papers_strength(gender):
    neutral = gender.vectors[gender.neutral]

    def left(strength):
        transform = soft(gender.vectors, neutral, gender.basis, strength=strength)
        rows = transform.apply(gender.vectors[gender.professions])
        return np.abs(rows @ gender.basis.T).mean()

    assert left(0.2) == pytest.approx(0.0659, abs=5e-5)
    assert left(1000) == pytest.approx(0.0140, abs=5e-5)
    assert left(1e5) == pytest.approx(0.00142, abs=5e-6)
