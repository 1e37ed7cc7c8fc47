"""What models there are here, without loading any."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embcli.encoders import MODEL2VEC, MODELS, ModelCard
from embcli.encoders.model_files import ModelFiles, cached_models, find_model, hub_ids
from embcli.errors import ModelError


@dataclass(frozen=True)
class ModelInfo:
    """A model at a glance.

    Attributes
    ----------
    name : str
        What `load_encoder` takes.
    available : bool
        Whether it can be loaded here and now, without a network.
    dim : int or None
        None where only loading it would tell.
    max_tokens : int or None
        Most tokens of an input that are read; None if all are.
    bytes : int or None
        Size of the weights on disk.
    licence, description : str
    """

    name: str
    available: bool
    dim: int | None
    max_tokens: int | None
    bytes: int | None
    licence: str
    description: str


def list_models(directories: Iterable[str] = ()) -> Iterator[ModelInfo]:
    """List embedded models, those fetched from the hub, and those in `directories`."""
    for card in MODELS.values():
        yield ModelInfo(
            card.name, card.available, card.dim, None, None, card.licence, card.description
        )
    local = [(name, Path(name)) for name in directories if os.path.isdir(name)]
    for name, directory in [*cached_models(), *local]:
        try:
            yield _info(name, ModelFiles(directory))
        except ModelError as error:
            yield ModelInfo(name, False, None, None, None, "", error.message)


def describe(name: str, revision: str | None = None) -> dict[str, Any]:
    """Describe a model that is here.

    Raises
    ------
    ModelError
        It is not here.
    """
    if name in MODELS:
        return _describe_card(MODELS[name])
    directory = find_model(name, revision)
    if directory is None:
        raise ModelError(
            f"model {name!r} is not on this machine", hint=f"hf download {hub_ids(name)[0]}"
        )
    files = ModelFiles(directory)
    if files.architecture == MODEL2VEC:
        info = _info(name, files)
        return {
            "name": name,
            "directory": str(directory),
            "architecture": MODEL2VEC,
            "dim": info.dim,
            "max_tokens": None,
            "normalized": bool(files.config.get("normalize", True)),
            "images": False,
            "prompts": {},
            "bytes": files.bytes,
            "licence": files.licence,
        }
    return {
        "name": name,
        "directory": str(directory),
        "architecture": files.architecture,
        "modules": [module.kind for module in files.modules],
        "layers": files.layers,
        "dim": files.dim,
        "max_tokens": files.max_tokens,
        "pooling": files.pooling,
        "normalized": files.normalizes,
        "images": files.takes_images,
        "prompts": files.prompts,
        "default_prompt_name": files.default_prompt_name,
        "bytes": files.bytes,
        "licence": files.licence,
    }


def _info(name: str, files: ModelFiles) -> ModelInfo:
    if files.architecture == MODEL2VEC:
        dim = files.config.get("hidden_dim")
        return ModelInfo(
            name,
            bool(files.weights),
            dim if isinstance(dim, int) else None,
            None,
            files.bytes,
            files.licence or "not stated",
            "static token table (model2vec), mean-pooled; no torch",
        )
    layers = f", {files.layers} layers" if files.layers else ""
    images = ", texts and pictures" if files.takes_images else ""
    return ModelInfo(
        name,
        bool(files.weights),
        files.dim,
        files.max_tokens,
        files.bytes,
        files.licence or "not stated",
        f"transformer ({files.architecture}{layers}){images}",
    )


def _describe_card(card: ModelCard) -> dict[str, Any]:
    return {
        "name": card.name,
        "available": card.available,
        "dim": card.dim,
        "max_tokens": None,
        "normalized": True,
        "images": False,
        "prompts": {},
        "licence": card.licence,
        "description": card.description,
    }
