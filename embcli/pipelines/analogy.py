"""Analogies within a collection: king - man + woman."""

import os
import re
from collections.abc import Collection as Sized
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.errors import NothingFoundError, UsageError
from embcli.pipelines.memory import HELD, ask
from embcli.pipelines.search import Hit
from embcli.store import Collection, Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embcli.core.analogy import Method

_SIGNS = {"+": "+", "-": "-", "\N{MINUS SIGN}": "-"}
_INSIDE = re.compile("(?<!\\s)\\s+([+\\-\N{MINUS SIGN}])\\s+")
_HINTED = 3
_SPELLINGS = 20_000


def parse_terms(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sort the words of an analogy into those that are added and those that are taken away.

    Parameters
    ----------
    words : sequence of str
        Words with ``+`` or ``-`` between them, each an item of its own; or all of it in one item.

    Returns
    -------
    positive, negative : list of str

    Raises
    ------
    UsageError
        This is no such expression, or nothing is added.
    """
    if not words:
        raise UsageError("an analogy takes words", hint="king - man + woman")
    if len(words) == 1:
        words = _INSIDE.split(words[0])
    terms: dict[str, list[str]] = {"+": [], "-": []}
    sign: str | None = "+"
    for place, word in enumerate(words):
        if word in _SIGNS and (sign is None or place == 0):
            sign = _SIGNS[word]
        elif word in _SIGNS or not word.strip():
            raise UsageError(f"there is no word before {word!r}", hint="king - man + woman")
        elif sign is None:
            raise UsageError(
                f"put + or - before {word!r}, or quote words with spaces",
                hint="embcli analogy king - man + woman",
            )
        else:
            terms[sign].append(word)
            sign = None
    if sign is not None:
        raise UsageError(f"there is no word after {words[-1]!r}", hint="king - man + woman")
    if not terms["+"]:
        raise UsageError("nothing is added: an analogy needs a word with a +")
    return terms["+"], terms["-"]


def analogy(
    positive: Sequence[str],
    negative: Sequence[str] = (),
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    method: "Method" = "3cosadd",
    k: int = 10,
    ignore_case: bool = False,
) -> list[Hit]:
    """Find the records that complete an analogy best.

    Parameters
    ----------
    positive, negative : sequence of str
        Ids of records: those added, and those taken away. None of them is among the results.
    db, collection
    method : {"3cosadd", "3cosmul"}
        See `embcli.core.analogy.combine`.
    k : int
    ignore_case : bool
        Where no record has an id as it is written, take the first one that differs in case only;
        forms of the words given that differ in case are no results either.

    Returns
    -------
    hits : list of Hit
        By falling score; ties in the order stored.

    Raises
    ------
    NothingFoundError
        A word is not there, or nothing else is.
    StoreError
    """
    from embcli.core.analogy import Analogy

    with Store(db, readonly=True) as store, store.snapshot():
        source = store.collection(collection)
        ids, without = _look_up(source, [*positive, *negative], ignore_case)
        vectors = source.vectors(ids)
        split = len(positive)
        found = Analogy(vectors[:split], vectors[split:], k, method)
        for keys, block in _candidates(source, without):
            found.add(keys, block)
        results = found.results()
        records = source.get_by_key(key for key, _ in results)
    if not results:
        raise NothingFoundError(f"there are no other records in collection {collection!r}")
    return [
        Hit(rank, records[key].id, score, records[key].text, records[key].meta)
        for rank, (key, score) in enumerate(results, 1)
    ]


def _candidates(
    source: Collection, without: Sized[int]
) -> "Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]":
    """Stream the vectors of all other records, one a record."""
    import numpy as np

    excluded = np.fromiter(without, np.int64, len(without))
    blocks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]
    if source.chunking is None:
        blocks = ((block.keys, block.vectors) for block in source.scan())
    else:
        ask([(len(source), source.recipe.dim)], HELD.of(source), lambda message: None)
        blocks = [source.matrix()]
    for keys, vectors in blocks:
        kept = ~np.isin(keys, excluded)
        if kept.any():
            yield keys[kept], vectors[kept]


def _look_up(
    source: Collection, words: Sequence[str], ignore_case: bool
) -> tuple[list[str], set[int]]:
    """Find the records of words: their ids, and the keys of all that are no answers."""
    keys = source.keys_by_id(words)
    names: dict[int, str] = {}
    forms: dict[str, dict[str, int]] = {}
    if ignore_case or len(keys) < len(set(words)):
        names = source.names()
    if ignore_case:
        for word in words:
            forms[word.casefold()] = {}
        for key, id in names.items():
            folded = id.casefold()
            if folded in forms:
                forms[folded][id] = key
    ids = []
    for word in words:
        others = forms.get(word.casefold(), {})
        if word not in keys and not others:
            raise _unknown(source, word, names.values())
        ids.append(word if word in keys else next(iter(others)))
    without = set(keys.values())
    without.update(key for form in forms.values() for key in form.values())
    return ids, without


def _unknown(source: Collection, word: str, names: Iterable[str]) -> NothingFoundError:
    near = near_spellings(word, names)
    if any(name.casefold() == word.casefold() for name in near):
        hint = "--ignore-case"
    else:
        hint = " or ".join(near) if near else f"embcli show ID --collection {source.name}"
    return NothingFoundError(f"collection {source.name!r} has no record {word!r}", hint=hint)


def near_spellings(word: str, names: Iterable[str]) -> list[str]:
    """Find names that are spelled nearly alike, the nearest first, case aside.

    Only names that begin alike and are of about the same length are looked at, and of these the
    first: comparing letter by letter is slow.
    """
    from difflib import get_close_matches

    folded = word.casefold()
    looked_at: dict[str, str] = {}
    for name in names:
        other = name.casefold()
        if abs(len(other) - len(folded)) <= 2 and other[:1] == folded[:1]:
            looked_at.setdefault(other, name)
            if len(looked_at) >= _SPELLINGS:
                break
    return [looked_at[other] for other in get_close_matches(folded, looked_at, _HINTED, 0.75)]
