import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embcli.core.batching import batch_end, longest_first, padded

LENGTHS = st.lists(st.integers(0, 600), min_size=1, max_size=200).map(np.array)


@given(LENGTHS, st.integers(1, 5000))
def test_every_thing_is_in_one_batch_within_the_budget(lengths, budget):
    order = longest_first(lengths)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    falling = lengths[order]
    assert (np.diff(falling) <= 0).all()
    start = 0
    while start < len(falling):
        end = batch_end(falling, start, budget)
        assert end > start
        assert end == start + 1 or (end - start) * falling[start] <= budget
        start = end
    assert start == len(falling)


@given(LENGTHS)
def test_padding_is_little_and_shapes_are_few(lengths):
    found = padded(lengths, 512)
    assert (found >= lengths).all()
    inside = (lengths > 0) & (lengths <= 512)
    assert (found[inside] <= np.minimum(lengths[inside] * 1.25, 512)).all()
    assert len(np.unique(padded(np.arange(1, 513), 512))) < 50


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, 1), (1, 1), (7, 7), (9, 10), (17, 20), (33, 40), (65, 80), (250, 256)],
)
def test_lengths_that_are_padded_to(length, expected):
    assert padded(np.array([length]), 256).tolist() == [expected]
