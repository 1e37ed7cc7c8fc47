"""How sound a collection is: one page, with what helps."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.core.cosine import unit32
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
        side = Side.load(source, note)
        if len(side.keys) < 3:
            raise InputError(
                f"collection {collection!r} has {counted(len(side.keys), 'record')}: three at "
                "least are needed"
            )
        runs = [run for run in store.runs(1000) if run.collection == collection]
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
        self._vectors = unit32(side.vectors if not len(self._zeros) else side.vectors[self._rows])
        self._n = len(self._vectors)
        self._sample = min(self._n, sample)
        self._norms = norms

    def health(self, runs: Iterable[Any]) -> Health:
        sums = moments(self._vectors)
        hubs = hubness(self._vectors, min(10, self._n - 1), sample=self._sample, seed=self._seed)
        findings = [
            *self._size(sums),
            *self._lengths(),
            *self._duplicates(),
            *self._spread(sums),
            *self._hubs(hubs),
            *self._texts(runs),
        ]
        rng = np.random.default_rng(self._seed)
        a, b = rng.integers(0, self._n, (2, _PAIRS))
        different = a != b
        cosines = np.einsum(
            "ij,ij->i", self._vectors[a[different]], self._vectors[b[different]]
        ).astype(np.float64)
        return Health(
            findings, isotropy.spectrum(sums), cosines, self._occurrences(), self._norms,
            [*zip(self._ids(hubs.hubs[:_NAMED]), hubs.counts[:_NAMED].tolist(), strict=True)],
            isotropy.effective_rank(sums), isotropy.anisotropy(sums),
        )  # fmt: skip

    def _ids(self, rows: NDArray[np.int64]) -> list[str]:
        keys = [int(self._side.keys[row]) for row in self._rows[rows]]
        ids = self._source.ids_by_key(keys)
        return [ids[key] for key in keys]

    def _size(self, sums: Moments) -> Iterator[Finding]:
        dim = self._vectors.shape[1]
        yield Finding("records", len(self._side.keys), self._n, "", f"model {self._model}")
        rank = isotropy.effective_rank(sums)
        few = rank < _RANK_SHARE * min(dim, self._n)
        yield Finding("dimension", dim, self._n, "", f"stored as {self._source.dtype}")
        yield Finding(
            "effective rank", rank, self._n, "look" if few else "ok",
            f"of {dim} directions, so many are in use"
            + (": most of the room is empty" if few else ""),
            f"embcli whiten fit -c {self._name} -n white" if few else "",
        )  # fmt: skip
        dead, same = dead_dimensions(sums), duplicate_dimensions(sums)
        bad = len(dead) + len(same.pairs)
        named = ", ".join(map(str, dead[:_NAMED])) or "none"
        yield Finding(
            "dead or duplicate dimensions", bad, self._n, "look" if bad else "ok",
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
        narrow, iso = isotropy.anisotropy(sums), isotropy.isoscore(sums)
        whiten = f"embcli whiten fit -c {self._name} -n white"
        yield Finding(
            "mean cosine (anisotropy)", narrow, self._n, "look" if narrow > _ANISOTROPIC else "ok",
            "of any two records; 0 where they point everywhere"
            + (": all of them point one way" if narrow > _ANISOTROPIC else ""),
            f"{whiten} --method center" if narrow > _ANISOTROPIC else "",
        )  # fmt: skip
        yield Finding(
            "IsoScore", iso, self._n, "look" if iso < _ISOTROPIC else "ok",
            "1 where all directions are used alike"
            + (": few directions have most of the variance" if iso < _ISOTROPIC else ""),
            whiten if iso < _ISOTROPIC else "",
        )  # fmt: skip
        even = uniformity(self._vectors, sample=self._sample, seed=self._seed)
        yield Finding("uniformity", even.value, even.n, "", "the lower, the more even; about -4")
        intrinsic = two_nn(self._vectors, sample=self._sample, seed=self._seed)
        yield Finding(
            "intrinsic dimension", intrinsic.dimension, intrinsic.n, "",
            "coordinates that tell a record from its neighbours (TwoNN)"
            + (f"; {counted(intrinsic.copies, 'copy')} left out".replace("copys", "copies")
               if intrinsic.copies else ""),
        )  # fmt: skip
        found = persistence(self._vectors, sample=self._sample, seed=self._seed)
        yield Finding(
            "persistence score", found.score, found.n, "",
            "the nearer to 1, the more clustered; compare it between spaces",
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
        texts: Counter[int] = Counter()
        for record in self._source.records():
            if not record.text.strip():
                empty.append(record.id)
                continue
            texts[hash(record.text)] += 1
            scripts[_script(record.text)] += 1
        total = len(self._side.keys)
        if len(empty) < total:  # vectors that were imported may come without texts
            yield Finding(
                "empty texts", len(empty), total, "look" if empty else "ok",
                "nothing but white space" if empty else "every record has a text", "",
                empty[:_NAMED],
            )  # fmt: skip
            copies = sum(texts.values()) - len(texts)
            yield Finding(
                "repeated texts", copies, total, "look" if copies else "ok",
                "records whose text another has word for word",
                f"embcli dedup -c {self._name}" if copies else "",
            )  # fmt: skip
            yield self._scripts(scripts)
        cut = sum(run.counts.get("truncated") or 0 for run in runs if run.command == "encode")
        yield Finding(
            "truncated texts", cut, total, "look" if cut else "ok",
            "longer than the model reads, in all runs of encode"
            if cut else "none, in all runs of encode that the store remembers",
            f"embcli encode FILES --chunk tokens -c {self._name}-chunks" if cut else "",
        )  # fmt: skip

    def _scripts(self, scripts: Counter[str]) -> Finding:
        total = scripts.total()
        parts = [f"{name} {count / total:.1%}" for name, count in scripts.most_common(_NAMED)]
        rest = 1 - scripts.most_common(1)[0][1] / total
        return Finding(
            "scripts", len(scripts), total, "look" if rest > _MIXED else "ok",
            ", ".join(parts) + (": does the model know them all?" if rest > _MIXED else ""),
        )  # fmt: skip

    def _occurrences(self) -> NDArray[np.int64]:
        """Count among how many others' nearest ten each record of the sample is."""
        rng = np.random.default_rng(self._seed)
        rows = np.sort(rng.permutation(self._n)[: self._sample])
        some = self._vectors[rows]
        near, _ = greatest(some, some, min(11, len(some)))
        near = near[near != np.arange(len(some))[:, None]]
        return np.bincount(near, minlength=len(some)).astype(np.int64)


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
