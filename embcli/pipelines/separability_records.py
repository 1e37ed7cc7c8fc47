"""Which classes and which records cannot be told apart."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.core.separability import classifiers, scatter
from embcli.core.separability.neighbourhood import label_errors, neighbourhood, outliers
from embcli.core.separability.recognizability import recognizability, unrecognizable
from embcli.errors import InputError, counted
from embcli.pipelines.pairwise import Note
from embcli.pipelines.separability import Settings, check_installed
from embcli.pipelines.space import Labels, Space

Row = dict[str, Any]


def cross_validated(
    space: Space, settings: Settings, note: Note = lambda message: None
) -> classifiers.CrossValidated:
    """Classify a space's records by a linear probe, every one by a fit without it."""
    check_installed()
    if len(_of(space).rows) > settings.classified:
        note(
            f"a linear probe looked at {settings.classified:,} of {len(_of(space).rows):,} records"
        )
    return classifiers.cross_validate(
        space.known, _of(space).classes, folds=settings.folds, sample=settings.classified,
        seed=settings.seed, names=_of(space).names,
    )  # fmt: skip


def draw_confusion(
    space: Space, settings: Settings, path: str | os.PathLike[str], note: Note
) -> None:
    """Draw what a linear probe takes for what; see `embcli.viz.confusion`."""
    from embcli.viz.confusion import confusion_figure

    labels, told = _of(space), cross_validated(space, settings, note)
    title = f"{space.name}: what a linear probe takes for what"
    confusion_figure(labels.names, told.confusion, path, title=title, force=True, note=note)


def pairs(
    space: Space, settings: Settings, count: int, note: Note = lambda message: None
) -> list[Row]:
    """Find the classes that are the least separable, by twos.

    Parameters
    ----------
    space : Space
        With labels.
    settings : Settings
    count : int
        How many pairs.

    Returns
    -------
    rows : list of dict
        By falling share of records taken for the other class by a linear probe, then by rising
        Fisher ratio: ``class_a``, ``class_b``, ``confused``, ``fisher``, ``cosine`` of the means,
        and of either class the record that is taken for the other most (``id_a``, ``text_a``, …).
    """
    labels, told = _of(space), cross_validated(space, settings, note)
    found = scatter.scatter(space.known, labels.classes)
    ratios, confused = scatter.pair_fisher(found), classifiers.pair_confusion(told.confusion)
    means = found.means / np.linalg.norm(found.means, axis=1, keepdims=True)
    a, b = np.triu_indices(len(labels.names), 1)
    order = np.lexsort((ratios[a, b], -confused[a, b]))[:count]
    examples = [
        [_mistaken(told, labels, one, other) for one, other in ((a[row], b[row]), (b[row], a[row]))]
        for row in order
    ]
    texts = _texts(space, [row for both in examples for row in both if row is not None])
    rows = []
    for row, both in zip(order.tolist(), examples, strict=True):
        named: Row = {
            "class_a": labels.names[a[row]],
            "class_b": labels.names[b[row]],
            "confused": float(confused[a[row], b[row]]),
            "fisher": float(ratios[a[row], b[row]]),
            "cosine": float(means[a[row]] @ means[b[row]]),
        }
        for side, example in zip("ab", both, strict=True):
            known = (None, None) if example is None else texts[example]
            named |= {f"id_{side}": known[0], f"text_{side}": known[1]}
        rows.append(named)
    return rows


def _mistaken(told: classifiers.CrossValidated, labels: Labels, one: int, other: int) -> int | None:
    """Find the record of a class that is taken for another one most; None if none is."""
    wrong = np.flatnonzero((labels.classes[told.rows] == one) & (told.predicted == other))
    if not len(wrong):
        return None
    return int(labels.rows[told.rows[wrong[np.argmin(told.margin[wrong])]]])


def hardest(
    space: Space, settings: Settings, count: int, note: Note = lambda message: None
) -> list[Row]:
    """Find the records whose class a linear probe is the farthest from telling.

    Returns
    -------
    rows : list of dict
        ``id``, ``label``, ``predicted``, ``margin`` (the probability of its class less the
        greatest of another), ``text``.
    """
    labels, told = _of(space), cross_validated(space, settings, note)
    chosen = classifiers.hardest(told, count)
    at = np.searchsorted(told.rows, chosen)
    rows = labels.rows[chosen]
    texts = _texts(space, rows.tolist())
    return [
        {
            "id": texts[row][0], "label": labels.names[labels.classes[place]],
            "predicted": labels.names[told.predicted[spot]],
            "margin": float(told.margin[spot]), "text": texts[row][1],
        }
        for row, place, spot in zip(rows.tolist(), chosen.tolist(), at.tolist(), strict=True)
    ]  # fmt: skip


def errors(space: Space, settings: Settings, count: int) -> list[Row]:
    """Find records whose label is likely to be wrong: most neighbours have one other label.

    Returns
    -------
    rows : list of dict
        ``id``, ``label``, ``suggested``, ``support`` (the share of neighbours that have it),
        ``agreement`` (the share that has the record's), ``text``.
    """
    labels = _of(space)
    near = neighbourhood(space.known, labels.classes, settings.k)
    found = label_errors(near)
    chosen = found.rows[:count]
    rows = labels.rows[chosen].tolist()
    texts = _texts(space, rows)
    return [
        {
            "id": texts[row][0], "label": labels.names[labels.classes[place]],
            "suggested": labels.names[found.suggested[at]], "support": float(found.support[at]),
            "agreement": float(found.agreement[at]), "text": texts[row][1],
        }
        for at, (row, place) in enumerate(zip(rows, chosen.tolist(), strict=True))
    ]  # fmt: skip


def outlying(space: Space, settings: Settings, count: int) -> list[Row]:
    """Find records that are unusually far from the nearest of their own class.

    Returns
    -------
    rows : list of dict
        ``id``, ``label``, ``z`` (robust standard deviations above the median of the class),
        ``distance`` (1 less the mean cosine to the nearest of the class), ``text``.
    """
    labels = _of(space)
    found = outliers(space.known, labels.classes, settings.k, seed=settings.seed)
    chosen = found.rows[:count]
    rows = labels.rows[chosen].tolist()
    texts = _texts(space, rows)
    return [
        {
            "id": texts[row][0], "label": labels.names[labels.classes[place]],
            "z": float(found.z[place]), "distance": float(found.distance[place]),
            "text": texts[row][1],
        }
        for row, place in zip(rows, chosen.tolist(), strict=True)
    ]  # fmt: skip


def recognized(
    space: Space, settings: Settings, count: int, ids: Sequence[str], note: Note
) -> list[Row]:
    """Score how recognizable records are, the least first.

    Parameters
    ----------
    space : Space
    settings : Settings
    count : int
    ids : sequence of str
        Records that are not recognizable, whatever their label; by default they are guessed.
    note : callable
        Told which rule they are guessed by, and how many there are.

    Returns
    -------
    rows : list of dict
        ``id``, ``label``, ``score`` (below .5 of the distance to the unrecognizable: nearer to
        another class), ``to_own``, ``next``, ``to_next``, ``to_unrecognizable``, ``text``.

    Raises
    ------
    InputError
        An id is not there.
    """
    labels = _of(space)
    if ids:
        rows = space.side.rows(list(ids))
        if (rows < 0).any():
            missing = ids[int(np.flatnonzero(rows < 0)[0])]
            raise InputError(f"no record {missing!r} in collection {space.side.name!r}")
        blank: NDArray[np.float32] | None = space.unit[rows]
    else:
        raw = space.vectors[labels.rows]
        near = neighbourhood(space.known, labels.classes, settings.k)
        guess = unrecognizable(raw, near, len(labels.names))
        rules = {
            "norm": "unusually short vectors",
            "mixed": "where all classes meet",
            "noise": "apart from everything",
        }
        note(
            f"taken for unrecognizable: {counted(len(guess.rows), 'record')} "
            f"({rules[guess.rule]}); name others by --unrecognizable"
        )
        blank = space.known[guess.rows] if len(guess.rows) else None
    found = recognizability(space.known, labels.classes, blank)
    chosen = np.argsort(found.score, kind="stable")[:count].tolist()
    texts = _texts(space, [int(labels.rows[place]) for place in chosen])
    far = found.to_unrecognizable
    return [
        {
            "id": texts[int(labels.rows[place])][0],
            "label": labels.names[labels.classes[place]],
            "score": float(found.score[place]), "to_own": float(found.to_own[place]),
            "next": labels.names[found.next[place]], "to_next": float(found.to_next[place]),
            "to_unrecognizable": None if far is None else float(far[place]),
            "text": texts[int(labels.rows[place])][1],
        }
        for place in chosen
    ]  # fmt: skip


def _of(space: Space) -> Labels:
    if space.labels is None:
        raise InputError("this takes labels", hint="--label FIELD, or --labels FILE")
    return space.labels


def _texts(space: Space, rows: Sequence[int]) -> dict[int, tuple[str, str]]:
    """Look up ids and texts, by row."""
    keys = [int(space.side.keys[row]) for row in rows]
    records = space.side.collection.get_by_key(keys)
    return {row: (records[key].id, records[key].text) for row, key in zip(rows, keys, strict=True)}
