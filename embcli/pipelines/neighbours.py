"""The nearest neighbours of a collection, as rows and as a file."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from embcli.formats.target import complete_files
from embcli.pipelines.subject import Subject
from embcli.store import Graph


def rows_of(subject: Subject, graph: Graph) -> Iterator[dict[str, Any]]:
    """Give a row for every record and neighbour, the nearest first."""
    ids = subject.side.ids
    for row, (others, cosines) in enumerate(zip(*graph.near, strict=True)):
        for rank, (other, cosine) in enumerate(
            zip(others.tolist(), cosines.tolist(), strict=True), 1
        ):
            yield {
                "id": ids[row], "rank": rank, "neighbour": ids[other], "score": round(cosine, 6),
            }  # fmt: skip


def write_arrays(
    path: str | os.PathLike[str], subject: Subject, graph: Graph, *, force: bool
) -> None:
    """Write ids, neighbours and cosines into an npz file, without pickled objects.

    Raises
    ------
    UsageError
        A file is there, or the system refuses to write.
    """
    recall = np.array(np.nan if graph.recall is None else graph.recall)
    with complete_files(path, force=force) as target, target.open("wb") as stream:
        np.savez(
            stream, ids=np.array(subject.side.ids, np.str_), neighbours=graph.near.others,
            cosines=graph.near.cosines, recall=recall,
        )  # fmt: skip
