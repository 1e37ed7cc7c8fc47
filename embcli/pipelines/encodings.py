"""Candidates of MaxSim searches, found through one encoding for every record."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embcli.core.muvera import Muvera
from embcli.core.quantize import Codes, Scorer, quantize
from embcli.core.topk import Shortlist
from embcli.pipelines.coded import LEAST_RECALL
from embcli.store import Collection

# Recall is estimated for ten results; of fewer, as many candidates are looked at.
_LEAST_RESULTS = 10
# To look up and compare one record costs as much as to pass over three, and the search should be
# at least twice as fast.
_RECORDS_A_CANDIDATE = 8
# Records without an encoding are compared in full; with more than this share, all are.
_MOST_MISSING = 0.1
# Encoded in one go; each takes some hundred kilobytes on the way.
_RECORDS_AT_ONCE = 64


def pays(collection: Collection, k: int) -> bool:
    """Whether a search through encodings is wanted, and cheaper than an exact one."""
    coding = collection.coding
    if coding is None or coding.kind is None or coding.encoding is None:
        return False
    if not coding.chosen and (coding.recall or 0) < LEAST_RECALL:
        return False
    return is_worth(coding.oversample * max(k, _LEAST_RESULTS), len(collection))


def is_worth(candidates: int, records: int) -> bool:
    """Whether comparing so many records in full is cheaper than to pass over all of them."""
    return candidates * _RECORDS_A_CANDIDATE <= records


def candidates(
    collection: Collection,
    queries: Sequence[NDArray[np.float32]],
    count: int,
    wanted: NDArray[np.bool_] | None = None,
) -> list[NDArray[np.int64]] | None:
    """Find the records whose encodings have the greatest products with those of the queries.

    Parameters
    ----------
    collection : Collection
        Read inside a snapshot, with encodings, as its coding says.
    queries : sequence of float32 array, each of shape (n_tokens, dim)
    count : int
        How many records for each query.
    wanted : bool array, optional
        See `Collection.filter`.

    Returns
    -------
    keys : list of int64 array, or None
        For every query, best first; then those that have no encoding yet. None if these are
        many.
    """
    coding = collection.coding
    assert coding is not None
    assert coding.encoding is not None
    muvera = Muvera(**coding.encoding)
    score = Scorer(muvera.encode_queries(queries))
    short = Shortlist(len(queries), count)
    encoded = []
    for keys, codes in collection.scan_encodings(muvera.size):
        live = keys > 0
        encoded.append(keys[live])
        if wanted is not None:
            live &= wanted[keys]
        if live.any():
            short.add(keys[live], score(codes)[:, live], keys[live])
    missing = _missing(collection, encoded, wanted)
    if len(missing) > _MOST_MISSING * len(collection):
        return None
    return [np.concatenate([found.keys, missing]) for found in short.results()]


def among(
    collection: Collection,
    queries: Sequence[NDArray[np.float32]],
    k: int,
    wanted: NDArray[np.bool_] | None = None,
) -> list[NDArray[np.int64]] | None:
    """Find the candidates for k results, as many as the coding says; see `candidates`."""
    coding = collection.coding
    if coding is None or coding.kind is None or coding.encoding is None:
        return None
    return candidates(collection, queries, coding.oversample * max(k, _LEAST_RESULTS), wanted)


def encode_records(muvera: Muvera, kind: str, records: Sequence[NDArray[np.floating]]) -> Codes:
    """Encode the vectors of records, each of shape (n, dim), and code that."""
    parts = range(0, len(records), _RECORDS_AT_ONCE)
    encodings = np.concatenate(
        [muvera.encode_documents(records[start : start + _RECORDS_AT_ONCE]) for start in parts]
    )
    codes = quantize(encodings, kind)
    # A code stands for a unit vector, and of encodings the lengths matter.
    lengths = np.linalg.norm(encodings, axis=1).astype(np.float32)
    return Codes(kind, codes.dim, codes.scales * lengths, codes.packed)


def _missing(
    collection: Collection,
    encoded: Sequence[NDArray[np.int64]],
    wanted: NDArray[np.bool_] | None,
) -> NDArray[np.int64]:
    """List the records that are wanted and have no encoding."""
    if sum(map(len, encoded)) == len(collection):
        return np.empty(0, np.int64)
    keys = np.setdiff1d(collection.keys(), np.concatenate([np.empty(0, np.int64), *encoded]))
    return keys if wanted is None else keys[wanted[keys]]
