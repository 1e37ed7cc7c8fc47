from itertools import pairwise

import numpy as np
import pytest

from embcli.core.alignment import Pairs
from embcli.core.alignment.evaluation import translation
from embcli.core.alignment.procrustes import rotation
from embcli.core.alignment.rcsls import _Problem, rcsls
from embcli.errors import InputError, UsageError


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 6)).astype(np.float32)
    y = (x[:50] @ np.linalg.qr(rng.normal(size=(6, 6)))[0] + rng.normal(size=(50, 6)) / 2).astype(
        np.float32
    )
    x, y = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))
    return Pairs(x, y, np.arange(40), np.arange(40))


def loss(pairs, matrix, k):
    """As written in the paper."""
    mapped = pairs.source.astype(float) @ matrix
    products = mapped @ pairs.target.T
    total = 0.0
    for row, column in zip(pairs.rows, pairs.columns, strict=True):
        total -= 2 * products[row, column]
        total += np.sort(products[row])[-k:].mean() + np.sort(products[:, column])[-k:].mean()
    return total / len(pairs.rows)


def test_the_loss_is_that_of_the_paper_and_the_slope_is_its_derivative(pairs):
    rng = np.random.default_rng(1)
    at, along = rng.normal(size=(2, 6, 6))
    slope = _Problem(pairs, 5).slope(at)
    assert slope.loss == pytest.approx(loss(pairs, at, 5), abs=1e-6)
    step = 1e-5
    difference = (loss(pairs, at + step * along, 5) - loss(pairs, at - step * along, 5)) / step / 2
    assert np.vdot(slope.gradient, along) == pytest.approx(difference, abs=1e-5)


@pytest.mark.parametrize("step", [0.1, 1, 1000])
def test_no_step_makes_it_worse(pairs, step):
    options = {"normalize": "none", "neighbours": 5, "step": step}
    losses = [loss(pairs, rotation(pairs.source[:40], pairs.target[:40]), 5)]
    for iterations in (1, 3, 10, 40):
        fitted = rcsls(pairs, iterations=iterations, **options).source.steps[-1].matrix
        assert np.linalg.svd(fitted, compute_uv=False)[0] <= 1 + 1e-12
        losses.append(loss(pairs, fitted, 5))
    assert all(after <= before + 1e-7 for before, after in pairwise(losses))
    assert losses[-1] < losses[0] - 1e-3


def test_options_out_of_range(pairs):
    for options in ({"neighbours": 0}, {"iterations": 0}, {"step": 0.0}):
        with pytest.raises(UsageError, match="at least 1"):
            rcsls(pairs, **options)
    with pytest.raises(InputError, match="rcsls needs at least 1 pair"):
        rcsls(pairs.take(np.arange(0)))


def test_words_are_translated(bli):
    found = translation(rcsls(bli.pairs), bli.pairs, bli.gold)
    assert found.precision[1] >= 0.779
