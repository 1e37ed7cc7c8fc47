import numpy as np
import pytest
from scipy.stats import ortho_group

from embcli.core.alignment import Pairs
from embcli.core.alignment.evaluation import translation
from embcli.core.alignment.vecmap import vecmap
from embcli.errors import InputError, UsageError


def drawn(n, dim, seed):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim))).astype(np.float32)


@pytest.fixture
def pairs():
    x = drawn(90, 8, 0)
    return Pairs(x, x @ drawn(8, 8, 1) + drawn(90, 8, 2), np.arange(70), np.arange(70))


def step_by_step(pairs, weight):
    """The formulae of the paper, with powers of matrices for SVDs of vectors."""

    def root(square, power):
        values, axes = np.linalg.eigh(square)
        return axes @ np.diag(values**power) @ axes.T

    x, z = pairs.source.astype(float), pairs.target.astype(float)
    a, b = x[pairs.rows], z[pairs.columns]
    white_x, white_z = root(a.T @ a, -0.5), root(b.T @ b, -0.5)
    u, s, vt = np.linalg.svd((a @ white_x).T @ (b @ white_z))
    x = x @ white_x @ u @ np.diag(s**weight) @ u.T @ root(a.T @ a, 0.5) @ u
    z = z @ white_z @ vt.T @ np.diag(s**weight) @ vt @ root(b.T @ b, 0.5) @ vt.T
    return x @ z.T


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_it_is_what_the_paper_says(pairs, weight):
    fitted = vecmap(pairs, normalize="none", reweight=weight)
    x = fitted.source.apply(pairs.source.astype(float))
    z = fitted.target.apply(pairs.target.astype(float))
    np.testing.assert_allclose(x @ z.T, step_by_step(pairs, weight), rtol=1e-6, atol=1e-6)


def test_rotating_a_side_before_changes_nothing(pairs):
    turn = ortho_group.rvs(8, random_state=0).astype(np.float32)
    turned = pairs._replace(source=pairs.source @ turn)
    one, other = vecmap(pairs), vecmap(turned)
    scores = one.source.apply(pairs.source) @ one.target.apply(pairs.target).T
    again = other.source.apply(turned.source) @ other.target.apply(turned.target).T
    np.testing.assert_allclose(scores, again, atol=1e-4)


def test_sides_may_differ_in_components(pairs):
    narrow = pairs._replace(target=pairs.target[:, :5].copy())
    fitted = vecmap(narrow)
    assert fitted.source.dims == (8, 5)
    assert fitted.target.dims == (5, 5)


def test_too_few_pairs_are_refused(pairs):
    with pytest.raises(InputError, match="vecmap needs at least 8 pairs, and there are 7: procr"):
        vecmap(pairs.take(np.arange(7)))
    with pytest.raises(UsageError, match="reweight is a number of at least 0, not -1"):
        vecmap(pairs, reweight=-1)


def test_a_component_that_never_varies_changes_nothing(pairs):
    wider = pairs._replace(source=np.pad(pairs.source, ((0, 0), (0, 2))))
    scores = []
    for some in (pairs, wider):
        fitted = vecmap(some, normalize="none")
        scores.append(fitted.source.apply(some.source) @ fitted.target.apply(some.target).T)
    np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("retrieval", "least"), [("nn", 0.776), ("csls", 0.786)])
def test_words_are_translated(bli, retrieval, least):
    found = translation(vecmap(bli.pairs), bli.pairs, bli.gold, retrieval=retrieval)
    assert found.precision[1] >= least - 5e-4
    if retrieval == "csls":
        assert found.precision[10] >= 0.934 - 5e-4
