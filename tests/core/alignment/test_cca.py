import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf_shrinkage

from embcli.core.alignment import Pairs
from embcli.core.alignment.cca import cca, ledoit_wolf, whitening
from embcli.core.alignment.evaluation import translation
from embcli.core.alignment.procrustes import procrustes
from embcli.encoders import load_encoder
from embcli.errors import InputError, UsageError
from tests.conftest import SHARED

MULTI30K = SHARED / "multi30k"
TEXTBOOK = {"normalize": "none", "power": 0.0, "regularization": 0.0}


def both(n=400, dims=(9, 6), noise=0.5, seed=0):
    """Two views of four hidden variables, off centre."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 4))
    views = [
        hidden @ rng.normal(size=(4, dim))
        + noise * rng.normal(size=(n, dim))
        + rng.normal(size=dim)
        for dim in dims
    ]
    return Pairs(*(view.astype(np.float32) for view in views), np.arange(n), np.arange(n))


def mapped(map, pairs):
    return map.source.apply(pairs.source.astype(float)), map.target.apply(
        pairs.target.astype(float)
    )


def correlations(pairs):
    """Canonical correlations as Björck and Golub compute them, from QR decompositions."""
    views = [np.asarray(v, float) - v.mean(axis=0, dtype=float) for v in pairs[:2]]
    bases = [np.linalg.qr(view)[0] for view in views]
    return np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)


def test_components_are_white_and_correlate_as_much_as_can_be():
    pairs = both()
    left, right = mapped(cca(pairs, **TEXTBOOK), pairs)
    n = len(left)
    np.testing.assert_allclose(left.T @ left / n, np.eye(6), atol=1e-6)
    np.testing.assert_allclose(right.T @ right / n, np.eye(6), atol=1e-6)
    np.testing.assert_allclose(left.T @ right / n, np.diag(correlations(pairs)), atol=1e-6)


def test_the_power_weighs_components_by_their_correlation():
    pairs = both()
    plain, weighted = (mapped(cca(pairs, **TEXTBOOK | {"power": p}), pairs) for p in (0.0, 1.5))
    for before, after in zip(plain, weighted, strict=True):
        np.testing.assert_allclose(after, before * correlations(pairs) ** 1.5, atol=1e-6)


def test_linear_maps_of_either_side_change_nothing():
    pairs = both()
    rng = np.random.default_rng(1)
    other = pairs._replace(
        source=(pairs.source.astype(float) @ rng.normal(size=(9, 9)) + 3).astype(np.float32),
        target=(pairs.target.astype(float) @ rng.normal(size=(6, 6)) - 7).astype(np.float32),
    )
    products = []
    for some in (pairs, other):
        left, right = mapped(cca(some, **TEXTBOOK | {"power": 1.0}), some)
        products.append(left @ right.T)
    np.testing.assert_allclose(*products, atol=1e-3)


def test_a_linear_relation_is_found():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 8)).astype(np.float32)
    pairs = Pairs(x, x @ rng.normal(size=(8, 8)).astype(np.float32), np.arange(50), np.arange(50))
    np.testing.assert_allclose(*mapped(cca(pairs, **TEXTBOOK), pairs), atol=1e-3)


@pytest.mark.parametrize("n", [5, 40, 400])
def test_shrinkage_is_that_of_scikit_learn(n):
    vectors = both(n).source
    centred = vectors.astype(float) - vectors.mean(axis=0, dtype=float)
    found = ledoit_wolf(vectors, centred.T @ centred / n)
    assert found == pytest.approx(ledoit_wolf_shrinkage(vectors.astype(float)), rel=1e-5)
    assert 0 < found <= 1


def test_powers_of_a_covariance():
    vectors = both().source
    covariance = np.cov(vectors.astype(float).T, bias=True)
    root = whitening(vectors, 0.0, 0.5)
    np.testing.assert_allclose(root @ root, covariance, atol=1e-6)
    np.testing.assert_allclose(whitening(vectors, 0.3, 1.0), 0.7 * covariance
        + 0.3 * np.trace(covariance) / 9 * np.eye(9), atol=1e-6)  # fmt: skip


def test_pairs_may_be_fewer_than_components_and_rows_come_several_times():
    pairs = both()
    few = pairs.take(np.array([0, 0, 1, 2]))
    for some in (few, few._replace(rows=np.array([0, 0, 1, 1]))):
        left, right = mapped(cca(some), some)
        assert np.isfinite(left).all()
        assert np.isfinite(right).all()


def test_components_are_the_first():
    pairs = both()
    whole, few = (mapped(cca(pairs, components=k), pairs) for k in (0, 3))
    assert few[0].shape == (400, 3)
    np.testing.assert_allclose(few[0], whole[0][:, :3], atol=1e-12)


def test_what_it_refuses():
    pairs = both()
    with pytest.raises(InputError, match="cca needs at least 2 pairs, and there are 1"):
        cca(pairs.take(np.array([0])))
    with pytest.raises(InputError, match="nothing to correlate"):
        cca(pairs._replace(source=np.ones_like(pairs.source)))
    with pytest.raises(UsageError, match="auto or a number from 0 to 1, not 'much'"):
        cca(pairs, regularization="much")
    with pytest.raises(UsageError, match="from 0 to 1, not 2"):
        cca(pairs, regularization=2)
    with pytest.raises(UsageError, match="components"):
        cca(pairs, components=-1)


def test_words_are_translated(bli):
    found = translation(cca(bli.pairs), bli.pairs, bli.gold)
    assert found.precision[1] >= 0.76  # without shrinking and weights .728


@pytest.fixture(scope="module")
def sentences():
    """English and French captions in the static space, and those to test with."""
    if not MULTI30K.exists():
        pytest.skip(f"{MULTI30K} is absent")
    encoder = load_encoder("static")

    def vectors(name):
        return encoder.encode((MULTI30K / name).read_text("utf-8").rstrip("\n").split("\n"))

    return [[vectors(f"{part}.{code}") for code in ("en", "fr")] for part in
            ("train", "test_2016_flickr")]  # fmt: skip


def precision(map, sentences):
    each = np.arange(len(sentences[0]))
    return translation(map, Pairs(*sentences, each, each), (each, each)).precision[1]


def test_sentences_are_translated(sentences):
    train, test = sentences
    every = Pairs(*train, *(np.arange(len(train[0])),) * 2)
    assert precision(cca(every), test) >= 0.96
    few = Pairs(train[0][:1000], train[1][:1000], *(np.arange(1000),) * 2)
    assert precision(cca(few), test) >= 0.85 > precision(procrustes(few), test) + 0.04
