"""Colours of figures and pages, as hex numbers, on light ground and on dark."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# By whether the theme is dark.
GROUND = {False: "#ffffff", True: "#14171a"}
INK = {False: "#1a1a1a", True: "#e8eaed"}
# Of what is less important than what is read first: counts, explanations, lines.
FAINT = {False: "#5f6368", True: "#9aa0a6"}

# Okabe and Ito's, the strongest first. Their yellow is hardly seen on white, so that olive takes
# its place there; their black cannot be seen on a dark ground, where white does.
_COMMON = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"]
_LAST = {False: ["#000000", "#6b6200"], True: ["#f0e442", "#ffffff"]}
_NEUTRAL = {False: "#b4b8bc", True: "#5a6067"}
# Viridis without the end that the ground swallows, low values first.
_VIRIDIS = [
    "#fde725", "#d2e21b", "#a5db36", "#7ad151", "#54c568", "#35b779", "#22a884", "#1f988b",
    "#23888e", "#2a788e", "#31688e", "#39568c", "#414487", "#472f7d", "#481a6c", "#440154",
]  # fmt: skip
_SEQUENTIAL = {False: _VIRIDIS[1:], True: _VIRIDIS[-3::-1]}
# By OKLab, of further colours: what stands out from the ground, and is neither grey nor neon.
_LIGHTNESS = {False: (0.3, 0.78), True: (0.48, 0.93)}
_CHROMA = (0.06, 0.22)
_STEP = 17

# Ottosson (2020), OKLab: from linear RGB to cones, from their cube roots to lightness and hue.
_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB: no red cones, no green ones.
_BLIND = np.array(
    [
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
    ]
)


def neutral(dark: bool = False) -> str:
    """Give the grey of what is in no group and of what has no value."""
    return _NEUTRAL[dark]


def sequential(dark: bool = False) -> list[str]:
    """Give the stops of a perceptually uniform map, low values first; high ones stand out most.

    They are viridis's, evenly spaced; colours between them are found by linear interpolation.
    """
    return list(_SEQUENTIAL[dark])


def categorical(count: int, dark: bool = False) -> list[str]:
    """Give colours of so many groups, the greatest group's first.

    The first eight are Okabe and Ito's, which people with any colour vision can tell apart. Every
    further one is, of a grid of colours that stand out from the ground, the one farthest from all
    before it, from the ground and from `neutral`; so the first colours are the same whatever the
    count. Distances are in OKLab: the mean of that seen by most people and of the lesser of those
    seen without red or without green cones, which leads to colours that differ in lightness. No
    forty colours are easy to tell apart: names in the figure have to help.

    Parameters
    ----------
    count : int
    dark : bool
        For a dark ground.

    Returns
    -------
    colours : list of str, count of them
        As ``#rrggbb``. They repeat where the grid is at its end, after some hundreds.

    References
    ----------
    Okabe and Ito (2008), Color Universal Design. Machado et al. (2009), A Physiologically-based
    Model for Simulation of Color Vision Deficiency. Ottosson (2020), OKLab.
    """
    first = _COMMON + _LAST[dark]
    if count <= len(first):
        return first[:count]
    colours = [*first, *_further(dark)]
    return [colours[at % len(colours)] for at in range(count)]


def mix(colour: str, ground: str, share: float) -> str:
    """Lay a colour over a ground so thin that this share of it remains."""
    return _hex(share * rgb(colour) + (1 - share) * rgb(ground))


def rgb(colour: str) -> Floats:
    """Give red, green and blue of ``#rrggbb``, shape (3,), from 0 to 1."""
    return np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255


def luminance(colour: str) -> float:
    """Measure how light a colour is, from 0 to 1, by WCAG's definition (relative luminance)."""
    return float(_linear(rgb(colour)) @ [0.2126, 0.7152, 0.0722])


@cache
def _further(dark: bool) -> tuple[str, ...]:
    """Order the colours of a grid so that each is far from those before it."""
    levels = np.arange(0, 256, _STEP) / 255
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    seen = _seen(grid)
    low, high = _LIGHTNESS[dark]
    light, chroma = seen[0, :, 0], np.hypot(seen[0, :, 1], seen[0, :, 2])
    use = (light >= low) & (light <= high) & (chroma >= _CHROMA[0]) & (chroma <= _CHROMA[1])
    grid, seen = grid[use], seen[:, use]
    before = [*_COMMON, *_LAST[dark], GROUND[dark], _NEUTRAL[dark]]
    nearest = np.full(len(grid), np.inf)
    for colour in _seen(np.stack([rgb(each) for each in before])).swapaxes(0, 1):
        nearest = np.minimum(nearest, _apart(seen, colour))
    found = []
    for _ in range(min(len(grid), 500)):
        best = int(np.argmax(nearest))
        found.append(_hex(grid[best]))
        nearest = np.minimum(nearest, _apart(seen, seen[:, best]))
    return tuple(found)


def _apart(seen: Floats, colour: Floats) -> Floats:
    """Measure how far colours (3, n, 3) are from one (3, 3), both as three kinds of eyes see."""
    usual, *others = np.linalg.norm(seen - colour[:, None], axis=2)
    distance: Floats = (usual + np.minimum(*others)) / 2
    return distance


def _seen(rgb: Floats) -> Floats:
    """Give OKLab coordinates (3, n, 3) of colours (n, 3) to usual eyes and to two other kinds."""
    linear = _linear(rgb)
    kinds = np.stack([linear, *(np.clip(linear @ blind.T, 0, 1) for blind in _BLIND)])
    lab: Floats = np.cbrt(kinds @ _CONES.T) @ _LAB.T
    return lab


def _linear(rgb: Floats) -> Floats:
    linear: Floats = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear


def _hex(rgb: Floats) -> str:
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in rgb)
