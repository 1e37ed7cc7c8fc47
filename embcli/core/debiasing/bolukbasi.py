"""Hard and soft debiasing (Bolukbasi et al. 2016)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit
from embcli.core.debiasing.erasure import orthonormal, projection
from embcli.core.maps import Linear, Transform, Unit
from embcli.errors import InputError, counted

Floats = NDArray[np.float64]
Vectors = NDArray[np.floating]

_ROWS = 4096
# Components of two vectors of length 1 that differ by less are the same in float32.
_SAME = 1e-6
_ROUNDS = 20_000
_CONVERGED = 1e-9


def neutralize(basis: Vectors) -> Transform:
    """Take the bias subspace out of neutral words, and scale them to length 1.

    Parameters
    ----------
    basis : float array, shape (k, dim)

    Returns
    -------
    transform : Transform
        For the neutral words only.

    Raises
    ------
    InputError
        As of `embcli.core.debiasing.erasure.projection`.
    """
    return projection(basis).then(Transform.of(Unit()))


def equalized(pairs: Vectors, basis: Vectors) -> Floats:
    """Make the words of a pair, or a larger set, differ within the bias subspace only.

    Parameters
    ----------
    pairs : float array, shape (m, size, dim)
        At any length; not modified.
    basis : float array, shape (k, dim)

    Returns
    -------
    pairs : float64 array, shape (m, size, dim)
        Of length 1. Outside the subspace the words of a set are their mean; within it they keep
        the direction in which they are from it, at one length: those of a pair are opposite. All
        are then as far from every word that was neutralised.

    Raises
    ------
    InputError
        The words of a pair have the same components within the subspace.

    References
    ----------
    T. Bolukbasi, K.-W. Chang, J. Zou, V. Saligrama, A. Kalai. Man is to computer programmer as
    woman is to homemaker? Debiasing word embeddings. NeurIPS 2016. Step 2a. T. Manzini, Y. Lim,
    Y. Tsvetkov, A. Black. Black is to criminal as caucasian is to police. NAACL 2019.
    """
    axes = orthonormal(basis)
    exact = unit(pairs)
    mean = exact.mean(axis=1)
    outside = mean - mean @ axes.T @ axes
    apart = (exact - mean[:, None]) @ axes.T
    lengths = np.linalg.norm(apart, axis=2)
    if len(same := np.flatnonzero(lengths.min(axis=1, initial=np.inf) < _SAME / 2)):
        raise InputError(
            f"{len(same)} of {counted(len(pairs), 'pair')} to equalize cannot be told apart within "
            f"the bias subspace, first pair {same[0] + 1}: take them off the list"
        )
    # Means of vectors of length 1 are no longer than 1, but for rounding.
    left = np.sqrt(np.maximum(1 - np.einsum("ij,ij->i", outside, outside), 0))
    within = (left[:, None] / lengths)[:, :, None] * apart @ axes
    made: Floats = outside[:, None] + within
    return made


def soft(vectors: Vectors, neutral: Vectors, basis: Vectors, *, strength: float = 0.2) -> Transform:
    """Move neutral words away from the bias subspace, and keep inner products, in one linear map.

    Minimises ``||W (X - I) Wᵀ||² + strength ||N X Bᵀ||²`` over ``X = T Tᵀ`` (Frobenius norms): W
    are all words, N the neutral ones, B is the basis.

    Parameters
    ----------
    vectors : float array, shape (n, dim)
        All words, at any length; they are scaled to length 1.
    neutral : float array, shape (m, dim)
        The neutral ones among them, likewise.
    basis : float array, shape (k, dim)
    strength : float
        The paper's λ, not negative. 0 gives the identity; the greater, the nearer to hard
        debiasing of all words.

    Returns
    -------
    transform : Transform
        To length 1, the symmetric root of X, and to length 1 again, as in the paper.

    Raises
    ------
    InputError
        No word is neutral, or the strength is negative.

    Notes
    -----
    This is the optimum, not what some steps of gradient descent come to. The first term sums over
    pairs of words, the second over words: what a strength does falls with the number of words and
    with the variance of W along B. The paper's λ = .2 hardly changes the 13,784 Google News words
    (direct bias of professions .0660 → .0659); 1,000 takes it to .014, 100,000 to .0014.

    The problem is reduced to ``dim × dim`` by W's covariance, as in the paper, and to k columns by
    the rank of B: the minimum without the condition that X be positive semidefinite is found in
    closed form. Where it is not (few neutral words), ADMM takes such steps in turn with
    projections onto the cone. Where W spans less than the space, vectors are changed only within
    what it spans.

    References
    ----------
    T. Bolukbasi, K.-W. Chang, J. Zou, V. Saligrama, A. Kalai. Man is to computer programmer as
    woman is to homemaker? Debiasing word embeddings. NeurIPS 2016. Step 2b.
    """
    if not len(neutral):
        raise InputError(
            f"none of {counted(len(vectors), 'word')} is neutral: soft debiasing has nothing to do"
        )
    if not 0 <= strength < np.inf:
        raise InputError(f"a strength of {strength:g}: it has to be 0 or greater")
    squares, axes = np.linalg.eigh(_products(vectors))
    rounding = max(float(np.finfo(vectors.dtype).eps) ** 2, float(np.finfo(np.float64).eps))
    spanned = squares > len(squares) * rounding * squares[-1]
    # In these coordinates the first term is the distance of X from the squares themselves.
    root, axes = np.sqrt(squares[spanned]), axes[:, spanned]
    whitened = axes / root
    problem = _problem(
        np.diag(squares[spanned]),
        whitened.T @ _products(neutral) @ whitened,
        whitened.T @ orthonormal(basis).T,
        strength,
    )
    found = problem.minimum()
    transformed = found / np.outer(root, root)
    values, turns = np.linalg.eigh(transformed)
    turned = axes @ turns
    matrix = np.eye(len(squares)) - axes @ axes.T
    matrix += turned * np.sqrt(np.maximum(values, 0)) @ turned.T
    return Transform.of(Unit(), Linear(matrix), Unit())


class _Problem(NamedTuple):
    """Minimise ``||X - target||² + strength tr(S X P X)`` over positive semidefinite X.

    `axes` and `scales` are the eigenvectors and eigenvalues of S, `columns` and `weights` those of
    P but for its nullspace. `target` and `columns` are in the coordinates of `axes`, in which S is
    diagonal.
    """

    axes: Floats
    scales: Floats
    columns: Floats
    weights: Floats
    target: Floats
    strength: float

    def minimum(self) -> Floats:
        found = self._unbounded(self.target, self.strength)
        if np.linalg.eigvalsh(found)[0] < -_CONVERGED * np.abs(found).max():
            found = self._bounded()
        turned: Floats = self.axes @ found @ self.axes.T
        return turned

    def _unbounded(self, target: Floats, strength: float) -> Floats:
        """Solve it for all symmetric X.

        The gradient is zero where ``X = target - h (S Y p Vᵀ + V p Yᵀ S)``, with h half of the
        strength and ``Y = X V``: each column of Y follows from the numbers ``Z = Yᵀ S V``, and
        they from a system of k² equations.
        """
        half, v, p, s = strength / 2, self.columns, self.weights, self.scales
        k = len(p)
        shrunk = 1 / (1 + half * np.outer(s, p))
        start = shrunk * (target @ v)
        system = np.einsum("dj,dl,di->lji", s[:, None] * v, shrunk, v) * (half * p)
        matrix = np.eye(k * k).reshape(k, k, k, k)
        for row in range(k):
            matrix[row, :, :, row] += system[row]
        sums = (start.T @ (s[:, None] * v)).reshape(-1)
        z = np.linalg.solve(matrix.reshape(k * k, k * k), sums).reshape(k, k)
        y = start - half * shrunk * (v * p @ z)
        moved = (s[:, None] * y * p) @ v.T
        found: Floats = target - half * (moved + moved.T)
        return found

    def _bounded(self) -> Floats:
        """Solve it by ADMM: the minimum near a point, the nearest point of the cone, in turn."""
        cone: Floats = self.target
        sums = np.zeros_like(cone)
        penalty, size, review = 2.0, float(np.linalg.norm(self.target)), 10
        for number in range(_ROUNDS):
            share = penalty / 2
            near = (self.target + share * (cone - sums)) / (1 + share)
            free = self._unbounded(near, self.strength / (1 + share))
            values, turns = np.linalg.eigh(free + sums)
            before, cone = cone, turns * np.maximum(values, 0) @ turns.T
            sums = sums + free - cone
            primal = float(np.linalg.norm(free - cone))
            dual = penalty * float(np.linalg.norm(cone - before))
            if max(primal, dual) <= _CONVERGED * size:
                return cone
            # Boyd et al. 2011, section 3.4.1; ever more rarely, so that it converges.
            if number == review:
                review = 1 + review * 5 // 4
                factor = min(max(np.sqrt(primal / max(dual, 1e-300)), 0.1), 10.0)
                penalty, sums = penalty * factor, sums / factor
        raise InputError(
            f"soft debiasing with a strength of {self.strength:g} did not converge in "
            f"{_ROUNDS:,} rounds: take a smaller strength"
        )


def _problem(target: Floats, s: Floats, columns: Floats, strength: float) -> _Problem:
    scales, axes = np.linalg.eigh(s)
    turned, lengths, _ = np.linalg.svd(columns, full_matrices=False)
    kept = lengths > len(columns) * np.finfo(np.float64).eps * lengths.max(initial=0)
    return _Problem(
        axes,
        np.maximum(scales, 0),
        axes.T @ turned[:, kept],
        np.square(lengths[kept]),
        axes.T @ target @ axes,
        strength,
    )


def _products(vectors: Vectors) -> Floats:
    """Sum up the outer products of all rows at length 1."""
    products = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), _ROWS):
        block = unit(vectors[start : start + _ROWS])
        products += block.T @ block
    return products
