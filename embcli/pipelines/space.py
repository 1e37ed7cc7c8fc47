"""Spaces that are measured: collections, truncations and layers of them, with labels or without."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import as_unit32
from embcli.encoders import is_known, is_quick, load_encoder, options_of
from embcli.errors import InputError, ModelError, UsageError, counted
from embcli.formats import Problem
from embcli.formats.pairs import read_pairs
from embcli.pipelines.pairwise import Advance, Note
from embcli.pipelines.sides import Side
from embcli.store import Store

_TEXTS_AT_ONCE = 2048
_NAMED = 3
_FEWEST = 3


@dataclass(frozen=True, eq=False)
class Labels:
    """Which class records are of.

    Attributes
    ----------
    rows : int64 array, shape (n,)
        Rows of those that are of one.
    classes : int64 array, shape (n,)
        From 0 on.
    names : tuple of str
        Of the classes.
    """

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Space:
    """Vectors to be measured.

    Attributes
    ----------
    name : str
    side : Side
        The records.
    vectors : float32 array, shape (n, dim)
        One a record, as they are.
    labels : Labels, optional
    """

    name: str
    side: Side
    vectors: NDArray[np.float32]
    labels: Labels | None = None

    @cached_property
    def unit(self) -> NDArray[np.float32]:
        """The vectors at length 1, shape (n, dim)."""
        return as_unit32(self.vectors)

    @cached_property
    def known(self) -> NDArray[np.float32]:
        """Those of a class."""
        assert self.labels is not None
        every = len(self.labels.rows) == len(self.vectors)
        return self.unit if every else self.unit[self.labels.rows]


def without_zeros(side: Side, note: Note) -> Side:
    """Leave out the records whose vector is zeros, which has no direction.

    Raises
    ------
    InputError
        There is hardly any other.
    """
    kept = side.vectors.any(axis=1)
    if kept.all():
        return side
    zeros = [side.ids[row] for row in np.flatnonzero(~kept)[:_NAMED]]
    left = counted(int((~kept).sum()), "vector")
    if kept.sum() < _FEWEST:
        raise InputError(f"collection {side.name!r} has hardly any vector but of zeros")
    note(f"{side.name!r}: left out {left} of zeros, such as {', '.join(zeros)}")
    return Side(side.collection, side.keys[kept], side.vectors[kept])


def label_by_field(side: Side, field: str, fewest: int, note: Note) -> Labels:
    """Take a field of the metadata for labels.

    Parameters
    ----------
    side : Side
    field : str
    fewest : int
        Classes of fewer records are left out.
    note : callable
        Told of what is left out.

    Raises
    ------
    InputError
        No record has it, or fewer than two classes are left.
    """
    values = side.collection.labels(field)
    if not values:
        there = ", ".join(list(side.collection.field_counts(scalar=True))[:8]) or "none"
        raise InputError(
            f"no record of collection {side.name!r} has a field {field!r} that is a text, a "
            f"number, true or false (fields: {there})"
        )
    return _labels([values.get(key) for key in side.keys.tolist()], side, field, fewest, note)


def label_by_file(
    side: Side,
    path: str | os.PathLike[str],
    fewest: int,
    note: Note,
    problem: Callable[[Problem], object],
) -> Labels:
    """Read labels from a file with an id and a label a line, divided by a tab; see above."""
    pairs, problems = read_pairs(path)
    for found in problems:
        problem(found)
    given: dict[str, str] = {}
    for pair in pairs:
        if given.setdefault(pair.source, pair.target) != pair.target:
            raise InputError(
                f"{path}:{pair.line}: {pair.source!r} has two labels, {given[pair.source]!r} and "
                f"{pair.target!r}"
            )
    unknown = [id for id in given if id not in side.row_of_id]
    if len(unknown) == len(given):
        raise InputError(
            f"{path}: none of its {counted(len(given), 'id')} is in collection {side.name!r}, such "
            f"as {unknown[0]!r}",
            hint="lines are an id, a tab and a label",
        )
    if unknown:
        note(f"{path}: {counted(len(unknown), 'id')} not in {side.name!r}, such as {unknown[0]!r}")
    return _labels([given.get(id) for id in side.ids], side, os.path.basename(path), fewest, note)


def _labels(values: Sequence[str | None], side: Side, what: str, fewest: int, note: Note) -> Labels:
    counts = Counter(value for value in values if value is not None)
    names = sorted((value for value in counts if counts[value] >= fewest), key=_order)
    small = sorted(value for value in counts if counts[value] < fewest)
    if len(names) < 2:
        raise InputError(
            f"{what}: {len(names)} of {counted(len(counts), 'value')} in at least {fewest} records "
            f"of {side.name!r}: two classes are needed"
        )
    if small:
        some = ", ".join(small[:_NAMED]) + (", …" if len(small) > _NAMED else "")
        left = counted(len(small), "value")
        note(f"{what}: left out {left} of fewer than {fewest} records ({some})")
    number = {value: place for place, value in enumerate(names)}
    classes = np.array([-1 if v is None else number.get(v, -1) for v in values], np.int64)
    rows = np.flatnonzero(classes >= 0)
    if len(rows) < len(values):
        note(f"{what}: {len(rows):,} of {counted(len(values), 'record')} are of a class")
    return Labels(rows, classes[rows], tuple(names))


def _order(label: str) -> tuple[bool, float, str]:
    """Put numbers in their order, before texts."""
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    return math.isnan(number), 0.0 if math.isnan(number) else number, label


def truncations(space: Space, dims: Sequence[int]) -> Iterator[Space]:
    """Give the first components of a space's vectors, as of a Matryoshka model.

    Raises
    ------
    UsageError
        There are not so many.
    """
    there = space.vectors.shape[1]
    for dim in dict.fromkeys(dims):
        if not 1 <= dim <= there:
            raise UsageError(f"--by-dims: {space.name!r} has 1 to {there} components, not {dim}")
        vectors = np.ascontiguousarray(space.vectors[:, :dim])
        yield replace(space, name=f"{space.name}[:{dim}]", vectors=vectors)


def layers(
    space: Space,
    store: Store,
    wanted: Sequence[int] | None,
    *,
    device: str | None = None,
    note: Note = lambda message: None,
    advance: Advance = lambda done, total, count: None,
) -> Iterator[Space]:
    """Encode the records of a space again, with every layer of its model.

    Parameters
    ----------
    space : Space
    store : Store
    wanted : sequence of int, optional
        Layers, 0 being what enters the first, -1 the last; by default all of them.
    device : str, optional
    note, advance : callable

    Raises
    ------
    UsageError
        The model has no layers, or no such one.
    ModelError
        It is not here.
    """
    from embcli.encoders.catalogue import describe

    recipe = space.side.recipe
    if recipe.base is not None:
        raise UsageError(
            f"--by-layer: the vectors of collection {space.side.name!r} were mapped; name the one "
            "that they were mapped from"
        )
    if space.side.collection.chunking is not None:
        raise UsageError(
            f"--by-layer: collection {space.side.name!r} keeps chunks; layers are of whole texts",
            hint="encode without --chunk",
        )
    if not is_known(recipe) or is_quick(recipe):
        raise UsageError(
            f"--by-layer: model {recipe.model!r} of collection {space.side.name!r} has no layers"
        )
    count = describe(recipe.model).get("layers")
    if not count:
        raise ModelError(f"--by-layer: it is not known how many layers {recipe.model!r} has")
    count = int(count)
    asked = range(count + 1) if wanted is None else wanted
    chosen = list(dict.fromkeys(layer + count + 1 if layer < 0 else layer for layer in asked))
    for layer in chosen:
        if not 0 <= layer <= count:
            raise UsageError(f"--by-layer: {recipe.model!r} has layers 0 to {count}, not {layer}")
    keys = space.side.keys.tolist()
    records = space.side.collection.get_by_key(keys)
    texts = [records[key].text for key in keys]
    done = 0
    for layer in chosen:
        options = replace(
            options_of(recipe), layer=layer, device=device, local_only=True,
            store=os.fspath(store.path),
        )  # fmt: skip
        encoder = load_encoder(recipe.model, options, note)
        blocks = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            blocks.append(encoder.encode(texts[start : start + _TEXTS_AT_ONCE], "document"))
            done += len(blocks[-1])
            advance(done, len(texts) * len(chosen), done)
        yield replace(space, name=f"{space.name}, layer {layer}", vectors=np.concatenate(blocks))
