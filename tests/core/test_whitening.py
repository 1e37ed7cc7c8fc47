"""Maps that make a space isotropic."""

import numpy as np
import pytest

from embcli.core.cosine import unit
from embcli.core.separability import isotropy
from embcli.core.separability.moments import moments
from embcli.core.whitening import (
    METHODS,
    Directions,
    abtt,
    add_up,
    center,
    ledoit_wolf,
    pca,
    principal_axes,
    zca,
)
from embcli.errors import InputError

DIM = 12


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def vectors(rng):
    """A narrow cone, with variances that fall, at any length."""
    axes = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    rows = 3 * axes[0] + (rng.normal(size=(400, DIM)) * np.geomspace(2, 0.1, DIM)) @ axes
    return rows * rng.uniform(0.5, 5, (400, 1))


def covariance(rows):
    return np.cov(rows.T, bias=True)


def test_sums_are_those_of_directions(vectors):
    found = add_up([vectors[:7], np.zeros((2, DIM)), vectors[7:]])
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (found.n, found.zeros) == (400, 2)
    assert found.mean == pytest.approx(directions.mean(axis=0), abs=1e-15)
    assert found.covariance == pytest.approx(covariance(directions), abs=1e-15)
    # As many zeros as others in what came first; the fewest vectors that are enough.
    first = np.vstack([vectors[:2], np.zeros((2, DIM))])
    few = add_up([first, vectors[2:3]])
    assert (few.n, few.zeros) == (3, 2)
    assert few.mean == pytest.approx(directions[:3].mean(axis=0), abs=1e-15)
    many = np.tile(vectors, (30, 1)).astype(np.float32)  # more than one part of a block
    assert add_up([many]).covariance == pytest.approx(found.covariance, abs=1e-7)


def test_axes_are_those_of_scikit_learn(vectors):
    from sklearn.decomposition import PCA

    axes, theirs = principal_axes(add_up([vectors])), PCA().fit(unit(vectors))
    assert axes.variances == pytest.approx(theirs.explained_variance_ * 399 / 400)
    assert np.abs((axes.axes * theirs.components_.T).sum(axis=0)) == pytest.approx(np.ones(DIM))
    assert (axes.axes[np.abs(axes.axes).argmax(axis=0), range(DIM)] > 0).all()


def test_whitening_makes_the_covariance_the_identity(vectors):
    found = add_up([vectors])
    for transform in (pca(found, shrinkage=0), zca(found, shrinkage=0)):
        white = transform.apply(vectors)
        assert white.mean(axis=0) == pytest.approx(0, abs=1e-12)
        assert covariance(white) == pytest.approx(np.eye(DIM), abs=1e-10)
    few = pca(found, dims=5, shrinkage=0)
    assert few.dims == (DIM, 5)
    assert covariance(few.apply(vectors)) == pytest.approx(np.eye(5), abs=1e-10)


def test_pca_is_that_of_scikit_learn(vectors):
    from sklearn.decomposition import PCA

    theirs = PCA(6, whiten=True).fit_transform(unit(vectors)) * np.sqrt(400 / 399)
    ours = pca(add_up([vectors]), dims=6, shrinkage=0).apply(vectors)
    assert np.abs(ours) == pytest.approx(np.abs(theirs), abs=1e-9)


def test_zca_changes_vectors_least(vectors, rng):
    """Of all W with W'CW = 1, the symmetric one keeps them nearest (Kessy et al. 2018)."""
    found = add_up([vectors])
    centred = unit(vectors) - found.mean
    white = zca(found, shrinkage=0).apply(vectors)
    least = np.linalg.norm(white - centred)
    for _ in range(20):
        small = np.eye(DIM) + 0.1 * rng.normal(size=(DIM, DIM))
        assert np.linalg.norm(white @ np.linalg.qr(small)[0] - centred) > least
    assert np.linalg.norm(pca(found, shrinkage=0).apply(vectors) - centred) > least
    # Cosines, which turning changes nothing of, are the same.
    one, other = (unit(fit(found).apply(vectors)) for fit in (pca, zca))
    assert one @ one.T == pytest.approx(other @ other.T, abs=1e-12)


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_cosines_do_not_depend_on_the_axes_nor_on_lengths(vectors, rng, method):
    turn = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    other = (vectors @ turn) * rng.uniform(0.1, 9, (400, 1))
    one, other = (unit(method.fit(add_up([rows])).apply(rows)) for rows in (vectors, other))
    assert one @ one.T == pytest.approx(other @ other.T, abs=1e-10)


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_method_widens_a_cone(vectors, method):
    after = method.fit(add_up([vectors])).apply(vectors)
    before, after = (moments(unit(rows)) for rows in (vectors, after))
    assert isotropy.anisotropy(before) > 0.4
    assert abs(isotropy.anisotropy(after)) < 0.03
    assert isotropy.isoscore(after) > isotropy.isoscore(before)
    assert isotropy.effective_rank(after) > isotropy.effective_rank(before)


def test_shrinkage_bounds_what_is_stretched(vectors):
    """At share s, against an axis of mean variance none is stretched more than 1 / sqrt(s)."""
    found = add_up([vectors])
    variances = np.linalg.eigvalsh(found.covariance)
    for share in (0.01, 0.3, 1):
        gains = np.linalg.svd(zca(found, shrinkage=share).steps[-1].matrix, compute_uv=False)
        assert gains.max() * np.sqrt(variances.mean()) <= 1 / np.sqrt(share) + 1e-9
        shrunk = (1 - share) * variances + share * variances.mean()
        assert np.sort(gains) == pytest.approx(np.sort(1 / np.sqrt(shrunk)))
    centred = unit(center(found).apply(vectors))
    assert unit(zca(found, shrinkage=1).apply(vectors)) == pytest.approx(centred, abs=1e-12)


@pytest.mark.parametrize("n", [5, 30, 400])
def test_the_shrinkage_is_that_of_ledoit_and_wolf(vectors, n):
    from sklearn.covariance import ledoit_wolf_shrinkage

    some = vectors[:n]
    share = ledoit_wolf(add_up([some]))
    assert share == pytest.approx(ledoit_wolf_shrinkage(unit(some)), rel=1e-9)
    assert 0 < share < 1


@pytest.mark.parametrize("noise", [0, 1e-9])
def test_what_varies_alike_in_every_direction_is_shrunk_wholly(noise):
    """The estimate is 0 / 0, or a number far above 1: nothing but chance tells axes apart."""
    variances = np.full(4, 0.25) + noise * np.array([1, -1, 1, -1])
    assert ledoit_wolf(Directions(3, np.zeros(4), np.diag(variances), 0)) == 1


def test_all_but_the_top_takes_one_in_a_hundred(rng):
    found = add_up([rng.normal(size=(9, 150))])
    assert np.linalg.matrix_rank(abtt(found).steps[-1].matrix) == 148
    assert np.array_equal(abtt(found, components=0).steps[-1].matrix, np.eye(150))
    assert pca(found, dims=1).dims == (150, 1)


def test_all_but_the_top_takes_the_top_away(vectors):
    found = add_up([vectors])
    directions = unit(vectors)
    # By singular values of the centred rows.
    axes = np.linalg.svd(directions - directions.mean(axis=0), full_matrices=False)[2]
    left = abtt(found, components=3).apply(vectors)
    centred = directions - directions.mean(axis=0)
    assert left == pytest.approx(centred - centred @ axes[:3].T @ axes[:3], abs=1e-12)
    assert abtt(found, components=3).dims == (DIM, DIM)
    assert left @ axes[:3].T == pytest.approx(0, abs=1e-12)
    assert left @ axes[3:].T == pytest.approx(centred @ axes[3:].T, abs=1e-12)
    # A hundredth of the dimensions, and at least one.
    assert abtt(found).apply(vectors) == pytest.approx(abtt(found, components=1).apply(vectors))
    wide = np.random.default_rng(1).normal(size=(400, 300))
    rank = np.linalg.matrix_rank(abtt(add_up([wide])).steps[-1].matrix)
    assert rank == 300 - 3


def test_directions_without_variance_have_none_at_all(rng):
    axes = principal_axes(add_up([rng.normal(size=(5, DIM))]))
    assert axes.rank == 4
    assert (axes.variances[:4] > 1e-3).all()
    assert (axes.variances[4:] == 0).all()


def test_fewer_vectors_than_dimensions(rng):
    """What they do not vary along is stretched as far as shrinkage lets it, or refused."""
    few = rng.normal(size=(8, 40))
    found = add_up([few])
    assert principal_axes(found).rank == 7
    for transform in (zca(found), pca(found), pca(found, dims=7, shrinkage=0), abtt(found)):
        assert np.isfinite(transform.apply(few)).all()
    white = pca(found, dims=7, shrinkage=0).apply(few)
    assert covariance(white) == pytest.approx(np.eye(7), abs=1e-9)
    with pytest.raises(InputError, match="8 vectors of 40 dimensions vary along 7 directions"):
        zca(found, shrinkage=0)
    with pytest.raises(InputError, match="vary along 7"):
        pca(found, dims=8, shrinkage=0)
    with pytest.raises(InputError, match="without 7, nothing is left"):
        abtt(found, components=7)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.eye(2), "at least 3 vectors"),
        (np.zeros((9, 4)), "at least 3 vectors"),
        (np.full((9, 4), np.nan), "not finite"),
        (np.full((9, 4), np.inf), "not finite"),
    ],
)
def test_what_has_no_directions(rows, message):
    with pytest.raises(InputError, match=message):
        add_up([rows])
    with pytest.raises(InputError, match="at least 3"):
        add_up([])


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_one_direction_is_not_spread(method):
    one = add_up([np.outer(np.arange(1, 9), np.float32([0.1, 0.2, 0.7])).astype(np.float32)])
    with pytest.raises(InputError, match="all vectors point the same way"):
        method.fit(one)


def test_options_out_of_range(vectors):
    found = add_up([vectors])
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="between 0 and 1"):
            zca(found, shrinkage=share)
    for dims in (0, DIM + 1):
        with pytest.raises(InputError, match=f"{dims} dimensions cannot be kept of {DIM}"):
            pca(found, dims=dims)
