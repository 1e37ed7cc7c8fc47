"""The model itself, in PyTorch. Importing this module takes seconds."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial
from threading import Event
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Encoding, Tokenizer

from embcli.core.batching import batch_end, longest_first, padded
from embcli.encoders import EncoderOptions, Kind
from embcli.encoders.model_files import ModelFiles
from embcli.encoders.tokens import POOLING, Tokens, choose_tokens
from embcli.errors import ModelError, UsageError

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# Tokens at once: on CPUs what stays in the caches, on GPUs what keeps every unit busy.
BATCH_TOKENS = {"cpu": 4096, "cuda": 1 << 16, "mps": 1 << 14}
_TOKENS_PER_IMAGE = 64
_CHARACTERS_PER_TOKEN = 3
_CHARACTERS_TO_FILL = 64
_LEAST_COSINE = 0.999
_SAMPLES = 12
_SAMPLE_CHARACTERS = 1000


class TorchModel:
    """A loaded model and the batches that go through it.

    Parameters
    ----------
    files : ModelFiles
    options : EncoderOptions
    pooling : str, optional
        Instead of the model's own; with "none" there are vectors of tokens, and only these.
    layer : int, optional
        Take token vectors after this many layers.
    max_tokens : int, optional
    note : callable
        Told what a user should know of how the model is run.
    cancelled : Event
        Once set, no further batch is begun.
    keep_exact : bool
        Keep a few float32 vectors for comparison, in `exact`.

    Attributes
    ----------
    truncated : int
        How many documents were cut so far.
    exact : tuple or None
        A few texts, their prompt, and their vectors in float32, before anything is cut off or
        normalised by the caller. Vectors of tokens are those of all texts in a row.

    Raises
    ------
    ModelError
        The model cannot be loaded.
    UsageError
        There is no such device here.
    """

    def __init__(
        self,
        files: ModelFiles,
        options: EncoderOptions,
        *,
        pooling: str | None,
        layer: int | None,
        max_tokens: int | None,
        note: Callable[[str], None],
        cancelled: Event,
        keep_exact: bool,
    ) -> None:
        self.truncated = 0
        self.exact: tuple[list[str], str, NDArray[np.float32]] | None = None
        self._note = note
        self._cancelled = cancelled
        self._keep_exact = keep_exact
        self._per_token = pooling == POOLING
        self._devices = find_devices(options.device)
        self._device = self._devices[0]
        self._dtype = options.dtype
        self._settled = False
        self._model = self._load(files, options)
        if max_tokens is not None and self._model.max_seq_length is not None:
            self._model.max_seq_length = max_tokens
        self._max_tokens = self._model.max_seq_length
        self._change(None if self._per_token else pooling, layer, options.normalize)
        self._tokenizer = self._own_tokenizer()
        if self._per_token and (self._tokenizer is None or len(self._devices) > 1):
            raise UsageError(
                "--pooling none takes one device, not several"
                if self._tokenizer is not None
                else "this model does not tell which token is where in a text: no --pooling none"
            )
        self._budget = options.batch_tokens or BATCH_TOKENS.get(self._device.type, 8192)
        self._pool: Any = None

    @property
    def dim(self) -> int:
        """Number of components of a vector."""
        dim = self._model.get_embedding_dimension()
        if dim is None:
            dim = self._forward(["text"], "", "document").shape[1]
        return int(dim)

    def facts(self) -> dict[str, Any]:
        """Where and how precisely it computes, and with which versions."""
        return {
            "device": ",".join(map(str, self._devices)),
            "dtype": str(self._backbone_dtype()).removeprefix("torch."),
            "batch_tokens": self._budget,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def encode(self, inputs: list[Any], prompt: str, kind: Kind) -> NDArray[np.float32]:
        """Encode texts or pictures.

        Parameters
        ----------
        inputs : list of str or of PIL.Image
        prompt : str
            Put before every text.
        kind : {"document", "query"}

        Returns
        -------
        vectors : float32 array, shape (len(inputs), dim)

        Raises
        ------
        ModelError
            A single input does not fit into memory, or the model gives values that are no
            numbers.
        """
        with quiet(), torch.inference_mode():
            if not self._settled:
                self._settle(inputs, prompt, kind)
            if len(self._devices) > 1:
                vectors = self._encode_in_pool(inputs, prompt, kind)
            else:
                vectors = self._forward(inputs, prompt, kind)
        self._check_finite(vectors)
        return vectors

    def encode_tokens(self, texts: list[str], prompt: str, kind: Kind) -> list[Tokens]:
        """Encode texts into the vectors of their tokens, as the last layer gives them.

        Parameters and errors are as of `encode`; the tokens are those `choose_tokens` keeps, but
        for those of the prompt.
        """
        with quiet(), torch.inference_mode():
            if not self._settled:
                self._settle(texts, prompt, kind)
            tokens = self._forward_tokens(texts, prompt, kind)
        for of_text in tokens:
            self._check_finite(of_text.vectors)
        return tokens

    def _check_finite(self, vectors: NDArray[np.float32]) -> None:
        if not np.isfinite(vectors).all():
            raise ModelError(
                f"the model gives values that are no numbers in {self.facts()['dtype']}",
                hint="--dtype float32",
            )

    def encode_vocabulary(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Encode single tokens by number, with special ones around each.

        Parameters
        ----------
        tokens : int64 array, shape (n,)

        Returns
        -------
        vectors : float32 array, shape (n, dim)

        Raises
        ------
        ModelError
            The model does not take tokens by number.
        """
        if self._tokenizer is None:
            raise ModelError("this model does not take single tokens")
        around = self._tokenizer.encode("")
        # Any text shows how many of the special tokens stand before it.
        probe = self._tokenizer.encode("a")
        before = probe.special_tokens_mask.index(0) if 0 in probe.special_tokens_mask else 0
        parts = []
        with quiet(), torch.inference_mode():
            step = max(1, self._budget // (len(around.ids) + 1))
            for start in range(0, len(tokens), step):
                some = tokens[start : start + step]
                ids = np.repeat(np.array([around.ids], np.int64), len(some), axis=0)
                ids = np.insert(ids, before, some, axis=1)
                parts.append(self._run(self._features(ids), "document").float().cpu().numpy())
        return np.concatenate(parts)

    def _features(self, ids: NDArray[np.int64]) -> dict[str, Any]:
        """Make what the model takes of rows of tokens that are equally long."""
        first: Any = next(iter(self._model))
        columns = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        if "token_type_ids" in first.tokenizer.model_input_names:
            columns["token_type_ids"] = np.zeros_like(ids)
        tensors = {name: torch.from_numpy(column) for name, column in columns.items()}
        return {**tensors, "modality": "text"}

    # Loading

    def _load(self, files: ModelFiles, options: EncoderOptions) -> SentenceTransformer:
        # A reference to compare with is needed unless a precision is insisted on.
        dtype = torch.float32 if self._dtype == "auto" or self._keep_exact else DTYPES[self._dtype]
        try:
            with quiet():
                model = SentenceTransformer(
                    str(files.directory),
                    device=str(self._device),
                    trust_remote_code=options.trust_remote_code,
                    local_files_only=not options.trust_remote_code,
                    model_kwargs={"dtype": dtype, **options.model_kwargs},
                    processor_kwargs=dict(options.processor_kwargs),
                    config_kwargs=dict(options.config_kwargs),
                )
        except ImportError as error:
            raise ModelError(
                f"model {files.directory} needs a package that is not installed ({_first(error)})",
                hint="pip install it",
            ) from error
        except Exception as error:
            # Anything can come out of a model's files, remote code included.
            if "trust_remote_code" in str(error):
                raise ModelError(
                    f"model {files.directory} comes with code of its own",
                    hint="if you trust it: --trust-remote-code",
                ) from error
            no_room = isinstance(error, RuntimeError) and _is_out_of_memory(error)
            raise ModelError(
                f"model {files.directory} cannot be loaded "
                f"({type(error).__name__}: {_first(error)})",
                hint="--dtype bfloat16, or --device cpu" if no_room else None,
            ) from error
        return model.eval()

    def _change(self, pooling: str | None, layer: int | None, normalize: bool | None) -> None:
        """Change the steps of the model as the user wants them."""
        for module in self._model.modules():
            if isinstance(module, Pooling) and pooling is not None:
                module.pooling_mode = pooling
                module.pooling_output_dimension = module.embedding_dimension
        for transformer in self._transformers():
            if layer is not None:
                transformer.model.config.output_hidden_states = True
            # Pooling is done in float32, whatever the precision of the layers.
            transformer.register_forward_hook(partial(_take_tokens, layer))
        if normalize is False:
            # The caller normalises; what the model does on its own is left out.
            for name, module in list(self._model.named_children()):
                if isinstance(module, Normalize):
                    delattr(self._model, name)

    def _transformers(self) -> list[Transformer]:
        return [m for m in self._model.modules() if isinstance(m, Transformer)]

    def _own_tokenizer(self) -> Tokenizer | None:
        """Make a tokenizer that gives lists of numbers, if texts may take that way."""
        first = next(iter(self._model))
        if not isinstance(first, Transformer) or first.query_expansion is not None:
            return None
        if first.modality_config.get("text", {}).get("method") != "forward":
            return None
        if "message" in first.modality_config or first.can_flatten_inputs:
            return None
        backend = getattr(first.tokenizer, "backend_tokenizer", None)
        if first.processor is not first.tokenizer or backend is None:
            return None
        tokenizer = Tokenizer.from_str(backend.to_str())
        tokenizer.no_padding()
        if self._max_tokens is None or self._max_tokens > 1 << 30:
            tokenizer.no_truncation()
        else:
            side = getattr(first.tokenizer, "truncation_side", "right")
            tokenizer.enable_truncation(self._max_tokens, direction=side)
        return tokenizer

    # Precision

    def _settle(self, inputs: list[Any], prompt: str, kind: Kind) -> None:
        """Choose the precision, comparing the fast one with float32 on a few of the inputs."""
        self._settled = True
        fast = self._fast_dtype() if self._dtype == "auto" else DTYPES[self._dtype]
        step = -(-len(inputs) // _SAMPLES)
        samples = [
            sample[:_SAMPLE_CHARACTERS] if isinstance(sample, str) else sample
            for sample in inputs[::step]
        ]
        compared = self._dtype == "auto" and fast is not torch.float32
        if not compared and not self._keep_exact:
            self._convert(fast)
            return
        cut = self.truncated
        exact = self._sampled(samples, prompt, kind)
        if all(isinstance(sample, str) for sample in samples):
            self.exact = samples, prompt, exact
        if fast is not torch.float32 and not compared:
            self._convert(fast)
        elif fast is not torch.float32:
            self._convert_if_close(fast, samples, prompt, kind, exact)
        self.truncated = cut

    def _convert_if_close(
        self,
        fast: torch.dtype,
        samples: list[Any],
        prompt: str,
        kind: Kind,
        exact: NDArray[np.float32],
    ) -> None:
        before = [transformer.model for transformer in self._transformers()]
        try:
            self._convert(fast, copied=True)
            close = self._is_close(samples, prompt, kind, exact)
        except (RuntimeError, ModelError) as error:
            cause = error if isinstance(error, RuntimeError) else error.__cause__
            if not isinstance(cause, RuntimeError) or not _is_out_of_memory(cause):
                raise
            self._restore(before)
            self._convert(fast)
            self._note(f"no room to compare {_name(fast)} with float32; using it all the same")
            return
        if not close:
            self._restore(before)
            self._note(f"{_name(fast)} strays from float32 with this model; using float32")

    def _restore(self, models: list[Any]) -> None:
        for transformer, model in zip(self._transformers(), models, strict=True):
            transformer.model = model
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _is_close(
        self, samples: list[Any], prompt: str, kind: Kind, exact: NDArray[np.float32]
    ) -> bool:
        try:
            fast = self._sampled(samples, prompt, kind)
        except RuntimeError as error:
            if _is_out_of_memory(error):
                raise
            return False  # an operation that does not exist in this precision
        lengths = np.linalg.norm(fast, axis=1) * np.linalg.norm(exact, axis=1)
        dots = np.einsum("ij,ij->i", fast, exact)
        return bool(np.all(dots >= _LEAST_COSINE * lengths)) and bool(np.isfinite(fast).all())

    def _sampled(self, samples: list[Any], prompt: str, kind: Kind) -> NDArray[np.float32]:
        """Encode samples into rows that can be compared."""
        if not self._per_token:
            return self._forward(samples, prompt, kind)
        return np.concatenate([t.vectors for t in self._forward_tokens(samples, prompt, kind)])

    def _fast_dtype(self) -> torch.dtype:
        kind = self._device.type
        if kind == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            return torch.bfloat16 if native else torch.float16
        if kind == "mps":
            return torch.float16
        if kind == "cpu":
            able = torch.cpu.get_capabilities()
            if able.get("amx_bf16") or able.get("avx512_bf16") or able.get("bf16"):
                return torch.bfloat16
        return torch.float32

    def _convert(self, dtype: torch.dtype, *, copied: bool = False) -> None:
        for transformer in self._transformers():
            if self._backbone_dtype() is not dtype:
                model: Any = copy.deepcopy(transformer.model) if copied else transformer.model
                transformer.model = model.to(dtype)

    def _backbone_dtype(self) -> torch.dtype:
        for transformer in self._transformers():
            parameter = next(transformer.model.parameters(), None)
            if parameter is not None:
                return parameter.dtype
        return torch.float32

    # Batches

    def _forward(self, inputs: list[Any], prompt: str, kind: Kind) -> NDArray[np.float32]:
        """Run every input through the model, in batches of like lengths."""
        texts = all(isinstance(item, str) for item in inputs)
        if texts and self._tokenizer is not None:
            encodings = self._encodings([prompt + text for text in inputs], kind)
            lengths, batch_of = self._tokenized(encodings, prompt)
        else:
            lengths, batch_of = self._raw(inputs, prompt, kind)
        order = longest_first(lengths)
        stacked = self._in_batches(
            lengths[order], lambda part: self._run(batch_of(order[part]), kind)
        )
        vectors = np.empty_like(stacked)
        vectors[order] = stacked
        return vectors

    def _forward_tokens(self, texts: list[str], prompt: str, kind: Kind) -> list[Tokens]:
        """Do the same, and keep the vectors of tokens."""
        encodings = self._encodings([prompt + text for text in texts], kind)
        lengths, batch_of = self._tokenized(encodings, prompt)
        kept, spans = [], []
        for text, encoding in zip(texts, encodings, strict=True):
            ends = np.array(encoding.offsets, np.int64).reshape(-1, 2) - len(prompt)
            outside = np.array(encoding.special_tokens_mask, np.bool_) | (ends[:, 1] <= 0)
            chosen = choose_tokens(text, ends.clip(0).tolist(), outside.tolist(), kind)
            kept.append(chosen[0])
            spans.append(chosen[1])
        order = longest_first(lengths)
        left = self._pads_left

        def run(part: slice) -> torch.Tensor:
            features = batch_of(order[part])
            mask = np.zeros(features["input_ids"].shape, np.bool_)
            for row, i in enumerate(order[part].tolist()):
                width = len(kept[i])
                mask[row, slice(-width, None) if left else slice(0, width)] = kept[i]
            return self._run_tokens(features)[torch.from_numpy(mask).to(self._device)]

        stacked = self._in_batches(lengths[order], run)
        ends = np.cumsum([len(spans[i]) for i in order.tolist()])
        parts = dict(zip(order.tolist(), np.split(stacked, ends[:-1]), strict=True))
        return [Tokens(parts[i], spans[i]) for i in range(len(texts))]

    def _in_batches(
        self, lengths: NDArray[np.int64], run: Callable[[slice], torch.Tensor]
    ) -> NDArray[np.float32]:
        """Run what is of these falling lengths, in batches, and put the rows together."""
        parts: list[torch.Tensor] = []
        start = 0
        while start < len(lengths):
            if self._cancelled.is_set():
                raise CancelledError
            end = batch_end(lengths, start, self._budget)
            try:
                parts.append(run(slice(start, end)))
            except RuntimeError as error:
                self._make_room(error, int(lengths[start]), end - start)
                continue
            start = end
        # One transfer at the end: the device never waits for the host in between.
        stacked: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
        return stacked

    def _run(self, features: dict[str, Any], kind: Kind) -> torch.Tensor:
        vectors: torch.Tensor = self._model(self._moved(features), task=kind)["sentence_embedding"]
        return vectors

    def _run_tokens(self, features: dict[str, Any]) -> torch.Tensor:
        """Run the transformer alone: what follows is made for one vector a text."""
        first: Any = next(iter(self._model))
        vectors: torch.Tensor = first(self._moved(features))["token_embeddings"]
        return vectors

    def _moved(self, features: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value.to(self._device, non_blocking=True)
            if isinstance(value, torch.Tensor)
            else value
            for name, value in features.items()
        }

    def _make_room(self, error: RuntimeError, longest: int, rows: int) -> None:
        """Halve the batches if that is what helps; otherwise raise."""
        if not _is_out_of_memory(error):
            raise error
        if rows == 1:
            raise ModelError(
                f"an input of {longest} tokens does not fit into the memory of {self._device}",
                hint=f"--max-tokens {max(1, longest // 2)}, or --device cpu",
            ) from error
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._budget = max(1, min(self._budget, longest * rows) // 2)
        self._note(f"out of memory: going on with batches of {self._budget} tokens")

    @property
    def _pads_left(self) -> bool:
        first: Any = next(iter(self._model))
        return bool(first.tokenizer.padding_side == "left")

    def _encodings(self, texts: list[str], kind: Kind) -> list[Encoding]:
        """Tokenize once."""
        assert self._tokenizer is not None
        # The fast one does not tell where tokens are.
        encode = (
            self._tokenizer.encode_batch if self._per_token else self._tokenizer.encode_batch_fast
        )
        encodings: list[Encoding] = encode(list(map(self._beginning, texts)))
        for i in range(len(texts)):
            # Only if that was not enough to fill the model is the rest of any use.
            if not encodings[i].overflowing and len(self._beginning(texts[i])) < len(texts[i]):
                encodings[i] = self._tokenizer.encode(texts[i])
        if kind == "document":
            self.truncated += sum(bool(e.overflowing) for e in encodings)
        return encodings

    def _tokenized(
        self, encodings: list[Encoding], prompt: str
    ) -> tuple[NDArray[np.int64], Callable[[NDArray[np.int64]], dict[str, Any]]]:
        """Make batches, padded from the numbers."""
        lengths = np.fromiter((len(e.ids) for e in encodings), np.int64, len(encodings))
        lengths = padded(lengths, self._max_tokens or 1 << 30)
        first: Any = next(iter(self._model))
        names = first.tokenizer.model_input_names
        pad = first.tokenizer.pad_token_id or 0
        left = self._pads_left
        extra = {}
        if prompt and any(isinstance(m, Pooling) and not m.include_prompt for m in self._model):
            extra = {"prompt_length": self._model.preprocess([""], prompt=prompt)["prompt_length"]}

        def batch_of(chosen: NDArray[np.int64]) -> dict[str, Any]:
            width = int(lengths[chosen].max())
            shape = (len(chosen), width)
            columns = {
                "input_ids": np.full(shape, pad, np.int64),
                "attention_mask": np.zeros(shape, np.int64),
            }
            if "token_type_ids" in names:
                columns["token_type_ids"] = np.zeros(shape, np.int64)
            for row, i in enumerate(chosen.tolist()):
                ids = encodings[i].ids
                place = slice(width - len(ids), None) if left else slice(0, len(ids))
                columns["input_ids"][row, place] = ids
                columns["attention_mask"][row, place] = 1
                if "token_type_ids" in columns:
                    columns["token_type_ids"][row, place] = encodings[i].type_ids
            pinned = self._device.type == "cuda"
            tensors = {name: torch.from_numpy(column) for name, column in columns.items()}
            if pinned:
                tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
            return {**tensors, **extra, "modality": "text"}

        return lengths, batch_of

    def _beginning(self, text: str) -> str:
        """Cut a very long text where the model does not look; its tokens would fill memory."""
        most = (self._max_tokens or 1 << 30) * _CHARACTERS_TO_FILL
        assert self._tokenizer is not None
        truncation = self._tokenizer.truncation
        if len(text) <= most or truncation is None or truncation["direction"] != "right":
            return text
        return text[: max(text.rfind(" ", 0, most), 0) or len(text)]

    def _raw(
        self, inputs: list[Any], prompt: str, kind: Kind
    ) -> tuple[NDArray[np.int64], Callable[[NDArray[np.int64]], dict[str, Any]]]:
        """Let the model prepare its inputs itself; lengths are then estimates."""
        most = self._max_tokens or 1 << 30
        lengths = np.array(
            [
                min(most, len(item) // _CHARACTERS_PER_TOKEN + 3)
                if isinstance(item, str)
                else _TOKENS_PER_IMAGE
                for item in inputs
            ],
            np.int64,
        )
        if kind == "document":
            self.truncated += self._count_truncated(inputs, prompt)

        def batch_of(chosen: NDArray[np.int64]) -> dict[str, Any]:
            batch = [inputs[i] for i in chosen.tolist()]
            return dict(self._model.preprocess(batch, prompt=prompt or None, task=kind))

        return lengths, batch_of

    def _count_truncated(self, inputs: list[Any], prompt: str) -> int:
        texts = [prompt + item for item in inputs if isinstance(item, str)]
        processor = getattr(self._model, "tokenizer", None)
        tokenizer = getattr(processor, "tokenizer", processor)
        if not texts or self._max_tokens is None or not callable(tokenizer):
            return 0
        encoded = tokenizer(texts, truncation=False, padding=False)["input_ids"]
        return sum(len(ids) > self._max_tokens for ids in encoded)

    def _encode_in_pool(self, inputs: list[Any], prompt: str, kind: Kind) -> NDArray[np.float32]:
        """Share the work among several devices, in processes of sentence-transformers' own."""
        if self._pool is None:
            names = [str(device) for device in self._devices]
            self._pool = self._model.start_multi_process_pool(names)
        if kind == "document":
            self.truncated += self._count_truncated(inputs, prompt)
        sizes = [len(i) // _CHARACTERS_PER_TOKEN if isinstance(i, str) else 64 for i in inputs]
        longest = min(max(sizes) + 3, self._max_tokens or 1 << 30)
        # Neighbours of like lengths, dealt out in portions: each worker sorts its own portion.
        order = longest_first(np.array(sizes))
        vectors = self._model.encode(
            [inputs[i] for i in order.tolist()],
            prompt=prompt or None,
            pool=self._pool,
            batch_size=max(1, self._budget // longest),
            task=kind,
        )
        result = np.empty(vectors.shape, np.float32)
        result[order] = vectors
        return result

    def tokenizer(self) -> Tokenizer | None:
        """Tokenizer of models whose files have none that can be read without transformers."""
        tokenizer = getattr(self._model, "tokenizer", None)
        backend = getattr(getattr(tokenizer, "tokenizer", tokenizer), "backend_tokenizer", None)
        return None if backend is None else Tokenizer.from_str(backend.to_str())

    def close(self) -> None:
        """Stop the processes of the pool, if there are any."""
        if self._pool is not None:
            self._model.stop_multi_process_pool(self._pool)
            self._pool = None


def _take_tokens(
    layer: int | None, module: Any, arguments: Any, features: dict[str, Any]
) -> dict[str, Any]:
    """Take the token vectors of a layer, in float32."""
    layers = features.pop("all_layer_embeddings", None)
    if layer is not None and layers is not None:
        features["token_embeddings"] = layers[layer]
    for name in ("token_embeddings", "sentence_embedding"):
        if name in features:
            features[name] = features[name].float()
    return features


def find_devices(wanted: str | None) -> list[torch.device]:
    """Resolve the devices to compute on.

    Raises
    ------
    UsageError
        A device is not one, or not here.
    """
    if wanted in (None, "auto"):
        from sentence_transformers.util import get_device_name

        return [torch.device(get_device_name())]
    devices = []
    for name in str(wanted).split(","):
        try:
            device = torch.device(name.strip())
            torch.ones(1, device=device).item()  # "meta" has no values
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise UsageError(
                f"there is no device {name!r} here ({_first(error)})", hint="--device cpu"
            ) from error
        devices.append(device)
    return devices


def _is_out_of_memory(error: RuntimeError) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    message = str(error)
    return "out of memory" in message or "can't allocate memory" in message


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _first(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' chatter off stderr: it is for people who train models."""
    loggers = [logging.getLogger(name) for name in ("transformers", "sentence_transformers")]
    levels = [logger.level for logger in loggers]
    chatter: Any = transformers.utils.logging
    bars = chatter.is_progress_bar_enabled()
    chatter.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            chatter.enable_progress_bar()
