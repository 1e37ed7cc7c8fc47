"""How a map is to be fitted, and the function that does it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from embcli.core.alignment import Fit, Method, Pairs, method
from embcli.core.maps import Map
from embcli.errors import UsageError, counted
from embcli.pipelines.pairwise import Note

AUTO = "auto"
REFINEMENTS = ("mutual", "self-learning")


@dataclass(frozen=True)
class Plan:
    """How to fit a map.

    Attributes
    ----------
    method : str
        A key of `embcli.core.alignment.METHODS`, or "auto": of some methods the one that
        translates held-out pairs best.
    options : mapping of str to str
        What the method is told, as written on a command line.
    refine : {"mutual", "self-learning"}, optional
        Induce a dictionary by a rotation and rotate again, round by round; other methods are then
        fitted to the last one.
    rounds : int, optional
        Most rounds of that; by default, as many as help.
    robust : bool
        Find pairs that do not belong together, and fit without them.
    select : int, optional
        Fit to so many of the sources only, chosen to cover all.
    holdout : float
        Share of the sources that is kept aside to measure with, at most 2,000.
    seed : int

    Raises
    ------
    UsageError
        There is no such method, or a number is out of its range.
    """

    method: str = AUTO
    options: Mapping[str, str] = field(default_factory=dict)
    refine: str | None = None
    rounds: int | None = None
    robust: bool = False
    select: int | None = None
    holdout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method != AUTO:
            parsed_options(method(self.method), self.options)
        elif self.options:
            raise UsageError("--option goes with a --method")
        if self.refine not in (None, *REFINEMENTS):
            raise UsageError(f"no refinement {self.refine!r} (there are: {', '.join(REFINEMENTS)})")
        if not 0 <= self.holdout < 1:
            raise UsageError(f"--holdout is a share from 0 to below 1, not {self.holdout:g}")
        if min(self.select or 1, self.rounds or 1) < 1 or 0 in (self.select, self.rounds):
            raise UsageError("--select and --rounds must be at least 1")
        if self.rounds is not None and self.refine is None:
            raise UsageError("--rounds is for --refine")
        if self.seed < 0:
            raise UsageError(f"--seed must be at least 0, not {self.seed}")

    def check_unpaired(self) -> None:
        """Refuse what cannot be done without pairs.

        Raises
        ------
        UsageError
        """
        if self.refine or self.robust or self.select is not None:
            raise UsageError(
                "--refine, --robust and --select need pairs; without, methods refine maps"
            )


def parsed_options(method: Method, given: Mapping[str, str]) -> dict[str, Any]:
    """Read what a method is told; each value is of the type of its default.

    Raises
    ------
    UsageError
        The method cannot be told that, or the value is not of the type.
    """
    known = {name: default for name, default in method.options.items() if name != "seed"}
    parsed: dict[str, Any] = {}
    for name, text in given.items():
        if name not in known:
            raise UsageError(
                f"method {method.name!r} has no option {name!r} (it has: "
                f"{', '.join(f'{key}={value}' for key, value in known.items()) or 'none'})"
            )
        parsed[name] = _parsed(name, text, known[name])
    return parsed


def _parsed(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise UsageError(f"option {name} is true or false, not {text!r}")
        return text.lower() == "true"
    if isinstance(default, str) and default != AUTO:
        return text
    try:
        if isinstance(default, int):
            return int(text)
        number = float(text)
        if np.isfinite(number):
            return number
    except ValueError:
        pass
    if isinstance(default, str):
        return text
    raise UsageError(f"option {name} is a number like {default}, not {text!r}")


def told(name: str, plan: Plan) -> dict[str, Any]:
    """Give all that a method is told, defaults included."""
    chosen = method(name)
    given = parsed_options(chosen, plan.options) if plan.method == name else {}
    seed = {"seed": plan.seed} if "seed" in chosen.options else {}
    return chosen.options | given | seed


def fitter(name: str, plan: Plan, note: Note = lambda message: None) -> Callable[[Pairs], Map]:
    """Give the function that fits as planned, by one method, and says what it left out or found."""
    fit: Fit = partial(method(name).fit, **told(name, plan))
    if plan.robust:
        fit = _robust(fit, plan, note)
    return _refined(fit, plan, name == "procrustes", note) if plan.refine is not None else fit


def _robust(fit: Fit, plan: Plan, note: Note) -> Fit:
    from embcli.core.alignment.robust import robust

    def fitted(pairs: Pairs) -> Map:
        found = robust(pairs, fit, seed=plan.seed)
        note(
            f"--robust: fitted to {int(found.kept.sum()):,} of {counted(len(pairs.rows), 'pair')}; "
            f"about {found.wrong:.0%} look wrong"
        )
        return found.map

    return fitted


def _refined(fit: Fit, plan: Plan, rotation: bool, note: Note) -> Fit:
    """Refine by Procrustes, which needs few pairs, then fit to the pairs that were found."""
    from embcli.core.alignment.refinement import refine

    refining = partial(refine, kind=plan.refine or "mutual", seed=plan.seed)
    if plan.rounds is not None:
        refining = partial(refining, rounds=plan.rounds)

    def fitted(pairs: Pairs) -> Map:
        found = refining(pairs, fit if rotation else method("procrustes").fit)
        induced = found.dictionary
        note(f"--refine: {counted(len(induced.rows), 'pair')} found, {found.rounds} rounds helped")
        if rotation:
            return found.map
        return fit(pairs._replace(rows=induced.rows, columns=induced.columns))

    return fitted
