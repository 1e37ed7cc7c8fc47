import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr, spearmanr

from embcli import load_encoder
from embcli.core.space_similarity import (
    eigenvector_similarity,
    gromov_wasserstein,
    linear_cka,
    neighbour_overlap,
    rsa,
)
from embcli.errors import InputError

MEASURES = (linear_cka, rsa, neighbour_overlap, eigenvector_similarity, gromov_wasserstein)


def two_spaces(n=60, dims=(7, 11), seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, dims[0]))
    b = np.tanh(a @ rng.normal(size=dims)) + 0.3 * rng.normal(size=(n, dims[1]))
    return a.astype(np.float32), b.astype(np.float32)


def turned(vectors, seed=5):
    dim = vectors.shape[1]
    return vectors @ np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def kernels(*sides):
    return [side.astype(np.float64) @ side.astype(np.float64).T for side in sides]


def hsic(k, l):  # noqa: E741
    """Kornblith et al. 2019, as written."""
    n = len(k)
    h = np.eye(n) - 1 / n
    return np.trace(k @ h @ l @ h) / (n - 1) ** 2


def unbiased_hsic(k, l):  # noqa: E741
    """Song et al. 2012, equation 5, as written."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    one = np.ones(n)
    total = np.trace(k @ l) + one @ k @ one * (one @ l @ one) / (n - 1) / (n - 2)
    return (total - 2 / (n - 2) * (one @ k @ l @ one)) / n / (n - 3)


@pytest.mark.parametrize(("debiased", "estimate"), [(False, hsic), (True, unbiased_hsic)])
def test_cka_is_that_of_the_kernels(debiased, estimate):
    a, b = two_spaces()
    k, l = kernels(a, b)  # noqa: E741
    expected = estimate(k, l) / np.sqrt(estimate(k, k) * estimate(l, l))
    assert linear_cka(a, b, debiased=debiased) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_does_not_see_rotation_scale_and_shift(debiased):
    a, b = two_spaces()
    value = linear_cka(a, b, debiased=debiased)
    moved = (3.7 * turned(a) + 5).astype(np.float32)
    assert linear_cka(moved, b, debiased=debiased) == pytest.approx(value, abs=1e-5)
    assert linear_cka(b, a, debiased=debiased) == pytest.approx(value)
    assert linear_cka(a, moved, debiased=debiased) == pytest.approx(1)
    # It does see what is no rotation.
    assert linear_cka(a * np.geomspace(1, 30, 7), a, debiased=debiased) < 0.9


def test_debiased_cka_of_unrelated_spaces_is_about_zero():
    rng = np.random.default_rng(0)
    values = [
        [linear_cka(*rng.normal(size=(2, 50, 100)), debiased=debiased) for _ in range(30)]
        for debiased in (False, True)
    ]
    assert np.mean(values[0]) > 0.5
    assert abs(np.mean(values[1])) < 0.01


def test_cka_of_a_space_of_one_point_is_not_defined():
    assert np.isnan(linear_cka(np.ones((9, 3)), two_spaces(9)[1]))


def test_rsa_is_the_correlation_of_the_cosines():
    a, b = two_spaces()
    cosines = [1 - pdist(side.astype(np.float64), "cosine") for side in (a, b)]
    rank, linear = rsa(a, b)
    assert rank == pytest.approx(spearmanr(*cosines).statistic)
    assert linear == pytest.approx(pearsonr(*cosines).statistic)
    assert rsa(a, 2 * turned(a)) == pytest.approx((1, 1))


def test_overlap_is_that_of_a_full_sort():
    a, b = two_spaces()
    sets = []
    for side in (a, b):
        unit = side.astype(np.float64) / np.linalg.norm(side.astype(np.float64), axis=1)[:, None]
        cosines = unit @ unit.T
        np.fill_diagonal(cosines, -2)
        sets.append([set(row[:4]) for row in np.argsort(-cosines, axis=1)])
    expected = np.mean([len(x & y) / 4 for x, y in zip(*sets, strict=True)])
    assert neighbour_overlap(a, b, 4) == pytest.approx(expected)
    assert neighbour_overlap(a, turned(a), 4) == 1


def test_overlap_by_chance():
    rng = np.random.default_rng(0)
    assert neighbour_overlap(*rng.normal(size=(2, 400, 20)), 20) == pytest.approx(
        20 / 399, abs=0.01
    )


def test_spectra_are_those_of_the_graphs():
    networkx = pytest.importorskip("networkx")
    spectra = []
    sides = two_spaces(40)
    for side in sides:
        unit = side.astype(np.float64) / np.linalg.norm(side.astype(np.float64), axis=1)[:, None]
        cosines = unit @ unit.T
        np.fill_diagonal(cosines, -2)
        graph = networkx.Graph()
        graph.add_nodes_from(range(40))
        graph.add_edges_from((i, j) for i in range(40) for j in np.argsort(-cosines[i])[:5])
        spectra.append(np.sort(networkx.laplacian_spectrum(graph))[::-1])
    count = min(int((np.cumsum(v) / v.sum() < 0.9).sum()) + 1 for v in spectra)
    expected = ((spectra[0][:count] - spectra[1][:count]) ** 2).sum()
    assert eigenvector_similarity(*sides, 5) == pytest.approx(expected)
    assert eigenvector_similarity(sides[0], turned(sides[0]), 5) == pytest.approx(0, abs=1e-9)


def test_gromov_wasserstein_does_not_see_rotation_and_order():
    a, b = two_spaces(30)
    assert gromov_wasserstein(a, turned(a)) == pytest.approx(0, abs=1e-3)
    value = gromov_wasserstein(a, b)
    assert gromov_wasserstein(turned(a).astype(np.float32), b) == pytest.approx(value, abs=1e-4)
    # No coupling found is worse than that of every row with itself.
    left, right = (pdist(side.astype(np.float64), "cosine") for side in (a, b))
    assert 0 < value <= np.sqrt(2 * ((left - right) ** 2).sum() / 30**2) + 1e-9


def test_gromov_wasserstein_of_two_points_by_hand():
    """Two points, three times each, at an angle of 90 degrees; and two at 60."""
    angles = np.deg2rad([0, 0, 0, 90, 90, 90])
    plane = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    other = np.deg2rad([0, 0, 0, 60, 60, 60])
    second = np.stack([np.cos(other), np.sin(other)], axis=1)
    # Half of all pairs of rows are of different points: at distance 1 in one, 0.5 in the other.
    assert gromov_wasserstein(plane, second) == pytest.approx(np.sqrt(0.5 * 0.5**2))


@pytest.mark.parametrize("measure", MEASURES)
def test_too_few_vectors(measure):
    with pytest.raises(InputError, match="at least 5 vectors"):
        measure(np.eye(4), np.eye(4))


def test_other_things():
    with pytest.raises(InputError, match="20 and 19 vectors"):
        linear_cka(np.ones((20, 3)), np.ones((19, 3)))


def test_translations_are_nearer_than_other_sentences(shared):
    """The same captions in English and French, against French captions of other pictures."""
    encoder = load_encoder("static")
    english, french = (
        encoder.encode((shared / "multi30k" / f"val.{name}").read_text("utf-8").split("\n")[:1000])
        for name in ("en", "fr")
    )
    others = np.roll(french, 1, axis=0)
    assert linear_cka(english, french) > linear_cka(english, others) + 0.3
    assert abs(linear_cka(english, others, debiased=True)) < 0.02
    assert rsa(english, french)[0] > 0.25 > rsa(english, others)[0] + 0.2
    assert neighbour_overlap(english, french) > 10 * neighbour_overlap(english, others)
