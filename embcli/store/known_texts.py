"""Which texts already have vectors in a space."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from embcli.store.database import Database
from embcli.store.segments import KEY, PREFIX, Place

_ALIKE = "SELECT key FROM collections WHERE space = ? AND dtype = ? AND chunking IS ?"


class KnownTexts:
    """Finds vectors by the hash of their text, in all collections of one space.

    An index in SQLite would do the same, but hashes come in no order, so that every batch would
    rewrite most of its pages: at two million records that made writing four times slower and
    wrote thirty times the size of the store. Instead each segment keeps 64 bits of the hash of
    every text; they are read into memory when first needed, 16 bytes a record.

    What is in memory is a hint, which another process may have made stale: every find is checked
    against the table.

    Parameters
    ----------
    db : Database
    space : int
        Key of the space.
    dtype : str
    chunking : str or None
        Only collections that store vectors and cut texts this way are looked at.
    """

    def __init__(self, db: Database, space: int, dtype: str, chunking: str | None) -> None:
        self._db = db
        self._alike = (space, dtype, chunking)
        # Sorted by prefix, each at least twice as long as the next.
        self._runs: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] | None = None

    def find(self, hashes: Iterable[str]) -> dict[str, tuple[int, Place]]:
        """Look up a record with each text, and where its (first) vector lies.

        Texts that have none are left out.
        """
        wanted = list(hashes)
        if not wanted:
            return {}
        sought = prefixes(wanted)
        keys: list[int] = []
        for known, owners in self._loaded():
            # The last of equals was stored last, and is the least likely to be gone.
            at = np.searchsorted(known, sought, side="right") - 1
            keys += owners[at[known[at] == sought]].tolist()
        # Deleted keys are used again, by any collection; the plus keeps SQLite from looking
        # through a whole one.
        rows = self._db.all_in(
            f"SELECT hash, key, segment, slot FROM records WHERE +collection IN ({_ALIKE}) "
            "AND key IN ({})",
            self._alike,
            keys,
        )
        found = {hash: (key, (segment, slot)) for hash, key, segment, slot in rows}
        return {hash: found[hash] for hash in wanted if hash in found}

    def add(self, hashes: Iterable[str], keys: NDArray[np.int64]) -> None:
        """Take note of texts that have just been stored."""
        if self._runs is None:
            return
        self._runs.append(_sorted(prefixes(list(hashes)), keys))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            last, before = self._runs.pop(), self._runs.pop()
            merged = (np.concatenate(pair) for pair in zip(before, last, strict=True))
            self._runs.append(_sorted(*merged))

    def _loaded(self) -> list[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
        if self._runs is None:
            rows = self._db.all(
                f"SELECT slots, hashes FROM segments WHERE collection IN ({_ALIKE})", self._alike
            )
            owners = np.frombuffer(b"".join(slots for slots, _ in rows), KEY)
            known = np.frombuffer(b"".join(hashes for _, hashes in rows), PREFIX)
            self._runs = [_sorted(known[owners > 0], owners[owners > 0])] if rows else []
        return [run for run in self._runs if len(run[0])]


def prefixes(hashes: Iterable[str]) -> NDArray[np.uint64]:
    """First 64 bits of hexadecimal hashes, shape (n,)."""
    return np.frombuffer(bytes.fromhex("".join(hash[:16] for hash in hashes)), ">u8").astype(PREFIX)


def _sorted(
    known: NDArray[np.uint64], owners: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    order = np.argsort(known, kind="stable")
    return known[order], owners[order]
