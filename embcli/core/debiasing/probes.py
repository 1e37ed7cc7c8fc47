"""Linear probes: what a classifier finds of a label in vectors."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.errors import InputError, counted

Floats = NDArray[np.float64]
Vectors = NDArray[np.floating]
Mask = NDArray[np.bool_]


class Probe(NamedTuple):
    """How well a linear classifier tells classes apart.

    Attributes
    ----------
    accuracy : float
        The share of vectors told right.
    chance : float
        The accuracy of always saying the greatest class of those tested.
    error : float
        The standard error of an accuracy at chance, ``sqrt(chance (1 - chance) / tested)``.
    tested : int
        How many vectors were told.
    """

    accuracy: float
    chance: float
    error: float
    tested: int


def probe(
    vectors: Vectors,
    labels: NDArray[np.int64],
    others: Vectors | None = None,
    answers: NDArray[np.int64] | None = None,
    *,
    seed: int = 0,
) -> Probe:
    """Train a linear classifier and see how many labels it tells of other vectors.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
    labels : int64 array, shape (n,)
    others : float array, shape (m, dim), optional
        What to test with; the same as `vectors` for what is told held in. To judge a map that was
        fitted to labels, train on what it was fitted to and test with others. If left out, a
        random 30 % of every class is tested and not trained on.
    answers : int64 array, shape (m,), optional
        The labels of `others`.
    seed : int
        Draws what to train on.

    Returns
    -------
    probe : Probe

    Raises
    ------
    InputError
        There is one class, or one too small to be divided.
    """
    class_numbers(vectors, labels)
    if others is None or answers is None:
        training = split(labels, 0.7, seed)
        others, answers = vectors[~training], labels[~training]
        vectors, labels = vectors[training], labels[training]
    predicted = classifier(vectors, labels).predict(others)
    chance = float(np.unique(answers, return_counts=True)[1].max() / len(answers))
    error = float(np.sqrt(chance * (1 - chance) / len(answers)))
    return Probe(float(np.mean(predicted == answers)), chance, error, len(answers))


class Classifier(NamedTuple):
    """A linear classifier.

    Attributes
    ----------
    weights : float64 array, shape (1, dim) for two classes, else (n_classes, dim)
    intercepts : float64 array, shape (len(weights),)
    classes : int64 array, shape (n_classes,)
    """

    weights: Floats
    intercepts: Floats
    classes: NDArray[np.int64]

    def predict(self, vectors: Vectors) -> NDArray[np.int64]:
        """Tell the class of every row."""
        scores = vectors @ self.weights.T.astype(vectors.dtype) + self.intercepts
        places = np.argmax(scores, axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0) * 1
        found: NDArray[np.int64] = self.classes[places]
        return found


def classifier(vectors: Vectors, labels: NDArray[np.int64]) -> Classifier:
    """Fit a logistic regression.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
    labels : int64 array, shape (n,)

    Returns
    -------
    classifier : Classifier

    Notes
    -----
    Vectors are centred and divided by one number, so that a component varies by 1 in the mean and
    scikit-learn's regularisation (C = 1) is the same at every length. Single components are not
    standardised: that would not be the same in a rotated space.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean = vectors.mean(axis=0, dtype=np.float64)
    centred = vectors - mean.astype(vectors.dtype)
    scale = float(np.sqrt(np.mean(np.square(centred), dtype=np.float64))) or 1.0
    model: Any = LogisticRegression(max_iter=1000)
    with warnings.catch_warnings():
        # Which side of the plane a vector is on is settled long before the loss is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(centred / vectors.dtype.type(scale), labels)
    weights = model.coef_.astype(np.float64) / scale
    return Classifier(weights, model.intercept_ - weights @ mean, model.classes_)


def split(labels: NDArray[np.int64], share: float, seed: int) -> Mask:
    """Draw which to train on, as large a share of every class.

    Parameters
    ----------
    labels : int64 array, shape (n,)
    share : float
        Between 0 and 1; at least one of every class is drawn, and one is not.
    seed : int

    Returns
    -------
    training : bool array, shape (n,)

    Raises
    ------
    InputError
        A class has one member.
    """
    generator = np.random.default_rng(seed)
    training = np.zeros(len(labels), bool)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        if count < 2:
            raise InputError(
                f"class {label} has one member, and two are needed to train on one and test with "
                "the other"
            )
        drawn = min(max(round(share * count), 1), count - 1)
        training[generator.permutation(np.flatnonzero(labels == label))[:drawn]] = True
    return training


def class_numbers(vectors: Vectors, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the classes that there are numbers from 0 up, shape (n,).

    Raises
    ------
    InputError
        There are not as many labels as vectors, or all are of one class.
    """
    if len(vectors) != len(labels):
        raise InputError(
            f"{counted(len(vectors), 'vector')} and {counted(len(labels), 'label')}: there must "
            "be one for each"
        )
    classes, numbers = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(
            f"{counted(len(labels), 'label')} of {'one class' if len(classes) else 'no class'}: at "
            "least two classes are needed"
        )
    return numbers.astype(np.int64)
