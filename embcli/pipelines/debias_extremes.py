"""Which words lie farthest along a bias direction."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.core.cosine import cosines
from embcli.core.debiasing.subspace import indirect_bias, projections
from embcli.errors import InputError, UsageError
from embcli.formats.bias_spec import BiasSpec
from embcli.pipelines.debias_subject import Settings, Way, open_subject
from embcli.pipelines.debias_words import Bias, neutral, some_of, texts_of
from embcli.pipelines.pairwise import Note
from embcli.pipelines.sides import Side

# What stands for the collection's own records where a list is named.
RECORDS = "records"


@dataclass(frozen=True)
class Leaning:
    """A word, and how it lies along a bias direction.

    Attributes
    ----------
    word : str
    group : str
        What the side it lies on is called: the first word of the group farthest out there.
    projection : float
        Its cosine with the direction; positive towards the first group.
    neutral : bool
        Whether the spec does not count it among the words that are about the bias.
    cosine, indirect_bias : float, optional
        With the word compared with: their cosine, and the share of it that is due to the
        direction.
    """

    word: str
    group: str
    projection: float
    neutral: bool
    cosine: float | None
    indirect_bias: float | None

    def row(self) -> dict[str, Any]:
        """Give it as commands show it."""
        return dict(vars(self))


def extremes(
    spec: BiasSpec,
    words: str | None = None,
    k: int | None = 10,
    *,
    other: str | None = None,
    way: Way | None = None,
    collection: str = DEFAULT_COLLECTION,
    db: str | os.PathLike[str] = DEFAULT_DB,
    note: Note = lambda message: None,
) -> list[Leaning]:
    """Project words on the bias direction.

    Parameters
    ----------
    spec : BiasSpec
    words : str, optional
        A list of the spec, the first one by default, or "records" for the collection's records.
    k : int, optional
        How many of either side; all of them if None.
    other : str, optional
        A word to compare them with, for indirect bias.
    way : Way, optional
    collection : str
    db : path
    note : callable

    Returns
    -------
    leanings : list of Leaning
        By falling projection.

    Raises
    ------
    InputError
        There are too few definitional sets, or none of the words has a vector.
    UsageError
        There is no such list.
    """
    with open_subject(collection, spec, Settings(), way or Way(), db=db, note=note) as subject:
        bias = Bias.of(spec, subject.lexicon, 1, note)
        lists = {of.name: of.words for of in spec.words}
        name = words or next(iter(lists), RECORDS)
        if name == RECORDS:
            side = Side.load(subject.lexicon.collection, note)
            found, vectors = texts_of(side), side.vectors
        elif name in lists:
            found, vectors = subject.lexicon.find(lists[name])
            if missing := subject.lexicon.missing(lists[name]):
                note(f"{name}: {len(missing):,} have no vector: {some_of(missing)}")
        else:
            there = ", ".join([*lists, RECORDS])
            raise UsageError(f"spec {spec.name!r} has no list {name!r} (there are: {there})")
        if not len(vectors):
            raise InputError(
                f"none of the {name} of spec {spec.name!r} has a vector in collection "
                f"{collection!r}",
                hint="--ignore-case, or --list records",
            )
        basis = bias.subspace.basis
        along = projections(vectors, basis)[:, 0]
        shares = alike = None
        if other is not None:
            if subject.lexicon.missing([other]):
                raise InputError(f"there is no vector of {other!r} in collection {collection!r}")
            (word,) = subject.lexicon.find([other])[1][:1]
            shares = indirect_bias(word, vectors, basis)
            alike = cosines(word[None], vectors)[0]
    order = np.argsort(-along, kind="stable").tolist()
    if k is not None and 2 * k < len(order):
        order = order[:k] + order[-k:]
    is_neutral = {*neutral(spec, found, (way or Way()).ignore_case).tolist()}
    return [
        Leaning(
            found[row],
            bias.ends[0] if along[row] >= 0 else bias.ends[1],
            float(along[row]),
            row in is_neutral,
            None if alike is None else float(alike[row]),
            None if shares is None or not np.isfinite(shares[row]) else float(shares[row]),
        )
        for row in order
    ]
