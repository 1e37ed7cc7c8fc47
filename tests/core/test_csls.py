import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embcli.core import csls as module
from embcli.core import matching
from embcli.core import neighbours as blocks
from embcli.core.csls import csls, densities
from embcli.core.neighbours import neighbours
from tests.conftest import SHARED


def cosines(a, b):
    a, b = (x.astype(np.float64) for x in (a, b))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return (a @ b.T).round(9)


@st.composite
def two_sides(draw):
    """Two sets of vectors: some rows equal, some in a crowd, some lonely."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    n, m, dim = draw(st.integers(1, 90)), draw(st.integers(1, 90)), draw(st.integers(2, 12))
    a = rng.normal(size=(n, dim)) + draw(st.sampled_from([0, 2])) * (np.arange(n) % 3 > 0)[:, None]
    b = a[rng.integers(0, n, m)] + draw(st.sampled_from([0.0, 0.3, 2.0])) * rng.normal(
        size=(m, dim)
    )
    return a.astype(np.float32), b.astype(np.float32)


@pytest.fixture(params=[7, 32, 2048])
def block(request, monkeypatch):
    for part in (module, blocks):
        monkeypatch.setattr(part, "BLOCK", request.param)
    return request.param


def by_sorting(scores, k):
    return -np.sort(-scores, axis=1)[:, :k]


@settings(deadline=None, max_examples=80)
@given(two_sides(), st.integers(1, 4), st.sampled_from([7, 2048]), st.sampled_from([0, 2, 32]))
def test_csls_is_brute_force(sides, k, size, width):
    a, b = sides
    scores = cosines(a, b)
    r_a = by_sorting(scores, 3).mean(axis=1)
    r_b = by_sorting(scores.T, 3).mean(axis=1)
    values = 2 * scores - r_a[:, None] - r_b
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", size)
        patch.setattr(blocks, "BLOCK", size)
        patch.setattr(module, "_WIDTH", width)
        found = csls(a, b, k, neighbourhood=3)
    k = min(k, len(b))
    assert found.rows.tolist() == np.repeat(np.arange(len(a)), k).tolist()
    assert found.ranks.tolist() == [*range(1, k + 1)] * len(a)
    np.testing.assert_allclose(found.values.reshape(-1, k), by_sorting(values, k), atol=1e-6)
    np.testing.assert_allclose(values[found.rows, found.columns], found.values, atol=1e-6)
    np.testing.assert_allclose(scores[found.rows, found.columns], found.cosines, atol=2e-9)


def test_what_is_near_nothing_is_found_though_many_are_nearer(block, monkeypatch):
    # A crowd around the first axis, whose densities are high, and one vector farther away that
    # has nobody: CSLS prefers it, and among the nearest it is not.
    monkeypatch.setattr(module, "_WIDTH", 1)
    rng = np.random.default_rng(0)
    crowd = np.eye(8)[0] + rng.normal(size=(60, 8)) * [0, *[0.05] * 7]
    lonely = np.eye(8)[0] * 0.8 + np.eye(8)[1] * 0.6
    query = np.eye(8)[0] + np.eye(8)[1] * 0.3
    a = np.vstack([query, crowd]).astype(np.float32)
    b = np.vstack([crowd, lonely]).astype(np.float32)
    of_a, _ = neighbours(a, b, 5)
    found = csls(a, b, 1, neighbourhood=3)
    exact = 2 * cosines(a, b) - by_sorting(cosines(b, a), 3).mean(axis=1)
    assert exact[0].argmax() == 60
    assert 60 not in of_a.others[0]
    assert found.columns[0] == 60
    assert found.columns.tolist() == exact.argmax(axis=1).tolist()


def test_of_equals_the_first(block):
    a = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    b = np.vstack([a, a, a])
    of_a, of_b = neighbours(a, b, 3)
    assert np.sort(of_a.others)[:, :3].tolist() == [[i, i + 40, i + 80] for i in range(40)]
    assert of_b.others[:, 0].tolist() == [*range(40)] * 3
    assert csls(a, b).columns.tolist() == [*range(40)]


def test_a_vector_of_zeros_is_near_nothing():
    a = np.vstack([np.zeros(3), np.eye(3)]).astype(np.float32)
    r_a, r_b = densities(a, a, 1)
    assert r_a.tolist() == r_b.tolist() == [0, 1, 1, 1]


@pytest.mark.slow
def test_real_vectors_match_as_with_two_passes():
    path = SHARED / "words" / "gnews13k.npz"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    vectors = np.load(path)["vecs"].astype(np.float32)
    rng = np.random.default_rng(0)
    a = vectors[:5000]
    b = a + 0.05 * rng.normal(size=a.shape).astype(np.float32)
    b = b[rng.permutation(len(b))]
    told = []
    found = csls(a, b, advance=lambda *progress: told.append(progress))
    both = matching.nearest(a, b, 10), matching.nearest(b, a, 10)
    again = matching.nearest(
        a, b, 1, density=(matching.densities(both[0], 5000), matching.densities(both[1], 5000))
    )
    np.testing.assert_array_equal(found.columns, again.columns)
    np.testing.assert_allclose(found.values, again.values, atol=2e-6)
    assert told[-1] == (5000**2, 5000**2, 5000)
    assert len(told) == 3
