"""What a spec of a bias comes to in the space of a collection."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.core.debiasing.subspace import Subspace, bias_subspace
from embcli.errors import InputError, ModelError, counted
from embcli.formats.bias_spec import BiasSpec
from embcli.pipelines.lexicon import Lexicon
from embcli.pipelines.pairwise import Note
from embcli.pipelines.sides import Side

_WORD = re.compile(r"\w+(?:['’\-]\w+)*")
_NAMED = 3


@dataclass(frozen=True, eq=False)
class Bias:
    """The bias subspace that definitional sets span.

    Attributes
    ----------
    subspace : Subspace
    sets : list of float32 array, each (size, dim)
        Those all of whose words are there; with templates, one for each.
    words : tuple of tuple of str
        The same in words, once each.
    given : int
        How many there were in the spec.
    """

    subspace: Subspace
    sets: list[NDArray[np.float32]]
    words: tuple[tuple[str, ...], ...]
    given: int

    @classmethod
    def of(cls, spec: BiasSpec, lexicon: Lexicon, components: int, note: Note) -> "Bias":
        """Find it.

        Raises
        ------
        InputError
            The spec has no definitional sets, or too few of them have all of their words.
        """
        if not spec.definitional:
            raise InputError(
                f"spec {spec.name!r} has no definitional pairs: there is no direction to go by",
                hint="--spec gender, --pairs FILE, or a spec with a key 'definitional'",
            )
        if len(spec.definitional) < 2:
            raise InputError(
                f"spec {spec.name!r} has one definitional set: at least two are needed, to tell "
                "what they have in common"
            )
        missing = lexicon.missing(word for words in spec.definitional for word in words)
        there = tuple(words for words in spec.definitional if not {*words} & {*missing})
        of_given = f"{len(there)} of {counted(len(spec.definitional), 'definitional set')}"
        if len(there) < 2:
            raise InputError(
                f"{of_given} of {spec.name!r} {'has all its' if len(there) == 1 else 'have their'} "
                f"words in collection {lexicon.collection.name!r} (missing: {some_of(missing)}): "
                "at least two are needed",
                hint=None if lexicon.encodes else "--ignore-case, or another --spec",
            )
        if missing:
            note(f"{of_given} can be used; missing: {some_of(missing)}")
        sets = lexicon.sets(there)
        return cls(bias_subspace(sets, components), sets, there, len(spec.definitional))

    @property
    def groups(self) -> tuple[str, ...]:
        """What to call the groups: the words of the first set, in their order."""
        return self.words[0]

    @property
    def ends(self) -> tuple[str, str]:
        """What to call the ends of the first direction: the groups farthest out there."""
        means = np.mean([unit(rows) for rows in self.sets], axis=0)
        along = means @ self.subspace.basis[0]
        return self.groups[int(along.argmax())], self.groups[int(along.argmin())]

    def facts(self) -> dict[str, Any]:
        """Give what is kept of it with a map, as JSON."""
        return {
            "sets": len(self.words),
            "given": self.given,
            "groups": list(self.groups),
            "components": len(self.subspace.basis),
            "explained": [round(float(share), 6) for share in self.subspace.explained],
        }


def some_of(words: Sequence[str]) -> str:
    """Name a few words, and say how many more there are."""
    named = ", ".join(words[:_NAMED])
    more = len(words) - _NAMED
    return f"{named} and {more:,} more" if more > 0 else named


def neutral(spec: BiasSpec, texts: Sequence[str], ignore_case: bool = False) -> NDArray[np.int64]:
    """Find the texts that are not about a bias by their meaning, shape (n,).

    Words are compared as they are written, unless case is ignored; the words of longer texts
    whatever their case.
    """
    about = {*spec.specific}
    for words in (*spec.definitional, *spec.equalize):
        about.update(words)
    folded = {word.casefold() for word in about}

    def is_neutral(text: str) -> bool:
        if " " not in text:
            return (text.casefold() not in folded) if ignore_case else (text not in about)
        return folded.isdisjoint(_WORD.findall(text.casefold()))

    return np.array([row for row, text in enumerate(texts) if is_neutral(text)], np.int64)


def texts_of(side: Side) -> list[str]:
    """Give the text of every row, or its id where it has none, as imported words have."""
    return [record.text or record.id for record in side.collection.records()]


def held_out(ids: Sequence[str]) -> NDArray[np.bool_]:
    """Choose the records, a fifth by the hash of their ids, that no map is fitted to, shape (n,).

    What was fitted to a record says of it what it should; only of others does it show what it did.
    """
    digests = [hashlib.blake2b(id.encode(), digest_size=4).digest() for id in ids]
    return np.array([int.from_bytes(digest, "little") % 5 == 0 for digest in digests], np.bool_)


def check_sklearn(what: str) -> None:
    """Refuse what takes scikit-learn where it is not installed.

    Raises
    ------
    ModelError
    """
    if find_spec("sklearn") is None:
        raise ModelError(
            f"{what} takes scikit-learn, which is not installed",
            hint="pip install 'embcli[debias]'",
        )


def pooled(sets: Iterable[Sequence[str]], place: int) -> list[str]:
    """Give the words of one group: those at one place of every set, each once."""
    return list(dict.fromkeys(words[place] for words in sets))
