"""Iterative nullspace projection and linear probes."""

import numpy as np
import pytest

from embcli.core.debiasing.inlp import inlp
from embcli.core.debiasing.probes import classifier, probe, split
from embcli.errors import InputError


def planted(classes=2, n=1500, dim=20, seed=0):
    """Noise, and a class that two directions tell, one more faintly than the other."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    vectors = generator.standard_normal((n, dim))
    centres = generator.standard_normal((classes, 3)) * [6, 3, 2]
    vectors[:, :3] += centres[labels]
    return vectors.astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_inlp_brings_a_probe_to_chance_by_an_orthogonal_projection(classes):
    vectors, labels = planted(classes)
    before = probe(vectors, labels)
    assert before.accuracy > before.chance + 10 * before.error
    found = inlp(vectors, labels)
    (step,) = found.transform.steps
    np.testing.assert_allclose(step.matrix @ step.matrix, step.matrix, atol=1e-12)
    np.testing.assert_allclose(step.matrix, step.matrix.T, atol=1e-15)
    assert np.linalg.matrix_rank(step.matrix) == 20 - found.directions
    assert found.accuracies[0] > found.chance + 0.2
    assert found.accuracies[-1] < found.chance + 0.06
    assert list(found.accuracies[:-1]) == [a for a in found.accuracies[:-1] if a > found.chance]
    cleaned = found.transform.apply(vectors)
    after = probe(cleaned, labels, cleaned, labels)
    assert after.accuracy <= after.chance + after.error


def test_inlp_takes_no_more_directions_than_told_and_the_best_first():
    vectors, labels = planted(4)
    one = inlp(vectors, labels, directions=1)
    assert one.directions == len(one.accuracies) == 1
    (step,) = one.transform.steps
    assert np.linalg.matrix_rank(step.matrix) == 19
    rounds = []
    inlp(vectors, labels, directions=4, advance=lambda *args: rounds.append(args))
    assert [directions for directions, _ in rounds] == [0, 3]


def test_inlp_of_labels_that_mean_nothing_does_nothing():
    generator = np.random.default_rng(4)
    found = inlp(generator.standard_normal((2000, 10)), generator.integers(0, 2, 2000))
    assert not found.transform
    assert found.directions == 0
    assert len(found.accuracies) == 1


def test_inlp_is_the_same_with_the_same_seed():
    vectors, labels = planted()
    first, second = inlp(vectors, labels, seed=3), inlp(vectors, labels, seed=3)
    assert first.accuracies == second.accuracies
    np.testing.assert_array_equal(first.transform.steps[0].matrix, second.transform.steps[0].matrix)
    assert inlp(vectors, labels, seed=4).accuracies != first.accuracies


def test_a_probe_is_the_same_at_any_length_and_turn():
    vectors, labels = planted(3)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((20, 20)))[0].astype(np.float32)
    one, other = probe(vectors, labels), probe(vectors @ turn * 1000, labels)
    assert one == other
    assert one.tested == 450


def test_a_classifier_answers_as_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    for classes in (2, 3):
        vectors, labels = planted(classes)
        vectors = vectors.astype(np.float64)
        scaled = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0).mean()
        expected = LogisticRegression(max_iter=1000).fit(scaled, labels + 5).predict(scaled)
        agreed = classifier(vectors, labels + 5).predict(vectors) == expected
        assert agreed.mean() > 0.995


def test_a_probe_tests_those_it_was_not_trained_on():
    vectors, labels = planted()
    training = np.arange(len(labels)) < 1000
    swapped = np.where(training, labels, 1 - labels)
    right, wrong = (
        probe(vectors[training], of[training], vectors[~training], of[~training])
        for of in (labels, swapped)
    )
    assert right.tested == wrong.tested == 500
    assert wrong.accuracy == pytest.approx(1 - right.accuracy)


def test_a_split_is_stratified():
    labels = np.repeat([0, 1, 2], [100, 10, 2])
    training = split(labels, 0.7, 0)
    assert [int(training[labels == label].sum()) for label in range(3)] == [70, 7, 1]
    assert split(labels, 0.999, 0).sum() == 99 + 9 + 1
    with pytest.raises(InputError, match="class 3 has one member"):
        split(np.append(labels, 3), 0.7, 0)
