import csv

import numpy as np
import pytest
from sklearn.cluster import KMeans

from embcli import load_encoder
from embcli.core.clustering import centres as centres_module
from embcli.core.clustering.agreement import agreement
from embcli.core.clustering.centres import assign, means, strengths, sums
from embcli.core.clustering.kmeans import kmeans
from embcli.core.cosine import unit32
from embcli.errors import InputError, UsageError


def inertia(vectors, labels):
    middles = [vectors[labels == c].mean(axis=0) for c in range(labels.max() + 1)]
    return np.square(vectors - np.stack(middles)[labels]).sum()


def test_groups_that_are_apart_are_found_by_size(caps):
    vectors, classes = caps(width=0.1)
    found = kmeans(vectors, 3)
    assert found.labels.tolist() == classes.tolist()
    assert found.strengths.dtype == np.float32
    assert 0.5 < found.strengths.min() <= found.strengths.max() <= 1
    assert found.details["k"] == found.count == 3


def test_labels_are_those_of_the_nearest_mean_and_the_inertia_is_theirs(caps):
    vectors, _ = caps((200, 150, 100), width=1)
    found = kmeans(vectors, 12)
    centres = means(vectors, found.labels, 12)
    cosines = vectors.astype(float) @ centres.T.astype(float)
    # The last step moves centres by next to nothing.
    assert (cosines.argmax(axis=1) == found.labels).mean() > 0.98
    own = cosines[np.arange(len(vectors)), found.labels]
    assert found.details["inertia"] == pytest.approx((1 - own).sum(), rel=1e-3)
    second = np.sort(cosines, axis=1)[:, -2]
    right = cosines.argmax(axis=1) == found.labels
    expected = 1 - (1 - own) / (1 - second)
    np.testing.assert_allclose(found.strengths[right], expected[right], atol=0.05)


def test_it_is_as_good_as_scikit_learns(caps):
    vectors, _ = caps((100,) * 10, dim=16, width=0.5)
    ours = [inertia(vectors, kmeans(vectors, 25, seed=seed).labels) for seed in range(3)]
    theirs = [KMeans(25, n_init=5, random_state=s).fit(vectors).inertia_ for s in range(3)]
    assert np.mean(ours) < 1.01 * np.mean(theirs)


def test_the_seed_decides_and_threads_do_not(caps, monkeypatch):
    monkeypatch.setattr(centres_module, "_ROWS", 64)
    vectors, _ = caps((300, 200), width=1)
    first, again = kmeans(vectors, 9, seed=3), kmeans(vectors, 9, seed=3)
    for module in ("centres", "kmeans"):
        monkeypatch.setattr(f"embcli.core.clustering.{module}.THREADS", 1)
    alone = kmeans(vectors, 9, seed=3)
    assert first.labels.tolist() == again.labels.tolist() == alone.labels.tolist()
    assert first.strengths.tobytes() == alone.strengths.tobytes()
    assert first.labels.tolist() != kmeans(vectors, 9, seed=4).labels.tolist()


def test_more_restarts_are_never_worse(caps):
    vectors, _ = caps((100,) * 6, width=1)
    several = [kmeans(vectors, 20, restarts=r).details["inertia"] for r in (1, 3, 10)]
    assert several == sorted(several, reverse=True)
    assert several[0] > several[-1]


def test_restarts_on_a_sample_go_on_with_all(caps):
    vectors, classes = caps((400, 300, 200), width=0.2)
    seen = []
    found = kmeans(vectors, 3, sample=50, advance=lambda *told: seen.append(told))
    assert found.details["sample"] == 192  # 64 a cluster are more than 50
    assert agreement(found.labels, classes).ari > 0.95
    assert seen[-1] == (6, 6, 900)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_few_different_vectors_make_few_clusters(k):
    same = kmeans(unit32(np.ones((5, 3))), k)
    assert same.labels.tolist() == [0] * 5
    assert np.isfinite(same.strengths).all()
    two = kmeans(np.repeat(np.eye(2, dtype=np.float32), 4, axis=0), max(k, 2))
    assert two.count == 2
    assert two.strengths.tolist() == [1] * 8


def test_opposite_vectors_have_a_mean_without_direction():
    found = kmeans(np.array([[1, 0], [-1, 0]], np.float32), 1)
    assert found.labels.tolist() == [0, 0]
    assert np.isfinite(found.strengths).all()


def test_what_cannot_be_clustered_is_refused(caps):
    vectors, _ = caps()
    with pytest.raises(InputError, match="3 vectors cannot make 4 clusters"):
        kmeans(vectors[:3], 4)
    with pytest.raises(InputError, match="at least 1 is needed"):
        kmeans(vectors[:0], 1)
    with pytest.raises(InputError, match="zeros only"):
        kmeans(np.zeros((3, 2), np.float32), 1)
    for k, restarts in ((0, 1), (1, 0)):
        with pytest.raises(UsageError):
            kmeans(vectors, k, restarts=restarts)


def test_sums_and_nearest_centres_are_those_of_brute_force(caps, monkeypatch):
    monkeypatch.setattr(centres_module, "_ROWS", 32)
    vectors, classes = caps((60, 40, 25, 10))
    labels = np.where(np.arange(len(classes)) % 7 == 0, -1, classes)
    expected = np.stack([vectors[labels == c].sum(axis=0) for c in range(4)])
    np.testing.assert_allclose(sums(vectors, labels, 4), expected, atol=1e-4)
    centres = means(vectors, labels, 4)
    cosines = vectors @ centres.T
    found = assign(vectors, centres)
    assert found.labels.tolist() == cosines.argmax(axis=1).tolist()
    np.testing.assert_allclose(found.second, np.sort(cosines, axis=1)[:, -2], atol=1e-6)
    firm = strengths(vectors, labels, centres)
    assert (firm[labels < 0] == 0).all()
    i = int(np.flatnonzero(labels == 2)[0])
    other = np.delete(cosines[i], 2).max()
    assert firm[i] == pytest.approx(max(0, 1 - (1 - cosines[i, 2]) / (1 - other)), abs=1e-5)


@pytest.mark.slow
def test_real_classes_come_out_as_by_independent_scripts(shared):
    with (shared / "banking77" / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    vectors = unit32(load_encoder("static").encode([row["text"] for row in rows], "document"))
    classes = np.unique([row["category"] for row in rows], return_inverse=True)[1]
    found = agreement(kmeans(vectors, 77).labels, classes)
    assert found.v_measure >= 0.738
    assert found.ari >= 0.409
    with (shared / "ag_news" / "test.csv").open(newline="", encoding="utf-8") as file:
        news = list(csv.reader(file))
    texts = [f"{title} {body}" for _, title, body in news]
    vectors = unit32(load_encoder("static").encode(texts, "document"))
    topics = np.array([int(row[0]) for row in news])
    found = agreement(kmeans(vectors, 4).labels, topics)
    assert found.v_measure >= 0.56
    assert found.ari >= 0.6
