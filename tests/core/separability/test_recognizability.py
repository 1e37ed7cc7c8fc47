import random

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from embcli import load_encoder
from embcli.core.separability.neighbourhood import neighbourhood
from embcli.core.separability.recognizability import recognizability, unrecognizable
from embcli.errors import InputError


@pytest.fixture(scope="module")
def shuffled(banking):
    """Banking questions, the characters of 60 of them shuffled: vectors, labels, which."""
    vectors, labels, texts = banking
    rows = np.random.default_rng(0).choice(len(labels), 60, replace=False)
    rng = random.Random(0)
    junk = ["".join(rng.sample(texts[row], len(texts[row]))) for row in rows]
    vectors = vectors.copy()
    vectors[rows] = load_encoder("static").encode(junk, "document")
    return vectors, labels, rows


def test_the_definition_record_by_record(blobs):
    vectors, labels = blobs((5, 4, 6))
    away = np.random.default_rng(1).normal(size=(3, 6))
    found = recognizability(vectors, labels, away)
    units = vectors / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)

    def distance(x, rows):
        mean = rows.mean(axis=0)
        return 1 - x @ mean / np.linalg.norm(mean)

    centre = away / np.linalg.norm(away, axis=1, keepdims=True)
    for i, x in enumerate(units):
        others = np.arange(len(units)) != i
        own = distance(x, units[others & (labels == labels[i])])
        rest = {c: distance(x, units[labels == c]) for c in range(3) if c != labels[i]}
        u = distance(x, centre)
        assert found.next[i] == min(rest, key=rest.get)
        following = rest[found.next[i]]
        for value, expected in (
            (found.to_own[i], own),
            (found.to_next[i], following),
            (found.to_unrecognizable[i], u),
            (found.score[i], u * following / (own + following)),
        ):
            assert value == pytest.approx(expected, abs=1e-9)
    without = recognizability(vectors, labels)
    assert without.to_unrecognizable is None
    np.testing.assert_allclose(without.score * found.to_unrecognizable, found.score)


def test_scores_tell_which_prototype_is_nearer_and_lengths_nothing(blobs):
    vectors, labels = blobs(apart=0.6)
    found = recognizability(vectors, labels)
    assert ((found.score > 0.5) == (found.to_own < found.to_next)).all()
    assert 0 < (found.score < 0.5).mean() < 1
    longer = vectors * np.random.default_rng(0).uniform(0.1, 9, size=(len(vectors), 1))
    np.testing.assert_allclose(recognizability(longer, labels).score, found.score, atol=1e-6)
    points = recognizability(np.repeat(np.eye(3), 2, axis=0), np.repeat(np.arange(3), 2))
    assert points.score == pytest.approx(1)
    same = recognizability(np.ones((4, 2)), np.array([0, 0, 1, 1]))
    assert (same.score == 0.5).all()


def test_a_prototype_does_not_know_the_record():
    # Two records of a class on different axes: each is the prototype of the other.
    vectors = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]])
    found = recognizability(vectors, np.array([0, 0, 1, 1]))
    assert found.to_own == pytest.approx([1, 1, 0, 0], abs=1e-12)


def test_texts_without_words_are_told_from_questions(shuffled):
    vectors, labels, rows = shuffled
    known, rest = rows[:20], np.setdiff1d(np.arange(len(labels)), rows[:20])
    bad = np.isin(rest, rows)
    plain = recognizability(vectors, labels).score[rest]
    scored = recognizability(vectors, labels, vectors[known]).score[rest]
    assert roc_auc_score(~bad, plain) > 0.8
    assert roc_auc_score(~bad, scored) > 0.98


def test_they_are_found_where_classes_meet(shuffled):
    vectors, labels, rows = shuffled
    found = unrecognizable(vectors, neighbourhood(vectors, labels), 77)
    assert found.rule == "mixed"
    hits = np.isin(found.rows, rows)
    assert hits.sum() >= 40
    assert hits.mean() > 0.8
    scored = recognizability(vectors, labels, vectors[found.rows]).score
    bad = np.isin(np.arange(len(labels)), rows)
    assert roc_auc_score(~bad, scored) > 0.98


def test_short_vectors_are_unrecognizable_where_lengths_differ(blobs):
    vectors, labels = blobs()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors *= np.random.default_rng(0).normal(10, 1, size=(len(vectors), 1))
    vectors[[3, 70]] /= 5
    found = unrecognizable(vectors, neighbourhood(vectors, labels), 3)
    assert found.rule == "norm"
    assert found.rows.tolist() == [3, 70]


def test_noise_is_what_lies_apart_where_classes_are_few():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 4
    vectors = np.eye(4, 30)[labels] + 0.05 * rng.normal(size=(200, 30))
    vectors[[8, 50]] = np.eye(30)[[20, 21]]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = unrecognizable(vectors, neighbourhood(vectors, labels), 4)
    assert found.rule == "noise"
    assert {8, 50} <= set(found.rows.tolist())
    assert len(found.rows) < 6
    some = neighbourhood(vectors, labels, sample=100, seed=1)
    assert np.isin(unrecognizable(vectors, some, 4).rows, some.rows).all()


def test_unrecognizable_vectors_that_cannot_be_used(blobs):
    vectors, labels = blobs()
    with pytest.raises(InputError, match="have 5 components and the others 6"):
        recognizability(vectors, labels, np.ones((2, 5)))
    with pytest.raises(InputError, match="vector 0 is zeros only"):
        recognizability(vectors, labels, np.zeros((1, 6)))
    with pytest.raises(InputError, match="0 vectors: at least 1 is needed"):
        recognizability(vectors, labels, np.ones((0, 6)))
