import numpy as np
import pytest
from scipy.linalg import eigh
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score

from embcli.core.separability import scatter as module
from embcli.core.separability.scatter import (
    calinski_harabasz,
    davies_bouldin,
    fisher,
    neural_collapse,
    pair_fisher,
    pair_mahalanobis,
    scatter,
)
from embcli.errors import InputError


def matrices(vectors, labels):
    """S_W and S_B, record by record."""
    vectors = vectors.astype(np.float64)
    mean = vectors.mean(axis=0)
    within, between = np.zeros((2, vectors.shape[1], vectors.shape[1]))
    for c in np.unique(labels):
        members = vectors[labels == c]
        apart = members - members.mean(axis=0)
        within += apart.T @ apart
        off = members.mean(axis=0) - mean
        between += len(members) * np.outer(off, off)
    return within, between


def simplex(classes, dim, seed=0):
    """Corners of a regular simplex around 0, turned at random, shape (classes, dim)."""
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]
    return (np.eye(classes) - 1 / classes) @ turn[:classes]


def test_sums_are_those_of_the_definition_whatever_the_blocks(blobs, monkeypatch):
    vectors, labels = blobs()
    monkeypatch.setattr(module, "ROWS", 13)
    found = scatter(vectors, labels)
    within, between = matrices(vectors, labels)
    np.testing.assert_allclose(found.within, within, rtol=1e-10)
    np.testing.assert_allclose(found.weighted.T @ found.weighted, between, rtol=1e-9)
    np.testing.assert_allclose(found.mean, vectors.mean(axis=0, dtype=float), rtol=1e-12)
    total = np.cov(vectors.astype(float).T, ddof=0) * len(vectors)
    np.testing.assert_allclose(found.within + between, total, rtol=1e-9)
    assert found.traces.sum() == pytest.approx(np.trace(within))


def test_what_scikit_learn_finds(blobs):
    for seed in range(3):
        vectors, labels = blobs(seed=seed)
        found = scatter(vectors, labels)
        exact = vectors.astype(np.float64)
        assert calinski_harabasz(found) == pytest.approx(calinski_harabasz_score(exact, labels))
        assert davies_bouldin(found) == pytest.approx(davies_bouldin_score(exact, labels))
        shrinkage = ledoit_wolf(exact - found.means[labels], assume_centered=True)[1]
        assert fisher(found).shrinkage == pytest.approx(shrinkage, rel=1e-9)


def test_generalised_eigenvalues_are_scipys(blobs):
    vectors, labels = blobs()
    within, between = matrices(vectors, labels)
    for delta in (None, 0.0, 0.3, 1.0):
        found = fisher(scatter(vectors, labels), shrinkage=delta)
        delta = found.shrinkage
        shrunk = (1 - delta) * within + delta * np.trace(within) / 6 * np.eye(6)
        expected = eigh(between, shrunk, eigvals_only=True)[::-1][:2]
        np.testing.assert_allclose(found.eigenvalues, expected, rtol=1e-6)
        assert found.total == pytest.approx(np.trace(np.linalg.solve(shrunk, between)), rel=1e-6)
    assert found.trace == pytest.approx(np.trace(between) / np.trace(within))
    assert found.trace == pytest.approx(found.total / 6)  # all variance spread over 6 axes


def test_turns_shifts_and_scales_change_no_ratio(blobs):
    vectors, labels = blobs()
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    one, other = scatter(vectors, labels), scatter(3 * vectors.astype(float) @ turn + 7, labels)
    for measure in (calinski_harabasz, davies_bouldin, pair_fisher, pair_mahalanobis):
        np.testing.assert_allclose(measure(other), measure(one), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(fisher(other).eigenvalues, fisher(one).eigenvalues, rtol=1e-5)
    assert neural_collapse(other) == pytest.approx(neural_collapse(one), rel=1e-5)
    stretched = scatter(vectors * np.array([1, 9, 1, 0.1, 1, 4]), labels)
    # Without shrinkage any linear map leaves the eigenvalues as they are, and not the traces.
    np.testing.assert_allclose(
        fisher(stretched, shrinkage=0).eigenvalues, fisher(one, shrinkage=0).eigenvalues, rtol=1e-4
    )
    assert fisher(stretched).trace != pytest.approx(fisher(one).trace, rel=0.05)


def test_two_gaussians_have_the_ratios_of_the_textbook():
    rng = np.random.default_rng(0)
    n, gap, sigma = 100_000, 3.0, (1.0, 2.0)
    labels = np.repeat([0, 1], n)
    line = np.concatenate([rng.normal(0, sigma[0], n), rng.normal(gap, sigma[1], n)])[:, None]
    pair = pair_fisher(scatter(line, labels))[0, 1]
    assert pair == pytest.approx(gap**2 / (sigma[0] ** 2 + sigma[1] ** 2), rel=0.02)
    # Of equal classes S_B / n is (gap / 2)², and S_W / n the mean of the variances.
    found = fisher(scatter(line, labels))
    assert found.trace == pytest.approx((gap / 2) ** 2 / 2.5, rel=0.02)
    assert found.total == pytest.approx(found.trace)
    cloud = rng.normal(size=(2 * n, 3))
    cloud[n:] += [1, 0, 2]
    assert pair_mahalanobis(scatter(cloud, labels))[0, 1] == pytest.approx(5, rel=0.02)


def test_the_distance_of_two_classes_is_that_of_linear_discriminant_analysis(blobs):
    vectors, labels = blobs((50, 70))
    found = scatter(vectors, labels)
    within, _ = matrices(vectors, labels)
    gap = found.means[1] - found.means[0]
    covariance = 0.8 * within / 120 + 0.2 * np.trace(within) / 720 * np.eye(6)
    assert pair_mahalanobis(found, shrinkage=0.2)[0, 1] == pytest.approx(
        gap @ np.linalg.solve(covariance, gap)
    )
    # scikit-learn shrinks each class after it has standardised it: compared unshrunk only.
    model = LinearDiscriminantAnalysis(solver="lsqr").fit(vectors, labels)
    unshrunk = pair_mahalanobis(found, shrinkage=0)[0, 1]
    assert model.coef_[0] @ gap == pytest.approx(unshrunk, rel=1e-4)


def test_fewer_records_than_components(blobs):
    vectors, labels = blobs((8, 9, 7), dim=300, apart=0)
    chance = fisher(scatter(vectors, labels))
    assert np.isfinite(chance.eigenvalues).all()
    assert len(chance.eigenvalues) == 2
    assert 0 < chance.shrinkage <= 1
    apart = fisher(scatter(*blobs((8, 9, 7), dim=300, apart=2)))
    assert apart.total > 10 * chance.total


def test_a_simplex_has_collapsed():
    corners = simplex(5, 12)
    labels = np.repeat(np.arange(5), 20)
    found = neural_collapse(scatter(corners[labels] + 4, labels))
    assert found == pytest.approx((0, 0, 0, 0), abs=1e-12)
    noise = 0.1 * np.random.default_rng(0).normal(size=(100, 12))
    noisy = scatter(corners[labels] + noise, labels)
    within, _ = matrices(corners[labels] + noise, labels)
    centred = noisy.means - noisy.means.mean(axis=0)
    between = centred.T @ centred / 5
    expected = np.trace(within / 100 @ np.linalg.pinv(between, rcond=1e-10)) / 5
    assert neural_collapse(noisy).nc1 == pytest.approx(expected)
    # One corner further out: means are no longer of one length.
    longer = corners * np.array([2, 1, 1, 1, 1])[:, None]
    assert neural_collapse(scatter(longer[labels] + noise, labels)).equinorm > 0.15


def test_means_at_right_angles_are_not_a_simplex():
    # Seen from their centre, 4 corners of a square: cosines are 0, 0, -1.
    square = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    found = neural_collapse(scatter(np.repeat(square, 2, axis=0), np.repeat(np.arange(4), 2)))
    cosines = np.array([0, -1, 0, 0, -1, 0])
    assert found.equinorm == pytest.approx(0, abs=1e-12)
    assert found.equiangular == pytest.approx(cosines.std())
    assert found.maximal_angle == pytest.approx(np.abs(cosines + 1 / 3).mean())


def test_points_and_one_point():
    points = scatter(np.repeat(np.eye(3), 2, axis=0), np.repeat(np.arange(3), 2))
    assert fisher(points).trace == calinski_harabasz(points) == np.inf
    assert davies_bouldin(points) == 0
    off = ~np.eye(3, dtype=bool)
    assert (pair_fisher(points)[off] == np.inf).all()
    assert (pair_mahalanobis(points)[off] == np.inf).all()
    same = np.array([[1.0, 0], [-1, 0], [1, 0], [-1, 0]])
    twice = scatter(same, np.array([0, 0, 1, 1]))
    assert fisher(twice).total == pytest.approx(0)
    assert davies_bouldin(twice) == np.inf
    assert neural_collapse(twice).nc1 == np.inf
    with pytest.raises(InputError, match="all vectors are equal"):
        fisher(scatter(np.ones((4, 2)), np.array([0, 0, 1, 1])))
    with pytest.raises(InputError, match=r"shrinkage is 1\.5"):
        fisher(twice, shrinkage=1.5)


def test_intents_that_are_confused_are_those_near_together(banking):
    vectors, labels, _ = banking
    found = scatter(vectors, labels)
    exact = vectors.astype(np.float64)
    assert davies_bouldin(found) == pytest.approx(davies_bouldin_score(exact, labels), rel=1e-6)
    ratios = pair_fisher(found)
    assert (ratios[~np.isnan(ratios)] > 0).all()
    shuffled = fisher(scatter(vectors, np.random.default_rng(0).permutation(labels)))
    assert fisher(found).trace > 20 * shuffled.trace
    # 76 degrees of freedom of 3,079, as for any vectors.
    assert shuffled.trace == pytest.approx(76 / (3079 - 76), rel=0.15)
