import numpy as np
import pytest
from scipy.stats import multivariate_normal

from embcli.core.clustering.agreement import agreement
from embcli.core.clustering.mixture import gaussian_mixture
from embcli.errors import InputError, UsageError


@pytest.mark.parametrize("covariance", ["diag", "full", "tied", "spherical"])
def test_groups_are_found_whatever_the_covariance(caps, covariance):
    vectors, classes = caps((200, 150, 100), width=0.2)
    found = gaussian_mixture(vectors, 3, covariance=covariance)
    assert agreement(found.labels, classes).ari > 0.97
    assert found.strengths.max() <= 1
    assert found.strengths.min() >= 1 / 3
    assert found.details["dims"] == 8
    assert found.details["explained"] == pytest.approx(1)
    assert found.details["converged"]


def test_one_gaussian_has_the_likelihood_and_the_bic_of_its_definition(caps):
    vectors, _ = caps((400,), width=0.4)
    found = gaussian_mixture(vectors, 1, covariance="full", dims=4)
    exact = vectors.astype(float)
    axes = np.linalg.svd(exact - exact.mean(axis=0), full_matrices=False)[2][:4]
    points = (exact - exact.mean(axis=0)) @ axes.T
    floor = 1e-3 * points.var(axis=0).mean()
    normal = multivariate_normal(np.zeros(4), np.cov(points.T, bias=True) + floor * np.eye(4))
    likelihood = normal.logpdf(points).sum()
    assert found.details["log_likelihood"] == pytest.approx(likelihood / 400)
    assert found.details["bic"] == pytest.approx(14 * np.log(400) - 2 * likelihood)
    assert found.strengths.tolist() == [1] * 400


def test_the_bic_is_lowest_at_the_number_of_gaussians(caps):
    vectors, _ = caps((150,) * 4, dim=6, width=0.12)
    several = {k: gaussian_mixture(vectors, k, covariance="full") for k in (2, 3, 4, 5, 8)}
    assert min(several, key=lambda k: several[k].details["bic"]) == 4


def test_equal_vectors_and_few_make_no_trouble():
    same = gaussian_mixture(np.ones((6, 1), np.float32), 3)
    assert same.labels.tolist() == [0] * 6
    two = gaussian_mixture(np.repeat(np.eye(2, dtype=np.float32), 3, axis=0), 4)
    assert two.count == 2
    assert np.isfinite(two.details["bic"])
    assert gaussian_mixture(np.eye(3, dtype=np.float32), 3).count == 3


def test_what_cannot_be_fitted_is_refused(caps):
    vectors, _ = caps()
    with pytest.raises(InputError):
        gaussian_mixture(vectors[:4], 5)
    for k, options in ((0, {}), (2, {"dims": 0}), (2, {"covariance": "round"})):
        with pytest.raises(UsageError):
            gaussian_mixture(vectors, k, **options)
