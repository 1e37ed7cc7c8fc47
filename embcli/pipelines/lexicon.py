"""Vectors of words in the space of a collection."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from embcli.encoders import is_known
from embcli.errors import UsageError
from embcli.pipelines.queries import QueryEncoder, QueryOptions
from embcli.store import Collection, Store

BLANK = "{}"


class Lexicon:
    """Looks words up where vectors of words were imported, and encodes them where a model is.

    Parameters
    ----------
    store : Store
        Read within a snapshot.
    collection : Collection
        Of words, by id, if its vectors were imported; else of anything: what counts is the model,
        and the map if vectors were mapped.
    templates : sequence of str
        Sentences with ``{}`` where the word stands, all of which are encoded for each word.
    ignore_case : bool
        Take the first record whose id differs in case only where none has it as it is written.
    options : QueryOptions, optional
    note : callable

    Attributes
    ----------
    encodes : bool
        Whether words are encoded, rather than looked up.
    ignore_case : bool

    Raises
    ------
    UsageError
        There are templates and no model, or one of them has no blank; or there is a vector for
        every token.
    """

    def __init__(
        self,
        store: Store,
        collection: Collection,
        *,
        templates: Sequence[str] = (),
        ignore_case: bool = False,
        options: QueryOptions | None = None,
        note: Callable[[str], None] = lambda message: None,
    ) -> None:
        if collection.recipe.multivector:
            raise UsageError(
                f"collection {collection.name!r} has a vector for every token: bias is measured "
                "with one vector a text",
                hint="embcli encode without --pooling none",
            )
        self.collection = collection
        self.encodes = is_known(collection.recipe.root)
        self._templates = tuple(templates) or (BLANK,)
        self.ignore_case = ignore_case
        self._known: dict[str, NDArray[np.float32]] = {}
        self._ids: dict[str, str] = {}
        self._spelled: dict[str, str] = {}
        if templates and not self.encodes:
            raise UsageError(
                f"collection {collection.name!r} has vectors of words, and no model to encode "
                "sentences with: not with --template"
            )
        for template in templates:
            if BLANK not in template:
                raise UsageError(f"--template {template!r} has no {BLANK} where the word stands")
        if self.encodes:
            self._encoder = QueryEncoder(store, collection, options or QueryOptions(), note)
        elif ignore_case:
            for id in collection.names().values():
                self._ids.setdefault(id.casefold(), id)

    def find(self, words: Iterable[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Give vectors of the words there are.

        Parameters
        ----------
        words : iterable of str

        Returns
        -------
        found : list of str
            In the order given; with several templates, each word as often as there are.
        vectors : float32 array, shape (len(found), dim)
        """
        words = list(words)
        self._learn(word for word in words if word not in self._known)
        rows = [(word, row) for word in words for row in self._known[word]]
        if not rows:
            return [], np.empty((0, self.collection.recipe.dim), np.float32)
        return [word for word, _ in rows], np.stack([row for _, row in rows])

    def missing(self, words: Iterable[str]) -> list[str]:
        """Name the words that there is no vector of."""
        words = list(words)
        self._learn(word for word in words if word not in self._known)
        return [word for word in words if not len(self._known[word])]

    def spelled(self, word: str) -> str:
        """Give a word as the record that it is taken from has it."""
        self._learn([word] if word not in self._known else [])
        return self._spelled.get(word, word)

    def sets(self, sets: Iterable[Sequence[str]]) -> list[NDArray[np.float32]]:
        """Give the vectors of sets all of whose words are there, each (n_words, dim).

        With several templates, every one makes a set of its own.
        """
        found = []
        for words in sets:
            if not self.missing(words):
                found += list(np.stack([self._known[word] for word in words], axis=1))
        return found

    def _learn(self, words: Iterable[str]) -> None:
        new = list(dict.fromkeys(words))
        if not new:
            return
        dim = self.collection.recipe.dim
        if self.encodes:
            blanks = self._templates
            texts = [template.replace(BLANK, word) for word in new for template in blanks]
            rows = self._encoder.encode_documents(texts).reshape(len(new), len(blanks), dim)
        else:
            ids = [self._ids.get(word.casefold(), word) for word in new]
            there = self.collection.keys_by_id({*new, *ids})
            ids = [word if word in there else id for word, id in zip(new, ids, strict=True)]
            self._spelled.update(zip(new, ids, strict=True))
            found = [id for id in dict.fromkeys(ids) if id in there]
            vectors = dict(zip(found, self.collection.vectors(found), strict=True))
            rows = np.stack([vectors.get(id, np.zeros(dim, np.float32)) for id in ids])[:, None]
        for word, row in zip(new, rows, strict=True):
            # A model that knows nothing of a text makes zeros of it.
            self._known[word] = row if row.any(axis=1).all() else row[:0]
