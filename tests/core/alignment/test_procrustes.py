import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from embcli.core.alignment import Pairs
from embcli.core.alignment.evaluation import translation
from embcli.core.alignment.procrustes import procrustes, rotation
from embcli.core.maps import Linear
from embcli.errors import InputError, UsageError


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def paired(source, target):
    rows = np.arange(min(len(source), len(target)))
    return Pairs(source, target, rows, rows)


def matrix(map):
    (found,) = [step.matrix for step in map.source.steps if isinstance(step, Linear)]
    return found


def test_a_planted_rotation_is_recovered():
    x, turn = drawn(200, 24).astype(np.float64), ortho_group.rvs(24, random_state=1)
    np.testing.assert_allclose(rotation(x, x @ turn), turn, atol=1e-12)
    fitted = procrustes(paired(drawn(200, 24), (drawn(200, 24) @ turn).astype(np.float32)))
    np.testing.assert_allclose(matrix(fitted), turn, atol=1e-6)


def test_it_is_that_of_scipy():
    x, y = drawn(50, 12), drawn(50, 12, seed=1)
    np.testing.assert_allclose(
        rotation(x, y), orthogonal_procrustes(x.astype(float), y.astype(float))[0], atol=1e-6
    )


def test_the_scale_is_the_least_squares_one():
    x, y = drawn(60, 8), drawn(60, 8, seed=1) * 3
    fitted = procrustes(paired(x, y), normalize="none", scale=True)
    turned = x @ rotation(x, y)
    (best,) = np.linalg.lstsq(turned.reshape(-1, 1), y.ravel(), rcond=None)[0]
    np.testing.assert_allclose(matrix(fitted), best * rotation(x, y), rtol=1e-5)
    planted = procrustes(paired(x, 2.5 * x[:, ::-1]), normalize="none", scale=True)
    np.testing.assert_allclose(planted.source.apply(x), 2.5 * x[:, ::-1], atol=1e-5)


def test_into_more_components_nothing_is_lost():
    x, turn = drawn(100, 10), ortho_group.rvs(16, random_state=0)[:10]
    fitted = procrustes(paired(x, (x @ turn).astype(np.float32)), normalize="none")
    np.testing.assert_allclose(matrix(fitted), turn, atol=1e-6)
    np.testing.assert_allclose(matrix(fitted) @ matrix(fitted).T, np.eye(10), atol=1e-12)


def test_a_narrower_target_is_padded():
    x, y = drawn(100, 16), drawn(100, 10, seed=1)
    padded = orthogonal_procrustes(x.astype(float), np.pad(y, ((0, 0), (0, 6))).astype(float))[0]
    np.testing.assert_allclose(rotation(x, y), padded[:, :10], atol=1e-6)
    np.testing.assert_allclose(rotation(x, y).T @ rotation(x, y), np.eye(10), atol=1e-12)


def test_no_pair_is_too_few():
    with pytest.raises(InputError, match="procrustes needs at least 1 pair, and there are 0"):
        procrustes(paired(drawn(5, 3), drawn(5, 3)).take(np.arange(0)))


@pytest.mark.parametrize(("retrieval", "least"), [("nn", 0.753), ("csls", 0.778)])
def test_words_are_translated(bli, retrieval, least):
    found = translation(procrustes(bli.pairs), bli.pairs, bli.gold, retrieval=retrieval)
    assert len(found.ranks) == 393
    assert found.precision[1] >= least - 1e-3


def test_the_power_weighs_directions():
    x, y = drawn(200, 8), drawn(200, 6, seed=1)
    left, values, right = np.linalg.svd(x.T.astype(float) @ y, full_matrices=False)
    found = rotation(x, y, -0.5)
    np.testing.assert_allclose(found, left * (values / values[0]) ** -0.5 @ right, atol=1e-6)
    np.testing.assert_allclose(rotation(x, y, 1e-12), rotation(x, y), atol=1e-9)
    fitted = procrustes(paired(x, y), normalize="none", power=-0.5)
    np.testing.assert_allclose(matrix(fitted), found, atol=1e-9)


@pytest.mark.parametrize(("power", "taken"), [(-1.1, False), (-1, True), (1, True), (1.1, False)])
def test_the_power_has_a_range(power, taken):
    pairs = paired(drawn(20, 4), drawn(20, 4, seed=1))
    if taken:
        assert np.isfinite(matrix(procrustes(pairs, power=power))).all()
    else:
        with pytest.raises(UsageError, match="from -1 to 1"):
            procrustes(pairs, power=power)


def test_directions_that_pairs_do_not_have_weigh_nothing():
    x, y = drawn(3, 8), drawn(3, 8, seed=1)
    assert np.linalg.matrix_rank(rotation(x, y, -0.1), tol=1e-6) == 3
    assert np.linalg.matrix_rank(rotation(x, y)) == 8
