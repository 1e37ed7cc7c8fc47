import numpy as np
import pytest
from sklearn.metrics import silhouette_samples
from sklearn.neighbors import KNeighborsClassifier

from embcli.core.separability import neighbourhood as module
from embcli.core.separability.neighbourhood import (
    Neighbourhood,
    draw,
    label_errors,
    neighbourhood,
    outliers,
    robust_z,
    silhouette,
    vote,
)
from embcli.errors import InputError


def brute(vectors, k, among=None):
    """The k nearest others of every record and their cosines, from the whole matrix."""
    units = vectors / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    cosines = units @ units.T
    np.fill_diagonal(cosines, -np.inf)
    if among is not None:
        cosines[:, np.setdiff1d(np.arange(len(vectors)), among)] = -np.inf
    near = np.argsort(-cosines, axis=1)[:, :k]
    return near, np.take_along_axis(cosines, near, axis=1)


def test_neighbours_vote_as_brute_force_says(blobs):
    vectors, labels = blobs((40, 25, 60, 10))
    found = neighbourhood(vectors, labels, k=7)
    near, cosines = brute(vectors, 7)
    theirs = labels[near]
    assert found.separability == (theirs[:, 0] == labels).mean()
    np.testing.assert_allclose(found.disagreement, (theirs != labels[:, None]).mean(axis=1))
    np.testing.assert_allclose(found.distance, 1 - cosines.mean(axis=1), atol=1e-6)
    counts = (theirs[:, :, None] == np.arange(4)).sum(axis=1)
    sums = np.where(theirs[:, :, None] == np.arange(4), cosines[:, :, None], 0).sum(axis=1)
    elected = [max(range(4), key=lambda c: (counts[i, c], sums[i, c])) for i in range(len(labels))]
    assert found.elected.tolist() == elected
    np.testing.assert_allclose(found.support, counts.max(axis=1) / 7)
    assert found.accuracy == np.mean(np.array(elected) == labels)


def test_leave_one_out_is_what_scikit_learn_gives_when_each_record_is_left_out(blobs):
    vectors, labels = blobs((20, 30), apart=0.6)
    right = []
    for i in range(len(labels)):
        others = np.arange(len(labels)) != i
        model = KNeighborsClassifier(5, metric="cosine").fit(vectors[others], labels[others])
        right.append(model.predict(vectors[[i]])[0] == labels[i])
    found = neighbourhood(vectors, labels, k=5)
    assert found.accuracy == pytest.approx(np.mean(right))
    assert 0.5 < found.accuracy < 1


def test_votes_that_tie_go_to_the_nearer():
    theirs = np.array([[2, 0, 0, 2, 1], [1, 1, 0, 0, 0], [0, 1, 2, 3, 1]])
    cosines = np.array([[0.9, 0.3, 0.2, 0.1, 0.0], [1, 1, -1, -1, -1], [0.9, 0.1, 0, 0, 0]])
    elected, support = vote(theirs, cosines, 4)
    assert elected.tolist() == [2, 0, 1]
    np.testing.assert_allclose(support, [0.4, 0.6, 0.4])


def test_duplicates_are_neighbours_and_records_are_not_their_own():
    vectors = np.repeat(np.eye(3), 6, axis=0)
    labels = np.tile([0, 1], 9)
    # Five twins each, two of which have the same label; more twins than are asked for.
    found = neighbourhood(vectors, labels, k=5)
    np.testing.assert_allclose(found.disagreement, 0.6)
    assert found.accuracy == 0
    assert neighbourhood(vectors, labels, k=3).distance == pytest.approx(0, abs=1e-6)
    few = neighbourhood(vectors, labels, k=100)
    assert few.k == 17
    np.testing.assert_allclose(few.disagreement, 9 / 17)


def test_a_sample_looks_at_fewer_and_sees_the_same(blobs):
    vectors, labels = blobs()
    every, some = neighbourhood(vectors, labels), neighbourhood(vectors, labels, sample=30, seed=4)
    assert len(some.rows) == 30
    assert (np.diff(some.rows) > 0).all()
    for field in ("disagreement", "elected", "support"):
        np.testing.assert_allclose(getattr(some, field), getattr(every, field)[some.rows])
    assert draw(100, 30, 1).tolist() == draw(100, 30, 1).tolist() != draw(100, 30, 2).tolist()


def test_silhouette_is_scikit_learns_though_nothing_is_compared(blobs, monkeypatch):
    monkeypatch.setattr(module, "ROWS", 11)
    for seed in range(3):
        vectors, labels = blobs((30, 2, 50, 20), seed=seed)
        found = silhouette(vectors, labels)
        expected = silhouette_samples(vectors.astype(float), labels, metric="cosine")
        np.testing.assert_allclose(found.of_records, expected, atol=1e-12)
        assert found.mean == pytest.approx(expected.mean())
        for c in range(4):
            assert found.of_classes[c] == pytest.approx(expected[labels == c].mean())
        assert (found.nearest != labels).all()
    points = silhouette(np.repeat(np.eye(3), 4, axis=0), np.repeat(np.arange(3), 4))
    assert points.mean == 1
    same = silhouette(np.ones((4, 2)), np.array([0, 0, 1, 1]))
    assert (same.of_records == 0).all()


def test_silhouette_of_real_classes(banking, news):
    assert silhouette(*banking[:2]).mean == pytest.approx(0.111, abs=0.01)
    assert silhouette(*news).mean == pytest.approx(0.048, abs=0.01)


def test_labels_that_were_swapped_are_found(banking):
    vectors, labels, _ = banking
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(labels), 150, replace=False)
    given = labels.copy()
    given[wrong] = (given[wrong] + rng.integers(1, 77, 150)) % 77
    found = label_errors(neighbourhood(vectors, given))
    swapped = np.isin(found.rows, wrong)
    assert swapped.sum() >= 0.6 * 150
    assert swapped[:50].mean() > 0.6  # a random record is one of them in .05 of cases
    right = labels[found.rows[swapped]] == found.suggested[swapped]
    assert right.mean() > 0.85
    assert (found.support > 0.5).all()
    assert (np.diff(found.support - found.agreement) <= 1e-9).all()


def test_only_majorities_speak_of_errors():
    def of(elected, support, disagreement):
        nothing = np.zeros(3)
        return Neighbourhood(
            np.array([2, 5, 9]), 10, 0, 0, np.array(disagreement), np.array(elected),
            np.array(support), nothing,
        )  # fmt: skip

    # The first is elected by its own; the second by 4 of 10; the third has 6 of 10 against it.
    given = of([1, 2, 3], [0.8, 0.4, 0.6], [0.2, 1.0, 0.9])
    found = label_errors(given)
    assert found.rows.tolist() == [9]
    assert found.suggested.tolist() == [3]
    np.testing.assert_allclose(found.agreement, [0.1])
    assert label_errors(given, support=0.3).rows.tolist() == [9, 5]


def test_outliers_are_far_from_their_own_class(blobs):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 100)
    vectors = (
        np.eye(3, 8)[labels] + rng.normal(size=(300, 8)) * np.array([0.05, 0.1, 0.3])[labels, None]
    )
    vectors[7], vectors[150] = np.eye(3, 8)[1], np.eye(3, 8)[0]  # each where the other class is
    found = outliers(vectors, labels)
    assert {7, 150} <= set(found.rows[:2].tolist())
    for rows in (labels == c for c in range(3)):
        _, cosines = brute(vectors[rows], 10)
        distance = 1 - cosines.mean(axis=1)
        np.testing.assert_allclose(found.distance[rows], distance, atol=1e-6)
        apart = distance - np.median(distance)
        expected = apart / (1.4826 * np.median(np.abs(apart)))
        np.testing.assert_allclose(found.z[rows], expected, rtol=1e-3, atol=1e-3)
    assert found.rows.tolist() == sorted(np.flatnonzero(found.z > 3.5), key=lambda i: -found.z[i])
    assert found.compared == 100


def test_outliers_among_a_sample_of_a_class():
    rng = np.random.default_rng(1)
    vectors = np.eye(4)[np.repeat([0, 1], 60)] + 0.1 * rng.normal(size=(120, 4))
    labels = np.repeat([0, 1], 60)
    vectors[30] = [0, 0, 1, 0]
    found = outliers(vectors, labels, k=3, sample=25, seed=3)
    assert found.compared == 25
    assert found.rows[0] == 30
    for start in (0, 60):
        _, cosines = brute(vectors[start : start + 60], 3, draw(60, 25, 3))
        np.testing.assert_allclose(
            found.distance[start : start + 60], 1 - cosines.mean(axis=1), atol=1e-6
        )


def test_what_is_normally_distributed_has_the_z_it_should():
    values = np.random.default_rng(0).normal(5, 3, 20_000)
    np.testing.assert_allclose(robust_z(values), (values - 5) / 3, atol=0.1, rtol=0.05)
    assert (robust_z(np.full(9, 0.3)) == 0).all()
    mostly = np.array([1.0] * 8 + [3, 9])
    assert robust_z(mostly)[-1] == pytest.approx(8 / (1.2533 * 1.0))


def test_random_labels_are_not_separable(banking):
    vectors, labels, _ = banking
    found = neighbourhood(vectors, labels)
    assert found.separability == pytest.approx(0.836, abs=0.005)
    shuffled = neighbourhood(vectors, np.random.default_rng(0).permutation(labels), sample=1500)
    assert shuffled.separability == pytest.approx(1 / 77, abs=0.01)
    assert silhouette(vectors, np.random.default_rng(0).permutation(labels)).mean < 0


@pytest.mark.parametrize("wrong", [{"k": 0}, {"sample": 0}])
def test_what_cannot_be_asked_for(blobs, wrong):
    with pytest.raises(InputError, match="at least"):
        neighbourhood(*blobs(), **wrong)
    with pytest.raises(InputError, match="at least"):
        outliers(*blobs(), **wrong)


def test_a_vector_of_zeros_has_no_neighbours(blobs):
    vectors, labels = blobs()
    vectors[4] = 0
    for measure in (neighbourhood, silhouette, outliers):
        with pytest.raises(InputError, match="vector 4 is zeros only"):
            measure(vectors, labels)
