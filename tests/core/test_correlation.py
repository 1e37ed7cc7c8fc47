import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from embcli.core.correlation import ranks, spearman

VALUES = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=30)


@given(VALUES)
def test_as_scipy_has_it_ties_too(pairs):
    left, right = (list(map(float, side)) for side in zip(*pairs, strict=True))
    assert ranks(left).tolist() == rankdata(left).tolist()
    if len(set(left)) > 1 and len(set(right)) > 1:
        assert spearman(left, right) == pytest.approx(spearmanr(left, right).statistic)
    else:
        assert math.isnan(spearman(left, right))


def test_only_order_matters():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50))
    assert spearman(np.exp(a), b**3) == pytest.approx(spearman(a, b))
    assert spearman(a, -a) == pytest.approx(-1)
    assert math.isnan(spearman([1.0], [2.0]))
    assert math.isnan(spearman([], []))
