import numpy as np
import pytest

from embcli import load_encoder
from embcli.core.alignment import Pairs
from embcli.core.alignment.evaluation import translation
from embcli.core.alignment.shift import mean_shift
from embcli.core.maps import Map, Transform
from embcli.errors import InputError
from tests.conftest import SHARED


def test_it_is_the_translation_with_the_least_squares():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)).astype(np.float32), rng.normal(size=(30, 6)).astype(np.float32)
    pairs = Pairs(x, y, np.array([3, 3, 7]), np.array([1, 2, 9]))
    moved = mean_shift(pairs, normalize="none").source.apply(x)
    np.testing.assert_allclose(moved[[3, 3, 7]].mean(axis=0), y[[1, 2, 9]].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(moved - moved[0], x - x[0], atol=1e-6)


def test_a_planted_gap_is_closed():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(40, 6)).astype(np.float32)
    pairs = Pairs(y + 4, y, np.arange(5), np.arange(5))
    moved = mean_shift(pairs, normalize="none").source.apply(pairs.source)
    np.testing.assert_allclose(moved, y, atol=1e-5)


def test_other_dims_are_refused():
    pairs = Pairs(np.ones((4, 3), "f4"), np.ones((4, 2), "f4"), np.arange(4), np.arange(4))
    with pytest.raises(InputError, match="from 3 components to as many, and the target has 2"):
        mean_shift(pairs)


def test_sentences_in_one_table_find_their_translations_more_often():
    folder = SHARED / "multi30k"
    if not folder.exists():
        pytest.skip(f"{folder} is absent")
    encoder = load_encoder("static")
    sides = []
    for language in ("en", "fr"):
        test = (folder / f"test_2016_flickr.{language}").read_text("utf-8").splitlines()
        train = (folder / f"train.{language}").read_text("utf-8").split("\n")[:2000]
        sides.append(encoder.encode(test + train))
    train = np.arange(1000, 3000)
    fitted = mean_shift(Pairs(*sides, train, train))
    galleries = Pairs(*(side[:1000] for side in sides), train[:0], train[:0])
    gold = np.arange(1000), np.arange(1000)
    before, after = (
        translation(map, galleries, gold, retrieval="nn").precision[1]
        for map in (Map(Transform()), fitted)
    )
    assert before < 0.285
    assert after > 0.305
