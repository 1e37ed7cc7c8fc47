"""A collection as Embedding Atlas opens it: with its layout and neighbours."""

import os

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.errors import UsageError
from embcli.formats.atlas import atlas_command, write_atlas
from embcli.formats.vectors import require
from embcli.pipelines.layouts import LayoutPlan, laid_out
from embcli.pipelines.memory import NEEDS
from embcli.pipelines.pairwise import Advance, Note
from embcli.pipelines.plot import cluster_columns
from embcli.pipelines.subject import neighbours_of, open_subject


def export_atlas(
    path: str | os.PathLike[str],
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    where: str | None = None,
    force: bool = False,
    note: Note = lambda message: None,
    advance: Advance = lambda done, total, count: None,
) -> tuple[int, str]:
    """Write texts, metadata, clusters, the layout by UMAP and neighbours into a Parquet file.

    Returns
    -------
    records : int
    command : str
        That opens the file.

    Raises
    ------
    UsageError
        The ending is another one, a file is there, or the system refuses to write.
    """
    if not os.fspath(path).lower().endswith(".parquet"):
        raise UsageError(f"Embedding Atlas opens .parquet files, not {os.fspath(path)!r}")
    require("pyarrow", "arrow")
    if os.path.exists(path) and not force:
        raise UsageError(f"{path} is there already", hint="--force")
    need = NEEDS["umap"]
    with open_subject(db, collection, where=where, need=need, note=note) as subject:
        laid = laid_out(subject, LayoutPlan(), note=note, advance=advance)
        near = neighbours_of(subject, note=note, advance=advance).near
        keys = subject.keys.tolist()
        records = subject.collection.get_by_key(keys)
        clusters = cluster_columns(subject)
        metas = [
            {**{name: values[row] for name, values in clusters.items()}, **records[key].meta}
            for row, key in enumerate(keys)
        ]
        write_atlas(
            path, subject.side.ids, [records[key].text for key in keys], metas,
            laid.coordinates, near, force=force,
        )  # fmt: skip
    return len(keys), atlas_command(path)
