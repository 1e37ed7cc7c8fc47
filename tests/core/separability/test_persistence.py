"""The spanning tree and the persistence of components."""

import csv
import tracemalloc

import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from embcli import load_encoder
from embcli.core.correlation import spearman
from embcli.core.cosine import unit
from embcli.core.separability import spanning_tree as module
from embcli.core.separability.persistence import persistence
from embcli.core.separability.spanning_tree import spanning_tree
from embcli.errors import InputError, UsageError


def cloud(n=500, dim=5, seed=0, dtype=np.float32):
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(dtype)
    vectors[: n // 3] += 2
    return vectors


def dense_lengths(vectors):
    """By SciPy, of the matrix of all distances; more by 1, since 0 is no edge to it."""
    distances = squareform(pdist(unit(vectors)))
    return np.sort(minimum_spanning_tree(distances + 1).data) - 1


def fisher(vectors, labels):
    """Between-class by within-class scatter of directions."""
    rows = unit(vectors)
    centres = np.stack([rows[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    between = np.square(centres[labels] - rows.mean(axis=0)).sum()
    return between / np.square(rows - centres[labels]).sum()


def measured(spaces, labels):
    """Scores and Fisher ratios, a column for each space."""
    return np.array([(persistence(space).score, fisher(space, labels)) for space in spaces]).T


@pytest.mark.parametrize(
    ("n", "dim", "dtype"),
    [(2, 3, np.float32), (5, 2, np.float64), (700, 2, np.float32), (900, 40, np.float32)],
)
def test_lengths_are_those_of_the_dense_tree(n, dim, dtype):
    vectors = cloud(n, dim, dtype=dtype)
    np.testing.assert_allclose(spanning_tree(vectors).lengths, dense_lengths(vectors), atol=1e-9)


@pytest.mark.parametrize("listed", [1, 3])
def test_few_neighbours_make_the_same_tree(monkeypatch, listed):
    """Then most components are joined by what is found among all vectors."""
    monkeypatch.setattr(module, "_LISTED", listed)
    monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", 9000)
    vectors = cloud(600, 20, seed=4)
    np.testing.assert_allclose(spanning_tree(vectors).lengths, dense_lengths(vectors), atol=1e-9)


def test_copies_and_all_but_copies_are_joined_first():
    vectors = cloud(400, 12, seed=1)
    vectors[100:150] = vectors[99]
    vectors[200:220] = vectors[199] * np.linspace(0.5, 3, 20, dtype=np.float32)[:, None]
    vectors[300] = vectors[299]
    vectors[300, 0] += 1e-5
    tree = spanning_tree(vectors)
    np.testing.assert_allclose(tree.lengths, dense_lengths(vectors), atol=1e-7)
    assert (tree.lengths < 1e-6).sum() == 50 + 20
    assert 1e-7 < tree.lengths[71] < 1e-4 or 1e-7 < tree.lengths[70] < 1e-4


def test_a_matrix_of_all_distances_is_never_there(monkeypatch):
    monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", 1 << 18)
    rng = np.random.default_rng(0)
    # Ten of a kind: after the first round, no listed neighbour is outside of its component.
    vectors = np.repeat(rng.normal(size=(600, 32)), 10, axis=0) + 0.01 * rng.normal(size=(6000, 32))
    tracemalloc.start()
    spanning_tree(vectors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6000**2 * 4 / 2


def test_edges_are_a_tree_and_have_their_lengths():
    vectors = cloud()
    tree = spanning_tree(vectors)
    left, right = tree.edges.T
    assert (left < right).all()
    assert (np.diff(tree.lengths) >= 0).all()
    rows = unit(vectors)
    np.testing.assert_allclose(np.linalg.norm(rows[left] - rows[right], axis=1), tree.lengths)
    groups = list(range(len(vectors)))
    for one, other in tree.edges:
        assert groups[one] != groups[other]
        groups = [groups[one] if group == groups[other] else group for group in groups]
    assert len(set(groups)) == 1


def test_bars_are_those_of_ripser_and_gudhi():
    vectors = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    vectors[:4] += 2
    # ripser 0.6.15: np.sort(ripser(unit(vectors), maxdim=0)["dgms"][0][:-1, 1]); gudhi 3.13.0
    # gives the same: RipsComplex(points=unit(vectors)).create_simplex_tree(max_dimension=1).
    expected = [
        0.08315709233283997, 0.2671421468257904, 0.2911677956581116, 0.3507803976535797,
        0.4106297492980957, 0.44084030389785767, 0.4542184948730469, 0.600630521774292,
        0.8024117946624756, 1.0026469230651855, 1.6230854988098145,
    ]  # fmt: skip
    np.testing.assert_allclose(persistence(vectors).times, expected, rtol=2e-7)


def test_the_score_of_times_that_are_known():
    angles = np.radians([0, 10, 20, 30, 120])
    found = persistence(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    chords = 2 * np.sin(np.radians([10, 10, 10, 90]) / 2)
    np.testing.assert_allclose(found.times, chords)
    assert found.total == pytest.approx(chords.sum())
    assert found.mean == pytest.approx(chords.mean())
    assert found.score == pytest.approx(1 - chords.mean() / chords[-1])
    shares = chords / chords.sum()
    assert found.entropy == pytest.approx(-(shares * np.log(shares)).sum() / np.log(4))
    assert found.edges[-1].tolist() == [3, 4]
    assert found.n == 5
    even = np.radians(np.arange(12) * 30)
    ring = persistence(np.stack([np.cos(even), np.sin(even)], axis=1))
    assert ring.score == pytest.approx(0, abs=1e-12)
    assert ring.entropy == pytest.approx(1)


def test_lengths_rotations_and_order_change_nothing():
    vectors = cloud(300, 6, dtype=np.float64)
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    order = rng.permutation(300)
    expected = persistence(vectors)
    for other in (vectors @ turn, vectors[order], vectors * rng.uniform(0.1, 9, size=(300, 1))):
        found = persistence(other)
        np.testing.assert_allclose(found.times, expected.times, atol=1e-9)
        assert found.score == pytest.approx(expected.score)
    moved = {frozenset(order[edge]) for edge in persistence(vectors[order]).edges}
    assert moved == {frozenset(edge) for edge in expected.edges}


def test_a_sample_is_drawn_once_and_named():
    vectors = cloud(400)
    found = persistence(vectors, sample=100, seed=3)
    assert found.n == 100
    assert len(np.unique(found.edges)) == 100
    again = persistence(vectors, sample=100, seed=3)
    assert (again.edges == found.edges).all()
    assert (persistence(vectors, sample=100, seed=4).times != found.times).any()
    rows = unit(vectors)
    left, right = found.edges.T
    np.testing.assert_allclose(np.linalg.norm(rows[left] - rows[right], axis=1), found.times)


def test_totals_of_samples_agree_once_scaled():
    """Three-dimensional vectors have two dimensions of direction."""
    vectors = np.random.default_rng(0).normal(size=(8000, 3))
    few, many = (persistence(vectors, sample=sample) for sample in (500, 8000))
    assert many.total / few.total > 3.5
    assert many.mean / few.mean < 0.3
    assert many.scaled_total(2) == pytest.approx(few.scaled_total(2), rel=0.05)


def test_the_score_rises_as_centres_move_apart():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 800)
    centres, noise = rng.normal(size=(5, 32)), rng.normal(size=(800, 32))
    apart = (0, 0.5, 1, 1.5, 2, 3, 5, 8)
    assert spearman(*measured([noise + far * centres[labels] for far in apart], labels)) == 1


@pytest.mark.slow
def test_the_score_ranks_real_spaces_as_the_fisher_ratio_does(shared):
    with (shared / "banking77" / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    labels = np.unique([intent for _, intent in rows], return_inverse=True)[1]
    static = load_encoder("static").encode([text for text, _ in rows])
    rng = np.random.default_rng(0)
    noise = rng.normal(size=static.shape) / 16
    rows = unit(static)
    noisy = [rows + much * noise for much in (0.3, 0.6, 1, 2)]
    truncated = [static[:, :dims] for dims in (256, 128, 64, 32)]
    # As training does: every vector on its way to the mean of its class.
    centres = np.stack([rows[labels == label].mean(axis=0) for label in range(77)])
    trained = [(1 - way) * rows + way * centres[labels] for way in (0.2, 0.4, 0.6, 0.8)]
    found = measured(truncated + noisy + trained, labels)
    assert spearman(*found[:, [0, 4, 5, 6, 7]]) == 1
    assert spearman(*found[:, [0, 8, 9, 10, 11]]) == 1
    assert spearman(*found) > 0.9


def test_what_has_no_components_is_refused():
    with pytest.raises(InputError, match="2 vectors: at least 3 are needed"):
        persistence(cloud(2))
    with pytest.raises(InputError, match="all vectors have the same direction"):
        persistence(np.outer([1.0, 2, 3], [1, 1]))
    vectors = cloud(9)
    vectors[4, 1] = np.nan
    with pytest.raises(InputError, match="vector 4 has a number that is not finite"):
        persistence(vectors)
    vectors[4] = 0
    with pytest.raises(InputError, match="vector 4 is zeros only"):
        persistence(vectors)
    with pytest.raises(UsageError, match="a sample of 2 is too small"):
        persistence(cloud(), sample=2)
