"""Projections, differences of means and LEACE: theorems, brute force, the library's figures."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from embcli.core.debiasing.erasure import leace, mean_difference, projection
from embcli.core.debiasing.inlp import inlp
from embcli.core.debiasing.probes import probe, split
from embcli.core.maps import Transform
from embcli.errors import InputError


def labelled(classes=3, n=600, dim=12, seed=0, dtype=np.float64):
    """Correlated Gaussians whose means differ by class, away from the origin."""
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((dim, dim)) * np.linspace(0.1, 2, dim)
    labels = generator.integers(0, classes, n)
    means = generator.standard_normal((classes, dim))
    vectors = generator.standard_normal((n, dim)) @ mixing + means[labels] + 3
    return vectors.astype(dtype), labels


def means(vectors, labels):
    return np.array([vectors[labels == label].mean(axis=0) for label in np.unique(labels)])


def test_a_projection_is_idempotent_symmetric_and_of_the_right_rank():
    generator = np.random.default_rng(1)
    rows = generator.standard_normal((3, 10))
    spanning = np.concatenate([rows, rows[:1] * 5, rows[1:2] - rows[2:]])
    transform = projection(spanning.astype(np.float32))
    (step,) = transform.steps
    np.testing.assert_allclose(step.matrix @ step.matrix, step.matrix, atol=1e-14)
    np.testing.assert_array_equal(step.matrix, step.matrix.T)
    assert np.linalg.matrix_rank(step.matrix) == 7
    assert np.abs(transform.apply(rows)).max() < 1e-6
    outside = np.linalg.svd(rows)[2][3:]
    np.testing.assert_allclose(transform.apply(outside), outside, atol=1e-6)


@pytest.mark.parametrize(
    ("basis", "message"),
    [
        (np.empty((0, 4)), "nothing to project out"),
        (np.zeros((2, 4)), "nothing to project out"),
        (np.eye(4), "leave nothing"),
    ],
)
def test_a_projection_that_takes_nothing_or_all_is_refused(basis, message):
    with pytest.raises(InputError, match=message):
        projection(basis)


@pytest.mark.parametrize("fit", [leace, mean_difference])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_classes_have_one_mean_afterwards_and_applying_it_again_changes_nothing(fit, classes):
    vectors, labels = labelled(classes)
    transform = fit(vectors, labels)
    cleaned = transform.apply(vectors)
    assert np.ptp(means(cleaned, labels), axis=0).max() < 1e-12
    np.testing.assert_allclose(transform.apply(cleaned), cleaned, atol=1e-11)
    assert np.linalg.matrix_rank(transform.steps[0].matrix) == 12 - classes + 1
    # There is nothing left to fit to.
    assert fit(cleaned, labels).steps == ()


def test_leace_keeps_the_mean_whatever_the_vectors_are_shifted_by():
    vectors, labels = labelled()
    cleaned = leace(vectors, labels).apply(vectors)
    np.testing.assert_allclose(cleaned.mean(axis=0), vectors.mean(axis=0), atol=1e-12)
    shifted = leace(vectors + 100, labels).apply(vectors + 100)
    np.testing.assert_allclose(shifted - 100, cleaned, atol=1e-10)


def test_leace_commutes_with_rotations_and_changes_of_scale():
    vectors, labels = labelled()
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((12, 12)))[0] * 7
    np.testing.assert_allclose(
        leace(vectors @ turn, labels).apply(vectors @ turn),
        leace(vectors, labels).apply(vectors) @ turn,
        atol=1e-10,
    )


@pytest.mark.parametrize("norm", ["mahalanobis", "euclidean", "some"])
def test_of_all_affine_maps_that_make_means_equal_leace_changes_least(norm):
    vectors, labels = labelled()
    generator = np.random.default_rng(2)
    covariance = np.cov(vectors.T)
    some = generator.standard_normal((12, 12))
    metric = {
        "mahalanobis": np.linalg.inv(covariance),
        "euclidean": np.eye(12),
        "some": some @ some.T,
    }[norm]

    def change(mapped):
        moved = mapped - vectors
        return np.einsum("ij,jk,ik->i", moved, metric, moved).mean()

    cleaned = leace(vectors, labels).apply(vectors)
    least = change(cleaned)
    assert least < change(mean_difference(vectors, labels).apply(vectors))
    assert least < change(inlp(vectors, labels).transform.apply(vectors))
    # Any other such map is this one and a matrix that does not see the differences of means.
    differences = means(vectors, labels) - vectors.mean(axis=0)
    axes = np.linalg.svd(differences)[2][:2]
    blind = np.eye(12) - axes.T @ axes
    for size in (1e-4, 1e-2, 1):
        for _ in range(20):
            other = blind @ generator.standard_normal((12, 12)) * size
            mapped = cleaned + (vectors - vectors.mean(axis=0)) @ other
            assert np.ptp(means(mapped, labels), axis=0).max() < 1e-10
            assert change(mapped) > least


def test_after_leace_a_logistic_probe_has_nothing_to_learn_from():
    vectors, labels = labelled(2, n=400)
    assert probe(vectors, labels, vectors, labels).accuracy > 0.8
    cleaned = leace(vectors, labels).apply(vectors)
    # Without regularisation: the loss is that of a model that knows the shares alone.
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000).fit(cleaned, labels)
    shares = np.bincount(labels) / len(labels)
    entropy = -(shares * np.log(shares)).sum()
    assert log_loss(labels, model.predict_proba(cleaned)) == pytest.approx(entropy, abs=1e-9)
    assert probe(cleaned, labels, cleaned, labels).accuracy == pytest.approx(shares.max())


def test_leace_is_what_the_library_gives():
    # concept-erasure 0.2.4: LeaceEraser.fit(x, one_hot(z), shrinkage=False, svd_tol=1e-9)(x)
    vectors = np.random.default_rng(7).standard_normal((12, 3)).round(2)
    expected = [
        [-0.11064413, -0.11609878, -0.13416835],
        [-0.773509, -0.34119364, -1.09376348],
        [-0.13237704, -0.12347882, -0.16562996],
    ]
    cleaned = leace(vectors, np.arange(12) % 3).apply(vectors)
    np.testing.assert_allclose(cleaned[:3], expected, atol=1e-8)


def test_leace_where_vectors_do_not_span_the_space():
    vectors, labels = labelled(2, n=400, dim=6)
    embedding = np.linalg.qr(np.random.default_rng(5).standard_normal((20, 6)))[0].T
    wide = (vectors @ embedding).astype(np.float32)
    transform = leace(wide, labels)
    cleaned = transform.apply(wide)
    np.testing.assert_allclose(
        cleaned, leace(vectors, labels).apply(vectors) @ embedding, atol=1e-4
    )
    # What the vectors do not have is left as it is.
    beside = np.linalg.svd(embedding)[2][6:]
    offset = transform.apply(np.zeros((1, 20)))
    np.testing.assert_allclose(transform.apply(beside) - offset, beside, atol=1e-4)
    # More components than vectors.
    few, of_few = labelled(2, n=10, dim=30)
    assert np.ptp(means(leace(few, of_few).apply(few), of_few), axis=0).max() < 1e-9


def test_mean_difference_of_two_classes_takes_the_difference_itself():
    vectors, labels = labelled(2)
    difference = np.subtract(*means(vectors, labels))
    (step,) = mean_difference(vectors, labels).steps
    difference /= np.linalg.norm(difference)
    np.testing.assert_allclose(step.matrix, np.eye(12) - np.outer(difference, difference))


def test_float32_and_many_blocks_are_as_good():
    vectors, labels = labelled(3, n=10_000)
    for fit in (leace, mean_difference):
        cleaned = fit(vectors.astype(np.float32), labels).apply(vectors)
        np.testing.assert_allclose(cleaned, fit(vectors, labels).apply(vectors), atol=1e-5)


@pytest.mark.parametrize("fit", [leace, mean_difference, inlp])
def test_labels_that_do_not_fit_are_refused(fit):
    vectors, labels = labelled()
    with pytest.raises(InputError, match="of one class"):
        fit(vectors, np.zeros(len(labels), np.int64))
    with pytest.raises(InputError, match="600 vectors and 599 labels"):
        fit(vectors, labels[:-1])


def test_more_classes_than_components_are_refused():
    vectors, labels = labelled(8, dim=4)
    for fit in (leace, mean_difference):
        with pytest.raises(InputError, match="nothing"):
            fit(vectors, labels)


def test_without_a_difference_nothing_is_done():
    vectors = np.random.default_rng(0).standard_normal((50, 5))
    twice, labels = np.concatenate([vectors, vectors]), np.repeat([0, 1], 50)
    for fit in (leace, mean_difference):
        assert isinstance(transform := fit(twice, labels), Transform)
        assert not transform


@pytest.mark.parametrize("fit", [leace, mean_difference])
def test_the_subjects_of_papers_cannot_be_read_off_afterwards(shared, fit):
    """Seven classes, and 1,433 components that are words, so that the covariance is singular."""
    with np.load(shared / "cora" / "cora.npz") as data:
        vectors, labels = data["X"], data["y"]
    training = split(labels, 0.7, 0)

    def told(rows, other):
        return probe(rows[training], labels[training], rows[other], labels[other])

    assert told(vectors, ~training).accuracy > 0.7
    transform = fit(vectors[training], labels[training])
    assert np.linalg.matrix_rank(transform.steps[0].matrix) == 1433 - 6
    cleaned = transform.apply(vectors)
    for other in (training, ~training):
        result = told(cleaned, other)
        assert result.accuracy == pytest.approx(result.chance, abs=1e-3)
