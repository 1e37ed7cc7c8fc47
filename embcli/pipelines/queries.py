"""Queries into the space of a collection, as quickly as can be."""

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from embcli.encoders import (
    MODELS,
    Encoder,
    is_known,
    is_quick,
    load_encoder,
    options_of,
)
from embcli.errors import InputError, ModelError, NothingFoundError, StoreError, UsageError
from embcli.store import Collection, Record, Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embcli.encoders.tokens import Tokens
    from embcli.encoders.transformer import TransformerEncoder
    from embcli.pipelines.via import Via

# The store keeps no more.
_MOST_KEPT = 10_000
# More are worth the seconds that it takes to load the full model, and to make it fast.
_FEW_QUERIES = 256


@dataclass(frozen=True)
class QueryOptions:
    """How queries are encoded.

    Attributes
    ----------
    model : str, optional
        Where the collection's model is, if not where it was.
    device : str, optional
        As PyTorch names them.
    prompt, prompt_name : str, optional
        What precedes queries, instead of the prompt that belongs to the collection's space.
    trust_remote_code : bool
        Run code that comes with the model.
    cache : bool
        Take vectors of queries asked before from the store, and keep new ones there.
    via : tuple of str
        The maps that lead queries of another model to the collection.
    """

    model: str | None = None
    device: str | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    trust_remote_code: bool = False
    cache: bool = True
    via: tuple[str, ...] = ()


class QueryEncoder:
    """Encodes queries into the space of a collection, if need be through maps.

    Of a costly model, queries whose vectors are in the store's cache need nothing at all; others
    take its light path, where there is one that was found to agree when the collection was
    encoded; many queries, pictures and all other models take the full one.

    Parameters
    ----------
    store : Store
    collection : Collection
    options : QueryOptions
    note : callable
        Told what a user should know of how the model is run.

    Attributes
    ----------
    space : str
        The hash of the recipe of the space that queries are encoded into.
    via : Via or None
        How they get from there to where they are compared, if that is elsewhere.
    new : dict
        Vectors that had to be computed and are worth keeping, by what they are of.
    notes : dict
        What was found out about the space, as arguments of `Store.note_space`.

    Raises
    ------
    UsageError
        The options do not fit the collection.
    """

    def __init__(
        self,
        store: Store,
        collection: Collection,
        options: QueryOptions,
        note: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._store = store
        self._collection = collection
        self._options = options
        self._note = note
        model = options.model
        if model is not None and model not in MODELS and os.path.isdir(model):
            model = os.path.abspath(model)
        self.via = self._find_via(model)
        self._recipe = collection.recipe if self.via is None else self.via.query
        self._name = model or self._recipe.model
        self._is_quick = is_quick(self._recipe)
        is_builtin = self._recipe.model in MODELS
        self._dtype = "float32"
        self.space = self._recipe.hash
        self.new: dict[str, NDArray[np.float32]] = {}
        self.notes: dict[str, Any] = {}
        if self._name != self._recipe.model and (is_builtin or self._name in MODELS):
            raise self._wrong_model()
        if options.prompt is not None and options.prompt_name is not None:
            raise UsageError("give either --prompt or --prompt-name")
        if self._is_quick and (options.prompt or options.prompt_name):
            raise UsageError(f"model {self._name!r} has no --prompt; it is for transformer models")

    def encode(self, queries: Sequence[str]) -> "NDArray[np.float32]":
        """Encode texts, shape (len(queries), dim).

        Raises
        ------
        UsageError
            A query has no text, or there is no such prompt.
        ModelError
            The model is not here, or is not the one that made the collection.
        NothingFoundError
            There is nothing in the one query that the model knows.
        """
        for query in queries:
            if not query.strip():
                raise UsageError("the query is empty")
        if self._is_quick:
            vectors = self._encoder.encode(queries, "query")
            if len(queries) == 1 and not vectors.any():
                raise NothingFoundError(
                    f"model {self._name!r} knows nothing of the query {queries[0]!r}"
                )
            return self._led(vectors, queries)
        if len(queries) > _FEW_QUERIES:
            self._dtype = "auto"
        self._check_known()
        if self._name != self._recipe.model:
            _ = self._encoder  # which makes sure that it is the collection's
        hashes = [_hash("text", self._prompt, query) for query in queries]
        return self._led(self._with_cache(hashes, queries, self._encode_texts), queries)

    def encode_documents(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Encode texts as those of the collection were, shape (len(texts), dim).

        Raises
        ------
        ModelError
            The model is not here, or is not the one that made the collection.
        """
        return self._led(self._encoder.encode(texts, "document"), texts)

    def encode_tokens(self, queries: Sequence[str]) -> "list[Tokens]":
        """Encode texts into the vectors of their tokens, where the space has these.

        Errors are as of `encode`.
        """
        for query in queries:
            if not query.strip():
                raise UsageError("the query is empty")
        if self._is_quick:
            return self._encoder.encode_tokens(queries, "query")
        if len(queries) > _FEW_QUERIES:
            self._dtype = "auto"
        self._check_known()
        if self._name != self._recipe.model:
            _ = self._encoder
        hashes = [_hash("text", self._prompt, query) for query in queries]
        return self._tokens_with_cache(hashes, queries)

    def encode_file_tokens(self, path: str | os.PathLike[str]) -> "tuple[list[str], list[Tokens]]":
        """Read the text in a file and encode its tokens, as a document; both in lists of one.

        Errors are as of `encode_file`.
        """
        record = _read_file(path)
        if record.image is not None:
            raise UsageError(f"model {self._name!r} takes no pictures", hint="embcli models")
        return [record.text], self._encoder.encode_tokens([record.text], "document")

    def encode_file(self, path: str | os.PathLike[str]) -> "NDArray[np.float32]":
        """Encode what is in a file, a picture or a text, as a document; shape (1, dim).

        Raises
        ------
        InputError
            The file cannot be read, or has no text.
        ModelError
            The model is not here, or is not the one that made the collection.
        UsageError
            It is a picture, and the model takes none.
        """
        from embcli.formats.images import load_image

        record = _read_file(path)
        if record.image is None:
            return self.encode_documents([record.text])
        if not self._encoder.takes_images:
            raise UsageError(f"model {self._name!r} takes no pictures", hint="embcli models")
        vectors = self._with_cache(
            [_hash("image", record.hash)],
            [record.image],
            lambda paths: self._encoder.encode([load_image(path) for path in paths]),
        )
        return self._led(vectors)

    def _led(
        self, vectors: "NDArray[np.float32]", texts: Sequence[str] | None = None
    ) -> "NDArray[np.float32]":
        """Lead vectors to where they are compared; the cache has them as they were before."""
        return vectors if self.via is None else self.via.lead(vectors, texts)

    def _find_via(self, model: str | None) -> "Via | None":
        """Find the maps to go through, where the collection is not in the model's own space."""
        recipe = self._collection.recipe
        if not self._options.via and recipe.base is None and model in (None, recipe.model):
            return None
        from embcli.pipelines.via import find_via

        return find_via(self._store, self._collection, self._options.via, model, self._note)

    @cached_property
    def _prompt(self) -> str:
        if self._options.prompt is not None:
            return self._options.prompt
        if self._options.prompt_name is not None:
            return self._transformer.query_prompt
        return str(self._recipe.settings["prompts"]["query"])

    def _with_cache(
        self,
        hashes: Sequence[str],
        inputs: Sequence[Any],
        encode: Callable[[Sequence[Any]], "NDArray[np.float32]"],
    ) -> "NDArray[np.float32]":
        import numpy as np

        found: dict[str, NDArray[np.float32]] = {}
        if self._options.cache:
            found = self._store.cached_queries(self.space, hashes)
        missing = {h: item for h, item in zip(hashes, inputs, strict=True) if h not in found}
        if missing:
            new = dict(zip(missing, encode(list(missing.values())), strict=True))
            found |= new
            if self._dtype == "float32":
                self.new |= new  # others are less exact, and would stay
        vectors = [found[h] for h in hashes]
        return np.stack(vectors) if vectors else np.empty((0, self._recipe.dim), np.float32)

    def _tokens_with_cache(self, hashes: Sequence[str], queries: Sequence[str]) -> "list[Tokens]":
        """Do the same for tokens: the cache keeps their places in the last two columns."""
        import numpy as np

        from embcli.encoders.tokens import Tokens

        width = self._recipe.dim + 2
        found: dict[str, Tokens] = {}
        if self._options.cache:
            for hash, numbers in self._store.cached_queries(self.space, hashes).items():
                rows = numbers.reshape(-1, width)
                found[hash] = Tokens(rows[:, :-2], rows[:, -2:].astype(np.int64))
        missing = {h: item for h, item in zip(hashes, queries, strict=True) if h not in found}
        if missing:
            new = dict(zip(missing, self._encode_text_tokens(list(missing.values())), strict=True))
            found |= new
            if self._dtype == "float32":
                self.new |= {
                    hash: np.hstack([vectors, spans.astype(np.float32)])
                    for hash, (vectors, spans) in new.items()
                }
        return [found[h] for h in hashes]

    def _encode_text_tokens(self, texts: Sequence[str]) -> "list[Tokens]":
        encoder = self._transformer
        if self._takes_light_path(encoder, texts):
            return encoder.encode_tokens_lightly(texts)
        tokens = encoder.encode_tokens(texts, "query")
        self.notes = encoder.space_notes()
        return tokens

    def _takes_light_path(self, encoder: "TransformerEncoder", texts: Sequence[str]) -> bool:
        facts = self._store.space_facts(self._recipe.hash)
        agrees = facts is not None and bool(facts.light)
        return agrees and len(texts) <= _FEW_QUERIES and encoder.light is not None

    def _encode_texts(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        encoder = self._transformer
        if self._takes_light_path(encoder, texts):
            return encoder.encode_lightly(texts)
        vectors = encoder.encode(texts, "query")
        self.notes = encoder.space_notes()
        return vectors

    @property
    def _transformer(self) -> "TransformerEncoder":
        from embcli.encoders.transformer import TransformerEncoder

        assert isinstance(self._encoder, TransformerEncoder)
        return self._encoder

    @cached_property
    def _encoder(self) -> Encoder:
        """The collection's model, made sure to be that."""
        from embcli.encoders.transformer import TransformerEncoder

        self._check_known()
        options = replace(
            options_of(self._recipe, trusted=self._options.trust_remote_code),
            store=os.fspath(self._store.path),
        )
        if not self._is_quick:
            options = replace(
                options,
                device=self._options.device,
                dtype=self._dtype,
                local_only=True,
            )
        encoder = load_encoder(self._name, options, self._note)
        if not self._is_unchanged(encoder) and encoder.recipe().hash != self._recipe.hash:
            raise self._changed_model(encoder)
        if isinstance(encoder, TransformerEncoder) and (
            self._options.prompt is not None or self._options.prompt_name is not None
        ):
            return encoder.with_query_prompt(self._options.prompt, self._options.prompt_name)
        return encoder

    def _is_unchanged(self, encoder: Encoder) -> bool:
        """Whether the files of the model are those that made the collection, by their stamp.

        That spares reading them whole to see.
        """
        from embcli.encoders.transformer import TransformerEncoder

        facts = self._store.space_facts(self._recipe.hash)
        if facts is None or not isinstance(encoder, TransformerEncoder):
            return False
        # The stamp does not cover code.
        covered = "code" not in self._recipe.settings
        return covered and bool(facts.files) and facts.files == encoder.files.stamp

    def _check_known(self) -> None:
        """Refuse models that only their makers could run, such as imported vectors' ones."""
        if self._recipe.base is not None:
            raise ModelError(
                f"the vectors of collection {self._collection.name!r} were mapped, and the map is "
                "not in the store any more to lead a query there",
                hint="embcli maps import FILE, or embcli search --like ID",
            )
        if not is_known(self._recipe):
            raise ModelError(
                f"the vectors of {self._whose} were made by {self._recipe.model!r}, which is not "
                "here to encode a query",
                hint="embcli search --like ID",
            )

    @property
    def _whose(self) -> str:
        """Name what has to do with the model that is looked for."""
        if self.via is None:
            return f"collection {self._collection.name!r}"
        return f"the space at the other end of {self.via}"

    def _wrong_model(self) -> UsageError:
        if self.via is not None:
            return UsageError(
                f"{self.via} takes queries of model {self._recipe.model!r}, not of {self._name!r}",
                hint=f"--model {self._recipe.model}, or leave it out",
            )
        name = self._collection.name
        return UsageError(
            f"collection {name!r} was encoded with {self._recipe.model!r}, not {self._name!r}",
            hint=f"embcli encode FILE --model {self._name} --collection NEW, or with these a map "
            f"to go through: embcli align fit --source NEW --target {name}",
        )

    def _changed_model(self, encoder: Encoder) -> UsageError | ModelError:
        if self._options.model is not None:
            return self._wrong_model()
        differences = "; ".join(self._recipe.differences(encoder.recipe()))
        return ModelError(
            f"the installed model {self._name!r} is not the one that made "
            f"{self._whose} ({differences})",
            hint="encode the files again into a new --collection",
        )


def keep(db: str | os.PathLike[str], encoder: QueryEncoder) -> None:
    """Keep the vectors of new queries in the store, if it can be written just now.

    Parameters
    ----------
    db : path
    encoder : QueryEncoder
        That has been used, and whose store is closed or only read.
    """
    if encoder.new or encoder.notes:
        newest = dict(list(encoder.new.items())[-_MOST_KEPT:])
        with suppress(StoreError), Store(db, timeout=0.1) as store:
            store.cache_queries(encoder.space, newest)
            store.note_space(encoder.space, **encoder.notes)


def _read_file(path: str | os.PathLike[str]) -> Record:
    """Read a file as one record, a picture or a text."""
    from embcli.formats import Problem, ReadOptions
    from embcli.formats.inputs import IMAGE, expand
    from embcli.formats.reader import Reader

    sources = expand([os.fspath(path)], images=True).sources
    if len(sources) != 1:
        raise InputError(f"{path}: expected one file, found {len(sources)}")
    is_text = sources[0].format != IMAGE
    options = ReadOptions(format="text", per="file") if is_text else ReadOptions()
    for result in Reader(sources, options):
        if isinstance(result, Problem):
            raise InputError(str(result))
        return result
    raise InputError(f"{path}: there is no text in it")


def _hash(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
