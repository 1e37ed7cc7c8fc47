"""What to take out of a space, and how."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from embcli.errors import UsageError
from embcli.formats.bias_spec import BiasSpec

WORDS, LABEL, AWAY = "words", "label", "away"


@dataclass(frozen=True)
class Method:
    """A way to take something out of a space.

    Attributes
    ----------
    name, summary : str
    takes : tuple of str
        What may tell it what to take out: "words" of a spec, a "label", or texts to go "away"
        from.
    """

    name: str
    summary: str
    takes: tuple[str, ...]


METHODS = {
    method.name: method
    for method in (
        Method(
            "hard",
            "neutralize all but specific words, equalize pairs (Bolukbasi et al. 2016)",
            (WORDS,),
        ),
        Method(
            "soft",
            "a linear map between keeping all similarities and neutralizing (Bolukbasi et al. "
            "2016)",
            (WORDS,),
        ),
        Method(
            "projection",
            "take the subspace out of every vector (Bolukbasi et al. 2016, Dev & Phillips 2019)",
            (WORDS, AWAY),
        ),
        Method(
            "mean-difference",
            "take the differences of the classes' means out (Dev & Phillips 2019)",
            (WORDS, LABEL),
        ),
        Method(
            "inlp",
            "take out what linear classifiers find, one after the other (Ravfogel et al. 2020)",
            (WORDS, LABEL),
        ),
        Method(
            "leace",
            "the least change after which no linear classifier finds anything (Belrose et al. "
            "2023)",
            (WORDS, LABEL),
        ),
    )
}
_DEFAULTS = {WORDS: "hard", LABEL: "leace", AWAY: "projection"}


@dataclass(frozen=True)
class Plan:
    """How to debias.

    Attributes
    ----------
    method : str, optional
        By default hard for words, leace for a label, projection for texts.
    spec : BiasSpec, optional
    label : str, optional
        A field of the metadata.
    away : tuple of str
        Texts; where vectors of words were imported, words.
    components : int
        Of the bias subspace.
    strength : float, optional
        The λ of soft, .2 by default.
    directions : int, optional
        Most that inlp takes out.
    biased : int
        For inlp and leace with words: so many of the most biased words of each side are the
        two classes.
    seed : int

    Raises
    ------
    UsageError
        The method is unknown or takes something else, or not exactly one of `spec`, `label` and
        `away` is given.
    """

    method: str | None = None
    spec: BiasSpec | None = None
    label: str | None = None
    away: tuple[str, ...] = ()
    components: int = 1
    strength: float | None = None
    directions: int | None = None
    biased: int = 2500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in (None, *METHODS):
            raise UsageError(f"no method {self.method!r} (there are: {', '.join(METHODS)})")
        given = [self.spec is not None, self.label is not None, bool(self.away)]
        if sum(given) != 1:
            raise UsageError(
                "say what to take out by exactly one of --spec (or --pairs), --label and --away"
            )
        if self.concept not in self.chosen.takes:
            fitting = [method.name for method in METHODS.values() if self.concept in method.takes]
            given_as = "spec" if self.concept == WORDS else self.concept
            raise UsageError(
                f"method {self.method!r} does not work with --{given_as} (those that do: "
                f"{', '.join(fitting)})"
            )
        if not all(text.strip() for text in self.away):
            raise UsageError("--away: a text is empty")
        if self.strength is not None and not 0 <= self.strength < np.inf:
            raise UsageError(f"--strength is at least 0, not {self.strength:g}")
        told = {"soft": ("--strength", self.strength), "inlp": ("--directions", self.directions)}
        for method, (option, value) in told.items():
            if value is not None and self.chosen.name != method:
                raise UsageError(f"{option} is for method {method}, not {self.chosen.name}")
        if min(self.components, self.biased, self.directions or 1) < 1 or self.directions == 0:
            raise UsageError("--components, --biased and --directions are at least 1")

    @property
    def concept(self) -> str:
        """What tells what to take out: "words", "label" or "away"."""
        return WORDS if self.spec is not None else LABEL if self.label is not None else AWAY

    @property
    def chosen(self) -> Method:
        """The method."""
        return METHODS[self.method or _DEFAULTS[self.concept]]

    def told(self) -> dict[str, Any]:
        """Give what the method was told, as JSON."""
        facts = {key: value for key, value in asdict(self).items() if key != "spec"}
        return facts | {"method": self.chosen.name, "spec": self.spec and self.spec.name}
