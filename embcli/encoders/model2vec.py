"""Static models as model2vec saves them: a vector a token, averaged; no torch."""

import json
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embcli.core.pooling import normalize_rows, sum_rows
from embcli.encoders import MODEL2VEC, Kind, QuickEncoder
from embcli.encoders.model_files import find_model
from embcli.encoders.recipe import Recipe, file_fingerprint
from embcli.errors import ModelError

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
_TEXTS_AT_ONCE = 1024
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I8": np.dtype("i1"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
}


def find_model2vec(name: str, revision: str | None = None) -> Path | None:
    """Look for a model of model2vec's on this machine: a directory, or an id on the hub."""
    directory = find_model(name, revision)
    if directory is None or not (directory / CONFIG).is_file():
        return None
    try:
        kind = _config(directory).get("model_type")
    except ModelError:
        return None  # it may be no model at all: others say what is wrong
    return directory if kind == MODEL2VEC else None


class Model2VecEncoder(QuickEncoder):
    """Mean of token vectors, weighted if the model has weights.

    Parameters
    ----------
    name : str
        What the model was asked for as.
    directory : Path
        Holds ``config.json``, ``tokenizer.json`` and ``model.safetensors`` with ``embeddings``
        and, where tokens share vectors, ``mapping`` and ``weights``.

    Raises
    ------
    ModelError
        A file is missing or is not what it should be.

    Notes
    -----
    As in model2vec, unknown tokens are left out and no special ones are added. Unlike there, no
    text is cut: that library keeps the first 512 tokens unless told otherwise.

    References
    ----------
    Tulkens and van Dongen (2024), "Model2Vec: Fast State-of-the-Art Static Embeddings".
    """

    def __init__(self, name: str, directory: Path) -> None:
        self._name = str(directory) if Path(name).is_dir() else name
        self._directory = directory
        self._normalized = bool(_config(directory).get("normalize", True))
        tensors = _tensors(directory / WEIGHTS)
        if "embeddings" not in tensors or tensors["embeddings"].ndim != 2:
            raise ModelError(f"{directory / WEIGHTS}: there is no table 'embeddings' in it")
        self._table = tensors["embeddings"]
        self._mapping, self._weights = tensors.get("mapping"), tensors.get("weights")
        self._tokenizer = self._read_tokenizer(directory / TOKENIZER)
        tokens = self._tokenizer.get_vocab_size()
        rows = len(self._table) if self._mapping is None else len(self._mapping)
        if rows < tokens:
            raise ModelError(f"{directory}: {tokens:,} tokens, but vectors for {rows:,}")

    def _read_tokenizer(self, path: Path) -> Tokenizer:
        try:
            state = json.loads(path.read_text("utf-8"))
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises no other
            raise ModelError(f"{path}: not a readable tokenizer ({error})") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        model = state.get("model", {})
        unknown = model.get("unk_token")
        if unknown is None and isinstance(model.get("unk_id"), int):
            self._unknown: int | None = model["unk_id"]
        else:
            self._unknown = None if unknown is None else tokenizer.token_to_id(unknown)
        return tokenizer

    @property
    def dim(self) -> int:
        """Number of components of a vector."""
        return int(self._table.shape[1])

    def tokenizer(self) -> Tokenizer:
        """Tokenizer that counts a text's own tokens, without cutting."""
        return self._tokenizer

    def token_vectors(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of tokens by number, weighted, shape (len(tokens), dim)."""
        rows = tokens if self._mapping is None else self._mapping[tokens]
        vectors = self._table[rows].astype(np.float32)
        if self._weights is not None:
            # A shared vector may have another weight for every token.
            vectors *= self._weights[tokens].astype(np.float32)[:, None]
        return vectors

    def recipe(self) -> Recipe:
        """Describe the space the vectors lie in."""
        return self._recipe

    @cached_property
    def _recipe(self) -> Recipe:
        revision = self._directory.name if self._directory.parent.name == "snapshots" else None
        return Recipe(
            {
                "model": self._name,
                "revision": revision,
                "architecture": MODEL2VEC,
                "weights": file_fingerprint(self._directory / WEIGHTS),
                "tokenizer": file_fingerprint(self._directory / TOKENIZER),
                "pooling": "mean",
                "max_tokens": None,
                "dim": self.dim,
                "normalized": self._normalized,
                "maps": [],
            }
        )

    def encode(self, inputs: Sequence[str], kind: Kind = "document") -> NDArray[np.float32]:
        """Encode texts; see `embcli.encoders.Encoder.encode`."""
        vectors = np.empty((len(inputs), self.dim), np.float32)
        for start in range(0, len(inputs), _TEXTS_AT_ONCE):
            part = slice(start, start + _TEXTS_AT_ONCE)
            try:
                vectors[part] = self._encode_some(inputs[part])
            except IndexError as error:
                raise ModelError(
                    f"{self._directory}: there are tokens without a vector ({error})"
                ) from error
        return normalize_rows(vectors) if self._normalized else vectors

    def _encode_some(self, texts: Sequence[str]) -> NDArray[np.float32]:
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except Exception as error:
            raise ModelError(f"{self._directory}: its tokenizer fails ({error})") from error
        tokens = [[id for id in encoding.ids if id != self._unknown] for encoding in encodings]
        lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        flat = np.fromiter(chain.from_iterable(tokens), np.int64, int(lengths.sum()))
        if self._weights is None and self._mapping is None:
            sums = sum_rows(self._table, flat, lengths)
        else:
            sums = sum_rows(self.token_vectors(flat), np.arange(len(flat)), lengths)
        sums /= np.maximum(lengths, 1).astype(np.float32)[:, None]
        return sums


def _config(directory: Path) -> dict[str, Any]:
    try:
        config = json.loads((directory / CONFIG).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{directory / CONFIG}: not readable ({error})") from error
    return config if isinstance(config, dict) else {}


def _tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Map the tensors of a safetensors file without reading them."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > path.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(size))
        return {
            name: np.memmap(
                path,
                _DTYPES[entry["dtype"]],
                "r",
                offset=8 + size + entry["data_offsets"][0],
                shape=tuple(entry["shape"]),
            )
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (
        OSError, ValueError, LookupError, TypeError, AttributeError, MemoryError, OverflowError,
        RecursionError,
    ) as error:  # fmt: skip
        raise ModelError(
            f"{path}: not a readable safetensors file ({type(error).__name__}: {error})"
        ) from error
