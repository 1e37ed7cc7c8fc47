import numpy as np
import pytest
from sklearn.decomposition import PCA, TruncatedSVD

from embcli.core.distillation import principal_components, static_table
from embcli.core.sif import common_component, remove_component, sif_weights, zipf


def test_zipf():
    shares = zipf(1000)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] / shares[9] == pytest.approx(10)
    assert zipf(0).tolist() == []


def test_weights_fall_with_frequency():
    assert sif_weights(np.array([0, 1e-3, 1]), 1e-3).tolist() == pytest.approx([1, 0.5, 1 / 1001])


def test_the_component_is_the_first_singular_vector():
    averages = np.random.default_rng(0).normal(0.3, 1, (200, 12))
    component = common_component(averages)
    svd = TruncatedSVD(1, algorithm="arpack").fit(averages)
    assert abs(svd.components_[0] @ component) == pytest.approx(1)
    assert np.linalg.norm(component) == pytest.approx(1)
    assert component[np.abs(component).argmax()] > 0
    left = remove_component(averages, component)
    assert left.dtype == np.float32
    assert np.abs(left @ component).max() < 1e-6
    assert remove_component(left, component) == pytest.approx(left, abs=1e-6)


def test_principal_components_are_those_of_scikit_learn():
    vectors = np.random.default_rng(1).normal(size=(300, 16)) * np.linspace(1, 4, 16) + 2
    ours, theirs = principal_components(vectors, 5), PCA(5).fit_transform(vectors)
    assert np.abs(ours) == pytest.approx(np.abs(theirs))
    assert ours.mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert (ours[np.abs(ours).argmax(axis=0), range(5)] > 0).all()


def test_a_static_table():
    vectors = np.random.default_rng(2).normal(size=(100, 8))
    assert np.array_equal(static_table(vectors, None, None), vectors)
    every = static_table(vectors, 8, None)  # all axes: a rotation keeps distances
    centred = vectors - vectors.mean(axis=0)
    assert every @ every.T == pytest.approx(centred @ centred.T)
    weighted = static_table(vectors, None, 1e-4)
    ratio = np.linalg.norm(weighted, axis=1) / np.linalg.norm(vectors, axis=1)
    assert (np.diff(ratio) > 0).all()
    p = 1 / np.arange(2, 102)
    assert ratio[0] == pytest.approx(1e-4 / (1e-4 + p[0] / p.sum()))
