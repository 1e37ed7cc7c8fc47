"""How well the classes of a collection can be told apart, with labels and without."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from embcli.core.correlation import spearman
from embcli.core.separability import classifiers, isotropy, scatter
from embcli.core.separability.moments import (
    dead_dimensions,
    duplicate_dimensions,
    moments,
    norm_statistics,
)
from embcli.core.separability.neighbourhood import neighbourhood, silhouette
from embcli.core.separability.neighbourhoods import Hubs, hubness, two_nn
from embcli.core.separability.persistence import Persistence, persistence
from embcli.core.separability.uniformity import class_alignment, uniformity
from embcli.core.separability.vectors import SAMPLE
from embcli.errors import InputError, ModelError, UsageError, counted
from embcli.pipelines.pairwise import Note
from embcli.pipelines.space import Space

ESTIMATE, REFERENCE = "persistence score", "Fisher ratio"
# Spearman's correlation from which the one is said to rank spaces as the other does.
_RANKS = 0.8
_FEWEST_SPACES = 6
_HIGH = {
    "Fisher ratio", "silhouette", "Thornton's index", "linear probe, accuracy",
    "nearest centroid, accuracy", "persistence score", "effective rank", "IsoScore",
}  # fmt: skip
_LOW = {"Davies-Bouldin", "anisotropy", "uniformity", "hubness"}
INSTALL = "pip install 'embcli[separability]'"


@dataclass(frozen=True)
class Settings:
    """How separability is measured.

    Attributes
    ----------
    k : int
        Neighbours.
    folds : int
        Of cross-validation.
    sample : int
        Records, drawn at random, for what compares all of them with each other.
    classified : int
        Records, drawn at random, that classifiers are trained on and tested with.
    shrinkage : float, optional
        Of the scatter within classes; by default Ledoit and Wolf's.
    seed : int

    Raises
    ------
    UsageError
    """

    k: int = 10
    folds: int = classifiers.FOLDS
    sample: int = SAMPLE
    classified: int = classifiers.SAMPLE
    shrinkage: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.k < 1 or self.folds < 2 or self.sample < 10 or self.classified < 10:
            raise UsageError(
                "--neighbours is at least 1, --folds 2, --sample and --classified are at least 10"
            )
        if self.shrinkage is not None and not 0 <= self.shrinkage <= 1:
            raise UsageError(f"--shrinkage is from 0 to 1, not {self.shrinkage:g}")


@dataclass(frozen=True)
class Figure:
    """One figure of a space.

    Attributes
    ----------
    measure : str
    value : float, optional
        None where it is not defined, or infinite.
    sd : float, optional
        Over the folds of cross-validation, with ``folds - 1`` in the denominator.
    labelled : bool
        Whether it takes labels.
    n : int
        Records it is made of.
    detail : str
        How it was made.
    meaning : str
        What the value says.
    """

    measure: str
    value: float | None
    sd: float | None
    labelled: bool
    n: int
    detail: str
    meaning: str

    def row(self) -> dict[str, Any]:
        """Give the figure as commands show it."""
        return dict(vars(self))


def measured(space: Space, settings: Settings) -> list[Figure]:
    """Measure a space by its labels, if it has them, and without.

    Raises
    ------
    ModelError
        scikit-learn is not installed, and there are labels.
    InputError
        There are too few records, or a vector cannot be compared.
    """
    return [*(_labelled(space, settings) if space.labels else ()), *_label_free(space, settings)]


def _labelled(space: Space, settings: Settings) -> Iterator[Figure]:
    check_installed()
    assert space.labels is not None
    vectors, labels = space.known, space.labels.classes
    n, k, folds = len(labels), settings.k, settings.folds
    found = scatter.scatter(vectors, labels)
    fisher = scatter.fisher(found, shrinkage=settings.shrinkage)
    between = float(np.square(found.weighted).sum())

    def figure(measure: str, value: float, meaning: str, detail: str = "", of: int = n) -> Figure:
        return _figure(measure, value, True, of, meaning, detail)

    yield figure("Fisher ratio", fisher.trace, "scatter between classes by that within; high")
    yield figure(
        "Fisher ratio, generalized", fisher.total, "the same, in the best directions; high",
        f"sum of {len(fisher.eigenvalues)} eigenvalues, shrinkage {fisher.shrinkage:.3g}",
    )  # fmt: skip
    yield figure("scatter between", between / n, "mean square; high")
    yield figure("scatter within", float(found.traces.sum()) / n, "mean square; low")
    yield figure("silhouette", silhouette(vectors, labels).mean, "-1 to 1; high", "cosine, exact")
    yield figure("Davies-Bouldin", scatter.davies_bouldin(found), "low")
    yield figure("Calinski-Harabasz", scatter.calinski_harabasz(found), "high; grows with n")
    near = neighbourhood(vectors, labels, k, sample=min(n, settings.sample), seed=settings.seed)
    looked = len(near.rows)
    yield figure(
        "Thornton's index", near.separability, "share with a nearest neighbour of their class",
        "1-NN", looked,
    )  # fmt: skip
    yield figure(
        "kNN, leave one out", near.accuracy, "share told right by their neighbours",
        f"k = {near.k}", looked,
    )  # fmt: skip
    kinds: tuple[tuple[str, classifiers.Classifier], ...] = (
        ("linear probe", classifiers.linear),
        (f"kNN, k = {k}", classifiers.neighbours(k)),
        ("nearest centroid", classifiers.centroid),
    )
    for name, classifier in kinds:
        told = classifiers.cross_validate(
            vectors, labels, classifier, folds=folds, sample=settings.classified,
            seed=settings.seed, names=space.labels.names,
        )  # fmt: skip
        how = f"{folds} folds, stratified" + ("" if told.converged else "; did not converge")
        for what, value, sd in (
            ("accuracy", told.accuracy, told.accuracy_sd),
            ("macro-F1", told.macro_f1, told.macro_f1_sd),
        ):
            yield Figure(
                f"{name}, {what}", value, sd, True, len(told.rows), how, "cross-validated; high"
            )
    collapse = scatter.neural_collapse(found)
    yield figure("NC1", collapse.nc1, "variability within classes; 0: collapsed")
    yield figure("NC2, equinorm", collapse.equinorm, "class means differ in length; 0: not")
    yield figure("NC2, equiangular", collapse.equiangular, "and in angle; 0: not")
    yield figure(
        "NC2, maximal angle", collapse.maximal_angle, "from a simplex, the farthest apart; 0: none"
    )
    yield figure(
        "alignment", class_alignment(vectors, labels), "mean squared distance within classes; low"
    )


def _label_free(space: Space, settings: Settings) -> Iterator[Figure]:
    vectors, seed = space.unit, settings.seed
    n, sample = len(vectors), min(len(vectors), settings.sample)
    near = max(min(settings.k, sample - 1), 1)
    sums, raw = moments(vectors), norm_statistics(np.linalg.norm(space.vectors, axis=1))

    @cache
    def tree() -> Persistence:
        return persistence(vectors, sample=sample, seed=seed)

    @cache
    def hubs() -> Hubs:
        return hubness(vectors, near, sample=sample, seed=seed)

    def figure(
        measure: str, make: Callable[[], float], meaning: str, detail: str = "", of: int = n
    ) -> Figure:
        try:
            return _figure(measure, make(), False, of, meaning, detail)
        except InputError as error:  # such as of vectors that are all equal
            return Figure(measure, None, None, False, of, f"not defined: {error.message}", meaning)

    yield figure(
        "persistence score", lambda: tree().score,
        "1: few components outlast the others (clusters)", "H0, Vietoris–Rips", sample,
    )  # fmt: skip
    yield figure(
        "persistence entropy", lambda: tree().entropy, "1: all components last as long", "", sample
    )
    yield figure(
        "total persistence", lambda: tree().total, "length of the spanning tree", "", sample
    )
    yield figure("mean persistence", lambda: tree().mean, "the same by its edges", "", sample)
    yield figure(
        "effective rank", lambda: isotropy.effective_rank(sums), "RankMe; high: many directions"
    )
    yield figure(
        "participation ratio", lambda: isotropy.participation_ratio(sums), "the same, stricter"
    )
    yield figure("IsoScore", lambda: isotropy.isoscore(sums), "0 to 1; 1: even in all directions")
    yield figure(
        "anisotropy", lambda: isotropy.anisotropy(sums), "mean cosine of two records; 0: none"
    )
    yield figure(
        "uniformity", lambda: uniformity(vectors, sample=sample, seed=seed).value,
        "low: evenly on the sphere", "t = 2", sample,
    )  # fmt: skip
    yield figure(
        "intrinsic dimension", lambda: two_nn(vectors, sample=sample, seed=seed).dimension,
        "coordinates needed nearby", "TwoNN", sample,
    )  # fmt: skip
    yield figure(
        "hubness", lambda: hubs().skewness, "above 1: some records are near everything",
        f"skewness of {near}-occurrences", sample,
    )  # fmt: skip
    yield figure(
        "antihubs", lambda: hubs().antihubs, "share that is nobody's neighbour", "", sample
    )
    yield figure("norm variation", lambda: raw.variation, "sd of lengths by their mean")
    yield figure(
        "dead dimensions", lambda: len(dead_dimensions(sums)), "components without variance"
    )
    yield figure(
        "duplicate dimensions", lambda: len(duplicate_dimensions(sums).pairs),
        "pairs that say the same",
    )  # fmt: skip


def _figure(
    measure: str, value: float, labelled: bool, n: int, meaning: str, detail: str
) -> Figure:
    if not np.isfinite(value):
        return Figure(measure, None, None, labelled, n, f"not finite: {value}", meaning)
    return Figure(measure, float(value), None, labelled, n, detail, meaning)


def compared(
    spaces: Iterator[Space] | Sequence[Space],
    settings: Settings,
    tell: Callable[[str], None] = lambda name: None,
) -> tuple[list[dict[str, Any]], list[Figure]]:
    """Measure several spaces.

    Parameters
    ----------
    spaces : iterable of Space
        One is held at a time.
    settings : Settings
    tell : callable
        Told of each space that was measured.

    Returns
    -------
    rows : list of dict
        One a space: ``space``, ``dim``, ``n``, and every measure.
    figures : list of Figure
        Of the last one, for what the measures are.
    """
    rows: list[dict[str, Any]] = []
    figures: list[Figure] = []
    for space in spaces:
        figures = measured(space, settings)
        row: dict[str, Any] = {"space": space.name, "dim": space.vectors.shape[1]}
        row["n"] = len(space.vectors)
        rows.append(row | {figure.measure: figure.value for figure in figures})
        tell(space.name)
    return rows, figures


def correlations(rows: Sequence[dict[str, Any]], figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Correlate, over spaces, every measure that takes no labels with every one that does.

    Returns
    -------
    rows : list of dict
        ``label_free``, ``labelled``, ``spearman`` (None where one of them is constant), ``n``.
    """
    pairs = [
        (free.measure, known.measure)
        for free in figures if not free.labelled
        for known in figures if known.labelled
    ]  # fmt: skip
    found = []
    for free, known in pairs:
        both = [(row[free], row[known]) for row in rows]
        defined = [pair for pair in both if None not in pair]
        rho = spearman(*zip(*defined, strict=True)) if defined else float("nan")
        found.append(
            {
                "label_free": free, "labelled": known,
                "spearman": None if np.isnan(rho) else float(rho), "n": len(defined),
            }
        )  # fmt: skip
    return found


def check_installed() -> None:
    """Refuse measures that take labels where scikit-learn is not installed.

    Raises
    ------
    ModelError
    """
    if find_spec("sklearn") is None:
        raise ModelError("labels take scikit-learn, which is not installed", hint=INSTALL)


def verdict_of(rows: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> str:
    """Say whether the persistence score ranks spaces as Fisher's ratio does; "" without labels."""
    rhos = {row["labelled"]: row for row in found if row["label_free"] == ESTIMATE}
    if REFERENCE not in rhos:
        return ""
    rho, n = rhos[REFERENCE]["spearman"], rhos[REFERENCE]["n"]
    if rho is None or n < _FEWEST_SPACES:
        return f"{counted(n, 'space')}: too few to tell whether the persistence score ranks them"
    goes = "goes" if rho >= _RANKS else "does not go"
    said = f"the persistence score {goes} with the Fisher ratio: Spearman {rho:.2f} over {n} spaces"
    accuracy = rhos.get("linear probe, accuracy", {}).get("spearman")
    if accuracy is not None:
        said += f" (with the accuracy of a linear probe {accuracy:.2f})"
    if rho < _RANKS:
        said += "; --scatter FILE shows how"
    if len({row["n"] for row in rows}) > 1:
        said += "; it rises with n, and spaces have different ones"
    return said


def draw_comparison(
    rows: Sequence[dict[str, Any]],
    figures: Sequence[Figure],
    path: str | os.PathLike[str],
    *,
    joined: bool,
    note: Note = lambda message: None,
) -> None:
    """Draw measures over spaces; see `embcli.viz.comparison.comparison_figure`.

    Those of `_HIGH`, which better spaces have more of, and `_LOW`: of others, such as the intrinsic
    dimension, no space has the best.
    """
    from embcli.viz.comparison import Measure, comparison_figure

    measures = [
        Measure(
            figure.measure, [_or_nan(row[figure.measure]) for row in rows],
            labelled=figure.labelled,
            better="high" if figure.measure in _HIGH else "low",
        )
        for figure in figures
        if figure.measure in _HIGH | _LOW and any(row[figure.measure] is not None for row in rows)
    ]  # fmt: skip
    comparison_figure(
        [row["space"] for row in rows], measures, path, title="Separability of spaces",
        joined=joined, force=True, note=note,
    )  # fmt: skip


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def draw_scatter(
    rows: Sequence[dict[str, Any]],
    found: Sequence[dict[str, Any]],
    path: str | os.PathLike[str],
) -> None:
    """Draw the estimate without labels against Fisher's ratio.

    Raises
    ------
    UsageError
        There are no labels.
    """
    from embcli.viz.scatter import scatter_figure

    if not any(row["labelled"] == REFERENCE for row in found):
        raise UsageError("--scatter takes labels: --label FIELD, or --labels FILE")
    rho = next(
        row["spearman"] for row in found
        if (row["label_free"], row["labelled"]) == (ESTIMATE, REFERENCE)
    )  # fmt: skip
    rows = [row for row in rows if None not in (row[ESTIMATE], row[REFERENCE])]
    scatter_figure(
        [row[ESTIMATE] for row in rows], [row[REFERENCE] for row in rows],
        [row["space"] for row in rows], path, x_title=ESTIMATE, y_title=REFERENCE, rho=rho,
        force=True,
    )  # fmt: skip
