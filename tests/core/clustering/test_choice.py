import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from embcli.core.clustering.choice import choose_k, mean_silhouette
from embcli.core.clustering.kmeans import kmeans
from embcli.core.cosine import unit32
from embcli.errors import InputError, UsageError


@pytest.mark.parametrize(
    ("method", "criterion"),
    [("kmeans", "silhouette"), ("kmeans", "stability"), ("gmm", "bic"), ("gmm", "silhouette")],
)
def test_groups_are_counted(caps, method, criterion):
    vectors, _ = caps((60,) * 5, dim=10, width=0.1)
    told = []
    found = choose_k(
        vectors, method=method, criterion=criterion, candidates=[2, 3, 5, 7, 9],
        advance=lambda *progress: told.append(progress),
    )  # fmt: skip
    assert found.k == 5
    assert [row["k"] for row in found.curve] == [2, 3, 5, 7, 9]
    best = (min if found.better == "low" else max)(row["value"] for row in found.curve)
    assert found.curve[2]["value"] == pytest.approx(best, abs=0.02)
    assert told[-1][:2] == (5, 5)


def test_the_grid_is_refined_around_its_best():
    rng = np.random.default_rng(0)
    vectors = unit32(np.eye(12)[np.arange(300) % 10] + 0.08 * rng.normal(size=(300, 12)))
    found = choose_k(vectors)
    assert found.k == 10
    looked = [row["k"] for row in found.curve]
    assert looked[:4] == [2, 3, 4, 6]
    assert max(looked) <= 3 * 300**0.5
    assert found.sample == 300
    assert choose_k(vectors, sample=200).sample == 200


def test_silhouettes_are_scikit_learns_but_for_clusters_of_one(caps):
    vectors, _ = caps(width=0.6)
    labels = kmeans(vectors, 5).labels
    expected = silhouette_score(vectors.astype(float), labels, metric="cosine")
    assert mean_silhouette(vectors, labels) == pytest.approx(expected, abs=1e-9)
    alone = labels.copy()
    alone[3], alone[7] = 5, -1
    assert np.isfinite(mean_silhouette(vectors, alone))
    assert mean_silhouette(vectors, np.zeros(125, int)) == 0
    assert mean_silhouette(vectors, np.arange(125)) == 0


def test_few_and_equal_vectors():
    same = choose_k(np.ones((6, 1), np.float32))
    assert same.k == 2
    assert all(np.isfinite(row["value"]) for row in same.curve)
    assert choose_k(np.eye(3, dtype=np.float32)).k == 2
    assert choose_k(np.eye(4, dtype=np.float32), criterion="stability").k in (2, 3)
    with pytest.raises(InputError):
        choose_k(np.eye(2, dtype=np.float32))
    for options in ({"criterion": "bic"}, {"criterion": "elbow"}, {"candidates": [1, 9]}):
        with pytest.raises(UsageError):
            choose_k(np.eye(5, dtype=np.float32), **options)
