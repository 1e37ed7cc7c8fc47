"""Encoders put things into a space. They are found by name and loaded on first use."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol

from embcli.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embcli.encoders.recipe import Recipe

Kind = Literal["document", "query"]


class Encoder(Protocol):
    """What every encoder offers."""

    @property
    def dim(self) -> int:
        """Number of components of a vector."""

    @property
    def truncated(self) -> int:
        """How many inputs were cut to the model's maximum length since it was loaded."""

    def recipe(self) -> "Recipe":
        """Describe the space the vectors lie in."""

    def encode(self, inputs: Sequence[str], kind: Kind = "document") -> "NDArray[np.float32]":
        """Encode texts.

        Parameters
        ----------
        inputs : sequence of str
        kind : {"document", "query"}
            Models that tell queries from documents prompt them differently.

        Returns
        -------
        vectors : float32 array, shape (len(inputs), dim)
            Row i is ``inputs[i]``; it does not depend on the other inputs. A row of zeros
            means that the encoder found nothing in that text to encode.
        """


@dataclass(frozen=True)
class ModelCard:
    """What can be said of a model without loading it.

    `encoder` is ``module:class``; `requires` is the package that must be importable.
    """

    name: str
    encoder: str
    dim: int
    licence: str
    description: str
    requires: str | None = None

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
            "static token table from the wordllama wheel, mean-pooled; offline, no torch",
            requires="wordllama",
        ),
        ModelCard(
            "hash",
            "embcli.encoders.hashing:HashEncoder",
            1024,
            "none needed",
            "signed hashing of character n-grams; no model at all, any script, any text",
        ),
    )
}


def load_encoder(name: str) -> Encoder:
    """Load the encoder called `name`.

    Parameters
    ----------
    name : str
        A key of `MODELS`.

    Raises
    ------
    ModelError
        There is no such model, or the package that carries it is missing.
    """
    card = MODELS.get(name)
    if card is None:
        raise ModelError(
            f"no model called {name!r} (there are: {', '.join(MODELS)})", hint="embcli models"
        )
    if not card.available:
        raise ModelError(
            f"model {name!r} needs the package {card.requires!r}, which is not installed",
            hint=f"pip install {card.requires}",
        )
    module, _, cls = card.encoder.partition(":")
    encoder: Encoder = getattr(import_module(module), cls)()
    return encoder
