import numpy as np
import pytest
from sklearn.linear_model import Ridge

from embcli.core.alignment import Pairs
from embcli.core.alignment.evaluation import translation
from embcli.core.alignment.ridge import _GRID, ridge
from embcli.errors import InputError, UsageError


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 12)).astype(np.float32)
    y = (x @ rng.normal(size=(12, 7)) + rng.normal(size=(80, 7))).astype(np.float32)
    return Pairs(x, y, np.arange(80), np.arange(80))


def matrix(map):
    return map.source.steps[-1].matrix


@pytest.mark.parametrize("alpha", [0, 0.1, 1.0, 50.0])
def test_it_is_that_of_scikit_learn(pairs, alpha):
    theirs = Ridge(alpha=alpha, fit_intercept=False).fit(
        pairs.source.astype(float), pairs.target.astype(float)
    )
    ours = matrix(ridge(pairs, normalize="none", alpha=alpha))
    np.testing.assert_allclose(ours, theirs.coef_.T, atol=1e-9)


def test_centring_is_the_intercept(pairs):
    moved = pairs._replace(source=pairs.source + 3, target=pairs.target - 5)
    theirs = Ridge(alpha=2.0).fit(moved.source.astype(float), moved.target.astype(float))
    ours = ridge(moved, normalize="center", alpha=2.0)
    np.testing.assert_allclose(matrix(ours), theirs.coef_.T, atol=1e-5)


def test_auto_is_the_penalty_with_the_least_gcv_error(pairs):
    x, y = pairs.source.astype(float), pairs.target.astype(float)
    grid = _GRID * np.square(np.linalg.svd(x, compute_uv=False)).mean()
    errors = []
    for alpha in grid:
        hat = x @ np.linalg.solve(x.T @ x + alpha * np.eye(12), x.T)
        left = np.eye(80) - hat
        errors.append(np.square(left @ y).sum() / np.trace(left) ** 2)
    best = ridge(pairs, normalize="none", alpha=float(grid[np.argmin(errors)]))
    assert 0 < np.argmin(errors) < len(grid) - 1
    np.testing.assert_allclose(matrix(ridge(pairs, normalize="none")), matrix(best), atol=1e-12)


def test_directions_that_pairs_do_not_have_are_mapped_to_nothing(pairs):
    twice = pairs._replace(source=np.hstack([pairs.source, pairs.source]))
    found = matrix(ridge(twice, normalize="none", alpha=0))
    np.testing.assert_allclose(found[:12], found[12:], atol=1e-6)
    np.testing.assert_allclose(
        found[:12] * 2, matrix(ridge(pairs, normalize="none", alpha=0)), atol=1e-5
    )


def test_least_squares_needs_as_many_pairs_as_components(pairs):
    few = pairs.take(np.arange(11))
    with pytest.raises(InputError, match=r"12, and there are 11: ridge with alpha=auto"):
        ridge(few, alpha=0)
    assert np.isfinite(matrix(ridge(few))).all()


@pytest.mark.parametrize("alpha", ["much", -1, float("nan")])
def test_a_penalty_is_a_number(pairs, alpha):
    with pytest.raises(UsageError, match="alpha is a number"):
        ridge(pairs, alpha=alpha)


def test_words_are_translated(bli):
    found = translation(ridge(bli.pairs), bli.pairs, bli.gold)
    assert found.precision[1] >= 0.78


def test_the_penalty_matters_with_few_pairs(bli):
    few = bli.pairs.take(np.arange(0, len(bli.pairs.rows), 40))
    least_squares, auto = (
        translation(ridge(few, alpha=alpha), few, bli.gold).precision[10] for alpha in (0, "auto")
    )
    assert len(few.rows) == 64
    assert auto > least_squares + 0.15
