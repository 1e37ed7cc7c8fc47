"""Any model that sentence-transformers can load, from the hub or a directory."""

import os
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embcli.core.pooling import normalize_rows
from embcli.encoders import MODELS, EncoderOptions, Kind
from embcli.encoders.model_files import ModelFiles, find_model, hub_ids
from embcli.encoders.recipe import Recipe
from embcli.encoders.tokens import POOLING, SKIPPED, Tokens
from embcli.errors import ModelError, UsageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from embcli.encoders.late_interaction import LateInteractionModel
    from embcli.encoders.torch_model import TorchModel

INSTALL = "pip install 'embcli[transformers]'"
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_REQUIRED = ("torch", "sentence_transformers")
_LIGHT_ERROR = 1e-4


class TransformerEncoder:
    """A transformer with whatever its makers put behind it: pooling, projection, normalisation.

    Making one only reads configuration files. The model itself, and torch with it, is loaded
    when something is encoded.

    Parameters
    ----------
    name : str
        A directory, or an id on the Hugging Face hub.
    options : EncoderOptions
    note : callable
        Told what a user should know of how the model is run.

    Attributes
    ----------
    truncated : int
        How many documents were cut so far.
    light_agrees : bool or None
        Whether the light path gave the vectors of the full one; None before both have run, or
        where there is no light path for this model.

    Raises
    ------
    ModelError
        The model is not here and cannot be fetched, or is not one.
    UsageError
        An option does not fit the model.

    Notes
    -----
    Documents get the model's prompt called "document", "passage" or "corpus", queries the one
    called "query"; a model that has no such prompts, not even empty ones, may have a default
    prompt for both. A prompt that is given replaces the model's.
    """

    costly = True

    def __init__(
        self,
        name: str,
        options: EncoderOptions,
        note: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._options = options
        self._note = note
        for arguments in (options.model_kwargs, options.processor_kwargs, options.config_kwargs):
            if "trust_remote_code" in arguments:
                raise UsageError("trust is not given in passing: --trust-remote-code")
        if options.revision is not None and os.path.isdir(name):
            raise UsageError(f"{name} is a directory, and has no revisions")
        directory = find_model(name, options.revision)
        if directory is None:
            directory = _fetch(name, options.revision, note, allowed=not options.local_only)
        self.files = files = ModelFiles(directory)
        if not files.weights:
            raise ModelError(f"{directory} holds no weights")
        self._name = str(directory) if os.path.isdir(name) else name
        self._prompts: dict[Kind, str] = {
            "document": self._document_prompt(),
            "query": self._query_prompt(),
        }
        self._pooling = self._changed_pooling()
        self._layer = self._changed_layer()
        self._dims = self._changed_dims()
        self._check_max_tokens()
        self.normalized = files.normalizes or self._dims is not None
        if options.normalize is not None:
            self.normalized = options.normalize
        if self._per_token:
            if options.normalize is False:
                raise UsageError("--pooling none: vectors of tokens have unit length")
            self.normalized = True
        self.light_agrees: bool | None = None
        self._cancelled = Event()

    @property
    def dim(self) -> int:
        """Number of components of a vector."""
        return self._dims or self._full_dim

    @property
    def truncated(self) -> int:
        """How many documents were cut so far."""
        return self._torch.truncated if "_torch" in vars(self) else 0

    @property
    def takes_images(self) -> bool:
        """Whether inputs may be pictures."""
        return self.files.takes_images and not self._per_token

    @property
    def max_tokens(self) -> int | None:
        """Most tokens of an input that are read, prompt and special tokens included."""
        return self._options.max_tokens or self.files.max_tokens

    @property
    def tokens_around(self) -> int:
        """How many tokens of a document are special ones or the prompt's."""
        tokenizer = self.tokenizer()
        return len(tokenizer.encode(self._prompts["document"]).ids) if tokenizer else 0

    def tokenizer(self) -> "Tokenizer | None":
        """Tokenizer that counts a text's own tokens, without cutting."""
        from tokenizers import Tokenizer

        path = self.files.modules[0].directory / "tokenizer.json"
        try:
            tokenizer = (
                Tokenizer.from_file(str(path)) if path.is_file() else self._torch.tokenizer()
            )
        except Exception as error:  # the library raises no other
            raise ModelError(f"{path}: not a readable tokenizer ({error})") from error
        if tokenizer is None:
            return None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def recipe(self) -> Recipe:
        """Describe the space the vectors lie in."""
        return self._recipe

    @cached_property
    def _recipe(self) -> Recipe:
        options = self._options
        settings: dict[str, Any] = {
            "model": self._name,
            "revision": _commit(self.files.directory),
            **self.files.fingerprints(remote_code=options.trust_remote_code),
            "prompts": self._prompts,
            "max_tokens": self.max_tokens,
            "layer": self._layer,
            "pooling": self._pooling or self.files.pooling,
            "dim": self.dim,
            "normalized": self.normalized,
            "maps": [],
            **({"skipped": SKIPPED} if self._pooling == POOLING else {}),
        }
        for kind in ("model_kwargs", "processor_kwargs", "config_kwargs"):
            if getattr(options, kind):
                settings[kind] = dict(getattr(options, kind))
        return Recipe(settings)

    def facts(self) -> dict[str, Any]:
        """Device and precision of this run; empty if nothing had to be encoded."""
        return self._torch.facts() if "_torch" in vars(self) else {}

    def space_notes(self) -> dict[str, Any]:
        """Tell what makes later queries quick, once something has been encoded."""
        if "_torch" not in vars(self):
            return {}
        return {"light": bool(self.light_agrees), "files": self.files.stamp}

    def cancel(self) -> None:
        """Make what another thread is encoding fail before its next batch."""
        self._cancelled.set()

    def close(self) -> None:
        """Stop processes that share the work."""
        if "_torch" in vars(self):
            self._torch.close()

    def encode(self, inputs: Sequence[Any], kind: Kind = "document") -> NDArray[np.float32]:
        """Encode texts or pictures; see `embcli.encoders.Encoder.encode`."""
        if self._per_token:
            raise UsageError("this space has a vector for every token, not one for a text")
        if not len(inputs):
            return np.empty((0, self.dim), np.float32)
        model: Any = self._torch
        vectors = model.encode(list(inputs), self._prompts[kind], kind)
        if self.light_agrees is None and self.light is not None and model.exact is not None:
            texts, prompt, exact = model.exact
            self.light_agrees = self._agree(self.light.encode(texts, prompt), exact)
        return self._finished(vectors)

    def encode_tokens(self, inputs: Sequence[Any], kind: Kind = "document") -> list[Tokens]:
        """Encode texts into token vectors; see `embcli.encoders.Encoder.encode_tokens`."""
        if not self._per_token:
            raise UsageError("this space has one vector for a text")
        if not len(inputs):
            return []
        tokens = self._torch.encode_tokens(list(inputs), self._prompts[kind], kind)
        if self.light_agrees is None and self.light is not None and self._torch.exact is not None:
            texts, prompt, exact = self._torch.exact
            light = self.light.encode_tokens(texts, prompt, kind)
            self.light_agrees = self._agree(np.concatenate([t.vectors for t in light]), exact)
        return [Tokens(self._finished(vectors), spans) for vectors, spans in tokens]

    def _agree(self, light: NDArray[np.float32], exact: NDArray[np.float32]) -> bool:
        if light.shape != exact.shape:
            return False
        difference = np.abs(self._finished(light) - self._finished(exact))
        return float(difference.max(initial=0)) <= _LIGHT_ERROR

    def token_vectors(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Encode single tokens by number, as long as they come out, shape (len(tokens), dim).

        In float32, whatever the precision of texts. Special tokens stand around each, and no
        prompt.
        """
        from embcli.encoders.torch_model import TorchModel

        model = self._unscaled._torch
        if not isinstance(model, TorchModel):
            raise ModelError(f"model {self._name!r} is made for late interaction, not for a table")
        return model.encode_vocabulary(tokens)[:, : self._dims]

    @cached_property
    def _unscaled(self) -> "TransformerEncoder":
        options = replace(self._options, dtype="float32", normalize=False)
        return TransformerEncoder(self._name, options, self._note)

    def encode_lightly(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """Encode queries by the light path, which `light` must not be None for."""
        assert self.light is not None
        return self._finished(self.light.encode(queries, self._prompts["query"]))

    def encode_tokens_lightly(self, queries: Sequence[str]) -> list[Tokens]:
        """Encode the tokens of queries by the light path, which `light` must not be None for."""
        assert self.light is not None
        found = self.light.encode_tokens(queries, self._prompts["query"])
        return [Tokens(self._finished(vectors), spans) for vectors, spans in found]

    @cached_property
    def light(self) -> Any:
        """The model in NumPy, or None if it is not one of those that are known there."""
        from embcli.encoders.light import LightModel

        options = self._options
        if options.model_kwargs or options.processor_kwargs or options.config_kwargs:
            return None
        if options.trust_remote_code or not LightModel.supports(self.files):
            return None
        return LightModel(
            self.files,
            pooling=self._pooling,
            layer=self._layer,
            max_tokens=self.max_tokens,
            normalize=self.normalized,
        )

    def with_query_prompt(
        self, prompt: str | None = None, prompt_name: str | None = None
    ) -> "TransformerEncoder":
        """Make an encoder of the same space that puts another prompt before queries."""
        other = copy(self)
        other._prompts = {
            "document": self._prompts["document"],
            "query": self._prompt_named(prompt_name) if prompt is None else prompt,
        }
        return other

    @property
    def query_prompt(self) -> str:
        """What precedes queries."""
        return self._prompts["query"]

    def _finished(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        finished = np.ascontiguousarray(vectors[:, : self._dims], np.float32)
        if self.normalized:
            return normalize_rows(finished)
        return finished

    @cached_property
    def _torch(self) -> "TorchModel | LateInteractionModel":
        for package in _REQUIRED:
            if find_spec(package) is None:
                raise ModelError(
                    f"model {self._name!r} needs the package {package!r}, which is not installed",
                    hint=INSTALL,
                )
        # Threads that wait by spinning take the time of whatever else runs on the machine; this
        # is read once, when torch is first imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if self.files.late_interaction:
            from embcli.encoders.late_interaction import LateInteractionModel

            return LateInteractionModel(self.files, self._options, self._cancelled)
        from embcli.encoders.torch_model import TorchModel

        return TorchModel(
            self.files,
            self._options,
            pooling=self._pooling,
            layer=self._layer,
            max_tokens=self.max_tokens,
            note=self._note,
            cancelled=self._cancelled,
            keep_exact=self.light is not None,
        )

    @property
    def _per_token(self) -> bool:
        return (self._pooling or self.files.pooling) == POOLING

    @cached_property
    def _full_dim(self) -> int:
        dim = self.files.dim
        if self.files.late_interaction:
            has_own = any("out_features" in module.config for module in self.files.modules)
            dim = dim if has_own else None
        elif self._per_token:
            dim = self.files.hidden_size
        return self._torch.dim if dim is None else dim

    def _check_max_tokens(self) -> None:
        wanted, most = self._options.max_tokens, self.files.positions
        if wanted is None or wanted == self.files.max_tokens:
            return
        if self.files.late_interaction:
            raise UsageError(f"model {self._name!r} has lengths of its own: no --max-tokens")
        if most is not None and wanted > most:
            raise UsageError(f"model {self._name!r} reads at most {most} tokens")
        around = self.tokens_around
        if wanted <= around:
            raise UsageError(
                f"--max-tokens {wanted}: special tokens and the prompt alone are {around}"
            )

    def _document_prompt(self) -> str:
        options = self._options
        if options.prompt is not None and options.prompt_name is not None:
            raise UsageError("give either --prompt or --prompt-name")
        if options.prompt is not None:
            return options.prompt
        if options.prompt_name is not None:
            return self._prompt_named(options.prompt_name)
        return self._own_prompt(_DOCUMENT_PROMPTS)

    def _query_prompt(self) -> str:
        if self._options.query_prompt is not None:
            return self._options.query_prompt
        return self._own_prompt(("query",))

    def _own_prompt(self, names: Sequence[str]) -> str:
        prompts = self.files.prompts
        own = [prompts[name] for name in names if name in prompts]
        if not own:
            return prompts.get(self.files.default_prompt_name or "", "")
        # Empty ones may be there only because sentence-transformers writes them.
        return next(filter(None, own), "")

    def _prompt_named(self, name: str | None) -> str:
        prompts = self.files.prompts
        if name is None or name not in prompts:
            there = f"it has: {', '.join(prompts)}" if prompts else "it has none"
            raise UsageError(
                f"model {self._name!r} has no prompt called {name!r} ({there})",
                hint="--prompt takes a text as it is",
            )
        return prompts[name]

    def _changed_pooling(self) -> str | None:
        wanted = self._options.pooling
        if wanted is None or wanted == self.files.pooling:
            return None
        if self.files.pooling in (None, POOLING):
            raise UsageError(f"model {self._name!r} does not pool token vectors: no --pooling")
        if (
            wanted != POOLING
            and "+" in self.files.pooling
            and any(m.kind == "Dense" for m in self.files.modules)
        ):
            raise UsageError(
                f"model {self._name!r} needs its own pooling ({self.files.pooling}) for the "
                "projection that follows"
            )
        return wanted

    def _changed_layer(self) -> int | None:
        layer, layers = self._options.layer, self.files.layers
        if layer is None:
            return None
        if layers is None or self.files.pooling in (None, POOLING):
            raise UsageError(f"model {self._name!r} has no layers to choose from")
        if not -layers - 1 <= layer <= layers:
            raise UsageError(f"model {self._name!r} has layers 0 to {layers}, not {layer}")
        layer = layer % (layers + 1)
        return None if layer == layers else layer

    def _changed_dims(self) -> int | None:
        wanted = self._options.dims or self.files.truncate_dim
        if wanted is None or wanted == self._full_dim:
            return None
        if not 1 <= wanted < self._full_dim:
            raise UsageError(
                f"model {self._name!r} has {self._full_dim} dimensions: --dims {wanted} is not "
                "among them"
            )
        return wanted


def _commit(directory: Path) -> str | None:
    """Read the commit of a model in the hub's cache off its folder's name."""
    return directory.name if directory.parent.name == "snapshots" else None


def _fetch(name: str, revision: str | None, note: Callable[[str], None], *, allowed: bool) -> Path:
    """Fetch a model from the hub, if that is allowed.

    Raises
    ------
    ModelError
        It cannot be fetched; the hint is the command that would.
    """
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_like_path:
        raise ModelError(f"there is no directory {name}", hint="embcli models")
    id = hub_ids(name)[0]
    at = f" --revision {revision}" if revision else ""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        embedded = "" if "/" in name else f"not embedded (there are: {', '.join(MODELS)}) and "
        raise ModelError(
            f"model {name!r} is {embedded}not on this machine, and HF_HUB_OFFLINE forbids to "
            "fetch it",
            hint=f"HF_HUB_OFFLINE=0 hf download {id}{at}",
        )
    if not allowed:
        raise ModelError(f"model {name!r} is not on this machine", hint=f"hf download {id}{at}")
    if find_spec("huggingface_hub") is None:
        raise ModelError(
            f"model {name!r} is not on this machine, and fetching it needs the package "
            "'huggingface_hub'",
            hint=INSTALL,
        )
    from embcli.encoders.hub import fetch

    return fetch(hub_ids(name), revision, note)
