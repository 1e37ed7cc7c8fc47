"""The groups of what is drawn, largest first, and their colours."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.errors import InputError
from embcli.viz.colours import GROUND, INK, categorical, luminance, mix, neutral, rgb
from embcli.viz.figure import SMALL, fitted

Floats = NDArray[np.float64]

# More groups are not listed.
LISTED = 12
# In inches, of a name.
_ENTRY = 2.4
# Numbers are a scale from so many different ones on.
_SCALE = 13


class Groups(NamedTuple):
    """Which group each row is in.

    Attributes
    ----------
    names : list of str
        Largest group first; equally large ones by name.
    counts : list of int
    colours : list of str
        As ``#rrggbb``.
    of_row : int64 array, shape (n,)
        −1 where a row is in none.
    without : int
        How many rows are in none.
    """

    names: list[str]
    counts: list[int]
    colours: list[str]
    of_row: NDArray[np.int64]
    without: int

    def of_rows(self, dark: bool) -> Floats:
        """Give red, green and blue of every row, float64 (n, 3)."""
        # The last one is found at −1.
        return np.stack([rgb(colour) for colour in [*self.colours, neutral(dark)]])[self.of_row]


def is_scale(values: Iterable[object]) -> bool:
    """Say whether values are drawn as a scale of colours, and not as classes.

    That takes numbers only, 13 different ones at least: fewer are told apart better as classes.
    None is no value, and neither is a number that `as_number` has no room for.
    """
    different: set[float] = set()
    for value in values:
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not math.isnan(number := as_number(value)):
            different.add(number)
    return len(different) >= _SCALE


def as_number(value: float) -> float:
    """Give a number that has a place on a scale; NaN if it is infinite or beyond float64."""
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def grouped(groups: Sequence[str | None], rows: int, dark: bool) -> Groups:
    """Sort groups by size and give them colours.

    Parameters
    ----------
    groups : sequence of str or None
        The group of every row; None where it is in none.
    rows : int
    dark : bool

    Raises
    ------
    InputError
        There are not as many as rows.
    """
    if len(groups) != rows:
        raise InputError(f"{len(groups):,} groups of {rows:,} points: a figure takes one for each")
    counts: dict[str, int] = {}
    for name in groups:
        if name is not None:
            counts[name] = counts.get(name, 0) + 1
    names = sorted(counts, key=lambda name: (-counts[name], name))
    places: dict[str | None, int] = {name: at for at, name in enumerate(names)}
    of_row = np.fromiter((places.get(name, -1) for name in groups), np.int64, rows)
    return Groups(
        names,
        [counts[name] for name in names],
        categorical(len(names), dark),
        of_row,
        int((of_row < 0).sum()),
    )


def legend_entries(
    groups: Groups, dark: bool, names: Mapping[str, str] | None = None
) -> list[tuple[str | None, str]]:
    """List the first twelve groups with their colours and counts, and what is grey.

    A group is listed by its other name in `names`, if it has one there.

    Returns
    -------
    entries : list of (str or None, str)
        As `embcli.viz.sheet.draw_legend` takes them.
    """
    entries: list[tuple[str | None, str]] = []
    entries += [
        (colour, f"{fitted((names or {}).get(name, name), SMALL, _ENTRY) or '(empty)'}  {count:,}")
        for name, count, colour in zip(
            groups.names[:LISTED], groups.counts, groups.colours, strict=False
        )
    ]
    if len(groups.names) > LISTED:
        entries.append((None, f"and {len(groups.names) - LISTED:,} more"))
    if groups.without:
        entries.append((neutral(dark), f"in no group  {groups.without:,}"))
    return entries


def readable(colour: str, dark: bool) -> str:
    """Mix a colour with as much ink as it takes to read a text in it (WCAG's 4.5 : 1)."""
    ground = luminance(GROUND[dark])
    for share in np.linspace(0.6, 0, 9).tolist():
        mixed = mix(colour, INK[dark], share)
        low, high = sorted([luminance(mixed), ground])
        if (high + 0.05) / (low + 0.05) >= 4.5:
            break
    return mixed
