"""Comparing with every vector: by several threads, where there is much to read."""

from collections.abc import Callable
from threading import Event, Thread

import numpy as np
from numpy.typing import NDArray

from embcli.core.topk import TopK
from embcli.store import Collection

# Less than this is read before other threads are under way.
_MUCH = 1 << 26
# From this many queries on, BLAS has enough to do for all processors.
_FEW_QUERIES = 8


def search_all(
    collection: Collection,
    new: Callable[[Collection], TopK],
    n_queries: int,
    wanted: NDArray[np.bool_] | None = None,
) -> TopK:
    """Compare with every vector.

    Parameters
    ----------
    collection : Collection
        Read inside a snapshot.
    new : callable
        Makes the `TopK` of the queries, which may ask the collection it is given for names.
    n_queries : int
    wanted : bool array, optional
        See `Collection.filter`.

    Returns
    -------
    top : TopK

    Notes
    -----
    Most of the time goes into copying out of the file, which SQLite does without the interpreter's
    lock, on one processor a connection.
    """
    vectors = collection.count_vectors() if wanted is None else int(np.count_nonzero(wanted))
    much = n_queries <= _FEW_QUERIES and vectors * collection.recipe.dim * 4 >= _MUCH
    readers = collection.readers() if much else [collection]
    tops = [new(reader) for reader in readers]
    failures: list[BaseException] = []
    stop = Event()

    def read(part: int) -> None:
        try:
            for block in readers[part].scan(wanted, part, len(readers)):
                if stop.is_set():
                    return
                tops[part].add(*block)
        except BaseException as error:
            failures.append(error)
            stop.set()

    threads = [Thread(target=read, args=(part,)) for part in range(1, len(readers))]
    for thread in threads:
        thread.start()
    try:
        read(0)
        for thread in threads:
            thread.join()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    for other in tops[1:]:
        tops[0].merge(other)
    return tops[0]
