import math

import numpy as np
import pytest
from sklearn.decomposition import PCA

from embcli.core.cosine import unit
from embcli.core.debiasing.subspace import (
    bias_subspace,
    direct_bias,
    indirect_bias,
    projections,
    relation_vector,
    ripa,
)
from embcli.errors import InputError


def made(n, dim=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim))


def pairs_along(direction, m=12, noise=0.1, seed=0):
    """Pairs that differ in one direction and a little in others."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(m, 1, len(direction)))
    apart = direction * rng.uniform(0.5, 1, (m, 1, 1)) * [[[1], [-1]]]
    return middles + apart + noise * rng.normal(size=(m, 2, len(direction)))


def turn(dim=8, seed=9):
    return np.linalg.qr(made(dim, dim, seed))[0]


def test_subspace_is_scikit_learns_pca_of_centred_pairs():
    pairs = pairs_along(np.eye(8)[2])
    scaled = unit(pairs)
    rows = (scaled - scaled.mean(axis=1, keepdims=True)).reshape(-1, 8)
    expected = PCA().fit(rows)
    found = bias_subspace(list(pairs), k=3)
    assert np.allclose(found.explained, expected.explained_variance_ratio_)
    assert np.allclose(np.abs(found.basis @ expected.components_[:3].T), np.eye(3))
    assert np.allclose(found.basis @ found.basis.T, np.eye(3))
    assert found.explained.sum() == pytest.approx(1)


def test_first_words_lie_on_the_positive_side():
    pairs = pairs_along(np.eye(8)[2])
    (basis, _), (other, _) = bias_subspace(list(pairs), 2), bias_subspace(list(pairs[:, ::-1]), 2)
    assert np.allclose(basis, -other)
    assert (unit(pairs[:, 0]) @ basis[0]).mean() > (unit(pairs[:, 1]) @ basis[0]).mean()
    # Where neither side is first, the largest component is positive.
    for seed in range(6):
        pairs = pairs_along(np.eye(8)[2], seed=seed)
        for mirrored in ([*pairs, *pairs[:, ::-1]], [*pairs[:, ::-1], *pairs]):
            assert bias_subspace(mirrored).basis[0, 2] > 0.9


def test_subspace_does_not_see_lengths_and_turns_with_the_space():
    pairs, rotation = pairs_along(np.eye(8)[2]), turn()
    found = bias_subspace(list(pairs), 2)
    lengths = np.random.default_rng(3).uniform(0.1, 10, (len(pairs), 2, 1))
    assert np.allclose(bias_subspace(list(lengths * pairs), 2).basis, found.basis)
    turned = bias_subspace(list(pairs @ rotation), 2)
    assert np.allclose(turned.basis, found.basis @ rotation)
    assert np.allclose(turned.explained, found.explained)


def test_sets_of_several_words_weigh_the_same():
    # Manzini et al.: three classes span two directions.
    rng = np.random.default_rng(0)
    corners = np.zeros((3, 8))
    corners[:, :2] = [[1, 0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]]
    sets = [0.3 * corners + np.eye(8)[3 + i] + 0.01 * rng.normal(size=(3, 8)) for i in range(5)]
    found = bias_subspace(sets, 2)
    assert np.linalg.norm(found.basis[:, :2]) == pytest.approx(math.sqrt(2), abs=0.01)
    assert found.explained[:2].sum() > 0.95
    # A set whose words all come twice is the same set.
    doubled = bias_subspace([np.repeat(sets[0], 2, axis=0), *sets[1:]], 2)
    assert np.allclose(doubled.explained[:4], found.explained[:4])
    assert np.allclose(doubled.basis, found.basis)


@pytest.mark.parametrize(
    ("sets", "k", "message"),
    [
        ([], 1, "at least two definitional pairs, and there are 0"),
        ([made(2)], 1, "at least two definitional pairs, and there is 1"),
        ([made(2), made(1)], 1, "at least two words, and one has 1"),
        ([made(2), made(2, seed=1)], 3, "2 definitional sets span 2 directions, and a subspace"),
        ([made(2), 3 * made(2)], 2, "2 definitional sets span 1 direction, and a subspace of 2"),
        ([np.ones((3, 8)), np.ones((3, 8))], 1, "span 0 directions"),
        ([made(2), made(2, seed=1)], 0, "a subspace of 0"),
    ],
)
def test_sets_that_span_too_little(sets, k, message):
    with pytest.raises(InputError, match=message):
        bias_subspace(sets, k)


def test_projections_are_cosines():
    vectors, basis = made(40_000), turn()[:2]
    found = projections(vectors.astype(np.float32), basis)
    expected = vectors @ basis.T / np.linalg.norm(vectors, axis=1)[:, None]
    assert np.allclose(found, expected, atol=1e-6)
    assert (projections(np.zeros((1, 8)), basis) == 0).all()
    # Over a whole basis their squares are all there is.
    assert np.allclose((projections(vectors, turn()) ** 2).sum(axis=1), 1)


def test_direct_bias():
    vectors, basis = made(50), np.eye(8)[:1]
    cosines = np.abs(vectors[:, 0]) / np.linalg.norm(vectors, axis=1)
    for c in (0.5, 1, 2):
        assert direct_bias(vectors, basis, c) == pytest.approx((cosines**c).mean())
        assert direct_bias(3 * vectors @ turn(), basis @ turn(), c) == pytest.approx(
            direct_bias(vectors, basis, c)
        )
    assert direct_bias(vectors, np.eye(8)[:3]) == pytest.approx(
        np.mean(np.linalg.norm(vectors[:, :3], axis=1) / np.linalg.norm(vectors, axis=1))
    )
    assert direct_bias(vectors, np.eye(8)) == pytest.approx(1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_strictest_direct_bias_counts_words(dtype):
    basis = turn()[:1]
    vectors = made(60).astype(dtype)
    vectors[:45] -= ((vectors[:45] @ basis.T.astype(dtype)) @ basis).astype(dtype)
    assert direct_bias(vectors, basis, 0) == 0.25
    assert direct_bias(vectors[:45], basis, 0) == 0


def test_direct_bias_of_nothing():
    with pytest.raises(InputError, match="at least one neutral word"):
        direct_bias(np.empty((0, 8)), np.eye(8)[:1])
    with pytest.raises(InputError, match="0 or more, not -1"):
        direct_bias(made(3), np.eye(8)[:1], -1)


def test_indirect_bias_as_the_paper_writes_it():
    word, others, basis = made(1)[0], made(6, seed=1), turn()[:1]
    found = indirect_bias(word, others, basis)
    g = basis[0]
    for beta, other in zip(found, others, strict=True):
        w, v = word / np.linalg.norm(word), other / np.linalg.norm(other)
        outside_w, outside_v = w - (w @ g) * g, v - (v @ g) * g
        rest = outside_w @ outside_v / np.linalg.norm(outside_w) / np.linalg.norm(outside_v)
        assert beta == pytest.approx((w @ v - rest) / (w @ v))
    assert np.allclose(indirect_bias(7 * word @ turn(), others @ turn(), basis @ turn()), found)


def test_indirect_bias_at_its_ends():
    basis = np.eye(4)[:2]
    word = np.array([1.0, 0, 1, 0])
    others = np.array([[0, 0, 1, 0], [1, 0, 0, 1], [1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0.0]])
    # Negative; all of it; and not defined within the subspace, at right angles, for zeros.
    found = indirect_bias(word, others, basis)
    assert found[:2] == pytest.approx([1 - math.sqrt(2), 1])
    assert np.isnan(found[2:]).all()
    assert np.isnan(indirect_bias(np.array([1.0, 2, 0, 0]), others, basis)).all()
    # A word is as near to itself without the subspace.
    assert indirect_bias(word, word[None], basis) == pytest.approx([0])


def test_relation_vector():
    direction = np.eye(8)[5]
    pairs = pairs_along(direction, noise=0.02)
    relation = relation_vector(pairs)
    assert relation @ direction > 0.99
    assert np.allclose(relation_vector(pairs[:, ::-1]), -relation)
    differences = pairs[:, 0] - pairs[:, 1]
    values, axes = np.linalg.eigh(differences.T @ differences)
    assert abs(relation @ axes[:, values.argmax()]) == pytest.approx(1)
    # Of one pair, it is the difference.
    assert np.allclose(relation_vector(pairs[:1]), unit(differences[:1])[0])


def test_ripa_is_an_inner_product_that_counts_lengths():
    vectors, pairs = made(20_000).astype(np.float32), pairs_along(np.eye(8)[5])
    found = ripa(vectors, pairs)
    assert np.allclose(found, vectors @ relation_vector(pairs), atol=1e-5)
    assert np.allclose(ripa(3 * vectors, 7 * pairs), 3 * found, rtol=1e-5)
    assert np.allclose(ripa(vectors, pairs[:, ::-1]), -found)
    assert np.allclose(ripa(vectors @ turn(), pairs @ turn()), found, atol=1e-5)


def test_relation_of_nothing():
    with pytest.raises(InputError, match="at least one pair"):
        relation_vector(np.empty((0, 2, 8)))
    with pytest.raises(InputError, match="span no relation"):
        relation_vector(np.ones((3, 2, 8)))


def test_google_news_professions(news):
    """Bolukbasi et al.'s lists; the figures were found by an independent script."""
    assert len(news.pairs) == 9
    basis, explained = bias_subspace(list(news.pairs))
    assert explained[0] == pytest.approx(0.645, abs=5e-4)
    assert len(explained) == 9
    assert len(news.neutral) == 115
    neutral = news[news.neutral]
    assert direct_bias(neutral, basis) == pytest.approx(0.0660, abs=5e-5)
    assert direct_bias(neutral, basis, 0) == 1
    cleaned = unit(neutral) @ (np.eye(300) - basis.T @ basis)
    assert direct_bias(cleaned, basis) < 1e-15
    assert direct_bias(cleaned.astype(np.float32), basis, 0) == 0
    # In definitional pairs the woman comes first.
    along = projections(neutral, basis)[:, 0]
    order = [news.neutral[row] for row in np.argsort(-along)]
    assert {"nurse", "receptionist", "librarian"} & set(order[:8])
    assert {"captain", "coach", "boss"} & set(order[-12:])
    assert ripa(neutral, news.pairs) @ along > 0.9 * math.sqrt(
        (ripa(neutral, news.pairs) ** 2).sum() * (along**2).sum()
    )


def test_ripa_of_wefe(news):
    # WEFE 1.0.1: RIPA().run_query(Query([["woman"], ["man"]], [WEAT's arts]), gnews13k)
    expected = [0.317597, 0.170455, 0.411807, 0.523612, 0.304668, 0.180587, 0.131424, 0.162170]
    assert ripa(news.weat["arts"], news["woman man"][None]) == pytest.approx(expected, abs=1e-6)
