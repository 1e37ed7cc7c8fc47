"""A residual network on top of a linear map."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.alignment import Pairs
from embcli.core.alignment.normalization import prepared
from embcli.core.cosine import unit32
from embcli.core.maps import Linear, Map, Residual, Transform
from embcli.errors import InputError, UsageError, counted

if TYPE_CHECKING:
    import torch

LOSSES = ("infonce", "cosine")
_FEWEST = 20
# Pairs held out and candidates looked at after every pass.
_JUDGED = 1000
_CANDIDATES = 5000
_RIDGE = 0.01


def mlp(
    pairs: Pairs,
    *,
    normalize: str = "unit,center,unit",
    loss: str = "infonce",
    hidden: int = 0,
    temperature: float = 0.05,
    learning_rate: float = 1e-3,
    decay: float = 1e-2,
    batch: int = 256,
    epochs: int = 100,
    patience: int = 8,
    held_out: float = 0.1,
    seed: int = 0,
) -> Map:
    """Fit a linear map and a hidden layer that adds to it, ``y = x @ W; y + relu(y @ A + b) @ C``.

    Training begins at the linear solution (C = 0) and keeps the state that finds pairs held out
    best; if none finds them better, that is the linear solution.

    Parameters
    ----------
    pairs : Pairs
    normalize : str
        See `embcli.core.alignment.normalization.prepared`.
    loss : {"infonce", "cosine"}
        Tell the right target from the others of the batch, and the right source likewise; or
        only come near the target (1 less the cosine).
    hidden : int
        Units of the hidden layer; 0 is twice the components of the target.
    temperature : float
        What ``infonce`` divides cosines by.
    learning_rate, decay : float
        Of AdamW.
    batch, epochs : int
        Pairs at once, and most passes over them.
    patience : int
        Passes without anything better after which it ends.
    held_out : float
        Share of the sources whose pairs are held out.
    seed : int

    Returns
    -------
    map : Map
        A linear and a residual step, or the linear one alone: it is applied without torch.

    Raises
    ------
    InputError
        Fewer than 20 pairs.
    UsageError
        There is no such loss, or a number is out of its range.

    Notes
    -----
    What is found is judged by the mean reciprocal rank of the targets of (at most 1,000) pairs
    held out, among all targets (a sample of 5,000); the loss itself is no judge, because it looks
    at a batch only: on word vectors it falls while P@1 does. All pairs of a source are on one side
    of the split, and further correct targets are never taken for wrong ones.

    The linear solution is the best matrix with orthonormal rows or columns (a rotation, where
    dimensions are equal), or least squares with a hundredth of the mean variance as ridge,
    whichever finds the pairs held out better. It is fitted without them, too.

    References
    ----------
    A. van den Oord, Y. Li, O. Vinyals. Representation learning with contrastive predictive coding.
    2018 (InfoNCE). K. He, X. Zhang, S. Ren, J. Sun. Deep residual learning for image recognition.
    CVPR 2016 (the form). Adding the layer to a fitted linear map, and the way of stopping, are of
    no paper.
    """
    import torch

    _check(pairs, loss, hidden, temperature, learning_rate, batch, held_out)
    if decay < 0:
        raise UsageError(f"decay must be at least 0, not {decay:g}")
    ready = prepared(pairs, normalize)
    rng = np.random.default_rng(seed)
    sources = rng.permutation(np.unique(pairs.rows))
    apart = np.isin(pairs.rows, sources[: max(1, round(held_out * len(sources)))])
    if apart.all():
        raise InputError("method mlp needs pairs of more than one source: some are held out")
    judge = _Judge.of(ready.pairs, np.flatnonzero(apart), rng)
    starts = [_linear(ready.pairs.take(~apart), rigid) for rigid in (True, False)]
    best = max(starts, key=judge.value)
    generator = torch.Generator().manual_seed(seed)
    network = _Network(best, hidden, generator)
    batches = _Batches(ready.pairs, np.flatnonzero(~apart), batch, rng)
    optimizer = torch.optim.AdamW(network.weights, lr=learning_rate, weight_decay=decay)
    value, since = judge.value(best), 0
    for _ in range(epochs):
        for rows, targets, others in batches:
            optimizer.zero_grad()
            mapped = torch.nn.functional.normalize(network(rows), dim=1)
            if loss == "cosine":
                error = 1 - (mapped * targets).sum(dim=1).mean()
            else:
                error = _infonce(mapped, targets, others, temperature)
            error.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimizer.step()
        found = network.transform()
        since += 1
        if (reached := judge.value(found)) > value:
            best, value, since = found, reached, 0
        if since >= patience:
            break
    return ready.finished(Map(best))


def _check(
    pairs: Pairs,
    loss: str,
    hidden: int,
    temperature: float,
    learning_rate: float,
    batch: int,
    held_out: float,
) -> None:
    if loss not in LOSSES:
        raise UsageError(f"no loss {loss!r} (there are: {', '.join(LOSSES)})")
    if min(temperature, learning_rate) <= 0 or hidden < 0 or batch < 2:
        raise UsageError(
            "temperature and learning_rate must be above 0, hidden at least 0, batch at least 2"
        )
    if not 0 < held_out < 1:
        raise UsageError(f"held_out must lie between 0 and 1, not be {held_out}")
    if len(pairs.rows) < _FEWEST:
        raise InputError(
            f"method mlp needs at least {_FEWEST} pairs, and there are "
            f"{counted(len(pairs.rows), 'pair')}; procrustes does with fewer"
        )


def _linear(pairs: Pairs, rigid: bool) -> Transform:
    source = pairs.source[pairs.rows].astype(np.float64)
    covariance: NDArray[np.float64] = source.T @ pairs.target[pairs.columns].astype(np.float64)
    if rigid:
        left, _, right = np.linalg.svd(covariance, full_matrices=False)
        return Transform.of(Linear(np.asarray(left @ right, np.float64)))
    gram = source.T @ source
    gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram) / len(gram) + 1e-12
    return Transform.of(Linear(np.asarray(np.linalg.solve(gram, covariance), np.float64)))


class _Judge(NamedTuple):
    """Tells how well a map finds pairs held out: the mean reciprocal rank of their targets."""

    source: NDArray[np.float32]
    own: NDArray[np.float32]
    candidates: NDArray[np.float32]
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, pairs: Pairs, held_out: NDArray[np.int64], rng: np.random.Generator) -> "_Judge":
        """Choose what to look at."""
        chosen = pairs.take(rng.permutation(held_out)[:_JUDGED])
        m = len(pairs.target)
        sample = rng.permutation(m)[:_CANDIDATES]
        keys = pairs.rows * m + pairs.columns
        known = np.isin(chosen.rows[:, None] * m + sample, keys)
        own, candidates = (pairs.target[which] for which in (chosen.columns, sample))
        return cls(pairs.source[chosen.rows], unit32(own), unit32(candidates), known)

    def value(self, transform: Transform) -> float:
        """Map, and rank."""
        mapped = transform.apply(self.source)
        right = np.einsum("ij,ij->i", mapped, self.own)[:, None]
        before = ((mapped @ self.candidates.T > right) & ~self.known).sum(axis=1)
        return float((1 / (1 + before)).mean())


class _Network:
    """The map while it is trained."""

    def __init__(self, linear: Transform, hidden: int, generator: "torch.Generator") -> None:
        import torch

        (step,) = linear.steps
        assert isinstance(step, Linear)
        dim = step.matrix.shape[1]
        width = hidden or 2 * dim
        self.weights = [
            torch.tensor(step.matrix, dtype=torch.float32),
            torch.randn(dim, width, generator=generator) / dim**0.5,
            torch.zeros(width),
            torch.zeros(width, dim),
        ]
        for weight in self.weights:
            weight.requires_grad_()

    def __call__(self, rows: "torch.Tensor") -> "torch.Tensor":
        matrix, inner, bias, outer = self.weights
        mapped = rows @ matrix
        total: torch.Tensor = mapped + (mapped @ inner + bias).relu() @ outer
        return total

    def transform(self) -> Transform:
        """Give the map as it is now."""
        matrix, inner, bias, outer = (
            weight.detach().numpy().astype(np.float64) for weight in self.weights
        )
        return Transform.of(Linear(matrix), Residual(inner, bias, outer))


class _Batches:
    """Batches of pairs, in another order every time."""

    def __init__(
        self, pairs: Pairs, which: NDArray[np.int64], size: int, rng: np.random.Generator
    ) -> None:
        self._pairs = pairs
        self._which = which
        self._count = max(1, round(len(which) / size))
        self._rng = rng
        self._keys = np.unique(pairs.rows * len(pairs.target) + pairs.columns)

    def __iter__(self) -> "Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]":
        import torch

        for part in np.array_split(self._rng.permutation(self._which), self._count):
            rows, columns = self._pairs.rows[part], self._pairs.columns[part]
            right = np.isin(rows[:, None] * len(self._pairs.target) + columns, self._keys)
            np.fill_diagonal(right, False)
            yield (
                torch.from_numpy(self._pairs.source[rows]),
                torch.from_numpy(unit32(self._pairs.target[columns])),
                torch.from_numpy(right),
            )


def _infonce(
    mapped: "torch.Tensor", targets: "torch.Tensor", right: "torch.Tensor", temperature: float
) -> "torch.Tensor":
    """Cross entropy of finding the target of every row and the row of every target.

    `right` marks further correct ones, which do not count.
    """
    import torch

    scores = (mapped @ targets.T / temperature).masked_fill(right, float("-inf"))
    own = torch.arange(len(scores))
    entropy = torch.nn.functional.cross_entropy
    return (entropy(scores, own) + entropy(scores.T, own)) / 2
