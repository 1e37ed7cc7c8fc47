"""Checksums of rows, made of columns: against plain Python, and what they tell apart."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embcli.store.finding_checks import column_sums, differing

INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)
NUMBERS = st.tuples(INTEGERS, st.floats(allow_nan=True), INTEGERS, st.floats(width=32))


def sum_of(row):
    """SplitMix64 in Python's own integers: its step for each number, from what came before."""
    total, mask = 0, (1 << 64) - 1
    for value in row:
        if isinstance(value, float):
            value = math.nan if math.isnan(value) else value + 0.0
            value = struct.unpack("<q", struct.pack("<d", value))[0]
        total = ((total ^ (value & mask)) + 0x9E3779B97F4A7C15) & mask
        total = ((total ^ (total >> 30)) * 0xBF58476D1CE4E5B9) & mask
        total = ((total ^ (total >> 27)) * 0x94D049BB133111EB) & mask
        total ^= total >> 31
    return total - (1 << 64) if total >> 63 else total


@given(st.lists(NUMBERS, min_size=1))
def test_sums_are_those_of_plain_python(rows):
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    assert column_sums(columns).tolist() == [sum_of(row) for row in rows]


def test_the_mixing_is_that_of_the_paper():
    """Of a generator seeded with 0 the first number is known (Vigna's splitmix64.c)."""
    assert column_sums([np.zeros(1, np.int64)]).view(np.uint64)[0] == 0xE220A8397B1DCDAF


def test_every_bit_of_every_number_counts():
    row = np.array([3, 0, -1, 1 << 40])
    turned = [row]
    for column in range(4):
        for bit in range(64):
            turned.append(row.copy())
            turned[-1].view(np.uint64)[column] ^= np.uint64(1 << bit)
    sums = column_sums(list(np.array(turned).T))
    assert len(np.unique(sums)) == 257
    # Half of the bits of a sum change with any.
    changed = np.bitwise_count((sums[1:] ^ sums[0]).view(np.uint64))
    assert 28 < changed.mean() < 36


def test_a_float_is_taken_as_sqlite_gives_it_back():
    stored = [np.array([0.0, 0.1, np.nan])]
    assert (column_sums([np.array([-0.0, 0.1, None], np.float64)]) == column_sums(stored)).all()
    single = np.float32(0.1)
    (sum,) = column_sums([np.array([single])])
    assert sum == sum_of([float(single)]) != sum_of([0.1])


@pytest.mark.parametrize("value", ["no number", b"", None, 1 << 63, math.inf])
def test_rows_that_cannot_be_read_differ_and_no_others(value):
    rows = [(1, record, 2, 0.5) for record in range(4)]
    rows = [(*row, sum_of(row)) for row in rows]
    rows[2] = (1, 2, value, 0.5, rows[2][-1])
    assert differing("assignments", rows) == [False, False, True, False]
