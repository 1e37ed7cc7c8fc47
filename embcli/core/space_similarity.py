"""How alike two spaces are, seen from the same things in both: no map is fitted."""

import numpy as np
from numpy.typing import NDArray

from embcli.core.correlation import spearman
from embcli.core.cosine import unit
from embcli.core.matching import Advance, nearest
from embcli.core.transport import pot
from embcli.errors import InputError, counted

Vectors = NDArray[np.floating]

FEWEST = 5
_ROWS = 1 << 14
# Of all eigenvalues' sum, what those that are compared have to hold.
_ENERGY = 0.9


def linear_cka(a: Vectors, b: Vectors, *, debiased: bool = False) -> float:
    """Centred kernel alignment with linear kernels: 1 if one space is the other, turned and scaled.

    Parameters
    ----------
    a, b : float array, shapes (n, dim_a) and (n, dim_b)
        Row i of each is the same thing. Lengths count.
    debiased : bool
        With the unbiased estimator of HSIC, which is about 0 for spaces that have nothing to do
        with each other, where the plain one is far above 0 unless n is much greater than both
        dims. It can be slightly negative.

    Returns
    -------
    cka : float
        In [0, 1], debiased at most 1; NaN if all vectors of a side are equal.

    Notes
    -----
    Invariant to rotation, shift and scale of either space. From covariances, O(n · dim²).

    References
    ----------
    S. Kornblith, M. Norouzi, H. Lee, G. Hinton. Similarity of neural network representations
    revisited. ICML 2019. Unbiased HSIC: L. Song, A. Smola, A. Gretton, J. Bedo, K. Borgwardt.
    Feature selection via dependence maximization. JMLR 2012.
    """
    _check(a, b)
    a, b = _centred(a), _centred(b)
    if debiased:
        both, own, other = (_unbiased(*sides) for sides in ((a, b), (a, a), (b, b)))
    else:
        both, own, other = (_inner(*sides) for sides in ((a, b), (a, a), (b, b)))
    scale = own * other
    return float(both / np.sqrt(scale)) if scale > 0 else float("nan")


def rsa(a: Vectors, b: Vectors) -> tuple[float, float]:
    """Correlate the cosines of all pairs in one space with those in the other.

    Representational similarity analysis, or second-order similarity.

    Parameters
    ----------
    a, b : float array, shapes (n, dim_a) and (n, dim_b)
        Row i of each is the same thing.

    Returns
    -------
    spearman, pearson : float
        In [-1, 1]; NaN if all cosines of a side are equal.

    Notes
    -----
    O(n²) memory. Invariant to rotation and to lengths, not to shifts.

    References
    ----------
    N. Kriegeskorte, M. Mur, P. Bandettini. Representational similarity analysis. Frontiers in
    Systems Neuroscience 2008.
    """
    _check(a, b)
    upper = np.triu_indices(len(a), 1)
    # Rounded, so that vectors which are equal have equal cosines.
    left, right = ((unit(side) @ unit(side).T)[upper].round(12) for side in (a, b))
    deviations = left - left.mean(), right - right.mean()
    scale = float(np.linalg.norm(deviations[0]) * np.linalg.norm(deviations[1]))
    pearson = float(deviations[0] @ deviations[1]) / scale if scale > 0 else float("nan")
    return spearman(left, right), pearson


def neighbour_overlap(
    a: Vectors,
    b: Vectors,
    k: int = 10,
    *,
    rows: NDArray[np.int64] | None = None,
    advance: Advance = lambda done, total, count: None,
) -> float:
    """Average the share of a thing's k nearest in one space that are among its k nearest in both.

    Parameters
    ----------
    a, b : float array, shapes (n, dim_a) and (n, dim_b)
        Row i of each is the same thing.
    k : int
        Below n.
    rows : int64 array, shape (m,), optional
        Look at the neighbours of these only, which may be any of the n.
    advance : callable
        As of `embcli.core.matching.nearest`, over both spaces.

    Returns
    -------
    overlap : float
        In [0, 1]; k / (n - 1) by chance.
    """
    _check(a, b, k)
    n = len(a)
    chosen = np.arange(n) if rows is None else rows
    left = _neighbours(
        a, k, chosen, lambda done, total, count: advance(done, 2 * total, count // 2)
    )
    right = _neighbours(
        b, k, chosen,
        lambda done, total, count: advance(total + done, 2 * total, (len(chosen) + count) // 2),
    )  # fmt: skip
    places = np.arange(len(chosen))[:, None] * n
    return float(np.isin(places + left, places + right).mean())


def eigenvector_similarity(a: Vectors, b: Vectors, k: int = 10) -> float:
    """Compare the spectra of the Laplacians of both spaces' nearest-neighbour graphs.

    Parameters
    ----------
    a, b : float array, shapes (n, dim_a) and (m, dim_b)
        Need not be the same things.
    k : int
        Neighbours to which a vertex has an edge, in whichever direction; below n and m.

    Returns
    -------
    distance : float
        Sum of squared differences of the greatest eigenvalues: 0 for graphs of one form, without
        an upper bound. It grows with the number of rows.

    Notes
    -----
    As many eigenvalues as hold 90 % of the sum, on the side that needs fewer. O(n³).

    References
    ----------
    A. Søgaard, S. Ruder, I. Vulić. On the limitations of unsupervised bilingual dictionary
    induction. ACL 2018.
    """
    _check(a, a, k)
    _check(b, b, k)
    spectra = [_spectrum(side, k) for side in (a, b)]
    needed = []
    for values in spectra:
        shares = np.cumsum(values) / values.sum()
        needed.append(int(np.searchsorted(shares, _ENERGY)) + 1)
    count = min(*needed, *map(len, spectra))
    left, right = (values[:count] for values in spectra)
    return float(((left - right) ** 2).sum())


def gromov_wasserstein(a: Vectors, b: Vectors) -> float:
    """Give the Gromov–Wasserstein distance: how far apart distances are, matched at best.

    Distances within a space are 1 less the cosine, and those of both spaces are compared under
    the coupling of rows that makes their squared differences least.

    Parameters
    ----------
    a, b : float array, shapes (n, dim_a) and (n, dim_b)
        Row i of each is the same thing, which is where one of two searches begins; the coupling
        found may be any other.

    Returns
    -------
    distance : float
        Root of the mean squared difference, at most 2; 0 for spaces of one form.

    Notes
    -----
    The problem is not convex: what is returned is the better of the local minima that the search
    reaches from rows coupled with themselves and from the independent coupling, an upper bound of
    the distance. O(n³) for every step; by POT.

    References
    ----------
    F. Mémoli. Gromov–Wasserstein distances and the metric approach to object matching. 2011 (whose
    distance is half of this). D. Alvarez-Melis, T. Jaakkola. Gromov–Wasserstein alignment of word
    embedding spaces. EMNLP 2018.
    """
    ot = pot()
    _check(a, b)
    n = len(a)
    left, right = (1 - unit(side) @ unit(side).T for side in (a, b))
    weights = np.full(n, 1 / n)
    costs = []
    for start in (np.eye(n) / n, np.outer(weights, weights)):
        plan = ot.gromov.gromov_wasserstein(left, right, weights, weights, G0=start)
        costs.append(_mismatch(left, right, plan))
    return float(np.sqrt(max(min(costs), 0.0)))


def _mismatch(
    left: NDArray[np.float64], right: NDArray[np.float64], plan: NDArray[np.float64]
) -> float:
    rows, columns = plan.sum(axis=1), plan.sum(axis=0)
    apart = rows @ left**2 @ rows + columns @ right**2 @ columns
    return float(apart - 2 * np.sum((left @ plan @ right) * plan))


def _check(a: Vectors, b: Vectors, k: int = 0) -> None:
    if len(a) != len(b):
        raise InputError(f"{len(a):,} and {len(b):,} vectors: they must be of the same things")
    if len(a) < max(FEWEST, k + 1):
        needed = f", {k + 1} with {k} neighbours" if k else ""
        raise InputError(
            f"comparing spaces takes at least {FEWEST} vectors{needed}, and there are "
            f"{counted(len(a), 'vector')}"
        )


def _centred(vectors: Vectors) -> Vectors:
    centred: Vectors = vectors - vectors.mean(axis=0, dtype=np.float64).astype(vectors.dtype)
    return centred


def _product(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """Multiply, ``a.T @ b`` in float64, a part of the rows at a time."""
    total = np.zeros((a.shape[1], b.shape[1]))
    for start in range(0, len(a), _ROWS):
        part = slice(start, start + _ROWS)
        total += a[part].astype(np.float64).T @ b[part].astype(np.float64)
    return total


def _inner(a: Vectors, b: Vectors) -> float:
    """Give ``trace(K L)`` of the kernels ``K = a @ a.T`` and ``L = b @ b.T``."""
    return float((_product(a, b) ** 2).sum())


def _unbiased(a: Vectors, b: Vectors) -> float:
    """Give the unbiased HSIC of linear kernels, less a factor that CKA does not need."""
    n = len(a)
    squares = [np.einsum("ij,ij->i", side, side, dtype=np.float64) for side in (a, b)]
    # Sums of the kernels' rows, without their diagonals.
    sums = [
        side @ side.sum(axis=0, dtype=np.float64) - own
        for side, own in zip((a, b), squares, strict=True)
    ]
    trace = _inner(a, b) - float(squares[0] @ squares[1])
    totals = float(sums[0].sum() * sums[1].sum()) / ((n - 1) * (n - 2))
    return trace + totals - 2 / (n - 2) * float(sums[0] @ sums[1])


def _neighbours(
    vectors: Vectors,
    k: int,
    rows: NDArray[np.int64],
    advance: Advance = lambda done, total, count: None,
) -> NDArray[np.int64]:
    """Find the k nearest rows of some, which are not among their own; shape (len(rows), k)."""
    every = np.asarray(vectors, np.float32)
    some = every if len(rows) == len(every) else every[rows]
    return nearest(some, every, k, twins=rows, advance=advance).columns.reshape(len(rows), k)


def _spectrum(vectors: Vectors, k: int) -> NDArray[np.float64]:
    """Give the eigenvalues of the graph's Laplacian, the greatest first."""
    n = len(vectors)
    edges = np.zeros((n, n))
    edges[np.arange(n)[:, None], _neighbours(vectors, k, np.arange(n))] = 1
    edges = np.maximum(edges, edges.T)
    laplacian = np.diag(edges.sum(axis=1)) - edges
    return np.asarray(np.linalg.eigvalsh(laplacian)[::-1])
