"""How well classifiers tell classes apart, seen from records held out of their training."""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit32
from embcli.core.neighbours import greatest
from embcli.core.separability.classes import class_sizes, class_sums
from embcli.core.separability.neighbourhood import NEIGHBOURS, votes
from embcli.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Unit = NDArray[np.float32]
Vectors = NDArray[np.floating]

FOLDS = 5
# More records than this make figures hardly more certain, and logistic regression slow.
SAMPLE = 20_000
_MOST_STEPS = 1000


class CrossValidated(NamedTuple):
    """What a classifier makes of records that it has not seen.

    Attributes
    ----------
    rows : int64 array, shape (m,)
        Which records were classified, in rising order.
    accuracies, macro_f1s : float64 array, shape (folds,)
        Of every fold, in [0, 1].
    predicted : int64 array, shape (m,)
        The class of every record by the fit without it.
    margin : float64 array, shape (m,)
        The score of its true class less the greatest of another; below 0 where it was taken for
        another. Scores are probabilities (linear), shares of the votes (neighbours), or cosines
        (centroid).
    confusion : int64 array, shape (C, C)
        How many records of the class of the row were taken for that of the column.
    converged : bool
        Whether every fit ended before its last step.
    """

    rows: Ints
    accuracies: Floats
    macro_f1s: Floats
    predicted: Ints
    margin: Floats
    confusion: Ints
    converged: bool

    @property
    def accuracy(self) -> float:
        """The mean over folds."""
        return float(self.accuracies.mean())

    @property
    def accuracy_sd(self) -> float:
        """The standard deviation over folds, with ``folds - 1`` in the denominator."""
        return float(self.accuracies.std(ddof=1))

    @property
    def macro_f1(self) -> float:
        """The mean over folds of the mean over classes."""
        return float(self.macro_f1s.mean())

    @property
    def macro_f1_sd(self) -> float:
        """The standard deviation over folds, with ``folds - 1`` in the denominator."""
        return float(self.macro_f1s.std(ddof=1))


class Scores(NamedTuple):
    """What a classifier says of records.

    Attributes
    ----------
    values : float array, shape (m, C)
        The greatest is the class.
    converged : bool
    """

    values: NDArray[np.floating]
    converged: bool = True


# Takes unit vectors to train on, their labels, and unit vectors to classify.
Classifier = Callable[[Unit, Ints, Unit], Scores]


def linear(train: Unit, labels: Ints, test: Unit) -> Scores:
    """Classify by logistic regression: L2 penalty, C = 1, no weights of classes."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=_MOST_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, labels)
    return Scores(model.predict_proba(test), bool(model.n_iter_.max() < _MOST_STEPS))


def neighbours(k: int = NEIGHBOURS) -> Classifier:
    """Classify by what most of the k nearest neighbours are, as `neighbourhood.vote` does."""
    if k < 1:
        raise InputError(f"{k} neighbours: at least one is needed")

    def classify(train: Unit, labels: Ints, test: Unit) -> Scores:
        others, cosines = greatest(test, train, k)
        return Scores(votes(labels[others], cosines, int(labels.max()) + 1))

    return classify


def centroid(train: Unit, labels: Ints, test: Unit) -> Scores:
    """Classify by the nearest class mean of unit vectors, by cosine."""
    means = unit32(class_sums(train, labels, int(labels.max()) + 1))
    return Scores(test @ means.T)


def cross_validate(
    vectors: Vectors,
    labels: Ints,
    classifier: Classifier = linear,
    *,
    folds: int = FOLDS,
    sample: int | None = SAMPLE,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> CrossValidated:
    """Classify every record by a fit to the other folds.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Only their directions count: they are scaled to length 1. Not modified.
    labels : int64 array, shape (n,)
        0 to C - 1; at least two classes, each of at least as many records as there are folds.
    classifier : callable
        `linear`, ``neighbours(k)`` or `centroid`.
    folds : int
    sample : int, optional
        Use about so many records at most, each class its share but no less than `folds`; how many
        it was is in the result. None takes all.
    seed : int
        Of the draw, and of the folds, which are stratified and depend on the labels only.
    names : sequence of str, optional
        What to call the classes in messages, C of them.

    Returns
    -------
    found : CrossValidated
        By chance the accuracy is about the share of the greatest class, and macro-F1 at most 1 / C
        where one class is always said.

    Raises
    ------
    InputError
        There are fewer than two folds, or classes with fewer records than folds, which are named;
        else as of `embcli.core.separability.classes.class_sizes`.

    References
    ----------
    R. Kohavi. A study of cross-validation and bootstrap for accuracy estimation and model
    selection. IJCAI 1995. The standard deviation over folds tells how folds differ; it is not the
    standard error of the mean, as folds share what they are trained on.
    """
    from sklearn.metrics import confusion_matrix, f1_score
    from sklearn.model_selection import StratifiedKFold

    if folds < 2:
        raise InputError(f"{folds} folds: at least two are needed")
    sizes = class_sizes(vectors, labels, fewest=folds, names=names)
    rows = stratified(labels, len(labels) if sample is None else sample, folds, seed)
    unit, answers = unit32(vectors[rows]), labels[rows]
    predicted, margin = np.empty(len(rows), np.int64), np.empty(len(rows))
    accuracies, macro_f1s = [], []
    converged = True
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for train, test in splits.split(answers, answers):
        scores, ended = classifier(unit[train], answers[train], unit[test])
        converged &= ended
        right, here = answers[test], np.arange(len(test))
        predicted[test] = scores.argmax(axis=1)
        others = np.array(scores, np.float64)
        own = others[here, right]
        others[here, right] = -np.inf
        margin[test] = own - others.max(axis=1)
        accuracies.append(float((predicted[test] == right).mean()))
        macro_f1s.append(float(f1_score(right, predicted[test], average="macro", zero_division=0)))
    confusion = confusion_matrix(answers, predicted, labels=np.arange(len(sizes)))
    return CrossValidated(
        rows,
        np.array(accuracies),
        np.array(macro_f1s),
        predicted,
        margin,
        confusion.astype(np.int64),
        converged,
    )


def pair_confusion(confusion: Ints) -> Floats:
    """Tell how often two classes are taken for one another.

    Parameters
    ----------
    confusion : int64 array, shape (C, C)
        As in `CrossValidated`.

    Returns
    -------
    shares : float64 array, shape (C, C)
        The records of either class taken for the other, by those of both; symmetric, in [0, 1],
        NaN on the diagonal.
    """
    sizes = confusion.sum(axis=1)
    shares: Floats = (confusion + confusion.T) / np.maximum(sizes[:, None] + sizes, 1)
    np.fill_diagonal(shares, np.nan)
    return shares


def hardest(found: CrossValidated, count: int) -> Ints:
    """Give the records with the lowest margins, the lowest first; of equals those that come first.

    Parameters
    ----------
    found : CrossValidated
    count : int
        If there are fewer records, so many.

    Returns
    -------
    rows : int64 array, shape (count,)
        Of all records, not of the sample.
    """
    return found.rows[np.argsort(found.margin, kind="stable")[:count]]


def stratified(labels: Ints, sample: int, fewest: int, seed: int) -> Ints:
    """Draw about `sample` records, of every class its share but at least `fewest`.

    Parameters
    ----------
    labels : int64 array, shape (n,)
        0 to C - 1.
    sample, fewest : int
    seed : int

    Returns
    -------
    rows : int64 array, shape (m,)
        In rising order; all where `sample` is enough.
    """
    n = len(labels)
    if sample >= n:
        return np.arange(n)
    rng = np.random.default_rng(seed)
    sizes = np.bincount(labels)
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    drawn = [
        rng.choice(rows, min(len(rows), max(fewest, round(len(rows) * sample / n))), replace=False)
        for rows in members
    ]
    return np.sort(np.concatenate(drawn)).astype(np.int64)
