import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embcli.core.pooling import normalize_rows, sum_rows


@given(
    lengths=st.lists(st.integers(0, 600), max_size=30),
    seed=st.integers(0, 1000),
    half=st.booleans(),
)
def test_sum_rows_equals_a_loop(lengths, seed, half):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(50, 7)).astype(np.float16 if half else np.float32)
    rows = rng.integers(0, 50, sum(lengths))
    expected = np.zeros((len(lengths), 7), np.float32)
    start = 0
    for i, length in enumerate(lengths):
        for row in rows[start : start + length]:
            expected[i] += table[row].astype(np.float32)
        start += length
    sums = sum_rows(table, rows, np.array(lengths, np.int64))
    assert sums.dtype == np.float32
    np.testing.assert_array_equal(sums, expected)


def test_normalize_rows_leaves_zeros_alone():
    vectors = np.float32([[3, 4], [0, 0]])
    np.testing.assert_allclose(normalize_rows(vectors), [[0.6, 0.8], [0, 0]], rtol=1e-7)
