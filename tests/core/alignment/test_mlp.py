import numpy as np
import pytest
import torch

from embcli.core.alignment import Pairs, method
from embcli.core.alignment.mlp import _infonce, mlp
from embcli.core.alignment.procrustes import procrustes
from embcli.core.maps import Linear
from embcli.errors import InputError, UsageError
from tests.core.alignment.spaces import english_and_french, found, spanish_and_english


def bent(n, seed=0):
    """A space, and what a hidden layer with random weights makes of it."""
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(n, 12))
    target = source @ rng.normal(size=(12, 10))
    hidden = np.maximum(target @ rng.normal(size=(10, 20)), 0)
    target = target + 2 * hidden @ rng.normal(size=(20, 10))
    half = np.arange(n // 2)
    sides = source.astype(np.float32), target.astype(np.float32)
    return Pairs(*sides, half, half), Pairs(*sides, half + n // 2, half + n // 2)


def test_it_learns_what_no_linear_map_can():
    pairs, others = bent(2000)
    # Without a pass of training it is the best linear map.
    linear, trained = (found(mlp(pairs, epochs=n), others, csls=False) for n in (0, 40))
    assert trained > linear + 0.1


def test_it_begins_at_the_linear_solution():
    rng = np.random.default_rng(0)
    source = rng.normal(size=(300, 8)).astype(np.float32)
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    rows = np.arange(300)
    map = mlp(Pairs(source, (source @ rotation).astype(np.float32), rows, rows), normalize="none")
    # Nothing can be found better than by the rotation itself, so that it is kept.
    (linear,) = map.source.steps
    assert isinstance(linear, Linear)
    np.testing.assert_allclose(linear.matrix, rotation, atol=1e-5)


def test_seeded(shared):
    pairs, _ = bent(400)
    first, again, other = (mlp(pairs, epochs=3, seed=seed) for seed in (0, 0, 1))
    mapped = [map.source.apply(pairs.source) for map in (first, again, other)]
    assert (mapped[0] == mapped[1]).all()
    assert np.abs(mapped[0] - mapped[2]).max() > 1e-3


def test_sentences_of_two_languages(shared):
    pairs, others = english_and_french(shared, 2000)
    before, after = (found(fit(pairs), others, csls=False) for fit in (procrustes, mlp))
    assert after > before + 0.05


def test_words_of_two_languages_get_no_worse(shared):
    pairs, others = spanish_and_english(shared)
    assert found(mlp(pairs), others) > 0.755  # measured: .771, Procrustes .781


def test_infonce_is_the_cross_entropy_of_both_directions():
    rng = np.random.default_rng(0)
    mapped, targets = (torch.from_numpy(rng.normal(size=(5, 3))) for _ in range(2))
    right = torch.zeros(5, 5, dtype=torch.bool)
    right[1, 2] = True
    scores = np.exp((mapped @ targets.T / 0.2).numpy())
    scores[1, 2] = 0  # a second right answer is no wrong one
    own = np.diag(scores)
    expected = -(np.log(own / scores.sum(1)) + np.log(own / scores.sum(0))).mean() / 2
    assert float(_infonce(mapped, targets, right, 0.2)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"loss": "hinge"}, "no loss 'hinge' (there are: infonce, cosine)"),
        ({"temperature": 0.0}, "temperature"),
        ({"held_out": 1.0}, "held_out must lie between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(options, reason):
    pairs, _ = bent(100)
    with pytest.raises(UsageError, match=reason.replace("(", r"\(").replace(")", r"\)")):
        mlp(pairs, **options)


def test_too_few_pairs():
    pairs, _ = bent(100)
    with pytest.raises(InputError, match="at least 20 pairs, and there are 7 pairs"):
        mlp(pairs.take(np.arange(7)))
    with pytest.raises(InputError, match="more than one source"):
        mlp(pairs._replace(rows=np.zeros_like(pairs.rows)))


def test_it_is_registered():
    assert method("mlp").options["loss"] == "infonce"
    assert method("mlp").requires == ("torch", "transformers")
