"""A map in characters, for a terminal."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.cells import cell_len

from embcli.errors import InputError
from embcli.output import plain

Ints = NDArray[np.int64]

# In a cell of braille are two columns of four dots; the bit of each, row by row.
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
_BLANK = 0x2800
# Of a terminal's own sixteen colours, which its user has made readable.
_COLOURS = (34, 33, 32, 31, 35, 36, 94, 93)
_OTHERS = 90
_LETTERS = "abcdefgh"
_LONGEST = 40


def terminal_map(
    points: ArrayLike,
    groups: Sequence[str | None] | None = None,
    *,
    width: int,
    height: int,
    colour: bool = True,
    unicode: bool = True,
) -> list[str]:
    """Draw a map in characters, and below it which groups are the largest.

    Parameters
    ----------
    points : float array, shape (n, 2)
    groups : sequence of str or None, n of them, optional
        None where a point is in no group.
    width, height : int
        Of the map, in characters; no line is wider. The legend takes further lines.
    colour : bool
        The largest groups have colours (of the terminal's own sixteen), else letters. A character
        has that of the group that most of its points are in.
    unicode : bool
        Draw dots, eight in a character (braille); else a character a cell.

    Returns
    -------
    lines : list of str
        With no control character but those of colours.

    Raises
    ------
    InputError
        There is no point, a coordinate is not finite, or not as many groups as points.

    Notes
    -----
    Both axes have the same scale, a character being taken for twice as high as wide.
    """
    places = np.asarray(points, np.float64)
    if places.ndim != 2 or places.shape[1] != 2 or not len(places):
        raise InputError(f"a map takes at least one point (n, 2), and got shape {places.shape}")
    if not np.isfinite(places).all():
        raise InputError("not all coordinates of the map are finite")
    if groups is not None and len(groups) != len(places):
        raise InputError(f"{len(groups):,} groups for {len(places):,} points")
    counts = Counter(group for group in groups or () if group is not None)
    largest = sorted(counts, key=lambda group: (-counts[group], group))[: len(_COLOURS)]
    numbers: dict[str | None, int] = {group: number for number, group in enumerate(largest)}
    # Those in no group, or in a small one, come last.
    rest = len(largest)
    member = np.array([numbers.get(group, rest) for group in groups or [None] * len(places)])
    width, height = max(width, 2), max(height, 1)
    rows, columns = _dots(places, width, height)
    cells = rows // 4 * width + columns // 2
    bits = np.zeros(width * height, np.int64)
    np.bitwise_or.at(bits, cells, _BITS[rows % 4, columns % 2])
    leading = _leading(cells, member, rest + 1, width * height)
    lettered = not unicode or (not colour and rest > 1)
    letters = _LETTERS[:rest] + "."
    marks = [
        " " if not dots else letters[leader] if lettered else chr(_BLANK + dots)
        for dots, leader in zip(bits.tolist(), leading.tolist(), strict=True)
    ]
    codes = [*_COLOURS[:rest], _OTHERS] if colour and largest else None
    lines = [
        _coloured(marks[at : at + width], leading[at : at + width].tolist(), codes)
        for at in range(0, len(marks), width)
    ]
    counted = [(group, counts[group]) for group in largest]
    if 0 < sum(counts[group] for group in largest) < len(places):
        counted.append(("others", len(places) - sum(counts[group] for group in largest)))
    signs = letters if lettered else "●" * (rest + 1)
    if not unicode:
        counted = [(ascii(group)[1:-1], count) for group, count in counted]
    return lines + _legend(counted, width, signs, codes, "…" if unicode else "...")


def _dots(places: NDArray[np.float64], width: int, height: int) -> tuple[Ints, Ints]:
    """Give each point a row and a column of dots, both axes to one scale, in the middle."""
    low, high = places.min(axis=0), places.max(axis=0)
    room = np.array([2 * width - 1, 4 * height - 1])
    # Half of either, so that no sum of two large numbers is infinite.
    half = high / 2 - low / 2
    with np.errstate(divide="ignore"):
        scale = float((room / 2 / half).min()) if half.any() else 0.0
    across, up = np.rint(2 * (places / 2 - low / 4 - high / 4) * scale + room / 2).T
    columns = np.clip(across, 0, room[0]).astype(np.int64)
    rows = room[1] - np.clip(up, 0, room[1]).astype(np.int64)
    return rows, columns


def _leading(cells: Ints, member: Ints, groups: int, count: int) -> Ints:
    """Find the group that most points of each cell are in; of equals the larger one."""
    held, numbers = np.unique(cells * groups + member, return_counts=True)
    leading = np.zeros(count, np.int64)
    order = np.lexsort((-held, numbers))
    # Of several values for one cell the last one stays.
    leading[held[order] // groups] = held[order] % groups
    return leading


def _coloured(marks: list[str], leading: list[int], codes: list[int] | None) -> str:
    """Write a line, a code for each stretch of one colour."""
    if codes is None:
        return "".join(marks).rstrip()
    parts = []
    for leader, stretch in groupby(
        zip(marks, leading, strict=True), key=lambda cell: cell[1] if cell[0] != " " else None
    ):
        text = "".join(mark for mark, _ in stretch)
        parts.append(text if leader is None else _sgr(text, codes[leader]))
    return "".join(parts).rstrip()


def _legend(
    counted: list[tuple[str, int]], width: int, signs: str, codes: list[int] | None, more: str
) -> list[str]:
    """Write a sign, a name and a number for each group, as many on a line as there is room for."""
    lines, used = [""], 0
    for at, (group, count) in enumerate(counted):
        number = f" {count:,}"
        name = _cut(plain(group), min(_LONGEST, width - 2 - len(number)), more)
        wide = 2 + cell_len(name) + len(number)
        if wide > width:
            continue
        if used and used + 2 + wide > width:
            lines.append("")
            used = 0
        sign = _sgr(signs[at], codes[at]) if codes else signs[at]
        lines[-1] += "  " * bool(used) + f"{sign} {name}{number}"
        used += wide + 2 * bool(used)
    return lines if counted else []


def _cut(text: str, width: int, more: str) -> str:
    """Cut a text to what takes so many columns of a terminal, the last of which then say so."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text + more) > width:
        text = text[:-1]
    return text + more


def _sgr(text: str, code: int) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"
