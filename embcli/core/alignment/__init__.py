"""Fitting maps between two spaces. Methods are found by name and imported when used."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from inspect import Parameter, signature
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.core.maps import Map
from embcli.errors import InputError, ModelError, UsageError, counted


class Pairs(NamedTuple):
    """What a map is fitted to: the vectors of two spaces, and which of them belong together.

    Attributes
    ----------
    source, target : float32 array, shapes (n, dim_source) and (m, dim_target)
        All vectors, at any length, those of no pair among them.
    rows, columns : int64 array, shape (n_pairs,)
        Row ``rows[i]`` of the source and row ``columns[i]`` of the target are the same thing.
        Either may come several times.
    """

    source: NDArray[np.float32]
    target: NDArray[np.float32]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> "Pairs":
        """Keep some of the pairs, and all vectors."""
        return self._replace(rows=self.rows[which], columns=self.columns[which])

    def require(self, least: int, method: str, instead: str = "") -> None:
        """Refuse fewer pairs than a method needs.

        Raises
        ------
        InputError
            There are fewer than `least`; the message goes on with what works `instead`.
        """
        if (have := len(self.rows)) < least:
            wanted = f"{method} needs at least {counted(least, 'pair')}, and there are {have}"
            raise InputError(f"{wanted}: {instead}" if instead else wanted)


Fit = Callable[..., Map]


@dataclass(frozen=True)
class Method:
    """A way of fitting a map.

    Attributes
    ----------
    name : str
    function : str
        ``module:function`` below `embcli.core.alignment`. It takes `Pairs`; what it can be told
        besides are its keyword-only parameters, ``seed`` among them if it draws at random.
    summary : str
        One line, with the paper.
    paired : bool
        Whether it needs pairs at all.
    requires : str, optional
        The package it needs, if that is optional, and the name of embcli's extra with it.
    """

    name: str
    function: str
    summary: str
    paired: bool = True
    requires: tuple[str, str] | None = None

    @property
    def fit(self) -> Fit:
        """The function, imported now.

        Raises
        ------
        ModelError
            The package it needs is not installed.
        """
        if self.requires is not None and find_spec(self.requires[0]) is None:
            package, extra = self.requires
            raise ModelError(
                f"method {self.name!r} needs the package {package!r}, which is not installed",
                hint=f"pip install 'embcli[{extra}]'",
            )
        return self._function

    @property
    def _function(self) -> Fit:
        module, _, name = self.function.partition(":")
        found: Fit = getattr(import_module(f"embcli.core.alignment.{module}"), name)
        return found

    @property
    def options(self) -> dict[str, Any]:
        """What the function can be told, with defaults."""
        return {
            parameter.name: parameter.default
            for parameter in signature(self._function).parameters.values()
            if parameter.kind is Parameter.KEYWORD_ONLY
        }


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "procrustes",
            "procrustes:procrustes",
            "orthogonal Procrustes (Schönemann 1966)",
        ),
        Method(
            "ridge",
            "ridge:ridge",
            "ridge regression or least squares (Golub, Heath & Wahba 1979)",
        ),
        Method(
            "mean-shift",
            "shift:mean_shift",
            "one translation, across a modality gap (Liang et al. 2022)",
        ),
        Method(
            "rcsls",
            "rcsls:rcsls",
            "relaxed CSLS as the loss (Joulin et al. 2018)",
        ),
        Method(
            "cca",
            "cca:cca",
            "canonical correlations, shrunk and weighted (Hotelling 1936)",
        ),
        Method(
            "rbf",
            "rbf:rbf",
            "ridge on radial basis functions, bending one side (Broomhead & Lowe 1988)",
        ),
        Method(
            "vecmap",
            "vecmap:vecmap",
            "whiten, rotate, re-weight, de-whiten (Artetxe et al. 2018)",
        ),
        Method(
            "mlp",
            "mlp:mlp",
            "a hidden layer on top of a linear map, InfoNCE loss (van den Oord et al. 2018)",
            requires=("torch", "transformers"),
        ),
        Method(
            "relative",
            "relative:relative",
            "cosines with anchors, which are pairs (Moschella et al. 2023)",
        ),
        Method(
            "structure",
            "structure:structure",
            "least squares that keeps similarities within each space, for few pairs "
            "(after Gröger et al. 2025)",
            requires=("scipy", "align"),
        ),
        Method(
            "simplex",
            "simplex:simplex",
            "classes onto the vertices of a regular simplex, for pairs of one class "
            "(after Pernici et al. 2021)",
        ),
        Method(
            "ot",
            "ot:ot",
            "Gromov-Wasserstein coupling, then transport and rotation in turn "
            "(Alvarez-Melis & Jaakkola 2018, Grave et al. 2019)",
            paired=False,
            requires=("ot", "align"),
        ),
        Method(
            "unsupervised",
            "unsupervised:unsupervised",
            "words without pairs: self-learning from sorted similarities (Artetxe et al. 2018)",
            paired=False,
        ),
        Method(
            "mini-vec2vec",
            "mini_vec2vec:mini_vec2vec",
            "sentences without pairs: clusters, then closest points (Dar 2025)",
            paired=False,
        ),
    )
}


def method(name: str) -> Method:
    """Find a method by name.

    Raises
    ------
    UsageError
        There is none; the message lists those there are.
    """
    if name not in METHODS:
        raise UsageError(f"no method {name!r} (there are: {', '.join(METHODS)})")
    return METHODS[name]
