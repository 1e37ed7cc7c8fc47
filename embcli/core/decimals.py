"""Decimal numbers out of bytes, a block of them at a time."""

import numpy as np
from numpy.typing import NDArray

# Bytes that must precede the first number in the buffer: numbers are loaded from their ends.
PADDING = 16

_MOST_DIGITS = 15
_ZEROS = np.uint64(0x3030303030303030)
_TO_SIGN = np.uint64(0x7676767676767676)
_SIGNS = np.uint64(0x8080808080808080)
# Keeps the last so many of eight characters; in little-endian words these are the high bytes.
_LAST = np.array([0] + [(~0 << 8 * (8 - n)) & (2**64 - 1) for n in range(1, 9)], np.uint64)
_POWERS = 10.0 ** np.arange(_MOST_DIGITS + 2)
_WHOLE_POWERS = (10 ** np.arange(_MOST_DIGITS + 2)).astype(np.uint64)
_EXACT = np.uint64(1 << 53)


def parse_decimals(
    data: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Parse numbers written as a sign or none, a digit, a point and up to 15 digits.

    That is how nearly all components of vectors are written. The results are correctly rounded.

    Parameters
    ----------
    data : bytes
        At least `PADDING` bytes precede the first number, and two follow the last.
    starts, ends : int64 array, shape (n,)
        Where each number begins, and where it has ended.

    Returns
    -------
    values : float64 array, shape (n,)
    parsed : bool array, shape (n,)
        Where this is false the number is written in another way, or is none: the value means
        nothing.

    Notes
    -----
    Eight digits are made a number within one 64-bit word by three multiplications (Lemire,
    "Number parsing at a gigabyte per second", 2021, section 4, after Muła). All digits together
    are an integer; where it does not exceed 2^53, it and the power of ten are exact in float64,
    so that their quotient is correctly rounded (Clinger, 1990). About 40 ns a number where a
    block fits into the cache.
    """
    characters = np.frombuffer(data, np.uint8)
    # Every run of eight bytes as one number, wherever it begins.
    words = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
    negative = characters[starts] == ord("-")
    first = starts + negative
    digit = characters[first] - np.uint8(ord("0"))
    length = ends - first - 2  # of what follows the point
    parsed = (digit < 10) & (length > 0) & (length <= _MOST_DIGITS)
    parsed &= characters[first + 1] == ord(".")
    length = np.clip(length, 0, _MOST_DIGITS + 1)
    number, wrong = _digits(words[ends - 8], np.minimum(length, 8))
    if len(length) and length.max() > 8:
        higher, also_wrong = _digits(words[ends - 16], np.maximum(length - 8, 0))
        number += higher * np.uint64(10**8)
        wrong |= also_wrong
    number += digit * _WHOLE_POWERS[length]
    parsed &= (wrong == 0) & (number <= _EXACT)
    values = number / _POWERS[length]
    np.negative(values, out=values, where=negative)
    return values, parsed


def _digits(
    words: NDArray[np.uint64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Read the last so many characters of words; what is wrong is not 0 where one is no digit."""
    digits = (words ^ _ZEROS) & _LAST[counts]
    wrong = ((digits + _TO_SIGN) | digits) & _SIGNS
    for digits_taken, mask in (
        (1, 0x00FF00FF00FF00FF), (2, 0x0000FFFF0000FFFF), (4, 0x00000000FFFFFFFF),
    ):  # fmt: skip
        higher = digits * np.uint64(10**digits_taken)
        digits = (higher + (digits >> np.uint64(8 * digits_taken))) & np.uint64(mask)
    return digits, wrong
