import csv

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from embcli import load_encoder
from embcli.core.classification import linear_probe
from embcli.errors import InputError


def two_classes(n=200, dim=5, apart=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    vectors = rng.normal(size=(n, dim))
    vectors[:, 0] += apart * (2 * labels - 1)
    return vectors.astype(np.float32), labels


def test_every_record_is_classified_by_a_fit_without_it():
    vectors, labels = two_classes()
    found = linear_probe(vectors, labels, seed=3)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    expected = cross_val_predict(LogisticRegression(), unit, labels, cv=folds)
    assert found.accuracy == pytest.approx((expected == labels).mean())
    f1 = []
    for label in (0, 1):
        right = ((expected == label) & (labels == label)).sum()
        f1.append(2 * right / ((expected == label).sum() + (labels == label).sum()))
    assert found.macro_f1 == pytest.approx(np.mean(f1))
    assert found.converged


def test_lengths_and_rotations_change_nothing():
    vectors, labels = two_classes()
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    longer = vectors * np.random.default_rng(2).uniform(0.1, 9, size=(200, 1))
    for other in (vectors @ turn, longer):
        assert linear_probe(other, labels) == pytest.approx(linear_probe(vectors, labels))


def test_nothing_is_learnt_where_there_is_nothing():
    vectors, labels = two_classes(2000, apart=0)
    assert linear_probe(vectors, labels).accuracy == pytest.approx(0.5, abs=0.03)
    assert linear_probe(*two_classes(apart=100)).accuracy == 1
    # A label that is the number of the record is known to those who have seen it.
    assert linear_probe(np.eye(100), np.arange(100) % 2).accuracy <= 0.5


def test_too_few():
    vectors, labels = two_classes(20)
    with pytest.raises(
        InputError, match=r"at least 5 records each; there is 1, the smallest of 20"
    ):
        linear_probe(vectors, np.zeros(20, np.int64))
    labels[labels == 1] = np.repeat([1, 2], [6, 4])
    with pytest.raises(InputError, match="there are 3, the smallest of 4"):
        linear_probe(vectors, labels)


def test_77_intents(shared):
    with (shared / "banking77" / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    vectors = load_encoder("static").encode([row["text"] for row in rows], "document")
    labels = np.unique([row["category"] for row in rows], return_inverse=True)[1]
    found = linear_probe(vectors, labels)
    assert found.accuracy == pytest.approx(0.8344, abs=0.006)
    assert found.macro_f1 == pytest.approx(found.accuracy, abs=0.01)
