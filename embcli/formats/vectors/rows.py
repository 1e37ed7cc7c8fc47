"""What readers do with rows: conversion to float32, and refusal of what is not finite."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.errors import InputError
from embcli.formats import Problem
from embcli.formats.vectors import VectorBatch

ROWS = 8192
# Components of a vector, characters of a string: more were never meant, and what is compressed, or
# was never written, takes no room in a file and as much in memory as anything.
LONGEST = 1 << 24
_EXACT = (np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.float16, np.float32)
# About so many components a batch, so that memory does not depend on the dimension.
_COMPONENTS = 1 << 22


def rows_at_once(dim: int) -> int:
    """How many vectors make a batch."""
    return max(1, min(ROWS, _COMPONENTS // dim))


def check_shape(name: str, rows: int, dim: int) -> None:
    """Refuse a file without vectors, or with vectors that are none.

    Raises
    ------
    InputError
        It has no rows, or these have no components, or more than `LONGEST`.
    """
    if dim > LONGEST:
        raise InputError(f"{name}: vectors of {dim:,} components (at most {LONGEST:,})")
    if rows == 0 or dim == 0:
        raise InputError(f"{name}: no vectors in it ({rows:,} rows of {dim:,} components)")


def conversion_note(dtype: np.dtype[Any], what: str = "") -> list[str]:
    """Say what a conversion to float32 means, if anything.

    Raises
    ------
    InputError
        These are no real numbers.
    """
    if dtype.kind not in "biuf":
        raise InputError(f"expected numbers, found {dtype.name}")
    if dtype.newbyteorder("=").type in _EXACT and dtype.isnative and dtype.type != np.float16:
        return []
    exact = dtype.newbyteorder("=").type in _EXACT
    order = "" if dtype.isnative else f"{'big' if dtype.str[0] == '>' else 'little'}-endian "
    how = "exactly" if exact else "rounded to 24 bits"
    return [f"{order}{what or dtype.name} → float32, {how}"]


def to_float32(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Convert; what is too large becomes infinite, which is refused later."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(rows, np.float32)


def finite(name: str, batch: VectorBatch, unit: str = "row") -> Iterator[VectorBatch | Problem]:
    """Give a batch without the vectors that are not finite, and a problem for each of these."""
    good = np.isfinite(batch.vectors).all(axis=1)
    if good.all():
        if batch.ids:
            yield batch
        return
    for row in np.flatnonzero(~good).tolist():
        wrong = batch.vectors[row]
        column = int(np.flatnonzero(~np.isfinite(wrong))[0])
        message = f"component {column + 1} of {batch.ids[row]!r} is {wrong[column]}"
        if unit != "line":
            message = f"{unit} {batch.places[row]}: {message}"
        yield Problem(name, batch.places[row] if unit == "line" else 0, message)
    if good.any():
        kept = np.flatnonzero(good).tolist()
        columns = (batch.ids, batch.texts, batch.metas, batch.places)
        ids, texts, metas, places = ([column[row] for row in kept] for column in columns)
        yield VectorBatch(ids, batch.vectors[good], texts, metas, places)  # type: ignore[arg-type]


@dataclass
class Pending:
    """Records that come one by one, on their way into a batch."""

    dim: int
    ids: list[str] = field(default_factory=list)
    rows: list[NDArray[np.float32]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    metas: list[dict[str, Any]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def add(
        self, id: str, row: NDArray[np.float32], text: str, meta: dict[str, Any], place: int
    ) -> bool:
        """Take a record; tell whether there are enough for a batch."""
        self.ids.append(id)
        self.rows.append(row)
        self.texts.append(text)
        self.metas.append(meta)
        self.places.append(place)
        return len(self.ids) >= rows_at_once(self.dim)

    def batch(self) -> VectorBatch:
        """Give the batch, and begin another."""
        vectors = np.empty((len(self.rows), self.dim), np.float32)
        for number, row in enumerate(self.rows):
            vectors[number] = row
        made = VectorBatch(self.ids, vectors, self.texts, self.metas, self.places)
        self.ids, self.rows, self.texts, self.metas, self.places = [], [], [], [], []
        return made


def base_name(path: str | os.PathLike[str]) -> str:
    """Name of a file without its folder, as it is used in ids."""
    name = os.path.basename(os.fspath(path))
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
