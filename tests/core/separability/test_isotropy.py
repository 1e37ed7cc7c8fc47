"""Effective rank, participation ratio, IsoScore and mean cosine."""

import numpy as np
import pytest

from embcli.core.cosine import unit
from embcli.core.separability.isotropy import (
    anisotropy,
    effective_rank,
    isoscore,
    participation_ratio,
    singular_values,
    spectrum,
)
from embcli.core.separability.moments import moments
from embcli.errors import InputError


def with_singular_values(values, n=50, dim=12, seed=0):
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(n, len(values))))[0]
    right = np.linalg.qr(rng.normal(size=(dim, len(values))))[0]
    return left * np.asarray(values) @ right.T


def turned(vectors, seed=5):
    dim = vectors.shape[1]
    return vectors @ np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def test_spectra_are_those_of_the_matrices():
    vectors = np.random.default_rng(0).normal(size=(40, 9)) + 2
    found = moments(vectors)
    np.testing.assert_allclose(singular_values(found), np.linalg.svd(vectors, compute_uv=False))
    np.testing.assert_allclose(spectrum(found), np.linalg.eigvalsh(np.cov(vectors.T))[::-1])


@pytest.mark.parametrize("values", [[1.0], [1, 1, 1, 1], [8, 4, 2, 1, 0.5]])
def test_the_effective_rank_of_a_known_spectrum(values):
    shares = np.array(values) / np.sum(values)
    expected = np.exp(-(shares * np.log(shares)).sum())
    vectors = with_singular_values(values)
    assert effective_rank(moments(vectors)) == pytest.approx(expected, rel=1e-5)
    assert effective_rank(moments(turned(7 * vectors))) == pytest.approx(expected, rel=1e-5)


def test_the_rank_of_fewer_vectors_than_dimensions():
    vectors = np.random.default_rng(0).normal(size=(20, 300)).astype(np.float32)
    shares = np.linalg.svd(vectors.astype(np.float64), compute_uv=False)
    shares /= shares.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert effective_rank(moments(vectors)) == pytest.approx(expected, rel=1e-6)


def test_the_ends_of_isoscore_and_participation_ratio():
    rng = np.random.default_rng(0)
    white = with_singular_values([3.0] * 6, dim=6)
    white -= white.mean(axis=0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white.T))).T
    assert participation_ratio(moments(white)) == pytest.approx(6)
    assert isoscore(moments(white)) == pytest.approx(1)
    line = np.outer(rng.normal(size=30), rng.normal(size=6)) + 4
    assert participation_ratio(moments(line)) == pytest.approx(1)
    assert isoscore(moments(line)) == pytest.approx(0, abs=1e-12)
    # Variance 2 along one of two dimensions in five: (2 v)² / (2 v²) = 2.
    flat = np.zeros((4, 5))
    flat[:, :2] = [[1, 1], [1, -1], [-1, 1], [-1, -1]]
    assert participation_ratio(moments(flat)) == pytest.approx(2)
    assert isoscore(moments(flat)) == pytest.approx(1 / 4)


def test_isoscore_is_that_of_its_authors_and_of_the_paper():
    scales = [1, 2, 3, 1, 0.5, 0.1]
    vectors = np.random.default_rng(2).normal(size=(200, 6)).astype(np.float32) * scales
    vectors += np.array([5, 0, 0, 0, 1, 0])
    # IsoScore 2.0.1, partly in float32: float(IsoScore(vectors)).
    assert isoscore(moments(vectors)) == pytest.approx(0.28505326552433224, rel=1e-6)
    # Algorithm 1 of the paper, step by step.
    variances = np.linalg.eigvalsh(np.cov(vectors.T))
    scaled = np.sqrt(6) * variances / np.linalg.norm(variances)
    defect = np.linalg.norm(scaled - 1) / np.sqrt(2 * (6 - np.sqrt(6)))
    share = (6 - defect**2 * (6 - np.sqrt(6))) ** 2 / 36
    assert isoscore(moments(vectors)) == pytest.approx((6 * share - 1) / 5)
    assert isoscore(moments(turned(vectors) - 9)) == pytest.approx(isoscore(moments(vectors)))


def test_anisotropy_is_the_mean_over_pairs():
    vectors = np.random.default_rng(0).normal(size=(80, 6)) + 0.7
    cosines = unit(vectors) @ unit(vectors).T
    expected = cosines[np.triu_indices(80, 1)].mean()
    assert anisotropy(moments(vectors)) == pytest.approx(expected)
    assert anisotropy(moments(np.ones((5, 3)))) == pytest.approx(1)
    around = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    assert anisotropy(moments(around)) == pytest.approx(-1 / 3)


def test_words_of_a_model_lie_in_a_cone_until_they_are_centred(shared):
    vectors = np.load(shared / "words" / "gnews13k.npz")["vecs"].astype(np.float64)
    found, centred = moments(vectors), moments(vectors - vectors.mean(axis=0))
    assert anisotropy(found) == pytest.approx(0.0702, abs=1e-4)
    assert abs(anisotropy(centred)) < 0.02
    assert isoscore(centred) == pytest.approx(isoscore(found))
    assert effective_rank(found) == pytest.approx(281.1, abs=0.1)
    # Whitened, nothing is left of the difference between dimensions.
    values, axes = np.linalg.eigh(found.covariance)
    white = moments((vectors - found.mean) @ axes / np.sqrt(values))
    assert isoscore(white) == pytest.approx(1)
    assert effective_rank(white) == pytest.approx(300)


def test_what_has_no_spread_is_refused():
    with pytest.raises(InputError, match="all vectors are equal"):
        isoscore(moments(np.full((9, 3), 0.1)))
    with pytest.raises(InputError, match="one dimension"):
        isoscore(moments(np.arange(5.0)[:, None]))
    with pytest.raises(InputError, match="all vectors are zeros"):
        effective_rank(moments(np.zeros((4, 2))))
    with pytest.raises(InputError, match="vector 1 is zeros only"):
        anisotropy(moments(np.array([[1.0, 2], [0, 0], [3, 1]])))
