"""Hubs and the intrinsic dimension."""

import csv

import numpy as np
import pytest
from scipy.stats import skew

from embcli import load_encoder
from embcli.core.cosine import unit
from embcli.core.separability.neighbourhoods import hubness, two_nn
from embcli.errors import InputError, UsageError


def cloud(n=300, dim=20, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def test_hubs_are_counted_as_by_brute_force():
    vectors = cloud()
    cosines = unit(vectors) @ unit(vectors).T
    np.fill_diagonal(cosines, -2)
    near = np.argsort(-cosines, axis=1)[:, :5]
    counts = np.bincount(near.ravel(), minlength=300)
    found = hubness(vectors, 5)
    assert found.skewness == pytest.approx(skew(counts))
    assert found.antihubs == pytest.approx((counts == 0).mean())
    assert set(found.hubs) == set(np.flatnonzero(counts >= 10))
    assert found.counts.tolist() == counts[found.hubs].tolist()
    assert (np.diff(found.counts) <= 0).all()
    assert found.share == pytest.approx(counts[counts >= 10].sum() / 1500)
    assert (found.n, found.k) == (300, 5)
    fewer = hubness(vectors, 5, size=3)
    assert set(fewer.hubs) == set(np.flatnonzero(counts >= 15))


def test_the_centre_of_a_star_is_everybodys_neighbour():
    """Arms at right angles: each is at 60° to the middle, and at 90° to the others."""
    vectors = np.vstack([np.eye(30), np.ones(30)])
    found = hubness(vectors, 1)
    assert found.hubs.tolist() == [30]
    assert found.counts.tolist() == [30]
    assert found.share == pytest.approx(30 / 31)
    assert found.antihubs == pytest.approx(29 / 31)


def test_hubs_are_near_the_mean_and_rows_are_those_given():
    """Directions evenly spread have none, however many dimensions."""
    assert hubness(cloud(2000, 200)).skewness < 0.5
    vectors = cloud(2000, 200) + 0.5
    assert hubness(vectors).skewness > 1.5
    vectors[1234] = vectors.mean(axis=0)
    found = hubness(vectors, sample=1999, seed=2)
    assert found.n == 1999
    assert found.hubs[0] == 1234
    assert found.counts[0] > 1500


def test_dimensions_are_those_of_scikit_dimension():
    vectors = np.random.default_rng(1).uniform(size=(1000, 5)).astype(np.float32)
    # scikit-dimension 0.5.0: skdim.id.TwoNN(discard_fraction=...).fit(vectors).dimension_.
    assert two_nn(vectors).dimension == pytest.approx(4.288376045415659, rel=1e-6)
    assert two_nn(vectors, discard=0.2).dimension == pytest.approx(4.351158415732351, rel=1e-6)


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_the_dimension_of_a_torus_turned_in_a_wider_space(dim):
    """Without a border, the ratios have the distribution that the method assumes."""
    rng = np.random.default_rng(dim)
    angles = rng.uniform(0, 2 * np.pi, size=(4000, dim))
    torus = np.hstack([np.cos(angles), np.sin(angles), np.zeros((4000, 6))])
    turn = np.linalg.qr(rng.normal(size=(2 * dim + 6, 2 * dim + 6)))[0]
    found = two_nn(torus @ turn + 50)
    assert found.dimension == pytest.approx(dim, rel=0.06)
    assert (found.n, found.copies) == (4000, 0)
    assert two_nn(torus * 1e-20).dimension == pytest.approx(found.dimension, rel=0.02)


def test_copies_and_zeros_say_nothing_about_the_dimension():
    vectors = cloud(800, 3)
    vectors[5] = 0
    expected = two_nn(vectors)
    copies = np.vstack([vectors, vectors[:200], -np.zeros((1, 3), np.float32)])
    found = two_nn(copies)
    assert (found.n, found.copies) == (800, 201)
    assert found.dimension == pytest.approx(expected.dimension)
    assert two_nn(vectors, sample=300).n == 300


def test_questions_have_far_fewer_dimensions_than_numbers(shared):
    with (shared / "banking77" / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    vectors = unit(load_encoder("static").encode([text for text, _ in rows]))
    found = two_nn(vectors)
    assert found.dimension == pytest.approx(6.74, abs=0.05)
    noise = np.random.default_rng(0).normal(size=vectors.shape)
    assert two_nn(noise).dimension > 3 * found.dimension
    hubs = hubness(vectors)
    assert hubs.skewness == pytest.approx(1.534, abs=0.01)
    centred = hubness(vectors - vectors.mean(axis=0))
    assert centred.skewness == pytest.approx(1.298, abs=0.01)


def test_what_has_no_neighbours_is_refused():
    with pytest.raises(InputError, match="10 vectors: at least 11 are needed"):
        hubness(cloud(10))
    with pytest.raises(UsageError, match="k = 0"):
        hubness(cloud(), 0)
    with pytest.raises(UsageError, match="a sample of 10 is too small: at least 11"):
        hubness(cloud(), sample=10)
    with pytest.raises(InputError, match="3 different vectors are needed, and there are 2"):
        two_nn(np.array([[1.0, 2], [1, 2], [3, 4], [3, 4]]))
    with pytest.raises(InputError, match="too few, or too regular"):
        two_nn(np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]))
    with pytest.raises(UsageError, match="no share to discard"):
        two_nn(cloud(), discard=1)
    vectors = cloud()
    vectors[7, 2] = np.nan
    for refused in (hubness, two_nn):
        with pytest.raises(InputError, match="vector 7 has a number"):
            refused(vectors)
