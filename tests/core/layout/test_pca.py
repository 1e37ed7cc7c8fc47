import numpy as np
import pytest

from embcli.core.layout.pca import pca_layout, pca_place, spread_start
from embcli.errors import InputError


def test_components_are_those_of_a_decomposition():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5000, 12)) * np.linspace(3, 1, 12) + 7
    pca = pca_layout(vectors.astype(np.float32), 3)
    centred = vectors - vectors.mean(axis=0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(pca.variance_ratio, values**2 / (values**2).sum(), atol=1e-5)
    np.testing.assert_allclose(np.abs(pca.components @ directions[:3].T), np.eye(3), atol=1e-3)
    assert (pca.components[np.arange(3), np.abs(pca.components).argmax(axis=1)] > 0).all()
    np.testing.assert_allclose(pca.coordinates, centred @ pca.components.T, atol=1e-4)
    np.testing.assert_array_equal(
        pca_place(pca, vectors[:4].astype(np.float32)), pca.coordinates[:4]
    )


def test_rows_all_equal_and_a_single_one():
    for vectors in (np.ones((1, 4), np.float32), np.ones((9, 4), np.float32)):
        pca = pca_layout(vectors)
        assert not pca.coordinates.any()
        assert not pca.variance_ratio.any()
        start = spread_start(vectors, 2, 10, 0)
        assert len(np.unique(start, axis=0)) == len(vectors)


def test_what_has_no_components():
    with pytest.raises(InputError, match="no vector"):
        pca_layout(np.empty((0, 4), np.float32))
    with pytest.raises(InputError, match="vectors of 1 dimension have no 2"):
        pca_layout(np.ones((3, 1), np.float32))
