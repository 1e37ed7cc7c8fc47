"""Whether records that were biased can still be told apart, whatever a direction shows."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.core.debiasing.subspace import projections
from embcli.errors import counted
from embcli.pipelines.debias_subject import Figure, Subject
from embcli.pipelines.debias_words import Bias, held_out, neutral, texts_of
from embcli.pipelines.sides import Side

_CLUSTERED = 500
_NEIGHBOURS = 100
# With fewer, nothing can be said.
_LEAST_BIASED = 10
_LEAST_WORDS = 10


@dataclass(frozen=True, eq=False)
class MostBiased:
    """The records of a collection that lie farthest on either side of a bias direction.

    Attributes
    ----------
    ids : list of str
        The farthest of the first group first, then those of the second.
    labels : int64 array, shape (len(ids),)
    along : dict of str to float
        Where all records lie.
    words : list of str
        Ids of the records that are on the spec's lists.
    plain : frozenset of int
        Which of `ids` are of records that are lower-case words, by place.
    """

    ids: list[str]
    labels: NDArray[np.int64]
    along: dict[str, float]
    words: list[str]
    plain: frozenset[int]

    def among(self, ids: Container[str]) -> "MostBiased | None":
        """Leave out the records that are not there; None if too few are left of a side."""
        there = [place for place, id in enumerate(self.ids) if id in ids]
        labels = self.labels[there]
        if np.bincount(labels, minlength=2).min() < _LEAST_BIASED:
            return None
        plain = {new for new, place in enumerate(there) if place in self.plain}
        words = [id for id in self.words if id in ids]
        chosen = [self.ids[place] for place in there]
        return MostBiased(chosen, labels, self.along, words, frozenset(plain))


def most_biased(subject: Subject, bias: Bias | None = None) -> MostBiased | None:
    """Find the records that lie farthest on either side; None, with a note, if there are too few.

    Parameters
    ----------
    subject : Subject
    bias : Bias, optional
        As measured in this space.

    Raises
    ------
    InputError
        There are too few definitional sets.
    """
    from embcli.core.debiasing.lipstick import most_biased

    settings, spec = subject.settings, subject.spec
    bias = bias or Bias.of(spec, subject.lexicon, settings.components, subject.note)
    side = _vocabulary(subject)
    texts = texts_of(side)[: len(side.keys)]
    along = projections(side.vectors, bias.subspace.basis)[:, 0]
    rows = neutral(spec, texts, subject.lexicon.ignore_case)
    each = min(settings.biased, len(rows) // 2)
    if each < _LEAST_BIASED:
        subject.note(
            f"without lipstick: collection {side.name!r} has only {counted(len(rows), 'record')} "
            f"without a word of the spec, and {2 * _LEAST_BIASED} are needed"
        )
        return None
    if each < settings.biased:
        subject.note(
            f"lipstick: the {each:,} most biased of each side, not {settings.biased:,}: there are "
            "no more"
        )
    chosen, labels = most_biased(along[rows], each)
    ids = side.ids
    listed = {word for words in spec.words for word in words.words}
    return MostBiased(
        [ids[row] for row in rows[chosen]],
        labels,
        dict(zip(ids, along.tolist(), strict=False)),
        [ids[row] for row in rows if texts[row] in listed],
        frozenset(
            place for place, row in enumerate(rows[chosen].tolist())
            if texts[row].isalpha() and texts[row].islower()
        ),
    )  # fmt: skip


def _outermost(
    places: Sequence[int], labels: NDArray[np.int64], wanted: Sequence[bool]
) -> NDArray[np.int64]:
    """Choose as many records of either side, the most biased first, of those wanted."""
    sides = [
        [row for row, is_wanted in enumerate(wanted) if is_wanted and labels[row] == side]
        for side in range(2)
    ]
    each = min(_CLUSTERED, *map(len, sides))
    return np.array([row for side in sides for row in side[:each]], np.int64)


def _vocabulary(subject: Subject) -> Side:
    side = Side.load(subject.lexicon.collection)
    restrict = subject.settings.restrict
    if restrict is not None:
        side = Side(side.collection, side.keys[:restrict], side.vectors[:restrict])
    return side


def told_apart(subject: Subject, formerly: MostBiased) -> Iterator[Figure]:
    """Tell formerly biased records apart, as far as it can still be done."""
    from embcli.core.debiasing import lipstick

    side, seed = _vocabulary(subject), subject.settings.seed
    row_of = {id: row for row, id in enumerate(side.ids[: len(side.keys)])}
    there = [place for place, id in enumerate(formerly.ids) if id in row_of]
    rows = np.array([row_of[formerly.ids[place]] for place in there], np.int64)
    labels, lost = formerly.labels[there], len(formerly.ids) - len(there)
    vectors = unit(side.vectors[rows])
    each = len(formerly.ids) // 2
    # Capitals and digits make clusters of their own.
    plain = [place in formerly.plain for place in there]
    kind = "lower-case words" if sum(plain) else "records"
    first = _outermost(there, labels, plain if sum(plain) else [True] * len(there))
    yield Figure(
        "k-means purity", f"{len(first) // 2:,} most biased {kind} a side",
        lipstick.cluster_purity(vectors[first], labels[first], seed), None, len(first), lost,
        f"two clusters, seed {seed}", ".5: the sides are mixed; 1: each makes a cluster",
    )  # fmt: skip
    held = held_out([formerly.ids[place] for place in there])
    if (
        min(
            np.bincount(labels[held], minlength=2).min(),
            np.bincount(labels[~held], minlength=2).min(),
        )
        >= 2
    ):
        for kernel, name in (("rbf", "SVM accuracy"), ("linear", "linear SVM accuracy")):
            yield Figure(
                name, f"{each:,} most biased a side",
                lipstick.svm_accuracy(vectors, labels, train=~held, kernel=kernel, seed=seed),
                None, int(held.sum()), lost,
                f"{kernel} kernel, trained on {int((~held).sum()):,} others",
                ".5: chance; 1: the bias can be read off",
            )  # fmt: skip
    words = np.array([row_of[id] for id in formerly.words if id in row_of], np.int64)
    if len(words) >= _LEAST_WORDS:
        along = np.array([formerly.along.get(id, 0.0) for id in row_of])
        k = min(_NEIGHBOURS, len(row_of) - 1)
        yield Figure(
            "bias by neighbours", "neutral words of lists",
            lipstick.neighbour_correlation(side.vectors, words, along, k=k), None, len(words),
            len(formerly.words) - len(words),
            f"correlation of their bias with the share of their {k} neighbours on that side",
            "0: neighbours say nothing of the bias; 1: all of it",
        )  # fmt: skip
