import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from embcli.core import duplicates
from embcli.core.duplicates import NearPairs, single_groups, star_groups


@st.composite
def clouds(draw):
    """Vectors around a few centres, some equal, some zero, and a threshold."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    n, dim = draw(st.integers(1, 120)), draw(st.integers(1, 40))
    centres = rng.normal(size=(draw(st.integers(1, 8)), dim))
    noise = draw(st.sampled_from([0.0, 0.1, 0.4, 1.0]))
    vectors = centres[rng.integers(0, len(centres), n)] + noise * rng.normal(size=(n, dim))
    vectors *= rng.uniform(0.1, 10, (n, 1))
    vectors[rng.random(n) < 0.05] = 0
    return vectors.astype(np.float32), draw(st.sampled_from([0.2, 0.5, 0.8, 0.95, 1.0]))


def cosines(vectors):
    exact = vectors.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    units = exact / np.where(norms > 0, norms, 1)
    return (units @ units.T).round(9)


def expected_star(vectors, threshold):
    scores = cosines(vectors)
    kept = []
    for row in range(len(vectors)):
        if not any(scores[row, other] >= threshold for other in kept):
            kept.append(row)
    result = []
    for row in range(len(vectors)):
        before = [other for other in kept if other < row and scores[row, other] >= threshold]
        result.append(row if row in kept else max(before, key=lambda k: (scores[row, k], -k)))
    return np.array(result)


def expected_single(vectors, threshold):
    _, labels = connected_components(cosines(vectors) >= threshold, directed=False)
    return np.array([np.flatnonzero(labels == label)[0] for label in labels])


@pytest.fixture(autouse=True, params=["one block, whole", "many blocks, shortened"])
def blocks(request, monkeypatch):
    if request.param.startswith("many"):
        sizes = {"_ROWS": 8, "_COLUMNS": 16, "_PENDING": 8, "_AXES": 0, "_WIDTHS": (2, 4, 8, 16)}
        for name, value in sizes.items():
            monkeypatch.setattr(duplicates, name, value)


@settings(deadline=None, max_examples=60)
@given(clouds())
def test_stars_are_those_of_the_definition(cloud):
    vectors, threshold = cloud
    found = star_groups(vectors, threshold)
    np.testing.assert_array_equal(found.kept, expected_star(vectors, threshold))
    alone = found.kept == np.arange(len(vectors))
    assert (found.scores[alone] == 1).all()
    near = cosines(vectors)[np.arange(len(vectors)), found.kept]
    np.testing.assert_allclose(found.scores[~alone], near[~alone], atol=2e-9)


@settings(deadline=None, max_examples=60)
@given(clouds())
def test_chains_are_connected_components(cloud):
    vectors, threshold = cloud
    found = single_groups(vectors, threshold)
    np.testing.assert_array_equal(found.kept, expected_single(vectors, threshold))
    near = cosines(vectors)[np.arange(len(vectors)), found.kept]
    others = found.kept != np.arange(len(vectors))
    np.testing.assert_allclose(found.scores[others], near[others], atol=2e-9)


@settings(deadline=None, max_examples=60)
@given(clouds(), st.sampled_from([1, 2, 5, 16]))
def test_no_pair_is_lost_however_short_the_vectors(cloud, width):
    vectors, threshold = cloud
    n = len(vectors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_WIDTHS", (width,))
        patch.setattr(duplicates, "_MULTIPLY", 1e9)
        pairs = NearPairs(vectors, threshold)
    assert pairs._short.shape[1] == min(width, vectors.shape[1])
    found = {
        pair
        for candidates in pairs.candidates(np.arange(n), 0, n)
        for pair in zip(*(side.tolist() for side in pairs.among(*candidates)[:2]), strict=True)
    }
    near = np.argwhere(np.triu(cosines(vectors) >= threshold, 1))
    assert found == {tuple(pair) for pair in near.tolist()}


def test_few_components_are_enough_where_vectors_have_directions():
    rng = np.random.default_rng(0)
    spread = 0.8 ** np.arange(128)
    vectors = (rng.normal(size=(3000, 128)) * spread).astype(np.float32)
    assert NearPairs(vectors, 0.95)._short.shape[1] <= 32
    assert NearPairs(np.eye(64, dtype=np.float32), 0.01)._short.shape == (64, 64)


def test_progress_counts_pairs():
    steps = []
    star_groups(np.eye(50, 60, dtype=np.float32), 0.5, lambda *step: steps.append(step))
    assert steps[-1] == (50 * 49 // 2, 50 * 49 // 2, 50)
    assert steps == sorted(steps)


def test_nothing_to_compare():
    for find in (star_groups, single_groups):
        assert len(find(np.empty((0, 4), np.float32), 0.9).kept) == 0
        assert find(np.zeros((3, 4), np.float32), 0.9).kept.tolist() == [0, 1, 2]
