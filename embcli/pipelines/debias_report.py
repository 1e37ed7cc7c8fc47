"""What taking a bias out of a space changed: what is left of it, and what else was lost."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embcli.config import DEFAULT_DB
from embcli.core.debiasing.subspace import direct_bias, projections
from embcli.errors import UsageError
from embcli.formats import Problem
from embcli.formats.bias_spec import BiasSpec, read_spec, restored_spec
from embcli.pipelines.debias_erase import HELD_OUT_SVM
from embcli.pipelines.debias_kept import measure_kept
from embcli.pipelines.debias_lipstick import most_biased
from embcli.pipelines.debias_measure import figures, possible
from embcli.pipelines.debias_plan import METHODS
from embcli.pipelines.debias_subject import Figure, Settings, Subject, Way, once, open_subject
from embcli.pipelines.debias_words import Bias, neutral
from embcli.pipelines.pairwise import Advance, Note
from embcli.store import Store
from embcli.viz.figure import check_figure

# Below this, what is left along a direction is rounding.
_ROUNDING = 1e-6
_SIGNIFICANT = 0.05
# Of what is to be kept, so much is no loss worth the name.
_KEPT = 0.005
# Of effect sizes, which are in standard deviations, so much is no change worth the name.
_EFFECT = 0.05
# On fewer records, chance cannot be told from what remains.
_ENOUGH = 100
_DEFAULT = "gender"
FORMER = "direct bias, former"


@dataclass(frozen=True)
class Change:
    """A figure before and after.

    Attributes
    ----------
    about : {"bias", "kept"}
    measure, set : str
    before, after, change : float, optional
    p_before, p_after : float, optional
    n : int
    verdict : str
        What the figures say, in plain words.
    """

    about: str
    measure: str
    set: str
    before: float | None
    after: float | None
    change: float | None
    p_before: float | None
    p_after: float | None
    n: int
    verdict: str

    def row(self) -> dict[str, Any]:
        """Give it as commands show it."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class Report:
    """What changed, and the sentence that sums it up.

    Attributes
    ----------
    changes : list of Change
    verdict : str
    """

    changes: list[Change]
    verdict: str


def report(
    before: str,
    after: str,
    spec: BiasSpec | None = None,
    settings: Settings | None = None,
    way: Way | None = None,
    *,
    kept: Mapping[str, Any] | None = None,
    figure: str | os.PathLike[str] | None = None,
    force: bool = False,
    db: str | os.PathLike[str] = DEFAULT_DB,
    note: Note = lambda message: None,
    problem: Callable[[Problem], object] = lambda problem: None,
    advance: Advance = lambda done, total, count: None,
) -> Report:
    """Measure two collections side by side.

    Parameters
    ----------
    before, after : str
        Collections with the same records, the second one with what became of their vectors.
    spec : BiasSpec, optional
        By default what the map that made `after` was fitted to, or no words at all if that was a
        label or some texts; "gender" if it is not known.
    settings : Settings, optional
    way : Way, optional
    kept : mapping, optional
        By what to measure what was kept: ``words``, ``label``, ``queries``, ``judgments`` and
        ``sample`` of `embcli.pipelines.debias_kept.measure_kept`.
    figure : path, optional
        Where to draw the first list of the spec along the bias direction, before and after.
    force : bool
        Replace a figure that is there.
    db : path
    note, problem, advance : callable
        Told what a user should know, of lines that cannot be read, and how far the comparison
        of neighbours is.

    Returns
    -------
    report : Report
        Words for the tests of Gonen and Goldberg are the most biased ones of `before`. A subspace
        is found anew in either collection; where both have as many components, direct bias is
        also measured along the former one.

    Raises
    ------
    UsageError, InputError, ModelError, StoreError
    """
    settings, way, note = settings or Settings(), way or Way(), once(note)
    if before == after:
        raise UsageError("BEFORE and AFTER are one collection: name two")
    fitted = _fitted(after, db)
    if spec is None:
        spec = _spec_of(fitted)
        if not fitted:
            note(f"measured by spec {_DEFAULT!r}; name another by --spec")
    if figure is not None:
        if spec is None or not (spec.words and spec.definitional):
            raise UsageError("--figure draws a list of words along a direction: name a --spec")
        check_figure(figure, extra="debias", force=force)
    # First, because it reads files.
    rows = measure_kept(
        before, after, **(kept or {}), ignore_case=way.ignore_case, options=way.options,
        seed=settings.seed, db=db, note=note, problem=problem, advance=advance,
    )  # fmt: skip
    changes = _held_out(fitted)
    if spec is not None:
        changes += _of_spec(before, after, spec, settings, way, figure, db, note)
    label = fitted.get("label")
    changes += [_kept(row, "erased" if row["set"] == label else None) for row in rows]
    return Report(changes, _summed_up(changes))


def _fitted(collection: str, db: str | os.PathLike[str]) -> dict[str, Any]:
    """Tell how the map was fitted that made a collection; nothing if it is not here."""
    with Store(db, readonly=True) as store:
        map = store.maps.of_space(store.collection(collection).recipe)
    if map is None or map.method not in METHODS:
        return {}
    fit = map.fit
    return {
        **fit.get("options", {}), "measured": fit.get("measured", []), "kept_spec": fit.get("spec"),
    }  # fmt: skip


def _spec_of(fitted: Mapping[str, Any]) -> BiasSpec | None:
    if fitted and fitted.get("spec") is None:
        return None
    if kept := fitted.get("kept_spec"):
        return restored_spec(kept)
    return read_spec(fitted.get("spec", _DEFAULT))


def _held_out(fitted: Mapping[str, Any]) -> list[Change]:
    """Show what was measured, when the map was fitted, on records that it was not fitted to."""
    return [
        Change(
            "bias", row["measure"], row["set"], row["before"], row["after"],
            _difference(row["before"], row["after"]), None, None, row["n"],
            _told_apart(row["after"], row["n"], row["chance"]),
        )
        for row in fitted.get("measured", ()) if "chance" in row
    ]  # fmt: skip


def _of_spec(
    before: str,
    after: str,
    spec: BiasSpec,
    settings: Settings,
    way: Way,
    figure: str | os.PathLike[str] | None,
    db: str | os.PathLike[str],
    note: Note,
) -> list[Change]:
    """Measure both by the words of a spec."""
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(open_subject(name, spec, settings, way, db=db, note=note))
            for name in (before, after)
        )
        formerly, wanted = None, possible(first)
        if "lipstick" in wanted:
            formerly = most_biased(first)
            if formerly is not None:
                formerly = formerly.among({*second.lexicon.collection.names().values()})
                if formerly is None:
                    note(f"without lipstick: {after!r} has too few of the most biased records")
            if formerly is None:
                wanted.remove("lipstick")
        made = [figures(subject, formerly, wanted) for subject in (first, second)]
        changes = [*_along_former(first, second), *_paired(*made)]
        if figure is not None:
            _draw(first, second, Path(figure))
    return changes


def _paired(before: Sequence[Figure], after: Sequence[Figure]) -> Iterator[Change]:
    others = {(figure.measure, figure.set): figure for figure in after}
    for figure in before:
        other = others.get((figure.measure, figure.set))
        if other is None:
            continue
        yield Change(
            "bias", figure.measure, figure.set, figure.value, other.value,
            _difference(figure.value, other.value), figure.p_value, other.p_value, other.n,
            _verdict(figure, other),
        )  # fmt: skip


def _along_former(first: Subject, second: Subject) -> Iterator[Change]:
    """Measure what is left along the subspace that was there before."""
    spec, settings = first.spec, first.settings
    both_dims = [subject.lexicon.collection.recipe.dim for subject in (first, second)]
    if "subspace" not in possible(first) or both_dims[0] != both_dims[1]:
        return
    basis = Bias.of(spec, first.lexicon, settings.components, first.note).subspace.basis
    for words in spec.words:
        chosen = [words.words[row] for row in neutral(spec, words.words)]
        both = [subject.find(chosen)[0] for subject in (first, second)]
        if len(both[0]) and len(both[1]):
            values = [direct_bias(vectors, basis, settings.strictness) for vectors in both]
            yield Change(
                "bias", FORMER, f"neutral {words.name}", values[0], values[1],
                values[1] - values[0], None, None, len(both[1]), _fall(*values),
            )  # fmt: skip


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _verdict(before: Figure, after: Figure) -> str:
    if before.value is None or after.value is None:
        return "not defined"
    was, now = before.value, after.value
    if before.measure in ("k-means purity", "SVM accuracy", "linear SVM accuracy"):
        return _told_apart(now, after.n)
    if before.measure == "WEAT effect size":
        words = "turned to the other side"
        if was * now >= 0 or abs(now - was) < _EFFECT:
            words = _fall(was, now, _EFFECT)
        # The test is one-sided: a p near 1 is significant on the other side.
        if after.p_value is not None and (after.p_value if now >= 0 else 1 - after.p_value) < (
            _SIGNIFICANT
        ):
            words += ", significant"
        return words
    if before.measure == "explained variance":
        return ""
    if before.measure == "MAC":
        return _fall(abs(was - 1), abs(now - 1))
    return _fall(was, now)


def _fall(before: float, after: float, tolerance: float = 0.0) -> str:
    was, now = abs(before), abs(after)
    if now < _ROUNDING <= was:
        return "gone"
    if abs(now - was) < max(_ROUNDING, tolerance):
        return "hardly changes" if tolerance else "unchanged"
    return "falls" if now < was else "rises"


def _told_apart(share: float, n: int, chance: float = 0.5) -> str:
    # Beyond three standard errors it is hardly chance.
    if share <= chance + 3 * (chance * (1 - chance) / max(n, 1)) ** 0.5:
        return "at chance" if n >= _ENOUGH else f"{n} records are too few to tell"
    much = share > (1 + chance) / 2
    return f"{'much' if much else 'something'} remains: {share:.0%} told apart"


def _kept(row: dict[str, Any], verdict: str | None = None) -> Change:
    change = row["change"]
    if verdict is not None:
        verdict = "erased, from these very records"
    elif change is not None and not row["measure"].startswith("overlap"):
        verdict = "lost" if change < -_KEPT else "gained" if change > _KEPT else "kept"
    return Change(
        "kept", row["measure"], row["set"], row["before"], row["after"], change, None, None,
        row["n"], verdict or "",
    )  # fmt: skip


def _summed_up(changes: Sequence[Change]) -> str:
    by_measure = {change.measure: change for change in reversed(changes)}
    parts = []
    direct = by_measure.get(FORMER)
    if direct is not None and direct.before is not None and direct.after is not None:
        parts.append(f"direct bias of {direct.set}: {direct.before:.4f} → {direct.after:.4f}")
    rising = sum("rises" in c.verdict for c in changes if c.measure == "WEAT effect size")
    tests = sum(c.measure == "WEAT effect size" for c in changes)
    if tests:
        parts.append(f"{rising} of {tests} WEAT effect sizes rose")
    svm = by_measure.get("SVM accuracy") or by_measure.get(HELD_OUT_SVM)
    if svm is not None and svm.before is not None and svm.after is not None:
        parts.append(
            f"an SVM still tells {svm.after:.1%} of the records apart (before: {svm.before:.1%}), "
            + ("so much of it is still there" if svm.verdict.startswith("much") else
               "so some of it is still there" if "remains" in svm.verdict else
               "which is chance" if svm.verdict == "at chance" else svm.verdict)
        )  # fmt: skip
    return "; ".join(parts)


def _draw(first: Subject, second: Subject, path: Path) -> None:
    from embcli.viz.bias import projection_figure

    spec = first.spec
    words = [word for word in spec.words[0].words if not second.lexicon.missing([word])]
    bias = Bias.of(spec, first.lexicon, 1, lambda message: None)
    same = first.lexicon.collection.recipe.dim == second.lexicon.collection.recipe.dim
    other = bias if same else Bias.of(spec, second.lexicon, 1, lambda message: None)
    found, vectors = first.lexicon.find(words)
    along = projections(vectors, bias.subspace.basis)[:, 0]
    later = projections(second.lexicon.find(found)[1], other.subspace.basis)[:, 0]
    projection_figure(
        found, along, later, path, title=f"{spec.words[0].name} along the {spec.name} direction",
        positive=bias.ends[0], negative=bias.ends[1], force=True, note=first.note,
    )  # fmt: skip
