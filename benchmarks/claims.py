"""Read claims.toml: what is claimed, and the runs that judge it."""

import tomllib
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent


class Claim(NamedTuple):
    """What is said, and the figure that it is judged by."""

    text: str
    figure: str
    at_most: float | None = None
    at_least: float | None = None
    about: float | None = None
    within: float = 0.0
    unit: str = ""

    @property
    def needed(self) -> str:
        """What the figure must be."""
        if self.at_most is not None:
            return f"≤ {self.at_most:,}"
        if self.at_least is not None:
            return f"≥ {self.at_least:,}"
        return f"{self.about:,} ± {self.within:,}"

    @property
    def is_of_size(self) -> bool:
        """Whether it is about memory or seconds, which smaller sizes say nothing of."""
        return bool(self.unit) and self.unit not in ("%", "points")

    def holds(self, value: float) -> bool:
        """Judge a figure; what is no number holds nothing."""
        if self.at_most is not None:
            return value <= self.at_most
        if self.at_least is not None:
            return value >= self.at_least
        return self.about is not None and abs(value - self.about) <= self.within


class Run(NamedTuple):
    """A script, its arguments, and what is claimed of its figures."""

    name: str
    script: str
    claims: tuple[Claim, ...]
    arguments: str = ""
    quick: str | None = None
    threads: int | None = None


def read(path: Path = FOLDER / "claims.toml") -> list[Run]:
    """Read all runs, in their order."""
    runs = []
    for entry in tomllib.loads(path.read_text(encoding="utf-8"))["run"]:
        claims = tuple(Claim(**claim) for claim in entry.pop("claim", []))
        runs.append(Run(claims=claims, **entry))
    return runs


def number(value: float) -> str:
    """Show a figure by three or four digits."""
    size = abs(value)
    if value == round(value) or size >= 1000:
        return f"{value:,.0f}"
    if size < 1e-3:
        return f"{value:.1e}"
    return f"{value:.3g}" if size >= 1 or size < 0.1 else f"{value:.4f}".rstrip("0").rstrip(".")
