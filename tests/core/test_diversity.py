import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from embcli.core.diversity import maximal_marginal_relevance


def spelled_out(relevance, vectors, trade, k):
    """The formula of the paper, one candidate after the other."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen, values = [], []
    while len(chosen) < min(k, len(vectors)):
        left = [i for i in range(len(vectors)) if i not in chosen]
        marginal = {
            i: trade * relevance[i]
            - (1 - trade) * max((float(unit[i] @ unit[j]) for j in chosen), default=0)
            for i in left
        }
        best = max(left, key=lambda i: (round(marginal[i], 12), -i))
        chosen.append(best)
        values.append(marginal[best])
    return chosen, values


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 25),
    k=st.integers(1, 30),
    trade=st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]),
)
@settings(max_examples=150, deadline=None)
def test_equals_the_formula(seed, n, k, trade):
    rng = np.random.default_rng(seed)
    relevance, vectors = rng.random(n), rng.normal(size=(n, 5))
    chosen, values = maximal_marginal_relevance(relevance, vectors, trade, k)
    expected, worth = spelled_out(relevance, vectors, trade, k)
    assert chosen.tolist() == expected
    np.testing.assert_allclose(values, worth, atol=1e-12)


def test_relevance_alone_keeps_the_order():
    relevance = np.array([0.9, 0.8, 0.8, 0.1])
    vectors = np.tile([[1.0, 2.0]], (4, 1))
    chosen, values = maximal_marginal_relevance(relevance, vectors, 1, 4)
    assert chosen.tolist() == [0, 1, 2, 3]
    assert values.tolist() == relevance.tolist()


def test_a_double_waits():
    vectors = np.array([[1.0, 0], [1, 0], [0.5, 1]])
    chosen, _ = maximal_marginal_relevance(np.array([0.9, 0.9, 0.6]), vectors, 0.5, 3)
    assert chosen.tolist() == [0, 2, 1]


def test_a_vector_of_zeros_is_like_nothing():
    vectors = np.array([[1.0, 0], [0, 0], [1, 0.1]])
    chosen, _ = maximal_marginal_relevance(np.array([0.9, 0.5, 0.8]), vectors, 0.5, 2)
    assert chosen.tolist() == [0, 1]
