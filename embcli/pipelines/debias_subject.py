"""A space whose bias is measured, and how."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_DB
from embcli.core.debiasing.partitions import SAMPLES
from embcli.errors import UsageError
from embcli.formats.bias_spec import BiasSpec
from embcli.pipelines.lexicon import Lexicon
from embcli.pipelines.pairwise import Note
from embcli.pipelines.queries import QueryOptions
from embcli.store import Store

# What can be asked for, each of several figures.
MEASURES = ("subspace", "ripa", "weat", "mac", "rnsb", "rnd", "lipstick")


@dataclass(frozen=True)
class Settings:
    """How bias is measured.

    Attributes
    ----------
    measures : tuple of str
        Of `MEASURES`; all that the spec and the packages installed allow if empty.
    components : int
        Of the bias subspace.
    strictness : float
        The exponent c of direct bias.
    ddof : int
        Of the standard deviation in effect sizes: 1 as Caliskan et al. have it, 0 as WEFE does.
    samples : int
        Partitions drawn where there are too many to go through.
    biased : int
        The most biased words of each side that a classifier is to tell apart; the first 500 of
        them are clustered.
    restrict : int, optional
        These are of so many records only, the first ones.
    seed : int

    Raises
    ------
    UsageError
    """

    measures: tuple[str, ...] = ()
    components: int = 1
    strictness: float = 1.0
    ddof: int = 1
    samples: int = SAMPLES
    biased: int = 2500
    restrict: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for measure in self.measures:
            if measure not in MEASURES:
                raise UsageError(f"no measure {measure!r} (there are: {', '.join(MEASURES)})")
        if not (self.strictness >= 0 and math.isfinite(self.strictness)):
            raise UsageError(f"--strictness is at least 0, not {self.strictness:g}")
        if self.ddof not in (0, 1):
            raise UsageError(f"--ddof is 0 or 1, not {self.ddof}")
        if min(self.components, self.samples, self.biased) < 1 or (self.restrict or 2) < 2:
            raise UsageError("--components, --samples and --biased are at least 1")


@dataclass(frozen=True)
class Figure:
    """One figure of bias.

    Attributes
    ----------
    measure, set : str
    value : float, optional
        None where it is not defined.
    p_value : float, optional
        Of tests.
    n : int
        Words or records it is made of.
    missing : int
        Words that there is no vector of, and that were left out.
    detail : str
        How it was made.
    meaning : str
        What the value says.
    """

    measure: str
    set: str
    value: float | None
    p_value: float | None
    n: int
    missing: int
    detail: str
    meaning: str

    def row(self) -> dict[str, Any]:
        """Give the figure as commands show it."""
        return dict(vars(self))


@dataclass(frozen=True)
class Way:
    """How words get their vectors; see `embcli.pipelines.lexicon.Lexicon`."""

    templates: tuple[str, ...] = ()
    ignore_case: bool = False
    options: QueryOptions | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """A space whose bias is measured.

    Attributes
    ----------
    lexicon : Lexicon
    spec : BiasSpec
    settings : Settings
    note : callable
    """

    lexicon: Lexicon
    spec: BiasSpec
    settings: Settings
    note: Note

    def find(self, words: Sequence[str]) -> tuple[NDArray[np.float32], int]:
        """Give the vectors of words, and how many of these are missing."""
        _, vectors = self.lexicon.find(words)
        return vectors, len(self.lexicon.missing(words))


@contextmanager
def open_subject(
    collection: str,
    spec: BiasSpec,
    settings: Settings,
    way: Way,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    note: Note = lambda message: None,
) -> Iterator[Subject]:
    """Open a collection within a snapshot, for as long as the block runs."""
    with ExitStack() as stack:
        store = stack.enter_context(Store(db, readonly=True))
        stack.enter_context(store.snapshot())
        lexicon = Lexicon(
            store, store.collection(collection), templates=way.templates,
            ignore_case=way.ignore_case, options=way.options, note=note,
        )  # fmt: skip
        yield Subject(lexicon, spec, settings, note)


def once(note: Note) -> Note:
    """Say nothing twice."""
    said: set[str] = set()

    def say(message: str) -> None:
        if message not in said:
            said.add(message)
            note(message)

    return say
