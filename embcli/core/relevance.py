"""From cosines to probabilities of relevance, and where a list of results should end."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The highest tenth of a sample shows how cosines fall off; fewer than eight show nothing.
_TAIL = 0.1
_LEAST_IN_TAIL = 8
_LEAST_SPREAD = 1e-6
_ITERATIONS = 100
_BINS = 10


@dataclass(frozen=True)
class Chance:
    """How many records are as near to a query as this by chance alone.

    Attributes
    ----------
    start : float
        The cosine where the tail begins.
    scale : float
        The mean excess over it.
    expected : float
        How many records of the collection lie in the tail.

    Notes
    -----
    What has nothing to do with a query has cosines with it whose upper tail is close to
    exponential (the exponential for what is not relevant is that of Manmatha, Rath, Feng 2001,
    "Modeling Score Distributions for Combining the Outputs of Search Engines", SIGIR).
    """

    start: float
    scale: float
    expected: float

    @classmethod
    def of_sample(cls, sample: NDArray[np.floating], records: int) -> "Chance":
        """Fit the tail to the cosines with a sample of the records.

        Parameters
        ----------
        sample : float array, shape (n,)
            At least two.
        records : int
            How many there are in all.
        """
        falling = np.sort(np.asarray(sample, np.float64))[::-1]
        count = min(max(round(_TAIL * len(falling)), _LEAST_IN_TAIL), len(falling) - 1)
        start = float(falling[count])
        scale = max(float((falling[:count] - start).mean()), _LEAST_SPREAD)
        return cls(start, scale, records * count / len(falling))

    def log_expected(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Tell the logarithm of how many records are at least as near by chance, shape (n,)."""
        excess = (np.asarray(scores, np.float64) - self.start) / self.scale
        logarithms: NDArray[np.float64] = np.log(self.expected) - excess
        return logarithms


@dataclass(frozen=True)
class Neighbours:
    """The cosines that records of a collection have with their nearest neighbours.

    Attributes
    ----------
    mean, spread : float
        Their mean and standard deviation.
    """

    mean: float
    spread: float

    @classmethod
    def of(cls, cosines: NDArray[np.floating]) -> "Neighbours":
        """Summarise the cosines of a sample of records with their nearest others, shape (n,)."""
        if not len(cosines):
            return cls(0.0, 1.0)
        return cls(float(np.mean(cosines)), max(float(np.std(cosines)), _LEAST_SPREAD))


def features(
    scores: NDArray[np.floating], chance: Chance, neighbours: Neighbours
) -> NDArray[np.float64]:
    """Describe the results of a query by what tells relevance, shape (n, 3).

    Parameters
    ----------
    scores : float array, shape (n,)
        Falling cosines.
    chance : Chance
        Of this query.
    neighbours : Neighbours
        Of the collection.

    Returns
    -------
    features : float64 array
        The logarithm of how many records are as near by chance; the same of the first result;
        and how many standard deviations the first result is above what records have with their
        nearest neighbours. The last one is low where a query is about something else than the
        collection, whatever stands out among the results.
    """
    expected = chance.log_expected(scores)
    described = np.empty((len(expected), 3))
    described[:, 0] = expected
    if len(expected):
        described[:, 1] = expected[0]
        described[:, 2] = (float(scores[0]) - neighbours.mean) / neighbours.spread
    return described


@dataclass(frozen=True)
class Calibration:
    """A logistic regression from features to the probability of relevance.

    Attributes
    ----------
    intercept : float
    weights : tuple of three floats
        Of the `features`.
    """

    intercept: float
    weights: tuple[float, float, float]

    def probabilities(self, described: NDArray[np.floating]) -> NDArray[np.float64]:
        """Give the probabilities, shape (n,), of what `features` has described."""
        return _logistic(self.intercept + np.asarray(described, np.float64) @ self.weights)


# Fitted on five retrieval sets and two models by benchmarks/relevance.py, with queries of other
# sets as examples of what finds nothing.
DEFAULT = Calibration(0.17, (-0.80, 0.39, 0.75))


def fit(
    described: NDArray[np.floating],
    relevant: NDArray[np.bool_],
    prior: Calibration = DEFAULT,
    strength: float = 3.0,
) -> Calibration:
    """Fit a calibration to judged results.

    Parameters
    ----------
    described : float array, shape (n, 3)
        Results of queries with judgments: see `features`.
    relevant : bool array, shape (n,)
    prior : Calibration
        Where few judgments leave it.
    strength : float
        How strongly: the precision of the prior, for features of unit variance.

    Returns
    -------
    calibration : Calibration
        The posterior mode. The third weight stays that of the prior: queries that have relevant
        records cannot teach what queries look like that have none.

    Notes
    -----
    Platt scaling with a Gaussian prior, by Newton's method; the objective is strictly convex.

    References
    ----------
    Platt (1999), "Probabilistic Outputs for Support Vector Machines". Rossi, Lin, Liu, et al.
    (2024), "Relevance Filtering for Embedding-based Retrieval", CIKM, who learn the mapping from
    the query's vector; two numbers for each query, taken from the collection's own scores, do
    with tens of judged queries instead of millions.
    """
    rows = np.asarray(described, np.float64)
    columns = np.column_stack([np.ones(len(rows)), rows[:, :2]])
    offset = rows[:, 2] * prior.weights[2]
    start = np.array([prior.intercept, *prior.weights[:2]])
    spreads = np.array([1.0, *np.maximum(rows[:, :2].std(axis=0), _LEAST_SPREAD)])
    precision = np.diag(strength * spreads**2)
    target = relevant.astype(np.float64)

    def loss(at: NDArray[np.float64]) -> float:
        logits = columns @ at + offset
        return float(
            (np.logaddexp(0, logits) - target * logits).sum()
            + (at - start) @ precision @ (at - start) / 2
        )

    found, value = start, loss(start)
    for _ in range(_ITERATIONS):
        probable = _logistic(columns @ found + offset)
        gradient = columns.T @ (probable - target) + precision @ (found - start)
        curvature = (columns * (probable * (1 - probable))[:, None]).T @ columns + precision
        step = np.linalg.solve(curvature, gradient)
        # Far from the mode a full step may lead away from it.
        while (after := loss(found - step)) > value and np.abs(step).max() > _LEAST_SPREAD:
            step = step / 2
        if after >= value:
            break
        found, value = found - step, after
    intercept, slope, first = found.tolist()
    return Calibration(intercept, (slope, first, prior.weights[2]))


def expected_f1_cut(probabilities: NDArray[np.floating]) -> int:
    """Tell how many of the first results to keep for the highest expected F1.

    Parameters
    ----------
    probabilities : float array, shape (n,)
        Of relevance, falling; what is not listed is taken for irrelevant.

    Returns
    -------
    count : int
        0 where keeping nothing is better.

    Notes
    -----
    The expectation of F1 = 2 hits / (kept + relevant) is approximated by the ratio of
    expectations, and results are taken to be relevant independently of each other. Keeping
    nothing is worth 1 where nothing is relevant, and 0 otherwise.

    References
    ----------
    Lewis (1995), "Evaluating and Optimizing Autonomous Text Classification Systems", SIGIR.
    """
    p = np.asarray(probabilities, np.float64)
    if not len(p):
        return 0
    hits = np.cumsum(p)
    expected = 2 * hits / (np.arange(1, len(p) + 1) + hits[-1])
    best = int(expected.argmax())
    return best + 1 if expected[best] >= np.prod(1 - p) else 0


def expected_calibration_error(
    probabilities: NDArray[np.floating], relevant: NDArray[np.bool_]
) -> float:
    """Measure how far probabilities are from frequencies, over ten bins of equal width.

    Parameters
    ----------
    probabilities : float array, shape (n,)
    relevant : bool array, shape (n,)

    Returns
    -------
    error : float
        From 0 to 1; the mean over results of the difference in their bins.

    References
    ----------
    Naeini, Cooper, Hauskrecht (2015), "Obtaining Well Calibrated Probabilities Using Bayesian
    Binning", AAAI.
    """
    p = np.asarray(probabilities, np.float64)
    if not len(p):
        return 0.0
    bins = np.minimum((p * _BINS).astype(np.int64), _BINS - 1)
    surplus = np.bincount(bins, p - relevant, _BINS)
    return float(np.abs(surplus).sum() / len(p))


def _logistic(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    probabilities: NDArray[np.float64] = np.exp(-np.logaddexp(0, -logits))
    return probabilities
