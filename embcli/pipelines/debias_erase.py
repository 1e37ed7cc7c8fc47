"""Taking out what classifiers find: fitting to some records, and measuring on others."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.core.maps import Edits, Transform, Unit
from embcli.errors import InputError, counted
from embcli.pipelines.debias_plan import Plan
from embcli.pipelines.debias_words import check_sklearn
from embcli.pipelines.lexicon import Lexicon
from embcli.pipelines.pairwise import Note
from embcli.pipelines.sides import Side

Row = dict[str, Any]

HELD_OUT_SVM = "SVM accuracy, rbf kernel"
_LEAST_OF_A_CLASS = 5
_HELD_OUT = 0.2
_MOST_TRAINED, _MOST_TESTED = 4_000, 10_000


@dataclass
class Made:
    """What a method came to."""

    transform: Transform
    edits: Edits | None = None
    scaled: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)


def of_label(plan: Plan, lexicon: Lexicon, note: Note) -> Made:
    """Fit to the values of a metadata field."""
    assert plan.label is not None
    side = Side.load(lexicon.collection, note)
    rows, labels, names = labelled(side, plan.label, note)
    vectors = side.vectors if len(rows) == len(side.vectors) else side.vectors[rows]
    made = _erased(plan, vectors, labels, plan.label, note)
    sizes = np.bincount(labels).tolist()
    made.facts |= {"label": plan.label, "classes": dict(zip(map(str, names), sizes, strict=True))}
    return made


def labelled(
    side: Side, label: str, note: Note
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str | float]]:
    """Find the records with a label, and number the classes.

    Parameters
    ----------
    side : Side
    label : str
        A field of the metadata.
    note : callable
        Told of records and classes that are left out.

    Returns
    -------
    rows : int64 array, shape (n,)
    labels : int64 array, shape (n,)
    names : list
        Of the classes.

    Raises
    ------
    InputError
        No record has it, or there are fewer than two classes of five records.
    """
    values = side.collection.values(label)
    if not values:
        there = ", ".join(list(side.collection.field_counts())[:8]) or "none"
        raise InputError(
            f"no record of collection {side.name!r} has a field {label!r} (fields: {there})"
        )
    counts = Counter(values.values())
    names = sorted((name for name in counts if counts[name] >= _LEAST_OF_A_CLASS), key=str)
    small = len(counts) - len(names)
    if len(names) < 2:
        raise InputError(
            f"field {label!r} has {len(names)} of {counted(len(counts), 'value')} in at least "
            f"{_LEAST_OF_A_CLASS} records: two classes are needed"
        )
    number = {name: place for place, name in enumerate(names)}
    number_of = {key: number.get(value, -1) for key, value in values.items()}
    labels = np.array([number_of.get(key, -1) for key in side.keys.tolist()], np.int64)
    rows = np.flatnonzero(labels >= 0)
    if small:
        note(
            f"left out: {counted(small, 'value')} of {label!r} in fewer than "
            f"{_LEAST_OF_A_CLASS} records each"
        )
    if len(rows) < len(side.keys):
        note(f"{len(rows):,} of {counted(len(side.keys), 'record')} are of a class of {label!r}")
    return rows, labels[rows], names


def _erased(
    plan: Plan, vectors: NDArray[np.float32], labels: NDArray[np.int64], what: str, note: Note
) -> Made:
    """Fit to some vectors, measure on the others; then fit to all."""
    from embcli.core.debiasing.probes import split

    check_sklearn(f"method {plan.chosen.name!r}")
    rows = unit(vectors).astype(np.float32)
    held = ~split(labels, 1 - _HELD_OUT, plan.seed)
    trial, _ = erasing(plan, rows[~held], labels[~held])
    transform, facts = erasing(plan, rows, labels, note)
    measured = probed(plan, trial, rows, labels, held, what)
    return Made(Transform.of(Unit()).then(transform), facts=facts, rows=measured)


def erasing(
    plan: Plan,
    rows: NDArray[np.float32],
    labels: NDArray[np.int64],
    note: Note = lambda message: None,
) -> tuple[Transform, dict[str, Any]]:
    """Fit a method to labelled vectors of unit length, and say what it found."""
    from embcli.core.debiasing import erasure
    from embcli.core.debiasing.inlp import inlp

    if plan.chosen.name == "mean-difference":
        return erasure.mean_difference(rows, labels), {}
    if plan.chosen.name == "leace":
        return erasure.leace(rows, labels), {}
    found = inlp(rows, labels, directions=plan.directions, seed=plan.seed)
    note(f"inlp took {counted(found.directions, 'direction')} out")
    facts = {"directions": found.directions, "accuracies": list(found.accuracies)}
    return found.transform, facts | {"chance": found.chance}


def probed(
    plan: Plan,
    transform: Transform,
    rows: NDArray[np.float32],
    labels: NDArray[np.int64],
    held: NDArray[np.bool_],
    what: str,
) -> list[Row]:
    """Train classifiers on what a map was fitted to, and test them on what it was not."""
    from embcli.core.debiasing.lipstick import svm_accuracy
    from embcli.core.debiasing.probes import probe, split

    known, others = np.flatnonzero(~held), np.flatnonzero(held)
    # A machine with a kernel compares all that it is trained on with all that it is tested on.
    few = [
        which if len(which) <= most else which[split(labels[which], most / len(which), plan.seed)]
        for which, most in ((known, _MOST_TRAINED), (others, _MOST_TESTED))
    ]
    used, training = np.concatenate(few), np.arange(sum(map(len, few))) < len(few[0])
    linear, bent = [], []
    for vectors in (rows, transform.apply(rows)):
        found = probe(
            vectors[known], labels[known], vectors[others], labels[others], seed=plan.seed
        )
        linear.append(found.accuracy)
        bent.append(svm_accuracy(vectors[used], labels[used], train=training, seed=plan.seed))
    return [
        {
            "measure": name, "set": f"{what}, held out", "before": before, "after": after,
            "n": n, "chance": found.chance,
        }
        for name, (before, after), n in (
            ("linear probe accuracy", linear, len(others)),
            (HELD_OUT_SVM, bent, len(few[1])),
        )
    ]  # fmt: skip
