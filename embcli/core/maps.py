"""Maps from space to space: short chains of steps, applied to rows of vectors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, reduce
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.errors import InputError

Floats = NDArray[np.float64]
Vectors = NDArray[np.floating]

# Of a matrix worse conditioned than this, the inverse would be made of rounding.
_WORST_CONDITION = 1e8
# Sums of squares in float32 between these are as exact as float32 is.
_SMALL, _LARGE = 1e-30, 1e30
# Of a vector of float32, so little is left by rounding where nothing should be.
_GONE = 1e-6
# A hidden layer may be much wider than what goes in and comes out.
_ROWS = 4096


class NotInvertibleError(InputError):
    """A step loses what would be needed to go back."""


@dataclass(frozen=True, eq=False)
class Unit:
    """Scale every row to length 1; rows of zeros stay."""

    name: ClassVar[str] = "unit"

    def apply(self, vectors: Vectors) -> Vectors:
        """Give the rows at unit length."""
        squares = np.einsum("ij,ij->i", vectors, vectors)
        # Squares of float32 overflow, and vanish, where the numbers themselves are fine.
        odd = np.flatnonzero(~((squares > _SMALL) & (squares < _LARGE)))
        norms = np.sqrt(squares)[:, None]
        scaled: Vectors = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
        scaled[odd] = unit(vectors[odd])
        return scaled


@dataclass(frozen=True, eq=False)
class Shift:
    """Add one vector to every row.

    Attributes
    ----------
    vector : float64 array, shape (dim,)
    """

    name: ClassVar[str] = "shift"
    vector: Floats

    def apply(self, vectors: Vectors) -> Vectors:
        """Give the rows with the vector added."""
        return vectors + self.vector.astype(vectors.dtype, copy=False)


@dataclass(frozen=True, eq=False)
class Linear:
    """Multiply every row with a matrix, ``x @ matrix``.

    Attributes
    ----------
    matrix : float64 array, shape (dim_in, dim_out)
    """

    name: ClassVar[str] = "linear"
    matrix: Floats

    def apply(self, vectors: Vectors) -> Vectors:
        """Give the products, shape (n, dim_out)."""
        product: Vectors = vectors @ self.matrix.astype(vectors.dtype, copy=False)
        return product


@dataclass(frozen=True, eq=False)
class Residual:
    """Add to every row what a hidden layer makes of it: ``x + relu(x @ a + b) @ c``.

    Attributes
    ----------
    inner : float64 array, shape (dim, hidden)
    bias : float64 array, shape (hidden,)
    outer : float64 array, shape (hidden, dim)
    """

    name: ClassVar[str] = "residual"
    inner: Floats
    bias: Floats
    outer: Floats

    def apply(self, vectors: Vectors) -> Vectors:
        """Give the sums, shape (n, dim)."""
        inner, bias, outer = (
            array.astype(vectors.dtype, copy=False) for array in (self.inner, self.bias, self.outer)
        )
        total: Vectors = vectors + np.maximum(vectors @ inner + bias, 0) @ outer
        return total


Step = Unit | Shift | Linear | Residual
_STEPS: dict[str, type[Step]] = {step.name: step for step in (Unit, Shift, Linear, Residual)}


@dataclass(frozen=True, eq=False)
class Transform:
    """Steps that are applied to vectors, one after the other; without any, the identity.

    Attributes
    ----------
    steps : tuple of Step
    """

    steps: tuple[Step, ...] = ()

    @classmethod
    def of(cls, *steps: Step) -> "Transform":
        """Make one of some steps."""
        return cls(steps)

    def __bool__(self) -> bool:
        """Whether it does anything."""
        return bool(self.steps)

    def apply(self, vectors: Vectors) -> Vectors:
        """Map vectors.

        Parameters
        ----------
        vectors : float32 or float64 array, shape (n, dim_in)
            Not modified.

        Returns
        -------
        mapped : array of the same dtype, shape (n, dim_out)
        """
        if len(vectors) > _ROWS and any(isinstance(step, Residual) for step in self.steps):
            parts = range(0, len(vectors), _ROWS)
            return np.concatenate([self.apply(vectors[at : at + _ROWS]) for at in parts])
        return reduce(lambda rows, step: step.apply(rows), self.steps, vectors)

    @property
    def dims(self) -> tuple[int, int] | None:
        """Components of what goes in and of what comes out; None if it takes any number."""
        ends = [dims for step in self.steps if (dims := _dims(step)) is not None]
        return (ends[0][0], ends[-1][1]) if ends else None

    def then(self, other: "Transform") -> "Transform":
        """Put another behind; neighbours that are both linear, or both shifts, become one."""
        steps = list(self.steps)
        for step in other.steps:
            steps = _joined(steps, step)
        return Transform(tuple(steps))

    def rounded(self) -> "Transform":
        """Give it with arrays of float32, which then need not be made again for every block."""
        return Transform(
            tuple(
                replace(
                    step,
                    **{
                        item.name: getattr(step, item.name).astype(np.float32)
                        for item in fields(step)
                    },
                )
                for step in self.steps
            )
        )

    def vanished(self, before: Vectors, after: Vectors) -> NDArray[np.bool_]:
        """Tell of which rows nothing is left but the rounding of float32, shape (n,).

        Nor is there anything where there was nothing before, even if a shift moved it.

        Parameters
        ----------
        before, after : array, shape (n, dim_in) and (n, dim_out)
            Vectors, and what this made of them. What it does to lengths is not known: for maps
            that leave a space in its scale, such as projections.
        """
        starts = self.steps[0] if self.steps else None
        lengths = 1.0 if isinstance(starts, Unit) else np.linalg.norm(before, axis=1)
        gone: NDArray[np.bool_] = np.linalg.norm(after, axis=1) <= _GONE * lengths
        return gone | ~before.any(axis=1)

    @property
    def reads_lengths(self) -> bool:
        """Whether cosines of what comes out depend on the length of what goes in."""
        for step in self.steps:
            if isinstance(step, Unit):
                return False
            if isinstance(step, Shift | Residual):
                return True
        return False

    def inverse(self) -> "Transform":
        """Give the way back.

        Lengths that were scaled away are not brought back: cosines are.

        Raises
        ------
        NotInvertibleError
            A matrix is not square or nearly singular, there is a hidden layer, or rows are
            scaled to unit length behind a shift.
        """
        steps = list(self.steps)
        # At the beginning, a scale makes no difference to cosines.
        while steps and isinstance(steps[0], Unit):
            steps.pop(0)
        # At the end neither, unless something has to be taken away again behind it.
        while steps and isinstance(steps[-1], Unit) and not Transform(tuple(steps)).reads_lengths:
            steps.pop()
        return Transform(tuple(_inverse(step) for step in reversed(steps)))


@dataclass(frozen=True, eq=False)
class Edits:
    """Texts, mostly single words, that a map treats in another way than all the rest.

    Attributes
    ----------
    kept : tuple of str
        Those that stay as they are.
    replaced : tuple of str
        Those that get a vector of their own.
    vectors : float64 array, shape (len(replaced), dim)
    """

    kept: tuple[str, ...]
    replaced: tuple[str, ...]
    vectors: Floats

    @cached_property
    def _places(self) -> dict[str, int]:
        return dict.fromkeys(self.kept, -1) | {text: at for at, text in enumerate(self.replaced)}

    def apply(self, texts: Sequence[str], before: Vectors, after: Vectors) -> Vectors:
        """Undo or replace what a map made of these texts.

        Parameters
        ----------
        texts : sequence of str
        before, after : array, shape (len(texts), dim)
            Their vectors, and what the map made of them.

        Returns
        -------
        vectors : array of the type of `after`, shape (len(texts), dim)
        """
        rows = [(row, self._places[text]) for row, text in enumerate(texts) if text in self._places]
        if not rows:
            return after
        edited = after.copy()
        for row, place in rows:
            edited[row] = before[row] if place < 0 else self.vectors[place]
        return edited


@dataclass(frozen=True, eq=False)
class Map:
    """What makes vectors of one space comparable with those of another.

    Both are led to where they are compared. Where `target` does nothing, that is the target's own
    space; else it is a space of the map's own.

    Attributes
    ----------
    source, target : Transform
        What is done to vectors of the source and to those of the target.
    edits : Edits, optional
        What is done to single texts instead. Such a map changes one space alone: it cannot be
        part of a chain, and has no inverse.
    scaled : bool
        Whether vectors in a space of the map's own are kept at unit length.
    """

    source: Transform
    target: Transform = field(default_factory=Transform)
    edits: Edits | None = None
    scaled: bool = True

    def reversed(self) -> "Map":
        """Exchange the sides: where vectors are compared stays the same."""
        return Map(self.target, self.source)

    @property
    def treats_alike(self) -> bool:
        """Whether the same is done to both sides."""
        return not any(_unlike(self.source, self.target))

    def on_source(self) -> "Map":
        """Let the source's side do what the target's need not: cosines stay the same.

        What turns both sides alike, or only scales the target's rows at its end, can be left out
        there. Where nothing else is left, vectors are compared in the target's own space.
        """
        back, left = Transform(), list(self.target.steps)
        while left and (isinstance(left[-1], Unit) or _is_rotation(left[-1])):
            step = left.pop()
            if not isinstance(step, Unit):
                back = back.then(Transform.of(_inverse(step)))
        # Without a step that moves them behind it, a scale makes no difference to cosines.
        return Map(self.source.then(back), Transform(tuple(left)))

    def inverse(self) -> "Map":
        """Give the map from the target into the source's own space.

        Raises
        ------
        NotInvertibleError
            See `Transform.inverse`.
        """
        self._check_whole()
        return Map(self.target.then(self.source.inverse()))

    def then(self, other: "Map") -> "Map":
        """Compose: from this map's source to the other one's target.

        What both do to the space between them alike, such as centring it, need not be undone.

        Raises
        ------
        NotInvertibleError
            Both change the space between them, and neither can be undone there.
        """
        self._check_whole()
        other._check_whole()
        near, far = _unlike(self.target, other.source)
        ways: list[tuple[bool, Transform, Transform, Transform]] = [
            (True, self.source, near, far),
            (False, other.target, far, near),
        ]
        errors = []
        # First the way on which nothing has to be undone.
        for forwards, side, undone, rest in sorted(ways, key=lambda way: bool(way[2])):
            try:
                led = side.then(_undoing(side, undone, rest))
            except NotInvertibleError as error:
                errors.append(error)
                continue
            return Map(led, other.target) if forwards else Map(self.source, led)
        raise errors[0]

    def _check_whole(self) -> None:
        if self.edits is not None:
            raise NotInvertibleError("the map treats single words in a way of their own")


def _undoing(side: Transform, undone: Transform, rest: Transform) -> Transform:
    """Put the rest behind the inverse, unless it needs lengths that are lost on the way."""
    loses = [*undone.steps] if undone else [*side.steps[:-1]]
    if rest.reads_lengths and any(isinstance(step, Unit) for step in loses):
        raise NotInvertibleError("the map has no inverse: lengths were scaled away")
    return undone.inverse().then(rest)


def _unlike(one: Transform, other: Transform) -> tuple[Transform, Transform]:
    """Leave out the steps that both begin with."""
    same = 0
    for a, b in zip(one.steps, other.steps, strict=False):
        if type(a) is not type(b) or not all(
            np.array_equal(getattr(a, item.name), getattr(b, item.name)) for item in fields(a)
        ):
            break
        same += 1
    return Transform(one.steps[same:]), Transform(other.steps[same:])


def pack(map: Map) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Take a map apart, for storing it.

    Returns
    -------
    layout : dict
        For each side its steps, and what else there is: JSON-serialisable, naming the arrays.
    arrays : dict of str to float64 array
    """
    layout: dict[str, Any] = {}
    arrays: dict[str, Floats] = {}
    for side in ("source", "target"):
        layout[side] = []
        for number, step in enumerate(getattr(map, side).steps):
            names = {item.name: f"{side}.{number}.{item.name}" for item in fields(step)}
            arrays |= {
                name: np.ascontiguousarray(getattr(step, key), np.float64)
                for key, name in names.items()
            }
            layout[side].append({"step": step.name, **names})
    # Only where they say something: the hashes of all other maps stay what they were.
    if not map.scaled:
        layout["scaled"] = False
    if map.edits is not None:
        layout["edits"] = {"kept": list(map.edits.kept), "replaced": list(map.edits.replaced)}
        arrays["edits"] = np.ascontiguousarray(map.edits.vectors, np.float64)
    return layout, arrays


def unpack(layout: Mapping[str, Any], arrays: Mapping[str, Floats]) -> Map:
    """Put together what `pack` took apart.

    Raises
    ------
    InputError
        A step is unknown, an array is missing, holds something that is no finite number, or does
        not fit its neighbours.
    """
    try:
        source, target = (
            Transform(tuple(_unpacked(layout[side], arrays))) for side in ("source", "target")
        )
        edits = _unpacked_edits(layout["edits"], arrays["edits"]) if "edits" in layout else None
    except (KeyError, TypeError) as error:
        raise InputError(f"this is no map: {error} is missing or unknown") from None
    return Map(source, target, edits, bool(layout.get("scaled", True)))


def _unpacked_edits(words: Mapping[str, Sequence[str]], vectors: Floats) -> Edits:
    edits = Edits(tuple(words["kept"]), tuple(words["replaced"]), np.asarray(vectors, np.float64))
    if edits.vectors.ndim != 2 or len(edits.replaced) != len(edits.vectors):
        raise InputError(
            f"this map replaces {len(edits.replaced)} words by an array of shape "
            f"{edits.vectors.shape}"
        )
    if not np.isfinite(edits.vectors).all():
        raise InputError("this map holds numbers that are not finite")
    return edits


def _unpacked(steps: Sequence[Mapping[str, str]], arrays: Mapping[str, Floats]) -> Iterator[Step]:
    dim = None
    for step in steps:
        kind = _STEPS[step["step"]]
        values: dict[str, Any] = {
            item.name: np.asarray(arrays[step[item.name]], np.float64) for item in fields(kind)
        }
        if not all(np.isfinite(value).all() for value in values.values()):
            raise InputError("this map holds numbers that are not finite")
        made = kind(**values)
        dims = _checked_dims(made)
        if dims is not None:
            if dim not in (None, dims[0]):
                raise InputError(
                    f"the steps of this map do not fit: {dim} and {dims[0]} components"
                )
            dim = dims[1]
        yield made


def _checked_dims(step: Step) -> tuple[int, int] | None:
    shapes = [getattr(step, item.name).shape for item in fields(step)]
    match step.name, shapes:
        case ("unit", []) | ("shift", [(_,)]) | ("linear", [(_, _)]):
            return _dims(step)
        case "residual", [(dim, hidden), (width,), outer] if width == hidden and outer == (
            hidden,
            dim,
        ):
            return _dims(step)
    raise InputError(f"a step of this map, {step.name!r}, has arrays of shapes {shapes}")


def _dims(step: Step) -> tuple[int, int] | None:
    match step:
        case Unit():
            return None
        case Shift(vector):
            return len(vector), len(vector)
        case Linear(matrix):
            return matrix.shape[0], matrix.shape[1]
        case Residual(inner):
            return len(inner), len(inner)


def _joined(steps: list[Step], step: Step) -> list[Step]:
    match steps[-1] if steps else None, step:
        case Linear(first), Linear(second):
            return [*steps[:-1], Linear(first @ second)]
        case Shift(first), Shift(second):
            return [*steps[:-1], Shift(first + second)]
        case Unit(), Unit():
            return steps
        case _:
            return [*steps, step]


def _is_rotation(step: Step) -> bool:
    if not isinstance(step, Linear) or step.matrix.shape[0] != step.matrix.shape[1]:
        return False
    product = step.matrix @ step.matrix.T
    return np.allclose(product, np.eye(len(product)), rtol=0, atol=1e-12)


def _inverse(step: Step) -> Step:
    match step:
        case Shift(vector):
            return Shift(-vector)
        case Linear(matrix) if matrix.shape[0] != matrix.shape[1]:
            raise NotInvertibleError(
                f"the map has no inverse: it goes from {matrix.shape[0]} to {matrix.shape[1]} "
                "components"
            )
        case Linear(matrix):
            # Exact, where a general inverse would round.
            if _is_rotation(step):
                return Linear(matrix.T.copy())
            if np.linalg.cond(matrix) > _WORST_CONDITION:
                raise NotInvertibleError("the map has no inverse: its matrix is singular")
            return Linear(np.asarray(np.linalg.inv(matrix), np.float64))
        case Residual():
            raise NotInvertibleError("the map has no inverse: it has a hidden layer")
        case Unit():
            raise NotInvertibleError(
                "the map has no inverse: it scales rows to unit length between other steps"
            )
