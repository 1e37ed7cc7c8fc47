import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from embcli.core.separability.classifiers import (
    centroid,
    cross_validate,
    hardest,
    linear,
    neighbours,
    pair_confusion,
    stratified,
)
from embcli.errors import InputError

FOLDS = StratifiedKFold(5, shuffle=True, random_state=3)


def units(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_logistic_regression_is_scikit_learns(blobs):
    vectors, labels = blobs(apart=0.7)
    found = cross_validate(vectors, labels, linear, seed=3)
    model = LogisticRegression(max_iter=1000)
    shares = cross_val_predict(model, units(vectors), labels, cv=FOLDS, method="predict_proba")
    assert found.predicted.tolist() == shares.argmax(axis=1).tolist()
    own = np.take_along_axis(shares, labels[:, None], axis=1)[:, 0]
    others = np.where(np.arange(3) == labels[:, None], -1, shares).max(axis=1)
    np.testing.assert_allclose(found.margin, own - others, atol=2e-3)
    assert ((found.margin > 0) == (found.predicted == labels)).all()
    tests = [test for _, test in FOLDS.split(labels, labels)]
    accuracies = [(found.predicted[test] == labels[test]).mean() for test in tests]
    f1 = [f1_score(labels[test], found.predicted[test], average="macro") for test in tests]
    assert found.accuracy == pytest.approx(np.mean(accuracies))
    assert found.accuracy_sd == pytest.approx(np.std(accuracies, ddof=1))
    assert found.macro_f1 == pytest.approx(np.mean(f1))
    assert found.macro_f1_sd == pytest.approx(np.std(f1, ddof=1))
    assert found.converged


def test_neighbours_and_centroids_are_scikit_learns(blobs):
    vectors, labels = blobs((30, 40), apart=0.7)  # an odd number of votes on two classes: no ties
    found = cross_validate(vectors, labels, neighbours(5), seed=3)
    model = KNeighborsClassifier(5, metric="cosine")
    expected = cross_val_predict(model, vectors, labels, cv=FOLDS)
    assert found.predicted.tolist() == expected.tolist()
    assert (expected != labels).sum() > 0
    vectors, labels = blobs((30, 40, 50), apart=0.7)
    found = cross_validate(vectors, labels, centroid, seed=3)
    expected = np.empty_like(labels)
    for train, test in FOLDS.split(labels, labels):
        means = NearestCentroid().fit(units(vectors)[train], labels[train]).centroids_
        expected[test] = (vectors[test] @ units(means).T).argmax(axis=1)
    assert found.predicted.tolist() == expected.tolist()


def test_confusion_adds_up(blobs):
    vectors, labels = blobs(apart=0.4)
    found = cross_validate(vectors, labels, centroid)
    assert found.confusion.sum(axis=1).tolist() == [40, 25, 60]
    assert np.trace(found.confusion) == (found.predicted == labels).sum()
    wrong = ((labels == 0) & (found.predicted == 1)).sum()
    wrong += ((labels == 1) & (found.predicted == 0)).sum()
    shares = pair_confusion(found.confusion)
    assert shares[0, 1] == shares[1, 0] == wrong / 65
    assert np.isnan(shares.diagonal()).all()


def test_the_hardest_are_those_that_lie_elsewhere(blobs):
    vectors, labels = blobs(apart=4)
    vectors[5] = vectors[np.flatnonzero(labels != labels[5])[0]]
    for classifier in (linear, centroid, neighbours(5)):
        found = cross_validate(vectors, labels, classifier)
        assert 5 in hardest(found, 2)
        assert (found.margin[hardest(found, 9)] == np.sort(found.margin)[:9]).all()
    some = cross_validate(vectors, labels, centroid, sample=60)
    assert set(hardest(some, 10).tolist()) <= set(some.rows.tolist())
    assert len(hardest(some, 1000)) == len(some.rows)


def test_lengths_count_for_nothing_and_seeds_for_folds(blobs):
    vectors, labels = blobs(apart=0.4)
    longer = vectors * np.random.default_rng(2).uniform(0.1, 9, size=(len(vectors), 1))
    for classifier in (linear, centroid, neighbours(5)):
        one, other = (cross_validate(v, labels, classifier) for v in (vectors, longer))
        assert one.predicted.tolist() == other.predicted.tolist()
    again = cross_validate(vectors, labels, linear, seed=0)
    assert again.predicted.tolist() == cross_validate(vectors, labels, linear).predicted.tolist()
    assert (again.margin != cross_validate(vectors, labels, linear, seed=1).margin).any()


def test_a_label_that_is_only_known_to_those_who_have_seen_it():
    labels = np.arange(100) % 2
    assert cross_validate(np.eye(100), labels, linear).accuracy <= 0.5


def test_samples_keep_shares_and_small_classes():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [6000, 3000, 6]))
    rows = stratified(labels, 900, 5, 0)
    assert np.bincount(labels[rows]).tolist() == [600, 300, 5]
    assert (np.diff(rows) > 0).all()
    assert rows.tolist() == stratified(labels, 900, 5, 0).tolist()
    assert rows.tolist() != stratified(labels, 900, 5, 1).tolist()
    assert len(stratified(labels, 10_000, 5, 0)) == 9006


def test_too_few(blobs):
    vectors, labels = blobs((20, 4, 3))
    with pytest.raises(InputError, match="at least 5 records; fewer have: b, c"):
        cross_validate(vectors, labels, centroid, names=["a", "b", "c"])
    assert len(cross_validate(vectors, labels, centroid, folds=3).accuracies) == 3
    with pytest.raises(InputError, match="1 folds: at least two"):
        cross_validate(vectors, labels, centroid, folds=1)
    with pytest.raises(InputError, match="0 neighbours"):
        neighbours(0)


def test_77_intents(banking):
    vectors, labels, _ = banking
    found = cross_validate(vectors, labels, linear)
    assert found.accuracy == pytest.approx(0.8344, abs=0.006)
    assert found.macro_f1 == pytest.approx(found.accuracy, abs=0.01)
    near = cross_validate(vectors, labels, neighbours(10)).accuracy
    mean = cross_validate(vectors, labels, centroid).accuracy
    assert mean < near < found.accuracy
    assert mean == pytest.approx(0.786, abs=0.006)


def test_four_kinds_of_news(news):
    assert cross_validate(*news, linear).accuracy == pytest.approx(0.868, abs=0.005)
