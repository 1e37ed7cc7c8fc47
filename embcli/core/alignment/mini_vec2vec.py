"""A map between two encoders, from texts that none of which both have encoded."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.induction import density, mutual_nearest
from embcli.core.alignment.normalization import prepared
from embcli.core.alignment.unsupervised import enough_vectors
from embcli.core.cosine import unit32
from embcli.core.maps import Linear, Map, Transform
from embcli.errors import InputError, UsageError

Vectors = NDArray[np.float32]

_LLOYD = 6
_CLUSTER_SAMPLE = 15000
# Distributions of similarities: of how many vectors, seen at how many quantiles.
_PROFILE_SAMPLE = 3000
_QUANTILES = 400
_TEMPERATURES = np.geomspace(0.15, 0.02, 20).astype(np.float32)
_SINKHORN = 15
# Of closest points.
_AVERAGED = 10
_MEMORY = 0.7
_POINTS = 3000


class _View(NamedTuple):
    """Principal components in which clusters are compared."""

    profiles: tuple[int, ...]
    powers: tuple[float, ...]
    matched: int


# None is best for all pairs of spaces, so starts take turns.
_VIEWS = (
    _View((15, 30, 60, 120), (0, 0.5, 1), 40),
    _View((30, 60), (0, 0.5), 80),
    _View((30, 60), (0, 0.5), 40),
)


class _Sides(NamedTuple):
    """What makes both sides comparable; both matrices have orthonormal columns."""

    source: Vectors
    target: Vectors

    @classmethod
    def of(cls, covariance: NDArray[np.floating]) -> "_Sides":
        left, _, right = np.linalg.svd(np.asarray(covariance, np.float64), full_matrices=False)
        return cls(left.astype(np.float32), right.T.astype(np.float32))

    def apply(self, a: Vectors, b: Vectors) -> tuple[Vectors, Vectors]:
        return unit32(a @ self.source), unit32(b @ self.target)


def mini_vec2vec(
    pairs: Pairs,
    *,
    clusters: int = 500,
    starts: int = 8,
    rounds: int = 60,
    seed: int = 0,
) -> Map:
    """Fit a rotation to two sets of vectors of the same kind of texts, none of them in both.

    Centres of clusters are matched by how similar they are to the vectors of their own side, and
    the match is annealed (`_annealed`). Of several such starts the one with the greatest mean
    CSLS of mutual nearest centres goes on to closest points (`_closest_points`).

    Parameters
    ----------
    pairs : Pairs
        Thousands of vectors on each side. Pairs are not looked at.
    clusters : int
        On each side.
    starts : int
        How many clusterings to try.
    rounds : int
        Of closest points.
    seed : int

    Raises
    ------
    InputError
        There are fewer vectors than twice the components, or than twice the clusters.
    UsageError
        An option is out of range.

    Notes
    -----
    Both sides are led into a space of as many components as the narrower has. Every step treats
    them alike, so that there is no direction to choose; which side's texts are the easier to
    cluster differs, which is what several starts are for. Ask
    `embcli.core.alignment.confidence` of the result.

    After mini-vec2vec [1]_, with four differences, chosen on the sentences of
    benchmarks/unsupervised.py: there, 20 clusters are matched by a quadratic assignment, many
    times, and vectors are paired by their similarities to all of these anchors; here, 500 clusters
    are matched by distributions of similarities [2]_, with Sinkhorn's normalisation at falling
    temperatures [3]_. Closest points are looked for both ways and by CSLS; there is no second
    clustering; and a start is chosen by a score.

    References
    ----------
    .. [1] G. Dar. mini-vec2vec: scaling universal geometry alignment with linear transformations.
       arXiv:2510.02348, 2025. After R. Jha, C. Zhang, V. Shmatikov, J. Morris. Harnessing the
       universal geometry of embeddings. 2025.
    .. [2] M. Artetxe, G. Labaka, E. Agirre. A robust self-learning method for fully unsupervised
       cross-lingual mappings of word embeddings. ACL 2018.
    .. [3] S. Gold, A. Rangarajan, C.-P. Lu, S. Pappu, E. Mjolsness. New algorithms for 2D and 3D
       point matching. Pattern Recognition 1998.
    """
    if clusters < 20 or starts < 1 or rounds < 0:
        raise UsageError("mini-vec2vec takes at least 20 clusters, 1 start and 0 rounds")
    enough_vectors(pairs, "mini-vec2vec")
    if (fewest := min(len(pairs.source), len(pairs.target))) < 2 * clusters:
        raise InputError(
            f"mini-vec2vec needs two vectors for each of its {clusters} clusters, and one side "
            f"has {fewest}: take fewer clusters"
        )
    ready = prepared(pairs, "unit,center,unit")
    a, b = ready.pairs.source, ready.pairs.target
    rng = np.random.default_rng(seed)
    begun = [_started(a, b, clusters, _VIEWS[n % len(_VIEWS)], rng) for n in range(starts)]
    sides = _closest_points(a, b, max(begun, key=lambda each: each[0])[1], rounds, rng)
    return ready.finished(
        Map(
            Transform.of(Linear(np.asarray(sides.source, np.float64))),
            Transform.of(Linear(np.asarray(sides.target, np.float64))),
        )
    )


def _started(
    a: Vectors, b: Vectors, clusters: int, view: _View, rng: np.random.Generator
) -> tuple[float, _Sides]:
    """Cluster both sides and match the centres; give a score, and what matches them best."""
    centres_a, centres_b = centres(a, clusters, rng), centres(b, clusters, rng)
    similar = _profiles(centres_a, a, view) @ _profiles(centres_b, b, view).T
    few_a = unit32(centres_a @ _axes(a, view.matched, 0))
    few_b = unit32(centres_b @ _axes(b, view.matched, 0))
    weights = _annealed(few_a, few_b, _first_weights(similar))
    sides = _Sides.of(centres_a.T @ weights @ centres_b)
    for _ in range(5):
        covariance = _covariance_of_closest(centres_a, centres_b, sides, 3)
        sides = _Sides.of(covariance)
    return mutual_nearest(*sides.apply(centres_a, centres_b)).score, sides


def centres(vectors: Vectors, clusters: int, rng: np.random.Generator) -> Vectors:
    """Cluster vectors of unit length by cosine (spherical k-means, a few rounds), at most 15,000.

    Parameters
    ----------
    vectors : float32 array, shape (n, dim)
    clusters : int
        At most n.
    rng : numpy.random.Generator

    Returns
    -------
    centres : float32 array, shape (clusters, dim)
        Of unit length.
    """
    some = rng.permutation(len(vectors))[:_CLUSTER_SAMPLE]
    vectors = vectors[some]
    found = vectors[:clusters]
    for _ in range(_LLOYD):
        nearest = (vectors @ found.T).argmax(axis=1)
        order = np.argsort(nearest, kind="stable")
        ends = np.searchsorted(nearest[order], np.arange(clusters + 1))
        sums = np.stack(
            [
                # What has lost all its vectors stays where it is.
                vectors[order[ends[k] : ends[k + 1]]].sum(axis=0) if ends[k] < ends[k + 1] else c
                for k, c in enumerate(found)
            ]
        )
        found = unit32(sums)
    return found


def _axes(vectors: Vectors, count: int, power: float) -> Vectors:
    """Give the first principal axes, shape (dim, count), divided by the spread to some power."""
    variances, axes = np.linalg.eigh(vectors.T @ vectors / np.float32(len(vectors)))
    first = slice(None, -1 - min(count, len(variances)), -1)
    spread = np.sqrt(np.maximum(variances[first], variances[-1] * 1e-6))
    return np.asarray(axes[:, first] / spread**power, np.float32)


def _profiles(points: Vectors, vectors: Vectors, view: _View) -> Vectors:
    """Describe points by how similar they are to vectors, whatever the rotation; unit length."""
    some = vectors[:_PROFILE_SAMPLE]
    places = np.linspace(0, len(some) - 1, _QUANTILES).astype(np.int64)
    parts = []
    for count in view.profiles:
        for power in view.powers:
            axes = _axes(vectors, count, power)
            similar = unit32(points @ axes) @ unit32(some @ axes).T
            similar.sort(axis=1)
            profile = unit32(similar[:, places])
            parts.append(unit32(profile - profile.mean(axis=0)))
    return unit32(np.concatenate(parts, axis=1))


def _first_weights(similar: Vectors) -> Vectors:
    """Match every row and every column with its best by CSLS."""
    crowded = density(similar)[:, None] + density(similar.T)
    scores = similar - np.float32(0.5) * crowded
    weights = np.zeros_like(scores)
    weights[np.arange(len(scores)), scores.argmax(axis=1)] += 1
    weights[scores.argmax(axis=0), np.arange(scores.shape[1])] += 1
    return weights


def _annealed(a: Vectors, b: Vectors, weights: Vectors) -> Vectors:
    """Rotate to where the weights say, weigh by nearness and one to one, and again, cooling."""
    for temperature in _TEMPERATURES:
        for _ in range(3):
            left, _, right = np.linalg.svd(a.T @ weights @ b, full_matrices=False)
            scores = (a @ (left @ right)) @ b.T
            heights = (scores - scores.max()) / temperature
            weights = _balanced(np.exp(heights, dtype=np.float32))
    return weights


def _balanced(weights: Vectors) -> Vectors:
    """Scale rows and columns so that each row adds up to 1, and columns nearly to the same."""
    tiny = np.float32(1e-30)
    columns = np.ones(weights.shape[1], np.float32)
    for _ in range(_SINKHORN):
        rows = 1 / np.maximum(weights @ columns, tiny)
        columns = np.float32(len(weights) / weights.shape[1]) / np.maximum(rows @ weights, tiny)
    balanced: Vectors = rows[:, None] * weights * columns
    return balanced


def _closest_points(
    a: Vectors, b: Vectors, sides: _Sides, rounds: int, rng: np.random.Generator
) -> _Sides:
    """Rotate to what is near, again and again; what earlier rounds found fades away.

    Each vector's counterpart is the mean of those nearest to it, by CSLS, in a random part of the
    other side.
    """
    covariance = np.zeros((a.shape[1], b.shape[1]), np.float32)
    for _ in range(rounds):
        some_a = a[rng.permutation(len(a))[:_POINTS]]
        some_b = b[rng.permutation(len(b))[:_POINTS]]
        covariance *= np.float32(_MEMORY)
        covariance += _covariance_of_closest(some_a, some_b, sides, _AVERAGED)
        sides = _Sides.of(covariance)
    return sides


def _covariance_of_closest(a: Vectors, b: Vectors, sides: _Sides, count: int) -> Vectors:
    left, right = sides.apply(a, b)
    scores = np.float32(2) * (left @ right.T)
    scores -= density(scores)[:, None] / 2 + density(scores.T) / 2
    across = np.argpartition(scores, -count, axis=1)[:, -count:]
    down = np.argpartition(scores.T, -count, axis=1)[:, -count:]
    covariance: Vectors = a.T @ b[across].mean(axis=1) + a[down].mean(axis=1).T @ b
    return covariance
