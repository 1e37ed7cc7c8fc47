"""Watching a training: the vectors of its checkpoints, as they appear."""

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.core.cosine import unit32
from embcli.core.separability import isotropy
from embcli.core.separability.moments import moments
from embcli.core.separability.persistence import persistence
from embcli.core.separability.uniformity import uniformity
from embcli.core.separability.vectors import SAMPLE
from embcli.errors import EmbcliError, InputError, UsageError

ENDINGS = (".npy", ".safetensors")
_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
# What may decide when to stop, and whether it is to rise.
MEASURES = {"persistence score": True, "effective rank": True, "uniformity": False}


@dataclass(frozen=True)
class Watch:
    """How to watch.

    Attributes
    ----------
    measure : str
        Of `MEASURES`.
    patience : int
        Checkpoints in a row without a new best, after which it has stopped improving.
    interval : float
        Seconds between two looks.
    once : bool
        Look once, at what is there.
    sample : int
    seed : int

    Raises
    ------
    UsageError
    """

    measure: str = "persistence score"
    patience: int = 3
    interval: float = 5.0
    once: bool = False
    sample: int = SAMPLE
    seed: int = 0

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise UsageError(f"no measure {self.measure!r} to watch ({', '.join(MEASURES)})")
        if self.patience < 1 or not 0 < self.interval < np.inf:
            raise UsageError("--patience is at least 1, --interval above 0")


def watch(
    folder: str | os.PathLike[str],
    how: Watch | None = None,
    *,
    warn: Callable[[str], None] = lambda message: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[dict[str, Any]]:
    """Measure the vectors in the files of a folder, in the order of their age, as they appear.

    Files are looked at when their size has not changed between two looks (at once with `once`). The
    iterator ends when the measure has stopped improving, or with `once` when all were looked at.

    Parameters
    ----------
    folder : path
        Of ``.npy`` and ``.safetensors`` files, each with one array of shape (n, dim).
    how : Watch, optional
    warn : callable
        Told of files that cannot be measured.
    sleep : callable

    Yields
    ------
    row : dict
        ``file``, ``n``, ``dim``, every measure, ``best`` (whether it is the best so far),
        ``since`` (checkpoints since the best) and ``stopped``.

    Raises
    ------
    InputError
        There is no such folder.
    """
    how = how or Watch()
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    sign = 1 if MEASURES[how.measure] else -1
    seen: set[tuple[str, int]] = set()
    sizes: dict[str, int] = {}
    best, since = -np.inf, 0
    while True:
        for path, stamp, size in _files(folder):
            key = (path.name, stamp)
            if key in seen:
                continue
            if not how.once and sizes.get(path.name) != size:
                sizes[path.name] = size  # perhaps still being written
                continue
            seen.add(key)
            try:
                row = _measured(path, how)
            except EmbcliError as error:
                warn(f"{path.name}: {error.message}")
                continue
            is_best = sign * row[how.measure] > best
            best, since = (sign * row[how.measure], 0) if is_best else (best, since + 1)
            stopped = since == how.patience
            yield row | {"best": is_best, "since": since, "stopped": stopped}
            if stopped and not how.once:
                return
        if how.once:
            return
        sleep(how.interval)


def _files(folder: Path) -> list[tuple[Path, int, int]]:
    """Find files with the time they were written at and their size, the oldest first."""
    found = []
    try:
        paths = list(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: {(error.strerror or str(error)).lower()}") from error
    for path in paths:
        # It may be gone by now.
        with suppress(FileNotFoundError):
            if path.suffix in ENDINGS and path.is_file():
                status = path.stat()
                found.append((path, status.st_mtime_ns, status.st_size))
    return sorted(found, key=lambda item: (item[1], item[0].name))


def _measured(path: Path, how: Watch) -> dict[str, Any]:
    vectors = unit32(_read(path))
    found = persistence(vectors, sample=min(len(vectors), how.sample), seed=how.seed)
    sums = moments(vectors)
    even = uniformity(vectors, sample=min(len(vectors), how.sample), seed=how.seed)
    return {
        "file": path.name,
        "n": len(vectors),
        "dim": vectors.shape[1],
        "persistence score": found.score,
        "effective rank": isotropy.effective_rank(sums),
        "uniformity": even.value,
    }


def _read(path: Path) -> NDArray[np.floating]:
    try:
        with warnings.catch_warnings(action="ignore"):
            array = _array(path) if path.suffix == ".npy" else _table(path)
    except InputError:
        raise
    except Exception as error:
        # Damage makes parsers fail with whatever they stumble over.
        raise InputError(f"cannot be read ({error})") from error
    if not isinstance(array, np.ndarray):
        raise InputError("several arrays, and one is needed")
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating) or not array.size:
        raise InputError(f"an array of shape {array.shape} and type {array.dtype}, no vectors")
    vectors: NDArray[np.floating] = array
    # Lengths do not count, and squares may be too large where the numbers are not.
    with np.errstate(divide="ignore", invalid="ignore"):
        largest = np.abs(vectors).max(axis=1, keepdims=True).astype(np.float64)
        return vectors / np.where((largest > 0) & np.isfinite(largest), largest, 1)


def _array(path: Path) -> Any:
    # Mapped, because NumPy makes room for what a header promises, and then reads what there is.
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return np.array(array) if isinstance(array, np.ndarray) else array


def _table(path: Path) -> NDArray[Any]:
    """Read the only table of a safetensors file, of whichever float type."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:
            raise InputError("cannot be read (it is no safetensors file, or not whole)")
        described = json.loads(file.read(size))
        tables = [
            item for name, item in described.items()
            if name != "__metadata__" and len(item["shape"]) == 2
        ]  # fmt: skip
        if len(tables) != 1:
            raise InputError(f"{len(tables)} tables in it, and one is needed")
        kind, shape = tables[0]["dtype"], tables[0]["shape"]
        start, end = tables[0]["data_offsets"]
        file.seek(8 + size + start)
        raw = file.read(end - start)
    if kind == "BF16":  # the upper half of a float32
        halves = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
        return halves.view(np.float32).reshape(shape)
    if kind not in _TYPES:
        raise InputError(f"a table of type {kind}, which is not read")
    return np.frombuffer(raw, _TYPES[kind]).reshape(shape)
