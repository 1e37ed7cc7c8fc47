"""How biased a space is, by every published measure that the words there are allow."""

import math
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.core.debiasing import association
from embcli.core.debiasing.subspace import direct_bias, indirect_bias, projections, ripa
from embcli.errors import InputError
from embcli.formats.bias_spec import AssociationTest, BiasSpec, WordSet
from embcli.pipelines.debias_lipstick import MostBiased, most_biased, told_apart
from embcli.pipelines.debias_subject import (
    MEASURES,
    Figure,
    Settings,
    Subject,
    Way,
    once,
    open_subject,
)
from embcli.pipelines.debias_words import Bias, check_sklearn, neutral, pooled
from embcli.pipelines.pairwise import Note

INSTALL = "pip install 'embcli[debias]'"
# Those that a classifier or clusters are fitted for.
_LEARNED = ("rnsb", "lipstick")
_EXTREMES = 10


def measure(
    spec: BiasSpec,
    settings: Settings | None = None,
    way: Way | None = None,
    *,
    collection: str = DEFAULT_COLLECTION,
    db: str | os.PathLike[str] = DEFAULT_DB,
    note: Note = lambda message: None,
) -> list[Figure]:
    """Measure the bias of a space.

    Parameters
    ----------
    spec : BiasSpec
    settings : Settings, optional
    way : Way, optional
    collection : str
    db : path
    note : callable
        Told what a user should know: words that are missing, and measures that cannot be made.

    Returns
    -------
    figures : list of Figure

    Raises
    ------
    InputError
        The collection has too few of the words, or there is nothing that the spec allows.
    ModelError
        A package that a measure asked for needs is not installed.
    UsageError, StoreError
    """
    settings, way = settings or Settings(), way or Way()
    with open_subject(collection, spec, settings, way, db=db, note=once(note)) as subject:
        return figures(subject)


def figures(
    subject: Subject, formerly: MostBiased | None = None, wanted: Sequence[str] | None = None
) -> list[Figure]:
    """Measure a space; see `measure`.

    Parameters
    ----------
    subject : Subject
    formerly : MostBiased, optional
        Of the space before something was taken out of it; by default of this space itself.
    wanted : sequence of str, optional
        By default what `possible` gives.
    """
    wanted = possible(subject) if wanted is None else wanted
    made: list[Figure] = []
    by_pairs = has_pairs(subject.spec)
    if {"subspace", "ripa", "lipstick"} & {*wanted} or ("rnd" in wanted and by_pairs):
        bias = Bias.of(subject.spec, subject.lexicon, subject.settings.components, subject.note)
        if "subspace" in wanted:
            made += _subspace(subject, bias)
        if "ripa" in wanted:
            made += _ripa(subject, bias)
        if "rnd" in wanted and by_pairs:
            made += _rnd_of_lists(subject, bias)
    for test in subject.spec.tests:
        made += _tested(subject, test, wanted)
    if "lipstick" in wanted:
        formerly = formerly or most_biased(subject, bias)
        made += told_apart(subject, formerly) if formerly is not None else ()
    if not made:
        raise InputError(
            f"collection {subject.lexicon.collection.name!r} has too few of the words of spec "
            f"{subject.spec.name!r} for any measure",
            hint=None if subject.lexicon.encodes else "--ignore-case, or another --spec",
        )
    return made


def possible(subject: Subject) -> list[str]:
    """Choose the measures that are asked for, or all there can be.

    Raises
    ------
    InputError
        The spec has not the words.
    ModelError
        A package that one asked for needs is not installed.
    """
    asked, spec = subject.settings.measures, subject.spec
    pairs = has_pairs(spec)
    has = {
        "subspace": bool(spec.definitional),
        "ripa": pairs and bool(spec.words),
        "lipstick": pairs,
        "rnd": (pairs and bool(spec.words)) or bool(spec.tests),
        **dict.fromkeys(("weat", "mac", "rnsb"), bool(spec.tests)),
    }
    if not any(has.values()):
        raise InputError(
            f"spec {spec.name!r} has neither definitional pairs nor tests: nothing to measure by"
        )
    for name in asked:
        if not has[name]:
            raise InputError(f"spec {spec.name!r} has not the words that measure {name!r} takes")
        if name in _LEARNED:
            check_sklearn(f"measure {name!r}")
    if asked:
        return list(asked)
    there = [name for name in MEASURES if has[name]]
    if find_spec("sklearn") is None and (left := [name for name in there if name in _LEARNED]):
        subject.note(f"without {' and '.join(left)}, scikit-learn missing: {INSTALL}")
        there = [name for name in there if name not in left]
    return there


def has_pairs(spec: BiasSpec) -> bool:
    """Whether a spec has two groups."""
    return bool(spec.definitional) and len(spec.definitional[0]) == 2


def _subspace(subject: Subject, bias: Bias) -> list[Figure]:
    settings, (first, *others) = subject.settings, bias.groups
    left_out = bias.given - len(bias.words)
    sets = " / ".join((first, *others))
    made = [
        Figure(
            "explained variance", f"PC{place}", float(share), None, len(bias.words), left_out,
            f"definitional sets such as {sets}", "share of the differences within sets",
        )
        for place, share in enumerate(bias.subspace.explained, 1)
    ]  # fmt: skip
    basis = bias.subspace.basis
    for words in subject.spec.words:
        of_list = [words.words[row] for row in neutral(subject.spec, words.words)]
        for name, chosen in ((f"neutral {words.name}", of_list), (words.name, words.words)):
            vectors, missing = subject.find(chosen)
            if not len(vectors):
                subject.note(f"{words.name}: none of the words has a vector")
                break
            made.append(
                Figure(
                    "direct bias", name, direct_bias(vectors, basis, settings.strictness), None,
                    len(vectors), missing, f"c = {settings.strictness:g}",
                    "0: nothing along the subspace; 1: nothing else",
                )
            )  # fmt: skip
        vectors, missing = subject.find(of_list)
        if len(basis) == 1 and len(vectors) > 2:
            made += _indirect(words, vectors, missing, basis, bias.ends)
    return made


def _indirect(
    words: WordSet,
    vectors: NDArray[np.float32],
    missing: int,
    basis: NDArray[np.float64],
    groups: Sequence[str],
) -> Iterator[Figure]:
    """How much of the likeness of words that lie on the same side is due to that."""
    order = np.argsort(-projections(vectors, basis)[:, 0], kind="stable")
    each = min(_EXTREMES, len(order) // 2)
    for group, rows in zip(groups, (order[:each], order[::-1][:each]), strict=True):
        shares = [
            indirect_bias(vectors[row], vectors[np.setdiff1d(rows, row)], basis) for row in rows
        ]
        found = np.concatenate(shares) if shares else np.empty(0)
        found = found[np.isfinite(found)]
        if len(found):
            yield Figure(
                "indirect bias", f"{each} {words.name} nearest to {group!r}",
                float(np.median(found)), None, len(rows), missing, "median of all pairs of them",
                "share of their similarity that is due to the subspace",
            )  # fmt: skip


def _ripa(subject: Subject, bias: Bias) -> Iterator[Figure]:
    pairs = np.stack(bias.sets)
    for words in subject.spec.words:
        chosen = [words.words[row] for row in neutral(subject.spec, words.words)]
        vectors, missing = subject.find(chosen)
        if len(vectors):
            values = ripa(vectors, pairs)
            yield Figure(
                "RIPA", f"neutral {words.name}", float(np.abs(values).mean()), None, len(vectors),
                missing, f"mean of absolute values; with sign {values.mean():+.4f}",
                f"inner product with the relation vector; positive: {bias.groups[0]!r}",
            )  # fmt: skip


def _rnd_of_lists(subject: Subject, bias: Bias) -> Iterator[Figure]:
    first, second = (pooled(bias.words, place) for place in range(2))
    a, b = subject.find(first)[0], subject.find(second)[0]
    for words in subject.spec.words:
        chosen = [words.words[row] for row in neutral(subject.spec, words.words)]
        vectors, missing = subject.find(chosen)
        if len(vectors):
            yield _rnd(f"neutral {words.name}", vectors, a, b, missing, bias.groups)


def _rnd(
    name: str,
    vectors: NDArray[np.float32],
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    missing: int,
    groups: Sequence[str],
) -> Figure:
    found = association.rnd(vectors, a, b)
    return Figure(
        "RND", name, found.mean, None, len(vectors), missing,
        f"mean difference of distances to the means of {len(a)} and {len(b)} words",
        f"negative: nearer to {groups[0]!r}; positive: to {groups[1]!r}",
    )  # fmt: skip


def _tested(subject: Subject, test: AssociationTest, wanted: Sequence[str]) -> Iterator[Figure]:
    """Measure what a test's four sets of words allow."""
    if not {"weat", "mac", "rnsb", "rnd"} & {*wanted}:
        return
    settings = subject.settings
    sets = (*test.targets, *test.attributes)
    found = [subject.find(words.words) for words in sets]
    missing = sum(lost for _, lost in found)
    small = [
        f"{len(words.words) - lost} of {len(words.words)} {words.name}"
        for words, (_, lost) in zip(sets, found, strict=True)
        if 2 * lost > len(words.words)
    ]
    if small:
        subject.note(f"{test.name} is left out: only {', '.join(small)} have vectors")
        return
    x, y, a, b = (vectors for vectors, _ in found)
    one, other = test.targets
    good, bad = test.attributes
    go = f"{one.name} go with {good.name}, {other.name} with {bad.name}"
    n = sum(map(len, (x, y, a, b)))
    if "weat" in wanted:
        result = association.weat(
            x, y, a, b, ddof=settings.ddof, samples=settings.samples, seed=settings.seed
        )
        how = (
            f"exact, of all {result.partitions:,} partitions" if result.exact
            else f"{result.partitions - 1:,} partitions drawn, seed {settings.seed}"
        )  # fmt: skip
        yield Figure(
            "WEAT effect size", test.name, _finite(result.effect_size), result.p_value, n, missing,
            f"{how}; ddof {settings.ddof}", f"positive: {go}",
        )  # fmt: skip
    if "mac" in wanted:
        yield Figure(
            "MAC", test.name, association.mac(np.concatenate([x, y]), [a, b]).mean, None, n,
            missing, "mean cosine distance of targets and attributes",
            "1: they have nothing in common",
        )  # fmt: skip
    if "rnsb" in wanted:
        rnsb = association.rnsb(np.concatenate([x, y]), b, a, seed=settings.seed)
        yield Figure(
            "RNSB", test.name, rnsb.divergence, None, n, missing,
            f"a classifier of {bad.name} against {good.name}"
            + (f" is right in {rnsb.accuracy:.0%}" if rnsb.accuracy == rnsb.accuracy else ""),
            f"0: all targets are as likely taken for {bad.name}",
        )  # fmt: skip
    if "rnd" in wanted:
        for words, vectors in ((good, a), (bad, b)):
            yield _rnd(f"{test.name}: {words.name}", vectors, x, y, missing, (one.name, other.name))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
