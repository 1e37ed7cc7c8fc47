"""How biased a space is, by every published measure that the words there are allow."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.core.cosine import unit
from embcli.core.debiasing import association
from embcli.core.debiasing.partitions import SAMPLES
from embcli.core.debiasing.subspace import direct_bias, indirect_bias, projections, ripa
from embcli.errors import InputError, UsageError, counted
from embcli.formats.bias_spec import AssociationTest, BiasSpec, WordSet
from embcli.pipelines.debias_words import Bias, check_sklearn, neutral, pooled, texts_of
from embcli.pipelines.lexicon import Lexicon
from embcli.pipelines.pairwise import Note
from embcli.pipelines.queries import QueryOptions
from embcli.pipelines.sides import Side
from embcli.store import Store

INSTALL = "pip install 'embcli[debias]'"
# What can be asked for, each of several figures.
MEASURES = ("subspace", "ripa", "weat", "mac", "rnsb", "rnd", "lipstick")
# Those that a classifier or clusters are fitted for.
_LEARNED = ("rnsb", "lipstick")
_EXTREMES = 10
_CLUSTERED = 500
_TRAINED = 0.2
_NEIGHBOURS = 100
# With fewer, nothing can be said.
_LEAST_BIASED = 10
_LEAST_WORDS = 10


@dataclass(frozen=True)
class Settings:
    """How bias is measured.

    Attributes
    ----------
    measures : tuple of str
        Of `MEASURES`; all that the spec and the packages installed allow if empty.
    components : int
        Of the bias subspace.
    strictness : float
        The exponent c of direct bias.
    ddof : int
        Of the standard deviation in effect sizes: 1 as Caliskan et al. have it, 0 as WEFE does.
    samples : int
        Partitions drawn where there are too many to go through.
    biased : int
        The most biased words of each side that a classifier is to tell apart; the first 500 of
        them are clustered.
    restrict : int, optional
        These are of so many records only, the first ones.
    seed : int

    Raises
    ------
    UsageError
    """

    measures: tuple[str, ...] = ()
    components: int = 1
    strictness: float = 1.0
    ddof: int = 1
    samples: int = SAMPLES
    biased: int = 2500
    restrict: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for measure in self.measures:
            if measure not in MEASURES:
                raise UsageError(f"no measure {measure!r} (there are: {', '.join(MEASURES)})")
        if not (self.strictness >= 0 and math.isfinite(self.strictness)):
            raise UsageError(f"--strictness is at least 0, not {self.strictness:g}")
        if self.ddof not in (0, 1):
            raise UsageError(f"--ddof is 0 or 1, not {self.ddof}")
        if min(self.components, self.samples, self.biased) < 1 or (self.restrict or 2) < 2:
            raise UsageError("--components, --samples and --biased are at least 1")


@dataclass(frozen=True)
class Figure:
    """One figure of bias.

    Attributes
    ----------
    measure, set : str
    value : float, optional
        None where it is not defined.
    p_value : float, optional
        Of tests.
    n : int
        Words or records it is made of.
    missing : int
        Words that there is no vector of, and that were left out.
    detail : str
        How it was made.
    meaning : str
        What the value says.
    """

    measure: str
    set: str
    value: float | None
    p_value: float | None
    n: int
    missing: int
    detail: str
    meaning: str

    def row(self) -> dict[str, Any]:
        """Give the figure as commands show it."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class MostBiased:
    """The records of a collection that lie farthest on either side of a bias direction.

    Attributes
    ----------
    ids : list of str
        The farthest of the first group first, then those of the second.
    labels : int64 array, shape (len(ids),)
    along : dict of str to float
        Where all records lie.
    words : list of str
        Ids of the records that are on the spec's lists.
    """

    ids: list[str]
    labels: NDArray[np.int64]
    along: dict[str, float]
    words: list[str]


@dataclass(frozen=True)
class Way:
    """How words get their vectors; see `embcli.pipelines.lexicon.Lexicon`."""

    templates: tuple[str, ...] = ()
    ignore_case: bool = False
    options: QueryOptions | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """A space whose bias is measured.

    Attributes
    ----------
    lexicon : Lexicon
    spec : BiasSpec
    settings : Settings
    note : callable
    """

    lexicon: Lexicon
    spec: BiasSpec
    settings: Settings
    note: Note

    def find(self, words: Sequence[str]) -> tuple[NDArray[np.float32], int]:
        """Give the vectors of words, and how many of these are missing."""
        _, vectors = self.lexicon.find(words)
        return vectors, len(self.lexicon.missing(words))


@contextmanager
def open_subject(
    collection: str,
    spec: BiasSpec,
    settings: Settings,
    way: Way,
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    note: Note = lambda message: None,
) -> Iterator[Subject]:
    """Open a collection within a snapshot, for as long as the block runs."""
    with ExitStack() as stack:
        store = stack.enter_context(Store(db, readonly=True))
        stack.enter_context(store.snapshot())
        lexicon = Lexicon(
            store, store.collection(collection), templates=way.templates,
            ignore_case=way.ignore_case, options=way.options, note=note,
        )  # fmt: skip
        yield Subject(lexicon, spec, settings, note)


def once(note: Note) -> Note:
    """Say nothing twice."""
    said: set[str] = set()

    def say(message: str) -> None:
        if message not in said:
            said.add(message)
            note(message)

    return say


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


def figures(subject: Subject, formerly: MostBiased | None = None) -> list[Figure]:
    """Measure a space; see `measure`.

    Parameters
    ----------
    subject : Subject
    formerly : MostBiased, optional
        Of the space before something was taken out of it; by default of this space itself.
    """
    wanted = possible(subject)
    made: list[Figure] = []
    if {"subspace", "ripa", "lipstick"} & {*wanted}:
        bias = Bias.of(subject.spec, subject.lexicon, subject.settings.components, subject.note)
        if "subspace" in wanted:
            made += _subspace(subject, bias)
        if "ripa" in wanted:
            made += _ripa(subject, bias)
        if "rnd" in wanted:
            made += _rnd_of_lists(subject, bias)
    for test in subject.spec.tests:
        made += _tested(subject, test, wanted)
    if "lipstick" in wanted:
        formerly = formerly or most_biased(subject, bias)
        made += _lipstick(subject, formerly) if formerly is not None else ()
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
    pairs = bool(spec.definitional) and len(spec.definitional[0]) == 2
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


def _subspace(subject: Subject, bias: Bias) -> list[Figure]:
    settings, (first, *others) = subject.settings, bias.groups
    left_out = bias.given - len(bias.words)
    sets = " / ".join((first, *others))
    made = [
        Figure(
            "explained variance", f"PC{place}", float(share), None, len(bias.words), left_out,
            f"definitional sets such as {sets}", "share of what differs within the sets",
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
            made += _indirect(words, vectors, missing, basis, bias.groups)
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
                "indirect bias", f"{words.name}, {each} nearest to {group!r}",
                float(np.mean(found)), None, len(rows), missing, "mean of all pairs of them",
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
    names = f"{test.name}: {one.name} / {other.name}, {good.name} / {bad.name}"
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
            "WEAT effect size", names, _finite(result.effect_size), result.p_value, n, missing,
            f"{how}; ddof {settings.ddof}", f"positive: {one.name} go with {good.name}",
        )  # fmt: skip
    if "mac" in wanted:
        yield Figure(
            "MAC", names, association.mac(np.concatenate([x, y]), [a, b]).mean, None, n, missing,
            "mean cosine distance of targets and attributes", "1: they have nothing in common",
        )  # fmt: skip
    if "rnsb" in wanted:
        rnsb = association.rnsb(np.concatenate([x, y]), b, a, seed=settings.seed)
        yield Figure(
            "RNSB", names, rnsb.divergence, None, n, missing,
            f"a classifier of {bad.name} against {good.name} is right in {rnsb.accuracy:.0%}",
            f"0: all targets are as likely taken for {bad.name}",
        )  # fmt: skip
    if "rnd" in wanted:
        for words, vectors in ((good, a), (bad, b)):
            yield _rnd(f"{test.name}: {words.name}", vectors, x, y, missing, (one.name, other.name))


def most_biased(subject: Subject, bias: Bias | None = None) -> MostBiased | None:
    """Find the records that lie farthest on either side; None, with a note, if there are too few.

    Parameters
    ----------
    subject : Subject
    bias : Bias, optional
        As measured in this space.

    Raises
    ------
    InputError
        There are too few definitional sets.
    """
    from embcli.core.debiasing.lipstick import most_biased

    settings, spec = subject.settings, subject.spec
    bias = bias or Bias.of(spec, subject.lexicon, settings.components, subject.note)
    side = _vocabulary(subject)
    texts = texts_of(side)[: len(side.keys)]
    along = projections(side.vectors, bias.subspace.basis)[:, 0]
    rows = neutral(spec, texts)
    each = min(settings.biased, len(rows) // 2)
    if each < _LEAST_BIASED:
        subject.note(
            f"without lipstick: collection {side.name!r} has only {counted(len(rows), 'record')} "
            f"without a word of the spec, and {2 * _LEAST_BIASED} are needed"
        )
        return None
    if each < settings.biased:
        subject.note(
            f"lipstick: the {each:,} most biased of each side, not {settings.biased:,}: there are "
            "no more"
        )
    chosen, labels = most_biased(along[rows], each)
    ids = side.ids
    listed = {word for words in spec.words for word in words.words}
    return MostBiased(
        [ids[row] for row in rows[chosen]],
        labels,
        dict(zip(ids, along.tolist(), strict=False)),
        [ids[row] for row in rows if texts[row] in listed],
    )


def _vocabulary(subject: Subject) -> Side:
    side = Side.load(subject.lexicon.collection)
    restrict = subject.settings.restrict
    if restrict is not None:
        side = Side(side.collection, side.keys[:restrict], side.vectors[:restrict])
    return side


def _lipstick(subject: Subject, formerly: MostBiased) -> Iterator[Figure]:
    """Tell formerly biased records apart, as far as it can still be done."""
    from embcli.core.debiasing import lipstick

    side, seed = _vocabulary(subject), subject.settings.seed
    row_of = {id: row for row, id in enumerate(side.ids[: len(side.keys)])}
    there = [place for place, id in enumerate(formerly.ids) if id in row_of]
    rows = np.array([row_of[formerly.ids[place]] for place in there], np.int64)
    labels, lost = formerly.labels[there], len(formerly.ids) - len(there)
    vectors = unit(side.vectors[rows])
    each = len(formerly.ids) // 2
    clustered = min(_CLUSTERED, each)
    first = np.array([row for row, place in enumerate(there) if place % each < clustered], np.int64)
    apart = f"the {each:,} most biased records of each side"
    yield Figure(
        "k-means purity", f"the {clustered:,} most biased records of each side",
        lipstick.cluster_purity(vectors[first], labels[first], seed), None, len(first), lost,
        f"two clusters, seed {seed}", ".5: the sides are mixed; 1: each makes a cluster",
    )  # fmt: skip
    train = round(_TRAINED * len(labels))
    for kernel, name in (("rbf", "SVM accuracy"), ("linear", "linear SVM accuracy")):
        yield Figure(
            name, apart,
            lipstick.svm_accuracy(vectors, labels, train=train, kernel=kernel, seed=seed),
            None, len(labels) - train, lost, f"trained on {train:,} others, {kernel} kernel",
            ".5: chance; 1: the bias can be read off",
        )  # fmt: skip
    words = np.array([row_of[id] for id in formerly.words if id in row_of], np.int64)
    if len(words) >= _LEAST_WORDS:
        along = np.array([formerly.along.get(id, 0.0) for id in row_of])
        k = min(_NEIGHBOURS, len(row_of) - 1)
        yield Figure(
            "bias by neighbours", "words of the spec's lists",
            lipstick.neighbour_correlation(side.vectors, words, along, k=k), None, len(words),
            len(formerly.words) - len(words),
            f"correlation of their bias with the share of their {k} neighbours on that side",
            "0: neighbours say nothing of the bias; 1: all of it",
        )  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
