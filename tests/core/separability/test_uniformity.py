"""Uniformity and alignment."""

import csv

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.special import hyp0f1

from embcli import load_encoder
from embcli.core.cosine import unit
from embcli.core.separability import uniformity as module
from embcli.core.separability.uniformity import alignment, class_alignment, uniformity
from embcli.errors import InputError, UsageError


def cloud(n=300, dim=6, seed=0):
    return (np.random.default_rng(seed).normal(size=(n, dim)) + 0.5).astype(np.float32)


@pytest.mark.parametrize(("block", "t"), [(1024, 2), (64, 2), (300, 0.5), (128, 40)])
def test_uniformity_is_that_of_all_pairs(monkeypatch, block, t):
    monkeypatch.setattr(module, "_BLOCK", block)
    vectors = cloud()
    found = uniformity(vectors, t=t)
    expected = np.log(np.exp(-t * pdist(unit(vectors)) ** 2).mean())
    assert found.value == pytest.approx(expected, rel=1e-5)
    assert found.n == 300


@pytest.mark.parametrize("dim", [2, 3, 10, 100])
def test_uniformity_of_the_sphere(dim):
    vectors = np.random.default_rng(0).normal(size=(3000, dim))
    assert uniformity(vectors).value == pytest.approx(np.log(hyp0f1(dim / 2, 4)) - 4, abs=0.01)


def test_nothing_is_more_uniform_than_the_simplex_and_less_than_one_direction():
    """The corners of a regular simplex have squared distances of 2 n / (n - 1)."""
    corners = np.eye(8) - 1 / 8
    assert uniformity(corners).value == pytest.approx(-2 * 2 * 8 / 7)
    assert uniformity(np.ones((5, 4))).value == pytest.approx(0, abs=1e-6)
    ends = np.array([[1.0, 0], [-1, 0], [1, 0]])
    assert uniformity(ends, t=100).value == pytest.approx(np.log(1 / 3), rel=1e-5)


def test_a_sample_stands_for_all():
    vectors = cloud(4000)
    found = uniformity(vectors, sample=500, seed=1)
    assert found.n == 500
    assert found == uniformity(vectors, sample=500, seed=1)
    assert found.value == pytest.approx(uniformity(vectors).value, abs=0.05)


def test_alignment_is_the_mean_squared_distance():
    left, right = cloud(5000, seed=0), cloud(5000, seed=1)
    expected = np.square(unit(left) - unit(right)).sum(axis=1).mean()
    assert alignment(left, right) == pytest.approx(expected)
    assert alignment(left, 3 * left) == pytest.approx(0, abs=1e-12)
    assert alignment(left, -left) == pytest.approx(4)


def test_alignment_of_classes_is_that_of_their_pairs():
    vectors = cloud(5000)
    labels = np.random.default_rng(0).integers(0, 1000, 5000)
    labels[labels == 7] = 8  # a class of none
    left, right = np.nonzero(np.triu(labels[:, None] == labels, 1))
    expected = alignment(vectors[left], vectors[right])
    assert class_alignment(vectors, labels) == pytest.approx(expected)


def test_texts_of_one_intent_are_nearer_than_any_two(shared):
    with (shared / "banking77" / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    labels = np.unique([intent for _, intent in rows], return_inverse=True)[1]
    vectors = load_encoder("static").encode([text for text, _ in rows])
    together = class_alignment(vectors, labels)
    apart = class_alignment(vectors, np.random.default_rng(0).permutation(labels))
    assert together == pytest.approx(1.022, abs=0.002)
    assert apart == pytest.approx(1.713, abs=0.002)
    assert uniformity(vectors).value == pytest.approx(-3.237, abs=0.002)


def test_what_has_no_pairs_is_refused():
    with pytest.raises(InputError, match="no two vectors are of one class"):
        class_alignment(cloud(5), np.arange(5))
    with pytest.raises(InputError, match="5 vectors and 4 labels"):
        class_alignment(cloud(5), np.zeros(4, np.int64))
    with pytest.raises(InputError, match="must be the same"):
        alignment(cloud(5), cloud(6))
    with pytest.raises(InputError, match="0 vectors: at least 1 is needed"):
        alignment(cloud(0), cloud(0))
    with pytest.raises(InputError, match="class -1 has a negative number"):
        class_alignment(cloud(5), np.arange(5) - 1)
    for t in (0, 101, np.nan):
        with pytest.raises(UsageError, match="must be above 0, and 100 at most"):
            uniformity(cloud(), t=t)
    with pytest.raises(UsageError, match="too small"):
        uniformity(cloud(), sample=1)
    vectors = cloud()
    vectors[3] = 0
    for refused in (
        uniformity,
        lambda v: alignment(v, v),
        lambda v: class_alignment(v, np.zeros(len(v), int)),
    ):
        with pytest.raises(InputError, match="vector 3 is zeros only"):
            refused(vectors)
