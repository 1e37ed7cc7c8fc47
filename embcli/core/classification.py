"""How well classes can be told apart by a hyperplane, seen from records held out."""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit32
from embcli.errors import InputError

FOLDS = 5
_MOST_STEPS = 1000


class HeldOut(NamedTuple):
    """What a classifier makes of records that it has not seen.

    Attributes
    ----------
    accuracy : float
        Share of records, in [0, 1].
    macro_f1 : float
        Mean over classes of the harmonic mean of precision and recall, in [0, 1].
    converged : bool
        Whether every fit ended before its last step.
    """

    accuracy: float
    macro_f1: float
    converged: bool


def linear_probe(
    vectors: NDArray[np.floating], labels: NDArray[np.int64], *, folds: int = FOLDS, seed: int = 0
) -> HeldOut:
    """Classify by logistic regression, every record by a fit to the other folds.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        Only their directions count. Not modified.
    labels : int64 array, shape (n,)
        At least two classes, each of at least as many records as there are folds.
    folds : int
    seed : int
        Of the folds, which are stratified, and depend on the labels only.

    Returns
    -------
    held_out : HeldOut
        Of the predictions of all folds together.

    Raises
    ------
    InputError
        There is one class only, or one that is smaller than the number of folds.

    Notes
    -----
    An L2 penalty with C = 1 on vectors of length 1. By scikit-learn.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.model_selection import StratifiedKFold

    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2 or counts.min() < folds:
        raise InputError(
            f"a linear probe takes at least two classes of at least {folds} records each; there "
            f"{'are' if len(classes) > 1 else 'is'} {len(classes):,}, the smallest of "
            f"{counts.min(initial=len(labels)):,}"
        )
    unit = unit32(vectors)
    predicted = np.empty_like(labels)
    converged = True
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(unit, labels):
        model = LogisticRegression(max_iter=_MOST_STEPS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(unit[train], labels[train])
        converged &= bool(model.n_iter_.max() < _MOST_STEPS)
        predicted[test] = model.predict(unit[test])
    accuracy = float((predicted == labels).mean())
    return HeldOut(accuracy, float(f1_score(labels, predicted, average="macro")), converged)
