import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embcli.core.decimals import PADDING, parse_decimals


def parse(numbers):
    data = b"0" * PADDING
    starts, ends = [], []
    for number in numbers:
        starts.append(len(data))
        data += number.encode()
        ends.append(len(data))
        data += b" "
    return parse_decimals(data + b"  ", np.array(starts, int), np.array(ends, int))


@given(st.lists(st.floats(-9.9, 9.9), min_size=1), st.integers(1, 17))
def test_as_python_parses(numbers, digits):
    """Correctly rounded, or left to others: never another number."""
    written = [f"{number:.{digits}f}" for number in numbers]
    values, parsed = parse(written)
    expected = np.array([float(number) for number in written])
    assert (values[parsed] == expected[parsed]).all()
    assert (np.signbit(values[parsed]) == np.signbit(expected[parsed])).all()
    if digits <= 14:
        assert parsed.all()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1))
def test_every_float32(numbers):
    written = [str(np.float32(number)) for number in numbers]
    values, parsed = parse(written)
    expected = np.array([float(number) for number in written])
    assert (values[parsed] == expected[parsed]).all()


@pytest.mark.parametrize(
    "text", ["1", "-1", "12.5", "1e-05", "1.5e3", ".5", "5.", "", "-", "0.1.2", "0.1a", "a.12",
             "0,12", "nan", "inf", "+0.5", "0.1\u00e9", "0.12345678901234567"]
)  # fmt: skip
def test_what_is_written_in_another_way_is_left_to_others(text):
    assert not parse([text])[1].any()


def test_mixed_lengths_stay_in_their_places():
    written = ["0.5", "-1.25", "1e-05", "9.123456789012345", "-0.0"]
    values, parsed = parse(written)
    assert parsed.tolist() == [True, True, False, False, True]
    assert values[[0, 1, 4]].tolist() == [0.5, -1.25, 0.0]
    assert np.signbit(values[4])
