"""Blocks of lines, each a token and numbers, parsed together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embcli.core.decimals import PADDING, parse_decimals
from embcli.errors import counted

_NEWLINE = ord("\n")
_SHOWN = 40


@dataclass(frozen=True, eq=False)
class Block:
    """What a block of lines holds.

    Attributes
    ----------
    tokens : list of bytes
        One for each line.
    whole : int array, shape (n,)
        The lines with enough fields, from 0. Others have no vector: they may be as many as the
        characters, and a dimension may be anything.
    vectors : float32 array, shape (n, dim)
        Of these lines.
    problems : dict of int to str
        What is wrong, by line within the block, from 0.
    """

    tokens: list[bytes]
    whole: NDArray[np.intp]
    vectors: NDArray[np.float32]
    problems: dict[int, str]


def parse_block(lines: bytes, dim: int, separator: bytes = b" ") -> Block:
    """Parse lines that all end in LF.

    The last `dim` fields of a line are the numbers; what precedes them is the token, which may
    hold separators itself. White space at the end of a line is passed over.

    Parameters
    ----------
    lines : bytes
    dim : int
    separator : bytes
        One character.
    """
    lines = lines.replace(b"\r\n", b"\n")
    while separator + b"\n" in lines:  # as word2vec and fastText end their lines
        lines = lines.replace(separator + b"\n", b"\n")
    data = b"".join((b"0" * PADDING, lines, b"  "))
    del lines
    characters = np.frombuffer(data, np.uint8)
    is_cut = characters == ord(separator)
    is_cut |= characters == _NEWLINE
    cuts = np.flatnonzero(is_cut[:-2])
    line_ends = np.flatnonzero(characters[cuts] == _NEWLINE)
    line_starts = np.concatenate(([PADDING], cuts[line_ends] + 1))
    fields = np.diff(line_ends, prepend=-1)  # with the token's own
    long_enough = fields > dim
    token_ends = np.where(long_enough, cuts[np.maximum(line_ends - dim, 0)], line_starts[:-1])
    tokens = [
        data[start:end]
        for start, end in zip(line_starts[:-1].tolist(), token_ends.tolist(), strict=True)
    ]
    problems: dict[int, str] = {}
    edges = cuts[line_ends[long_enough, None] + np.arange(-dim, 1)]
    starts, ends = (edges[:, :-1] + 1).ravel(), edges[:, 1:].ravel()
    values, parsed = parse_decimals(data, starts, ends)
    rows = np.flatnonzero(long_enough)
    for number in np.flatnonzero(~parsed).tolist():
        row = int(rows[number // dim])
        text = data[starts[number] : ends[number]]
        try:
            values[number] = _other_number(text)
        except ValueError:
            problems.setdefault(row, f"{shown(text)} is not a number")
    with np.errstate(over="ignore"):
        vectors = values.reshape(-1, dim).astype(np.float32)
    for row in np.flatnonzero(~long_enough).tolist():
        problems[row] = (
            f"expected a token and {dim} numbers, found {counted(int(fields[row]), 'field')}"
        )
    for row in np.flatnonzero(fields > dim + 1).tolist():
        if _is_ragged(tokens[row].split(separator)[1:]):
            problems[row] = f"expected {dim} numbers, found {fields[row] - 1}"
    for row in [row for row, token in enumerate(tokens) if not token]:
        problems.setdefault(row, "there is no token before the numbers")
    return Block(tokens, rows, vectors, problems)


def shown(text: bytes) -> str:
    """Show bytes in a message."""
    return repr(text[:_SHOWN].decode("utf-8", "backslashreplace"))


def is_number(text: bytes) -> bool:
    """Whether this is a number in any notation."""
    try:
        _other_number(text)
    except ValueError:
        return False
    return True


def _other_number(text: bytes) -> float:
    if b"_" in text or not text.strip():  # which Python would take
        raise ValueError
    return float(text)


def _is_ragged(pieces: list[bytes]) -> bool:
    """Whether what seems to belong to a token are numbers too many.

    Whole numbers do belong to tokens ("route 66"); components have a point or an exponent.
    """
    return all(is_number(piece) and not piece.isdigit() for piece in pieces)
