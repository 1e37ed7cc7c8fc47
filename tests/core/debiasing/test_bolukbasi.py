"""Hard and soft debiasing: the paper's equations, a minimiser that knows nothing of them."""

import numpy as np
import pytest
from scipy.optimize import minimize

from embcli.core.cosine import unit
from embcli.core.debiasing.bolukbasi import _problem, equalized, neutralize, soft
from embcli.errors import InputError


def orthogonal(rows, dim, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, rows)))[0].T


def words(n=40, dim=6, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((n, dim)) * np.linspace(0.3, 2, dim)


@pytest.mark.parametrize("k", [1, 3])
def test_neutralised_words_are_orthogonal_to_the_subspace_and_of_length_1(k):
    basis = orthogonal(k, 6)
    vectors = words()
    neutral = neutralize(basis).apply(vectors)
    assert np.abs(neutral @ basis.T).max() < 1e-14
    np.testing.assert_allclose(np.linalg.norm(neutral, axis=1), 1)
    np.testing.assert_allclose(neutralize(basis).apply(neutral), neutral, atol=1e-15)
    assert np.abs(neutralize(basis).apply(vectors.astype(np.float32)) @ basis.T).max() < 1e-6


@pytest.mark.parametrize("k", [1, 3])
def test_equalized_words_are_as_far_from_every_neutral_word(k):
    basis = orthogonal(k, 6)
    pairs = words(20).reshape(10, 2, 6)
    made = equalized(pairs, basis)
    neutral = neutralize(basis).apply(words(200, seed=1))
    first, second = np.einsum("pwd,nd->wpn", made, neutral)
    np.testing.assert_allclose(first, second, atol=1e-15)
    far = np.linalg.norm(made[:, :, None] - neutral, axis=-1)
    np.testing.assert_allclose(far[:, 0], far[:, 1], atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(made, axis=2), 1)
    # Within the subspace they are opposite, and each stays on its side.
    np.testing.assert_allclose(made[:, 0] @ basis.T, -made[:, 1] @ basis.T, atol=1e-15)
    before = (unit(pairs)[:, 0] - unit(pairs)[:, 1]) @ basis.T
    assert (np.einsum("pk,pk->p", before, made[:, 0] @ basis.T) > 0).all()


def test_equalized_is_the_papers_formula():
    basis = orthogonal(2, 6)
    pairs = words(8).reshape(4, 2, 6)
    expected = []
    for pair in pairs:
        e = [word / np.linalg.norm(word) for word in pair]
        mean = sum(e) / 2
        within = sum((mean @ b) * b for b in basis)
        nu = mean - within
        for word in e:
            inside = sum((word @ b) * b for b in basis)
            step = (inside - within) / np.linalg.norm(inside - within)
            expected.append(nu + np.sqrt(1 - nu @ nu) * step)
    np.testing.assert_allclose(equalized(pairs, basis).reshape(8, 6), expected, atol=1e-14)


def test_equalizing_nearly_equal_words_stays_finite():
    basis = np.eye(4)[:1]
    pair = np.array([[[1e-5, 1, 0, 0], [-1e-5, 1, 0, 0]]], np.float32)
    made = equalized(pair, basis)
    assert np.isfinite(made).all()
    assert made[0, 0, 0] == pytest.approx(1e-5, rel=1e-3)


def test_pairs_that_cannot_be_told_apart_are_refused():
    pairs = np.array([[[1, 0, 0], [-1, 1, 0]], [[0, 1, 0], [0, 0, 1]]])
    with pytest.raises(InputError, match="1 of 2 pairs to equalize cannot be told apart"):
        equalized(pairs, np.eye(3)[:1])
    assert equalized(pairs[:0], np.eye(3)[:1]).shape == (0, 2, 3)


def objective(matrix, vectors, neutral, basis, strength):
    """The paper's, for a transformation T applied to rows."""
    rows = unit(vectors)
    products = rows @ matrix @ matrix.T @ rows.T - rows @ rows.T
    biases = rows[neutral] @ matrix @ matrix.T @ basis.T
    return np.square(products).sum() + strength * np.square(biases).sum()


def matrix_of(transform):
    return transform.steps[1].matrix


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("strength", [0.2, 5, 500])
@pytest.mark.parametrize("few", [2, 20])
def test_soft_is_no_worse_than_what_a_general_minimiser_finds(k, strength, few):
    vectors, basis = words(25, 4), orthogonal(k, 4)
    neutral = np.arange(25) < few
    found = matrix_of(soft(vectors, vectors[neutral], basis, strength=strength))
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    assert np.linalg.eigvalsh(found).min() > -1e-12
    least = objective(found, vectors, neutral, basis, strength)
    generator = np.random.default_rng(0)
    starts = [np.eye(4), *generator.standard_normal((3, 4, 4))]
    best = min(
        minimize(
            lambda t: objective(t.reshape(4, 4), vectors, neutral, basis, strength),
            start.ravel(),
            options={"gtol": 1e-8},
        ).fun
        for start in starts
    )
    assert least == pytest.approx(best, rel=1e-4)
    assert least <= best * (1 + 1e-7)
    for size in (1e-4, 1e-2):
        for _ in range(10):
            other = found + size * generator.standard_normal((4, 4))
            assert objective(other, vectors, neutral, basis, strength) > least


@pytest.mark.parametrize(("few", "inside"), [(2, False), (60, True)])
def test_the_minimum_meets_the_conditions_of_optimality(few, inside):
    """The gradient is zero, or points out of the cone where the minimum is on its border."""
    vectors, basis = words(60, 5), orthogonal(2, 5)
    squares, axes = np.linalg.eigh(vectors.T @ vectors)
    white = axes / np.sqrt(squares)
    s = white.T @ vectors[:few].T @ vectors[:few] @ white
    columns, target = white.T @ basis.T, np.diag(squares)
    found = _problem(target, s, columns, 2e4).minimum()
    gradient = 2 * (found - target)
    gradient += 2e4 * (s @ found @ columns @ columns.T + columns @ columns.T @ found @ s)
    size = np.abs(2e4 * s @ target @ columns @ columns.T).max()
    values = np.linalg.eigvalsh(found)
    if inside:
        assert values[0] > 1e-6
        assert np.abs(gradient).max() < 1e-9 * size
    else:
        assert -1e-12 < values[0] < 1e-9
        assert np.abs(gradient).max() > 1e-4 * size
        assert np.linalg.eigvalsh(gradient)[0] > -1e-6 * size
        assert abs(np.vdot(gradient, found)) < 1e-6 * size


def test_soft_without_strength_does_nothing_and_with_much_of_it_all_there_is_to_do():
    vectors, basis = words(50), orthogonal(2, 6)
    neutral = np.arange(50) % 5 > 0
    np.testing.assert_allclose(
        matrix_of(soft(vectors, vectors[neutral], basis, strength=0)), np.eye(6), atol=1e-13
    )
    biases = []
    for strength in (0.2, 20, 2e3, 2e5, 2e7):
        matrix = matrix_of(soft(vectors, vectors[neutral], basis, strength=strength))
        biases.append(np.linalg.norm(unit(vectors)[neutral] @ matrix @ matrix @ basis.T))
    assert biases == sorted(biases, reverse=True)
    assert biases[-1] < 1e-4 * biases[0]


def test_soft_where_words_do_not_span_the_space_changes_nothing_else():
    embedding = orthogonal(4, 9)
    vectors, basis = words(30, 4), orthogonal(1, 4)
    neutral = np.arange(30) < 20
    narrow = matrix_of(soft(vectors, vectors[neutral], basis, strength=50))
    embedded = (vectors @ embedding).astype(np.float32)
    wide = matrix_of(soft(embedded, embedded[neutral], basis @ embedding, strength=50))
    beside = np.eye(9) - embedding.T @ embedding
    np.testing.assert_allclose(wide, embedding.T @ narrow @ embedding + beside, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "strength", "message"),
    [(0, 1, "none of 40 words is neutral"), (9, -1, "of -1"), (9, np.nan, "of nan")],
)
def test_soft_refuses_what_makes_no_sense(count, strength, message):
    with pytest.raises(InputError, match=message):
        soft(words(), words()[:count], orthogonal(1, 6), strength=strength)
