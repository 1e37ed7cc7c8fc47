"""How sound a collection is: one page, with what helps."""

import os
import shlex
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.core.cosine import as_unit32, pair_cosines
from embcli.core.neighbours import greatest
from embcli.core.separability import isotropy
from embcli.core.separability.moments import (
    Moments,
    dead_dimensions,
    duplicate_dimensions,
    moments,
    norm_statistics,
)
from embcli.core.separability.neighbourhoods import Hubs, hubness, two_nn
from embcli.core.separability.persistence import persistence
from embcli.core.separability.uniformity import uniformity
from embcli.core.separability.vectors import SAMPLE
from embcli.errors import InputError, counted
from embcli.pipelines.memory import NEEDS
from embcli.pipelines.pairwise import Note
from embcli.pipelines.sides import Side
from embcli.store import Collection, Store

_DUPLICATE = 0.95
_NAMED = 5
_PAIRS = 100_000
_LETTERS = 200
# Above these, or below, a finding asks for something to be done.
_ANISOTROPIC = 0.3
_ISOTROPIC = 0.05
_HUBS = 2.0
_RANK_SHARE = 0.1
_DUPLICATES_SHARE = 0.01
_MIXED = 0.1
_FEW = 30
_CHUNK = 200
# All that a store has: one is written by every command that changes something.
_RUNS = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One line of the page.

    Attributes
    ----------
    finding : str
        What was looked at.
    value : float, int, str or None
    n : int
        Records it is made of.
    verdict : {"ok", "look", ""}
        "look" if something should be done; "" if the value says nothing by itself.
    detail : str
        What it means, in plain words, with examples.
    helps : str
        The command that helps, if there is one.
    examples : sequence of str
        Ids of some of the records.
    """

    finding: str
    value: Any
    n: int
    verdict: str
    detail: str
    helps: str = ""
    examples: Sequence[str] = ()

    def row(self) -> dict[str, Any]:
        """Give it as commands show it."""
        return vars(self) | {"examples": list(self.examples)}


@dataclass(frozen=True, eq=False)
class Health:
    """What was found, and what a figure of it is drawn from.

    Attributes
    ----------
    findings : list of Finding
    spectrum : float64 array, shape (dim,)
        Eigenvalues of the covariance, falling.
    cosines : float64 array, shape (m,)
        Of pairs drawn at random.
    occurrences : int64 array, shape (n,)
        Among how many others' nearest each record looked at is.
    norms : float64 array, shape (n,)
    hubs : list of (str, int)
        Ids, and among how many others' nearest each is.
    rank, mean_cosine : float
    """

    findings: list[Finding]
    spectrum: NDArray[np.float64]
    cosines: NDArray[np.float64]
    occurrences: NDArray[np.int64]
    norms: NDArray[np.float64]
    hubs: list[tuple[str, int]]
    rank: float
    mean_cosine: float


def diagnose(
    collection: str = DEFAULT_COLLECTION,
    *,
    sample: int = SAMPLE,
    threshold: float = _DUPLICATE,
    seed: int = 0,
    db: str | os.PathLike[str] = DEFAULT_DB,
    note: Note = lambda message: None,
) -> Health:
    """Look at the vectors and texts of a collection.

    Parameters
    ----------
    collection : str
    sample : int
        Records, drawn at random, for what compares all of them with each other.
    threshold : float
        The cosine from which two records are near-duplicates.
    seed : int
    db : path
    note : callable

    Returns
    -------
    health : Health

    Raises
    ------
    InputError
        There are fewer than three records.
    UsageError, StoreError
    """
    with Store(db, readonly=True) as store, store.snapshot():
        source = store.collection(collection)
        side = Side.load(source, note, need=NEEDS["separability"])
        if len(side.keys) < 3:
            raise InputError(
                f"collection {collection!r} has {counted(len(side.keys), 'record')}: three at "
                "least are needed"
            )
        created = next(info.created for info in store.collections() if info.name == collection)
        runs = [
            run for run in store.runs(_RUNS)
            if run.collection == collection and (run.finished or run.started) >= created
        ]  # fmt: skip
        return _Doctor(source, side, sample, threshold, seed).health(runs)


class _Doctor:
    """Looks at one thing after the other."""

    def __init__(
        self, source: Collection, side: Side, sample: int, threshold: float, seed: int
    ) -> None:
        self._source, self._side = source, side
        self._threshold, self._seed = threshold, seed
        self._name = source.name
        norms = np.linalg.norm(side.vectors, axis=1)
        self._zeros = np.flatnonzero(norms == 0)
        self._rows = np.flatnonzero(norms > 0)
        if len(self._rows) < 3:
            raise InputError(f"collection {source.name!r} has hardly any vector but of zeros")
        self._vectors = as_unit32(
            side.vectors if not len(self._zeros) else side.vectors[self._rows]
        )
        self._n = len(self._vectors)
        self._sample = min(self._n, sample)
        self._norms = norms

    def health(self, runs: Iterable[Any]) -> Health:
        sums = moments(self._vectors)
        hubs: Hubs | None = None
        with suppress(InputError):  # all vectors may be one
            hubs = hubness(
                self._vectors, min(10, self._sample - 1), sample=self._sample, seed=self._seed
            )
        findings = [
            *self._size(sums),
            *self._lengths(),
            *self._duplicates(),
            *self._spread(sums),
            *(self._hubs(hubs) if hubs is not None else ()),
            *self._texts(runs),
        ]
        a, b = np.random.default_rng(self._seed).integers(0, self._n, (2, _PAIRS))
        different = a != b
        cosines = pair_cosines(self._vectors, self._vectors, a[different], b[different])
        named = [] if hubs is None else self._ids(hubs.hubs[:_NAMED])
        counts = [] if hubs is None else hubs.counts[:_NAMED].tolist()
        return Health(
            findings,
            isotropy.spectrum(sums),
            cosines,
            np.zeros(self._sample, np.int64) if hubs is None else hubs.occurrences,
            self._norms,
            [*zip(named, counts, strict=True)],
            isotropy.effective_rank(sums),
            isotropy.anisotropy(sums),
        )

    def _ids(self, rows: NDArray[np.int64]) -> list[str]:
        keys = [int(self._side.keys[row]) for row in self._rows[rows]]
        ids = self._source.ids_by_key(keys)
        return [ids[key] for key in keys]

    def _size(self, sums: Moments) -> Iterator[Finding]:
        dim = self._vectors.shape[1]
        yield Finding("records", len(self._side.keys), self._n, "", f"model {self._model}")
        yield Finding("dimension", dim, self._n, "", f"stored as {self._source.dtype}")
        yield _tried(
            "effective rank", self._n, lambda: isotropy.effective_rank(sums),
            lambda rank: rank < _RANK_SHARE * min(dim, self._n),
            f"of {dim} directions, so many are in use", "most of the room is empty",
            f"embcli whiten fit -c {self._name} -n white",
        )  # fmt: skip
        dead, same = dead_dimensions(sums), duplicate_dimensions(sums)
        bad = len(dead) + len(same.pairs)
        named = ", ".join(map(str, dead[:_NAMED])) or "none"
        # In few records, dimensions agree by chance.
        verdict = "" if self._n < _FEW else "look" if bad else "ok"
        yield Finding(
            "dead or duplicate dimensions", bad, self._n, verdict,
            f"without variance: {named}; pairs that say the same: {len(same.pairs)}",
        )  # fmt: skip

    @property
    def _model(self) -> str:
        return self._source.recipe.model

    def _lengths(self) -> Iterator[Finding]:
        found = norm_statistics(self._norms)
        yield Finding(
            "norms", found.median, len(self._norms), "look" if found.zeros else "ok",
            f"from {found.least:.4g} to {found.greatest:.4g}, coefficient of variation "
            f"{found.variation:.3g}"
            + (f"; {counted(found.zeros, 'vector')} of zeros" if found.zeros else ""),
        )  # fmt: skip

    def _duplicates(self) -> Iterator[Finding]:
        rng = np.random.default_rng(self._seed)
        every = self._sample == self._n
        rows = np.arange(self._n) if every else np.sort(rng.permutation(self._n)[: self._sample])
        near, cosines = greatest(self._vectors[rows], self._vectors, 2)
        others = np.where(near == rows[:, None], -np.inf, cosines).max(axis=1)
        count = int((others >= self._threshold).sum())
        share = count / len(rows)
        many = share > _DUPLICATES_SHARE
        yield Finding(
            "near-duplicates", share, len(rows), "look" if many else "ok",
            f"share of records with another at cosine {self._threshold:g} or more",
            f"embcli dedup -c {self._name} --threshold {self._threshold:g}" if many else "",
            self._ids(rows[others >= self._threshold][:_NAMED]),
        )  # fmt: skip

    def _spread(self, sums: Moments) -> Iterator[Finding]:
        n, whiten = self._n, f"embcli whiten fit -c {self._name} -n white"
        # Few records cannot lie in many directions.
        room = min(1.0, max(n - 2, 1) / max(self._vectors.shape[1] - 1, 1))
        yield _tried(
            "mean cosine (anisotropy)", n, lambda: isotropy.anisotropy(sums),
            lambda value: value > _ANISOTROPIC, "of any two records; 0 where they point everywhere",
            "all of them point one way", f"{whiten} --method center",
        )  # fmt: skip
        yield _tried(
            "IsoScore", n, lambda: isotropy.isoscore(sums),
            lambda value: value < _ISOTROPIC * room, "1 where all directions are used alike",
            "few directions have most of the variance", whiten,
        )  # fmt: skip
        of_sample = self._sample
        yield _tried(
            "uniformity", of_sample,
            lambda: uniformity(self._vectors, sample=self._sample, seed=self._seed).value, None,
            "0 where all records are one; the lower, the more even; about -4 at best",
        )  # fmt: skip
        yield _tried(
            "intrinsic dimension", of_sample,
            lambda: two_nn(self._vectors, sample=self._sample, seed=self._seed).dimension, None,
            "coordinates that tell a record from its neighbours (TwoNN)",
        )  # fmt: skip
        yield _tried(
            "persistence score", of_sample,
            lambda: persistence(self._vectors, sample=self._sample, seed=self._seed).score, None,
            "the nearer to 1, the more clustered; compare it between spaces, at one n",
        )  # fmt: skip

    def _hubs(self, hubs: Hubs) -> Iterator[Finding]:
        many = hubs.skewness > _HUBS
        most = f", at most of {int(hubs.counts[0]):,}" if len(hubs.counts) else ""
        yield Finding(
            "hubness", hubs.skewness, hubs.n, "look" if many else "ok",
            f"skewness of {hubs.k}-occurrences; {counted(len(hubs.hubs), 'hub')}, among the "
            f"nearest of many{most}; {hubs.antihubs:.0%} are near nothing",
            f"embcli whiten fit -c {self._name} -n white, or --csls in match" if many else "",
            self._ids(hubs.hubs[:_NAMED]),
        )  # fmt: skip

    def _texts(self, runs: Iterable[Any]) -> Iterator[Finding]:
        scripts: Counter[str] = Counter()
        empty: list[str] = []
        texts = array("q")
        for record in self._source.records():
            if not record.text.strip():
                empty.append(record.id)
                continue
            texts.append(hash(record.text))
            scripts[_script(record.text)] += 1
        total = len(self._side.keys)
        if len(empty) < total:  # vectors that were imported may come without texts
            yield Finding(
                "empty texts", len(empty), total, "look" if empty else "ok",
                "nothing but white space" if empty else "every record has a text", "",
                empty[:_NAMED],
            )  # fmt: skip
            copies = len(texts) - len(np.unique(np.frombuffer(texts, np.int64)))
            yield Finding(
                "repeated texts", copies, total, "look" if copies else "ok",
                "records whose text another has word for word",
                f"embcli dedup -c {self._name}" if copies else "",
            )  # fmt: skip
            yield self._scripts(scripts)
        most = min(self._source.recipe.settings.get("max_tokens") or _CHUNK, _CHUNK)
        encoded = [run for run in runs if run.command == "encode"]
        cut = min(sum(run.counts.get("truncated") or 0 for run in encoded), total)
        if not encoded:
            yield Finding(
                "truncated texts", None, total, "", "not known: no run of encode made these vectors"
            )
            return
        yield Finding(
            "truncated texts", cut, total, "look" if cut else "ok",
            "longer than the model reads, when they were encoded" if cut
            else "none, when they were encoded",
            f"embcli encode FILES -m {shlex.quote(self._model)} -c {self._name}-chunks "
            f"--chunk tokens={most},overlap={most // 8}" if cut else "",
        )  # fmt: skip

    def _scripts(self, scripts: Counter[str]) -> Finding:
        total = scripts.total()
        parts = [f"{name} {count / total:.1%}" for name, count in scripts.most_common(_NAMED)]
        rest = 1 - scripts.most_common(1)[0][1] / total
        return Finding(
            "scripts", len(scripts), total, "look" if rest > _MIXED else "ok",
            ", ".join(parts) + (": does the model know them all?" if rest > _MIXED else ""),
        )  # fmt: skip


def _tried(
    finding: str,
    n: int,
    measure: Callable[[], float],
    bad: Callable[[float], bool] | None,
    detail: str,
    otherwise: str = "",
    helps: str = "",
) -> Finding:
    """Measure something; where it is not defined, say why."""
    try:
        value = measure()
    except InputError as error:
        return Finding(finding, None, n, "", f"not defined: {error.message}")
    if not np.isfinite(value):
        return Finding(finding, None, n, "", "not defined: it is not finite")
    if bad is None or not bad(value):
        return Finding(finding, value, n, "" if bad is None else "ok", detail)
    return Finding(finding, value, n, "look", f"{detail}: {otherwise}", helps)


def _script(text: str) -> str:
    """Name the script that most letters of a text, of its beginning, are of."""
    names = (
        unicodedata.name(letter, "").partition(" ")[0]
        for letter in text[:_LETTERS] if letter.isalpha()
    )  # fmt: skip
    counts = Counter(filter(None, names))
    return counts.most_common(1)[0][0].capitalize() if counts else "No letters"


def draw(
    health: Health,
    path: str | os.PathLike[str],
    title: str,
    note: Note = lambda message: None,
) -> None:
    """Draw spectrum, cosines, hubness and norms; see `embcli.viz.diagnose.health_figure`."""
    from embcli.viz.diagnose import health_figure

    health_figure(
        path, spectrum=health.spectrum, cosines=health.cosines, occurrences=health.occurrences,
        norms=health.norms, title=title, hubs=health.hubs, rank=health.rank,
        mean_cosine=health.mean_cosine, force=True, note=note,
    )  # fmt: skip
