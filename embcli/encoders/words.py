"""Word vectors in a store encode texts: SIF-weighted averages."""

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embcli.core.pooling import normalize_rows, sum_rows
from embcli.core.sif import A, common_component, remove_component, sif_weights, zipf
from embcli.encoders import WORDS, EncoderOptions, Kind, QuickEncoder
from embcli.encoders.recipe import Recipe
from embcli.errors import ModelError
from embcli.store import Collection, Store

_WORD = re.compile(r"\w+(?:['\u2019.\-]\w+)*")
_PART = re.compile(r"\w+")
_DIGIT = re.compile(r"\d")
# A field of the words' metadata that says how often each was counted.
_COUNTS = "count"
_CACHED_WORDS = 1 << 17
_HASHED_WORDS = 1 << 16
_CORPUS_TEXTS = 10_000
_NAMED = 5
# Changes whenever texts are cut into words, or words looked up, in another way.
_TOKENS = "words 1: lower, as it is, capitalised, upper; else its parts"


class WordVectorEncoder(QuickEncoder):
    """Averages of word vectors that are in a store, frequent words counting less; unit length.

    Parameters
    ----------
    name : str
        ``[PATH#]COLLECTION[@CORPUS]``: a collection whose records are words, their ids being the
        words, in the order of falling frequency. Of the paper's method, the common component is
        taken out of texts if a CORPUS is named: another collection of that store, like whose
        texts those to be encoded are.
    options : EncoderOptions
        ``store`` is where collections are, if no PATH is given; ``component`` is what the
        recipe says, which the corpus is then not needed for.
    note : callable
        Told which words of queries have no vector, and at the end how many of the documents'.

    Raises
    ------
    ModelError
        There is no such collection.
    StoreError
        The store cannot be read.

    Notes
    -----
    How frequent words are follows from their order by Zipf's law, or from a number ``count`` in
    the metadata if the first word has one.

    The vector of a text must not depend on which other texts are encoded, so the component
    comes from a collection that is there (its first 10,000 texts), and is kept in the recipe: it
    stays the same whatever becomes of the corpus. Components of the vocabulary alone, which would
    need no corpus, were tried and made things worse as often as better.

    A word is looked up lower-cased, as it stands, capitalised, in capitals, with every digit
    as # (as the Google News vectors have them), and if there is none of these, its parts
    between hyphens, points and apostrophes are.

    References
    ----------
    Arora, Liang and Ma (2017), "A Simple but Tough-to-Beat Baseline for Sentence Embeddings".
    """

    _table: NDArray[np.float32]

    def __init__(
        self,
        name: str,
        options: EncoderOptions,
        note: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._note = note
        path, _, collection = name.rpartition("#")
        own = options.store
        place = path or own
        if not place or not os.path.exists(place):
            raise ModelError(
                f"there is no store {place or ''} with the words of {WORDS + name!r}",
                hint=f"{WORDS}PATH#COLLECTION",
            )
        self._path = place
        self._rows: dict[str, int] = {}
        self._tokens = self._unknown = 0
        self._missed: dict[str, None] = {}
        self._component: NDArray[np.float64] | None = None
        with Store(place, readonly=True) as store, store.snapshot():
            words, corpus = _find(store, collection, needed=options.component is None)
            self._collection = words.name
            self._dim = words.recipe.dim
            self._forget()
            # Keys of all words, the most frequent first, and the weight of each.
            self._order = np.unique(words.live()[0])
            counts = _counts(words, self._order)
            shares = zipf(len(self._order)) if counts is None else counts / counts.sum()
            self._weights = sif_weights(shares)
            self._frequencies = "zipf" if counts is None else _COUNTS
            self._fingerprint = _fingerprint(words, self._order, counts)
            if options.component is not None:
                self._component = _unpacked(options.component)
            elif corpus is not None:
                # As it will be read back: what is encoded later has to be the same.
                self._component = _unpacked(_packed(self._component_of(corpus)))
        is_own = own is not None and os.path.exists(own) and os.path.samefile(place, own)
        self._label = WORDS + ("" if is_own else f"{os.path.abspath(place)}#") + collection

    @property
    def dim(self) -> int:
        """Number of components of a vector."""
        return self._dim

    def tokenizer(self) -> None:
        """Words are not counted as tokens of a model are."""

    def recipe(self) -> Recipe:
        """Describe the space the vectors lie in."""
        return self._recipe

    @cached_property
    def _recipe(self) -> Recipe:
        settings: dict[str, Any] = {
            "model": self._label,
            "weights": self._fingerprint,
            "tokenizer": _TOKENS,
            "pooling": f"mean weighted by {A:g} / ({A:g} + frequency)",
            "frequencies": self._frequencies,
            "dim": self.dim,
            "normalized": True,
            "maps": [],
        }
        if self._component is not None:
            settings["component"] = _packed(self._component)
        return Recipe(settings)

    def facts(self) -> dict[str, Any]:
        """How many words there were, and how many of them had no vector."""
        return {"words": self._tokens, "unknown_words": self._unknown}

    def close(self) -> None:
        """Say which words had no vector."""
        if self._unknown:
            share = self._unknown / self._tokens
            some = ", ".join(islice(self._missed, _NAMED))
            self._note(
                f"{self._unknown:,} of {self._tokens:,} words ({share:.1%}) are not in collection "
                f"{self._collection!r}, such as {some}"
            )

    def encode(self, inputs: Sequence[str], kind: Kind = "document") -> NDArray[np.float32]:
        """Encode texts; see `embcli.encoders.Encoder.encode`."""
        before = self._unknown
        self._missed = {} if kind == "query" else self._missed
        vectors = self._averages(inputs)
        if self._component is not None:
            vectors = remove_component(vectors, self._component)
        if kind == "query" and self._unknown > before:
            self._note(
                f"not in collection {self._collection!r}, and passed over: "
                + ", ".join(islice(self._missed, _NAMED))
            )
        return normalize_rows(vectors)

    def _averages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        words = [_WORD.findall(text) for text in texts]
        self._learn({word for of_text in words for word in of_text})
        rows = [[row for word in of_text for row in self._rows_of(word)] for of_text in words]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        flat = np.fromiter((row for some in rows for row in some), np.int64, int(lengths.sum()))
        averages = sum_rows(self._table, flat, lengths)
        averages /= np.maximum(lengths, 1).astype(np.float32)[:, None]
        return averages

    def _rows_of(self, word: str) -> Iterator[int]:
        """Rows of the table for a word or its parts; words without any are counted."""
        row = self._row(word)
        rows = [row] if row is not None else []
        if row is None:
            parts = _PART.findall(word)
            rows = [found for part in parts if (found := self._row(part)) is not None]
        self._tokens += 1
        if not rows:
            self._unknown += 1
            if len(self._missed) < _NAMED:
                self._missed[word] = None
        yield from rows

    def _row(self, word: str) -> int | None:
        return next((self._rows[form] for form in _forms(word) if form in self._rows), None)

    def _learn(self, words: set[str]) -> None:
        """Fetch the weighted vectors of words that were not looked up yet."""
        if len(self._seen) > _CACHED_WORDS:
            self._forget()
        new = words - self._seen
        self._seen |= new
        forms = {form for word in new for form in _forms(word)}
        forms |= {form for word in new for part in _PART.findall(word) for form in _forms(part)}
        wanted = [form for form in forms if form not in self._rows]
        with Store(self._path, readonly=True) as store, store.snapshot():
            source = store.collection(self._collection)
            keys = source.keys_by_id(wanted)
            # Words that came after the order was read are not in this space.
            ids = [id for id in sorted(keys, key=keys.__getitem__) if self._has(keys[id])]
            vectors = source.vectors(ids)
        places = np.searchsorted(self._order, [keys[id] for id in ids])
        weighted = vectors * self._weights[places][:, None]
        start = len(self._table)
        self._table = np.concatenate([self._table, weighted.astype(np.float32)])
        self._rows.update(zip(ids, range(start, start + len(ids)), strict=True))

    def _has(self, key: int) -> bool:
        place = int(np.searchsorted(self._order, key))
        return place < len(self._order) and int(self._order[place]) == key

    def _forget(self) -> None:
        self._seen: set[str] = set()
        self._rows.clear()
        self._table = np.empty((0, self.dim), np.float32)

    def _component_of(self, corpus: Collection) -> NDArray[np.float64]:
        texts = [record.text for record in islice(corpus.records(), _CORPUS_TEXTS)]
        averages = self._averages(texts)
        self._tokens = self._unknown = 0
        self._missed.clear()
        if not averages.any():
            raise ModelError(
                f"no text of collection {corpus.name!r} has a word that is in {self._collection!r}"
            )
        return common_component(averages)


def _find(store: Store, name: str, *, needed: bool) -> tuple[Collection, Collection | None]:
    """Find the collection of words, and the corpus if one is named and needed."""
    names = [info.name for info in store.collections()]
    words, corpus = name, ""
    if name not in names and "@" in name:
        words, _, corpus = name.rpartition("@")
    corpus = corpus if needed else ""
    for wanted in filter(None, (words, corpus)):
        if wanted not in names:
            there = ", ".join(names) or "none"
            raise ModelError(
                f"{store.path} has no collection {wanted!r} to encode with (there are: {there})",
                hint="embcli collections list",
            )
    return store.collection(words), store.collection(corpus) if corpus else None


def _counts(words: Collection, order: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """How often each word was counted, if the first one's metadata say so; at least once."""
    first = words.get_by_key(order[:1].tolist())
    if not any(_is_count(record.meta.get(_COUNTS)) for record in first.values()):
        return None
    found = words.values(_COUNTS)
    counts = [found.get(key) for key in order.tolist()]
    return np.array([count if _is_count(count) else 1 for count in counts], np.float64)


def _fingerprint(
    words: Collection, order: NDArray[np.int64], counts: NDArray[np.float64] | None
) -> str:
    """Hash the words in their order, their space, and the vectors of the most frequent.

    All vectors of a large collection would take seconds to read; of imported ones the space has
    a fingerprint.
    """
    sha = hashlib.sha256(words.recipe.hash.encode())
    sha.update(np.ascontiguousarray(words.text_hashes(), "<u8").tobytes())
    ids = words.ids_by_key(order[:_HASHED_WORDS].tolist())
    sha.update("\0".join(ids[key] for key in sorted(ids)).encode())
    hashed = 0
    for block in words.scan():
        sha.update(np.ascontiguousarray(block.vectors, "<f4").tobytes())
        hashed += len(block.keys)
        if hashed >= _HASHED_WORDS:
            break
    if counts is not None:
        sha.update(np.ascontiguousarray(counts, "<f8").tobytes())
    return f"sha256:{sha.hexdigest()}"


def _forms(word: str) -> Iterable[str]:
    lower = word.lower()
    forms = [lower, word, lower.capitalize(), word.upper()]
    if _DIGIT.search(word):
        forms += [_DIGIT.sub("#", lower), _DIGIT.sub("#", word)]
    return dict.fromkeys(forms)


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _packed(component: NDArray[np.float64]) -> str:
    return base64.b64encode(component.astype("<f4").tobytes()).decode()


def _unpacked(text: str) -> NDArray[np.float64]:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64)
