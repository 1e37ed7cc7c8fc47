"""Damage done to files: what a bad disk, a bad cable and a bad neighbour do to bytes."""

import re
from collections.abc import Sequence
from random import Random

_WIDTHS = (1, 2, 4, 8)
# What counts and lengths overflow at, and what they must not be.
_INTERESTING = (
    0, 1, -1, 2, 127, 128, 255, 256, 32767, 65535, 2**20, 2**24, 2**31 - 1, 2**31, 2**32 - 1,
    2**40, 2**62, 2**63 - 1, -(2**31), -(2**63),
)  # fmt: skip
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_NUMBERS = (
    b"0", b"-1", b"-0", b"1e400", b"1e-400", b"1E5", b"0x10", b"1_000", b"999999999",
    b"99999999999999999999", b"9" * 400, b"9" * 5000, b"0.1", b".5", b"5.", b"1e", b"nan", b"NaN",
    b"-inf", b"Infinity", b"2147483648", b"4294967296", b"9223372036854775808", b"true", b"null",
    b"", b"[]", b'"x"', b"\xc2\xb2", b"\xd9\xa3",
)  # fmt: skip
TOKENS = (
    b"\0", b"\n", b"\r", b"\r\n", b"\t", b" ", b'"', b"'", b"`", b"\\", b",", b";", b"|", b":",
    b"{", b"}", b"[", b"]", b"(", b")", b"<", b">", b"=", b"\x1b[31m", b"\x9b", b"\xe2\x80\xae",
    b"\xff", b"\xfe", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80",
    b"\\ud800", b"\\u0000", b'{"a":', b"[" * 200, b"{" * 200, b'{"a":' * 300, b'"' * 99, b'""',
    b'x","', b"%s", b"../../", b"/etc/passwd", b"\xe2\x80\xa8", b"\xc2\x85", b"\x0b", b"\x0c",
    b"\x1c", b"NaN", b"Infinity", b"null", b"true", b"1e999", b"\xf0\x9f\x98\x80", b"e\xcc\x81",
    b"id", b"text", b"vector", b"__metadata__", b"AND", b"OR", b"NOT", b"NEAR", b"*", b"a" * 2000,
)  # fmt: skip


def mutated(rng: Random, seed: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Damage a file in one place or some.

    Parameters
    ----------
    rng : Random
        Decides everything.
    seed : bytes
        What a program wrote, or a person.
    others : sequence of bytes
        Other files of the kind, of which parts may get into it.
    """
    data = seed
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        data = rng.choice(_WAYS)(rng, data, others)
    return data


def _flip(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    if not data:
        return b"\0"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _overwrite(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Put a number in the place of another, as wide as those of headers are."""
    width = rng.choice(_WIDTHS)
    number = rng.choice(_INTERESTING) % (1 << 8 * width)
    # Headers are in front, most of them.
    at = rng.randrange(max(1, min(len(data), rng.choice((16, 64, 256, 1 << 30)))))
    return data[:at] + number.to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]


def _drop(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _repeat(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    times = rng.choice((2, 2, 3, 20, 300)) if end - start < 200 else 2
    return data[:start] + data[start:end] * times + data[end:]


def _insert(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(TOKENS) + data[at:]


def _truncate(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _renumber(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Write another number where there is one in decimals."""
    found = list(_NUMBER.finditer(data[:4096]))
    if not found:
        return _insert(rng, data, others)
    start, end = rng.choice(found).span()
    return data[:start] + rng.choice(_NUMBERS) + data[end:]


def _swap(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start, middle = _span(rng, data)
    end = min(len(data), middle + rng.randrange(1, 65))
    return data[:start] + data[middle:end] + data[start:middle] + data[end:]


def _splice(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    if not others:
        return _swap(rng, data, others)
    start, end = _span(rng, data)
    other = rng.choice(others)
    first, last = _span(rng, other)
    return data[:start] + other[first:last] + data[end:]


def _span(rng: Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 2, 4, 8, 30, 100, 1000)))


_WAYS = (
    _flip, _flip, _overwrite, _overwrite, _drop, _repeat, _insert, _insert, _truncate, _renumber,
    _swap, _splice,
)  # fmt: skip
