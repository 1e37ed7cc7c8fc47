"""The Parquet file that Embedding Atlas opens: a map with texts, metadata and neighbours."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embcli.core.neighbours import Neighbours
from embcli.errors import InputError
from embcli.formats.target import complete_files
from embcli.formats.vectors import require
from embcli.formats.vectors.arrow_writers import meta_fields
from embcli.formats.vectors.meta_columns import MetaKinds

# What Embedding Atlas calls the columns that it makes itself.
_X, _Y, _NEIGHBOURS = "projection_x", "projection_y", "__neighbors"


def write_atlas(
    path: str | os.PathLike[str],
    ids: Sequence[str],
    texts: Sequence[str],
    metas: Sequence[Mapping[str, Any]],
    points: ArrayLike,
    neighbours: Neighbours | None = None,
    *,
    force: bool = False,
) -> None:
    """Write a map as Embedding Atlas reads it, a row a record.

    Parameters
    ----------
    path : path
        A Parquet file, which appears when it is complete.
    ids, texts : sequences of str, n of each
    metas : sequence of mapping, n of them
        Every field becomes a column, as in any Parquet file that is exported; one whose name is
        taken already becomes ``meta.NAME``.
    points : float array, shape (n, 2)
        Become ``projection_x`` and ``projection_y``.
    neighbours : Neighbours, optional
        Of the records among themselves, a record itself left out. They become ``__neighbors``:
        rows from 0 on and their cosine distances, the record itself before all others at 0, as
        it is where Embedding Atlas finds them.
    force : bool
        Replace a file that is there.

    Raises
    ------
    UsageError
        A file is there, or the system refuses to write.
    InputError
        Not as many of one as of another, or a coordinate is not finite.
    ModelError
        PyArrow is not installed.

    References
    ----------
    Embedding Atlas, https://apple.github.io/embedding-atlas/tool.html, option ``--neighbors``.
    """
    places = _checked(ids, texts, metas, points, neighbours)
    pa, parquet = require("pyarrow", "arrow"), require("pyarrow.parquet", "arrow")
    kinds = MetaKinds()
    objects = [json.loads(_encodable(json.dumps(meta, ensure_ascii=False))) for meta in metas]
    kinds.see(objects)
    columns = kinds.columns()
    arrays = {
        "id": pa.array(map(_encodable, ids), pa.string()),
        "text": pa.array(map(_encodable, texts), pa.string()),
        _X: pa.array(places[:, 0]),
        _Y: pa.array(places[:, 1]),
    }
    if neighbours is not None:
        arrays[_NEIGHBOURS] = _structs(pa, neighbours)
    for column, field in zip(columns, meta_fields(columns, {*arrays, _NEIGHBOURS}), strict=True):
        arrays[field.name] = pa.array(column.values(objects), field.type)
    with complete_files(path, force=force) as target:
        parquet.write_table(pa.table(arrays), target, compression="zstd")


def atlas_command(path: str | os.PathLike[str], *, neighbours: bool = True) -> str:
    """Give the command line that opens what `write_atlas` wrote."""
    command = ["embedding-atlas", _argument(path), "--text", "text", "--x", _X, "--y", _Y]
    if neighbours:
        command += ["--neighbors", _NEIGHBOURS]
    return shlex.join(command)


def _argument(path: str | os.PathLike[str]) -> str:
    """Name a file so that it is not taken for an option."""
    name = os.fspath(path)
    return f"./{name}" if name.startswith("-") else name


def _checked(
    ids: Sequence[str],
    texts: Sequence[str],
    metas: Sequence[Mapping[str, Any]],
    points: ArrayLike,
    neighbours: Neighbours | None,
) -> NDArray[np.float32]:
    places = np.asarray(points, np.float32)
    count = len(ids)
    if places.shape != (count, 2) or len(texts) != count or len(metas) != count:
        raise InputError(
            f"{count:,} ids, {len(texts):,} texts, {len(metas):,} metadata and points of shape "
            f"{places.shape} do not go together"
        )
    if not np.isfinite(places).all():
        raise InputError("not all coordinates of the map are finite")
    if neighbours is not None and len(neighbours.others) != count:
        raise InputError(f"{len(neighbours.others):,} rows of neighbours for {count:,} records")
    return places


def _structs(pa: Any, neighbours: Neighbours) -> Any:
    """Give each row its neighbours, itself first."""
    count, k = neighbours.others.shape
    rows = np.column_stack([np.arange(count), neighbours.others]).astype(np.int32)
    distances = np.zeros((count, k + 1), np.float32)
    # Rounding makes cosines of equal vectors greater than 1.
    distances[:, 1:] = np.maximum(1 - neighbours.cosines, 0)
    offsets = np.arange(0, (count + 1) * (k + 1), k + 1, dtype=np.int32)
    lists = [
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1)))
        for values in (rows, distances)
    ]
    return pa.StructArray.from_arrays(lists, names=["ids", "distances"])


def _encodable(text: str) -> str:
    """Replace what is half a character, which no file of UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()
