"""Encoders put things into a space. They are found by name and loaded on first use."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Protocol

from embcli.errors import ModelError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from embcli.encoders.recipe import Recipe
    from embcli.encoders.tokens import Tokens

Kind = Literal["document", "query"]


class Encoder(Protocol):
    """What every encoder offers."""

    @property
    def dim(self) -> int:
        """Number of components of a vector."""

    @property
    def truncated(self) -> int:
        """How many inputs were cut to the model's maximum length since it was loaded."""

    @property
    def costly(self) -> bool:
        """Whether encoding takes much longer than storing: worth a thread and a cache."""

    @property
    def takes_images(self) -> bool:
        """Whether inputs may be pictures (``PIL.Image``) as well as texts."""

    @property
    def max_tokens(self) -> int | None:
        """Most tokens of an input that are read, with those around it; None if all are."""

    @property
    def tokens_around(self) -> int:
        """How many tokens of a document are not its own: special ones and the prompt."""

    def tokenizer(self) -> "Tokenizer | None":
        """Tokenizer that counts a text's own tokens, without cutting; None if there is none."""

    def recipe(self) -> "Recipe":
        """Describe the space the vectors lie in."""

    def facts(self) -> dict[str, Any]:
        """Tell what is recorded with a run but does not change the space: device, precision."""

    def space_notes(self) -> dict[str, Any]:
        """Tell what is to be noted of the space, as arguments of `Store.note_space`."""

    def cancel(self) -> None:
        """Make what another thread is encoding fail soon; it is not used any more."""

    def close(self) -> None:
        """Give back what it holds; it is not used any more."""

    def encode(self, inputs: Sequence[Any], kind: Kind = "document") -> "NDArray[np.float32]":
        """Encode texts, or pictures where the model takes them.

        Parameters
        ----------
        inputs : sequence of str or PIL.Image
        kind : {"document", "query"}
            Models that tell queries from documents prompt them differently.

        Returns
        -------
        vectors : float32 array, shape (len(inputs), dim)
            Row i is ``inputs[i]``; but for rounding, it does not depend on the other inputs. A
            row of zeros means that the encoder found nothing in that text to encode.

        Raises
        ------
        UsageError
            The space has a vector for every token instead.
        """

    def encode_tokens(self, inputs: Sequence[Any], kind: Kind = "document") -> "list[Tokens]":
        """Encode texts into a vector for every token, each of unit length.

        Parameters
        ----------
        inputs : sequence of str
        kind : {"document", "query"}

        Returns
        -------
        tokens : list of Tokens, shape (len(inputs),)
            Without any token where the encoder found nothing in that text to encode.

        Raises
        ------
        UsageError
            The space has one vector for a text: see `Recipe.multivector`.
        """


class QuickEncoder:
    """What encoders have in common that are quick, take texts only, and never cut them."""

    truncated = 0
    costly = False
    takes_images = False
    max_tokens = None
    tokens_around = 0

    def encode_tokens(self, inputs: Sequence[Any], kind: Kind = "document") -> "list[Tokens]":
        """Refuse: there are no tokens that are worth vectors of their own."""
        raise UsageError("this model does not give vectors of tokens")

    def facts(self) -> dict[str, Any]:
        """Nothing: there is one way to run it."""
        return {}

    def space_notes(self) -> dict[str, Any]:
        """Nothing to note."""
        return {}

    def cancel(self) -> None:
        """Nothing that would take long."""

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True)
class EncoderOptions:
    """How to load a model and what to change about it; None leaves it as its makers made it.

    Attributes
    ----------
    device : str, optional
        As PyTorch names them; several, separated by commas, share the work.
    dtype : {"auto", "float32", "bfloat16", "float16"}
        Precision of the computation. "auto" takes the fastest that stays true to float32.
    batch_tokens : int, optional
        Most tokens that go through the model at once, padding included.
    revision : str, optional
        Branch, tag or commit of a model on the hub.
    trust_remote_code : bool
        Run code that comes with the model.
    local_only : bool
        Do not fetch a model that is not on this machine.
    prompt, prompt_name : str, optional
        What precedes documents, as it is or by its name in the model's own list.
    query_prompt : str, optional
        What precedes queries.
    dims : int, optional
        Keep only the first components (Matryoshka representations).
    layer : int, optional
        Take token vectors after this many layers; negative numbers count from the last, -1.
    pooling : str, optional
        How token vectors become one, in sentence-transformers' words; "none" keeps them all.
    max_tokens : int, optional
        Cut inputs to this many tokens, special tokens and prompt included.
    normalize : bool, optional
        Scale vectors to unit length.
    model_kwargs, processor_kwargs, config_kwargs : mapping
        Handed to transformers as they are.
    component : str, optional
        What vectors of words have in common and is taken out of texts, as in the recipe.
    store : str, optional
        The store that collections of words are in, unless the model's name says another one.
    """

    device: str | None = None
    dtype: str = "auto"
    batch_tokens: int | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    local_only: bool = False
    prompt: str | None = None
    prompt_name: str | None = None
    query_prompt: str | None = None
    dims: int | None = None
    layer: int | None = None
    pooling: str | None = None
    max_tokens: int | None = None
    normalize: bool | None = None
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    processor_kwargs: Mapping[str, Any] = field(default_factory=dict)
    config_kwargs: Mapping[str, Any] = field(default_factory=dict)
    component: str | None = None
    store: str | None = None


# The options that change a model, as against those that tell how to run it.
CHANGES = (
    "prompt", "prompt_name", "query_prompt", "dims", "layer", "pooling", "max_tokens", "normalize",
    "revision", "model_kwargs", "processor_kwargs", "config_kwargs", "component",
)  # fmt: skip


def options_of(recipe: "Recipe", *, trusted: bool = False) -> EncoderOptions:
    """Options that make an encoder of the space of `recipe`, out of the same files.

    Parameters
    ----------
    recipe : Recipe
    trusted : bool
        Whether what the recipe says may run code: the store may be somebody else's.

    Raises
    ------
    ModelError
        The recipe needs more trust than it has, or its vectors were imported.
    """
    settings = recipe.settings
    if recipe.base is not None:
        raise ModelError(
            f"these vectors of {recipe.model!r} were mapped: no model makes more of them",
            hint="embcli align apply",
        )
    if "imported" in settings:
        raise ModelError(
            f"the vectors of {recipe.model!r} were imported: there is no model to make more",
            hint="embcli import",
        )
    if "prompts" not in settings:
        pooling = "none" if recipe.multivector else None
        return EncoderOptions(pooling=pooling, component=settings.get("component"))
    # What transformers takes can make it load code or unpickle objects, too.
    for key in ("code", "model_kwargs", "processor_kwargs", "config_kwargs"):
        if key in settings and not trusted:
            raise ModelError(
                f"model {recipe.model!r} was loaded with code of its own or special arguments "
                f"({key})",
                hint="if you trust the model and the store: --trust-remote-code",
            )
    return EncoderOptions(
        revision=settings["revision"],
        trust_remote_code="code" in settings,
        prompt=settings["prompts"]["document"],
        query_prompt=settings["prompts"]["query"],
        dims=settings["dim"],
        layer=settings["layer"],
        pooling=settings["pooling"],
        max_tokens=settings["max_tokens"],
        normalize=settings["normalized"],
        model_kwargs=settings.get("model_kwargs", {}),
        processor_kwargs=settings.get("processor_kwargs", {}),
        config_kwargs=settings.get("config_kwargs", {}),
    )


# What names of encoders begin with whose word vectors are in a store.
WORDS = "words:"
# What recipes of encoders out of model2vec's files have as their architecture.
MODEL2VEC = "model2vec"


def is_known(recipe: "Recipe") -> bool:
    """Whether an encoder of this space can be loaded, as far as the recipe tells.

    Imported vectors were made by models that only their makers could run, and mapped ones by no
    model.
    """
    if recipe.base is not None:
        return False
    return "prompts" in recipe.settings or is_quick(recipe)


def is_quick(recipe: "Recipe") -> bool:
    """Whether the encoder of a space, or of that which was mapped into it, is a `QuickEncoder`."""
    if recipe.base is not None:
        return is_quick(recipe.base)
    return (
        recipe.model in MODELS
        or recipe.model.startswith(WORDS)
        or recipe.settings.get("architecture") == MODEL2VEC
    )


@dataclass(frozen=True)
class ModelCard:
    """What can be said of a model without loading it.

    `encoder` is ``module:class``; `requires` is the package that must be importable; `per_token`
    says whether it can keep a vector for every token.
    """

    name: str
    encoder: str
    dim: int
    licence: str
    description: str
    requires: str | None = None
    per_token: bool = False

    @property
    def available(self) -> bool:
        """Whether it can be loaded here and now, without a network."""
        return self.requires is None or find_spec(self.requires) is not None


MODELS = {
    card.name: card
    for card in (
        ModelCard(
            "static",
            "embcli.encoders.static:StaticEncoder",
            256,
            "MIT",
            "static token table, mean-pooled; offline, no torch",
            requires="wordllama",
            per_token=True,
        ),
        ModelCard(
            "hash",
            "embcli.encoders.hashing:HashEncoder",
            1024,
            "none needed",
            "hashed character n-grams; no model at all, any script",
        ),
    )
}


def load_encoder(
    name: str,
    options: EncoderOptions | None = None,
    note: Callable[[str], None] = lambda message: None,
) -> Encoder:
    """Load the encoder called `name`.

    Parameters
    ----------
    name : str
        A key of `MODELS`, the directory of a model, its id on the Hugging Face hub, or
        ``words:COLLECTION``, see `embcli.encoders.words.WordVectorEncoder`.
    options : EncoderOptions, optional
    note : callable
        Told what a user should know of how the model is run.

    Raises
    ------
    ModelError
        There is no such model, or the package that carries or runs it is missing.
    UsageError
        The options do not fit the model.
    """
    options = options or EncoderOptions()
    card = MODELS.get(name)
    if name.startswith(WORDS):
        from embcli.encoders.words import WordVectorEncoder

        _check_unchanged(name, replace(options, component=None))
        return WordVectorEncoder(name.removeprefix(WORDS), options, note)
    if card is None:
        return _load_files(name, options, note)
    per_token = options.pooling == "none" and card.per_token
    _check_unchanged(name, replace(options, pooling=None) if per_token else options)
    if not card.available:
        raise ModelError(
            f"model {name!r} needs the package {card.requires!r}, which is not installed",
            hint=f"pip install {card.requires}",
        )
    module, _, cls = card.encoder.partition(":")
    make: Callable[..., Encoder] = getattr(import_module(module), cls)
    return make(per_token=True) if per_token else make()


def _load_files(name: str, options: EncoderOptions, note: Callable[[str], None]) -> Encoder:
    """Load a model out of its files, which may have to be fetched."""
    from embcli.encoders.model2vec import Model2VecEncoder, find_model2vec

    directory = find_model2vec(name, options.revision)
    if directory is None:
        from embcli.encoders.transformer import TransformerEncoder

        return TransformerEncoder(name, options, note)
    _check_unchanged(name, replace(options, revision=None))
    return Model2VecEncoder(name, directory)


def _check_unchanged(name: str, options: EncoderOptions) -> None:
    for change in CHANGES:
        if getattr(options, change) not in (None, {}):
            flag = change.replace("_", "-")
            raise UsageError(f"model {name!r} has no --{flag}; it is for transformer models")
