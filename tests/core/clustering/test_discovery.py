"""Clusters beside known classes: they keep labelled rows, find the others, and count them."""

import csv

import numpy as np
import pytest

from embcli.core.clustering.discovery import discover, discovery_accuracy
from embcli.core.clustering.semi_supervised import semi_gmm, semi_kmeans
from embcli.core.cosine import unit32
from embcli.encoders import load_encoder
from embcli.errors import InputError, ModelError, UsageError

METHODS = ["kmeans", "gmm"]


def blobs(sizes=(60, 50, 40, 30, 20, 45), dim=16, spread=0.08, seed=0):
    """Rows around random directions, and which."""
    draw = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    rows = unit32(draw.standard_normal((len(sizes), dim)))[truth]
    order = draw.permutation(len(truth))
    rows = unit32(rows + spread * draw.standard_normal(rows.shape))
    return rows[order], truth[order]


def half_known(truth, known, seed=0):
    """Tell the class of half the rows of known classes."""
    told = np.random.default_rng(seed).random(len(truth)) < 0.5
    return np.where(told & np.isin(truth, known), truth, -1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [6, None])
def test_clear_classes_are_found_and_counted(method, k):
    vectors, truth = blobs()
    classes = half_known(truth, [0, 1, 2])
    found = discover(vectors, classes, k=k, method=method)
    assert found.k == 6
    assert found.known.tolist() == [0, 1, 2]
    # Known classes have their numbers, and the new ones follow by size: 45, 30, 20.
    assert np.array_equal(found.clusters.labels, np.array([0, 1, 2, 4, 5, 3])[truth])
    assert (k is None) == bool(found.curve)
    strengths = found.clusters.strengths
    assert (strengths[classes >= 0] == 1).all()
    assert ((strengths >= 0) & (strengths <= 1)).all()
    accuracy = discovery_accuracy(found.clusters.labels, truth, np.arange(3), classes >= 0)
    assert accuracy == (1, 1, 1)


@pytest.mark.parametrize("method", METHODS)
def test_labelled_rows_stay_even_where_others_are(method):
    vectors, truth = blobs()
    classes = half_known(truth, [0, 1, 2])
    stray = np.flatnonzero((truth == 4) & (classes < 0))[:3]
    classes[stray] = 1
    found = discover(vectors, classes, k=6, method=method)
    labelled = classes >= 0
    assert np.array_equal(found.clusters.labels[labelled], found.known[classes[labelled]])


def test_gaps_in_the_numbers_of_classes():
    vectors, truth = blobs()
    classes = half_known(truth, [1, 4])
    found = discover(vectors, classes, k=6)
    assert found.known.tolist() == [-1, 0, -1, -1, 1]
    labelled = classes >= 0
    assert np.array_equal(found.clusters.labels[labelled], found.known[classes[labelled]])


def test_the_result_depends_on_the_seed_only():
    vectors, truth = blobs(spread=0.4)
    classes = half_known(truth, [0, 1, 2])
    first, again = (discover(vectors, classes, k=8, seed=3) for _ in range(2))
    assert np.array_equal(first.clusters.labels, again.clusters.labels)
    scaled = discover(vectors * np.float32(4), classes, k=8, seed=3)
    assert np.array_equal(first.clusters.labels, scaled.clusters.labels)


def test_every_free_row_is_with_the_nearest_mean():
    vectors, truth = blobs(spread=0.5)
    classes = half_known(truth, [0, 1, 2])
    fit = semi_kmeans(vectors, classes, 7, sample=100)
    means = np.stack([vectors[fit.labels == cluster].mean(axis=0) for cluster in range(7)])
    squares = np.square(vectors[:, None] - means).sum(axis=2, dtype=float)
    free = classes < 0
    assert fit.converged
    assert np.array_equal(fit.labels[free], squares[free].argmin(axis=1))
    assert fit.objective == pytest.approx(squares[np.arange(len(truth)), fit.labels].sum(), 1e-5)


def test_the_mixture_is_that_of_scikit_learn_where_nothing_is_known():
    from sklearn.mixture import GaussianMixture

    vectors, truth = blobs(spread=0.45, dim=6)
    # One row is told, so little that both must agree.
    classes = np.full(len(truth), -1)
    start = semi_kmeans(vectors, np.where(np.arange(len(truth)) == 0, 0, -1), 6).labels
    fit = semi_gmm(vectors, classes, start, dimensions=6, shrinkage=0)
    means = np.stack([vectors[start == cluster].mean(axis=0) for cluster in range(6)])
    peer = GaussianMixture(
        6, covariance_type="tied", means_init=means, tol=1e-7, max_iter=500, reg_covar=0
    ).fit(vectors.astype(float))
    assert (fit.labels == peer.predict(vectors.astype(float))).mean() >= 0.99
    constant = -6 / 2 * np.log(2 * np.pi)
    assert fit.objective + constant == pytest.approx(peer.score(vectors), abs=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_one_labelled_record_a_class(method):
    vectors, truth = blobs()
    classes = np.full(len(truth), -1)
    for known in (0, 1):
        classes[np.flatnonzero(truth == known)[0]] = known
    found = discover(vectors, classes, k=6, method=method)
    assert discovery_accuracy(found.clusters.labels, truth, np.arange(2), classes >= 0).all == 1


@pytest.mark.parametrize("method", METHODS)
def test_classes_that_share_a_place_take_no_cluster_from_others(method):
    vectors, truth = blobs()
    classes = np.full(len(truth), -1)
    rows = np.flatnonzero(truth == 0)
    classes[rows[:10]], classes[rows[10:12]] = 0, 1
    found = discover(vectors, classes, k=7, method=method)
    new = truth > 1
    assert (
        discovery_accuracy(found.clusters.labels[new], truth[new], [], classes[new] >= 0).all == 1
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [None, 4])
def test_degenerate_input(method, k):
    same = np.ones((5, 3), np.float32)
    found = discover(same, np.array([0, 1, -1, -1, -1]), k=k, method=method)
    assert found.clusters.labels[:2].tolist() == [0, 1]
    assert np.isfinite(found.clusters.strengths).all()
    assert found.k == found.clusters.count
    told = discover(same, np.array([1, 0, 0, 1, 1]), k=k, method=method)
    assert told.clusters.labels.tolist() == [1, 0, 0, 1, 1]
    assert (told.k, told.curve) == (2, ())
    alone = discover(np.eye(3, dtype=np.float32)[:1], np.array([0]), method=method)
    assert (alone.k, alone.clusters.labels.tolist()) == (1, [0])
    two = discover(np.eye(3, dtype=np.float32)[:2], np.array([0, -1]), k=2, method=method)
    assert two.clusters.labels.tolist() == [0, 1]


def test_what_cannot_be():
    vectors, truth = blobs()
    classes = half_known(truth, [0, 1, 2])
    with pytest.raises(InputError, match="no record has a class"):
        discover(vectors, np.full(len(truth), -1))
    with pytest.raises(InputError, match="2 clusters cannot hold 3 known classes"):
        discover(vectors, classes, k=2)
    with pytest.raises(InputError, match="cannot be made of"):
        discover(vectors, classes, k=len(vectors) + 1)
    with pytest.raises(InputError, match="at least 1 is needed"):
        discover(vectors[:0], classes[:0])
    with pytest.raises(InputError, match="for 245 vectors"):
        discover(vectors, classes[1:])
    with pytest.raises(UsageError, match="kmeans or gmm"):
        discover(vectors, classes, method="leiden")


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setattr("embcli.core.optional.find_spec", lambda module: None)
    vectors, truth = blobs()
    with pytest.raises(ModelError) as caught:
        discover(vectors, half_known(truth, [0]))
    assert caught.value.hint == "pip install 'embcli[cluster]'"


def test_accuracy_is_assigned_once_for_old_and_new_together():
    truth = np.array([0, 0, 0, 1, 1, 2, 2, 2, 0])
    labels = np.array([5, 5, 1, 1, 1, 1, 0, -1, 3])
    labelled = np.arange(9) == 8
    accuracy = discovery_accuracy(labels, truth, np.array([0, 1]), labelled)
    assert accuracy == (5 / 8, 4 / 5, 1 / 3)
    from itertools import permutations

    best = max(
        np.mean(
            [
                dict(zip(names, range(3), strict=False)).get(x) == y
                for x, y in zip(labels[:8], truth, strict=False)
            ]
        )
        for names in permutations([0, 1, 3, 5], 3)
    )
    assert accuracy.all == best
    every = np.ones(9, bool)
    assert np.isnan(discovery_accuracy(labels, truth, np.array([0]), every)).all()


def test_progress_is_told():
    vectors, truth = blobs()
    told = []
    discover(vectors, half_known(truth, [0, 1]), advance=lambda *count: told.append(count))
    assert [done for done, _, _ in told] == list(range(1, len(told) + 1))
    assert len(told) <= told[0][1]


@pytest.mark.slow
def test_banking77_half_of_the_intents_known(shared):
    """The protocol of generalized category discovery; k-means without labels: 58, 50, 62 %."""
    with open(shared / "banking77" / "test.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    truth = np.unique([row["category"] for row in rows], return_inverse=True)[1]
    vectors = load_encoder("static").encode([row["text"] for row in rows])
    draw = np.random.default_rng(0)
    known = np.sort(draw.choice(77, 38, replace=False))
    labelled = np.isin(truth, known) & (draw.random(len(truth)) < 0.5)
    classes = np.where(labelled, truth, -1)
    found = discover(vectors, classes, k=77)
    accuracy = discovery_accuracy(found.clusters.labels, truth, known, labelled)
    assert accuracy.all >= 0.59
    assert accuracy.old >= 0.58
    assert accuracy.new >= 0.56
