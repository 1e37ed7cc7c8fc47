import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embcli.core.fusion import convex_combination, reciprocal_rank_fusion


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 50), sources=st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_reciprocal_ranks_equal_the_sum_spelled_out(seed, n, sources):
    rng = np.random.default_rng(seed)
    ranks = np.stack([rng.permutation(n) + 1.0 for _ in range(sources)])
    ranks[rng.random(ranks.shape) < 0.3] = np.inf
    expected = [
        sum(1 / (60 + rank) for rank in ranks[:, i].tolist() if rank < np.inf) for i in range(n)
    ]
    np.testing.assert_allclose(reciprocal_rank_fusion(ranks), expected)


def test_reciprocal_ranks_of_the_paper():
    fused = reciprocal_rank_fusion([[1, 2, np.inf], [2, 1, 3]])
    assert fused.tolist() == [1 / 61 + 1 / 62, 1 / 62 + 1 / 61, 1 / 63]
    np.testing.assert_allclose(reciprocal_rank_fusion([[1, 2], [2, 1]], [1, 0]), [1 / 61, 1 / 62])


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 50), alpha=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_a_convex_combination_does_not_depend_on_the_scale_of_a_source(seed, n, alpha):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(2, n))
    low, high, weights = scores.min(axis=1) - 1, scores.max(axis=1), [alpha, 1 - alpha]
    fused = convex_combination(scores, low, high, weights)
    scale, shift = np.array([3.0, 0.2]), np.array([-7.0, 5.0])
    moved = scores * scale[:, None] + shift[:, None]
    again = convex_combination(moved, low * scale + shift, high * scale + shift, weights)
    np.testing.assert_allclose(fused, again, atol=1e-12)
    expected = [
        sum(
            w * (row[i] - lo) / (hi - lo)
            for w, row, lo, hi in zip(weights, scores, low, high, strict=True)
        )
        for i in range(n)
    ]
    np.testing.assert_allclose(fused, expected, atol=1e-12)
    assert fused.max() <= 1 + 1e-12


def test_a_source_without_a_span_says_nothing():
    fused = convex_combination([[0.2, 0.4], [0, 0]], [0, 0], [0.5, 0], [0.5, 0.5])
    assert fused.tolist() == pytest.approx([0.2, 0.4])
