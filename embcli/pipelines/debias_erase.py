"""Taking out what classifiers find: fitting to some records, and measuring on others."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.core.maps import Edits, Transform, Unit
from embcli.errors import counted
from embcli.pipelines.debias_plan import Plan
from embcli.pipelines.debias_words import check_sklearn
from embcli.pipelines.lexicon import Lexicon
from embcli.pipelines.pairwise import Note
from embcli.pipelines.sides import Side
from embcli.pipelines.space import label_by_field

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
    labels = label_by_field(side, plan.label, _LEAST_OF_A_CLASS, note)
    every = len(labels.rows) == len(side.vectors)
    vectors = side.vectors if every else side.vectors[labels.rows]
    made = _erased(plan, vectors, labels.classes, plan.label, note)
    sizes = np.bincount(labels.classes).tolist()
    made.facts |= {"label": plan.label, "classes": dict(zip(labels.names, sizes, strict=True))}
    return made


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
