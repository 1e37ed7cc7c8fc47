import numpy as np
import pytest
from scipy.stats import ortho_group

from embcli import load_encoder
from embcli.core.alignment import Pairs
from embcli.core.alignment.mini_vec2vec import _balanced, _profiles, _View, centres, mini_vec2vec
from embcli.core.matching import nearest
from embcli.errors import InputError, UsageError

NONE = np.empty(0, np.int64)


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_weights_add_up_to_one():
    weights = np.random.default_rng(0).random((40, 40)).astype(np.float32)
    balanced = _balanced(weights)
    np.testing.assert_allclose(balanced.sum(axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(balanced.sum(axis=0), 1, atol=1e-3)


def test_profiles_are_the_same_in_every_rotation():
    rng = np.random.default_rng(0)
    points = unit(rng.exponential(size=(300, 8)))
    turned = (points @ ortho_group.rvs(8, random_state=1)).astype(np.float32)
    view = _View((4, 8), (0, 0.5), 4)
    np.testing.assert_allclose(
        _profiles(points[:20], points, view), _profiles(turned[:20], turned, view), atol=1e-3
    )


def test_centres_lie_where_clusters_are():
    rng = np.random.default_rng(0)
    middles = np.eye(6, dtype=np.float32)
    vectors = unit(np.repeat(middles, 200, axis=0) + 0.05 * rng.normal(size=(1200, 6)))
    found = centres(vectors, 30, rng)
    assert ((found @ middles.T).max(axis=0) > 0.99).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_halves_of_a_corpus_are_rotated_onto_each_other(shared):
    texts = (shared / "multi30k" / "train.en").read_text(encoding="utf-8").split("\n")[:9000]
    vectors = unit(load_encoder("static").encode(texts))
    vectors -= vectors.mean(axis=0)
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    vectors = vectors @ axes[:, -40:]
    turned = (vectors @ ortho_group.rvs(40, random_state=3)).astype(np.float32)
    pairs = Pairs(vectors[:4250], turned[4250:8500], NONE, NONE)
    map = mini_vec2vec(pairs, clusters=300, starts=3, rounds=25, seed=0)
    # 500 texts that neither side was fitted to.
    a, b = map.source.apply(vectors[8500:]), map.target.apply(turned[8500:])
    found = nearest(a, b, 1)
    assert (found.rows == found.columns).mean() > 0.9


def test_options_out_of_range_are_refused():
    pairs = Pairs(*np.random.default_rng(0).normal(size=(2, 60, 4)).astype(np.float32), NONE, NONE)
    with pytest.raises(InputError, match="two vectors for each of its 500 clusters"):
        mini_vec2vec(pairs)
    with pytest.raises(UsageError, match="at least 20 clusters"):
        mini_vec2vec(pairs, clusters=3)
