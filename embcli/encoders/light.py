"""BERT and its kin without torch: a forward pass in NumPy over memory-mapped weights.

Importing sentence-transformers takes seconds, which a single query does not repay.
"""

import json
import mmap
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from embcli.core.attention import (
    ACTIVATIONS,
    Array,
    attend,
    distance_buckets,
    gelu,
    identity,
    layer_norm,
    relu,
    sigmoid,
    silu,
    tanh,
)
from embcli.core.pooling import normalize_rows
from embcli.encoders import Kind
from embcli.encoders.model_files import MODULES, ModelFiles, Module
from embcli.encoders.tokens import POOLING, Tokens, choose_tokens
from embcli.errors import ModelError

_POOLINGS = {"cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"}
# sentence-transformers names the activation of a Dense module by its class.
_DENSE_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "torch.nn.modules.linear.Identity": identity,
    "torch.nn.modules.activation.Tanh": tanh,
    "torch.nn.modules.activation.ReLU": relu,
    "torch.nn.modules.activation.GELU": gelu,
    "torch.nn.modules.activation.SiLU": silu,
    "torch.nn.modules.activation.Sigmoid": sigmoid,
}
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


@dataclass(frozen=True)
class _Architecture:
    """Where an architecture keeps its parameters, and what it does differently.

    `prefix` may stand before all names, as the models with a head on top save them. `parts` are
    queries, keys, values, output, norm; both feed-forward maps, norm.
    """

    prefix: str
    tokenizer: str
    layers: str = "encoder.layer"
    parts: tuple[str, ...] = (
        "attention.self.query", "attention.self.key", "attention.self.value",
        "attention.output.dense", "attention.output.LayerNorm",
        "intermediate.dense", "output.dense", "output.LayerNorm",
    )  # fmt: skip
    token_types: bool = True
    counts_after_padding: bool = False
    relative_bias: str | None = None


_ARCHITECTURES = {
    "bert": _Architecture("bert", "BertTokenizer"),
    "electra": _Architecture("electra", "BertTokenizer"),
    "roberta": _Architecture("roberta", "RobertaTokenizer", counts_after_padding=True),
    "xlm-roberta": _Architecture("roberta", "XLMRobertaTokenizer", counts_after_padding=True),
    "camembert": _Architecture("roberta", "CamembertTokenizer", counts_after_padding=True),
    "mpnet": _Architecture(
        "mpnet",
        "MPNetTokenizer",
        parts=(
            "attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o",
            "attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
        ),
        token_types=False,
        counts_after_padding=True,
        relative_bias="encoder.relative_attention_bias.weight",
    ),
    "distilbert": _Architecture(
        "distilbert",
        "BertTokenizer",
        layers="transformer.layer",
        parts=(
            "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
            "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm",
        ),
        token_types=False,
    ),
}  # fmt: skip
_WORDS = "embeddings.word_embeddings.weight"
_POSITIONS = "embeddings.position_embeddings.weight"
_TYPES = "embeddings.token_type_embeddings.weight"
_FIRST_NORM = "embeddings.LayerNorm"
_PROJECTION = "embeddings_project"  # of ELECTRA, whose token table is narrower than its layers


class LightModel:
    """A sentence encoder that `supports` accepts, run one text at a time.

    Parameters
    ----------
    files : ModelFiles
    pooling : str, optional
        Instead of the model's own: sentence-transformers' words, several joined by "+". With
        "none" there are vectors of tokens, and only these.
    layer : int, optional
        Take the token vectors after that many layers; 0 takes those that enter the first.
    max_tokens : int, optional
        Cut texts after that many tokens, special ones and prompt included.

    Attributes
    ----------
    dim : int
        Number of components of a vector.
    truncated : int
        How many texts were cut so far.

    Raises
    ------
    ModelError
        The model has no such layer, no such pooling or fewer positions than `max_tokens`.

    Notes
    -----
    Weights stay in the file, which is mapped into memory; of the token table only the rows of
    the tokens at hand are read. Vectors differ from sentence-transformers' in float32 by
    rounding alone, about 1e-7. Where the prompt, left out of the pooling, leaves no token (it
    was cut itself), ``max`` gives zeros rather than minus infinity.
    """

    def __init__(
        self,
        files: ModelFiles,
        *,
        pooling: str | None = None,
        layer: int | None = None,
        max_tokens: int | None = None,
        normalize: bool = True,
    ) -> None:
        config = files.config
        kind = _ARCHITECTURES[files.architecture]
        tensors = _Tensors(_weights(files.modules[0]), kind.prefix)
        layers = files.layers or 0
        if layer is not None and not 0 <= layer <= layers:
            raise ModelError(f"{files.directory.name} has layers 0 to {layers}, not {layer}")
        self._poolings = (pooling or files.pooling or "mean").split("+")
        if unknown := set(self._poolings) - {*_POOLINGS, POOLING}:
            raise ModelError(
                f"no pooling called {unknown.pop()!r} (there are: {', '.join(sorted(_POOLINGS))})"
            )

        self._tensors = tensors
        self._heads = _heads(config)
        self._epsilon = float(config.get("layer_norm_eps", 1e-12))
        self._activation = ACTIVATIONS[_activation(config)]
        self._padding = _padding(files) if kind.counts_after_padding else None
        self._token_type = tensors[_TYPES][0] if kind.token_types else None
        self._first_norm = tensors.linear(_FIRST_NORM)
        self._projection = tensors.linear(_PROJECTION) if _projects(tensors) else None
        self._relative_bias = tensors[kind.relative_bias] if kind.relative_bias else None
        self._layers = [
            _Layer(*(tensors.linear(f"{kind.layers}.{number}.{part}") for part in kind.parts))
            for number in range(layers if layer is None else layer)
        ]

        module = next(module for module in files.modules if module.kind == "Pooling")
        self._pools_prompt = bool(module.config.get("include_prompt", True))
        # What follows the pooling is made for one vector a text.
        last = [] if pooling == POOLING else [_step(module) for module in files.modules[2:]]
        self._last_steps = [step for step in last if normalize or step is not None]
        width = (files.hidden_size or 0) * len(self._poolings)
        for step in filter(None, self._last_steps):
            if step.linear.weight.shape[1] != width:
                raise ModelError(
                    f"{files.directory.name} goes on from {step.linear.weight.shape[1]} "
                    f"components, but pooling {'+'.join(self._poolings)!r} gives {width}"
                )
            width = len(step.linear.weight)
        self.dim = width
        self.truncated = 0

        # The rows of padding and those before it serve no token.
        positions = tensors.shape(_POSITIONS)[0] - (
            0 if self._padding is None else self._padding + 1
        )
        if max_tokens is not None and max_tokens > positions:
            raise ModelError(
                f"{files.directory.name} has positions for {positions} tokens, not {max_tokens}"
            )
        self._tokenizer = _load_tokenizer(
            files, min(max_tokens or files.max_tokens or positions, positions)
        )

    @staticmethod
    def supports(files: ModelFiles) -> bool:
        """Say whether this model can be run here and gives what sentence-transformers would.

        Reads configurations and the header of the weights, loads nothing. In doubt, and for
        files that make no sense, the answer is no.
        """
        try:
            return (
                _runs_modules(files)
                and _runs_configuration(files)
                and _runs_tokenizer(files)
                and _holds_parameters(files)
            )
        except (ModelError, OSError, ArithmeticError, AttributeError, LookupError, TypeError,
                ValueError):  # fmt: skip
            return False

    def encode(self, texts: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        """Encode texts.

        Parameters
        ----------
        texts : sequence of str
        prompt : str, optional
            Put before every text.

        Returns
        -------
        vectors : float32 array, shape (len(texts), dim)
            As the model's modules give them, normalised only if one of them does that. Row i is
            ``texts[i]``; it does not depend on the others.
        """
        prompt = prompt or ""
        skipped = 0 if self._pools_prompt or not prompt else self._length_of_prompt(prompt)
        vectors = np.empty((len(texts), self.dim), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            encoding = self._tokenizer.encode(prompt + text)
            self.truncated += bool(encoding.overflowing)
            tokens = self._run(np.array(encoding.ids, np.int64))
            pooled = [_pool(tokens, pooling, skipped) for pooling in self._poolings]
            vector = np.concatenate(pooled)[None]
            for step in self._last_steps:
                vector = normalize_rows(vector) if step is None else step(vector)
            row[:] = vector[0]
        return vectors

    def encode_tokens(
        self, texts: Sequence[str], prompt: str | None = None, kind: Kind = "query"
    ) -> list[Tokens]:
        """Encode texts into the vectors of their tokens, as the last layer gives them.

        Parameters
        ----------
        texts : sequence of str
        prompt : str, optional
            Put before every text; its own tokens are left out.
        kind : {"document", "query"}
            See `choose_tokens`.
        """
        prompt = prompt or ""
        results = []
        for text in texts:
            encoding = self._tokenizer.encode(prompt + text)
            self.truncated += bool(encoding.overflowing)
            ends = np.array(encoding.offsets, np.int64).reshape(-1, 2) - len(prompt)
            outside = np.array(encoding.special_tokens_mask, np.bool_) | (ends[:, 1] <= 0)
            kept, spans = choose_tokens(text, ends.clip(0).tolist(), outside.tolist(), kind)
            vectors = self._run(np.array(encoding.ids, np.int64))[kept]
            results.append(Tokens(vectors, spans))
        return results

    def _length_of_prompt(self, prompt: str) -> int:
        """Tokens of the prompt on its own, as sentence-transformers counts them."""
        ids = self._tokenizer.encode(prompt).ids
        special = self._tokenizer.get_added_tokens_decoder()
        ends = bool(ids) and ids[-1] in special and special[ids[-1]].special
        return len(ids) - ends

    def _run(self, ids: NDArray[np.int64]) -> Array:
        """Token vectors after the last layer asked for, shape (len(ids), hidden_size)."""
        if not len(ids):  # a tokenizer without special tokens, an empty text
            return np.zeros((0, len(self._first_norm.bias)), np.float32)
        x = self._tensors.rows(_WORDS, ids)
        if self._token_type is not None:
            x += self._token_type
        x += self._tensors.rows(_POSITIONS, self._places(ids))
        x = layer_norm(x, *self._first_norm, self._epsilon)
        if self._projection is not None:
            x = self._projection(x)
        bias = None
        if self._relative_bias is not None:
            bias = self._relative_bias[distance_buckets(len(ids))].transpose(2, 0, 1)
        for layer in self._layers:
            attended = attend(layer.query(x), layer.key(x), layer.value(x), self._heads, bias)
            x += layer.output(attended)
            x = layer_norm(x, *layer.attention_norm, self._epsilon)
            x += layer.down(self._activation(layer.up(x)))
            x = layer_norm(x, *layer.norm, self._epsilon)
        return x

    def _places(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of the position table for every token."""
        if self._padding is None:
            return np.arange(len(ids))
        # A text may spell the padding token out; it is not counted.
        counted = ids != self._padding
        places: NDArray[np.int64] = np.cumsum(counted) * counted + self._padding
        return places


class _Linear(NamedTuple):
    """An affine map, or the scale and shift of a norm."""

    weight: Array  # [out, in], or [dim]
    bias: Array  # [out]

    def __call__(self, x: Array) -> Array:
        y: Array = x @ self.weight.T
        y += self.bias
        return y


class _Layer(NamedTuple):
    query: _Linear
    key: _Linear
    value: _Linear
    output: _Linear
    attention_norm: _Linear
    up: _Linear
    down: _Linear
    norm: _Linear


class _Dense(NamedTuple):
    """The module of that name."""

    linear: _Linear
    activation: Callable[[Array], Array]

    def __call__(self, vectors: Array) -> Array:
        return self.activation(self.linear(vectors))


class _Tensors:
    """The parameters in a safetensors file, mapped into memory rather than read.

    Parameters
    ----------
    path : Path
    prefix : str
        Left out of the names, where they begin with it.

    References
    ----------
    https://huggingface.co/docs/safetensors/index#format
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(size))
            self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._start = 8 + size
        self._entries = {
            # TensorFlow's names for the parameters of a norm, which early checkpoints keep.
            name.removeprefix(f"{prefix}.")
            .replace("LayerNorm.gamma", "LayerNorm.weight")
            .replace("LayerNorm.beta", "LayerNorm.bias"): entry
            for name, entry in entries.items()
        }

    def __contains__(self, name: str) -> bool:
        return self._entries.get(name, {}).get("dtype") in _DTYPES

    def __getitem__(self, name: str) -> Array:
        """Parameters as float32, not copied if that is what they are."""
        return _as_float32(self._stored(name))

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._entries[name]["shape"])

    def rows(self, name: str, numbers: NDArray[np.int64]) -> Array:
        """Copy some rows of a table as float32, reading no others."""
        return _as_float32(self._stored(name)[numbers])

    def linear(self, name: str) -> _Linear:
        weight = self[f"{name}.weight"]
        bias = f"{name}.bias"
        return _Linear(weight, self[bias] if bias in self else np.zeros(len(weight), np.float32))

    def _stored(self, name: str) -> NDArray[Any]:
        entry = self._entries[name]
        begin, end = entry["data_offsets"]
        dtype = _DTYPES[entry["dtype"]]
        count = (end - begin) // dtype.itemsize
        flat: NDArray[Any] = np.frombuffer(self._file, dtype, count, self._start + begin)
        return flat.reshape(tuple(entry["shape"]))


def _as_float32(stored: NDArray[Any]) -> Array:
    if stored.dtype.kind == "u":  # bfloat16 is the upper half of a float32
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32, copy=False)


def _pool(tokens: Array, pooling: str, skipped: int) -> Array:
    """Make one vector of the token vectors but the first `skipped`.

    Parameters
    ----------
    tokens : float32 array, shape (n, dim)
    pooling : str
        One of sentence-transformers' words.
    skipped : int

    Returns
    -------
    vector : float32 array, shape (dim,)
    """
    kept = tokens[skipped:]
    result: Array
    match pooling if len(kept) else "none":
        case "none":
            result = tokens[0] if pooling == "cls" and len(tokens) else kept.sum(axis=0)
        case "cls":
            result = kept[0]
        case "lasttoken":
            result = kept[-1]
        case "max":
            result = kept.max(axis=0)
        case "mean":
            result = kept.sum(axis=0) / np.float32(len(kept))
        case "mean_sqrt_len_tokens":
            result = kept.sum(axis=0) / np.sqrt(np.float32(len(kept)))
        case _:  # weightedmean: by position, the prompt's included
            weights = np.arange(skipped + 1, len(tokens) + 1, dtype=np.float32)
            result = weights @ kept / weights.sum()
    return result


def _step(module: Module) -> _Dense | None:
    """Load a module that follows the pooling; None stands for Normalize."""
    if module.kind == "Normalize":
        return None
    activation = _DENSE_ACTIVATIONS[_dense_activation(module)]
    return _Dense(_Tensors(_weights(module)).linear("linear"), activation)


def _weights(module: Module) -> Path:
    return module.directory / "model.safetensors"


def _activation(config: dict[str, Any]) -> str:
    return str(config.get("hidden_act", config.get("activation", "gelu")))


def _dense_activation(module: Module) -> str:
    return str(module.config.get("activation_function", "torch.nn.modules.activation.Tanh"))


def _heads(config: dict[str, Any]) -> int:
    return int(config.get("num_attention_heads") or config["n_heads"])


def _padding(files: ModelFiles) -> int:
    """Find the number of the padding token; MPNet's is fixed in its code."""
    return 1 if files.architecture == "mpnet" else int(files.config.get("pad_token_id", 1))


def _projects(tensors: _Tensors) -> bool:
    return f"{_PROJECTION}.weight" in tensors


# What is supported ------------------------------------------------------------------------------


def _runs_modules(files: ModelFiles) -> bool:
    """Whether it is Transformer, Pooling, and then Dense and Normalize in any order."""
    if (files.directory / MODULES).is_file():
        for entry in _json(files.directory / MODULES):
            # Classes of other packages may share the names, but not what they do.
            if not entry["type"].startswith("sentence_transformers.") or entry.get("kwargs"):
                return False
    first, *rest = files.modules
    kinds = [module.kind for module in rest]
    return (
        first.kind == "Transformer"
        and kinds[:1] == ["Pooling"]
        and set(kinds[1:]) <= {"Dense", "Normalize"}
        and _runs_transformer(first.config)
        and set((files.pooling or "").split("+")) <= _POOLINGS
        and all(_runs_step(module) for module in rest[1:])
    )


def _runs_transformer(config: dict[str, Any]) -> bool:
    text = {"method": "forward", "method_output_name": "last_hidden_state"}
    plain: dict[str, Any] = {
        "transformer_task": "feature-extraction",
        "module_output_name": "token_embeddings",
        "modality_config": {"text": text},
    }
    ours = {"max_seq_length", "do_lower_case", "unpad_inputs"}  # the last is about speed
    return all(not value or key in ours or value == plain.get(key) for key, value in config.items())


def _runs_step(module: Module) -> bool:
    config = module.config
    place = "sentence_embedding"
    if any((config.get(f"module_{end}_name") or place) != place for end in ("input", "output")):
        return False
    return module.kind == "Normalize" or (
        _dense_activation(module) in _DENSE_ACTIVATIONS
        and not config.get("use_residual")
        and "linear.weight" in (tensors := _Tensors(_weights(module)))
        and ("linear.bias" in tensors) == bool(config.get("bias", True))
    )


def _runs_configuration(files: ModelFiles) -> bool:
    config = files.config
    directory = files.modules[0].directory
    other = (
        "auto_map", "is_decoder", "add_cross_attention", "is_encoder_decoder", "pruned_heads",
        "quantization_config", "adapters", "text_config",
    )  # fmt: skip
    hidden = files.hidden_size
    return (
        files.architecture in _ARCHITECTURES
        and not any(config.get(key) for key in other)
        and config.get("position_embedding_type", "absolute") == "absolute"
        and _activation(config) in ACTIVATIONS
        and hidden is not None
        and hidden % _heads(config) == 0
        and files.layers is not None
        and _padding(files) >= 0
        and not (directory / "adapter_config.json").exists()
    )


def _holds_parameters(files: ModelFiles) -> bool:
    """Whether one file holds every parameter the forward pass takes, unquantised."""
    kind = _ARCHITECTURES[files.architecture]
    tensors = _Tensors(_weights(files.modules[0]), kind.prefix)
    needed = [_WORDS, _POSITIONS, *([_TYPES] if kind.token_types else [])]
    needed += [kind.relative_bias] if kind.relative_bias else []
    linear = [_FIRST_NORM, *([_PROJECTION] if _projects(tensors) else [])]
    linear += [f"{kind.layers}.{n}.{part}" for n in range(files.layers or 0) for part in kind.parts]
    needed += [f"{name}.{end}" for name in linear for end in ("weight", "bias")]
    width = tensors.shape(_WORDS)[1]
    return all(name in tensors for name in needed) and (
        _projects(tensors) or width == files.hidden_size
    )


# Tokenizers -------------------------------------------------------------------------------------
#
# transformers rebuilds the tokenizers of some classes from the vocabulary and the settings in
# tokenizer_config.json, whatever normalizer and pre-tokenizer tokenizer.json names. Where the two
# disagree the file alone would mislead.

_TOKENIZER = "tokenizer.json"
_KEY = re.compile(r'[\s,]*"(\w+)"\s*:\s*')
_WORD_PIECES = {"BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MPNetTokenizer"}
_UNIGRAMS = {"XLMRobertaTokenizer", "CamembertTokenizer"}
_AS_IT_IS = {"PreTrainedTokenizerFast", "TokenizersBackend"}
_RUNS_OF_SPACES = {"Regex": " {2,}"}


def _runs_tokenizer(files: ModelFiles) -> bool:
    """Whether tokenizer.json alone says how transformers would tokenize."""
    directory = files.modules[0].directory
    settings = _tokenizer_settings(directory)
    if settings.get("auto_map") or settings.get("split_special_tokens"):
        return False
    steps = _pipeline(directory / _TOKENIZER)
    name = _tokenizer_class(files, settings)
    if name in _AS_IT_IS:
        return not {"add_bos_token", "add_eos_token"} & settings.keys()
    if not steps["post_processor"]:
        return False
    cleaners, splitters = (_flat(steps[key]) for key in ("normalizer", "pre_tokenizer"))
    kinds = [splitter["type"] for splitter in splitters]
    if name in _WORD_PIECES:
        expected = {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
            "strip_accents": settings.get("strip_accents"),
            "lowercase": settings.get("do_lower_case", True),
        }
        return cleaners == [expected] and kinds == ["BertPreTokenizer"]
    if name == "RobertaTokenizer":
        spaced = settings.get("add_prefix_space", False)
        return (
            not cleaners
            and kinds == ["ByteLevel"]
            and splitters[0].get("use_regex", True)
            and splitters[0]["add_prefix_space"] == spaced
        )
    return name in _UNIGRAMS and _splits_at_spaces(cleaners, splitters)


def _splits_at_spaces(
    cleaners: Sequence[dict[str, Any]], splitters: Sequence[dict[str, Any]]
) -> bool:
    """Whether the steps do what SentencePiece does by default, written in one of several ways.

    Some tokenizer.json split at white space first and the others strip the end and replace runs
    of spaces, which then comes to the same.
    """
    harmless = all(
        step["type"] == "Precompiled"
        or (step["type"] == "Strip" and not step["strip_left"])
        or (step["type"] == "Replace" and step["pattern"] == _RUNS_OF_SPACES)
        for step in cleaners
    )
    *before, last = splitters
    return (
        harmless
        and [step["type"] for step in before] in ([], ["WhitespaceSplit"])
        and last["type"] == "Metaspace"
        and last["replacement"] == "▁"
        and last.get("prepend_scheme", "always") == "always"
        and last.get("add_prefix_space", True)
    )


def _load_tokenizer(files: ModelFiles, max_tokens: int) -> Tokenizer:
    directory = files.modules[0].directory
    settings = _tokenizer_settings(directory)
    tokenizer = Tokenizer.from_file(str(directory / _TOKENIZER))
    if _tokenizer_class(files, settings) in _UNIGRAMS:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), tokenizer.pre_tokenizer]
        )
    if files.modules[0].config.get("do_lower_case"):
        # What sentence-transformers does, unless that is a step already.
        steps = _flat(_pipeline(directory / _TOKENIZER)["normalizer"])
        if all(step["type"] != "Lowercase" for step in steps):
            before = [tokenizer.normalizer] if tokenizer.normalizer else []
            tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
    side = settings.get("truncation_side") or (tokenizer.truncation or {}).get("direction")
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens, direction=side or "right")
    return tokenizer


def _tokenizer_class(files: ModelFiles, settings: dict[str, Any]) -> str:
    name = settings.get("tokenizer_class") or files.config.get("tokenizer_class")
    if name is None:
        return _ARCHITECTURES[files.architecture].tokenizer
    return name if name in _AS_IT_IS else str(name).removesuffix("Fast")


def _tokenizer_settings(directory: Path) -> dict[str, Any]:
    path = directory / "tokenizer_config.json"
    return dict(_json(path)) if path.is_file() else {}


def _pipeline(path: Path) -> dict[str, Any]:
    """Read what tokenizer.json says before the vocabulary, which may have megabytes."""
    text = path.read_text("utf-8")
    read = json.JSONDecoder().raw_decode
    found: dict[str, Any] = {}
    place = text.index("{") + 1
    while (key := _KEY.match(text, place)) and key[1] != "model":
        found[key[1]], place = read(text, key.end())
    return found


def _flat(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    """List the steps of a sequence, or the one there is."""
    if step is None:
        return []
    if step["type"] != "Sequence":
        return [step]
    return list(step.get("normalizers") or step.get("pretokenizers") or ())


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))
