"""What a transformer model's files say, without loading it: no torch, no network."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from embcli.encoders.recipe import file_fingerprint
from embcli.errors import ModelError

MODULES = "modules.json"
CONFIG = "config.json"
PROMPTS = "config_sentence_transformers.json"
_CONFIGURATIONS = (
    MODULES, CONFIG, "sentence_*_config.json", "router_config.json", "adapter_config.json",
)  # fmt: skip
_BRANCHING = ("Router", "Asym")
_OTHER_FORMATS = ("onnx", "openvino")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt",
    "sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "special_tokens_map.json",
    "added_tokens.json", "chat_template.json", "chat_template.jinja", "preprocessor_config.json",
    "processor_config.json",
)  # fmt: skip
# What a configuration says of how it came about, which changes no number.
_REMARKS = {
    "_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache",
    "__version__", "_commit_hash",
}  # fmt: skip
# In the order in which sentence-transformers joins their vectors.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Module:
    """One step of a model: its class by name ("Transformer", "Pooling", ...) and its settings."""

    kind: str
    directory: Path
    config: dict[str, Any]


class ModelFiles:
    """The files of a model in sentence-transformers' or transformers' layout.

    Parameters
    ----------
    directory : Path
        Holds ``modules.json``, or only ``config.json`` for a plain transformer, which is then
        mean-pooled, as sentence-transformers does.

    Raises
    ------
    ModelError
        The directory holds no model, or its files cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        if not (directory / MODULES).is_file() and not (directory / CONFIG).is_file():
            raise ModelError(
                f"{directory} holds no model: there is neither {MODULES} nor {CONFIG} in it"
            )
        try:
            # Whatever is wrong with the files shows here, rather than wherever it is needed.
            if not self.modules:
                raise ValueError(f"{MODULES} is empty")
            _ = self.dim, self.max_tokens, self.layers, self.pooling, self.prompts, self.licence
            _ = self.truncate_dim, self.takes_images, self.is_complete
        except (
            LookupError, ArithmeticError, AttributeError, OSError, TypeError, ValueError,
        ) as error:  # fmt: skip
            raise ModelError(
                f"{directory}: the model's files do not say what they should "
                f"({type(error).__name__}: {error})"
            ) from error

    @cached_property
    def modules(self) -> list[Module]:
        """The steps of the model in order."""
        if not (self.directory / MODULES).is_file():
            transformer = Module("Transformer", self.directory, {})
            return [transformer, Module("Pooling", self.directory, {"pooling_mode": "mean"})]
        return [
            self._module(str(entry["type"]).rpartition(".")[2], entry.get("path", ""))
            for entry in self._json(self.directory / MODULES)
        ]

    def _module(self, kind: str, path: str) -> Module:
        directory = self.directory / _below(path)
        pattern = "sentence_*_config.json" if kind == "Transformer" else CONFIG
        file = next(directory.glob(pattern), None)
        return Module(kind, directory, {} if file is None else self._json(file))

    @cached_property
    def config(self) -> dict[str, Any]:
        """The transformer's own configuration; empty for a model without one."""
        path = self._transformer / CONFIG
        return dict(self._json(path)) if path.is_file() else {}

    @cached_property
    def text_config(self) -> dict[str, Any]:
        """The part of `config` that is about text, where a model takes more than that."""
        nested = self.config.get("text_config")
        return {**self.config, **nested} if isinstance(nested, dict) else self.config

    @property
    def architecture(self) -> str:
        """Name of the architecture, such as "bert"."""
        return str(self.config.get("model_type", "unknown"))

    @property
    def layers(self) -> int | None:
        """Number of transformer layers."""
        for name in ("num_hidden_layers", "n_layers", "n_layer", "num_layers"):
            if name in self.text_config:
                return int(self.text_config[name])
        return None

    @property
    def takes_images(self) -> bool:
        """Whether pictures can be encoded, too."""
        return "vision_config" in self.config or any(m.kind == "CLIPModel" for m in self.modules)

    @cached_property
    def pooling(self) -> str | None:
        """How token vectors become one, in sentence-transformers' words; several joined by "+".

        "none" if they do not: see `late_interaction`.
        """
        if self.late_interaction:
            return "none"
        for module in self.modules:
            if module.kind == "Pooling":
                mode = module.config.get("pooling_mode")
                if mode is None:
                    flags = _POOLING_FLAGS.items()
                    mode = [name for flag, name in flags if module.config.get(flag)] or "mean"
                return mode if isinstance(mode, str) else "+".join(mode)
        return None

    @cached_property
    def late_interaction(self) -> bool:
        """Whether the model is made to be compared token by token, as ColBERT is."""
        kind = self._settings.get("model_type")
        heads = self.config.get("architectures") or ()
        return kind in ("MultiVectorEncoder", "ColBERT") or "HF_ColBERT" in heads

    @property
    def normalizes(self) -> bool:
        """Whether the model itself scales its vectors to unit length."""
        return any(module.kind == "Normalize" for module in self.modules)

    @property
    def dim(self) -> int | None:
        """Number of components of a vector, as far as the files tell."""
        for module in reversed(self.modules):
            if module.kind == "Dense" and "out_features" in module.config:
                return int(module.config["out_features"])
            if module.kind == "Pooling" and self.hidden_size is not None:
                return self.hidden_size * (1 + (self.pooling or "").count("+"))
        if "projection_dim" in self.config:
            return int(self.config["projection_dim"])
        return self.hidden_size

    @property
    def hidden_size(self) -> int | None:
        """Width of a token's vector."""
        for name in ("hidden_size", "dim", "d_model", "n_embd"):
            if name in self.text_config:
                return int(self.text_config[name])
        return None

    @property
    def max_tokens(self) -> int | None:
        """Longest input in tokens, special ones and prompt included."""
        limits = [
            self.modules[0].config.get("max_seq_length"),
            self._tokenizer_config.get("model_max_length"),
            self.positions,
        ]
        # transformers writes 10^30 for "no limit".
        stated = [int(n) for n in limits if isinstance(n, int | float) and 0 < n < 1 << 31]
        if isinstance(limits[0], int):
            return min(int(limits[0]), self.positions or int(limits[0]))
        return min(stated, default=None)

    @property
    def positions(self) -> int | None:
        """How many positions the model knows: no input can be longer."""
        positions = self.text_config.get("max_position_embeddings")
        if not isinstance(positions, int) or positions <= 0:
            return None
        # RoBERTa and its kin keep the first positions for padding.
        return positions - (2 if self.architecture in _OFFSET_POSITIONS else 0)

    @cached_property
    def prompts(self) -> dict[str, str]:
        """Prompts by name, as the model's makers named them."""
        return {name: text or "" for name, text in (self._settings.get("prompts") or {}).items()}

    @property
    def default_prompt_name(self) -> str | None:
        """Name of the prompt for whatever is neither said to be a query nor a document."""
        name = self._settings.get("default_prompt_name")
        return None if name is None else str(name)

    @property
    def truncate_dim(self) -> int | None:
        """How many components the makers would have kept."""
        dims = self._settings.get("truncate_dim")
        return None if dims is None else int(dims)

    @property
    def weights(self) -> list[Path]:
        """Files with parameters, in order of their names."""
        found: list[Path] = []
        for directory in self._directories:
            safe, pickled = (sorted(directory.glob(pattern)) for pattern in _WEIGHTS)
            found += safe or pickled
        return found

    @cached_property
    def is_complete(self) -> bool:
        """Whether all weights are there, as far as the files tell."""
        for directory in self._directories:
            for index in directory.glob("*.index.json"):
                shards = set(self._json(index).get("weight_map", {}).values())
                if not all((directory / _below(shard)).is_file() for shard in shards):
                    return False
        weighty = [m.directory for m in self.modules if m.kind in ("Transformer", "Dense")]
        return bool(self.weights) and all(_has_weights(directory) for directory in weighty)

    @property
    def licence(self) -> str | None:
        """What the model card says."""
        return self._card.get("license")

    @property
    def bytes(self) -> int:
        """Size of the parameters on disk."""
        return sum(path.stat().st_size for path in self.weights)

    @cached_property
    def stamp(self) -> list[list[Any]]:
        """Name, size and time of change of every file that matters: same stamp, same files."""
        files = [*self.weights, *self._tokenizer_files, *self._configurations]
        return [
            [path.relative_to(self.directory).as_posix(), status.st_size, status.st_mtime_ns]
            for path in files
            for status in [path.stat()]
        ]

    def fingerprints(self, *, remote_code: bool = False) -> dict[str, str]:
        """Hash what changes the numbers: ``weights``, ``tokenizer`` and ``config``.

        Configurations are hashed by content, without remarks such as the version that wrote
        them; prompts are left out, being part of the recipe on their own. With `remote_code`
        the Python files are hashed too, as ``code``.
        """
        settings = {
            path.relative_to(self.directory).as_posix(): _without_remarks(self._json(path))
            for path in self._configurations
        }
        canonical = json.dumps(settings, sort_keys=True).encode()
        prints = {
            "weights": _together(self.weights),
            "tokenizer": _together(self._tokenizer_files),
            "config": f"sha256:{hashlib.sha256(canonical).hexdigest()}",
        }
        if self.late_interaction:
            # How queries and documents are treated is said there, too.
            told = {k: v for k, v in self._settings.items() if k not in (*_REMARKS, "prompts")}
            canonical = json.dumps(_without_remarks(told), sort_keys=True).encode()
            prints["settings"] = f"sha256:{hashlib.sha256(canonical).hexdigest()}"
        code = sorted(self.directory.rglob("*.py")) if remote_code else []
        if code:
            prints["code"] = _together(code)
        return prints

    @property
    def _transformer(self) -> Path:
        return self.modules[0].directory

    @cached_property
    def _directories(self) -> list[Path]:
        """Where the model's files are."""
        directories = [self.directory, *(module.directory for module in self.modules)]
        if any(module.kind in _BRANCHING for module in self.modules):
            # The branches are in folders of their own, as the configuration has it.
            below = (path for path in self.directory.rglob("*") if path.is_dir())
            directories += sorted(path for path in below if path.name not in _OTHER_FORMATS)
        return list(dict.fromkeys(directories))

    @property
    def _tokenizer_files(self) -> list[Path]:
        return [
            path
            for directory in self._directories
            for name in _TOKENIZER
            if (path := directory / name).is_file()
        ]

    @property
    def _configurations(self) -> Iterator[Path]:
        for directory in self._directories:
            for pattern in _CONFIGURATIONS:
                yield from sorted(directory.glob(pattern))

    @cached_property
    def _settings(self) -> dict[str, Any]:
        path = self.directory / PROMPTS
        return dict(self._json(path)) if path.is_file() else {}

    @cached_property
    def _tokenizer_config(self) -> dict[str, Any]:
        path = self._transformer / "tokenizer_config.json"
        return dict(self._json(path)) if path.is_file() else {}

    @cached_property
    def _card(self) -> dict[str, str]:
        """The simple fields of the model card's header."""
        path = self.directory / "README.md"
        if not path.is_file():
            return {}
        text = path.read_text("utf-8", "replace")
        if not text.startswith("---"):
            return {}
        header = text[3:].partition("\n---")[0]
        pairs = (line.partition(":") for line in header.splitlines() if line[:1].isalpha())
        return {key.strip(): value.strip().strip("'\"") for key, _, value in pairs if value.strip()}

    def _json(self, path: Path) -> Any:
        try:
            return json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"{path}: not a readable model file ({error})") from error


_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "data2vec"}


def find_model(name: str, revision: str | None = None) -> Path | None:
    """Look for a model on this machine.

    Parameters
    ----------
    name : str
        A directory, or an id on the Hugging Face hub; ids without an owner are looked for among
        sentence-transformers' own models first, as that library does.
    revision : str, optional
        Branch, tag or commit of a hub model.

    Returns
    -------
    directory : Path or None
    """
    if os.path.isdir(name):
        return Path(os.path.abspath(name))
    for id in hub_ids(name):
        for cache in hub_caches():
            directory = _snapshot(cache / f"models--{id.replace('/', '--')}", revision)
            if directory is not None:
                return directory
    return None


def hub_ids(name: str) -> list[str]:
    """Ids on the hub that a name may stand for."""
    return [name] if "/" in name else [f"sentence-transformers/{name}", name]


def hub_caches() -> list[Path]:
    """Folders that hold models fetched from the hub, by the variables its clients obey."""
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"
    )
    folders = [
        os.environ.get("SENTENCE_TRANSFORMERS_HOME"),
        os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"),
        os.path.join(home, "hub"),
    ]
    return [Path(os.path.expanduser(folder)) for folder in folders if folder]


def cached_models() -> list[tuple[str, Path]]:
    """List models fetched from the hub that can encode: their ids and directories."""
    found: dict[str, Path] = {}
    for cache in hub_caches():
        for folder in sorted(cache.glob("models--*")):
            id = folder.name.removeprefix("models--").replace("--", "/", 1)
            directory = _snapshot(folder, None)
            if directory is not None and (directory / MODULES).is_file():
                found.setdefault(id, directory)
    return sorted(found.items())


def _snapshot(folder: Path, revision: str | None) -> Path | None:
    """Find the snapshot of a revision in the hub's cache, if its weights are there."""
    commit = revision or "main"
    reference = folder / "refs" / commit
    if reference.is_file():
        commit = reference.read_text().strip()
    directory = folder / "snapshots" / commit
    if not directory.is_dir() and revision is not None:
        matching = sorted((folder / "snapshots").glob(f"{glob_escape(revision)}*"))
        directory = matching[0] if len(matching) == 1 else directory
    if not (directory / MODULES).is_file():
        # A cache that transformers has filled may lack what sentence-transformers would read:
        # only its own mark tells that there is no such file.
        known = folder / ".no_exist" / directory.name / MODULES
        if not known.is_file() or not (directory / CONFIG).is_file():
            return None
    try:
        return directory if ModelFiles(directory).is_complete else None
    except ModelError:
        return None


def glob_escape(text: str) -> str:
    """Escape what `Path.glob` would take for a pattern."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _below(path: str) -> str:
    """Refuse a path in a model's files that leads out of its folder."""
    if os.path.isabs(path) or ".." in Path(path).parts:
        raise ValueError(f"the path {path!r} leads out of the folder")
    return path


def _has_weights(directory: Path) -> bool:
    return any(next(directory.glob(pattern), None) for pattern in _WEIGHTS)


def _together(files: Iterable[Path]) -> str:
    """One fingerprint of several files, whatever they are called; of one file, its SHA-256."""
    prints = [file_fingerprint(path) for path in files]
    if len(prints) == 1:
        return prints[0]
    return f"sha256:{hashlib.sha256(' '.join(prints).encode()).hexdigest()}"


def _without_remarks(config: Any) -> Any:
    if isinstance(config, dict):
        return {k: _without_remarks(v) for k, v in config.items() if k not in _REMARKS}
    if isinstance(config, list):
        return [_without_remarks(item) for item in config]
    return config
