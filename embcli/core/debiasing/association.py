"""How sets of words are associated with others: WEAT, MAC, RNSB and RND."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.core.debiasing.partitions import LIMIT, SAMPLES, partition_test
from embcli.errors import InputError, counted

Vectors = NDArray[np.floating]
Floats = NDArray[np.float64]

# By which two cosines may differ that are the same.
_ROUNDING = 1e-13
_FOLDS = 5


class Weat(NamedTuple):
    """What a word embedding association test found.

    Attributes
    ----------
    statistic : float
        Sum of the associations of X less that of Y.
    effect_size : float
        Difference of their means in standard deviations; NaN if all associations are equal.
    p_value : float
        One-sided.
    partitions : int
        How many partitions of X and Y the p-value comes from, the observed one among them.
    exact : bool
        Whether these were all there are.
    """

    statistic: float
    effect_size: float
    p_value: float
    partitions: int
    exact: bool


class Mac(NamedTuple):
    """Mean average cosine distance.

    Attributes
    ----------
    mean : float
        In [0, 2]; 1 where targets have nothing to do with attributes.
    distances : float64 array, shape (n, n_sets)
        Of every target to every set of attributes, on average.
    """

    mean: float
    distances: Floats


class Rnsb(NamedTuple):
    """Relative negative sentiment bias.

    Attributes
    ----------
    divergence : float
        Of `shares` from equal ones (Kullback and Leibler's), in nats: 0 if no target is more
        negative than the others, at most ln n.
    shares : float64 array, shape (n,)
        The probabilities, scaled to a sum of 1.
    probabilities : float64 array, shape (n,)
        That each target is negative, says the classifier.
    accuracy : float
        Share of the attribute words that a classifier fitted without them gets right. Where it is
        near chance, the rest means nothing. NaN if a set has only one word.
    """

    divergence: float
    shares: Floats
    probabilities: Floats
    accuracy: float


class Rnd(NamedTuple):
    """Relative norm distance.

    Attributes
    ----------
    mean : float
        Negative if the words are nearer to the first group, positive if to the second.
    differences : float64 array, shape (n,)
        Distance to the first group less that to the second, for every word.
    """

    mean: float
    differences: Floats


def weat(
    x: Vectors,
    y: Vectors,
    a: Vectors,
    b: Vectors,
    *,
    ddof: int = 1,
    samples: int = SAMPLES,
    limit: int = LIMIT,
    seed: int = 0,
) -> Weat:
    """Test whether targets X are associated with attributes A rather than B, more than Y are.

    The association of a word is its mean cosine with A less that with B.

    Parameters
    ----------
    x, y : float array, shapes (n, dim) and (m, dim)
        Targets, of words or of sentences (SEAT), at any length.
    a, b : float array, shapes (p, dim) and (q, dim)
        Attributes.
    ddof : int
        Of the standard deviation over X and Y: 1 gives the effect sizes that Caliskan et al.
        printed, 0 those of WEFE.
    samples, limit, seed
        Of the permutation test: up to `limit` targets in all the p-value is exact, else from as
        many partitions drawn without replacement; see `partition_test`.

    Returns
    -------
    result : Weat

    Raises
    ------
    InputError
        A set is empty, or there are too few targets for a standard deviation.

    Notes
    -----
    X and Y may differ in size, when words are missing. The statistic remains the paper's sum,
    whose expectation is then not 0 without an association; that of the effect size, a difference
    of means, is. The p-value is that of either, because among partitions of the same sizes both
    are in the same order. It is the share of partitions whose statistic is at least the observed
    one, rounding apart, the observed one included; the paper's formula has "greater", with which
    it could be 0.

    References
    ----------
    A. Caliskan, J. Bryson, A. Narayanan. Semantics derived automatically from language corpora
    contain human-like biases. Science 356, 2017. C. May, A. Wang, S. Bordia, S. Bowman,
    R. Rudinger. On measuring social biases in sentence encoders. NAACL 2019.
    """
    _check(X=x, Y=y, A=a, B=b)
    size = len(x) + len(y)
    if size <= ddof:
        raise InputError(f"{counted(size, 'target')} have no standard deviation with ddof {ddof}")
    direction = unit(a).mean(axis=0) - unit(b).mean(axis=0)
    values = np.concatenate([unit(x) @ direction, unit(y) @ direction])
    first, second = values[: len(x)], values[len(x) :]
    spread = float(values.std(ddof=ddof))
    apart = float(first.mean() - second.mean())
    found = partition_test(
        values,
        len(x),
        tolerance=_ROUNDING * size,
        samples=samples,
        limit=limit,
        seed=seed,
    )
    return Weat(
        float(first.sum() - second.sum()),
        apart / spread if spread > _ROUNDING else float("nan"),
        found.p,
        found.partitions,
        found.exact,
    )


def mac(targets: Vectors, attributes: Sequence[Vectors]) -> Mac:
    """Compute the mean average cosine distance of targets to sets of attributes.

    Parameters
    ----------
    targets : float array, shape (n, dim)
    attributes : sequence of float array, shapes (size, dim)
        Each set weighs the same, however many words it has.

    Returns
    -------
    result : Mac

    Raises
    ------
    InputError
        There are no targets or no sets of attributes, or one is empty.

    Notes
    -----
    A distance is 1 less the cosine, as the authors and WEFE have it, though both write of
    similarity.

    References
    ----------
    T. Manzini, Y. C. Lim, A. W. Black, Y. Tsvetkov. Black is to criminal as Caucasian is to
    police: detecting and removing multiclass bias in word embeddings. NAACL 2019.
    """
    if not attributes:
        raise InputError("MAC takes at least one set of attributes, and there are none")
    _check(targets=targets, **{f"attributes {n}": words for n, words in enumerate(attributes, 1)})
    means = np.stack([unit(words).mean(axis=0) for words in attributes])
    distances = 1 - unit(targets) @ means.T
    return Mac(float(distances.mean()), distances)


def rnsb(targets: Vectors, negative: Vectors, positive: Vectors, *, seed: int = 0) -> Rnsb:
    """Compute the relative negative sentiment bias: who is taken for negative, and how unequally.

    A logistic regression tells negative attribute words from positive ones; what it says of the
    targets is compared with what it would say if all were alike.

    Parameters
    ----------
    targets : float array, shape (n, dim)
        Two or more, such as names of nations or religions.
    negative, positive : float array, shapes (p, dim) and (q, dim)
    seed : int
        Of the folds from which the accuracy comes; the rest does not depend on it.

    Returns
    -------
    result : Rnsb

    Raises
    ------
    InputError
        A set is empty, or there is only one target.

    Notes
    -----
    The regression is fitted to all attribute words, so that nothing depends on chance, with
    L2 regularization, C = 1; its accuracy is measured apart, in up to 5 stratified folds. (WEFE
    draws a fifth of the words that are not fitted to, unless ``holdout=False``.) Vectors are
    scaled to unit length, which the paper and WEFE's default do not: how much the regularization
    weighs depends on lengths, and spaces that are compared may have vectors of different lengths.

    References
    ----------
    C. Sweeney, M. Najafian. A transparent framework for evaluating unintended demographic bias in
    word embeddings. ACL 2019.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import (
        StratifiedKFold,
        cross_val_predict,
    )

    _check(targets=targets, negative=negative, positive=positive)
    if len(targets) < 2:
        raise InputError("RNSB compares targets with one another, and there is only one")
    rows = np.concatenate([unit(negative), unit(positive)])
    labels = np.repeat([True, False], [len(negative), len(positive)])
    # What scikit-learn did by default when the paper was written.
    classifier = LogisticRegression(solver="liblinear", random_state=0)
    accuracy = float("nan")
    if (folds := min(_FOLDS, len(negative), len(positive))) >= 2:
        split = StratifiedKFold(folds, shuffle=True, random_state=seed)
        accuracy = float((cross_val_predict(classifier, rows, labels, cv=split) == labels).mean())
    classifier.fit(rows, labels)
    probabilities = classifier.predict_proba(unit(targets))[:, 1]
    shares = probabilities / probabilities.sum()
    logs = np.log(shares * len(shares), out=np.zeros_like(shares), where=shares > 0)
    return Rnsb(float(shares @ logs), shares, probabilities, accuracy)


def rnd(neutral: Vectors, a: Vectors, b: Vectors, distance: Literal["norm", "cos"] = "norm") -> Rnd:
    """Compute the relative norm distance of neutral words to two groups.

    Parameters
    ----------
    neutral : float array, shape (n, dim)
    a, b : float array, shapes (p, dim) and (q, dim)
        Words of either group. The mean of their vectors stands for it.
    distance : {"norm", "cos"}
        Euclidean, or 1 less the cosine.

    Returns
    -------
    result : Rnd

    Raises
    ------
    InputError
        A set is empty, or there is no such distance.

    Notes
    -----
    Words are scaled to unit length first, as in the paper. The paper sums the differences; their
    mean does not grow with the number of words. With ``cos`` WEFE takes the
    cosine itself, so that its sign is the other one; here both distances have the same.

    References
    ----------
    N. Garg, L. Schiebinger, D. Jurafsky, J. Zou. Word embeddings quantify 100 years of gender and
    ethnic stereotypes. PNAS 115, 2018.
    """
    if distance not in ("norm", "cos"):
        raise InputError(f"RND has the distances norm and cos, not {distance!r}")
    _check(neutral=neutral, a=a, b=b)
    words = unit(neutral)
    groups = [unit(group).mean(axis=0) for group in (a, b)]
    if distance == "norm":
        near, far = (np.linalg.norm(words - group, axis=1) for group in groups)
    else:
        near, far = (1 - words @ unit(group) for group in groups)
    differences: Floats = near - far
    return Rnd(float(differences.mean()), differences)


def _check(**sets: Vectors) -> None:
    for name, words in sets.items():
        if not len(words):
            raise InputError(f"the set {name!r} has no word with a vector")
