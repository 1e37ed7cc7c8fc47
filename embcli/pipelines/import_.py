"""From files of vectors to a collection."""

import hashlib
import marshal
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.encoders import MODELS, EncoderOptions, load_encoder
from embcli.encoders.recipe import Recipe
from embcli.errors import InputError, StoreError, UsageError
from embcli.formats import Problem
from embcli.formats.fields import unstorable
from embcli.formats.inputs import COMPRESSIONS, name_below
from embcli.formats.vectors import VectorBatch, VectorOptions, VectorReader, open_vectors
from embcli.pipelines.compress import keep_coded
from embcli.pipelines.encode import Listeners
from embcli.store import Collection, Record, Store
from embcli.store.seen import SeenIds

# What is read is kept in memory up to this size, in a temporary file beyond it.
_BYTES_IN_MEMORY = 1 << 24
_FINGERPRINTED = 100
_COMPARED = 16
_LEAST_COSINE = 0.99
_UNIT = 1e-5
# Vectors of a model that were kept in float16 are still taken for its own.
_NEARLY_UNIT = 2e-3
_LARGEST_FLOAT16 = 65504.0


@dataclass
class ImportReport:
    """What an import did, in numbers of records.

    Attributes
    ----------
    records : int
        Read and now in the collection: added, replaced and unchanged ones together.
    added : int
    replaced : int
        Were there before with another vector, text, metadata or source.
    unchanged : int
    repeated : int
        Not stored, because the id had been read before.
    skipped : int
        Not stored, because they could not be used.
    dim : int
    total : int
        Records in the collection afterwards.
    seconds : float
    """

    records: int = 0
    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    repeated: int = 0
    skipped: int = 0
    dim: int = 0
    total: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        repeated = f", repeated {self.repeated:,}" if self.repeated else ""
        return (
            f"imported {self.records:,} x {self.dim} (added {self.added:,}, replaced "
            f"{self.replaced:,}, unchanged {self.unchanged:,}{repeated}, skipped {self.skipped:,}) "
            f"in {self.seconds:.2f} s"
        )


def import_vectors(
    files: Sequence[str | os.PathLike[str]],
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    model: str | None = None,
    space: str | None = None,
    trust: bool = False,
    trust_remote_code: bool = False,
    options: VectorOptions | None = None,
    storage: str | None = None,
    skip_malformed: bool = False,
    listeners: Listeners | None = None,
) -> ImportReport:
    """Import vectors from files into a collection of a store.

    Files are read to the end before anything is stored, so that one that turns out to be
    malformed leaves the store as it was; what was read waits in a temporary file beside the
    store. It is then committed in batches: what an interruption leaves is completed by the same
    command, which passes over records that are there with the same vector, text and metadata.

    Parameters
    ----------
    files : sequence of paths
    db : path
        Created if it does not exist.
    collection : str
        Created if it does not exist.
    model : str, optional
        The encoder that made the vectors. Some texts are encoded again to make sure.
    space : str, optional
        Name of a space that the files share. Without it and `model`, vectors are in the space
        that the file says it comes from, or else in one that is known by the file's first
        vectors.
    trust : bool
        Do not encode texts again.
    trust_remote_code : bool
        Run code that comes with the model.
    options : VectorOptions, optional
    storage : {"float32", "float16"}, optional
        How a new collection stores vectors.
    skip_malformed : bool
        Leave out and report records that cannot be used, instead of refusing the file.
    listeners : Listeners, optional

    Returns
    -------
    report : ImportReport

    Raises
    ------
    InputError
        A file cannot be read or is malformed, or `model` did not make these vectors.
    ModelError, StoreError, UsageError
    """
    started = time.perf_counter()
    listeners = listeners or Listeners()
    options = options or VectorOptions()
    if model is not None and space is not None:
        raise UsageError("a model has its own space: --model or --space, not both")
    if not files:
        raise UsageError("name a file of vectors")
    if len(files) > 1 and options.sidecar is not None:
        raise UsageError("a sidecar is for one file")
    report = ImportReport()
    with closing(_Spool(os.path.dirname(os.path.abspath(db)))) as spool:
        surveys = [
            _survey(file, options, spool, report, skip_malformed, listeners) for file in files
        ]
        report.dim = _common_dim(surveys)
        recipe = _recipe(surveys, model, space, trust, trust_remote_code, listeners)
        _check_range(surveys, db, collection, storage)
        sidecar = None if options.sidecar is None else os.fspath(options.sidecar)
        arguments = {
            "files": [os.fspath(file) for file in files], "model": model, "space": space,
            "read": asdict(options) | {"sidecar": sidecar},
        }  # fmt: skip
        with Store(db) as store:
            target = store.create_collection(collection, recipe, storage)
            with store.run("import", collection, arguments) as counts:
                writer = _Writer(target, store.seen_ids(), report, listeners)
                base = os.path.dirname(os.path.abspath(db))
                read = sum(survey.count for survey in surveys)
                for file, batch in spool:
                    writer.write(name_below(files[file], base), batch)
                    store.index_texts()
                    done = report.records + report.repeated
                    listeners.progress(read + done, 2 * read, report.records)
                keep_coded(target)
                report.total = len(target)
                report.seconds = round(time.perf_counter() - started, 3)
                counts.update(asdict(report))
    return report


@dataclass
class _Survey:
    """What was found out about a file while it was read."""

    name: str
    dim: int
    recipe: dict[str, Any] | None
    count: int = 0
    shortest: float = np.inf
    longest: float = 0.0
    largest: float = 0.0
    first: list[NDArray[np.float32]] = field(default_factory=list)
    compared: list[tuple[str, NDArray[np.float32]]] = field(default_factory=list)

    def add(self, batch: VectorBatch) -> None:
        """Take note of a batch."""
        vectors = batch.vectors
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        self.shortest = min(self.shortest, float(lengths.min()))
        self.longest = max(self.longest, float(lengths.max()))
        self.largest = max(self.largest, float(vectors.max()), -float(vectors.min()))
        if self.count < _FINGERPRINTED:
            self.first.append(vectors[: _FINGERPRINTED - self.count].copy())
        # Half of those compared are from the beginning, half from all over the file.
        places = np.linspace(0, len(batch.ids) - 1, 1 if self.count else _COMPARED // 2)
        for row in sorted(set(places.astype(int).tolist())):
            if batch.texts[row].strip():
                self.compared.append((batch.texts[row], vectors[row].copy()))
        if len(self.compared) > _COMPARED:
            del self.compared[_COMPARED // 2 :: 2]
        self.count += len(batch.ids)

    @property
    def normalized(self) -> bool:
        """Whether all vectors have unit length."""
        return abs(self.shortest - 1) < _UNIT and abs(self.longest - 1) < _UNIT

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the first vectors: the same in every format, and with every --limit."""
        first = np.ascontiguousarray(np.concatenate(self.first), "<f4")
        return f"sha256:{hashlib.sha256(first.tobytes()).hexdigest()}"


def _survey(
    file: str | os.PathLike[str],
    options: VectorOptions,
    spool: "_Spool",
    report: ImportReport,
    skip_malformed: bool,
    listeners: Listeners,
) -> _Survey:
    """Read a file to the end into the spool."""
    name = os.fspath(file)
    try:
        reader: VectorReader = open_vectors(file, options)
        survey = _Survey(name, reader.dim, getattr(reader, "recipe", None))
        spool.begin_file()
        for batch in reader:
            for part in _storable(name, batch):
                if isinstance(part, Problem):
                    if not skip_malformed:
                        raise InputError(
                            str(part), hint="--skip-malformed leaves out what cannot be used"
                        )
                    report.skipped += 1
                    listeners.problem(part)
                    continue
                survey.add(part)
                spool.append(part)
            listeners.progress(survey.count, 2 * (reader.count or 0), survey.count)
    except InputError as error:
        if name in error.message:
            raise
        raise InputError(f"{name}: {error.message}", hint=error.hint) from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error})") from error
    if survey.count == 0:
        raise InputError(f"{name}: no vectors in it that could be used")
    for note in reader.notes:
        listeners.note(f"{name}: {note}")
    return survey


def _storable(name: str, batch: VectorBatch | Problem) -> Iterator[VectorBatch | Problem]:
    """Give a batch without the records that cannot be stored, and problems for these."""
    if isinstance(batch, Problem):
        yield batch
        return
    wrong: dict[int, str] = {}
    for row, (id, text, meta) in enumerate(zip(batch.ids, batch.texts, batch.metas, strict=True)):
        if not (id.isascii() and text.isascii() and not meta):
            problem = unstorable(Record(id, text, meta))
            if problem:
                wrong[row] = problem
    for row, problem in wrong.items():
        yield Problem(name, batch.places[row], problem)
    if not wrong:
        yield batch
    elif len(wrong) < len(batch.ids):
        rows = [row for row in range(len(batch.ids)) if row not in wrong]
        yield _subset(batch, rows)


def _subset(batch: VectorBatch, rows: list[int]) -> VectorBatch:
    return VectorBatch(
        [batch.ids[row] for row in rows],
        batch.vectors[rows],
        [batch.texts[row] for row in rows],
        [batch.metas[row] for row in rows],
        [batch.places[row] for row in rows],
    )


class _Spool:
    """Batches that were read and found sound, on disk until they are stored.

    The file has no name in the folder it lies in: nothing is left of it, however the program
    ends.
    """

    def __init__(self, folder: str) -> None:
        where = folder if os.access(folder, os.W_OK) else None
        self._file = SpooledTemporaryFile(_BYTES_IN_MEMORY, dir=where)
        self._batches: list[tuple[int, tuple[int, int]]] = []
        self._files = 0

    def begin_file(self) -> None:
        """Say that what follows is from another file."""
        self._files += 1

    def append(self, batch: VectorBatch) -> None:
        """Put a batch at the end."""
        head = marshal.dumps((batch.ids, batch.texts, batch.metas, batch.places))
        self._file.write(len(head).to_bytes(8, "little"))
        self._file.write(head)
        self._file.write(np.ascontiguousarray(batch.vectors).data)
        self._batches.append((self._files - 1, batch.vectors.shape))

    def __iter__(self) -> Iterator[tuple[int, VectorBatch]]:
        """Give every batch with the number of its file."""
        self._file.seek(0)
        for file, shape in self._batches:
            length = int.from_bytes(self._file.read(8), "little")
            ids, texts, metas, places = marshal.loads(  # noqa: S302 (of `append`)
                self._file.read(length)
            )
            data = self._file.read(4 * shape[0] * shape[1])
            vectors = np.frombuffer(data, np.float32).reshape(shape)
            yield file, VectorBatch(ids, vectors, texts, metas, places)

    def close(self) -> None:
        """Give the room back."""
        self._file.close()


def _common_dim(surveys: Sequence[_Survey]) -> int:
    first = surveys[0]
    for other in surveys[1:]:
        if other.dim != first.dim:
            raise InputError(
                f"{first.name} has {first.dim} components, {other.name} {other.dim}: they cannot "
                "share a space"
            )
    return first.dim


def _recipe(
    surveys: Sequence[_Survey],
    model: str | None,
    space: str | None,
    trust: bool,
    trust_remote_code: bool,
    listeners: Listeners,
) -> Recipe:
    """Say which space the vectors are in."""
    dim = surveys[0].dim
    if model is not None:
        return _recipe_of_model(surveys, model, trust, trust_remote_code, listeners)
    if space is not None:
        # Nothing that differs from file to file may be part of it.
        settings = {"model": space, "normalized": False, "imported": f"space:{space}"}
        return Recipe({**settings, "dim": dim, "maps": []})
    recipes = [_own_recipe(survey, listeners) for survey in surveys]
    if len({recipe.hash for recipe in recipes}) > 1:
        raise UsageError(
            "vectors from several files are in spaces of their own, unless it is said that they "
            "share one",
            hint="--space NAME, or --model NAME",
        )
    return recipes[0]


def _own_recipe(survey: _Survey, listeners: Listeners) -> Recipe:
    with suppress(ValueError):
        recipe = Recipe.checked(survey.recipe)
        if recipe.dim == survey.dim and (not recipe.normalized or _is_nearly_unit(survey)):
            listeners.note(f"{survey.name}: it says that its vectors are by {recipe.model!r}")
            return recipe
    stem, ending = os.path.splitext(os.path.basename(survey.name))
    if ending.lower() in COMPRESSIONS:
        stem = os.path.splitext(stem)[0]
    name = stem.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return Recipe(
        {
            "model": f"{name} (imported)" if name in MODELS else name,
            "dim": survey.dim,
            "normalized": survey.normalized,
            "imported": survey.fingerprint,
            "maps": [],
        }
    )


def _is_nearly_unit(survey: _Survey) -> bool:
    return abs(survey.shortest - 1) < _NEARLY_UNIT and abs(survey.longest - 1) < _NEARLY_UNIT


def _recipe_of_model(
    surveys: Sequence[_Survey],
    model: str,
    trust: bool,
    trust_remote_code: bool,
    listeners: Listeners,
) -> Recipe:
    if model not in MODELS and os.path.isdir(model):
        model = os.path.abspath(model)
    options = EncoderOptions(trust_remote_code=trust_remote_code)
    with closing(load_encoder(model, options, listeners.note)) as encoder:
        recipe = encoder.recipe()
        for survey in surveys:
            if survey.dim != encoder.dim:
                raise InputError(
                    f"{survey.name}: its vectors have {survey.dim} components, those of {model!r} "
                    f"{encoder.dim}",
                    hint="leave --model out, and they are in a space of their own",
                )
            if recipe.normalized and not _is_nearly_unit(survey):
                raise InputError(
                    f"{survey.name}: {model!r} makes vectors of unit length, these are "
                    f"{survey.shortest:.4g} to {survey.longest:.4g} long",
                    hint="leave --model out, and they are in a space of their own",
                )
            if not survey.compared and not trust:
                listeners.note(f"{survey.name}: no texts to make sure that {model!r} made these")
            elif not trust:
                _compare(survey, model, encoder.encode([text for text, _ in survey.compared]))
    return recipe


def _compare(survey: _Survey, model: str, made: NDArray[np.float32]) -> None:
    """Refuse vectors that are not what the model makes of the same texts."""
    found = np.stack([vector for _, vector in survey.compared]).astype(np.float64)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(made.astype(np.float64), axis=1)
    cosines = np.sum(found * made, axis=1) / np.where(lengths > 0, lengths, 1)
    worst = int(cosines.argmin())
    if cosines[worst] < _LEAST_COSINE:
        text = survey.compared[worst][0]
        raise InputError(
            f"{survey.name}: {model!r} makes another vector of {text[:40]!r} (cosine "
            f"{cosines[worst]:.3f} < {_LEAST_COSINE}, of {len(made)} compared)",
            hint="leave --model out, or --trust if these are right",
        )


def _check_range(
    surveys: Sequence[_Survey], db: str | os.PathLike[str], collection: str, storage: str | None
) -> None:
    """Refuse what float16 cannot hold, if that is how the collection stores vectors."""
    dtype = storage
    if dtype is None and os.path.exists(db) and os.path.getsize(db):
        # Opening the store for writing says what is wrong, if anything is.
        with suppress(StoreError), Store(db, readonly=True) as store:
            dtype = store.collection(collection).dtype
    for survey in surveys:
        if dtype == "float16" and survey.largest > _LARGEST_FLOAT16:
            raise InputError(
                f"{survey.name}: a component of {survey.largest:.6g} does not fit into float16",
                hint="--storage float32 and another collection",
            )


class _Writer:
    """Stores batches, but not what is repeated, nor what is there already."""

    def __init__(
        self, target: Collection, seen: SeenIds, report: ImportReport, listeners: Listeners
    ) -> None:
        self._target = target
        self._seen = seen
        self._report = report
        self._listeners = listeners

    def write(self, file: str, batch: VectorBatch) -> None:
        """Store a batch in one transaction."""
        batch = self._without_repeats(file, batch)
        records = [
            Record(id, text, meta, f"{file}:{place}")
            for id, text, meta, place in zip(
                batch.ids, batch.texts, batch.metas, batch.places, strict=True
            )
        ]
        same = self._unchanged(records, batch.vectors)
        fresh = [row for row in range(len(records)) if row not in same]
        if fresh:
            vectors = batch.vectors if not same else batch.vectors[fresh]
            written = self._target.add([records[row] for row in fresh], vectors)
            self._report.added += written.added
            self._report.replaced += written.changed
        self._report.unchanged += len(same)
        self._report.records += len(records)

    def _without_repeats(self, file: str, batch: VectorBatch) -> VectorBatch:
        first: dict[str, int] = {}
        for row, id in enumerate(batch.ids):
            first.setdefault(id, row)
        before = self._seen.add(first)
        if len(first) == len(batch.ids) and not before:
            return batch
        rows = [row for row, id in enumerate(batch.ids) if id not in before and first[id] == row]
        kept = set(rows)
        for row, id in enumerate(batch.ids):
            if row not in kept:
                message = f"{id!r} was read before; the first one stays"
                problem = Problem(file, batch.places[row], message, "repeated", id)
                self._listeners.problem(problem)
        self._report.repeated += len(batch.ids) - len(rows)
        return _subset(batch, rows)

    def _unchanged(self, records: list[Record], vectors: NDArray[np.float32]) -> set[int]:
        """Which rows are in the collection just so."""
        stored = self._target.sources(record.id for record in records)
        rows = [row for row, record in enumerate(records) if record.id in stored]
        if not rows:
            return set()
        ids = [records[row].id for row in rows]
        wanted = vectors[rows].astype(self._target.dtype).astype(np.float32)
        equal = (self._target.vectors(ids) == wanted).all(axis=1)
        return {
            row
            for row, old, alike in zip(rows, self._target.get(ids), equal.tolist(), strict=True)
            if alike and old.row() == records[row].row()
        }
