import numpy as np
import pytest
from scipy.stats import ortho_group, skew

from embcli.core.alignment import Pairs
from embcli.core.alignment.geometry import geometry, hubness, orthogonality_error
from embcli.core.alignment.procrustes import procrustes
from embcli.core.alignment.ridge import ridge
from embcli.core.maps import Linear, Map, Shift, Transform
from embcli.errors import InputError, UsageError


@pytest.fixture
def pairs():
    x, y = np.random.default_rng(0).normal(size=(2, 300, 10)).astype(np.float32)
    return Pairs(x, y, np.arange(300), np.arange(300))


def test_a_scaled_rotation_keeps_angles(pairs):
    turn = Linear(3 * ortho_group.rvs(10, random_state=0))
    found = geometry(Map(Transform.of(turn)), pairs)
    assert found.orthogonality < 1e-12
    assert found.distortion < 1e-6
    assert found.hubness_before == pytest.approx(found.hubness_after)


def test_the_error_of_a_stretch():
    stretch = Transform.of(Linear(np.diag([1.0, 3.0])), Shift(np.ones(2)), Linear(np.eye(2)))
    assert orthogonality_error(stretch) == pytest.approx(0.8)
    assert orthogonality_error(Transform()) == 0
    assert orthogonality_error(Transform.of(Linear(np.eye(5)[:3]))) < 1e-12


def test_the_distortion_is_that_of_all_pairs_of_a_sample(pairs):
    stretch = Map(Transform.of(Linear(np.diag([1.0] * 9 + [4.0]))))
    x = pairs.source.astype(float)

    def cosines(vectors):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return (unit @ unit.T)[np.triu_indices(300, 1)]

    expected = np.abs(cosines(stretch.source.apply(x)) - cosines(x)).mean()
    assert geometry(stretch, pairs).distortion == pytest.approx(expected, rel=1e-5)
    few = geometry(stretch, pairs, sample=100)
    assert few == geometry(stretch, pairs, sample=100)
    assert few.distortion == pytest.approx(expected, rel=0.1)
    with pytest.raises(UsageError, match="fewer than 2"):
        geometry(stretch, pairs, sample=1)
    with pytest.raises(InputError, match="no angles between 1 vector of the source and 300 of"):
        geometry(stretch, pairs._replace(source=pairs.source[:1]))


def test_hubness_is_the_skewness_of_occurrences():
    near = np.array([[0, 1], [0, 1], [0, 2], [0, 4]])
    found = hubness(near, 6)
    assert found.skewness == pytest.approx(skew([4, 2, 1, 0, 1, 0]))
    assert found.antihubs == pytest.approx(2 / 6)
    assert hubness(np.arange(6), 6) == (0, 0)


def test_csls_takes_hubs_down_on_real_vectors(bli):
    found = geometry(ridge(bli.pairs), bli.pairs)
    assert found.hubness_nn.skewness > 1
    assert found.hubness_csls.skewness < 0.8 * found.hubness_nn.skewness
    assert found.hubness_csls.antihubs < 0.2 * found.hubness_nn.antihubs
    turned = geometry(procrustes(bli.pairs), bli.pairs)
    assert turned.orthogonality < 1e-9 < 0.3 < found.orthogonality
    assert turned.distortion < found.distortion
