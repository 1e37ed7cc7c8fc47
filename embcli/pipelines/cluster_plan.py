"""How a collection is to be clustered."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from embcli.errors import UsageError

Criterion = Literal["silhouette", "bic", "stability"]


@dataclass(frozen=True)
class Method:
    """A way of clustering.

    Attributes
    ----------
    summary : str
    options : tuple of str
        Of `Plan`, those that it takes.
    """

    summary: str
    options: tuple[str, ...]


METHODS = {
    "kmeans": Method(
        "k-means on directions (spherical), the best of several starts", ("k", "criterion")
    ),
    "gmm": Method(
        "a mixture of Gaussians on principal components; strengths are posteriors",
        ("k", "criterion", "covariance", "dims"),
    ),
    "agglomerative": Method(
        "joins the nearest, up to a number of clusters or a distance",
        ("k", "threshold", "linkage"),
    ),
    "hdbscan": Method(
        "dense regions of a UMAP reduction; what is in none is noise",
        ("min_size", "min_samples", "dims", "neighbours", "assign_noise"),
    ),
    "evoc": Method(
        "dense regions of the vectors themselves, in several layers (EVōC)",
        ("min_size", "assign_noise"),
    ),
    "leiden": Method(
        "communities of the graph of nearest neighbours", ("resolution", "neighbours")
    ),
}
# What each is if nothing else is said; options that are None are the method's own to choose.
_DEFAULTS = {"neighbours": 15, "linkage": "ward", "covariance": "tied", "resolution": 1.0}


@dataclass(frozen=True)
class Plan:
    """How to cluster.

    Attributes
    ----------
    method : str
        A key of `METHODS`.
    k : int, optional
        How many clusters; chosen by `criterion` if None.
    criterion : str, optional
        Silhouette if nothing is said.
    min_size, min_samples : int, optional
    dims : int, optional
        Components that vectors are reduced to.
    neighbours : int, optional
    resolution, threshold : float, optional
    linkage, covariance : str, optional
    assign_noise : bool
        Put noise into the nearest cluster.
    levels : tuple of int, or "auto"
        Coarser clusterings of so many clusters; those that the method gives or, where it gives
        none, a quarter of the clusters each time.
    known : str, optional
        A field that some records have: their classes, which stay together, while new clusters
        are found beside them.
    seed : int

    Raises
    ------
    UsageError
        The method is unknown, is told what it does not take, or a number is out of range.
    """

    method: str = "kmeans"
    k: int | None = None
    criterion: Criterion | None = None
    min_size: int | None = None
    min_samples: int | None = None
    dims: int | None = None
    neighbours: int | None = None
    resolution: float | None = None
    threshold: float | None = None
    linkage: str | None = None
    covariance: str | None = None
    assign_noise: bool = False
    levels: tuple[int, ...] | Literal["auto"] = ()
    known: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"no method {self.method!r} (there are: {', '.join(METHODS)})")
        takes = METHODS[self.method].options
        for option in self.given:
            if option not in takes:
                able = [name for name, method in METHODS.items() if option in method.options]
                raise UsageError(
                    f"method {self.method!r} takes no {flag(option)} (those that do: "
                    f"{', '.join(able)})"
                )
        least = {"k": 1, "min_size": 2, "min_samples": 1, "dims": 2, "neighbours": 2}
        for option, low in least.items():
            value = getattr(self, option)
            if value is not None and value < low:
                raise UsageError(f"{flag(option)} is at least {low}, not {value}")
        for option in ("resolution", "threshold"):
            value = getattr(self, option)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{flag(option)} is a number above 0, not {value:g}")
        if self.method == "agglomerative" and (self.k is None) == (self.threshold is None):
            raise UsageError("method 'agglomerative' takes either -k N or --threshold")
        if self.criterion is not None and self.k is not None:
            raise UsageError("--criterion chooses how many clusters there are, and -k says it")
        if self.method == "kmeans" and self.criterion == "bic":
            raise UsageError("k-means has no likelihood, and so no BIC", hint="--method gmm")
        if self.levels != "auto" and any(level < 2 for level in self.levels):
            raise UsageError(f"--levels are of at least 2 clusters, not {min(self.levels)}")
        if self.known is not None:
            self._check_known()

    def _check_known(self) -> None:
        if self.method not in ("kmeans", "gmm"):
            raise UsageError(f"--known goes with --method kmeans and gmm, not with {self.method}")
        for option in ("criterion", "covariance", "dims"):
            if getattr(self, option) is not None:
                raise UsageError(f"--known takes no {flag(option)}")

    @property
    def given(self) -> dict[str, Any]:
        """What the method is told."""
        options = asdict(self)
        for name in ("method", "levels", "known", "seed"):
            del options[name]
        return {name: value for name, value in options.items() if value not in (None, False)}

    def or_default(self, option: str) -> Any:
        """Give an option, or what it is if nothing else is said."""
        value = getattr(self, option)
        return _DEFAULTS[option] if value is None else value

    @property
    def arguments(self) -> dict[str, Any]:
        """What the clustering is kept with."""
        takes = METHODS[self.method].options
        defaults = {name: value for name, value in _DEFAULTS.items() if name in takes}
        if self.known is not None:
            defaults = {"known": self.known}
        return {**defaults, **self.given, "seed": self.seed}


def flag(option: str) -> str:
    """Write an option as on the command line."""
    return "-k" if option == "k" else f"--{option.replace('_', '-')}"


def numbers(option: str, text: str) -> Sequence[int]:
    """Read numbers divided by commas.

    Raises
    ------
    UsageError
    """
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} takes whole numbers, divided by commas, not {text!r}") from None
