"""Models made for late interaction, ColBERT and its kin. Importing this module takes seconds."""

from concurrent.futures import CancelledError
from threading import Event
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from sentence_transformers import MultiVectorEncoder
from tokenizers import Tokenizer

from embcli.core.batching import batch_end, longest_first
from embcli.encoders import EncoderOptions, Kind
from embcli.encoders.model_files import ModelFiles
from embcli.encoders.tokens import Tokens
from embcli.encoders.torch_model import BATCH_TOKENS, DTYPES, find_devices, quiet
from embcli.errors import ModelError, UsageError

_CHARACTERS_PER_TOKEN = 3


class LateInteractionModel:
    """A loaded model that was trained to be compared token by token.

    sentence-transformers runs it as its makers meant it: prefixes or prompts, the lengths of
    queries and documents, queries filled up with masks, punctuation left out, special tokens kept.
    Only batches are ours.

    Parameters
    ----------
    files : ModelFiles
    options : EncoderOptions
        The precision "auto" is float32.
    cancelled : Event
        Once set, no further batch is begun.

    Attributes
    ----------
    truncated : int
        How many documents were cut so far.
    exact : None
        There is no light path to compare with.

    Raises
    ------
    ModelError
        The model cannot be loaded.
    UsageError
        There is no such device here, or there are several.
    """

    exact = None

    def __init__(self, files: ModelFiles, options: EncoderOptions, cancelled: Event) -> None:
        devices = find_devices(options.device)
        if len(devices) > 1:
            raise UsageError("models for late interaction take one device, not several")
        self.truncated = 0
        self._device = devices[0]
        self._dtype = "float32" if options.dtype == "auto" else options.dtype
        self._cancelled = cancelled
        self._own_prompts = files.prompts
        self._budget = options.batch_tokens or BATCH_TOKENS.get(self._device.type, 8192)
        try:
            with quiet():
                self._model = MultiVectorEncoder(
                    str(files.directory),
                    device=str(self._device),
                    trust_remote_code=options.trust_remote_code,
                    local_files_only=not options.trust_remote_code,
                    model_kwargs={"dtype": DTYPES[self._dtype], **options.model_kwargs},
                    processor_kwargs=dict(options.processor_kwargs),
                    config_kwargs=dict(options.config_kwargs),
                ).eval()
        except Exception as error:
            # Anything can come out of a model's files, remote code included.
            raise ModelError(
                f"model {files.directory} cannot be loaded ({type(error).__name__}: "
                f"{str(error).strip().partition(chr(10))[0]})"
            ) from error
        self._tokenizer = self.tokenizer()

    @property
    def dim(self) -> int:
        """Number of components of a token's vector."""
        dim = self._model.get_embedding_dimension()
        assert dim is not None
        return int(dim)

    def facts(self) -> dict[str, Any]:
        """Where and how precisely it computes, and with which versions."""
        return {
            "device": str(self._device),
            "dtype": self._dtype,
            "batch_tokens": self._budget,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def tokenizer(self) -> Tokenizer | None:
        """Tokenizer that does not cut; None if the model has none of the fast kind."""
        backend = getattr(self._model.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        tokenizer = Tokenizer.from_str(backend.to_str())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def encode_tokens(self, texts: list[str], prompt: str, kind: Kind) -> list[Tokens]:
        """Encode texts into the vectors the model scores them by.

        Parameters
        ----------
        texts : list of str
        prompt : str
            Put before every text, if it is not the model's own, which it puts there itself.
        kind : {"document", "query"}
        """
        options: dict[str, Any] = {"output_value": None, "show_progress_bar": False}
        if prompt and prompt != self._own_prompts.get(kind):
            options["prompt"] = prompt
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        lengths = np.array([len(text) // _CHARACTERS_PER_TOKEN + 3 for text in texts], np.int64)
        order = longest_first(lengths)
        found: dict[int, Tokens] = {}
        start = 0
        while start < len(order):
            if self._cancelled.is_set():
                raise CancelledError
            end = batch_end(lengths[order], start, self._budget)
            part = order[start:end].tolist()
            with quiet(), torch.inference_mode():
                items = encode([texts[i] for i in part], batch_size=len(part), **options)
            for i, item in zip(part, items, strict=True):
                found[i] = self._tokens(texts[i], options.get("prompt"), kind, item)
            start = end
        return [found[i] for i in range(len(texts))]

    def close(self) -> None:
        """Nothing to give back."""

    def _tokens(self, text: str, prompt: str | None, kind: Kind, item: dict[str, Any]) -> Tokens:
        mask = item["attention_mask"].bool()
        vectors = item["token_embeddings"][mask].float().cpu().numpy()
        if not np.isfinite(vectors).all():
            raise ModelError(
                f"the model gives values that are no numbers in {self._dtype}",
                hint="--dtype float32",
            )
        spans = np.zeros((len(mask), 2), np.int64)
        if self._tokenizer is not None:
            before = self._model.prompts.get(kind) if prompt is None else prompt
            before = before or ""
            whole = self._tokenizer.encode(before + text)
            ids = item["input_ids"].cpu().numpy()
            same = _common(ids, np.array(whole.ids, np.int64))
            ends = np.array(whole.offsets, np.int64).reshape(-1, 2)[:same] - len(before)
            ends[np.array(whole.special_tokens_mask[:same], np.bool_) | (ends[:, 1] <= 0)] = 0
            spans[:same] = ends.clip(0)
            self.truncated += kind == "document" and same < len(whole.ids)
        return Tokens(vectors, spans[mask.cpu().numpy()])


def _common(ids: NDArray[np.int64], others: NDArray[np.int64]) -> int:
    """Count the tokens with which both begin."""
    length = min(len(ids), len(others))
    differing = np.flatnonzero(ids[:length] != others[:length])
    return int(differing[0]) if len(differing) else length
