"""How well clusters agree with classes that are known."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.clustering.clusters import NOISE
from embcli.core.optional import require
from embcli.errors import InputError, counted


class Agreement(NamedTuple):
    """How well clusters agree with classes.

    Attributes
    ----------
    v_measure : float
        Harmonic mean of homogeneity and completeness, in [0, 1].
    homogeneity : float
        1 where every cluster has members of one class only.
    completeness : float
        1 where all members of every class are in one cluster.
    ari : float
        Adjusted Rand index: 1 where both are the same, about 0 by chance, may be negative.
    nmi : float
        Normalized mutual information, by the arithmetic mean of the entropies: it equals the
        V-measure, and stands here because it goes by both names.
    ami : float
        The same adjusted for chance, which the V-measure of many small clusters is not.
    purity : float
        Share of rows that are of the class that most of their cluster are of.
    accuracy : float
        Share of rows that are of the class that their cluster is matched with, one to one, so that
        the share is the greatest possible.
    noise : float
        Share of rows that are in no cluster.
    """

    v_measure: float
    homogeneity: float
    completeness: float
    ari: float
    nmi: float
    ami: float
    purity: float
    accuracy: float
    noise: float


def agreement(labels: NDArray[np.int64], classes: NDArray[np.int64]) -> Agreement:
    """Compare clusters with classes.

    Parameters
    ----------
    labels : int64 array, shape (n,)
        Clusters; noise counts as one more of them, so that nothing is gained by leaving out what
        is hard.
    classes : int64 array, shape (n,)
        Any numbers.

    Raises
    ------
    InputError
        There are no rows, or not as many labels as classes.
    ModelError
        scikit-learn is not installed.

    Notes
    -----
    Values do not depend on how clusters and classes are numbered. By scikit-learn, the matching by
    SciPy.

    References
    ----------
    A. Rosenberg, J. Hirschberg. V-measure: a conditional entropy-based external cluster evaluation
    measure. EMNLP 2007. L. Hubert, P. Arabie. Comparing partitions. Journal of Classification 2,
    1985. H. Kuhn. The Hungarian method for the assignment problem. 1955.
    """
    require("sklearn", "agreement with classes")
    from scipy.optimize import linear_sum_assignment
    from sklearn import metrics
    from sklearn.metrics.cluster import contingency_matrix

    if not len(labels) or len(labels) != len(classes):
        raise InputError(f"{counted(len(labels), 'label')} for {counted(len(classes), 'record')}")
    clusters = np.unique(labels, return_inverse=True)[1]
    known = np.unique(classes, return_inverse=True)[1]
    table = contingency_matrix(known, clusters)
    rows, columns = linear_sum_assignment(table, maximize=True)
    homogeneity, completeness, v_measure = metrics.homogeneity_completeness_v_measure(
        known, clusters
    )
    return Agreement(
        float(v_measure),
        float(homogeneity),
        float(completeness),
        float(metrics.adjusted_rand_score(known, clusters)),
        float(metrics.normalized_mutual_info_score(known, clusters)),
        float(metrics.adjusted_mutual_info_score(known, clusters)),
        float(table.max(axis=0).sum() / len(labels)),
        float(table[rows, columns].sum() / len(labels)),
        float((labels == NOISE).mean()),
    )
