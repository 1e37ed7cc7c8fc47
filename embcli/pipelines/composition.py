"""Queries made of several things: what to add, what to take away, and in which respect."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING

from embcli.errors import InputError, NothingFoundError, UsageError
from embcli.formats.inputs import IMAGE_SUFFIXES
from embcli.pipelines.queries import QueryEncoder
from embcli.store import Collection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embcli.core.composition import Subspace

# The last colon and a number; after a digit it is a time of day, or a chapter and a verse, unless
# there is a space before it.
_NUMBER = r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
_WEIGHTED = re.compile(rf"(.*[^\d\s:]|.*\S(?=\s))\s*:{_NUMBER}", re.DOTALL)
_WEIGHTED_NAME = re.compile(rf"(.*\S)\s*:{_NUMBER}", re.DOTALL)
# Enough that the mean of a collection's vectors is known well.
_BACKGROUND = 256
# A single example shows no respect in which things differ; these of its neighbours do.
_NEIGHBOURS = 24
# Fewer examples tell records apart by too little.
_ENOUGH = 5


@dataclass(frozen=True)
class Composition:
    """What is done to the vector of a query.

    Texts stand for themselves; ``@NAME`` is the record of that id, or else the file of that
    name; ``@@`` begins a text with an @.

    Attributes
    ----------
    plus, minus : tuple of str
        What to add and to take away, each with a weight after a colon if it is not 1.
    direction : (str, str), optional
        From what to what to go; a weight is behind the second.
    given : tuple of str
        Examples of what differs in the one respect that is to count.
    """

    plus: tuple[str, ...] = ()
    minus: tuple[str, ...] = ()
    direction: tuple[str, str] | None = None
    given: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        texts = (*self.plus, *self.minus, *(self.direction or ()), *self.given)
        if not all(text.strip() for text in texts):
            raise UsageError("--plus, --minus, --direction and --given: a text is empty")


class Composer:
    """Composes queries in the space of a collection.

    Parameters
    ----------
    collection : Collection
        Read inside a snapshot.
    encoder : QueryEncoder
    composition : Composition
    note : callable
        Told what was made of the query.

    Attributes
    ----------
    named : set of str
        The records that were referred to; they are no answers.

    Raises
    ------
    InputError, NothingFoundError
        There is neither a record nor a file of that name; or nothing is left of a query.
    """

    def __init__(
        self,
        collection: Collection,
        encoder: QueryEncoder,
        composition: Composition,
        note: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._collection = collection
        self._encoder = encoder
        self._composition = composition
        self._note = note
        self.named: set[str] = set()
        self._terms = self._resolved_terms()
        self._given = [vector for text in composition.given for vector in self._examples(text)]

    def compose(self, vectors: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Add to and take from each query, shape (n, dim)."""
        if not self._terms:
            return vectors
        from embcli.core.composition import compose

        return compose(vectors, self._terms)

    @cached_property
    def subspace(self) -> "Subspace | None":
        """Where vectors are compared, if only one respect is to count."""
        if not self._given:
            return None
        import numpy as np

        from embcli.core.composition import Subspace
        from embcli.core.cosine import unit

        examples = np.unique(np.stack(self._given), axis=0)
        if len(examples) == 1 and len(near := self._neighbours(examples)):
            examples = np.vstack([examples, near])
            self._note(
                f"one example shows no respect: its {len(near)} nearest records are taken along "
                "(a dozen examples do better)"
            )
        elif len(examples) < _ENOUGH:
            self._note(f"{len(examples)} different examples tell little apart: give a dozen")
        background = unit(self._collection.sample(_BACKGROUND))
        return Subspace.spanned_by(examples, background.mean(axis=0))

    def _neighbours(self, example: "NDArray[np.float32]") -> "NDArray[np.float32]":
        from embcli.pipelines.search import nearest

        (found,) = nearest(self._collection, example, _NEIGHBOURS + len(self.named))
        ids = [item.record.id for item in found if item.record.id not in self.named]
        return self._collection.vectors(ids[:_NEIGHBOURS])

    def _resolved_terms(self) -> "list[tuple[float, NDArray[np.float32]]]":
        composition = self._composition
        signed = [(1.0, text) for text in composition.plus]
        signed += [(-1.0, text) for text in composition.minus]
        terms = [(sign, *self._weighted(text)) for sign, text in signed]
        if composition.direction is not None:
            base, composed = composition.direction
            text, weight = self._weighted(composed)
            terms += [(1.0, text, weight), (-1.0, base, weight)]
        resolved = [(sign * weight, self._vector(text)) for sign, text, weight in terms]
        if any(weight != 1 for _, _, weight in terms):
            parts = (
                f"{'+' if sign * weight >= 0 else '−'} {abs(weight):g} × {text!r}"
                for sign, text, weight in terms
            )
            self._note(f"query {' '.join(parts)}")
        return resolved

    def _weighted(self, text: str) -> tuple[str, float]:
        """Divide a text from its weight."""
        if _is_name(text):
            # Names may end like weights: file:line.
            match = None if self._is_there(text[1:]) else _WEIGHTED_NAME.fullmatch(text)
        else:
            match = _WEIGHTED.fullmatch(text)
        if match is None:
            return text, 1.0
        if not isfinite(float(match[2])):
            raise UsageError(f"{text}: the weight is too large")
        return match[1], float(match[2])

    def _is_there(self, name: str) -> bool:
        return bool(self._collection.sources([name])) or os.path.exists(name)

    def _vector(self, text: str) -> "NDArray[np.float32]":
        name = text[1:]
        if not _is_name(text):
            vectors = self._encoder.encode([text[text.startswith("@@") :]])
        elif self._collection.sources([name]):
            self.named.add(name)
            vectors = self._collection.vectors([name])
            via = self._encoder.via
            if via is not None and via.within is not None:
                vectors = via.within(vectors).astype(vectors.dtype)
        elif os.path.isfile(name):
            vectors = self._encoder.encode_file(name)
        elif os.path.isdir(name):
            raise InputError(f"{text}: {name} is a directory")
        else:
            raise NothingFoundError(
                f"{text}: collection {self._collection.name!r} has no record {name!r}, and there "
                "is no such file",
                hint="@@ begins a text with an @",
            )
        vector: NDArray[np.float32] = vectors[0]
        return vector

    def _examples(self, text: str) -> "Sequence[NDArray[np.float32]]":
        """Make vectors of an example, or of every line of a text file of examples."""
        if self._weighted(text)[0] != text:
            raise UsageError(f"--given {text}: examples have no weights")
        name = text[1:]
        if not _is_name(text) or self._collection.sources([name]) or not os.path.isfile(name):
            return [self._vector(text)]
        if name.lower().endswith(IMAGE_SUFFIXES):
            return [self._vector(text)]
        from embcli.pipelines.search import read_queries

        return list(self._encoder.encode([line for _, line in read_queries(name)]))


def _is_name(text: str) -> bool:
    return text.startswith("@") and not text.startswith("@@") and len(text) > 1
